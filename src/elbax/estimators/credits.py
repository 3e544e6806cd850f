"""Collects, from the costs of a run, what each node is credited with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from elbax.estimators.ghost import sum_of
from elbax.graph.analysis import Facts
from elbax.graph.evaluate import cost_key
from elbax.graph.influence import credit, credit_shape, usable
from elbax.graph.relations import Rels

__all__ = ["aligned_axes", "collect_credits", "collect_parts", "credit_shapes", "part_shapes", "weighed"]


def collect_credits(facts: Facts, costs: Mapping[str, jax.Array], nodes: int) -> dict[str, jax.Array]:
    """Q̂ of each of `nodes` (a bit mask): the costs that each of its elements influences, summed.

    Nodes often share most of their costs (in a chain, each has those of the next and a few more). Sums are built on
    the largest one already made, so that the work is linear in the number of sites for nested influences.
    """
    wanted = {name: fact for name, fact in facts.samples.items() if nodes >> fact.index & 1}
    pieces: dict[Any, int] = {}
    arrays: list[jax.Array] = []
    sets: dict[str, dict[tuple[int, ...], int]] = {name: {} for name in wanted}
    for (cost, part), cost_fact in facts.costs.items():
        for rels, members in cost_fact.dep.groups:
            for name, fact in wanted.items():
                if not members >> fact.index & 1:
                    continue
                where = (cost, part, rels, fact.shape)
                if where not in pieces:
                    pieces[where] = len(arrays)
                    arrays.append(credit(costs[cost_key(cost, part)], rels, fact.shape))
                shape = arrays[pieces[where]].shape
                sets[name][shape] = sets[name].get(shape, 0) | 1 << pieces[where]
    sums = _shared_sums({mask for by_shape in sets.values() for mask in by_shape.values()}, arrays)
    return {name: sum_of([sums[mask] for mask in by_shape.values()]) for name, by_shape in sets.items()}


def collect_parts(
    facts: Facts, costs: Mapping[str, jax.Array], name: str
) -> dict[tuple[int, ...], tuple[jax.Array, jax.Array]]:
    """The credit of a node, taken apart by its shape: with each part, the sum of its costs, each counted once."""
    node = facts.samples[name]
    parts: dict[tuple[int, ...], tuple[jax.Array, jax.Array]] = {}
    for (cost, part), fact in facts.costs.items():
        rels = fact.dep.rels(node.index)
        if rels is None:
            continue
        value = costs[cost_key(cost, part)]
        found, total = credit(value, rels, node.shape), jnp.sum(value)
        sums = parts.get(found.shape)
        parts[found.shape] = (found, total) if sums is None else (sums[0] + found, sums[1] + total)
    return parts


def _shared_sums(masks: set[int], arrays: Sequence[jax.Array]) -> dict[int, jax.Array]:
    sums: dict[int, jax.Array] = {}
    for mask in sorted(masks, key=lambda m: (m.bit_count(), m)):
        base = max((m for m in sums if m & ~mask == 0), key=int.bit_count, default=0)
        rest = [arrays[i] for i in range(mask.bit_length()) if (mask & ~base) >> i & 1]
        sums[mask] = sum_of([sums[base], *rest] if base else rest)
    return sums


def weighed(costs: Mapping[str, jax.Array], facts: Facts, weights: Mapping[str, float]) -> dict[str, jax.Array]:
    """Costs times the weights of their names; only those that are there."""
    keys = {cost_key(name, part): name for name, part in facts.costs}
    return {key: value * weights[keys[key]] if keys[key] in weights else value for key, value in costs.items()}


def _relations(facts: Facts, name: str) -> list[Rels]:
    index = facts.samples[name].index
    return [rels for fact in facts.costs.values() if (rels := fact.dep.rels(index)) is not None]


def part_shapes(facts: Facts, name: str) -> list[tuple[int, ...]]:
    """The shapes of the parts of a node's credit."""
    shape = facts.samples[name].shape
    return list(dict.fromkeys(credit_shape(rels, shape) for rels in _relations(facts, name)))


def credit_shapes(facts: Facts, name: str) -> tuple[int, ...]:
    """The shape of the credit of a node."""
    shape = facts.samples[name].shape
    return jnp.broadcast_shapes(*(credit_shape(rels, shape) for rels in _relations(facts, name)), (1,) * len(shape))


def aligned_axes(facts: Facts, name: str) -> tuple[bool, ...]:
    """For each axis of a node, whether its elements influence separate elements of every cost."""
    shape = facts.samples[name].shape
    aligned = [True] * len(shape)
    for rels in _relations(facts, name):
        for axis, a in enumerate(usable(rels)):
            aligned[axis] &= a is not None and (a.low, a.high) == (0, 0)
    return tuple(a or n == 1 for a, n in zip(aligned, shape, strict=True))
