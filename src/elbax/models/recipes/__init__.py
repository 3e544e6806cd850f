"""The recipes that come with elbax, by name."""

from __future__ import annotations

import difflib

from elbax.errors import ConfigError
from elbax.models.recipe import Recipe
from elbax.models.recipes.discrete import DiscreteVAERecipe as DiscreteVAERecipe
from elbax.models.recipes.discrete import SBNRecipe as SBNRecipe
from elbax.models.recipes.hierarchical import HVAERecipe as HVAERecipe
from elbax.models.recipes.image import ImageRecipe as ImageRecipe
from elbax.models.recipes.sphere import SVAERecipe as SVAERecipe
from elbax.models.recipes.vae import BetaVAERecipe as BetaVAERecipe
from elbax.models.recipes.vae import IWAERecipe as IWAERecipe
from elbax.models.recipes.vae import VAERecipe as VAERecipe
from elbax.models.recipes.vamp import VampRecipe as VampRecipe

__all__ = [
    "RECIPES",
    "BetaVAERecipe",
    "DiscreteVAERecipe",
    "HVAERecipe",
    "IWAERecipe",
    "ImageRecipe",
    "SBNRecipe",
    "SVAERecipe",
    "VAERecipe",
    "VampRecipe",
    "recipe_class",
]

COME_WITH_ELBAX = (
    VAERecipe,
    IWAERecipe,
    BetaVAERecipe,
    HVAERecipe,
    VampRecipe,
    SVAERecipe,
    DiscreteVAERecipe,
    SBNRecipe,
)
RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in COME_WITH_ELBAX}


def recipe_class(name: str) -> type[Recipe]:
    """The recipe with a name.

    Raises:
        ConfigError: if there is none; the message has the nearest names.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4) or list(RECIPES)
        raise ConfigError(f"there is no recipe '{name}'. Did you mean {' or '.join(map(repr, near))}?")
    return RECIPES[name]
