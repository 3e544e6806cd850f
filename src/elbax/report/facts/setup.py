"""How a run was set up, and the commands that repeat or continue it."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elbax.fit.stopping import Outcome
from elbax.models.recipe import Recipe
from elbax.report.facts.reading import Reading, required

__all__ = ["Field", "Setup", "setup"]


@dataclass(frozen=True)
class Field:
    """A field of a recipe: its value in the run and its default, as on the command line, and what it means."""

    name: str
    value: str
    default: str
    about: str

    @property
    def changed(self) -> bool:
        """Whether the run departs from the default."""
        return self.value != self.default


@dataclass(frozen=True)
class Setup:
    """How a run was set up.

    Attributes:
        folder: name of the run folder.
        recipe: name of the recipe.
        about: what the recipe is, in its own words.
        fields: of the recipe.
        seed: of the run.
        command: the command line as recorded; empty if the run was not started by one.
        repeat: a command line that makes the same run again in another folder.
        resume: a command line that continues it, given from the folder that holds the run folder.
        versions: of the libraries it ran on.
        machine: what it ran on.
    """

    folder: str
    recipe: str
    about: str
    fields: tuple[Field, ...]
    seed: int
    command: str
    repeat: str
    resume: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]


def setup(reading: Reading) -> Setup:
    """The set-up of a run, from its configuration."""
    config, recipe = reading.config, reading.recipe
    target = required(config, "recipe", reading.folder.config_path)
    fields = recipe_fields(recipe)
    folder = reading.folder.path.resolve().name
    return Setup(
        folder=folder,
        recipe=recipe.name or type(recipe).__name__,
        about=inspect.cleandoc(type(recipe).__doc__ or "").partition("\n\n")[0].replace("\n", " "),
        fields=fields,
        seed=recipe.seed,
        command=str(config.get("command", "")),
        repeat=repeat_command(target, config, fields),
        resume=resume_command(target, folder, recipe, str(reading.result.get("outcome", ""))),
        versions=dict(config.get("versions", {})),
        machine=dict(config.get("machine", {})),
    )


def recipe_fields(recipe: Recipe) -> tuple[Field, ...]:
    """Every field of a recipe, in its order."""
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
    return tuple(
        Field(name, setting(values[name]), setting(default), about) for name, default, about in recipe.describe()
    )


def setting(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(setting(v) for v in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def repeat_command(target: str, config: Mapping[str, Any], fields: tuple[Field, ...]) -> str:
    """`elbax fit ...` with the data and with every field that departs from its default."""
    words = ["elbax", "fit", target, "--data", str(config.get("data", "")), "--out", "runs/again"]
    for name, value in config.get("data_options", {}).items():
        words += [f"--{name.replace('_', '-')}", setting(value)]
    for field in fields:
        words += ["--set", f"{field.name}={field.value}"] if field.changed else []
    return shlex.join(words)


def resume_command(target: str, folder: str, recipe: Recipe, outcome: str) -> str:
    """`elbax fit ... --resume`, with what has to change for a run that ended by itself to go on."""
    words = ["elbax", "fit", target, "--out", folder, "--resume"]
    if outcome == Outcome.MAX_STEPS.value:
        words += ["--set", f"max_steps={2 * recipe.max_steps}"]
    elif outcome in (Outcome.CONVERGED.value, Outcome.PATIENCE.value):
        words += ["--set", "early_stopping=false"]
    return shlex.join(words)
