"""Logits of exactly zero, where parameters start: NumPyro's log-densities have a kink there, our gradients do not."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax

DATA = jnp.array([1.0, 0.0, 1.0, 1.0])

KINDS = {
    "plain": lambda a: dist.Bernoulli(logits=a * jnp.ones(4)),
    "expanded": lambda a: dist.Bernoulli(logits=a).expand([4]),
    "masked": lambda a: dist.Bernoulli(logits=a * jnp.ones(4)).mask(jnp.ones(4, bool)),
    "event": lambda a: dist.Bernoulli(logits=a * jnp.ones(4)).to_event(1),
    "binomial": lambda a: dist.Binomial(1, logits=a * jnp.ones(4)),
    "mixture": lambda a: dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.array([0.4, 0.6])), dist.Bernoulli(logits=a * jnp.ones((4, 2)))
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_curvature_of_data(kind):
    def program(a):
        elbax.observe("x", KINDS[kind](a), DATA)

    run = elbax.value_and_grad(program)
    _, gradient = run(jr.key(0), jnp.zeros(()))
    np.testing.assert_allclose(gradient, -(DATA - 0.5).sum(), rtol=1e-6)  # minus the sum of x - sigmoid(0)
    curvature = jax.grad(lambda a: run(jr.key(0), a)[1])(jnp.zeros(()))
    np.testing.assert_allclose(curvature, 1.0, rtol=1e-6)


def test_under_vmap():
    def program(a):
        jax.vmap(lambda a, x: elbax.observe("x", dist.Bernoulli(logits=a), x))(a, DATA)

    _, gradient = elbax.value_and_grad(program)(jr.key(0), jnp.zeros(4))
    np.testing.assert_allclose(gradient, 0.5 - DATA, rtol=1e-6)


def test_prior_of_an_elbo():
    """The derivative with respect to the logits of the prior is sigmoid(0) less the mean of the draws."""

    def model(prior):
        elbax.sample("z", dist.Bernoulli(logits=prior))

    def guide(prior):
        elbax.sample("z", dist.Bernoulli(probs=jnp.full(3, 0.9)))

    bound = elbax.ELBO(model, guide, analytic_kl=False)
    run = jax.jit(elbax.value_and_grad(bound, elbax.Score()))
    grads = jax.vmap(lambda k: run(k, jnp.zeros(3))[1])(jr.split(jr.key(0), 4000))
    np.testing.assert_allclose(grads.mean(0), 0.5 - 0.9, atol=6 * 0.3 / 4000**0.5)


def test_value_is_unchanged():
    def program(a):
        elbax.observe("x", dist.Bernoulli(logits=a), DATA)

    value, _ = elbax.value_and_grad(program)(jr.key(0), jnp.zeros(4))
    np.testing.assert_allclose(value, 4 * np.log(2), rtol=1e-6)
