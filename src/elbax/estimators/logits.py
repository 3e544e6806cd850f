"""Logits of the nodes with categories, in one form: Bernoulli, Categorical and one-hot nodes.

A Bernoulli is a choice between two categories with logits `(0, a)`. Estimators compute with `logits[..., n]` and with
indices or one-hot vectors, and turn them into the node's own kind of value at the end.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from elbax.graph.distributions import Lifted, distribution_name, innermost

__all__ = ["CATEGORICAL", "logits_of", "no_categories", "of_index", "of_one_hot", "stated_logits", "to_index"]

CATEGORICAL = ("Bernoulli", "Categorical", "OneHotCategorical")


def no_categories(dist: Lifted) -> str | None:
    """Why a distribution has no logits, or `None`."""
    if dist.name in CATEGORICAL:
        return None
    return f"its distribution {dist.name} is not Bernoulli, Categorical or OneHotCategorical"


def logits_of(dist: Lifted) -> jax.Array:
    """Unnormalised log-probabilities, which carry derivatives. Shape `[*dist.shape, categories]`."""
    return dist.over(_logits)


def _logits(d: Any) -> jax.Array:
    base = innermost(d)
    logits = jnp.asarray(base.logits)
    if distribution_name(base) == "Bernoulli":
        logits = jnp.stack([jnp.zeros_like(logits), logits], axis=-1)
    return jnp.broadcast_to(logits, (*d.batch_shape, logits.shape[-1]))


def stated_logits(dist: Lifted) -> jax.Array:
    """Logits in the shape of the values of a Bernoulli (log-odds) or one-hot node: `dist.shape + dist.event_shape`."""
    return dist.over(lambda d: jnp.broadcast_to(innermost(d).logits, (*d.batch_shape, *d.event_shape)))


def of_one_hot(dist: Lifted, vector: jax.Array) -> jax.Array:
    """The value of a node from vectors over categories: a Bernoulli's is the second entry."""
    if dist.name == "Bernoulli":
        return vector[..., 1]
    return vector if dist.name == "OneHotCategorical" else jnp.argmax(vector, axis=-1)


def of_index(dist: Lifted, index: jax.Array, num: int, dtype: Any) -> jax.Array:
    """The value of a node from the numbers of categories; one-hot vectors are of `dtype`."""
    return jax.nn.one_hot(index, num, dtype=dtype) if dist.name == "OneHotCategorical" else index.astype(int)


def to_index(dist: Lifted, value: jax.Array) -> jax.Array:
    """The numbers of the categories drawn."""
    return jnp.argmax(value, axis=-1) if dist.name == "OneHotCategorical" else value.astype(int)
