"""Operations that are linear in an operand, transposed: what operands count for, given what the result counts for.

A value's *share* in a cost is a weight and factors: the cost holds `sum(value * weight * factors)`. Handing the share
of a result on to the operands of an operation is one step of reverse-mode differentiation, kept symbolic so that the
operands stay apart as terms instead of being added up (`elbax.graph.split`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elbax.graph import compat, ir
from elbax.graph.ir import Atom, Constant, Var

__all__ = ["Compute", "Factor", "Free", "Share", "Shares", "carried_by", "shares_of_operands", "wider"]


@dataclass(frozen=True)
class Factor:
    """Multiplies (or divides) a value; `dims` are the value's dimensions that the factor's dimensions stand for."""

    atom: Atom
    dims: tuple[int, ...] = ()
    divides: bool = False

    def times(self, x: jax.Array, value: jax.Array) -> jax.Array:
        """`x`, which has all dimensions of the value (or none, for a scalar), times the factor's `value`."""
        y = spread(value.astype(x.dtype), self.dims, x.ndim)
        return x / y if self.divides else x * y


@dataclass(frozen=True)
class Share:
    """What a value counts for in the whole that is taken apart: `value * weight * factors`, summed over everything.

    Attributes:
        dtype: the widest on the way.
        weight: a number.
        factors: scalars and arrays of the program; dimensions of size one are repeated.
        origin: for each dimension of the whole, the dimension of this value; `None` if that is not told.
    """

    dtype: Any
    weight: float = 1.0
    factors: tuple[Factor, ...] = ()
    origin: tuple[int, ...] | None = None

    @property
    def scalars(self) -> tuple[Factor, ...]:
        """The factors without dimensions."""
        return tuple(f for f in self.factors if not f.dims)

    @property
    def arrays(self) -> tuple[Factor, ...]:
        """The factors with dimensions."""
        return tuple(f for f in self.factors if f.dims)

    def moved(self, dims: Sequence[int]) -> Share:
        """The share of an operand whose dimension `dims[d]` is dimension `d` of the result."""
        factors = tuple(replace(f, dims=tuple(dims[d] for d in f.dims)) for f in self.factors)
        origin = None if self.origin is None else tuple(dims[d] for d in self.origin)
        return replace(self, factors=factors, origin=origin)


Shares = list[tuple[Atom, Share]]
Compute = Callable[..., Atom]  # (function of arrays, *atoms) -> atom of its result
Free = Callable[[Atom], bool]  # whether no node of interest influences a value


def shares_of_operands(eq: ir.Apply, share: Share, free: Free, compute: Compute) -> Shares | None:
    """What the operands of a linear operation count for; `None` for any other operation."""
    (x, *rest), out = eq.inputs or (None,), eq.outputs[0]
    if x is None:
        return None
    match eq.name:
        case "add" | "add_any":
            return [_summand(a, out, share, compute) for a in eq.inputs]
        case "sub":
            minus = replace(share, weight=-share.weight)
            return [_summand(x, out, share, compute), _summand(rest[0], out, minus, compute)]
        case "neg":
            return [(x, replace(share, weight=-share.weight))]
        case "mul" | "div":
            return _product(eq, share, free, compute)
        case "copy" | "copy_p" | "slice" if x.shape == out.shape:
            return [(x, share)]
        case "convert_element_type" if jnp.issubdtype(x.dtype, jnp.floating):
            return [(x, replace(share, dtype=wider(share.dtype, x.dtype)))]
        case "reduce_sum":
            gone = {int(a) for a in eq.eqn.params["axes"]}
            return [(x, share.moved([d for d in range(len(x.shape)) if d not in gone]))]
        case "transpose":
            return [(x, share.moved([int(d) for d in eq.eqn.params["permutation"]]))]
        case "squeeze" | "reshape" | "broadcast_in_dim" if math.prod(x.shape) == math.prod(out.shape):
            return [(x, _reshaped(x, out, share, compute))]
        case "concatenate" | "stack" if share.origin is None:
            return _pieces(eq, share, compute)
        case "dot_general":
            return _weighted_sum(eq, share, free)
    return None


def carried_by(eq: ir.Apply) -> tuple[Atom, ...]:
    """Operands that an operation hands on as they are, with something added or subtracted."""
    out = eq.outputs[0]
    match eq.name:
        case "add" | "add_any":
            candidates = eq.inputs
        case "sub" | "convert_element_type" | "copy" | "copy_p":
            candidates = eq.inputs[:1]
        case _:
            return ()
    return tuple(a for a in candidates if a.shape == out.shape and a.dtype == out.dtype)


def _summand(operand: Atom, out: Var, share: Share, compute: Compute) -> tuple[Atom, Share]:
    """An operand counts as often as it is repeated (a scalar, a dimension of size one)."""
    if operand.shape == out.shape:
        return operand, share
    repeated = tuple(d for d, n in enumerate(out.shape) if not operand.shape or operand.shape[d] != n)
    if share.origin is not None and any(d in repeated for d in share.origin):
        share = replace(share, origin=None)
    if not share.arrays:
        return operand, replace(share, weight=share.weight * math.prod(out.shape[d] for d in repeated))

    def add_up(*values: jax.Array) -> jax.Array:
        result = jnp.ones(out.shape, share.dtype)
        for f, value in zip(share.arrays, values, strict=True):
            result = f.times(result, value)
        return jnp.sum(result, axis=repeated, keepdims=bool(operand.shape))

    total = Factor(compute(add_up, *(f.atom for f in share.arrays)), tuple(range(len(operand.shape))))
    return operand, replace(share, factors=(*share.scalars, total))


def _product(eq: ir.Apply, share: Share, free: Free, compute: Compute) -> Shares | None:
    """A product is linear in one operand when no node of interest influences the other."""
    x, y = eq.inputs
    if eq.name == "mul" and free(x) and not free(y):
        x, y = y, x
    if not free(y) or x.shape != eq.outputs[0].shape:
        return None
    number = _number(y)
    if number is not None and number != 0 and math.isfinite(number):
        weight = share.weight / number if eq.name == "div" else share.weight * number
        return [(x, replace(share, weight=weight))]
    factor = Factor(y, tuple(range(len(y.shape))), divides=eq.name == "div")
    if y.shape or not share.scalars:
        return [(x, replace(share, factors=(*share.factors, factor)))]
    # One scalar takes the place of two, so that a long product is made up once for all its uses.
    both = (*share.scalars, factor)

    def multiply(*values: jax.Array) -> jax.Array:
        result = jnp.ones((), share.dtype)
        for f, value in zip(both, values, strict=True):
            result = f.times(result, value)
        return result

    return [(x, replace(share, factors=(*share.arrays, Factor(compute(multiply, *(f.atom for f in both))))))]


def _reshaped(x: Atom, out: Var, share: Share, compute: Compute) -> Share:
    """Factors follow dimensions that stay; others are reshaped themselves."""
    same = _same_dims(out.shape, x.shape)
    factors = []
    for f in share.factors:
        if all(d in same for d in f.dims):
            factors.append(replace(f, dims=tuple(same[d] for d in f.dims)))
            continue

        def regroup(value: jax.Array, f: Factor = f) -> jax.Array:
            return jnp.broadcast_to(spread(value, f.dims, len(out.shape)), out.shape).reshape(x.shape)

        factors.append(Factor(compute(regroup, f.atom), tuple(range(len(x.shape))), f.divides))
    told = share.origin is not None and all(d in same for d in share.origin)
    return replace(
        share, factors=tuple(factors), origin=tuple(same[d] for d in share.origin) if told and share.origin else None
    )


def _same_dims(old: tuple[int, ...], new: tuple[int, ...]) -> dict[int, int]:
    """Which dimensions of `old` are dimensions of `new`, if only dimensions of size one come and go."""
    before = [d for d, n in enumerate(old) if n != 1]
    after = [d for d, n in enumerate(new) if n != 1]
    if [old[d] for d in before] != [new[d] for d in after]:
        return {}
    return dict(zip(before, after, strict=True))


def _pieces(eq: ir.Apply, share: Share, compute: Compute) -> Shares:
    """Each piece of a concatenation, or element of a stack, takes its part of the factors along."""
    stacks, out, start, shares = eq.name == "stack", eq.outputs[0], 0, []
    axis = int(eq.eqn.params["axis" if stacks else "dimension"])
    left = [d for d in range(len(out.shape)) if not (stacks and d == axis)]
    for x in eq.inputs:
        size = 1 if stacks else x.shape[axis]
        factors = []
        for f in share.factors:
            dims = tuple(left.index(d) for d in f.dims if d in left)
            atom = f.atom
            if axis in f.dims:
                own = f.dims.index(axis)
                part = (start, size) if f.atom.shape[own] == out.shape[axis] else (0, 1)
                atom = compute(lambda v, own=own, part=part: _part(v, own, *part, squeeze=stacks), f.atom)
            factors.append(Factor(atom, dims, f.divides))
        shares.append((x, replace(share, factors=tuple(factors))))
        start += size
    return shares


def _part(value: jax.Array, axis: int, start: int, size: int, *, squeeze: bool) -> jax.Array:
    part = jax.lax.slice_in_dim(value, start, start + size, axis=axis)
    return jnp.squeeze(part, axis) if squeeze else part


def _weighted_sum(eq: ir.Apply, share: Share, free: Free) -> Shares | None:
    """A product with an array all of whose dimensions are summed or shared: `w @ x`, `einsum("b,bt->t", w, x)`."""
    summed, batch = eq.eqn.params["dimension_numbers"]
    for k in (0, 1):
        x, w = eq.inputs[k], eq.inputs[1 - k]
        used = [*map(int, batch[k]), *map(int, summed[k])]
        used_w = [*map(int, batch[1 - k]), *map(int, summed[1 - k])]
        if not free(w) or len(used_w) != len(w.shape):
            continue
        own = [d for d in range(len(x.shape)) if d not in used]
        moved = share.moved([*map(int, batch[k]), *own])
        to = dict(zip(used_w, used, strict=True))
        weights = Factor(w, tuple(to[d] for d in range(len(w.shape))))
        return [(x, replace(moved, factors=(*moved.factors, weights)))]
    return None


def _number(atom: Atom) -> float | None:
    """The number of a scalar that is known while tracing."""
    if not isinstance(atom, Constant) or atom.shape or isinstance(atom.value, compat.Tracer):
        return None
    return float(np.asarray(atom.value)) if jnp.issubdtype(atom.dtype, jnp.floating) else None


def wider(a: Any, b: Any) -> Any:
    """The wider of two dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        return a if a == b else jnp.promote_types(a, b)


def spread(value: jax.Array, dims: tuple[int, ...], ndim: int) -> jax.Array:
    """`value` with its dimensions in the places `dims` of `ndim`, and size one elsewhere."""
    order = sorted(range(len(dims)), key=lambda i: dims[i])
    shape = [1] * ndim
    for i in order:
        shape[dims[i]] = value.shape[i]
    return jnp.transpose(value, order).reshape(shape)
