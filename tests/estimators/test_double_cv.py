"""Double control variates: exact over all draws, unbiased on every construct, without variance for linear costs."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators.plan import make_plan
from tests.oracles import binary
from tests.oracles.binary import LOGITS
from tests.oracles.cases import BINARY, assert_estimator, ids, inside_grad, over_data
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

ALL = [elbax.DoubleCV(2), elbax.DoubleCV(3), elbax.DoubleCV(4, alpha=-0.6)]
PROBED = [c for c in BINARY if not c.loop]


def estimates(program, estimator, k, node="logits"):
    """The estimate of every outcome of all draws, and the probabilities."""
    rows, weights = binary.independent(k)
    run = elbax.value_and_grad(program, {"b": estimator})

    def one(row):
        with mock.patch.object(jax.random, "logistic", return_value=row):
            return run(jax.random.key(0), jnp.asarray(LOGITS), node)[1]

    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(rows))), weights


@pytest.mark.parametrize("node", [n for n in binary.NODES if "copied" not in n])
def test_exact_over_two_draws(node):
    found, weights = estimates(binary.program, elbax.DoubleCV(2, alpha=-0.6), 2, node)
    np.testing.assert_allclose(weights @ found, binary.exact(LOGITS), rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3])
def test_exact_where_elements_share_costs_in_several_ways(k):
    found, weights = estimates(binary.three_kinds, elbax.DoubleCV(k), k)
    np.testing.assert_allclose(weights @ found, binary.exact(LOGITS, binary.three_kinds_cost), rtol=1e-11)


def test_linear_costs_have_no_variance():
    def linear(logits, node):
        b = elbax.sample("b", binary.NODES[node](logits))
        shared = jnp.log(jnp.exp(jnp.dot(b, binary.C)))  # a sum over elements that is not taken apart
        return {"shared": shared, "own": b * jnp.array([2.0, 0.3, -1.0])}

    found, _ = estimates(linear, elbax.DoubleCV(2, alpha=-1.0), 2)
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=1e-12)


def test_without_control_variates_it_is_leave_one_out():
    found, weights = estimates(binary.three_kinds, elbax.DoubleCV(2, alpha=0.0), 2)
    variance = weights @ found**2 - (weights @ found) ** 2
    run = elbax.value_and_grad(binary.three_kinds, {"b": elbax.RLOO(2)})
    samples = repeat(lambda key: run(key, jnp.asarray(LOGITS))[1], 20_000)
    np.testing.assert_allclose(variance, samples.var(0), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("case", PROBED, ids=ids)
def test_unbiased(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
def test_unbiased_within_other_transformations(wrap):
    assert_estimator(BINARY[3], ALL[1], wrap=wrap)


@pytest.mark.parametrize("case", [BINARY[3], BINARY[5]], ids=ids)
def test_unbiased_in_short(case):
    assert_estimator(case, ALL[0], num=40_000, resolution=0.25)


def decoder(logits):
    """Two data with ten bits each, decoded by a small network."""
    b = elbax.sample("b", dist.Bernoulli(logits=logits))
    w, v = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(10, 8), (8, 20)]))
    x = jnp.linspace(0.0, 1.0, 40).reshape(2, 20) > 0.4
    elbax.observe("x", dist.Bernoulli(logits=jnp.tanh(b @ w / 3) @ v / 3), x.astype(float))


def variance(estimator, num=2000):
    logits = jnp.linspace(-2.0, 2.0, 20).reshape(2, 10)
    run = elbax.value_and_grad(decoder, {"b": estimator})
    return float(repeat(lambda key: run(key, logits)[1], num).var(0).sum())


def test_variances_are_in_the_order_of_theory():
    two, three, plain = variance(elbax.DoubleCV(2)), variance(elbax.DoubleCV(3)), variance(elbax.RLOO(2))
    assert three < two < 0.3 * plain


def test_alpha_follows_the_squared_gradient_down():
    """From the wrong sign to the neighbourhood of -1, where the variance is least."""
    logits = jnp.linspace(-2.0, 2.0, 20).reshape(2, 10)
    plan = make_plan(decoder, {"b": elbax.DoubleCV(2, learning_rate=0.02)}, (logits,), {})
    state = plan.init(jax.random.key(1))
    assert float(state["b"].alpha) == -1.0
    state = {"b": state["b"]._replace(alpha=jnp.array(1.0))}

    def step(state, key):
        (_, outcome), grads = jax.value_and_grad(lambda x: plan.estimate(key, [x], {}, state), has_aux=True)(logits)
        return outcome.states, (outcome.states["b"].alpha, jnp.sum(grads**2))

    state, (alphas, squares) = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        state, jax.random.split(jax.random.key(0), 600)
    )
    assert -1.3 < float(alphas[-200:].mean()) < -0.7
    assert float(squares[-200:].mean()) < 0.3 * float(squares[:50].mean())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_saturated_logits(dtype):
    logits = jnp.array([-40.0, 40.0, 0.5], dtype)
    run = elbax.value_and_grad(binary.program, {"b": ALL[1]})
    for node in ("logits", "probs"):
        eager = [run(jax.random.key(i), logits, node)[1] for i in range(2)]
        compiled = [jax.jit(run, static_argnums=2)(jax.random.key(i), logits, node)[1] for i in range(2)]
        assert np.isfinite(eager).all()
        np.testing.assert_allclose(eager, compiled, rtol=1e-4 if dtype == jnp.float32 else 1e-12, atol=1e-12)


def test_refusals():
    def normal(theta):
        return elbax.sample("z", dist.Normal(theta, 1.0)) ** 2

    with pytest.raises(EstimatorError, match="its distribution Normal is not Bernoulli"):
        elbax.surrogate(normal, {"z": ALL[0]})(jax.random.key(0), 0.3)
    with pytest.raises(EstimatorError, match="it stands in a loop of 5 steps"):
        elbax.surrogate(BINARY[6].program, {"s": ALL[0]})(jax.random.key(0), jnp.asarray(LOGITS))
    with pytest.raises(ConfigError, match=r"DoubleCV\(num_samples=1\)"):
        elbax.DoubleCV(1)
    with pytest.raises(ConfigError, match=r"DoubleCV\(learning_rate=0\)"):
        elbax.DoubleCV(learning_rate=0)
