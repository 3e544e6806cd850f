"""Straight-through estimators: exact where theory says so, biased where it says so, by enumeration of every draw."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError
from tests.oracles.cases import one_hot
from tests.oracles.enumeration import exact_gradient, expected_estimate
from tests.oracles.programs import THETA

pytestmark = pytest.mark.usefixtures("x64")

ST, HEUN = elbax.StraightThrough(), elbax.ReinMax()
FAMILY = [ST, HEUN, elbax.ReinMax(tau=1.5), elbax.Gapped(), elbax.Gapped(gap=None, temperature=0.7)]
W = np.array([[0.3, -1.0, 0.2], [0.5, 0.4, -0.7], [0.0, 1.1, -0.2]])


def bernoulli(theta):
    return elbax.sample("d", dist.Bernoulli(logits=theta))


def wrapped(theta):
    d = dist.Bernoulli(probs=jax.nn.sigmoid(theta)).expand([2, 3]).mask(jnp.array([True, False, True]))
    return elbax.sample("d", d.to_event(2))[0]


def lanes(theta):
    return jax.vmap(lambda t: elbax.sample("d", dist.Bernoulli(logits=t)))(theta)


def category(theta):
    return elbax.sample("d", one_hot(theta))


def category_by_probs(theta):
    return jax.vmap(lambda t: elbax.sample("d", elbax.OneHotCategorical(probs=jax.nn.softmax(t))))(theta[None])[0]


COSTS = {
    "linear": lambda d, theta: jnp.dot(d, jnp.sin(theta) + 0.5),
    "quadratic": lambda d, theta: d @ W @ d + jnp.dot(d, theta) ** 2 * theta[1],
    "cubic": lambda d, theta: jnp.dot(d, np.array([1.0, -2.0, 0.5])) ** 3 + (d**3 * theta).sum(),
}


def bias(program, estimator, names=("d",)):
    """The exact bias of an estimator whose only randomness are the draws, in units of the gradient."""
    theta = jnp.asarray(THETA)
    exact_value, (exact,), probs = exact_gradient(program, theta)
    value, (mean,), _ = expected_estimate(program, theta, estimators=dict.fromkeys(names, estimator), probs=probs)
    np.testing.assert_allclose(value, exact_value, rtol=1e-9)
    return np.abs(np.asarray(mean) - np.asarray(exact)).max() / np.abs(exact).max()


@pytest.mark.parametrize("draw", [bernoulli, category], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("estimator", "cost", "exact"),
    [
        (ST, "linear", True),
        (ST, "quadratic", False),
        (HEUN, "linear", True),
        (HEUN, "quadratic", True),
        (HEUN, "cubic", False),
        (FAMILY[2], "quadratic", False),
        (FAMILY[3], "linear", False),
        (FAMILY[4], "linear", False),
    ],
    ids=repr,
)
def test_exact_for_the_costs_that_theory_names(draw, estimator, cost, exact):
    found = bias(lambda theta: COSTS[cost](draw(theta), theta), estimator)
    assert found < 1e-12 if exact else found > 1e-3


@pytest.mark.parametrize("draw", [wrapped, lanes, category_by_probs], ids=lambda f: f.__name__)
def test_however_the_node_is_stated(draw):
    assert bias(lambda theta: COSTS["quadratic"](draw(theta), theta), HEUN) < 1e-12


def model(w, x):
    b = elbax.sample("b", dist.Bernoulli(jnp.array([0.2, 0.6, 0.5])))
    elbax.observe("x", dist.Normal(jnp.dot(b, w), 0.8), x)


def guide(theta, x):
    elbax.sample("b", dist.Bernoulli(logits=theta * x))


def one_hot_model(w, x):
    b = elbax.sample("b", elbax.OneHotCategorical(probs=jnp.array([0.2, 0.5, 0.3])))
    elbax.observe("x", dist.Normal(jnp.dot(b, w), 0.8), x)


def one_hot_guide(theta, x):
    elbax.sample("b", one_hot(theta * x))


@pytest.mark.parametrize("analytic_kl", [True, False])
@pytest.mark.parametrize("pair", [(model, guide), (one_hot_model, one_hot_guide)], ids=["bernoulli", "one-hot"])
def test_bounds_with_log_densities_of_draws(pair, analytic_kl):
    """Log-densities are linear in the draw, a Normal's mean is quadratic in it: exact for ReinMax."""
    w = jnp.array([0.5, -1.0, 2.0])

    def elbo(theta, w=w):
        bound = elbax.ELBO(eqx.Partial(pair[0], w), eqx.Partial(pair[1], theta), analytic_kl=analytic_kl)
        return bound(jnp.array(0.7))

    assert bias(elbo, HEUN, ("b",)) < 1e-12
    assert bias(elbo, ST, ("b",)) > 1e-3
    assert bias(lambda theta: elbo(theta, jnp.zeros(3)), ST, ("b",)) < 1e-12


@pytest.mark.parametrize("estimator", FAMILY, ids=repr)
def test_a_bound_with_particles_within_the_logarithm(estimator):
    """All derivatives of log q count there; with one particle it is the ELBO."""

    def bound(num):
        return lambda theta: elbax.IWAE(eqx.Partial(model, jnp.zeros(3)), eqx.Partial(guide, theta), num_particles=num)(
            jnp.array(0.7)
        )

    run = elbax.value_and_grad(bound(2), {"b": estimator})
    _, grads = jax.jit(jax.vmap(run, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 50), jnp.asarray(THETA))
    assert np.isfinite(grads).all()
    assert np.abs(grads).max() > 1e-3
    if estimator is ST:
        assert bias(bound(1), ST, ("b",)) < 1e-12


@pytest.mark.slow
def test_values_are_draws_to_the_last_bit(key):
    for estimator in FAMILY:
        run = elbax.value_and_grad(lambda theta: jnp.sum(category(theta) * jnp.arange(3.0)), {"d": estimator})
        values, _ = jax.vmap(run, in_axes=(0, None))(jax.random.split(key, 100), jnp.asarray(THETA))
        assert set(np.asarray(values)) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", FAMILY, ids=repr)
def test_saturated_logits_and_impossible_categories(estimator, dtype, key):
    theta = jnp.asarray([40.0, -40.0, 0.0], dtype)

    def program(theta):
        b = bernoulli(theta)
        d = elbax.sample("c", one_hot(jnp.append(theta, -jnp.inf)))
        return jnp.sum((b - 0.3) ** 2 * theta) + jnp.sum(d[:3] * theta + d[3] ** 2)

    run = elbax.value_and_grad(program, estimator)
    value, grads = run(key, theta)
    assert grads.dtype == dtype
    assert np.isfinite(grads).all()
    compiled = jax.jit(run)(key, theta)
    np.testing.assert_allclose(grads, compiled[1], rtol=1e-5)
    np.testing.assert_allclose(value, compiled[0], rtol=1e-5)


def test_in_loops_and_above_other_estimators(key):
    """A straight-through node in a scan, and one above a score node, whose term carries its derivative."""

    def chain(theta):
        def body(c, _):
            b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1]))
            return 1.0 * b, (b - 0.3) ** 2 * theta[2]

        return jax.lax.scan(body, 1.0, None, length=3)[1]

    _, grads = elbax.value_and_grad(chain, {"s": HEUN})(key, jnp.asarray(THETA))
    assert np.all(np.asarray(grads) != 0)

    def above(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0]))
        return elbax.sample("c", dist.Bernoulli(logits=b * theta[1])) * 1.0

    estimators = {"b": HEUN, "c": elbax.Score()}
    mean = np.asarray(expected_estimate(above, jnp.asarray(THETA), estimators=estimators)[1][0])
    assert mean[0] != 0


def test_refusals():
    def index(theta):
        return theta[elbax.sample("c", dist.Categorical(logits=theta))]

    def normal(theta):
        return elbax.sample("c", dist.Normal(theta, 1.0))

    def counts(theta):
        return elbax.sample("c", dist.Poisson(jnp.exp(theta)))

    def branch(theta):
        c = elbax.sample("c", dist.Bernoulli(logits=theta[0]))
        return jax.lax.cond(c == 1, lambda: theta[1], lambda: theta[2])

    theta, key = jnp.asarray(THETA), jax.random.key(0)
    for program, words in [
        (index, "values are indices.*OneHotCategorical"),
        (normal, "Normal is not Bernoulli"),
        (counts, "Poisson is not Bernoulli"),
        (branch, "only without a derivative"),
    ]:
        with pytest.raises(EstimatorError, match=words):
            elbax.value_and_grad(program, {"c": ST})(key, theta)
    for make in (
        lambda: elbax.ReinMax(tau=0.5),
        lambda: elbax.Gapped(gap=-1.0),
        lambda: elbax.Gapped(temperature=0.0),
    ):
        with pytest.raises(ConfigError):
            make()
