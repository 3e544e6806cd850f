"""How a run was set up, and the commands that repeat it."""

import dataclasses
import shlex

import pytest

from elbax.fit.stopping import Outcome
from elbax.models.recipe import Recipe, option
from elbax.models.recipes import VAERecipe
from elbax.report.facts.reading import Reading, read_run
from elbax.report.facts.setup import recipe_fields, setting, setup
from elbax.runs.folder import RunFolder


def reading_of(recipe, path, outcome="", **config):
    config = {"recipe": "vae", "data": "digits", **config}
    return Reading(RunFolder(path), config, recipe, (), {"outcome": outcome}, None)


def settings_of(command):
    words = shlex.split(command)
    return [words[i + 1] for i, word in enumerate(words) if word == "--set"]


def test_a_recorded_run(elbo_folder):
    found = setup(read_run(elbo_folder))
    assert (found.folder, found.recipe, found.seed) == ("small", "vae", 3)
    assert found.about.startswith("A variational autoencoder for images")
    assert found.command == "elbax fit vae --data digits"
    assert set(found.versions) >= {"elbax", "jax", "numpyro", "python"}
    assert set(found.machine) == {"device", "platform"}
    changed = {f.name for f in found.fields if f.changed}
    assert changed == {
        "seed", "max_steps", "log_every", "validate_every", "checkpoint_every", "hidden", "num_latents",
        "eval_particles", "eval_data", "bracket_data",
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [[], ["hidden=30,20,10", "output_bias=false", "learning_rate=3e-4"], ["binarisation=fixed:7", "clip_norm=0.5"]],
)
def test_the_command_makes_the_same_recipe(tmp_path, settings):
    recipe = VAERecipe.from_settings(settings)
    command = setup(reading_of(recipe, tmp_path)).repeat
    assert command.startswith("elbax fit vae --data digits --out runs/again")
    assert len(settings_of(command)) == len(settings)
    assert VAERecipe.from_settings(settings_of(command)) == recipe


def test_options_of_the_data_are_in_the_command(tmp_path):
    reading = reading_of(VAERecipe(), tmp_path, data="/my data/a.npy", data_options={"num_levels": 7})
    assert shlex.split(setup(reading).repeat)[3:] == [
        "--data", "/my data/a.npy", "--out", "runs/again", "--num-levels", "7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "settings"),
    [
        (Outcome.MAX_STEPS, ["max_steps=600"]),
        (Outcome.CONVERGED, ["early_stopping=false"]),
        (Outcome.PATIENCE, ["early_stopping=false"]),
        (Outcome.INTERRUPTED, []),
    ],
)
def test_going_on_changes_what_made_the_run_end(tmp_path, outcome, settings):
    command = setup(reading_of(VAERecipe(max_steps=300), tmp_path / "my run", outcome.value)).resume
    assert shlex.split(command)[:6] == ["elbax", "fit", "vae", "--out", "my run", "--resume"]
    assert settings_of(command) == settings


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "true"), (0.001, "0.001"), (1e-12, "1e-12"), (0.1 + 0.2, "0.30000000000000004"), ((200, 50), "200,50"),
     (3, "3"), ("dynamic", "dynamic"), (3.0, "3")],
)  # fmt: skip
def test_values_as_on_the_command_line(value, written):
    assert setting(value) == written


def test_a_recipe_without_name_or_words(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Mine(Recipe):
        depth: int = option(2, "layers")

    Mine.__doc__ = None
    found = setup(reading_of(Mine(depth=3), tmp_path))
    assert (found.recipe, found.about) == ("Mine", "")
    assert next(f for f in recipe_fields(Mine(depth=3)) if f.changed).about == "layers"
