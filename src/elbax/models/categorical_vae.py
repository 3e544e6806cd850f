"""The VAE with one layer of discrete latents: binary, or one-hot vectors of more categories.

    z_i ~ uniform over C categories, i = 1..N,   x | z ~ Bernoulli(sigmoid(decoder(z))),   q(z_i | x) from an encoder

Binary values enter the decoder as -1 and 1, one-hot vectors side by side.

References:
    Shi et al., Gradient Estimation with Discrete Stein Operators, NeurIPS 2022, section 6.1 (binary). Liu et al.,
    Bridging Discrete and Backpropagation: Straight-Through and Beyond, NeurIPS 2023, section 6.2 (categories).
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import Array, Float

import elbax
from elbax.models.networks import MLP, centered, mean_or_zero, starting_at

__all__ = ["CategoricalGuide", "CategoricalModel", "make_categorical_vae"]


class CategoricalModel(eqx.Module):
    """The generative half, with one-hot latents. A program, called with a batch of binary images."""

    decoder: MLP
    num_variables: int = eqx.field(static=True)
    num_categories: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z`, observes `x`."""
        uniform = jnp.zeros((x.shape[0], self.num_variables, self.num_categories))
        z = elbax.sample("z", elbax.OneHotCategorical(logits=uniform).to_event(1))
        elbax.observe("x", dist.Bernoulli(logits=self.logits(z)).to_event(1), x)

    def logits(self, z: Float[Array, "... variables categories"]) -> Float[Array, "... pixels"]:
        """Of the pixels."""
        return self.decoder(z.reshape(*z.shape[:-2], -1))

    def decode(self, z: Float[Array, "... variables categories"]) -> Float[Array, "... pixels"]:
        """Mean image of each code, in [0, 1]."""
        return jax.nn.sigmoid(self.logits(z))


class CategoricalGuide(eqx.Module):
    """The inference half, with one-hot latents. A program, called with a batch of binary images."""

    encoder: MLP
    mean: Float[Array, " pixels"]
    num_variables: int = eqx.field(static=True)
    num_categories: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z` from the approximate posterior."""
        logits = self.encoder(centered(x, self.mean))
        logits = logits.reshape(x.shape[0], self.num_variables, self.num_categories)
        elbax.sample("z", elbax.OneHotCategorical(logits=logits).to_event(1))


def make_categorical_vae(
    num_pixels: int,
    *,
    num_variables: int,
    num_categories: int,
    hidden: Sequence[int] = (200, 200),
    activation: str = "leaky_relu_0.3",
    output_mean: Float[Array, " pixels"] | None = None,
    input_mean: Float[Array, " pixels"] | None = None,
    key: jax.Array,
) -> tuple[CategoricalModel, CategoricalGuide]:
    """A model and its guide; see `elbax.models.vae.make_vae` for the arguments."""
    model_key, guide_key = jr.split(key)
    num = num_variables * num_categories
    decoder = starting_at(MLP([num, *reversed(hidden), num_pixels], activation, key=model_key), output_mean)
    encoder = MLP([num_pixels, *hidden, num], activation, key=guide_key)
    guide = CategoricalGuide(encoder, mean_or_zero(input_mean, num_pixels), num_variables, num_categories)
    return CategoricalModel(decoder, num_variables, num_categories), guide
