"""A surrogate whose derivatives of every order estimate those of the expected cost.

    L = sum_c c * exp(tau_c - stop_gradient(tau_c)),     tau_c = sum over the nodes w that influence c of log p(w)

Every derivative of the factor brings down the score of what the cost was drawn from, as differentiating the expectation
would. A baseline enters as `(1 - exp(log p(w) - stop_gradient(log p(w)))) * b`, whose value is zero and whose
derivatives of every order have expectation zero. Only score-function, pathwise and fixed nodes have this form: coupled
and probing estimators are made for one derivative.

Source: Foerster et al., DiCE: The Infinitely Differentiable Monte Carlo Estimator, ICML 2018; baselines: Mao et al., A
Baseline for Any Order Gradient Estimation in Stochastic Computation Graphs, ICML 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from elbax.errors import EstimatorError
from elbax.estimators.choose import describe
from elbax.estimators.fixed import Fixed
from elbax.estimators.ghost import sum_of
from elbax.estimators.pathwise import Pathwise
from elbax.estimators.plan import Plan
from elbax.estimators.score import NoBaseline, Score, Stated
from elbax.graph.evaluate import cost_key
from elbax.graph.influence import spread

__all__ = ["check_higher_order", "higher_order_loss"]


def check_higher_order(plan: Plan) -> None:
    """Refuses estimators that are made for one derivative.

    Raises:
        EstimatorError: naming the node.
    """
    for name, choice in plan.chosen.items():
        estimator, site = choice.estimator, plan.sites[name]
        plain = isinstance(estimator, Score) and isinstance(estimator.baseline, (NoBaseline, Stated))
        smooth = isinstance(estimator, Pathwise) and not estimator.stick
        single = estimator.num_replicas == 1
        if not (single and (plain or smooth)) and not isinstance(estimator, Fixed):
            raise EstimatorError(
                f"site '{name}' ({site.source}) is {describe(estimator)}, which estimates a first derivative only. For "
                "higher orders use `elbax.Score()`, with a baseline that the program states, or `elbax.Pathwise()`."
            )


def higher_order_loss(plan: Plan, key: jax.Array, arrays: Sequence[Any]) -> jax.Array:
    """The surrogate loss of one run; its value is the sum of the costs."""
    run = plan.one_run(key, arrays)
    facts, records = plan.facts, run.records
    scores = {n: records.samples[n] for n, c in plan.chosen.items() if isinstance(c.estimator, Score)}
    terms = []
    for (name, part), fact in facts.costs.items():
        cost, taus = records.costs[cost_key(name, part)], []
        for node, score in scores.items():
            rels = fact.dep.rels(facts.samples[node].index)
            if rels is not None:
                taus.append(spread(score, rels, fact.shape))
        terms.append(jnp.sum(cost * magic(sum(taus[1:], taus[0])) if taus else cost))
    for node, score in scores.items():
        baseline = plan.baseline(node, records)
        estimator = plan.chosen[node].estimator
        if baseline is not None and isinstance(estimator, Score) and isinstance(estimator.baseline, Stated):
            terms.append(jnp.sum((1.0 - magic(score)) * baseline))
    return sum_of(terms)


def magic(tau: jax.Array) -> jax.Array:
    """One, whose derivative is that of `tau`."""
    return jnp.exp(tau - jax.lax.stop_gradient(tau))
