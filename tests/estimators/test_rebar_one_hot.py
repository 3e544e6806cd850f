"""REBAR and RELAX for one-hot nodes: exact by quadrature, the binary ones for two categories, unbiased in programs."""

from dataclasses import replace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax import lax

import elbax
from elbax.errors import EstimatorError
from elbax.estimators.lab.candidates import candidates_of
from elbax.estimators.plan import make_plan
from tests.oracles.cases import ONE_HOT, Case, assert_estimator, ids, inside_grad, one_hot, over_data
from tests.oracles.programs import THETA
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

REBAR, RELAX = elbax.REBAR(temperature=0.4, scale=0.6), elbax.RELAX()
ALL = [REBAR, RELAX]
TABLE = np.array([0.9, -1.2, 0.4])


def cost_of(v):
    return jnp.exp(0.8 * v @ TABLE) + (v @ jnp.array([0.3, -0.5, 1.0])) ** 3 + v[0] * v[1]


def one(theta):
    return cost_of(elbax.sample("k", one_hot(theta)))


def plate(theta):
    """Three data of two elements each, which share costs within a datum, and have some of their own."""
    k = elbax.sample("k", one_hot(jnp.linspace(-1.0, 2.0, 6).reshape(3, 2, 1) * theta))
    u = k @ TABLE
    elbax.cost("shared", jnp.sin(u[:, 0] - 2 * u[:, 1]) * theta[1])
    elbax.cost("own", (u - 0.4) ** 2)


def lanes(theta):
    def lane(x):
        return jnp.sin(cost_of(elbax.sample("k", one_hot(theta * x))))

    return jax.vmap(lane)(jnp.array([0.5, -1.0, 2.0]))


def normal_below(theta):
    k = elbax.sample("k", one_hot(theta))
    z = elbax.sample("z", dist.Normal(k @ TABLE, 0.5))
    return {"first": z**2 * theta[0] + z, "second": (k @ theta) ** 2}


def branches(theta):
    """Of the nodes in the branches, one is drawn in each run."""
    a = elbax.sample("a", dist.Bernoulli(logits=theta[0]))
    left = lambda: cost_of(elbax.sample("b", one_hot(theta)))  # noqa: E731
    right = lambda: jnp.sin(elbax.sample("c", one_hot(-theta * jnp.ones((2, 1)))) @ TABLE).sum()  # noqa: E731
    return lax.cond(a == 1, left, right) ** 2


CASES = [
    Case("plate", plate, ("k",)),
    Case("one", one, ("k",)),
    Case("vmap", lanes, ("k",)),
    Case("normal below", normal_below, ("k",)),
    Case("cond", branches, ("b", "c")),
    replace(ONE_HOT[0], sites=("b",)),
]

# ------------------------------------------------------------------------------------------ over all noise


def with_network(estimator, program=one, theta: Any = THETA):
    """The plan, and its first states; a network that is not zero."""
    plan = make_plan(program, {"k": estimator}, (jnp.asarray(theta),), {})
    states = plan.init(jax.random.key(0))
    if "out" in states["k"].params:
        states["k"].params["out"] = jax.random.normal(jax.random.key(1), (100,)) / 10
    return plan, states


def gradient(plan, states, noise, theta: Any = THETA):
    with mock.patch.object(jax.random, "gumbel", return_value=noise):
        return jax.grad(lambda x: plan.estimate(jax.random.key(0), [x], {}, states)[0])(jnp.asarray(theta))


def exponentials():
    """Three exponentials, as their sum and their shares in it: logarithms, and weights."""
    share, total = np.arange(-22.0, 22.4, 0.6), np.arange(-7.0, 4.5, 0.3)
    x, y, t = (x.ravel() for x in np.meshgrid(share, share, total, indexing="ij"))
    log_u, log_rest, log_v, log_w = (-np.logaddexp(0, -s) for s in (x, -x, y, -y))
    weights = 0.6**2 * 0.3 * np.exp(log_u + 2 * log_rest + log_v + log_w + 3 * t - np.exp(t))
    return np.stack([log_u, log_rest + log_v, log_rest + log_w], axis=1) + t[:, None], weights


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_exact_by_quadrature(estimator):
    """The estimate is a sum of a function of `z` and one of the draw and `zt`, so that given the draw both may run
    over the same points."""
    plan, states = with_network(replace(estimator, temperature=0.6))
    log_e, weights = exponentials()
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-8)
    log_p = np.asarray(jax.nn.log_softmax(jnp.asarray(THETA)))
    run = jax.jit(jax.vmap(lambda noise: gradient(plan, states, noise)))
    total = 0.0
    for k in range(3):
        z = -np.logaddexp(log_e - log_p, log_e[:, k : k + 1])
        z[:, k] = -log_e[:, k]
        total += np.exp(log_p[k]) * weights @ np.asarray(run(jnp.asarray(np.stack([z - log_p, -log_e], axis=1))))
    exact = jax.grad(lambda a: jax.nn.softmax(a) @ jax.vmap(cost_of)(jnp.eye(3)))(jnp.asarray(THETA))
    np.testing.assert_allclose(total, exact, rtol=1e-7)


def test_two_categories_are_the_binary_estimator():
    """The same estimate for the same noise: the difference of two Gumbels is logistic."""
    theta, gumbel = jnp.array([0.7, -0.4]), jax.random.gumbel(jax.random.key(2), (50, 2, 2))
    f = lambda b: jnp.exp(0.8 * b) + jnp.sin(2 * b)  # noqa: E731
    two = make_plan(lambda a: f(elbax.sample("k", one_hot(a))[1]), {"k": REBAR}, (theta,), {})
    binary = make_plan(lambda a: f(elbax.sample("k", dist.Bernoulli(logits=a))), {"k": REBAR}, (theta[1],), {})
    states = two.init(jax.random.key(0))
    found = jax.jit(jax.vmap(lambda noise: gradient(two, states, noise, theta)))(gumbel)
    differences = gumbel[..., 1] - gumbel[..., 0]
    ones = theta[1] - theta[0] + differences[:, 0] > 0
    logistic = jnp.stack([differences[:, 0], jnp.where(ones, 1, -1) * differences[:, 1]], axis=1)

    def estimate(noise):
        with mock.patch.object(jax.random, "logistic", return_value=noise):
            return jax.grad(lambda x: binary.estimate(jax.random.key(0), [x], {}, states)[0])(theta[1] - theta[0])

    same = jax.jit(jax.vmap(estimate))(logistic)
    assert 5 < ones.sum() < 45
    np.testing.assert_allclose(found, np.stack([-same, same], axis=1), rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------ in programs


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_unbiased(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
def test_unbiased_within_other_transformations(wrap):
    assert_estimator(CASES[0], REBAR, wrap=wrap)


def test_unbiased_in_short():
    assert_estimator(CASES[0], REBAR, num=20_000, resolution=0.3)


NODES = {
    "probs": lambda a: elbax.OneHotCategorical(probs=jax.nn.softmax(a)),
    "expanded": lambda a: one_hot(a).expand([2]),
    "masked": lambda a: one_hot(a).mask(jnp.array([True, False])),
    "event": lambda a: one_hot(a).to_event(1),
    "masked event": lambda a: one_hot(a).to_event(1).mask(jnp.array(False)),
    "logits": one_hot,
}


@pytest.mark.parametrize("node", NODES)
def test_every_kind_of_one_hot_node(node):
    """The same draws give the same gradient, however the node is written."""

    def program(logits, node):
        return jnp.sin(elbax.sample("k", NODES[node](logits)) @ TABLE).sum() ** 2

    run = jax.jit(elbax.value_and_grad(program, {"k": REBAR}), static_argnums=2)
    logits = jnp.array([[0.7, -0.4, 0.3], [0.1, 1.2, -0.8]])
    found, same = (run(jax.random.key(0), logits, n)[1] for n in (node, "logits"))
    np.testing.assert_allclose(found, same, rtol=1e-9)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_saturated_and_impossible_categories(estimator, dtype):
    """Gradients, and what is learned, are finite."""

    def program(theta):
        k = elbax.sample("k", one_hot(jnp.stack([jnp.append(theta, -jnp.inf), jnp.append(-theta, 1.0)])))
        return jnp.sum((k[:, :3] @ theta) ** 2 * 1e-2) + jnp.sin(k[:, 3]).sum()

    theta = jnp.asarray([40.0, -40.0, 0.0], dtype)
    plan, states = with_network(estimator, program, theta)

    def run(key, theta):
        step = lambda x: plan.estimate(key, [x], {}, states)  # noqa: E731
        (_, outcome), grad = jax.value_and_grad(step, has_aux=True)(theta)
        return grad, outcome.states

    keys = jax.random.split(jax.random.key(1), 20)
    grads, after = jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, theta)
    assert grads.dtype == dtype
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((grads, after)))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_compiled_as_uncompiled(estimator, key):
    run = elbax.value_and_grad(plate, {"k": estimator})
    for eager, compiled in zip(run(key, jnp.asarray(THETA)), jax.jit(run)(key, jnp.asarray(THETA)), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-9)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_strict_promotion(estimator):
    """Nothing that the estimator computes is cast, or given axes, silently. Adam's own code casts: SGD stands in."""

    def program(theta):
        k = elbax.sample("k", one_hot(jnp.stack([theta, -theta])))
        u = k @ jnp.asarray(TABLE, k.dtype)
        elbax.cost("own", jnp.sin(u))
        elbax.cost("shared", jnp.sum(u) ** 2)

    strict = jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")
    with jax.enable_x64(False), strict[0], strict[1], mock.patch.object(optax, "adam", optax.sgd):
        theta = jnp.asarray(THETA, jnp.float32)
        loss = elbax.surrogate(program, {"k": estimator})
        state = loss.init(jax.random.key(0), theta)
        step = jax.value_and_grad(lambda t: loss.step(state, jax.random.key(1), t), has_aux=True)
        (_, after), grad = jax.jit(step)(theta)
    assert np.isfinite(grad).all()
    assert float(after["k"].params["scale"]) != float(state["k"].params["scale"])


# ------------------------------------------------------------------------------------------ learning


def data(logits):
    """Twelve data with two elements of four categories each, which share costs within a datum."""
    k = elbax.sample("k", one_hot(logits))
    w = jnp.array([[1.0, -0.7, 0.4, 1.3], [0.2, 0.9, -1.1, 0.5]])
    elbax.cost("fit", ((k * w).sum((1, 2)) - jnp.linspace(-1.0, 2.0, 12)) ** 2)


LOGITS = np.linspace(-1.5, 1.5, 96).reshape(8, 12).T.reshape(12, 2, 4)


def trained(estimator, steps=800):
    """The state after some steps at fixed logits."""
    plan = make_plan(data, {"k": estimator}, (jnp.asarray(LOGITS),), {})

    def step(states, key):
        return plan.estimate(key, [jnp.asarray(LOGITS)], {}, states)[1].states, None

    keys = jax.random.split(jax.random.key(0), steps)
    return plan, jax.jit(lambda s: jax.lax.scan(step, s, keys)[0])(plan.init(jax.random.key(1)))


def variance(plan, states, num=2000):
    def one(key):
        return jax.grad(lambda x: plan.estimate(key, [x], {}, states)[0])(jnp.asarray(LOGITS))

    return float(repeat(one, num, jax.random.key(5)).var(0).sum())


@pytest.mark.slow
def test_learning_lowers_the_variance():
    """RELAX learns more than REBAR, and REBAR more than it starts with; all beat the score function."""
    plan, states = trained(elbax.REBAR(scale=0.4, learning_rate=0.01))
    before, rebar = variance(plan, plan.init(jax.random.key(1))), variance(plan, states)
    relax = variance(*trained(elbax.RELAX(scale=0.4, learning_rate=0.01)))
    run = elbax.value_and_grad(data, {"k": elbax.Score()})
    score = repeat(lambda key: run(key, jnp.asarray(LOGITS))[1], 2000).var(0).sum()
    assert relax < 0.95 * rebar
    assert rebar < 0.8 * before
    assert before < 0.8 * score


def test_what_is_held_does_not_move():
    _, states = trained(elbax.REBAR(learning_rate=0.0), steps=3)
    np.testing.assert_allclose(jnp.exp(states["k"].params["log_temperature"]), 0.5)
    assert float(states["k"].params["scale"]) == 1.0


# ------------------------------------------------------------------------------------------ refusals


def test_refusals(key):
    theta = jnp.asarray(THETA)

    def index(theta):
        return theta[elbax.sample("k", dist.Categorical(logits=theta))]

    def normal(theta):
        return elbax.sample("k", dist.Normal(theta, 1.0)).sum()

    def jumps(theta):
        return jnp.floor(elbax.sample("k", one_hot(theta)) @ TABLE)

    for estimator in ALL:
        for program, reason in (
            (index, r"cannot use RE.*values are indices, .* Sample an `elbax.OneHotCategorical`"),
            (normal, r"cannot use RE.*its distribution Normal is not Bernoulli or OneHotCategorical"),
            (jumps, r"cannot use RE.*it goes through `floor`"),
        ):
            with pytest.raises(EstimatorError, match=reason):
                elbax.surrogate(program, {"k": estimator})(key, theta)
        with pytest.raises(EstimatorError, match="'b', which it influences, is drawn without derivative"):
            elbax.surrogate(ONE_HOT[0].program, {"a": estimator})(key, theta)


def test_laboratory_tries_them():
    plan = make_plan(one, {"k": REBAR}, (jnp.asarray(THETA),), {})
    tried = candidates_of(plan.sites["k"])
    assert all(any(isinstance(e, kind) for e in tried) for kind in (elbax.REBAR, elbax.RELAX))
