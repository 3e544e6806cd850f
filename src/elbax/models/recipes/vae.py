"""The variational autoencoder, trained with one particle, with several, or with a weighted KL."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

import elbax
from elbax.data import Dataset
from elbax.errors import ConfigError
from elbax.models.recipe import option
from elbax.models.recipes.image import ImageRecipe, activation_option, num_option, sizes_option
from elbax.models.vae import VAEGuide, VAEModel, make_vae

__all__ = ["BetaVAERecipe", "IWAERecipe", "VAERecipe"]


@dataclasses.dataclass(frozen=True)
class VAERecipe(ImageRecipe):
    """A variational autoencoder for images: Gaussian latents, Bernoulli pixels, dense networks.

    With the defaults and `mnist` this is the network of Burda et al. (2016), 784-200-200-50, with the output bias
    started at the mean image.
    """

    name: ClassVar[str] = "vae"

    hidden: tuple[int, ...] = sizes_option((200, 200), "sizes of the encoder's hidden layers")
    num_latents: int = num_option(50, "latent units")
    activation: str = activation_option("tanh")
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

    def build(self, data: Dataset, key: jax.Array) -> tuple[VAEModel, VAEGuide]:
        """Networks for images of the size of the data."""
        mean = self.mean_image(data)
        return make_vae(
            data.num_pixels,
            hidden=self.hidden,
            num_latents=self.num_latents,
            activation=self.activation,
            output_mean=mean.output,
            input_mean=mean.input,
            key=key,
        )

    @property
    def analytic_kl(self) -> bool:
        """Whether KL terms are in closed form."""
        return self.form == "analytic"

    def estimators(self) -> elbax.Estimator | None:
        """Pathwise by rule; sticking the landing if asked for."""
        return elbax.Pathwise(stick=True) if self.form == "stick" else None


@dataclasses.dataclass(frozen=True)
class IWAERecipe(VAERecipe):
    """An importance-weighted autoencoder: the recipe `vae`, trained with several particles inside the logarithm.

    The network and, with the default of five particles, the second row of table 1 of Burda et al. (2016).
    """

    name: ClassVar[str] = "iwae"

    num_particles: int = num_option(5, "draws inside the logarithm (IWAE); 1 is the ELBO")


@dataclasses.dataclass(frozen=True)
class BetaVAERecipe(VAERecipe):
    """A beta-VAE: the recipe `vae` with its KL weighted, above one for latents that are used sparingly.

    With the defaults this has ten latents, `beta=4` and the encoder of Higgins et al. (2017) for dSprites, 1200-1200;
    their decoder has a layer more, ours mirrors the encoder. The history shows the weighted bound; the final figures
    are those of the ELBO itself.
    """

    name: ClassVar[str] = "beta-vae"

    hidden: tuple[int, ...] = sizes_option((1200, 1200), "sizes of the encoder's hidden layers")
    num_latents: int = num_option(10, "latent units")
    activation: str = activation_option("relu")
    beta: float = option(4.0, "weight of the KL", lambda v: v >= 0, "0 or more")

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ConfigError: also for several particles, whose bound has no KL to weigh.
        """
        super().__post_init__()
        if self.num_particles > 1:
            raise ConfigError(
                f"num_particles={self.num_particles}: a weighted KL is for one particle; use recipe iwae."
            )

    @property
    def kl_weight(self) -> float:
        """Once warm-up is over."""
        return self.beta
