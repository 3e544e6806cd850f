"""Derivatives of every order: Hessians against enumeration and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError, ProgramError
from elbax.estimators.plan import make_plan
from tests.oracles import programs
from tests.oracles.enumeration import exact_gradient, forced_draws, outcomes
from tests.oracles.programs import THETA, pathwise_and_score

pytestmark = pytest.mark.usefixtures("x64")


def expectations(program, estimators=None):
    """Exact expectations of value, gradient and Hessian of the surrogate of order two."""
    theta = jnp.asarray(THETA)
    _, _, probs = exact_gradient(program, theta)
    rows, _ = outcomes(make_plan(program, estimators, (theta,), {}))
    loss = elbax.surrogate(program, estimators, order=2)

    def one(values):
        with forced_draws(values):
            fn = lambda t: loss(jax.random.key(0), t)  # noqa: E731
            return fn(theta), jax.grad(fn)(theta), jax.hessian(fn)(theta)

    return [jnp.tensordot(probs, x, 1) for x in jax.jit(jax.vmap(one))(rows)]


def exact(program):
    theta = jnp.asarray(THETA)
    value = lambda t: exact_gradient(program, t)[0]  # noqa: E731
    eps = 1e-5
    rows = [
        (exact_gradient(program, theta.at[i].add(eps))[1][0] - exact_gradient(program, theta.at[i].add(-eps))[1][0])
        / (2 * eps)
        for i in range(3)
    ]
    return value(theta), exact_gradient(program, theta)[1][0], jnp.stack(rows)


@pytest.mark.parametrize(
    "program",
    [
        programs.single,
        programs.two_layers,
        programs.categorical_chain,
        programs.branches,
        programs.accumulated_chain,
        programs.vmapped_chain,
        programs.windowed,
        programs.discrete_then_continuous,
        programs.continuous_then_discrete,
        programs.switching_chain,
    ],
    ids=lambda p: p.__name__,
)
def test_hessian_is_the_exact_hessian(program):
    estimators = elbax.Score() if program in programs.FINITE else pathwise_and_score(program)
    value, gradient, hessian = expectations(program, estimators)
    exact_value, exact_grad, exact_hessian = exact(program)
    assert np.abs(exact_hessian).max() > 1e-2
    np.testing.assert_allclose(value, exact_value, rtol=1e-9)
    np.testing.assert_allclose(gradient, exact_grad, rtol=1e-8, atol=1e-9)
    # Central differences of the exact gradient are right to about eps^2.
    np.testing.assert_allclose(hessian, exact_hessian, rtol=1e-6, atol=1e-7)


def test_a_stated_baseline_changes_no_expectation():
    def program(theta):
        b = elbax.sample("b", elbax_bernoulli(theta))
        elbax.baseline("b", 3.0 * theta[1])
        return (b - 0.45) ** 2 * theta[1] + theta[2] * b * theta[0]

    def plain(theta):
        b = elbax.sample("b", elbax_bernoulli(theta))
        return (b - 0.45) ** 2 * theta[1] + theta[2] * b * theta[0]

    for with_baseline, without in zip(
        expectations(program, elbax.Score()), expectations(plain, elbax.Score()), strict=True
    ):
        np.testing.assert_allclose(with_baseline, without, rtol=1e-9)


def elbax_bernoulli(theta):
    import numpyro.distributions as dist

    return dist.Bernoulli(logits=theta[0])


def test_first_order_surrogates_refuse_a_second_derivative():
    loss = elbax.surrogate(programs.single, elbax.Score())
    with pytest.raises(ProgramError, match=r"differentiated twice.*order=2"):
        jax.hessian(lambda t: loss(jax.random.key(0), t))(jnp.asarray(THETA))


@pytest.mark.parametrize("estimator", [elbax.RLOO(2), elbax.Enumerate(), elbax.Score(baseline=elbax.Replicas(2))])
def test_estimators_of_one_derivative_are_refused(estimator):
    loss = elbax.surrogate(programs.single, estimator, order=2)
    with pytest.raises(EstimatorError, match=r"site 'b' \(.*programs.py:\d+\) is .*estimates a first derivative only"):
        loss(jax.random.key(0), jnp.asarray(THETA))


def test_order_is_checked():
    with pytest.raises(ConfigError, match="order must be a whole number"):
        elbax.surrogate(programs.single, order=0)
