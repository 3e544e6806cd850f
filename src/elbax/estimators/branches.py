"""Branch mode: the rest of the program is run for every outcome of a node, weighted with its probability.

With outcomes `v_1 .. v_n` of the branching nodes, a cost `c` becomes `sum_k P(v_k) c_k`, where `P` is the probability
of what influences this cost element: of its own elements where a node is aligned with it, of all otherwise. Its
derivative is exact with respect to the node's parameters, and whatever is drawn below is averaged over the outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from elbax.errors import EstimatorError
from elbax.estimators.base import Draw, Site
from elbax.graph.analysis import Facts
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Records, cost_key
from elbax.graph.influence import spread

__all__ = ["MAX_OUTCOMES", "Branches", "Lane"]

MAX_OUTCOMES = 1024


@dataclass(frozen=True)
class Branches:
    """The branching nodes of a program, with the number of outcomes of each."""

    counts: dict[str, int]
    estimators: dict[str, Any]
    sites: dict[str, Site]

    @classmethod
    def of(cls, chosen: Mapping[str, Any], sites: Mapping[str, Site]) -> Branches:
        """The nodes whose estimators branch."""
        estimators = {n: c.estimator for n, c in chosen.items() if getattr(c.estimator, "branch", False)}
        counts = {name: estimator.num_outcomes(sites[name]) for name, estimator in estimators.items()}
        if math.prod(counts.values()) > MAX_OUTCOMES:
            raise EstimatorError(
                f"the branching nodes {', '.join(map(repr, counts))} have {math.prod(counts.values()):,} joint "
                f"outcomes, more than {MAX_OUTCOMES:,}: every one of them would be a run of the program. Let fewer "
                "nodes branch."
            )
        return cls(counts, estimators, {name: sites[name] for name in counts})

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def size(self) -> int:
        """The number of joint outcomes."""
        return math.prod(self.counts.values())


class Lane(NamedTuple):
    """One joint outcome of the branching nodes, under `vmap`."""

    branches: Branches
    number: jax.Array

    def holds(self, name: str) -> bool:
        """Whether a node branches."""
        return name in self.branches.counts

    def draw(self, name: str, dist: Lifted) -> Draw:
        """The outcome of a node; `aux` is its log-probability, over the node's aligned axes."""
        rest = self.number
        for other, count in self.branches.counts.items():
            if other == name:
                return self.branches.estimators[name].outcome(rest % count, dist, self.branches.sites[name])
            rest = rest // count
        raise KeyError(name)

    def weigh(self, facts: Facts, records: Records, costs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Costs times the probabilities of the outcomes that influence them."""
        return {
            cost_key(name, part): costs[cost_key(name, part)] * self._weight(fact.dep, fact.shape, facts, records)
            for (name, part), fact in facts.costs.items()
        }

    def share(self, facts: Facts, records: Records, name: str) -> jax.Array:
        """The weight of this lane for the elements of a node."""
        fact = facts.samples[name]
        return jax.lax.stop_gradient(self._weight(fact.parameters, fact.shape, facts, records))

    def _weight(self, dep: Any, shape: tuple[int, ...], facts: Facts, records: Records) -> jax.Array:
        weight = jnp.ones(())
        for name, count in self.branches.counts.items():
            fact = facts.samples[name]
            rels = dep.rels(fact.index)
            if rels is None:
                weight = weight / count
            else:
                weight = weight * _placed(jnp.exp(records.samples[name]), rels, shape)
        return weight


def _placed(p: jax.Array, rels: Any, shape: tuple[int, ...]) -> jax.Array:
    """Probabilities of the elements of a node, where the elements of a cost are that they influence."""
    mixed = tuple(a if n > 1 else None for a, n in zip(rels, p.shape, strict=True))
    return spread(p, mixed, shape)
