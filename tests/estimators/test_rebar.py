"""REBAR and RELAX: exact by quadrature over their noise, unbiased where costs are smooth, refused elsewhere."""

from dataclasses import replace
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
from tests.oracles.cases import BINARY, assert_estimator, ids, inside_grad, over_data
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

ALL = [elbax.REBAR(), elbax.REBAR(temperature=0.3, scale=0.6), elbax.RELAX()]
SMOOTH = [
    *(c for c in BINARY if c.name in ("one", "ten under vmap", "plate", "normal, Bernoulli, normal", "windows")),
    replace(next(c for c in BINARY if c.name == "two layers"), sites=("v",)),
    replace(next(c for c in BINARY if c.name == "cond"), sites=("b", "c")),
]
TWO_LAYERS, COND = SMOOTH[-2:]


def one_element(a):
    b = elbax.sample("b", dist.Bernoulli(logits=a))
    return jnp.exp(0.8 * b) + jnp.sin(2 * b)


def quadrature(a):
    """Noise and weights: `u` on either side of the jump, and `v`."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    nodes, weights = (nodes + 1) / 2, weights / 2
    low = 1 / (1 + np.exp(a))
    u = np.concatenate([low * nodes, low + (1 - low) * nodes])
    u_weights = np.concatenate([low * weights, (1 - low) * weights])
    u, v = (x.ravel() for x in np.meshgrid(u, nodes, indexing="ij"))
    noise = np.stack([np.log(u) - np.log1p(-u), np.log(v) - np.log1p(-v)], axis=1)
    return jnp.asarray(noise), np.outer(u_weights, weights).ravel()


@pytest.mark.parametrize("a", [0.7, -1.4])
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_exact_by_quadrature(estimator, a):
    plan = make_plan(one_element, {"b": estimator}, (jnp.asarray(a),), {})
    states = plan.init(jax.random.key(0))
    if "out" in states["b"].params:  # a network that is not zero
        states["b"].params["out"] = jax.random.normal(jax.random.key(1), (100,)) / 10

    def one(noise):
        with mock.patch.object(jax.random, "logistic", return_value=noise):
            return jax.grad(lambda x: plan.estimate(jax.random.key(0), [x], {}, states)[0])(jnp.asarray(a))

    rows, weights = quadrature(a)
    s = 1 / (1 + np.exp(-a))
    exact = s * (1 - s) * (np.exp(0.8) - 1 + np.sin(2.0))
    np.testing.assert_allclose(weights @ np.asarray(jax.vmap(one)(rows)), exact, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL[1:], ids=repr)
@pytest.mark.parametrize("case", SMOOTH, ids=ids)
def test_unbiased(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
def test_unbiased_within_other_transformations(wrap):
    assert_estimator(TWO_LAYERS, ALL[2], wrap=wrap)


@pytest.mark.parametrize("case", [TWO_LAYERS, COND], ids=ids)
def test_unbiased_in_short(case):
    assert_estimator(case, ALL[2], num=40_000, resolution=0.25)


@pytest.mark.parametrize("node", ["probs", "expanded", "masked", "event", "masked event"])
def test_every_kind_of_bernoulli(node):
    """The same draws give the same gradient, however the node is written."""
    run = elbax.value_and_grad(binary.program, {"b": ALL[2]})
    found, same = (run(jax.random.key(0), jnp.asarray(binary.LOGITS), n)[1] for n in (node, "logits"))
    np.testing.assert_allclose(found, same, rtol=1e-9)


def data(logits):
    """Twelve data with four bits each, which share costs within a datum."""
    b = elbax.sample("b", dist.Bernoulli(logits=logits))
    w = jnp.array([1.0, -0.7, 0.4, 1.3])
    elbax.cost("fit", (b @ w - jnp.linspace(-1.0, 2.0, 12)) ** 2)


LOGITS = np.linspace(-2.0, 2.0, 48).reshape(12, 4)


def trained(estimator, steps=800):
    """The state after some steps at fixed logits."""
    plan = make_plan(data, {"b": estimator}, (jnp.asarray(LOGITS),), {})

    def step(states, key):
        return plan.estimate(key, [jnp.asarray(LOGITS)], {}, states)[1].states, None

    keys = jax.random.split(jax.random.key(0), steps)
    return plan, jax.jit(lambda s: jax.lax.scan(step, s, keys)[0])(plan.init(jax.random.key(1)))


def variance(plan, states, num=1000):
    def one(key):
        return jax.grad(lambda x: plan.estimate(key, [x], {}, states)[0])(jnp.asarray(LOGITS))

    return float(repeat(one, num, jax.random.key(5)).var(0).sum())


@pytest.mark.slow
def test_learning_lowers_the_variance():
    """RELAX learns more than REBAR, and REBAR more than it starts with; all beat the score function."""
    plan, states = trained(elbax.REBAR(scale=0.4, learning_rate=0.01))
    before, rebar = variance(plan, plan.init(jax.random.key(1))), variance(plan, states)
    relax = variance(*trained(elbax.RELAX(scale=0.4, learning_rate=0.01)))
    run = elbax.value_and_grad(data, {"b": elbax.Score()})
    score = repeat(lambda key: run(key, jnp.asarray(LOGITS))[1], 1000).var(0).sum()
    assert relax < 0.95 * rebar
    assert rebar < 0.8 * before
    assert before < 0.7 * score


def test_what_is_held_does_not_move():
    _, states = trained(elbax.REBAR(learning_rate=0.0), steps=3)
    np.testing.assert_allclose(jnp.exp(states["b"].params["log_temperature"]), 0.5)
    assert float(states["b"].params["scale"]) == 1.0


@pytest.mark.parametrize("estimator", ALL[1:], ids=repr)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_saturated_logits(estimator, dtype):
    logits = jnp.array([-40.0, 40.0, 0.5], dtype)
    run = elbax.value_and_grad(binary.program, {"b": estimator})
    for node in ("logits", "probs"):
        eager = run(jax.random.key(1), logits, node)[1]
        compiled = jax.jit(run, static_argnums=2)(jax.random.key(1), logits, node)[1]
        assert np.isfinite(eager).all()
        np.testing.assert_allclose(eager, compiled, rtol=1e-3 if dtype == jnp.float32 else 1e-10, atol=1e-10)


def test_refusals():
    def jumps(theta):
        return jnp.floor(elbax.sample("b", dist.Bernoulli(logits=theta)) * 1.5 + 0.7)

    for estimator in ALL[1:]:
        with pytest.raises(EstimatorError, match=r"cannot use RE.*it goes through `floor`"):
            elbax.surrogate(jumps, {"b": estimator})(jax.random.key(0), 0.3)
        with pytest.raises(EstimatorError, match="'v', which it influences, is drawn without derivative"):
            elbax.surrogate(BINARY[3].program, {"h": estimator})(jax.random.key(0), jnp.ones(3))
    with pytest.raises(ConfigError, match=r"REBAR\(temperature=0\)"):
        elbax.REBAR(temperature=0)
    with pytest.raises(ConfigError, match=r"RELAX\(learning_rate=-1\)"):
        elbax.RELAX(learning_rate=-1)
    with pytest.raises(ConfigError, match=r"RELAX\(hidden=0\)"):
        elbax.RELAX(hidden=0)
