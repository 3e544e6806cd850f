"""What if a node had another value? The part of a program below a site, run again.

A replay overrides one sample site, keeps every value that does not depend on it, and runs the rest with the random
keys of the main run (common random numbers). It is a plain function of the value, to be mapped or differentiated.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from elbax.graph import ir
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Env, OnSample, Records, evaluate_in
from elbax.graph.ir import Block, Var

__all__ = ["Below", "below", "loop_around", "replay"]


@dataclass(frozen=True, eq=False)
class Below:
    """The equations that a replay of a site runs; the first is the site itself, or the construct that it stands in.

    Attributes:
        name: of the site.
        equations: in program order.
        reads: the variables from elsewhere that they read.
    """

    name: str
    equations: tuple[ir.Equation, ...]
    reads: tuple[Var, ...]


def loop_around(block: Block, name: str) -> ir.Equation | None:
    """The loop that a site stands in, if it stands in one."""
    for eq in block.equations:
        inner = next((b for b in eq.blocks if _holds(ir.walk(b), name)), None)
        if inner is not None:
            return eq if isinstance(eq, ir.Scan) else loop_around(inner, name)
    return None


def below(block: Block, name: str) -> Below:
    """The part of a block that depends on a site outside all loops."""
    equations: list[ir.Equation] = []
    affected: set[Any] = set()
    for eq in block.equations:
        if not equations:
            if not _holds(_with_inner(eq), name):
                continue
        elif not any(a in affected for a in eq.inputs):
            continue
        equations.append(eq)
        affected.update(v for v in eq.outputs if v is not None)
    reads = {a: None for eq in equations for a in eq.inputs if isinstance(a, Var) and a not in affected}
    return Below(name, tuple(equations), tuple(reads))


def _holds(equations: Iterable[ir.Equation], name: str) -> bool:
    return any(isinstance(eq, ir.Sample) and eq.name == name for eq in equations)


def _with_inner(eq: ir.Equation) -> Any:
    yield eq
    for inner in eq.blocks:
        yield from ir.walk(inner)


def replay(part: Below, env: Env, value: Any, on_sample: OnSample, feeds: Mapping[str, Any]) -> Records:
    """The records of the part below a site, had it drawn `value`.

    Nothing but `value` carries a derivative.

    Args:
        part: of the program.
        env: values of the main run.
        value: of the site. A site in a branch that is not taken does nothing with it.
        on_sample: draws the sites below.
        feeds: of the main run.
    """

    def override(eq: ir.Sample, dist: Lifted, feed: Any) -> tuple[Any, Any, Any]:
        if eq.name != part.name:
            return on_sample(eq, dist, feed)
        return value, None if eq.outputs[1] is None else dist.log_prob(value), ()

    fixed = {v: stopped(env[v]) for v in part.reads}
    return evaluate_in(ChainMap({}, fixed), part.equations, override, feeds)


def stopped(x: Any) -> Any:
    """A value without derivative; random keys as they are."""
    return x if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended) else jax.lax.stop_gradient(x)
