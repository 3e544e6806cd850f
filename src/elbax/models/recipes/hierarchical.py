"""Hierarchical VAEs."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import optax

from elbax.data import Dataset
from elbax.errors import ConfigError
from elbax.models.hvae import BottomUpGuide, HVAEModel, LadderGuide, make_hvae
from elbax.models.recipe import option
from elbax.models.recipes.image import ImageRecipe, activation_option, num_option, sizes_option
from elbax.models.tying import tied

__all__ = ["HVAERecipe"]


@dataclasses.dataclass(frozen=True)
class HVAERecipe(ImageRecipe):
    """A hierarchical VAE for images: two to five layers of Gaussian latents, Bernoulli pixels, dense networks.

    With the defaults and `mnist` this is the two-layer network of Burda et al. (2016): 784-(200-200)-100-(100-100)-50,
    with the output bias started at the mean image. With `ladder=true` the guide is that of Sønderby et al. (2016),
    which combines what the data suggest with the model's own prior, layer by layer from the top; model and guide share
    the networks of that prior. (Their networks: `num_latents=64,32,16,8,4 hidden=512,256,128,64,32
    activation=leaky_relu_0.1`; they also use batch normalisation and warm-up, which this recipe does not have.)
    """

    name: ClassVar[str] = "hvae"

    num_latents: tuple[int, ...] = option(
        (100, 50),
        "sizes of the layers of latents, from the data upwards",
        lambda v: 2 <= len(v) <= 5 and min(v) > 0,
        "two to five sizes above 0",
    )
    hidden: tuple[int, ...] = sizes_option((200, 100), "for each, the size of the hidden layers below it")
    num_hidden: int = num_option(2, "hidden layers below each layer of latents")
    ladder: bool = option(default=False, about="whether the guide is that of the ladder VAE; else it goes bottom-up")
    activation: str = activation_option("tanh")

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ConfigError: also if `hidden` and `num_latents` have different lengths.
        """
        super().__post_init__()
        if len(self.hidden) != len(self.num_latents):
            raise ConfigError(
                f"hidden={_listed(self.hidden)} and num_latents={_listed(self.num_latents)} differ in length: give one "
                "size of hidden layers for each layer of latents."
            )

    def build(self, data: Dataset, key: jax.Array) -> tuple[HVAEModel, BottomUpGuide | LadderGuide]:
        """Networks for images of the size of the data."""
        mean = self.mean_image(data)
        return make_hvae(
            data.num_pixels,
            num_latents=self.num_latents,
            hidden=self.hidden,
            num_hidden=self.num_hidden,
            ladder=self.ladder,
            activation=self.activation,
            output_mean=mean.output,
            input_mean=mean.input,
            key=key,
        )

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, for which the networks that a ladder's guide shares with the model are one."""
        adam = super().optimizer()
        return tied(adam, lambda p: p.model.top_down, lambda p: p.guide.top_down) if self.ladder else adam


def _listed(sizes: tuple[int, ...]) -> str:
    return ",".join(map(str, sizes))
