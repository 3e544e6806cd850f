"""Which datum a cost belongs to.

Data are arrays with one datum per row. The graph follows that leading axis as it follows the axes of stochastic nodes,
so that the costs of each datum can be told apart, in batched code as under `vmap`, and it is known where they cannot
(batch normalisation, a latent variable shared by all data).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from elbax.errors import ProgramError
from elbax.graph.analysis import Facts
from elbax.graph.evaluate import cost_key
from elbax.graph.graph import build
from elbax.graph.influence import credit
from elbax.graph.relations import Dep, Rels

__all__ = [
    "DataRelations",
    "data_axes",
    "data_relations",
    "datum_relation",
    "local_costs",
    "sum_per_datum",
    "sum_per_datum_parts",
]


@dataclass(frozen=True)
class DataRelations:
    """How each cost is aligned with the data.

    Attributes:
        num_data: rows of the data; 1 if a program has no data or treats all of them as one.
        rels: by cost name, the relation to the leading axis of the data.
    """

    num_data: int
    rels: dict[str, Rels]


def datum_relation(facts: Facts, dep: Dep) -> Rels | None:
    """Relation of a value to the leading axis of the data; `None` if the data do not influence it.

    With several data arguments, the first one that it is aligned with.
    """
    found = None
    for index, node in enumerate(facts.inputs):
        rels = dep.rels(index) if node.batch is not None else None
        if rels is not None and (found is None or found[0] is None):
            found = rels
    return found


def local_costs(facts: Facts) -> dict[str, bool]:
    """For each cost, whether it belongs to the data at hand (scaled when subsampled) or is shared by all data."""
    data = sum(1 << i for i, node in enumerate(facts.inputs) if node.batch is not None)
    local: dict[str, bool] = {}
    for (name, _), fact in facts.costs.items():
        local[name] = local.get(name, False) or bool(fact.dep.nodes & data)
    return local


def data_relations(program: Callable, args: tuple, kwargs: dict[str, Any], what: str) -> DataRelations:
    """Relations of all costs of a program to its data.

    Raises:
        ProgramError: if some costs belong to single data and others do not.
    """
    graph, _ = build(program, args, kwargs, batch_axes=tuple(range(len(args) + len(kwargs))))
    facts = graph.raw_facts
    sizes = {node.batch for node in facts.inputs if node.batch is not None}
    rels = {name: datum_relation(facts, fact.dep) for (name, _), fact in facts.costs.items()}
    aligned = {name: r for name, r in rels.items() if r is not None and r[0] is not None}
    if not aligned or len(sizes) != 1:
        return DataRelations(1, dict.fromkeys(rels, (None,)))
    for name, r in rels.items():
        if name not in aligned:
            how = "does not depend on the data" if r is None else "mixes the data"
            loss = next((loss for loss in facts.losses.values() if loss.node < 1 << len(facts.inputs)), None)
            where = f" (in `{loss.primitive}`, {loss.source})" if r is not None and loss is not None else ""
            raise ProgramError(
                f"{what} needs the weight of each datum, but cost '{name}' {how}{where}, while others belong to single "
                "data. Use latents of each datum only, or one particle (`elbax.ELBO`)."
            )
    return DataRelations(sizes.pop(), aligned)


def data_axes(program: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, int | str | None]:
    """For each cost of a program, the axis of its data; `None` if all data share it, `"mixed"` if there is none."""
    graph, _ = build(program, args, kwargs, batch_axes=tuple(range(len(args) + len(kwargs))))
    found: dict[str, int | str | None] = {}
    for (name, _), fact in graph.raw_facts.costs.items():
        rels = datum_relation(graph.raw_facts, fact.dep)
        align = None if rels is None else rels[0]
        whole = align is not None and (align.low, align.high) == (0, 0) and align.size == fact.shape[align.dim]
        found[name] = None if rels is None else align.dim if align is not None and whole else "mixed"
    return found


def sum_per_datum_parts(
    costs: Mapping[str, jax.Array], relations: Mapping[tuple[str, int], Rels | None], num_data: int
) -> jax.Array:
    """The sum of all costs of each datum, from the terms of costs as an evaluation records them.

    Terms that do not depend on the data are shared by them in equal parts. Shape `[num_data]`.
    """
    total = jnp.zeros(num_data)
    for (name, part), rels in relations.items():
        value = costs[cost_key(name, part)]
        total = total + (jnp.sum(value) / num_data if rels is None else credit(value, rels, (num_data,)))
    return total


def sum_per_datum(costs: Mapping[str, jax.Array], relations: DataRelations) -> jax.Array:
    """The sum of all costs of each datum. Shape `[num_data]`."""
    parts = [credit(value, relations.rels[name], (relations.num_data,)) for name, value in costs.items()]
    return sum(parts[1:], parts[0])
