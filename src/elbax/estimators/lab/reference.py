"""What a gradient is: by enumeration where all nodes have few outcomes, else by a long run of an unbiased estimator."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import ConfigError
from elbax.estimators.ghost import sum_of
from elbax.estimators.plan import Plan
from elbax.estimators.support import support_of
from elbax.graph import ir
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import evaluate

__all__ = ["MAX_OUTCOMES", "Reference", "count_outcomes", "exact_gradient"]

MAX_OUTCOMES = 2**14
AT_ONCE = 1024


@dataclass(frozen=True)
class Reference:
    """What estimates are compared with.

    Attributes:
        gradient: flat. Shape `[parameters]`.
        std_error: of each element; zero for an exact one.
        about: how it was found.
    """

    gradient: np.ndarray
    std_error: np.ndarray
    about: str


def count_outcomes(plan: Plan) -> int | None:
    """The number of joint outcomes of all nodes; `None` if a node has infinitely many."""
    count = 1
    for name, site in plan.sites.items():
        support = support_of(site.dist)
        if support is None:
            return None
        count *= len(support) ** math.prod(plan.facts.samples[name].shape)
    return count


def exact_gradient(plan: Plan, arrays: Sequence[Any], of: Callable[[Any], list[Any]], chosen: Any) -> np.ndarray:
    """The gradient of the exact expected cost, flat, by enumeration of all joint outcomes.

    Args:
        plan: of the program.
        arrays: its arguments, flat.
        of: `chosen -> arrays`, the arguments with other differentiated ones.
        chosen: what is differentiated; a pytree of floats.

    Raises:
        ConfigError: if a node has infinitely many outcomes, or there are too many.
    """
    count = count_outcomes(plan)
    if count is None or count > MAX_OUTCOMES:
        found = "infinitely many" if count is None else f"{count:,}"
        raise ConfigError(
            f"program `{plan.graph.name}` has {found} joint outcomes; at most {MAX_OUTCOMES:,} can be enumerated. Use "
            'reference="long_run".'
        )
    rows = _outcomes(plan, count)

    def expected(chosen: Any, values: Any, real: Any) -> jax.Array:
        def one(values: dict[str, jax.Array], real: jax.Array) -> jax.Array:
            total, log_p = _outcome(plan, values, of(chosen))
            return jnp.where(real, jnp.exp(log_p) * total, 0.0)

        return jnp.sum(jax.vmap(one)(values, real))

    step = jax.jit(jax.grad(expected))
    total = None
    for start in range(0, count, AT_ONCE):
        picked = np.minimum(np.arange(start, start + min(AT_ONCE, count)), count - 1)
        part = step(chosen, {n: v[picked] for n, v in rows.items()}, np.arange(start, start + len(picked)) < count)
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(part)])
        total = flat if total is None else total + flat
    assert total is not None
    return np.asarray(total, np.float64)


def _outcomes(plan: Plan, count: int) -> dict[str, np.ndarray]:
    """All joint outcomes, one row each, of every node in its shape."""
    supports = {name: support_of(site.dist) for name, site in plan.sites.items()}
    shapes = {name: plan.facts.samples[name].shape for name in supports}
    columns = [range(len(s)) for n, s in supports.items() if s is not None for _ in np.ndindex(shapes[n])]
    table = np.array(list(itertools.product(*columns)), dtype=np.int64).reshape(count, len(columns))
    rows, start = {}, 0
    for name, support in supports.items():
        assert support is not None
        n = math.prod(shapes[name])
        picked = support[table[:, start : start + n]].reshape(count, *shapes[name], *support.shape[1:])
        rows[name] = picked.astype(plan.facts.samples[name].value_dtype)
        start += n
    return rows


def _outcome(plan: Plan, values: dict[str, jax.Array], arrays: list[Any]) -> tuple[jax.Array, jax.Array]:
    """Of one outcome, the sum of all costs and the log-probability."""

    def on_sample(eq: ir.Sample, dist: Lifted, value: Any) -> tuple[Any, Any, Any]:
        # A node in a branch that is not taken records zeros: all its outcomes stand for the same run.
        return value, dist.log_prob(value), (dist.density(value), jnp.ones(dist.shape))

    _, records = evaluate(plan.block, arrays, on_sample, values)
    log_p = jnp.zeros(())
    for name, (density, taken) in records.samples.items():
        support = support_of(plan.sites[name].dist)
        assert support is not None
        log_p = log_p + jnp.sum(jnp.where(taken > 0, density, -math.log(len(support))))
    return sum_of([jnp.sum(c) for c in records.costs.values()]), log_p
