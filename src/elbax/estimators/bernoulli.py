"""What the estimators for binary nodes share: logits, noise, and the sums over elements that share costs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from elbax.estimators.base import LogProb, Site
from elbax.graph.distributions import Lifted, innermost

__all__ = ["as_drawn", "binary_logits", "log_prob_of", "no_bernoulli", "with_events"]


def no_bernoulli(site: Site) -> str | None:
    """Why a node is not binary, or `None`."""
    return None if site.dist.name == "Bernoulli" else f"its distribution {site.dist.name} is not Bernoulli"


def binary_logits(dist: Lifted) -> jax.Array:
    """Log-odds, which carry derivatives. Shape `dist.shape + dist.event_shape`."""
    return dist.over(lambda d: jnp.broadcast_to(innermost(d).logits, (*d.batch_shape, *d.event_shape)))


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
