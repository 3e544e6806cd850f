"""Log-weights of every datum, evaluated: `log_w = log p(x, z) - log q(z | x)` with `z` from the guide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from elbax.bounds.elbo import ELBO
from elbax.bounds.per_datum import datum_relation, sum_per_datum_parts
from elbax.errors import ProgramError
from elbax.estimators.plan import Plan
from elbax.graph.graph import build
from elbax.graph.relations import Rels
from elbax.graph.tracing import Arguments

__all__ = ["log_weight_function"]


def log_weight_function(model: Callable, guide: Callable, batch: tuple) -> Callable[[jax.Array, Any, tuple], jax.Array]:
    """A function `(key, bound, batch) -> log_w [num_data]` for batches of the shapes of `batch`.

    Args:
        model: program with observed sites.
        guide: program with the model's latent sites.
        batch: example arguments, arrays with one row per datum.

    Returns:
        The function; its `bound` argument is `elbax.ELBO(model, guide, analytic_kl=False)` with any parameters.

    Raises:
        ProgramError: if some costs do not belong to single data (a latent shared by all data, batch normalisation).
    """
    bound = ELBO(model, guide, analytic_kl=False)
    graph, _ = build(_call, (bound, *batch), {}, batch_axes=tuple(range(1, 1 + len(batch))))
    num_data = jax.tree.leaves(batch)[0].shape[0]
    # Costs that are aligned with the data as they stand are taken as they stand; sums over the data are split.
    block, facts = graph.program, graph.raw_facts
    if not all(_aligned(datum_relation(facts, fact.dep)) for fact in facts.costs.values()):
        block, facts = graph.block, graph.facts
    relations = {part: datum_relation(facts, fact.dep) for part, fact in facts.costs.items()}
    samples = sum(1 << fact.index for fact in facts.samples.values())
    for (name, part), rels in relations.items():
        # A constant that splitting took off a sum over the data belongs to all of them alike.
        constant = not facts.costs[name, part].dep.nodes & samples and rels is None
        off_a_sum = any(_aligned(r) for (other, _), r in relations.items() if other == name)
        if num_data > 1 and not _aligned(rels) and not (constant and off_a_sum):
            how = "does not depend on the data" if rels is None else "mixes the data"
            raise ProgramError(
                f"the weight of each datum is not defined: cost '{name}' {how}, so it cannot be told to which datum it "
                "belongs. Evaluate models with latents shared by all data on the whole data set at once."
            )
    plan = Plan.forward(graph, block, facts)

    def log_weights(key: jax.Array, bound: Any, batch: tuple) -> jax.Array:
        records = plan.run(key, Arguments.of(_call, (bound, *batch), {}).arrays)
        return -sum_per_datum_parts(records.costs, relations, num_data)

    return log_weights


def _aligned(rels: Rels | None) -> bool:
    return rels is not None and rels[0] is not None


def _call(bound: ELBO, *batch: Any) -> None:
    bound(*batch)
