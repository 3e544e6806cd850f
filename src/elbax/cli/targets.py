"""The program that a command works on: a recipe's bound on a batch, or a function in a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import jax.numpy as jnp
import jax.random as jr
import typer

from elbax.data import load
from elbax.errors import ConfigError
from elbax.models.targets import is_file_target, load_object, recipe_of

__all__ = ["DataName", "Overwrite", "Settings", "Target", "target_program"]

# The options of every command that works on a target.
Target = Annotated[str, typer.Argument(help="A recipe, or FILE.py:PROGRAM.")]
DataName = Annotated[str, typer.Option(help="For a recipe: the data set.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="For a recipe: set a field.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing drawing.")]


def target_program(target: str, data: str, settings: list[str]) -> tuple[Callable, tuple[Any, ...]]:
    """A program and its example arguments.

    A program in a file needs example arguments: the file defines `PROGRAM_arguments`, a tuple, next to `PROGRAM`.

    Raises:
        ConfigError: for a target that does not exist, or a program without arguments.
    """
    return _in_file(target) if is_file_target(target) else _of_recipe(target, data, settings)


def _of_recipe(name: str, data: str, settings: list[str]) -> tuple[Callable, tuple[Any, ...]]:
    recipe = recipe_of(name).from_settings(settings)
    dataset = recipe.prepared(load(data))
    bound = recipe.bound(*recipe.build(dataset, jr.key(recipe.seed)))
    return bound, (jnp.asarray(recipe.seen(dataset, "train", recipe.batch_size)),)


def _in_file(target: str) -> tuple[Callable, tuple[Any, ...]]:
    program: Any = load_object(target)
    if not callable(program):
        raise ConfigError(f"'{target}' is a {type(program).__name__}, not a function.")
    file, _, name = target.partition(":")
    try:
        arguments = load_object(f"{file}:{name}_arguments")
    except ConfigError as error:
        raise ConfigError(
            f"'{file}' has no `{name}_arguments`: define a tuple of example arguments for `{name}` under that name."
        ) from error
    return program, tuple(arguments)
