"""Baselines that learn: unbiased whatever they have learned, trained, and worth it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax import lax

import elbax
from elbax import ConfigError, Learned, MovingAverage, NoBaseline, Score
from tests.oracles import programs
from tests.oracles.cases import BINARY, CATEGORICAL, assert_estimator, ids, inside_grad, over_data
from tests.oracles.enumeration import exact_gradient
from tests.oracles.programs import THETA
from tests.oracles.statistics import assert_mean, repeat

pytestmark = pytest.mark.usefixtures("x64")

BASELINES = [MovingAverage(), Learned(hidden=8)]


def trained(program, baseline, args, steps=400, seed=1):
    """States of a baseline after some steps at fixed arguments, and the surrogate that they belong to."""
    loss = elbax.surrogate(program, Score(baseline=baseline))
    state = loss.init(jax.random.key(seed), *args)

    def step(state, key):
        return loss.step(state, key, *args)[1], None

    return loss, jax.jit(lambda s, ks: lax.scan(step, s, ks)[0])(state, jax.random.split(jax.random.key(seed), steps))


def gradients(loss, state, args, num, batch=20_000):
    return repeat(lambda k: jax.grad(lambda x: loss.step(state, k, x, *args[1:])[0])(args[0]), num, batch=batch)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES, ids=repr)
@pytest.mark.parametrize("case", [*BINARY, *CATEGORICAL], ids=ids)
def test_unbiased(case, baseline):
    assert_estimator(case, Score(baseline=baseline))


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
@pytest.mark.parametrize("baseline", BASELINES, ids=repr)
def test_unbiased_within_other_transformations(baseline, wrap):
    assert_estimator(BINARY[3], Score(baseline=baseline), wrap=wrap)


@pytest.mark.parametrize("baseline", BASELINES, ids=repr)
@pytest.mark.parametrize("program", [programs.chain, programs.branches], ids=lambda p: p.__name__)
def test_unbiased_when_trained(program, baseline):
    theta = jnp.asarray(THETA)
    loss, state = trained(program, baseline, (theta,))
    samples = gradients(loss, state, (theta,), 40_000)
    assert_mean(samples, exact_gradient(program, theta)[1][0], resolution=0.25)


def offset(theta, x):
    """Costs that are nearly the same for each datum, and differ between data; not a sum, which would be split."""
    z = elbax.sample("z", dist.Bernoulli(logits=theta * jnp.stack([x, -x], 1)))
    return (jnp.sqrt(50.0 + 30.0 * jnp.sin(2 * x)) + (z * jnp.array([0.1, 0.2])).sum(1)) ** 2


X = jnp.linspace(-2.0, 2.0, 8)


def test_baselines_take_variance_away_as_far_as_they_can_see():
    theta = jnp.asarray(0.7)
    variance = {}
    for name, baseline in [("none", NoBaseline()), ("average", MovingAverage()), ("net", Learned(learning_rate=0.01))]:
        loss, state = trained(offset, baseline, (theta, X), steps=3000)
        variance[name] = gradients(loss, state, (theta, X), 4000, batch=4000).var()
    assert variance["average"] < 0.4 * variance["none"]
    assert variance["net"] < 0.1 * variance["average"]


def test_the_average_is_debiased_and_one_for_each_step_of_a_loop():
    def program(theta):
        def body(c, t):
            z = elbax.sample("z", dist.Bernoulli(logits=theta * jnp.ones(3)))
            return c, (t + 0.0 * z) ** 2

        return lax.scan(body, 0.0, jnp.arange(1.0, 4.0))[1]

    theta = jnp.asarray(0.3)
    loss, state = trained(program, MovingAverage(decay=0.7), (theta,), steps=1)
    total, weight = state["z"]
    np.testing.assert_allclose(total / weight, [1.0, 4.0, 9.0])  # costs of one step are the elements' own
    np.testing.assert_allclose(weight, 0.3)
    assert float(jax.grad(lambda t: loss.step(state, jax.random.key(0), t)[0])(theta)) == pytest.approx(0.0)


def test_the_first_step_has_no_baseline():
    theta = jnp.asarray(THETA)
    for baseline in BASELINES:
        with_it = elbax.value_and_grad(programs.two_layers, Score(baseline=baseline))(jax.random.key(3), theta)
        without = elbax.value_and_grad(programs.two_layers, Score(baseline=NoBaseline()))(jax.random.key(3), theta)
        np.testing.assert_allclose(with_it[1], without[1])


def test_the_baseline_of_a_step_is_that_of_the_steps_before():
    """The gradient at a step is linear in the baseline of the state that went in."""
    theta = jnp.asarray(0.4)

    def program(theta):
        return 3.0 * elbax.sample("z", dist.Bernoulli(logits=theta))

    loss = elbax.surrogate(program, Score(baseline=MovingAverage(decay=0.5)))
    state = {"z": jnp.array([1.0, 0.5])}  # an average of 2
    for seed in range(4):
        value, after = loss.step(state, jax.random.key(seed), theta)
        grad = jax.grad(lambda t, s=seed: loss.step(state, jax.random.key(s), t)[0])(theta)
        z = value / 3
        np.testing.assert_allclose(grad, (value - 2.0) * (z - jax.nn.sigmoid(theta)), rtol=1e-9)
        np.testing.assert_allclose(after["z"], jnp.stack([0.5 + 0.5 * value, jnp.asarray(0.75)]))


def test_no_gradient_leaves_through_the_state():
    theta = jnp.asarray(THETA)
    for baseline in BASELINES:
        loss, state = trained(programs.plate, baseline, (theta,), steps=3)

        def after(t, loss=loss, state=state):
            leaves = jax.tree.leaves(loss.step(state, jax.random.key(0), t)[1])
            return sum(jnp.sum(x) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact))

        assert not np.any(jax.grad(after)(theta))


def test_normalising_rescales_the_gradient_and_says_so():
    assert Score(baseline=Learned()).unbiased
    assert not Score(baseline=Learned(normalise=True)).unbiased
    theta = jnp.asarray(0.7)
    loss, state = trained(offset, Learned(normalise=True), (theta, X), steps=500)
    plain = elbax.surrogate(offset, Score(baseline=Learned()))
    weight, _, _, residual = state["z"].moments
    key = jax.random.key(5)
    scaled, unscaled = (jax.grad(lambda t, f=f: f.step(state, key, t, X)[0])(theta) for f in (loss, plain))
    spread = np.sqrt(residual / weight)
    assert spread > 1.5
    np.testing.assert_allclose(scaled, unscaled / spread, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: dist.CategoricalLogits(t * jnp.arange(3.0)).expand((3,)),
        lambda t: dist.MultivariateNormal(t * jnp.ones(2), jnp.eye(2)),
        lambda t: dist.Normal(t * jnp.ones((3, 1)), jnp.ones(2)),
        lambda t: dist.MixtureSameFamily(dist.Categorical(logits=t * jnp.ones(3)), dist.Normal(jnp.zeros((2, 3)), 1.0)),
        lambda t: dist.Binomial(4, logits=t * jnp.ones(2)).mask(jnp.array([True, False])),
        lambda t: dist.Normal(t, 1.0).expand((2, 3)).to_event(1),
        lambda t: dist.TransformedDistribution(dist.Normal(t, jnp.ones(2)), dist.transforms.ExpTransform()),
    ],
)
def test_the_network_sees_the_parameters_of_any_distribution(make):
    def program(t):
        lane = lambda x: jnp.sum(elbax.sample("z", make(t * x)) * 1.0) ** 2 + 40.0  # noqa: E731
        return jax.vmap(lane)(jnp.arange(1.0, 4.0)) + elbax.sample("w", dist.Bernoulli(logits=t))

    loss, state = trained(program, Learned(hidden=4), (jnp.asarray(0.4),), steps=3)
    assert np.isfinite(jax.grad(lambda t: loss.step(state, jax.random.key(0), t)[0])(0.4))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


def test_prediction_follows_the_parameters_of_each_datum_and_of_nothing_else():
    def program(theta, x):
        z = elbax.sample("z", dist.Bernoulli(logits=theta * x[:, None] * jnp.ones(5)))
        return z.sum(1) * x

    loss, state = trained(program, Learned(hidden=6), (jnp.asarray(0.5), X), steps=200)
    assert state["z"].params["weights"].shape == (5, 6)  # five logits share a cost, data do not
    bigger = jnp.linspace(-1.0, 1.0, 13)
    assert np.isfinite(loss.step(state, jax.random.key(0), jnp.asarray(0.5), bigger)[0])  # of any number of data


def test_fit_carries_the_states():
    def model():
        k = elbax.sample("k", dist.Bernoulli(0.3))
        elbax.observe("x", dist.Normal(1.0 * k, 0.5), 0.8)

    def guide(logit):
        elbax.sample("k", dist.Bernoulli(logits=logit))

    for baseline in (MovingAverage(), Learned(hidden=4)):
        fit = elbax.fit(
            model,
            eqx.Partial(guide, jnp.zeros(())),
            key=jax.random.key(0),
            max_steps=600,
            optimizer=optax.adam(0.02),
            estimators={"k": Score(baseline=baseline)},
            progress=False,
        )
        exact = np.log(0.3 / 0.7) + (0.8**2 - 0.2**2) / (2 * 0.25)
        np.testing.assert_allclose(fit.guide.args[0], exact, atol=0.4)


def test_saturated_logits_stay_finite():
    def program(theta):
        return elbax.sample("z", dist.Bernoulli(logits=theta * jnp.array([1.0, -1.0, 0.0]))).sum() * 2.0

    for dtype in (jnp.float32, jnp.float64):
        theta = jnp.asarray(40.0, dtype)
        for baseline in BASELINES:
            loss, state = trained(program, baseline, (theta,), steps=5)
            assert np.isfinite(jax.grad(lambda t, f=loss, s=state: f.step(s, jax.random.key(0), t)[0])(theta))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MovingAverage(decay=1.0), r"MovingAverage\(decay=1.0\): must be at least 0 and below 1"),
        (lambda: Learned(hidden=0), r"at least one unit"),
        (lambda: Learned(learning_rate=0.0), r"must be positive"),
    ],
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
