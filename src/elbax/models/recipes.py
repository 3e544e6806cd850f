"""The recipes that come with elbax, by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.random as jr

import elbax
from elbax.data import Dataset, binarisation, binarise
from elbax.errors import ConfigError
from elbax.models.networks import ACTIVATIONS
from elbax.models.recipe import Recipe, option, positive
from elbax.models.vae import VAEGuide, VAEModel, make_vae

__all__ = ["RECIPES", "VAERecipe", "recipe_class"]


@dataclasses.dataclass(frozen=True)
class VAERecipe(Recipe):
    """A variational autoencoder for images: Gaussian latents, Bernoulli pixels, dense networks.

    With the defaults and `mnist` this is the network of Burda et al. (2016), 784-200-200-50, with the output bias
    started at the mean image.
    """

    name: ClassVar[str] = "vae"

    hidden: tuple[int, ...] = option(
        (200, 200), "sizes of the encoder's hidden layers", lambda v: v and min(v) > 0, "one or more sizes above 0"
    )
    num_latents: int = option(50, "latent units", positive, "at least 1")
    activation: str = option("tanh", "of the hidden layers", lambda v: v in ACTIVATIONS, " or ".join(ACTIVATIONS))
    output_bias: bool = option(default=True, about="whether the output starts at the mean image")
    binarisation: str = option("dynamic", "dynamic, fixed[:SEED], threshold[:AT] or none (grey values as they are)")
    center: bool = option(default=True, about="whether the encoder sees images less the mean image")
    form: str = option(
        "analytic",
        "of the ELBO: analytic (KL in closed form), sampled, or stick (sampled, sticking the landing)",
        lambda v: v in ("analytic", "sampled", "stick"),
        "analytic, sampled or stick",
    )

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ConfigError: also for a form that several particles do not have.
        """
        super().__post_init__()
        if self.num_particles > 1 and self.form == "stick":
            raise ConfigError("form=stick is for one particle; with several, the term that it leaves out matters.")
        object.__setattr__(self, "binarisation", str(binarisation(self.binarisation)))

    def build(self, data: Dataset, key: jax.Array) -> tuple[VAEModel, VAEGuide]:
        """Networks for images of the size of the data."""
        mean = data.intensity(data.train[:10_000]).mean(0)
        return make_vae(
            data.num_pixels,
            hidden=self.hidden,
            num_latents=self.num_latents,
            activation=self.activation,
            output_mean=mean if self.output_bias else None,
            input_mean=mean if self.center else None,
            key=key,
        )

    def bound(self, model: Callable, guide: Callable) -> elbax.Bound:
        """The ELBO, or the importance-weighted bound for several particles."""
        if self.num_particles > 1:
            return elbax.IWAE(model, guide, num_particles=self.num_particles, num_samples=self.num_samples)
        return elbax.ELBO(model, guide, num_samples=self.num_samples, analytic_kl=self.form == "analytic")

    def estimators(self) -> elbax.Estimator | None:
        """Pathwise by rule; sticking the landing if asked for."""
        return elbax.Pathwise(stick=True) if self.form == "stick" else None

    def prepared(self, data: Dataset) -> Dataset:
        """The data set after what is done once (a fixed binarisation)."""
        return data.prepared(binarisation(self.binarisation))

    def prepare(self, data: Dataset) -> Callable[[jax.Array, Any], jax.Array]:
        """Binarises a batch."""
        choice, num_levels = binarisation(self.binarisation), data.num_levels
        return lambda key, batch: binarise(choice, key, batch, num_levels)

    def seen(self, data: Dataset, split: str, count: int) -> jax.Array:
        """The first images of a split, binarised once for the seed of the run."""
        key = jr.fold_in(jr.key(self.seed), ["train", "valid", "test"].index(split))
        return self.prepare(data)(key, getattr(data, split)[:count])


RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (VAERecipe,)}


def recipe_class(name: str) -> type[Recipe]:
    """The recipe with a name.

    Raises:
        ConfigError: if there is none; the message has the nearest names.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4) or list(RECIPES)
        raise ConfigError(f"there is no recipe '{name}'. Did you mean {' or '.join(map(repr, near))}?")
    return RECIPES[name]
