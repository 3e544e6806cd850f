"""Three programs whose gradients other libraries get wrong without an error.

Draws in a loop need a fresh key at every step and draws under `vmap` one in every lane; a cost belongs to the step and
lane that states it. The expected gradients are worked out here by hand, not with elbax.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import Pathwise, Score
from tests.oracles.enumeration import assert_unbiased, expected_estimate
from tests.oracles.statistics import assert_mean, gradients

pytestmark = pytest.mark.usefixtures("x64")

THETA = np.array([0.7, -0.4])
LANES = np.array([-1.0, 0.4, 1.5])
STEPS = 3


# ------------------------------------------------------------------------------------------ a Bernoulli chain


def step_cost(b, previous, t):
    return (b - 0.3) ** 2 * (1.0 + t) + 0.5 * b * previous


def chain(theta, x=1.0):
    """Per-step costs of a chain `b_t ~ Bernoulli(theta_0 x b_{t-1} + theta_1)`, `b_{-1} = 1`."""

    def body(previous, t):
        b = 1.0 * elbax.sample("b", dist.Bernoulli(logits=theta[0] * x * previous + theta[1]))
        return b, step_cost(b, previous, t)

    return lax.scan(body, 1.0, jnp.arange(1.0 * STEPS))[1]


def expected_chain(theta, x=1.0):
    """The expected cost, path by path."""
    total = 0.0
    for path in itertools.product([0.0, 1.0], repeat=STEPS):
        probability, cost, previous = 1.0, 0.0, 1.0
        for t, b in enumerate(path):
            p = jax.nn.sigmoid(theta[0] * x * previous + theta[1])
            probability, cost = probability * (p if b else 1 - p), cost + step_cost(b, previous, t)
            previous = b
        total += probability * cost
    return total


def lanes(theta):
    return jax.vmap(lambda x: chain(theta, x))(LANES)


def expected_lanes(theta):
    return sum(expected_chain(theta, x) for x in LANES)


CHAINS = [pytest.param(chain, expected_chain, id="scan"), pytest.param(lanes, expected_lanes, id="vmap of scan")]


@pytest.mark.parametrize(("program", "expected"), CHAINS)
def test_bernoulli_chain_exactly(program, expected):
    theta = jnp.asarray(THETA)
    assert_unbiased(program, theta, estimators=Score())
    value, (mean,), _ = expected_estimate(program, theta, estimators=Score())
    np.testing.assert_allclose(value, expected(theta), rtol=1e-12)
    np.testing.assert_allclose(mean, jax.grad(expected)(theta), rtol=1e-10)


@pytest.mark.parametrize(("program", "expected"), CHAINS)
def test_bernoulli_chain_with_its_own_draws(program, expected):
    """False failures 1e-6; a bias of a tenth of the gradient goes unseen with probability 1e-3."""
    exact = jax.grad(expected)(jnp.asarray(THETA))
    assert_mean(gradients(program, (jnp.asarray(THETA),), 100_000, batch=20_000), exact, resolution=0.1)


@pytest.mark.parametrize(("program", "relation"), [(chain, ("<=",)), (lanes, ("<=", "="))])
def test_bernoulli_chain_credits_later_steps_of_its_own_lane(program, relation):
    assert elbax.trace(program, jnp.asarray(THETA)).relation("b", "loss") == elbax.Relation(relation)


def test_bernoulli_chain_draws_anew_in_every_step_and_lane():
    """With weights as arguments, the derivative is the draw; fair coins agree in all places once in 2^59."""

    def program(weights):
        def lane(weights):
            return lax.scan(lambda c, w: (c, w * elbax.sample("b", dist.Bernoulli(0.5))), 0.0, weights)[1]

        return jax.vmap(lane)(weights)

    draws = elbax.value_and_grad(program)(jax.random.key(0), jnp.ones((60, 60)))[1]
    assert not (draws == draws[0]).all(axis=1)[1:].any()
    assert not (draws == draws[:, :1]).all(axis=0)[1:].any()
    assert 0.4 < draws.mean() < 0.6


# ------------------------------------------------------------------------------------------ a Normal chain


def walk(theta, num_steps=4):
    """Costs `z_t^2` of `z_t ~ Normal(a z_{t-1}, s)`, `z_{-1} = 1`."""
    a, log_s = theta

    def body(z, _):
        z = elbax.sample("z", dist.Normal(a * z, jnp.exp(log_s)))
        return z, z**2

    return lax.scan(body, 1.0, None, length=num_steps)[1]


def expected_walk(theta, num_steps=4):
    """`E z_t^2 = a^2 E z_{t-1}^2 + s^2`, which needs the noise of different steps to be independent."""
    a, log_s = theta
    square, total = 1.0, 0.0
    for _ in range(num_steps):
        square = a**2 * square + jnp.exp(2 * log_s)
        total = total + square
    return total


@pytest.mark.parametrize("estimator", [Pathwise(), None, Score()], ids=["pathwise", "by rule", "score"])
def test_normal_chain_has_the_gradient_in_closed_form(estimator):
    """False failures 1e-6; a bias of a tenth of the gradient goes unseen with probability 1e-3.

    Noise shared between the steps would be a bias of more than half of it.
    """
    theta = jnp.array([0.8, -0.3])
    exact = jax.grad(expected_walk)(theta)
    num = 400_000 if isinstance(estimator, Score) else 60_000
    samples = gradients(walk, (theta,), num, estimators=estimator, batch=20_000)
    assert_mean(samples, exact, resolution=0.1)


def test_normal_chain_exactly():
    """To rounding, by quadrature over the noise of two steps."""
    theta = jnp.array([0.8, -0.3])
    for estimator in (Pathwise(), Score()):
        _, (mean,), _ = expected_estimate(lambda theta: walk(theta, 2), theta, estimators=estimator)
        np.testing.assert_allclose(mean, jax.grad(lambda theta: expected_walk(theta, 2))(theta), rtol=1e-9)


@pytest.mark.parametrize("mapped", [False, True])
def test_normal_chain_has_fresh_noise_at_every_step(mapped):
    """With weights as arguments, the derivative is the noise itself: unlike in each step (and lane), and normal."""

    def lane(weights):
        def body(z, w):
            new = elbax.sample("z", dist.Normal(0.8 * z, 1.0))
            return new, w * (new - 0.8 * z)

        return lax.scan(body, 1.0, weights)[1]

    weights = jnp.zeros((5, 40)) if mapped else jnp.zeros(200)
    program = jax.vmap(lane) if mapped else lane
    noise = np.asarray(elbax.value_and_grad(program, Pathwise())(jax.random.key(0), weights)[1]).ravel()
    assert len(np.unique(noise)) == 200
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 5 / np.sqrt(200)
    assert 0.7 < noise.std() < 1.3
