"""Programs by exact expectation: every outcome of every discrete node, quadrature over the noise of every Normal.

`exact_gradient` differentiates the enumerated expectation of the costs and knows nothing of estimators.
`expected_estimate` enumerates the expectation of the gradient *estimate*: it calls `elbax.value_and_grad` as ever, with
the draw of each node forced to each outcome in turn. The two agree to rounding if and only if the estimator is
unbiased, so these tests have no false alarms and no tolerance beyond rounding.

A Normal is `loc + scale * noise` with the noise at the nodes of the Gauss-Hermite rule, which is exact for polynomials
of degree `2 * NUM_NODES - 1`, and to rounding for most costs and logits of these tests.
"""

import itertools
import math
from contextlib import contextmanager
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import elbax
from elbax.estimators import plan as plans
from elbax.estimators.ghost import sum_of
from elbax.estimators.plan import Plan, make_plan
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import evaluate
from elbax.graph.graph import abstract_distribution

MAX_OUTCOMES = 2**12
NUM_NODES = 14
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(NUM_NODES)
LOG_WEIGHTS = np.log(WEIGHTS / WEIGHTS.sum())


def support_size(plan: Plan, name: str) -> int | None:
    """How many values a node takes; `None` for a Normal."""
    dist = abstract_distribution(plan.facts.samples[name].equation)
    if dist.name == "Normal":
        return None
    return 2 if dist.name == "Bernoulli" else dist.one.enumerate_support(expand=False).shape[0]


def outcomes(plan: Plan) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All joint outcomes, one row each: of each node in its shape the value, or the noise of a Normal.

    Also the log-weight of each row's noise.
    """
    sizes = {name: support_size(plan, name) for name in plan.facts.samples}
    shapes = {name: plan.facts.samples[name].shape for name in sizes}
    columns = [
        range(NUM_NODES if (n := sizes[name]) is None else n) for name in sizes for _ in np.ndindex(shapes[name])
    ]
    total = math.prod(len(c) for c in columns)
    assert total <= MAX_OUTCOMES, f"{total} outcomes are too many to enumerate"
    table = np.array(list(itertools.product(*columns)), dtype=np.int64).reshape(total, len(columns))
    rows, log_weights, start = {}, np.zeros(total), 0
    for name, size in sizes.items():
        n = math.prod(shapes[name])
        picked = table[:, start : start + n]
        start += n
        if size is None:
            log_weights += LOG_WEIGHTS[picked].sum(1)
            picked = NODES[picked]
        dtype = plan.facts.samples[name].value_dtype
        rows[name] = picked.reshape(total, *shapes[name]).astype(dtype)
    return rows, log_weights


def forced(dist: Lifted, outcome: jax.Array) -> jax.Array:
    """The draw that belongs to an outcome."""
    if dist.name == "OneHotCategorical":
        return jax.nn.one_hot(outcome.astype(int), *dist.event_shape)
    return dist.over(lambda d, noise: d.loc + d.scale * noise, outcome) if dist.name == "Normal" else outcome


@contextmanager
def forced_draws(rows):
    """Every node is drawn as `rows` say: they take the place of the keys, and a draw turns its key into a value."""

    def draws(original, make):
        def method(self, key, **options):
            return original(self, key, **options) if _is_key(key) else make(self, forced(self, key))

        return method

    def with_log_prob(dist, value):
        return value, dist.log_prob(value)

    with (
        mock.patch.object(plans, "site_keys", return_value=rows),
        mock.patch.object(Lifted, "sample", draws(Lifted.sample, lambda dist, value: value)),
        mock.patch.object(Lifted, "rsample", draws(Lifted.rsample, lambda dist, value: value)),
        mock.patch.object(Lifted, "draw_with_log_prob", draws(Lifted.draw_with_log_prob, with_log_prob)),
    ):
        yield


def _is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _outcome(plan: Plan, values, log_weight, arrays):
    """Of one outcome: the sum of all costs, and the log-probability."""

    def on_sample(eq, dist, outcome):
        value = forced(dist, outcome)
        # A node in a branch that is not taken records zeros: all its outcomes stand for the same run.
        return value, dist.log_prob(value), (dist.density(value), jnp.ones(dist.shape))

    _, records = evaluate(plan.block, arrays, on_sample, values)
    total = sum_of([jnp.sum(c) for c in records.costs.values()])
    for name, (log_prob, taken) in records.samples.items():
        if (size := support_size(plan, name)) is not None:
            log_weight = log_weight + jnp.sum(jnp.where(taken > 0, log_prob, -math.log(size)))
    return total, log_weight


def exact_gradient(program, *args, argnums=0):
    """The exact expected cost, its gradient, and the probability of each outcome."""
    plan = make_plan(program, None, args, {})
    rows, log_weights = outcomes(plan)

    def expected(arrays):
        totals, log_p = jax.vmap(lambda values, w: _outcome(plan, values, w, arrays))(rows, log_weights)
        return jnp.sum(jnp.exp(log_p) * totals), jnp.exp(log_p)

    (value, probs), grads = jax.jit(jax.value_and_grad(expected, has_aux=True))(plan.graph.arguments.arrays)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-9)
    owners = plan.graph.arguments.owners
    return value, [g for g, owner in zip(grads, owners, strict=True) if owner == argnums], probs


def expected_estimate(program, *args, estimators=None, argnums=0, probs=None):
    """Exact expectations of the value and the gradient estimate, and the variance of its elements, summed."""
    if probs is None:
        _, _, probs = exact_gradient(program, *args, argnums=argnums)
    rows, _ = outcomes(make_plan(program, estimators, args, {}))
    run = elbax.value_and_grad(program, estimators, argnums=argnums)

    def one(values):
        with forced_draws(values):
            value, grads = run(jax.random.key(0), *args)
        return value, jax.tree.leaves(grads)

    values, grads = jax.jit(jax.vmap(one))(rows)
    means = [jnp.tensordot(probs, g, 1) for g in grads]
    squares = [jnp.tensordot(probs, g**2, 1) for g in grads]
    variance = sum(float(jnp.sum(s - m**2)) for s, m in zip(squares, means, strict=True))
    return jnp.dot(probs, values), means, variance


def assert_unbiased(program, *args, estimators=None, argnums=0, rtol=1e-9):
    """The expectations of value and estimate are cost and gradient, to rounding. Returns the estimate's variance."""
    exact_value, exact, _ = exact_gradient(program, *args, argnums=argnums)
    value, mean, variance = expected_estimate(program, *args, estimators=estimators, argnums=argnums)
    assert any(np.abs(g).max() > 1e-3 for g in exact), "a zero gradient proves nothing"
    np.testing.assert_allclose(value, exact_value, rtol=1e-9)
    for m, e in zip(mean, exact, strict=True):
        np.testing.assert_allclose(m, e, rtol=rtol, atol=0.1 * rtol)
    return variance
