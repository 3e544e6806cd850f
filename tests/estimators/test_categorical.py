"""Coupled draws of categorical nodes: exact over every outcome of their own noise, unbiased in whole programs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import expit

import elbax
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators import carms, tree, unordered
from tests.oracles.cases import BINARY, CATEGORICAL, ONE_HOT, assert_estimator, ids, inside_grad, one_hot, over_data
from tests.oracles.statistics import mean_test, repeat

pytestmark = pytest.mark.usefixtures("x64")

LOGITS = np.array([0.4, -1.1, 0.9, 0.1, -0.3])
COSTS = np.array([0.3, -1.2, 2.0, 0.7, -0.4])
TREE, CARMS, SET = elbax.DisARMTree(), elbax.CARMS(2), elbax.Unordered()
ESTIMATORS = [TREE, CARMS, elbax.CARMS(3), SET]


def exact(logits, costs=COSTS):
    p = np.exp(logits) / np.exp(logits).sum()
    return p * (costs[: len(p)] - p @ costs[: len(p)])


# ------------------------------------------------------------------------------------------ over all noise


@pytest.mark.parametrize("num", [2, 3, 4, 5])
def test_tree_is_exact_over_all_noise(num):
    """Between the thresholds of the decisions nothing depends on the noise: one point for each interval is all."""
    logits = jnp.asarray(LOGITS[:num])
    odds = [np.asarray(a) for a in tree.decisions(logits)]
    edges = [np.unique([a[np.isfinite(a)], -a[np.isfinite(a)]]) for a in odds]
    points, weights = [], []
    for e in edges:
        cuts = np.concatenate([[-np.inf], e, [np.inf]])
        middle = np.clip((np.clip(cuts[:-1], -50, 50) + np.clip(cuts[1:], -50, 50)) / 2, -50, 50)
        for _ in range(2):
            points.append(middle)
            weights.append(np.diff(expit(cuts)))
    noise = np.array(list(itertools.product(*points))).reshape(-1, len(edges), 2)
    prob = np.array([np.prod(w) for w in itertools.product(*weights)])
    np.testing.assert_allclose(prob.sum(), 1.0, rtol=1e-12)

    def one(noise):
        first, second, _ = tree.coupled_paths(logits, noise)
        score = jax.grad(lambda x: tree.coupled_paths(x, noise)[2])(logits)
        return first, second, score

    first, second, score = jax.jit(jax.vmap(one))(noise)
    for drawn in (first, second):
        np.testing.assert_allclose(np.bincount(drawn, prob, num), jax.nn.softmax(logits), atol=1e-12)
    estimate = (COSTS[first] - COSTS[second])[:, None] / 2 * score
    np.testing.assert_allclose(prob @ estimate, exact(LOGITS[:num]), atol=1e-12)


@pytest.mark.parametrize(("num", "k"), [(2, 2), (3, 2), (4, 3), (5, 4), (5, 5)])
def test_unordered_is_exact_over_all_sets(num, k):
    log_p = jax.nn.log_softmax(jnp.asarray(LOGITS[:num]))
    p = np.exp(log_p)
    total, mass = np.zeros(num), 0.0
    for order in itertools.permutations(range(num), k):
        chosen = list(order)
        left = 1 - np.concatenate([[0.0], np.cumsum(p[chosen])[:-1]])
        prob = np.prod(p[chosen] / left)
        rest = [i for i in range(num) if i not in chosen]
        outside = jax.nn.logsumexp(log_p[jnp.array(rest, int)]) if rest else jnp.array(-jnp.inf)
        first, baseline = map(np.asarray, unordered.set_weights(log_p[jnp.array(chosen)], outside))
        f = COSTS[chosen]
        scores = np.eye(num)[chosen] - p
        total += prob * (first * (f - baseline @ f)) @ scores
        mass += prob
        if k == num:
            np.testing.assert_allclose((first * (f - baseline @ f)) @ scores, exact(LOGITS[:num]), atol=1e-12)
    np.testing.assert_allclose(mass, 1.0, rtol=1e-12)
    np.testing.assert_allclose(total, exact(LOGITS[:num]), atol=1e-12)


@pytest.mark.parametrize(("num", "n"), [(2, 2), (3, 2), (5, 2), (3, 3), (5, 4)])
def test_carms_pairs_have_the_probabilities_that_it_divides_by(num, n):
    """The joint probabilities of all pairs add up to the marginals, and are those of the draws."""
    p = jax.nn.softmax(jnp.asarray(LOGITS[:num]))
    a, b = (x.ravel() for x in np.meshgrid(range(num), range(num), indexing="ij"))
    indices = jnp.stack([jnp.asarray(a), jnp.asarray(b), *([jnp.asarray(b)] * (n - 2))])
    many = jnp.broadcast_to(p, (num * num, num))
    ratio = np.asarray(carms.pair_weights(many, indices))[0, 1].reshape(num, num)
    assert np.all(np.diag(ratio) == 0)
    joint = np.outer(p, p) / np.where(ratio > 0, ratio, np.inf)
    np.testing.assert_allclose(joint, joint.T, atol=1e-12)
    num_draws = 200_000
    keys = jax.random.split(jax.random.key(n), 2)
    uniforms = carms.antithetic_uniforms(keys[0], n, (num_draws,), jnp.dtype(float))
    order = jax.random.randint(keys[1], (num_draws,), 0, num * (num - 1) // 2)
    drawn = np.asarray(carms.categories(jnp.broadcast_to(p, (num_draws, num)), uniforms, order))
    for row in drawn:
        assert mean_test(np.eye(num)[row], np.asarray(p)).passes
    pairs = np.eye(num * num)[drawn[0] * num + drawn[-1]]
    off = ~np.eye(num, dtype=bool).ravel()
    outcome = mean_test(pairs[:, off], joint.ravel()[off])
    assert outcome.passes, outcome.z
    assert outcome.smallest_bias.max() < 0.01


# ------------------------------------------------------------------------------------------ in programs


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("case", [c for c in [*BINARY, *CATEGORICAL, *ONE_HOT] if not c.loop], ids=ids)
def test_unbiased(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_unbiased_within_other_transformations(estimator, wrap):
    assert_estimator(CATEGORICAL[0], estimator, wrap=wrap)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_unbiased_on_a_chain(estimator):
    assert_estimator(ONE_HOT[0], estimator, num=20_000, resolution=0.3)


def variance_of(program, estimator, num=20_000, name="k"):
    run = elbax.value_and_grad(program, {name: estimator})
    return repeat(lambda key: run(key, jnp.asarray(LOGITS))[1], num, batch=num).var(0).sum()


def lone(theta):
    return jnp.asarray(COSTS)[elbax.sample("k", dist.Categorical(logits=theta))]


@pytest.mark.slow
def test_variances_are_ordered_as_theory_has_it():
    """Draws without replacement beat leave-one-out with as many, negatively dependent ones do from three on. With as
    many as there are categories nothing is left to chance."""
    rloo = {k: variance_of(lone, elbax.RLOO(k)) for k in (2, 3)}
    assert variance_of(lone, elbax.Unordered(2)) < 0.9 * rloo[2]
    assert variance_of(lone, elbax.Unordered(3)) < 0.9 * rloo[3]
    assert variance_of(lone, elbax.Unordered(5)) < 1e-25
    assert variance_of(lone, elbax.CARMS(3)) < 0.9 * rloo[3]
    assert variance_of(lone, TREE) < rloo[2]


def test_two_categories_are_the_binary_estimators(key):
    """DisARM is one and the same as the tree with one decision and as CARMS with one order."""
    theta = jnp.array([0.7, -0.4])

    def program(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta))
        return (jnp.dot(b, jnp.array([1.0, -2.0])) - 0.3) ** 2

    grads = {}
    for estimator in (elbax.DisARM(), TREE, CARMS):
        run = elbax.value_and_grad(program, estimator)
        grads[repr(estimator)] = np.unique(repeat(lambda k, run=run: run(k, theta)[1], 4000).round(9), axis=0)
    first, *others = grads.values()
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", [TREE, CARMS, SET], ids=repr)
def test_saturated_and_impossible_categories(estimator, dtype, key):
    theta = jnp.asarray([40.0, -40.0, 0.0], dtype)

    def program(theta):
        k = elbax.sample("k", dist.Categorical(logits=jnp.stack([theta, jnp.zeros_like(theta)])))
        d = elbax.sample("d", one_hot(jnp.append(theta / 40, -jnp.inf)))
        b = elbax.sample("b", dist.Bernoulli(probs=jnp.clip(theta, 0, 1)))
        return jnp.sum(theta[k] * 0.1) + jnp.dot(d[:3], theta) + jnp.sum(b * theta)

    run = elbax.value_and_grad(program, estimator)
    keys = jax.random.split(key, 20)
    _, grads = jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, theta)
    assert grads.dtype == dtype
    assert np.isfinite(grads).all()


@pytest.mark.parametrize("estimator", [TREE, CARMS, SET], ids=repr)
def test_compiled_as_uncompiled(estimator, key):
    run = elbax.value_and_grad(lone, estimator)
    for eager, compiled in zip(run(key, jnp.asarray(LOGITS)), jax.jit(run)(key, jnp.asarray(LOGITS)), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-9)


def test_evaluations_and_refusals():
    theta, key = jnp.asarray(LOGITS[:3]), jax.random.key(0)

    def normal(theta):
        return elbax.sample("z", dist.Normal(theta, 1.0))

    def few(theta):
        return theta[elbax.sample("z", dist.Categorical(logits=theta))]

    for estimator in ESTIMATORS:
        with pytest.raises(EstimatorError, match="Normal is not Bernoulli, Categorical or OneHotCategorical"):
            elbax.value_and_grad(normal, {"z": estimator})(key, theta)
    with pytest.raises(EstimatorError, match="3 categories, fewer than 4"):
        elbax.value_and_grad(few, {"z": elbax.Unordered(4)})(key, theta)
    for make in (lambda: elbax.Unordered(1), lambda: elbax.Unordered(7), lambda: elbax.CARMS(1)):
        with pytest.raises(ConfigError):
            make()
