"""Networks that models share."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS", "MLP", "centered", "mean_or_zero", "starting_at"]

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "leaky_relu_0.1": functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
    "leaky_relu_0.3": functools.partial(jax.nn.leaky_relu, negative_slope=0.3),
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
}


class MLP(eqx.Module):
    """Dense layers on the last axis, any axes before it; weights after Glorot, biases zero.

    Equinox's own `MLP` takes one vector at a time and draws its biases; this one is what the VAE literature trains.
    """

    weights: list[Array]
    biases: list[Array]
    activation: str = eqx.field(static=True)

    def __init__(self, sizes: Sequence[int], activation: str, *, key: jax.Array) -> None:
        """Makes a network with layers of the given sizes, input and output included."""
        glorot = jax.nn.initializers.glorot_uniform()
        pairs = list(itertools.pairwise(sizes))
        self.weights = [glorot(k, pair) for k, pair in zip(jr.split(key, len(pairs)), pairs, strict=True)]
        self.biases = [jnp.zeros(n) for _, n in pairs]
        self.activation = activation

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        """The last layer has no activation."""
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w + b
            if i < len(self.weights) - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


def starting_at(net: MLP, mean: Float[Array, " pixels"] | None) -> MLP:
    """A decoder of logits whose output bias starts at a mean image in [0, 1]; unchanged for `None`."""
    if mean is None:
        return net
    mean = jnp.clip(jnp.asarray(mean, jnp.float32), 1e-3, 1 - 1e-3)
    return eqx.tree_at(lambda d: d.biases[-1], net, jnp.log(mean) - jnp.log1p(-mean))


def centered(x: Float[Array, "*data pixels"], mean: Float[Array, " pixels"]) -> Float[Array, "*data pixels"]:
    """Images less a mean image, which is a part of the data: it has no gradient, so no optimiser moves it."""
    return x - jax.lax.stop_gradient(mean)


def mean_or_zero(mean: Float[Array, " pixels"] | None, num_pixels: int) -> Float[Array, " pixels"]:
    """What `centered` takes: zero for `None`."""
    return jnp.zeros(num_pixels) if mean is None else jnp.asarray(mean, jnp.float32)
