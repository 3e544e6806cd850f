"""A value that refuses to be differentiated with respect to what its gradient would leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from elbax.errors import EstimatorError

__all__ = ["fence"]


def fence(value: jax.Array, guarded: Sequence[jax.Array], message: str) -> jax.Array:
    """`value`; an `EstimatorError` with `message` if an array that is `guarded` is differentiated."""
    if not guarded:
        return value

    @jax.custom_jvp
    def fenced(value: jax.Array, guarded: list[jax.Array]) -> jax.Array:
        return value

    def refuse(primals: Any, tangents: Any) -> Any:
        if any(not isinstance(t, SymbolicZero) for t in tangents[1]):
            raise EstimatorError(message)
        return primals[0], jnp.zeros_like(value) if isinstance(tangents[0], SymbolicZero) else tangents[0]

    fenced.defjvp(refuse, symbolic_zeros=True)
    return fenced(value, list(guarded))
