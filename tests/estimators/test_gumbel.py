"""Gumbel-softmax: exact for the relaxed program, biased for the discrete one, and the less so the colder."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators.gumbel import conditional_gumbels
from tests.oracles.cases import BINARY, ONE_HOT, bias_of, one_hot
from tests.oracles.programs import THETA
from tests.oracles.statistics import assert_mean, mean_test, repeat

pytestmark = pytest.mark.usefixtures("x64")

SOFT, HARD = elbax.GumbelSoftmax(), elbax.GumbelSoftmax(hard=True)
RAO = elbax.GumbelRao(num_samples=20)
ALL = [SOFT, HARD, RAO]
NUM = 40_000


def bernoulli(theta):
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0]))
    return (b - 0.45) ** 2 * theta[1] + jnp.sin(b * theta[2])


def category(theta):
    return jnp.sin(elbax.sample("b", one_hot(theta)) @ np.array([1.0, -2.0, 0.5])) ** 2


def estimates(program, estimator, num=NUM, theta=THETA):
    run = elbax.value_and_grad(program, {"b": estimator})
    return repeat(lambda key: run(key, jnp.asarray(theta)), num, batch=num)


# ------------------------------------------------------------------------------------------ what is exact


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_soft_draws_estimate_the_gradient_of_the_relaxed_program(temperature):
    """Of a Bernoulli, that is one integral over logistic noise."""
    u = (np.arange(100_000) + 0.5) / 100_000
    noise = np.log(u) - np.log1p(-u)

    def relaxed(theta):
        b = jax.nn.sigmoid((theta[0] + noise) / temperature)
        return jnp.mean((b - 0.45) ** 2 * theta[1] + jnp.sin(b * theta[2]))

    value, grad = jax.value_and_grad(relaxed)(jnp.asarray(THETA))
    values, grads = estimates(bernoulli, elbax.GumbelSoftmax(temperature))
    assert_mean(values, value, resolution=0.1)
    assert_mean(grads, grad, resolution=0.1)


def test_conditional_noise_is_gumbel_noise_given_its_argmax():
    """The argmax is the draw, and noise given a draw, over all draws, is the noise as it was."""
    log_p = jax.nn.log_softmax(jnp.asarray([0.7, -1.4, 0.3, 0.0]))

    def one(key):
        draw_key, noise_key = jax.random.split(key)
        drawn = jax.nn.one_hot(jax.random.categorical(draw_key, log_p), 4)
        noisy = conditional_gumbels(noise_key, log_p, drawn)
        noise = noisy - log_p
        return jnp.argmax(noisy) == jnp.argmax(drawn), jnp.concatenate([noise, noise**2, noise * jnp.roll(noise, 1)])

    right, moments = repeat(one, NUM)
    assert right.all()
    gamma = np.euler_gamma
    exact = np.repeat([gamma, gamma**2 + np.pi**2 / 6, gamma**2], 4)
    assert_mean(moments, exact, resolution=0.1)


@pytest.mark.parametrize("program", [bernoulli, category], ids=lambda f: f.__name__)
def test_gumbel_rao_is_the_hard_estimator_with_less_variance(program):
    hard, rao = (estimates(program, e)[1] for e in (HARD, RAO))
    outcome = mean_test(hard - rao, 0.0)
    assert outcome.passes, outcome.z
    assert outcome.smallest_bias.max() < 0.1 * np.abs(hard.mean(0)).max()
    assert rao[:, 0].var() < 0.9 * hard[:, 0].var()  # what comes by way of the node


def test_hard_values_are_draws_and_soft_ones_are_not():
    def value(theta):
        return jnp.sum(elbax.sample("b", one_hot(theta)) * jnp.arange(3.0))

    for estimator in (HARD, RAO):
        values, _ = estimates(value, estimator, 5000)
        assert set(values) == {0.0, 1.0, 2.0}
        assert_mean(
            np.stack([values == i for i in range(3)], 1) * 1.0, jax.nn.softmax(jnp.asarray(THETA)), resolution=0.2
        )
    values, _ = estimates(value, SOFT, 5000)
    assert len(set(values)) == 5000


# ------------------------------------------------------------------------------------------ what is not


@pytest.mark.parametrize("case", [BINARY[0], ONE_HOT[0]], ids=lambda c: c.name)
def test_bias_is_seen_and_falls_with_the_temperature(case):
    sizes = []
    for temperature in (3.0, 0.3):
        bias, interval = bias_of(case, elbax.GumbelSoftmax(temperature), num=NUM)
        sizes.append(np.abs(bias).max())
        if temperature > 1:
            assert np.any(np.abs(bias) > interval)
    assert sizes[1] < 0.5 * sizes[0]


def test_variance_grows_as_the_temperature_falls():
    hot, cold = (estimates(category, elbax.GumbelSoftmax(t, hard=True))[1].var(0).sum() for t in (1.0, 0.1))
    assert cold > 2 * hot


# ------------------------------------------------------------------------------------------ schedules, bounds, numbers


@pytest.mark.parametrize("make", [elbax.GumbelSoftmax, elbax.GumbelRao])
def test_schedules_count_steps(make, key):
    schedule = optax.exponential_decay(1.0, 1, 0.5)
    loss = elbax.surrogate(bernoulli, {"b": make(schedule)})
    theta = jnp.asarray(THETA)
    state = loss.init(key, theta)
    step = jax.jit(jax.value_and_grad(lambda theta, state: loss.step(state, key, theta), has_aux=True))
    for i in range(3):
        (value, state), grad = step(theta, state)
        fixed = elbax.value_and_grad(bernoulli, {"b": make(0.5**i)})(key, theta)
        np.testing.assert_allclose(value, fixed[0], rtol=1e-6)
        np.testing.assert_allclose(grad, fixed[1], rtol=1e-5)
        assert int(state["b"]) == i + 1
    first = elbax.value_and_grad(bernoulli, {"b": make(schedule)})(key, theta)[1]
    np.testing.assert_allclose(first, elbax.value_and_grad(bernoulli, {"b": make(1.0)})(key, theta)[1], rtol=1e-5)


@pytest.mark.parametrize("by", ["logits", "probs"])
def test_log_densities_of_soft_draws_are_interpolated(by, key):
    """In a bound, eagerly: `log q` and `log p` are linear in the draw, and depend on the parameters as well."""

    def model(x):
        b = elbax.sample("b", dist.Bernoulli(0.3 * jnp.ones(2)))
        elbax.sample("d", one_hot(jnp.zeros(3)))
        elbax.observe("x", dist.Normal(b.sum(), 1.0), x)

    def guide(theta, x):
        q = dist.Bernoulli(logits=theta[:2]) if by == "logits" else dist.Bernoulli(probs=jax.nn.sigmoid(theta[:2]))
        elbax.sample("b", q)
        elbax.sample("d", one_hot(theta))

    def bound(theta):
        return elbax.ELBO(model, eqx.Partial(guide, theta), analytic_kl=False)(jnp.array(0.4))

    theta = jnp.asarray(THETA)
    value, grad = elbax.value_and_grad(bound, SOFT)(key, theta)
    compiled = jax.jit(elbax.value_and_grad(bound, SOFT))(key, theta)
    np.testing.assert_allclose(value, compiled[0], rtol=1e-9)
    np.testing.assert_allclose(grad, compiled[1], rtol=1e-9)
    step = 1e-6
    for i in range(3):
        ends = [elbax.value_and_grad(bound, SOFT)(key, theta.at[i].add(s * step))[0] for s in (1, -1)]
        np.testing.assert_allclose(grad[i], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", [elbax.GumbelSoftmax(0.1), elbax.GumbelRao(0.1, 2)], ids=repr)
def test_saturated_logits_and_impossible_categories(estimator, dtype, key):
    theta = jnp.asarray([40.0, -40.0, 0.0], dtype)

    def program(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta))
        d = elbax.sample("d", one_hot(jnp.append(theta, -jnp.inf)))
        return jnp.sum((b - 0.3) ** 2 * theta) + jnp.sum(d[:3] * theta + d[3] ** 2)

    run = jax.jit(jax.vmap(elbax.value_and_grad(program, estimator), in_axes=(0, None)))
    _, grads = run(jax.random.split(key, 20), theta)
    assert grads.dtype == dtype
    assert np.isfinite(grads).all()


def test_refusals(key):
    def index(theta):
        return theta[elbax.sample("c", dist.Categorical(logits=theta))]

    for estimator in ALL:
        with pytest.raises(EstimatorError, match="values are indices"):
            elbax.value_and_grad(index, {"c": estimator})(key, jnp.asarray(THETA))
    for make in (
        lambda: elbax.GumbelSoftmax(0.0),
        lambda: elbax.GumbelSoftmax(-1),
        lambda: elbax.GumbelRao(0),
        lambda: elbax.GumbelRao(num_samples=0),
    ):
        with pytest.raises(ConfigError):
            make()
