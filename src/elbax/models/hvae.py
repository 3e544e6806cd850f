"""Hierarchical VAEs: several layers of Gaussian latents, with a bottom-up guide or a ladder.

    z_L ~ N(0, I),   z_l | z_{l+1} ~ N(loc_l(z_{l+1}), scale_l(z_{l+1})^2),   x | z_1 ~ Bernoulli(sigmoid(decoder(z_1)))

Sites are `z1`, the layer next to the data, to `zL`. The plain guide goes bottom-up, `q(z_1 | x) q(z_2 | z_1) ...`. The
guide of the ladder VAE draws from the top, like the model. A deterministic way up gives every layer a Gaussian
`N(loc^, scale^^2)`, and the layer's posterior is its product with the model's own prior, whose precisions add up:

    1 / s^2 = 1 / scale^^2 + 1 / scale_l^2,     m = s^2 (loc^ / scale^^2 + loc_l / scale_l^2)

References:
    Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016 (two layers, bottom-up). Sønderby, Raiko,
    Maaløe, Sønderby & Winther, Ladder Variational Autoencoders, NeurIPS 2016, equations 13 to 20; without their batch
    normalisation, by which data influence each other's densities.
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
from elbax.models.networks import ACTIVATIONS, MLP, centered, mean_or_zero, starting_at

__all__ = ["BottomUpGuide", "HVAEModel", "LadderGuide", "make_hvae"]

Moments = tuple[Float[Array, "data latents"], Float[Array, "data latents"]]


def moments(out: Float[Array, "... outputs"]) -> tuple[Float[Array, "... latents"], Float[Array, "... latents"]]:
    """Mean and standard deviation from the output of a network."""
    loc, log_scale = jnp.split(out, 2, axis=-1)
    return loc, jnp.exp(log_scale)


class HVAEModel(eqx.Module):
    """The generative half. A program, called with a batch of binary images.

    Attributes:
        decoder: from `z1` to the logits of the pixels.
        top_down: from `z2` to the moments of `z1`, from `z3` to those of `z2`, ...
        num_latents: sizes of the layers, from the one next to the data.
    """

    decoder: MLP
    top_down: list[MLP]
    num_latents: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws the layers from the top, observes `x`."""
        prior: Moments = jnp.zeros((x.shape[0], self.num_latents[-1])), jnp.ones((x.shape[0], self.num_latents[-1]))
        for layer in range(len(self.num_latents), 1, -1):
            z = elbax.sample(f"z{layer}", dist.Normal(*prior).to_event(1))
            prior = moments(self.top_down[layer - 2](z))
        z = elbax.sample("z1", dist.Normal(*prior).to_event(1))
        elbax.observe("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), x)


class BottomUpGuide(eqx.Module):
    """The inference half from the bottom: each layer given the one below. Called with a batch of binary images."""

    up: list[MLP]
    mean: Float[Array, " pixels"]

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Draws the layers from the bottom."""
        below = centered(x, self.mean)
        for layer, net in enumerate(self.up, start=1):
            below = elbax.sample(f"z{layer}", dist.Normal(*moments(net(below))).to_event(1))


class LadderGuide(eqx.Module):
    """The inference half of the ladder VAE. A program, called with a batch of binary images.

    Attributes:
        up: the deterministic way up, one network per layer.
        heads: from each of its states to the moments that the data suggest for the layer.
        top_down: the model's `HVAEModel.top_down`; an optimiser must move the two as one (`elbax.models.tying`).
        mean: what is subtracted from the images.
    """

    up: list[MLP]
    heads: list[MLP]
    top_down: list[MLP]
    mean: Float[Array, " pixels"]

    def __call__(self, x: Float[Array, "data pixels"]) -> None:
        """Goes up without draws, then draws the layers from the top."""
        state, suggested = centered(x, self.mean), []
        for net, head in zip(self.up, self.heads, strict=True):
            state = ACTIVATIONS[net.activation](net(state))
            suggested.append(moments(head(state)))
        top = suggested[-1][0]
        prior: Moments = jnp.zeros_like(top), jnp.ones_like(top)
        for layer in range(len(self.up), 0, -1):
            z = elbax.sample(f"z{layer}", dist.Normal(*product(suggested[layer - 1], prior)).to_event(1))
            if layer > 1:
                prior = moments(self.top_down[layer - 2](z))


def product(first: Moments, second: Moments) -> Moments:
    """Moments of the product of two Gaussian densities: precisions add up, means are weighted with them."""
    (loc1, scale1), (loc2, scale2) = first, second
    var1, var2 = scale1**2, scale2**2
    return (loc1 * var2 + loc2 * var1) / (var1 + var2), scale1 * scale2 / jnp.sqrt(var1 + var2)


def make_hvae(
    num_pixels: int,
    *,
    num_latents: Sequence[int] = (100, 50),
    hidden: Sequence[int] = (200, 100),
    num_hidden: int = 2,
    ladder: bool = False,
    activation: str = "tanh",
    output_mean: Float[Array, " pixels"] | None = None,
    input_mean: Float[Array, " pixels"] | None = None,
    key: jax.Array,
) -> tuple[HVAEModel, BottomUpGuide | LadderGuide]:
    """A model and its guide.

    Args:
        num_pixels: numbers per image.
        num_latents: sizes of the layers of latents, from the one next to the data.
        hidden: for each of them, the size of the hidden layers of the networks between it and the layer below.
        num_hidden: how many hidden layers each of these networks has.
        ladder: whether the guide is that of the ladder VAE.
        activation: see `elbax.models.networks.ACTIVATIONS`.
        output_mean: mean of the training images, in [0, 1], where the output bias starts.
        input_mean: mean of the training images, subtracted from what the guide sees.
        key: random key for the weights.
    """
    down_key, up_key, head_key = jr.split(key, 3)
    num, inner = len(num_latents), [[size] * num_hidden for size in hidden]
    outputs = [num_pixels, *(2 * n for n in num_latents[:-1])]  # of the way down: what is below each layer
    down = [
        MLP([num_latents[i], *inner[i], outputs[i]], activation, key=k) for i, k in enumerate(jr.split(down_key, num))
    ]
    model = HVAEModel(starting_at(down[0], output_mean), down[1:], tuple(num_latents))
    mean, up_keys = mean_or_zero(input_mean, num_pixels), jr.split(up_key, num)
    if not ladder:
        below = [num_pixels, *num_latents[:-1]]
        up = [MLP([below[i], *inner[i], 2 * num_latents[i]], activation, key=k) for i, k in enumerate(up_keys)]
        return model, BottomUpGuide(up, mean)
    below = [num_pixels, *hidden[:-1]]
    up = [MLP([below[i], *inner[i]], activation, key=k) for i, k in enumerate(up_keys)]
    sizes = zip(hidden, num_latents, jr.split(head_key, num), strict=True)
    heads = [MLP([size, 2 * n], activation, key=k) for size, n, k in sizes]
    return model, LadderGuide(up, heads, model.top_down, mean)
