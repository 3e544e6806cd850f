"""Adds to a loss what only its derivative should see."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from elbax.errors import ProgramError

__all__ = ["ghost", "sum_of"]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def ghost(total: jax.Array, terms: jax.Array, refusal: str) -> jax.Array:
    """`total`, with the derivative of `total + terms`: the terms cost nothing in the forward pass.

    Raises:
        ProgramError: with the text `refusal`, if that derivative is differentiated.
    """
    return total


@ghost.defjvp
def _ghost_jvp(refusal: str, primals: Any, tangents: Any) -> Any:
    (total, terms), (d_total, d_terms) = primals, tangents
    return total, d_total + d_terms * _once(terms, refusal)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _once(terms: jax.Array, refusal: str) -> jax.Array:
    return jnp.ones_like(terms)


@_once.defjvp
def _once_jvp(refusal: str, primals: Any, tangents: Any) -> Any:
    raise ProgramError(refusal)


def sum_of(values: Sequence[jax.Array]) -> jax.Array:
    """The sum of scalars, zero if there are none."""
    return sum(values[1:], values[0]) if values else jnp.zeros(())
