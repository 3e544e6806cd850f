"""The outcomes of a node with a finite support."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elbax.estimators.base import Site
from elbax.graph.distributions import Lifted

__all__ = ["log_probs_of", "mixed_size", "support_of"]


def support_of(dist: Lifted) -> np.ndarray | None:
    """All values of one element, shape `[outcomes, *event_shape]`; `None` if they are not finitely many and known."""
    one = dist.one
    if not getattr(one, "has_enumerate_support", False):
        return None
    try:
        with jax.ensure_compile_time_eval():
            values = np.asarray(one.enumerate_support(expand=False))
    except (NotImplementedError, TypeError, jax.errors.JAXTypeError):
        return None  # the number of outcomes is a parameter
    return values.reshape(len(values), *one.event_shape)


def log_probs_of(dist: Lifted, support: np.ndarray) -> jax.Array:
    """Log-probabilities of all outcomes, in nats. Shape `[outcomes, *dist.shape]`."""
    values = jnp.asarray(support)

    def each(value: jax.Array) -> jax.Array:
        return dist.density(jnp.broadcast_to(value, (*dist.shape, *value.shape)))

    return jax.vmap(each)(values)


def mixed_size(site: Site) -> int:
    """How many elements of a node share costs, so that they cannot be probed at once."""
    return math.prod(n for n, aligned in zip(site.shape, site.aligned, strict=True) if not aligned)


def over_mixed(x: Any, site: Site) -> Any:
    """The sum of an array with the node's axes over those that are not aligned, kept with size one."""
    return jnp.sum(x, axis=tuple(i for i, aligned in enumerate(site.aligned) if not aligned), keepdims=True)
