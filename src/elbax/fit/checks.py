"""Checks of data, made before any work is done on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import DataError
from elbax.fit.feed import check_rows
from elbax.fit.training import Prepare, as_arguments
from elbax.graph import ir
from elbax.graph.analysis import analyse
from elbax.graph.distributions import Lifted, support_name
from elbax.graph.evaluate import cost_key, evaluate, site_keys
from elbax.graph.graph import abstract_distribution
from elbax.graph.tracing import Arguments, capture

__all__ = ["check_finite", "check_observed"]

# Numbers looked at together.
AT_ONCE = 2**22


def check_finite(data: Any, name: str) -> None:
    """Refuses NaN and infinity in arrays of floats."""
    if data is None or isinstance(data, Iterator):
        return
    for path, x in jax.tree_util.tree_leaves_with_path(data):
        if not hasattr(x, "dtype") or not np.issubdtype(x.dtype, np.inexact):
            continue
        rows = max(1, 2**24 // max(1, int(np.prod(x.shape[1:]))))
        for start in range(0, len(x) if x.ndim else 0, rows):
            bad = ~np.isfinite(np.asarray(x[start : start + rows]))
            if bad.any():
                first = start + int(np.argwhere(bad)[0][0])
                raise DataError(
                    f"{name}{jax.tree_util.keystr(path)} holds NaN or infinity, first in row {first}. Remove or impute "
                    "these rows."
                )


def check_observed(model: Callable, data: Any, name: str, prepare: Prepare | None = None) -> None:
    """Refuses data outside the support of the distribution that observes them, such as pixels of 255 for a Bernoulli.

    Args:
        model: program with observed sites, called with a batch.
        data: arrays with one row per datum, or `None`.
        name: what the data are called in the message.
        prepare: what is done to a batch before the model sees it.

    Raises:
        DataError: naming the site, its line, the rows and the values found.
    """
    if data is None:
        return
    num_rows = check_rows(data)
    width = max(int(np.prod(x.shape[1:])) for x in jax.tree.leaves(data))
    size = min(num_rows, max(1, AT_ONCE // max(1, width)))
    check = eqx.filter_jit(lambda batch: _violations(model, batch, prepare))
    for start in range(0, num_rows, size):
        stop = min(start + size, num_rows)
        for site in check(jax.tree.map(lambda x: jnp.asarray(x[start:stop]), data)):  # noqa: B023
            if count := int(site.count):
                raise DataError(
                    f"site '{site.name}' ({site.source}) is {site.distribution}: its values are {site.support}, but "
                    f"{count} of the {site.size} values in rows {start} to {stop - 1} of {name} are not (those range "
                    f"from {float(site.low):g} to {float(site.high):g}). Bring the data into that range, or observe "
                    "them with another distribution."
                )


class _Site(eqx.Module):
    """What one observed site says about a batch: how many values it cannot take, and their range."""

    count: jax.Array
    low: jax.Array
    high: jax.Array
    size: int = eqx.field(static=True)
    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    distribution: str = eqx.field(static=True)
    support: str = eqx.field(static=True)


def _violations(model: Callable, batch: Any, prepare: Prepare | None) -> list[_Site]:
    """What all observed sites of the model say about a batch.

    Compiled, nothing of the model is computed but the way from the data to the observed values.
    """
    seen = batch if prepare is None else prepare(jax.random.key(0), batch)
    arguments = Arguments.of(model, as_arguments(seen), {})
    block = ir.prune(capture(model, arguments).block)
    facts = analyse(block, arguments.inputs, arguments.owners)
    supports: dict[str, str] = {}

    def draw(eq: ir.Sample, dist: Lifted, key: jax.Array) -> tuple[Any, Any, Any]:
        return *dist.draw_with_log_prob(key, differentiable=False), ()

    def look(eq: ir.Observe, dist: Lifted, value: jax.Array) -> tuple[jax.Array, ...]:
        supports[eq.name] = support_name(dist.one)
        allowed = dist.in_support(value)
        allowed = allowed.reshape(allowed.shape + (1,) * len(dist.event_shape))
        numbers = value.astype(jnp.result_type(float))
        return ~allowed, jnp.where(allowed, jnp.inf, numbers), jnp.where(allowed, -jnp.inf, numbers)

    keys = site_keys(jax.random.key(0), {site: fact.loops for site, fact in facts.samples.items()})
    _, records = evaluate(block, arguments.arrays, draw, keys, look)
    observed = {name: fact.equation for (name, _), fact in facts.costs.items() if isinstance(fact.equation, ir.Observe)}
    found = []
    for name, eq in observed.items():
        bad, low, high = records.costs[cost_key(name, 0)]
        kind = abstract_distribution(eq).name
        found.append(_Site(bad.sum(), low.min(), high.max(), bad.size, name, str(eq.source), kind, supports[name]))
    return found
