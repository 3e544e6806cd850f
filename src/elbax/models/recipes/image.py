"""What all recipes for images share: binarisation, the mean image, and the bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.random as jr
import optax
from jaxtyping import Array, Float

import elbax
from elbax.data import Dataset, binarisation, binarise
from elbax.errors import ConfigError
from elbax.models.networks import ACTIVATIONS
from elbax.models.recipe import Recipe, option, positive

__all__ = ["ImageRecipe", "MeanImage", "activation_option", "num_option", "sizes_option"]


def activation_option(default: str) -> Any:
    """The field `activation`."""
    return option(default, "of the hidden layers", lambda v: v in ACTIVATIONS, " or ".join(ACTIVATIONS))


def sizes_option(default: tuple[int, ...], about: str, *, empty: bool = False) -> Any:
    """A field with sizes of layers.

    Args:
        default: its value unless set.
        about: what it is.
        empty: whether there may be no layer.
    """
    needs = "sizes above 0, or nothing" if empty else "one or more sizes above 0"
    return option(default, about, lambda v: min(v) > 0 if v else empty, needs)


def num_option(default: int, about: str) -> Any:
    """A field that counts something."""
    return option(default, about, positive, "at least 1")


class MeanImage(NamedTuple):
    """The mean of the training images, where it is wanted.

    Attributes:
        output: where the output bias starts; `None` for zero.
        input: what is subtracted from the images that the encoder sees; `None` for nothing.
    """

    output: Float[Array, " pixels"] | None
    input: Float[Array, " pixels"] | None


@dataclasses.dataclass(frozen=True)
class ImageRecipe(Recipe):
    """Base of recipes for images with Bernoulli pixels. A subclass adds fields and says in `build` what is trained."""

    output_bias: bool = option(default=True, about="whether the output starts at the mean image")
    binarisation: str = option("dynamic", "dynamic, fixed[:SEED], threshold[:AT] or none (grey values as they are)")
    center: bool = option(default=True, about="whether the encoder sees images less the mean image")

    warm_up: int = option(
        0, "steps over which the weight of the KL rises from 0; 0 for none", lambda v: v >= 0, "0 or more"
    )

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ConfigError: also for a warm-up of the KL with several particles, whose bound has none.
        """
        super().__post_init__()
        if self.warm_up and self.num_particles > 1:
            raise ConfigError(f"warm_up={self.warm_up} is for one particle; the bound of several has no KL to weigh.")
        object.__setattr__(self, "binarisation", str(binarisation(self.binarisation)))

    def mean_image(self, data: Dataset) -> MeanImage:
        """The mean of the first training images, in [0, 1], as `output_bias` and `center` ask for it."""
        mean = data.intensity(data.train[:10_000]).mean(0)
        return MeanImage(mean if self.output_bias else None, mean if self.center else None)

    @property
    def analytic_kl(self) -> bool:
        """Whether KL terms are in closed form where that is exact."""
        return True

    @property
    def kl_weight(self) -> float:
        """Of the KL terms in the ELBO, once warm-up is over."""
        return 1.0

    def bound(self, model: Callable, guide: Callable) -> elbax.Bound:
        """The ELBO, or the importance-weighted bound for several particles."""
        if self.num_particles > 1:
            return elbax.IWAE(model, guide, num_particles=self.num_particles, num_samples=self.num_samples)
        beta = optax.linear_schedule(0.0, self.kl_weight, self.warm_up) if self.warm_up else self.kl_weight
        kl = None if beta == 1.0 else elbax.BetaKL(beta)
        return elbax.ELBO(model, guide, num_samples=self.num_samples, analytic_kl=self.analytic_kl, kl=kl)

    def estimators(self) -> elbax.Estimator | Mapping[str, elbax.Estimator] | None:
        """The gradient estimators of the sites, `None` for the rule."""
        return None

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
