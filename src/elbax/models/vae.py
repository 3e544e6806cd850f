"""The variational autoencoder: one layer of Gaussian latents, a Bernoulli likelihood, two networks.

    z ~ N(0, I),   x | z ~ Bernoulli(sigmoid(decoder(z))),   q(z | x) = N(loc(x), diag(scale(x))^2)

A client of elbax like any other: a model program and a guide program, each an Equinox module.

References:
    Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014. Rezende, Mohamed & Wierstra, Stochastic
    Backpropagation and Approximate Inference in Deep Generative Models, ICML 2014.
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

__all__ = ["VAEGuide", "VAEModel", "make_vae"]


class VAEModel(eqx.Module):
    """The generative half: prior and decoder. A program, called with a batch of binary images."""

    decoder: MLP
    num_latents: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z`, observes `x`."""
        z = elbax.sample("z", dist.Normal(jnp.zeros((x.shape[0], self.num_latents)), 1.0).to_event(1))
        elbax.observe("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), x)

    def decode(self, z: Float[Array, "... latents"]) -> Float[Array, "... pixels"]:
        """Mean image of each code, in [0, 1]."""
        return jax.nn.sigmoid(self.decoder(z))


class VAEGuide(eqx.Module):
    """The inference half: the encoder. A program, called with a batch of binary images."""

    encoder: MLP
    mean: Float[Array, " pixels"]
    num_latents: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z` from the approximate posterior."""
        loc, scale = self.encode(x)
        elbax.sample("z", dist.Normal(loc, scale).to_event(1))

    def encode(self, x: Float[Array, "... pixels"]) -> tuple[Float[Array, "... latents"], Float[Array, "... latents"]]:
        """Mean and standard deviation of q(z | x)."""
        out = self.encoder(centered(x, self.mean))
        return out[..., : self.num_latents], jnp.exp(out[..., self.num_latents :])


def make_vae(
    num_pixels: int,
    *,
    hidden: Sequence[int] = (200, 200),
    num_latents: int = 50,
    activation: str = "tanh",
    output_mean: Float[Array, " pixels"] | None = None,
    input_mean: Float[Array, " pixels"] | None = None,
    key: jax.Array,
) -> tuple[VAEModel, VAEGuide]:
    """A model and its guide.

    Args:
        num_pixels: numbers per image.
        hidden: sizes of the hidden layers of the encoder; the decoder has them in reverse.
        num_latents: size of `z`.
        activation: name of the activation, see `elbax.models.networks.ACTIVATIONS`.
        output_mean: mean of the training images, in [0, 1]; the output bias then starts at its logit, which saves the
            first epochs and avoids latents that die early.
        input_mean: mean of the training images, subtracted from what the encoder sees, which speeds training up.
        key: random key for the weights.
    """
    model_key, guide_key = jr.split(key)
    decoder = MLP([num_latents, *reversed(hidden), num_pixels], activation, key=model_key)
    encoder = MLP([num_pixels, *hidden, 2 * num_latents], activation, key=guide_key)
    guide = VAEGuide(encoder, mean_or_zero(input_mean, num_pixels), num_latents)
    return VAEModel(starting_at(decoder, output_mean), num_latents), guide
