"""What a command works on: a recipe by name, or an object in a Python file of the user's."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from elbax.errors import ConfigError
from elbax.models.recipe import Recipe
from elbax.models.recipes import recipe_class

__all__ = ["absolute_target", "is_file_target", "load_object", "recipe_of"]


def is_file_target(target: str) -> bool:
    """Whether a target names a Python file."""
    return target.partition(":")[0].endswith(".py")


def absolute_target(target: str) -> str:
    """A target that means the same from any folder."""
    if not is_file_target(target):
        return target
    file, _, name = target.partition(":")
    return f"{Path(file).resolve()}:{name}"


def load_object(target: str) -> Any:
    """The object `NAME` of a file, from `FILE.py:NAME`. Runs the file.

    Raises:
        ConfigError: if the file or the name does not exist, or the file cannot be run.
    """
    file, _, name = target.partition(":")
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"there is no file '{file}'.")
    if not name:
        raise ConfigError(f"'{target}' names a file only; say which object in it: '{file}:NAME'.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"'{file}' could not be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=3, cutoff=0.4)
        raise ConfigError(f"'{file}' has no '{name}'." + (f" Did you mean {' or '.join(near)}?" if near else ""))
    return getattr(module, name)


def recipe_of(target: str) -> type[Recipe]:
    """The recipe class that a target names."""
    if not is_file_target(target):
        return recipe_class(target)
    found = load_object(target)
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise ConfigError(f"'{target}' is not a recipe: a recipe is a frozen dataclass derived from elbax's `Recipe`.")
    return found
