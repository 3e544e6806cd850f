"""From costs to the credit of a node, and back.

`credit` is the linear operator A that turns a cost array `c` into what the elements of a node are credited with,

    Q[j] = sum of c[i] over the elements i that w[j] influences,

given the relations of `c` to the axes of `w`: sums over dimensions that the node is not aligned with, cumulative sums
where later costs count, and windows for finite bands. It has the node's axes, of size one where the node is mixed.
`spread`, its transpose, carries node values to the cost elements that they influence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from elbax.graph.relations import INF, Align, Rels

__all__ = ["credit", "credit_shape", "spread"]


def usable(rels: Rels) -> Rels:
    """Relations with at most one node axis per position of a value; whatever overlaps with an earlier one is mixed."""
    kept: list[Align | None] = []
    for a in rels:
        overlaps = a is not None and any(b is not None and b.dim == a.dim and _overlap(a, b) for b in kept)
        kept.append(None if overlaps else a)
    return tuple(kept)


def _overlap(a: Align, b: Align) -> bool:
    """Whether two factors of one dimension are not nested in each other."""
    return a.inner % max(b.inner * b.size, 1) != 0 and b.inner % max(a.inner * a.size, 1) != 0


def credit_shape(rels: Rels, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the credit of a node of the given shape."""
    return tuple(n if a is not None else 1 for a, n in zip(usable(rels), shape, strict=True))


def credit(c: jax.Array, rels: Rels, shape: Sequence[int]) -> jax.Array:
    """What each element of a node is credited with.

    Args:
        c: cost elements, any shape.
        rels: relations of `c` to the axes of the node.
        shape: shape of the node.

    Returns:
        The credit; the node's axes, of size one where the relation is mixed.
    """
    rels = usable(rels)
    if c.size == 0:
        return jnp.zeros(credit_shape(rels, shape), c.dtype)
    pieces, positions = _factored(c.shape, rels)
    axes = [positions[a.dim, a.inner] for a in rels if a is not None]
    others = tuple(d for d in range(len(pieces)) if d not in axes)
    q = jnp.sum(c.reshape(pieces), axis=others)
    remaining = sorted(axes)
    q = jnp.transpose(q, [remaining.index(d) for d in axes])
    k = 0
    for a, n in zip(rels, shape, strict=True):
        if a is not None:
            q = _credit_along(q, k, n, a.low, a.high)
            k += 1
    return jnp.expand_dims(q, [d for d, a in enumerate(rels) if a is None])


def spread(w: jax.Array, rels: Rels, cost_shape: Sequence[int]) -> jax.Array:
    """The transpose of `credit`: for each cost element, the sum of `w` over the node elements that influence it.

    Args:
        w: an array with the node's shape.
        rels: relations of the cost to the axes of the node.
        cost_shape: shape of the cost.

    Returns:
        An array of shape `cost_shape`.
    """
    zeros = jnp.zeros(cost_shape, w.dtype)
    transpose = jax.linear_transpose(lambda c: jnp.broadcast_to(credit(c, rels, w.shape), w.shape), zeros)
    return transpose(w)[0]


def _factored(shape: tuple[int, ...], rels: Rels) -> tuple[list[int], dict[tuple[int, int], int]]:
    """`shape` with every aligned factor as a dimension of its own, and the position of each."""
    pieces: list[int] = []
    positions: dict[tuple[int, int], int] = {}
    for dim, n in enumerate(shape):
        aligned = sorted((a for a in rels if a is not None and a.dim == dim), key=lambda a: -a.inner)
        rest = n
        for a in aligned:
            outer = rest // (a.size * a.inner)
            pieces += [outer, a.size]
            positions[dim, a.inner] = len(pieces) - 1
            rest = a.inner
        pieces.append(rest)
    assert math.prod(pieces) == math.prod(shape)
    return pieces, positions


def _credit_along(c: jax.Array, axis: int, n: int, low: float, high: float) -> jax.Array:
    """`Q[j] = sum of c[i] over j - high <= i <= j - low`, for `j` in `range(n)`, along one axis."""
    m = c.shape[axis]
    if (low, high) == (0, 0) and n == m:
        return c
    if high == INF:  # all i up to j - low
        return _at(jnp.cumsum(c, axis=axis), axis, n, -int(low), before=0, after="last")
    if low == -INF:  # all i from j - high on
        return _at(jax.lax.cumsum(c, axis=axis, reverse=True), axis, n, -int(high), before="first", after=0)
    # Beyond m - 1 steps before, and n - 1 after, there is nothing.
    low, high = max(int(low), 1 - m), min(int(high), n - 1)
    if low > high:
        return jnp.zeros((*c.shape[:axis], n, *c.shape[axis + 1 :]), c.dtype)
    zero, padding, window = np.zeros((), c.dtype), [(0, 0, 0)] * c.ndim, [1] * c.ndim
    padding[axis], window[axis] = (high, n - m - low, 0), high - low + 1
    padded = jax.lax.pad(c, zero, padding)
    if low == high:
        return padded
    return jax.lax.reduce_window(padded, zero, jax.lax.add, window, [1] * c.ndim, "VALID")


def _at(c: jax.Array, axis: int, n: int, offset: int, before: int | str, after: int | str) -> jax.Array:
    """`c[j + offset]` for `j` in `range(n)`; beyond the ends zero, or the first or last element."""
    m = c.shape[axis]
    if offset == 0 and n == m:
        return c
    index = jnp.arange(n) + offset
    taken = jnp.take(c, jnp.clip(index, 0, m - 1), axis=axis)
    shape = [1] * c.ndim
    shape[axis] = n
    inside = jnp.ones(n, bool)
    if before == 0:
        inside &= index >= 0
    if after == 0:
        inside &= index < m
    return jnp.where(inside.reshape(shape), taken, 0)
