"""The hyperspherical VAE."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

from elbax.data import Dataset
from elbax.models.recipe import option
from elbax.models.recipes.image import ImageRecipe, activation_option, num_option, sizes_option
from elbax.models.svae import POSTERIORS, SVAEGuide, SVAEModel, make_svae

__all__ = ["SVAERecipe"]


@dataclasses.dataclass(frozen=True)
class SVAERecipe(ImageRecipe):
    """A hyperspherical VAE for images: a latent direction with a uniform prior, Bernoulli pixels, dense networks.

    With the defaults and `mnist` this is the network of Davidson et al. (2018), 784-256-128 with a von Mises-Fisher
    posterior on the sphere of dimension 10 and concentrations of one or more, with the output bias started at the mean
    image. They take batches of 64.
    """

    name: ClassVar[str] = "svae"

    hidden: tuple[int, ...] = sizes_option((256, 128), "sizes of the encoder's hidden layers")
    dimension: int = num_option(10, "of the sphere's surface; codes have one number more")
    posterior: str = option("vmf", " or ".join(POSTERIORS), lambda v: v in POSTERIORS, " or ".join(POSTERIORS))
    activation: str = activation_option("relu")

    def build(self, data: Dataset, key: jax.Array) -> tuple[SVAEModel, SVAEGuide]:
        """Networks for images of the size of the data."""
        mean = self.mean_image(data)
        return make_svae(
            data.num_pixels,
            hidden=self.hidden,
            dimension=self.dimension,
            posterior=self.posterior,
            activation=self.activation,
            output_mean=mean.output,
            input_mean=mean.input,
            key=key,
        )
