"""Sigmoid belief networks: layers of binary latents.

    z_L ~ Bernoulli(prior),   z_l | z_{l+1} ~ Bernoulli(sigmoid(down_l(z_{l+1}))),   x = z_0
    q(z_1 | x), q(z_2 | z_1), ...   bottom-up, likewise

with maps that are linear or have hidden layers. Binary values enter the maps as -1 and 1. Sites are `z1`, the layer
next to the data, to `zL`; a single layer is the binary VAE of the papers on gradient estimators.

References:
    Neal, Connectionist Learning of Belief Networks, 1992. Mnih & Gregor, Neural Variational Inference and Learning in
    Belief Networks, ICML 2014. Shi et al., Gradient Estimation with Discrete Stein Operators, NeurIPS 2022, section 6.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import Array, Float

import elbax
from elbax.models.networks import MLP, centered, mean_or_zero, starting_at

__all__ = ["SBNGuide", "SBNModel", "make_sbn"]


class SBNModel(eqx.Module):
    """The generative half. A program, called with a batch of binary images.

    Attributes:
        down: the map to `x`, then those to `z1`, `z2`, ...
        prior_logits: of the topmost layer.
        learned_prior: whether `prior_logits` are parameters.
    """

    down: list[MLP]
    prior_logits: Float[Array, " top"]
    learned_prior: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws the layers from the top, observes `x`."""
        prior = self.prior_logits if self.learned_prior else jax.lax.stop_gradient(self.prior_logits)
        logits = jnp.broadcast_to(prior, (x.shape[0], prior.shape[0]))
        for layer in range(len(self.down), 0, -1):
            z = elbax.sample(f"z{layer}", dist.Bernoulli(logits=logits).to_event(1))
            logits = self.down[layer - 1](signs(z))
        elbax.observe("x", dist.Bernoulli(logits=logits).to_event(1), x)

    def decode(self, z: Float[Array, "... latents"]) -> Float[Array, "... pixels"]:
        """Mean image of each value of `z1`, in [0, 1]."""
        return jax.nn.sigmoid(self.down[0](signs(z)))


class SBNGuide(eqx.Module):
    """The inference half, bottom-up. A program, called with a batch of binary images."""

    up: list[MLP]
    mean: Float[Array, " pixels"]

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws the layers from the bottom."""
        below = centered(x, self.mean)
        for layer, net in enumerate(self.up, start=1):
            z = elbax.sample(f"z{layer}", dist.Bernoulli(logits=net(below)).to_event(1))
            below = signs(z)


def signs(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Zeros and ones as -1 and 1."""
    return 2.0 * jnp.asarray(z, jnp.float32) - 1.0


def make_sbn(
    num_pixels: int,
    *,
    layers: Sequence[int] = (200, 200),
    hidden: Sequence[int] = (),
    activation: str = "leaky_relu_0.3",
    learned_prior: bool = True,
    output_mean: Float[Array, " pixels"] | None = None,
    input_mean: Float[Array, " pixels"] | None = None,
    key: jax.Array,
) -> tuple[SBNModel, SBNGuide]:
    """A model and its guide.

    Args:
        num_pixels: numbers per image.
        layers: sizes of the layers of latents, from the one next to the data.
        hidden: sizes of the deterministic layers of each map on the way up; the way down has them in reverse.
        activation: of the deterministic layers, see `elbax.models.networks.ACTIVATIONS`.
        learned_prior: whether the probabilities of the topmost layer are learned; else they are 1/2.
        output_mean: mean of the training images, in [0, 1], where the output bias starts.
        input_mean: mean of the training images, subtracted from what the guide sees.
        key: random key for the weights.
    """
    sizes = [num_pixels, *layers]
    pairs = list(itertools.pairwise(sizes))
    keys = jr.split(key, (len(pairs), 2))
    down, up = [], []
    for (below, above), (down_key, up_key) in zip(pairs, keys, strict=True):
        down.append(MLP([above, *reversed(hidden), below], activation, key=down_key))
        up.append(MLP([below, *hidden, above], activation, key=up_key))
    down[0] = starting_at(down[0], output_mean)
    model = SBNModel(down, jnp.zeros(layers[-1]), learned_prior)
    return model, SBNGuide(up, mean_or_zero(input_mean, num_pixels))
