"""The VAE with a VampPrior."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.random as jr
import optax

from elbax.data import Dataset
from elbax.errors import ConfigError
from elbax.models.recipes.image import ImageRecipe, activation_option, num_option, sizes_option
from elbax.models.tying import tied
from elbax.models.vae import VAEGuide
from elbax.models.vamp import VampModel, make_vamp

__all__ = ["VampRecipe"]


@dataclasses.dataclass(frozen=True)
class VampRecipe(ImageRecipe):
    """A VAE for images whose prior is a mixture of its own posteriors at learned pseudo-inputs (VampPrior).

    With the defaults and `mnist` this has the sizes of the one-layer network of Tomczak & Welling (2018),
    784-300-300-40 with 500 pseudo-inputs, which start at training images; their hidden layers are gated, these are
    not. They warm the KL up over 100 epochs (`warm_up=50000`) and train at a learning rate of 5e-4. Model and guide
    share the encoder.
    """

    name: ClassVar[str] = "vamp"

    hidden: tuple[int, ...] = sizes_option((300, 300), "sizes of the encoder's hidden layers")
    num_latents: int = num_option(40, "latent units")
    num_components: int = num_option(500, "pseudo-inputs, the components of the prior")
    activation: str = activation_option("tanh")

    def build(self, data: Dataset, key: jax.Array) -> tuple[VampModel, VAEGuide]:
        """Networks for images of the size of the data.

        Raises:
            ConfigError: if there are fewer training images than pseudo-inputs.
        """
        if self.num_components > len(data.train):
            raise ConfigError(
                f"num_components={self.num_components} is more than the {len(data.train)} training images at which "
                "pseudo-inputs start."
            )
        start_key, net_key = jr.split(key)
        rows = jr.permutation(start_key, len(data.train))[: self.num_components]
        mean = self.mean_image(data)
        return make_vamp(
            data.num_pixels,
            data.intensity(data.train[rows]),
            hidden=self.hidden,
            num_latents=self.num_latents,
            activation=self.activation,
            output_mean=mean.output,
            input_mean=mean.input,
            key=net_key,
        )

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, for which the encoder that the prior shares with the guide is one."""
        return tied(super().optimizer(), lambda p: p.model.posterior, lambda p: p.guide)
