"""RODEO: exact over all draws whatever its functions are, unbiased on every construct; learning lowers its variance."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators import rodeo
from elbax.estimators.plan import make_plan
from tests.oracles import binary
from tests.oracles.binary import LOGITS
from tests.oracles.cases import BINARY, assert_estimator, ids, inside_grad, over_data
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

PROBED = [c for c in BINARY if not c.loop]


def with_any_functions(states):
    """A network whose outputs are not small, and moments that are not zero."""
    out = jax.random.normal(jax.random.key(7), states["b"].params["out"].shape) / 5
    params = {**states["b"].params, "out": out, "linear": jnp.array([0.3, 0.8])}
    return {"b": states["b"]._replace(params=params, moments=jnp.array([0.9, 0.4, 1.3, 0.7]))}


def estimates(program, k, node="logits", change=with_any_functions):
    """The estimate of every outcome of all draws, and the probabilities."""
    rows, weights = binary.independent(k)
    logits = jnp.asarray(LOGITS)
    plan = make_plan(program, {"b": elbax.RODEO(k)}, (logits, node), {})
    states = change(plan.init(jax.random.key(0)))

    def one(row):
        with mock.patch.object(jax.random, "logistic", return_value=row):
            return jax.grad(lambda x: plan.estimate(jax.random.key(0), [x], {}, states)[0])(logits)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(rows))), weights


@pytest.mark.parametrize("node", [n for n in binary.NODES if "copied" not in n])
def test_exact_over_two_draws(node):
    found, weights = estimates(binary.program, 2, node)
    np.testing.assert_allclose(weights @ found, binary.exact(LOGITS), rtol=1e-11)


@pytest.mark.parametrize("k", [2, 3])
def test_exact_where_elements_share_costs_in_several_ways(k):
    found, weights = estimates(binary.three_kinds, k)
    np.testing.assert_allclose(weights @ found, binary.exact(LOGITS, binary.three_kinds_cost), rtol=1e-11)


def linear(logits, node):
    """A sum over elements that is not taken apart."""
    return jnp.log(jnp.exp(jnp.dot(elbax.sample("b", binary.NODES[node](logits)), binary.C)))


def test_linear_costs_have_exact_baselines_to_start_with():
    """`w . (b - s)` is what the score of each draw is multiplied with."""
    found, _ = estimates(linear, 2, change=lambda states: states)
    s = 1 / (1 + np.exp(-LOGITS))
    score = (binary.independent(2)[0] > 0) - s
    np.testing.assert_allclose(found, ((score @ binary.C)[..., None] * score).mean(1), rtol=1e-10)


def test_linear_costs_can_have_only_the_variance_of_each_element():
    """With half the second argument for both functions: `w (1 - s) / 2` for a one and `w s / 2` for a zero."""

    def halves(states):
        params = {**states["b"].params, "linear": jnp.array([0.5, 0.5])}
        return {"b": states["b"]._replace(params=params)}

    found, _ = estimates(linear, 2, change=halves)
    s = 1 / (1 + np.exp(-LOGITS))
    rows, _ = binary.independent(2)
    np.testing.assert_allclose(found, (binary.C * np.where(rows > 0, 1 - s, s) / 2).mean(1), rtol=1e-10)


@pytest.mark.slow
def test_in_chunks_the_network_is_the_same(monkeypatch):
    def found():
        plan = make_plan(binary.program, {"b": elbax.RODEO(3)}, (jnp.asarray(LOGITS),), {})
        states = with_any_functions(plan.init(jax.random.key(0)))
        grad = jax.grad(lambda x: plan.estimate(jax.random.key(0), [x], {}, states)[0])(jnp.asarray(LOGITS))
        return grad, plan.estimate(jax.random.key(0), [jnp.asarray(LOGITS)], {}, states)[1].states["b"].params

    whole = found()
    monkeypatch.setattr(rodeo, "CHUNK", 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), whole, found())


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("case", PROBED, ids=ids)
def test_unbiased(case, k):
    assert_estimator(case, elbax.RODEO(k, hidden=8))


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
def test_unbiased_within_other_transformations(wrap):
    assert_estimator(BINARY[3], elbax.RODEO(2, hidden=8), wrap=wrap)


@pytest.mark.parametrize("case", [BINARY[3], BINARY[5]], ids=ids)
def test_unbiased_in_short(case):
    assert_estimator(case, elbax.RODEO(2, hidden=8), num=40_000, resolution=0.25)


def decoder(logits):
    """Eight data with ten bits each, decoded by a small network."""
    b = elbax.sample("b", dist.Bernoulli(logits=logits))
    w, v = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(10, 8), (8, 20)]))
    x = jnp.sin(jnp.arange(160.0)).reshape(8, 20) > 0.4
    elbax.observe("x", dist.Bernoulli(logits=jnp.tanh(b @ w) @ v), x.astype(float))


BITS = np.linspace(-2.0, 2.0, 80).reshape(8, 10)


def variance(estimator, steps=0, num=500):
    """The variance after some steps of learning at fixed logits."""
    plan = make_plan(decoder, {"b": estimator}, (jnp.asarray(BITS),), {})

    def step(states, key):
        return plan.estimate(key, [jnp.asarray(BITS)], {}, states)[1].states, None

    def one(states, key):
        return jax.grad(lambda x: plan.estimate(key, [x], {}, states)[0])(jnp.asarray(BITS))

    states = plan.init(jax.random.key(1))
    states, _ = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(states, jax.random.split(jax.random.key(0), steps))
    return float(repeat(lambda key: one(states, key), num, jax.random.key(5)).var(0).sum())


@pytest.mark.slow
def test_learning_lowers_the_variance_below_that_of_linear_control_variates():
    estimator = elbax.RODEO(2, hidden=30, learning_rate=0.01)
    before, after = variance(estimator), variance(estimator, steps=600)
    linear = variance(elbax.DoubleCV(2, learning_rate=0.01), steps=600)
    plain = variance(elbax.RLOO(2))
    assert after < 0.9 * linear
    assert after < 0.9 * before
    assert linear < plain


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_saturated_logits(dtype):
    logits = jnp.array([-40.0, 40.0, 0.5], dtype)
    run = elbax.value_and_grad(binary.program, {"b": elbax.RODEO(2)})
    for node in ("logits", "probs"):
        eager = run(jax.random.key(1), logits, node)[1]
        compiled = jax.jit(run, static_argnums=2)(jax.random.key(1), logits, node)[1]
        assert np.isfinite(eager).all()
        np.testing.assert_allclose(eager, compiled, rtol=1e-3 if dtype == jnp.float32 else 1e-10, atol=1e-10)


def test_refusals():
    def normal(theta):
        return elbax.sample("z", dist.Normal(theta, 1.0)) ** 2

    with pytest.raises(EstimatorError, match="its distribution Normal is not Bernoulli"):
        elbax.surrogate(normal, {"z": elbax.RODEO()})(jax.random.key(0), 0.3)
    with pytest.raises(EstimatorError, match="it stands in a loop of 5 steps"):
        elbax.surrogate(BINARY[6].program, {"s": elbax.RODEO()})(jax.random.key(0), jnp.asarray(LOGITS))
    for options, name in (({"num_samples": 1}, "num_samples=1"), ({"hidden": 0}, "hidden=0")):
        with pytest.raises(ConfigError, match=rf"RODEO\({name}\)"):
            elbax.RODEO(**options)
    with pytest.raises(ConfigError, match=r"RODEO\(learning_rate=-1\)"):
        elbax.RODEO(learning_rate=-1)
