"""The VAE with a latent direction: a point of the unit sphere, with a uniform prior.

    z ~ Uniform(S^d),   x | z ~ Bernoulli(sigmoid(decoder(z))),   q(z | x) = vMF(mean direction(x), concentration(x))

or a power spherical distribution in place of the von Mises-Fisher. `z` is a vector of `d + 1` numbers, of length one.

References:
    Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical Variational Auto-Encoders, UAI 2018. De Cao & Aziz, The
    Power Spherical Distribution, 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import Array, Float

import elbax
from elbax.models.networks import MLP, centered, mean_or_zero, starting_at

__all__ = ["POSTERIORS", "SVAEGuide", "SVAEModel", "make_svae"]

POSTERIORS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"vmf": elbax.VonMisesFisher, "power_spherical": elbax.PowerSpherical}
)


class SVAEModel(eqx.Module):
    """The generative half: uniform prior and decoder. A program, called with a batch of binary images."""

    decoder: MLP
    dimension: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z`, observes `x`."""
        z = elbax.sample("z", elbax.HypersphericalUniform(self.dimension + 1).expand([x.shape[0]]))
        elbax.observe("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), x)

    def decode(self, z: Float[Array, "... numbers"]) -> Float[Array, "... pixels"]:
        """Mean image of each direction, in [0, 1]; vectors of other lengths are projected on the sphere."""
        length = jnp.linalg.norm(z, axis=-1, keepdims=True)
        return jax.nn.sigmoid(self.decoder(z / jnp.where(length > 0, length, 1.0)))


class SVAEGuide(eqx.Module):
    """The inference half: the encoder. A program, called with a batch of binary images."""

    encoder: MLP
    mean: Float[Array, " pixels"]
    posterior: str = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws `z` from the approximate posterior."""
        elbax.sample("z", self.q(x))

    def q(self, x: Float[Array, "data pixels"]) -> Any:
        """The approximate posterior, with a concentration of one or more."""
        out = self.encoder(centered(x, self.mean))
        return POSTERIORS[self.posterior](out[..., :-1], 1.0 + jax.nn.softplus(out[..., -1]))

    def encode(self, x: Float[Array, "data pixels"]) -> tuple[Float[Array, "data numbers"], Float[Array, "..."]]:
        """Mean and standard deviation of q(z | x). The mean lies inside the sphere, `decode` projects it."""
        q = self.q(x)
        return q.mean, jnp.sqrt(q.variance)


def make_svae(
    num_pixels: int,
    *,
    hidden: Sequence[int] = (256, 128),
    dimension: int = 10,
    posterior: str = "vmf",
    activation: str = "relu",
    output_mean: Float[Array, " pixels"] | None = None,
    input_mean: Float[Array, " pixels"] | None = None,
    key: jax.Array,
) -> tuple[SVAEModel, SVAEGuide]:
    """A model and its guide.

    Args:
        num_pixels: numbers per image.
        hidden: sizes of the hidden layers of the encoder; the decoder has them in reverse.
        dimension: of the sphere's surface; codes have one number more.
        posterior: a name in `POSTERIORS`.
        activation: see `elbax.models.networks.ACTIVATIONS`.
        output_mean: mean of the training images, in [0, 1], where the output bias starts.
        input_mean: mean of the training images, subtracted from what the encoder sees.
        key: random key for the weights.
    """
    model_key, guide_key, bias_key = jr.split(key, 3)
    decoder = starting_at(MLP([dimension + 1, *reversed(hidden), num_pixels], activation, key=model_key), output_mean)
    encoder = MLP([num_pixels, *hidden, dimension + 2], activation, key=guide_key)
    # With zero biases a blank image would have the zero vector for its direction.
    bias = jnp.append(0.01 * jr.normal(bias_key, (dimension + 1,)), 0.0)
    encoder = eqx.tree_at(lambda e: e.biases[-1], encoder, bias)
    return SVAEModel(decoder, dimension), SVAEGuide(encoder, mean_or_zero(input_mean, num_pixels), posterior)
