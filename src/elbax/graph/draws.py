"""What a distribution's draws and densities do with its arrays, found by analysing their own programs.

A distribution says of itself whether its draws are differentiable. The score function relies on two more things that
no distribution says: that its support stays where it is when its parameters move, and that its density shows what its
draws depend on. A wrong word here is a gradient that is wrong without an error, so it is checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from elbax.graph import ir
from elbax.graph.analysis import InputNode, analyse
from elbax.graph.compat import cached
from elbax.graph.distributions import Lifted, Structure, innermost, lane_avals
from elbax.graph.relations import EMPTY, Dep, join_all

__all__ = ["jumps_in_draw", "unseen_by_density"]

Avals = tuple[jax.ShapeDtypeStruct, ...]


def jumps_in_draw(lifted: Lifted) -> bool:
    """Whether draws jump, or stay put, while a parameter moves that they depend on."""
    structure, avals = _one_lane(lifted)
    draw = _draw(structure, avals)
    return bool(draw.cut or draw.nodes & _floats(avals) & ~draw.smooth)


def unseen_by_density(lifted: Lifted) -> list[jax.Array]:
    """What moves draws in a way that the derivative of their log-density does not show: arrays of floats.

    These are the ends of a support (of a Uniform, of a truncation), the place of a point mass, and all parameters if
    the density does not depend on any.
    """
    structure, avals = _one_lane(lifted)
    blind = not _density(structure, avals).smooth & _floats(avals) and _draw(structure, avals).nodes
    found = lifted.over(lambda d: (*_ends(d), *(jax.tree.leaves(d) if blind else ())))
    return [x for x in found if jnp.issubdtype(x.dtype, jnp.inexact)]


def _ends(d: Any) -> list[jax.Array]:
    """Arrays that say where the support of a distribution, or of one that it is made from, begins and ends."""
    found: list[jax.Array] = []
    if isinstance(point := innermost(d), dist.Delta):
        found.append(jnp.asarray(point.v))
    while d is not None:
        with contextlib.suppress(AttributeError, NotImplementedError):
            found += [x for x in jax.tree.leaves(d.support) if isinstance(x, jax.Array)]
        d = getattr(d, "base_dist", None) or getattr(d, "component_distribution", None)
    return found


def _one_lane(lifted: Lifted) -> tuple[Structure, Avals]:
    avals = tuple(jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in lifted.leaves)
    return Structure(lifted.structure.treedef, lifted.structure.event_dim), lane_avals(lifted.structure, avals)


def _floats(avals: Avals) -> int:
    return sum(1 << i for i, a in enumerate(avals) if jnp.issubdtype(a.dtype, jnp.inexact))


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


@cached
def _draw(structure: Structure, avals: Avals) -> Dep:
    """How a draw depends on the arrays of its distribution; array number `i` is node `i`."""
    return _dependence(lambda *a: Lifted(structure, a[:-1]).sample(a[-1]), (*avals, _key()))


@cached
def _density(structure: Structure, avals: Avals) -> Dep:
    value = jax.eval_shape(lambda *a: Lifted(structure, a[:-1]).sample(a[-1]), *avals, _key())
    try:
        return _dependence(lambda *a: Lifted(structure, a[:-1]).density(a[-1]), (*avals, value))
    except NotImplementedError:  # a flow that can be drawn from but not inverted
        return EMPTY


def _dependence(fn: Callable, avals: Avals) -> Dep:
    """How the results of `fn` depend on its arguments, each of which is a node."""
    block = ir.read(jax.make_jaxpr(fn)(*avals))
    facts = analyse(block, [InputNode(str(i)) for i in range(len(avals))], range(len(avals)))
    return join_all(EMPTY if isinstance(a, ir.Constant) else facts.deps[a] for a in block.outputs)
