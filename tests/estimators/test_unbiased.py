"""The gradient is the gradient: against exact expectations, to rounding, and against samples, with stated error rates.

Exact: the expectation of what `elbax.value_and_grad` returns, over all outcomes (`tests.oracles.enumeration`).
By samples: each element fails falsely with probability 1e-6 per test, and a bias of the stated fraction of the gradient
goes unseen with probability 1e-3 (`tests.oracles.statistics`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import elbax
from elbax import Pathwise, Score
from tests.oracles import programs
from tests.oracles.enumeration import assert_unbiased, exact_gradient
from tests.oracles.programs import THETA, pathwise_and_score
from tests.oracles.statistics import assert_mean, gradients

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("program", programs.FINITE, ids=lambda p: p.__name__)
def test_score_gradient_is_the_exact_gradient(program):
    assert_unbiased(program, jnp.asarray(THETA), estimators=Score())


@pytest.mark.parametrize("program", programs.MIXED, ids=lambda p: p.__name__)
def test_mixed_gradient_is_the_exact_gradient(program):
    """Pathwise and score nodes in one graph. (What is probed in a branch that is not taken is not enumerated here.)"""
    assert_unbiased(program, jnp.asarray(THETA), estimators=pathwise_and_score(program))


# Quadrature is exact for both forms of the gradient only if the cost is (nearly) a polynomial in the noise.
POLYNOMIAL = [p for p in programs.MIXED if p is not programs.iwae]


@pytest.mark.parametrize("program", POLYNOMIAL, ids=lambda p: p.__name__)
def test_score_gradient_of_continuous_nodes_is_the_exact_gradient(program):
    assert_unbiased(program, jnp.asarray(THETA), estimators=Score())


def test_sticking_the_landing_leaves_out_what_has_expectation_zero():
    assert_unbiased(programs.elbo, jnp.asarray(THETA), estimators={"z": Pathwise(stick=True)})


@pytest.mark.parametrize(
    "program",
    [programs.chain, programs.vmapped_chain, programs.nested, programs.branches, programs.switching_chain],
    ids=lambda p: p.__name__,
)
def test_mean_of_sampled_gradients_is_the_exact_gradient(program):
    """Draws of the library's own making; a bias of a tenth of the gradient would be seen."""
    theta = jnp.asarray(THETA)
    (exact,) = exact_gradient(program, theta)[1]
    assert_mean(gradients(program, (theta,), 120_000, batch=20_000), exact, resolution=0.1)


def test_mean_of_sampled_score_gradients_of_an_importance_weighted_bound():
    theta = jnp.asarray(THETA)
    (exact,) = exact_gradient(programs.iwae, theta)[1]
    samples = gradients(programs.iwae, (theta,), 200_000, estimators=Score(), batch=20_000)
    assert_mean(samples, exact, resolution=0.2)


def test_total_cost_has_the_same_mean_and_more_variance():
    """One number for all costs, through a function that hides that it is a sum: credit is what takes variance away."""

    @jax.custom_jvp
    def opaque(x):
        return x.sum()

    opaque.defjvp(lambda x, dx: (opaque(*x), dx[0].sum()))
    apart = assert_unbiased(programs.plate, jnp.asarray(THETA), estimators=Score())
    together = assert_unbiased(
        lambda theta: opaque(jnp.stack([programs.plate(theta), 0.0])), jnp.asarray(THETA), estimators=Score()
    )
    assert apart < 0.2 * together


@pytest.mark.parametrize("program", [programs.switching_chain, programs.elbo], ids=lambda p: p.__name__)
def test_surrogate_compiled_and_mapped_gives_the_same(program):
    theta, keys = jnp.asarray(THETA), jax.random.split(jax.random.key(0), 2)
    loss, run = elbax.surrogate(program), elbax.value_and_grad(program)
    mapped_value, mapped_grad = jax.vmap(run, in_axes=(0, None))(keys, theta)
    for key, value, grad in zip(keys, mapped_value, mapped_grad, strict=True):
        for other in (jax.value_and_grad(loss, argnums=1), run, jax.jit(run)):
            np.testing.assert_allclose(other(key, theta)[0], value, rtol=1e-10)
            np.testing.assert_allclose(other(key, theta)[1], grad, rtol=1e-9, atol=1e-12)
