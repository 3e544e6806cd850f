"""Finite programs by exact enumeration: every outcome of every discrete node, with its probability.

`exact_gradient` differentiates the enumerated expectation. `expected_estimate` enumerates the expectation of the
gradient *estimate*: it runs the same estimators as ever, with the draw of each node forced to each outcome in turn.
The two agree to rounding if and only if the estimator is unbiased, so these tests have no false alarms and no
tolerance beyond rounding.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from elbax.estimators.base import LogProb
from elbax.estimators.ghost import ghost, sum_of
from elbax.estimators.plan import Plan, Run, make_plan
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Records, evaluate


class Forced(Lifted):
    """A distribution whose draw is given."""

    value: jax.Array

    def __init__(self, lifted, value):
        super().__init__(lifted.structure, lifted.leaves)
        object.__setattr__(self, "value", value)

    def sample(self, key):
        return self.value


def support_sizes(plan: Plan) -> dict[str, int]:
    from elbax.graph.graph import abstract_distribution

    sizes = {}
    for name, fact in plan.facts.samples.items():
        dist = abstract_distribution(fact.equation)
        sizes[name] = 2 if dist.name.startswith("Bernoulli") else dist.one.enumerate_support(expand=False).shape[0]
    return sizes


def outcomes(plan: Plan) -> dict[str, np.ndarray]:
    """All joint outcomes, one row each, in the shape of each node."""
    sizes = support_sizes(plan)
    shapes = {name: plan.facts.samples[name].shape for name in sizes}
    columns = [range(sizes[n]) for n in sizes for _ in range(math.prod(shapes[n]))]
    total = math.prod(len(c) for c in columns)
    assert total <= 2**12, f"{total} outcomes are too many to enumerate"
    table = np.array(list(itertools.product(*columns)), dtype=np.int64).reshape(total, len(columns))
    rows, start = {}, 0
    for name in sizes:
        n = math.prod(shapes[name])
        dtype = plan.facts.samples[name].value_dtype
        rows[name] = table[:, start : start + n].reshape(total, *shapes[name]).astype(dtype)
        start += n
    return rows


def _run(plan: Plan, values, arrays):
    """One run with forced draws: what the estimators record, and the log-probability of the outcome."""
    sizes = support_sizes(plan)

    def on_sample(eq, dist, value):
        draw = plan.chosen[eq.name].estimator.draw(jax.random.key(0), Forced(dist, value), LogProb.of(eq))
        # A node in a branch that is not taken records zeros: all its outcomes stand for the same run.
        taken = jnp.ones(dist.shape)
        return draw.value, draw.log_prob, (draw.aux, dist.log_prob(value), taken)

    _, records = evaluate(plan.block, arrays, on_sample, values)
    log_p = sum_of(
        [
            jnp.sum(jnp.where(taken > 0, log_prob, -math.log(sizes[name])))
            for name, (_, log_prob, taken) in records.samples.items()
        ]
    )
    aux = {name: record[0] for name, record in records.samples.items()}
    return Records(aux, records.costs, records.baselines), log_p


def _total(records):
    return sum_of([jnp.sum(c) for c in records.costs.values()])


def exact_gradient(program, *args, estimators=None, argnums=0):
    """Gradient of the exact expected cost, and that cost."""
    plan = make_plan(program, estimators, args, {})
    rows = outcomes(plan)

    def expected(arrays):
        def one(values):
            records, log_p = _run(plan, values, arrays)
            return jnp.exp(log_p) * _total(records)

        return jnp.sum(jax.vmap(one)(rows))

    value, grads = jax.jit(jax.value_and_grad(expected))(plan.graph.arguments.arrays)
    return value, _of_arguments(plan, grads, argnums)


def expected_estimate(program, *args, estimators=None, argnums=0):
    """Exact expectation of the gradient estimate, and the exact variance of its elements, summed."""
    plan = make_plan(program, estimators, args, {})
    rows = outcomes(plan)

    def estimates(arrays):
        def one(values):
            def loss(arrays):
                records, log_p = _run(plan, values, arrays)
                return ghost(_total(records), plan.terms(Run(records, {}, {}), {}, {})[0]), log_p

            grads, log_p = jax.grad(loss, has_aux=True)(arrays)
            return jnp.exp(log_p), grads

        return jax.vmap(one)(rows)

    weights, grads = jax.jit(estimates)(plan.graph.arguments.arrays)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-9)
    means = [jnp.tensordot(weights, g, 1) for g in grads]
    squares = [jnp.tensordot(weights, g**2, 1) for g in grads]
    variance = sum(float(jnp.sum(s - m**2)) for s, m in zip(squares, means, strict=True))
    return _of_arguments(plan, means, argnums), variance


def _of_arguments(plan, leaves, argnum):
    return [g for g, owner in zip(leaves, plan.graph.arguments.owners, strict=True) if owner == argnum]


def assert_unbiased(program, *args, estimators=None, argnums=0, atol=1e-10):
    """The expectation of the estimate is the gradient, to rounding. Returns the variance of the estimate."""
    _, exact = exact_gradient(program, *args, estimators=estimators, argnums=argnums)
    mean, variance = expected_estimate(program, *args, estimators=estimators, argnums=argnums)
    assert any(np.abs(g).max() > 1e-3 for g in exact), "a zero gradient proves nothing"
    for m, e in zip(mean, exact, strict=True):
        np.testing.assert_allclose(m, e, rtol=1e-9, atol=atol)
    return variance
