"""The address of a NaN: which site, which term, which rows of the batch, which line.

A training block only watches its losses. When one is not finite, the block is run again from its start up to the step
before (runs are deterministic), and that step is taken apart here: data, parameters, then every site in program order
(parameters of its distribution, its value, its log-density), every cost, and at last the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from elbax.bounds.per_datum import datum_relation
from elbax.estimators.base import LogProb
from elbax.fit.training import State, Trainer, as_arguments, call
from elbax.graph import ir
from elbax.graph.analysis import Facts, SampleFact
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Records, cost_key, evaluate, site_keys
from elbax.graph.graph import abstract_distribution
from elbax.graph.relations import Align, Rels
from elbax.graph.tracing import Arguments

__all__ = ["Address", "find_non_finite"]


@dataclass(frozen=True)
class Address:
    """Where a number stopped being finite.

    Attributes:
        step: the training step, from 0.
        where: the site, cost, parameter or data, with the user's line.
        rows: rows of the batch that are concerned, if they can be told.
        count: how many elements are not finite, of how many.
        fix: what usually helps.
    """

    step: int
    where: str
    rows: tuple[int, ...]
    count: tuple[int, int]
    fix: str

    def __str__(self) -> str:
        rows = ""
        if self.rows:
            shown = ", ".join(map(str, self.rows[:8])) + (", ..." if len(self.rows) > 8 else "")
            rows = f" in rows {shown} of the batch"
        bad, total = self.count
        return f"step {self.step}: {self.where} is not finite{rows} ({bad} of {total} elements). {self.fix}"


def find_non_finite(trainer: Trainer, state: State, batch: Any) -> Address | None:
    """The first thing in program order that is not finite at the step after `state`."""
    step = int(state.step)
    for where, x, rels, fix in _parts(trainer, state, batch):
        bad = ~np.isfinite(np.asarray(x)) if np.issubdtype(np.asarray(x).dtype, np.inexact) else np.zeros(1, bool)
        if bad.any():
            return Address(step, where, _rows(bad, rels), (int(bad.sum()), bad.size), fix)
    return None


def _rows(bad: np.ndarray, rels: Rels | None) -> tuple[int, ...]:
    """Rows of the batch, where a dimension of the array is the batch."""
    a = rels[0] if rels else None
    if a is None or a.is_loop or a.inner != 1 or (a.low, a.high) != (0, 0) or a.dim >= bad.ndim:
        return ()
    others = tuple(d for d in range(bad.ndim) if d != a.dim)
    return tuple(int(i) for i in np.flatnonzero(bad.any(axis=others)))


def _parts(trainer: Trainer, state: State, batch: Any) -> Iterator[tuple[str, Any, Rels | None, str]]:
    """Everything of one step in the order in which it is computed."""
    facts = trainer.plan.facts
    seen, key = trainer.see(state, batch)
    for path, x in jax.tree_util.tree_leaves_with_path(seen):
        rows = (_first_axis(x),)
        yield f"the data{jax.tree_util.keystr(path)}", x, rows, "Remove or impute these rows."
    for path, x in jax.tree_util.tree_leaves_with_path(state.params):
        fix = "Lower the learning rate, or clip gradients with optax.clip_by_global_norm."
        yield f"parameter {jax.tree_util.keystr(path).lstrip('.')}", x, None, fix
    records = _record_everything(trainer, state.params, seen, key)
    yield from _sites(facts, records)
    for (name, part), fact in facts.costs.items():
        rels = datum_relation(facts, fact.dep)
        fix = "Look at the distribution behind it: a zero probability, or a scale that underflows."
        yield f"cost '{name}' ({fact.equation.source})", records.costs[cost_key(name, part)], rels, fix
    _, grads = trainer.loss_and_grad(state, seen, key)
    for path, x in jax.tree_util.tree_leaves_with_path(grads):
        fix = (
            "All values are finite, so a derivative has a pole there (sqrt, log or a norm at zero, a `where` whose "
            "other branch overflows): guard the argument, not the result."
        )
        yield f"the gradient of parameter {jax.tree_util.keystr(path).lstrip('.')}", x, None, fix


def _first_axis(x: Any) -> Align | None:
    return Align(0, 1, x.shape[0]) if np.ndim(x) else None


def _sites(facts: Facts, records: Records) -> Iterator[tuple[str, Any, Rels | None, str]]:
    for name, fact in facts.samples.items():
        place = f"site '{name}' ({fact.equation.source})"
        leaves, value, log_prob = records.samples[name]
        rels = datum_relation(facts, fact.parameters)
        for i, leaf in enumerate(leaves):
            fix = "Bound what computes it: softplus or exp of a clipped value for scales, logits instead of probs."
            yield f"the parameter {_leaf_name(fact, i)} of {place}", leaf, None, fix
        yield f"the value of {place}", value, rels, "Its parameters are finite but extreme: bound its scale."
        yield f"the log-density of {place}", log_prob, rels, "The draw has density zero or infinite: bound its scale."


def _leaf_name(fact: SampleFact, index: int) -> str:
    one = abstract_distribution(fact.equation).one
    leaf = jax.tree.leaves(one)[index]
    names = [name for name, value in vars(one).items() if value is leaf]
    return f"'{names[0]}'" if names else f"number {index}"


def _record_everything(trainer: Trainer, params: Any, batch: Any, key: jax.Array) -> Records:
    plan = trainer.plan

    def on_sample(eq: ir.Sample, dist: Lifted, site_key: jax.Array) -> tuple[Any, Any, Any]:
        draw = plan.chosen[eq.name].estimator.draw(site_key, dist, LogProb.of(eq))
        log_prob = dist.log_prob(draw.value) if draw.log_prob is None else draw.log_prob
        return draw.value, draw.log_prob, (dist.leaves, draw.value, log_prob)

    arrays = Arguments.of(call, (trainer.bound(params), *as_arguments(batch)), {}).arrays
    keys = site_keys(key, {name: fact.loops for name, fact in plan.facts.samples.items()})
    return evaluate(plan.block, arrays, on_sample, keys)[1]
