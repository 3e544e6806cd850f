"""Discrete draws as jumps of a variable with noise, before and after the draw is known.

A draw is `D = H(z)` with `z = z(a, noise)`: the sign of a logit with logistic noise, or the largest of several
log-probabilities with Gumbel noise. `zt` has the distribution of `z` given `D`, as a smooth function of the logits `a`
and of noise of its own. A smooth function of `z / temperature` in place of `H` relaxes the draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from elbax.estimators.bernoulli import as_drawn, centred
from elbax.estimators.gumbel import given_largest

__all__ = ["RELAXATIONS", "Relaxation", "finite"]


class Relaxation(NamedTuple):
    """How one kind of node is drawn and relaxed.

    Logits are finite; they and all else have the shape of the node's values.

    Attributes:
        noise: `(key, shape, dtype) -> noise`.
        before: `(logits, noise) -> z`; differentiable in the logits.
        draw: `(z) -> D`, without derivative.
        after: `(logits, noise, D) -> zt`; differentiable in the logits.
        relax: `(z / temperature) -> ` a point between values.
        score: `(D, logits) -> d log p(D) / d logits`.
    """

    noise: Callable[..., jax.Array]
    before: Callable[[jax.Array, jax.Array], jax.Array]
    draw: Callable[[jax.Array], jax.Array]
    after: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    relax: Callable[[jax.Array], jax.Array]
    score: Callable[[jax.Array, jax.Array], jax.Array]


def finite(logits: jax.Array) -> jax.Array:
    """Logits with large numbers for infinite ones: probabilities stay at 0 and 1, and derivatives finite."""
    large = float(jnp.finfo(logits.dtype).max) ** 0.5
    return jnp.clip(logits, -large, large)


# ------------------------------------------------------------------------------------------ Bernoulli


def _logit_given(logits: jax.Array, noise: jax.Array, drawn: jax.Array) -> jax.Array:
    """The logit of a uniform between 0 and 1 - s, or between 1 - s and 1, plus the logits: in logarithms."""
    above, below = (jax.nn.softplus(noise + jax.nn.softplus(a)) for a in (logits, -logits))
    return jnp.where(drawn > 0, above, -below)


_BERNOULLI = Relaxation(
    noise=lambda key, shape, dtype: jax.random.logistic(key, shape, dtype),
    before=lambda logits, noise: logits + noise,
    draw=lambda z: as_drawn(z > 0),
    after=_logit_given,
    relax=lambda z: jnp.exp(jax.nn.log_sigmoid(z)),  # whose derivative is exact where the sigmoid is close to one
    score=centred,
)


# ------------------------------------------------------------------------------------------ one-hot


def _largest(z: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(jax.nn.one_hot(jnp.argmax(z, axis=-1), z.shape[-1], dtype=z.dtype))


def _largest_given(logits: jax.Array, noise: jax.Array, drawn: jax.Array) -> jax.Array:
    return given_largest(-noise, jax.nn.log_softmax(logits, axis=-1), drawn)


def _one_hot_score(drawn: jax.Array, logits: jax.Array) -> jax.Array:
    """`D - p`, with `1 - p` as the sum of the others: exact where it is close to zero."""
    others = jnp.where(drawn > 0, 0.0, jax.nn.softmax(logits, axis=-1))
    return jnp.where(drawn > 0, jnp.sum(others, axis=-1, keepdims=True), -others)


_ONE_HOT = Relaxation(
    noise=lambda key, shape, dtype: jax.random.gumbel(key, shape, dtype),
    before=lambda logits, noise: jax.nn.log_softmax(logits, axis=-1) + noise,
    draw=_largest,
    after=_largest_given,
    relax=lambda z: jax.nn.softmax(z, axis=-1),
    score=_one_hot_score,
)

# By the name of the distribution.
RELAXATIONS = {"Bernoulli": _BERNOULLI, "OneHotCategorical": _ONE_HOT}
