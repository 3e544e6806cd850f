"""Divergences in closed form against sums over outcomes."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions.kl import kl_divergence

import elbax
from elbax.distributions.divergences import bernoulli_kl, categorical_kl

Q, P = jnp.array([0.7, -1.3, 0.0]), jnp.array([-0.4, 0.0, 2.0])


def bernoulli(kind, logits):
    return dist.Bernoulli(logits=logits) if kind == "logits" else dist.Bernoulli(probs=jax.nn.sigmoid(logits))


def categorical(kind, logits):
    return dist.Categorical(logits=logits) if kind == "logits" else dist.Categorical(probs=jax.nn.softmax(logits))


def summed(q, p, outcomes):
    terms = [jnp.exp(q.log_prob(x)) * (q.log_prob(x) - p.log_prob(x)) for x in outcomes]
    return sum(terms)


@pytest.mark.parametrize(("a", "b"), [*itertools.product(["logits", "probs"], repeat=2)])
def test_sums_over_outcomes(a, b):
    q, p = bernoulli(a, Q), bernoulli(b, P)
    np.testing.assert_allclose(kl_divergence(q, p), summed(q, p, (0.0, 1.0)), rtol=1e-5)
    q, p = categorical(a, Q), categorical(b, P)
    np.testing.assert_allclose(kl_divergence(q, p), summed(q, p, range(3)), rtol=1e-5)


def test_below_wrappers():
    q, p = dist.Bernoulli(logits=Q).to_event(1), dist.Bernoulli(probs=0.3).expand([3]).to_event(1)
    np.testing.assert_allclose(kl_divergence(q, p), kl_divergence(*(d.base_dist for d in (q, p))).sum(), rtol=1e-6)


@pytest.mark.parametrize("at", [0.0, 0.7, -40.0, 40.0])
def test_derivatives(at):
    """`s (1 - s) (q - p)` with respect to q, `sigmoid(p) - sigmoid(q)` with respect to p; also at zero."""
    divergence = lambda q, p: kl_divergence(dist.Bernoulli(logits=q), dist.Bernoulli(logits=p))  # noqa: E731
    s = jax.nn.sigmoid(at)
    by_q, by_p = jax.grad(divergence, argnums=(0, 1))(at, 0.3)
    np.testing.assert_allclose(by_q, s * jax.nn.sigmoid(-at) * (at - 0.3), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(by_p, jax.nn.sigmoid(0.3) - s, rtol=1e-5, atol=1e-7)
    assert divergence(at, at) == 0


def test_outcomes_that_cannot_be():
    """What q never draws counts nothing; what p never draws and q does is infinitely far."""
    sure, never = jnp.array([-jnp.inf, 0.0, 1.0]), jnp.array([0.0, 0.0, -jnp.inf])
    assert np.isfinite(categorical_kl(sure, Q))
    assert np.isfinite(jax.grad(categorical_kl)(sure, Q)).all()
    assert categorical_kl(Q, never) == np.inf
    np.testing.assert_allclose(bernoulli_kl(jnp.inf, 0.3), -jax.nn.log_sigmoid(0.3), rtol=1e-6)


def test_elbo_takes_them():
    def model(x):
        z = elbax.sample("z", dist.Bernoulli(logits=jnp.zeros(3)))
        elbax.observe("x", dist.Normal(z.sum(), 1.0), x)

    def guide(x):
        elbax.sample("z", dist.Bernoulli(logits=Q * x))

    graph = elbax.trace(elbax.ELBO(model, guide), 1.0)
    assert "KL(z)" in str(graph)
    exact = jax.jit(elbax.value_and_grad(elbax.ELBO(model, guide)))
    sampled = jax.jit(elbax.value_and_grad(elbax.ELBO(model, guide, analytic_kl=False)))
    keys = jr.split(jr.key(0), 4000)
    a, b = (jax.vmap(lambda k, run=run: run(k, 1.0)[0])(keys) for run in (exact, sampled))
    assert abs(a.mean() - b.mean()) < 6 * np.sqrt((a.var() + b.var()) / 4000)
    assert a.var() < b.var()
