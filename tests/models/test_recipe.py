# Fields of recipes are found by name.
# pyright: reportAttributeAccessIssue=false

import dataclasses

import pytest

from elbax.errors import ConfigError
from elbax.models.recipes import RECIPES, VAERecipe, recipe_class
from elbax.models.targets import load_object, recipe_of


@pytest.mark.parametrize("form", ["analytic", "sampled", "stick"])
def test_forms_of_the_elbo(form):
    recipe = VAERecipe(form=form)
    assert (recipe.estimators() is not None) == (form == "stick")
    with pytest.raises(ConfigError, match="form=stick is for one particle"):
        VAERecipe(form="stick", num_particles=2)


def test_settings_are_parsed_into_their_types():
    recipe = VAERecipe.from_settings(
        [
            "hidden=10,20",
            "num_latents=3",
            "learning_rate=1e-2",
            "early_stopping=no",
            "binarisation=fixed:7",
            "max_steps=1e3",
        ]
    )
    assert recipe.hidden == (10, 20)
    assert recipe.num_latents == 3
    assert recipe.learning_rate == 0.01
    assert recipe.early_stopping is False
    assert recipe.binarisation == "fixed:7"
    assert recipe.max_steps == 1000


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_round_trip_through_a_file(recipe):
    changed = recipe.from_settings(["seed=3", "batch_size=7"])
    assert recipe.from_dict(changed.as_dict()) == changed
    for name, _, about in recipe.describe():
        assert about, f"field {name} says nothing about itself"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_laten=3", "has no field 'num_laten'. Did you mean num_latents"),
        ("lr=3", "Did you mean learning_rate"),
        ("zzz=3", "Its fields are seed, batch_size"),
        ("num_latents", "'--set num_latents' has no value"),
        ("num_latents=0", "num_latents=0 is not possible: it must be at least 1"),
        ("num_latents=2.5", "num_latents='2.5' is not a whole number"),
        ("num_latents=many", "num_latents='many' is not a whole number"),
        ("learning_rate=fast", "learning_rate='fast' is not a number"),
        ("learning_rate=-1", "learning_rate=-1.0 is not possible: it must be above 0"),
        ("early_stopping=perhaps", "early_stopping='perhaps' is not true or false"),
        ("hidden=a,b", "hidden='a,b' is not|hidden='a' is not"),
        ("hidden=", r"hidden=\(\) is not possible"),
        ("activation=tanhh", "activation='tanhh' is not possible: it must be tanh or relu"),
        ("schedule=fast", "it must be constant or cosine"),
        ("binarisation=dynamik", "Did you mean 'dynamic'"),
        ("validate_every=150", "validate_every=150 must be a multiple of log_every=100"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(Exception, match=message) as caught:
        VAERecipe.from_settings([setting])
    assert type(caught.value).__module__ == "elbax.errors"
    assert "\n" not in str(caught.value)


def test_unknown_recipe():
    with pytest.raises(ConfigError, match="there is no recipe 'vea'. Did you mean 'vae'"):
        recipe_class("vea")


class TestFiles:
    def test_own_recipe(self, tmp_path):
        (tmp_path / "mine.py").write_text(
            "import dataclasses\nfrom elbax.models.recipes import VAERecipe\n"
            "@dataclasses.dataclass(frozen=True)\nclass Small(VAERecipe):\n    num_latents: int = 2\n"
        )
        assert recipe_of(f"{tmp_path}/mine.py:Small")().num_latents == 2

    @pytest.mark.parametrize(
        ("text", "name", "message"),
        [
            (None, "x", "there is no file"),
            ("x = 1", "", "say which object"),
            ("xyz = 1", "xy", "has no 'xy'. Did you mean xyz"),
            ("1 / 0", "x", "could not be run: ZeroDivisionError"),
        ],
    )
    def test_errors(self, tmp_path, text, name, message):
        path = tmp_path / "mine.py"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_object(f"{path}:{name}" if name else str(path))

    def test_not_a_recipe(self, tmp_path):
        (tmp_path / "mine.py").write_text("x = 1")
        with pytest.raises(ConfigError, match="is not a recipe"):
            recipe_of(f"{tmp_path}/mine.py:x")


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VAERecipe().seed = 3  # type: ignore[misc]
