"""Networks that models share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS", "MLP"]

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
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
