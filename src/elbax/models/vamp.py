"""The VAE whose prior is a mixture of its own posteriors at learned inputs.

    z ~ 1/M sum_m q(z | u_m),   x | z ~ Bernoulli(sigmoid(decoder(z))),   q(z | x) = N(loc(x), diag(scale(x))^2)

The pseudo-inputs `u_m` are images, parameters of the model that start at training images and stay in [0, 1]. The prior
needs the encoder, so that model and guide share it: an optimiser must move the two as one (`elbax.models.tying`).

References:
    Tomczak & Welling, VAE with a VampPrior, AISTATS 2018.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import Array, Float

import elbax
from elbax.models.networks import MLP
from elbax.models.vae import VAEGuide, make_vae

__all__ = ["VampModel", "make_vamp"]


class VampModel(eqx.Module):
    """The generative half. A program, called with a batch of binary images.

    Attributes:
        decoder: from `z` to the logits of the pixels.
        posterior: the guide, of which the prior is a mixture.
        pseudo_inputs: where; outside of [0, 1] they count as 0 or 1.
    """

    decoder: MLP
    posterior: VAEGuide
    pseudo_inputs: Float[Array, "components pixels"]

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z`, observes `x`."""
        z = elbax.sample("z", self.prior().expand([x.shape[0]]))
        elbax.observe("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), x)

    def prior(self) -> Any:
        """The mixture, with equal weights."""
        loc, scale = self.posterior.encode(jnp.clip(self.pseudo_inputs, 0.0, 1.0))
        equal = dist.Categorical(logits=jnp.zeros(len(self.pseudo_inputs)))
        return dist.MixtureSameFamily(equal, dist.Normal(loc, scale).to_event(1))

    def decode(self, z: Float[Array, "... latents"]) -> Float[Array, "... pixels"]:
        """Mean image of each code, in [0, 1]."""
        return jax.nn.sigmoid(self.decoder(z))


def make_vamp(
    num_pixels: int, start: Float[Array, "components pixels"], *, key: jax.Array, **options: Any
) -> tuple[VampModel, VAEGuide]:
    """A model and its guide.

    Args:
        num_pixels: numbers per image.
        start: images at which the pseudo-inputs start.
        key: random key for the weights.
        options: see `elbax.models.vae.make_vae`.
    """
    noise_key, vae_key = jr.split(key)
    model, guide = make_vae(num_pixels, key=vae_key, **options)
    # Inside the interval, as those at an end would not move.
    start = jnp.clip(start + 0.01 * jr.normal(noise_key, start.shape), 0.01, 0.99)
    return VampModel(model.decoder, guide, start), guide
