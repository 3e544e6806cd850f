"""What the estimators for binary nodes share: logits, noise, and the sums over elements that share costs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from elbax.estimators.base import Context, LogProb, Site, Slope
from elbax.estimators.logits import stated_logits
from elbax.graph.distributions import Lifted

__all__ = [
    "against_others",
    "as_drawn",
    "binary_logits",
    "centred",
    "log_prob_of",
    "no_bernoulli",
    "over_groups",
    "over_shared",
    "slopes_of_draws",
    "with_events",
    "without",
]


def no_bernoulli(site: Site) -> str | None:
    """Why a node is not binary, or `None`."""
    return None if site.dist.name == "Bernoulli" else f"its distribution {site.dist.name} is not Bernoulli"


def binary_logits(dist: Lifted) -> jax.Array:
    """Log-odds, which carry derivatives. Shape `dist.shape + dist.event_shape`."""
    return stated_logits(dist)


def as_drawn(ones: jax.Array) -> jax.Array:
    """Booleans as the integers that a Bernoulli draws."""
    return jax.lax.stop_gradient(ones.astype(int))


def log_prob_of(dist: Lifted, value: jax.Array, log_prob: LogProb) -> jax.Array | None:
    """The log-probability of a draw as the program may use it beside a score-function term."""
    if log_prob is LogProb.UNUSED:
        return None
    stated = dist.log_prob(value)
    return stated if log_prob is LogProb.FULL else jax.lax.stop_gradient(stated)


def with_events(credit: jax.Array, site: Site) -> Any:
    """A credit with the axes of the node's events, of size one."""
    return credit.reshape(credit.shape + (1,) * len(site.dist.event_shape))


def over_shared(x: jax.Array, credit: jax.Array, site: Site) -> Any:
    """The sum of `x` over all elements that share the costs of a credit; both have a first axis of draws."""
    n = len(site.shape)
    axes = [i + 1 for i in range(n) if credit.shape[i + 1] == 1] + list(range(n + 1, x.ndim))
    return jnp.sum(x, axis=tuple(axes), keepdims=True)


def centred(values: jax.Array, logits: jax.Array) -> jax.Array:
    """Draws minus the probability of a one, exact where that is close to zero or one."""
    s, rest = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    return jnp.where(values > 0, jnp.broadcast_to(rest, values.shape), -jnp.broadcast_to(s, values.shape))


def without(x: jax.Array) -> jax.Array:
    """For each entry of the first axis, the mean of the others."""
    return (jnp.sum(x, axis=0, keepdims=True) - x) / (len(x) - 1)


def against_others(x: jax.Array, score: jax.Array) -> jax.Array:
    """The leave-one-out sum `1/K sum_k (x_k - mean_{j != k} x_j) score_k`."""
    return jnp.sum((x - x.mean(0, keepdims=True)) * score, axis=0) / (len(x) - 1)


def slopes_of_draws(context: Context, values: jax.Array) -> list[Slope]:
    """The slopes at all draws, without derivative; compiled, those at the first share the work of the run itself."""
    assert context.slopes is not None
    first, others = context.slopes(values[0]), jax.vmap(context.slopes)(values[1:])
    return jax.lax.stop_gradient(jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, others))


def over_groups(x: jax.Array, site: Site) -> Any:
    """The sum of `x`, with any axes before those of the node, over each group of elements that share any costs."""
    start = x.ndim - len(site.shape) - len(site.dist.event_shape)
    axes = [start + i for i, aligned in enumerate(site.aligned) if not aligned]
    return jnp.sum(x, axis=(*axes, *range(start + len(site.shape), x.ndim)), keepdims=True)
