"""Probabilistic PCA: a linear-Gaussian model whose evidence and posterior are known exactly.

z ~ N(0, I),   x | z ~ N(W z + b, s^2 I)
log p(x) = log N(x; b, W W' + s^2 I),     z | x ~ N(M^-1 W' (x - b), s^2 M^-1),   M = W' W + s^2 I
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import elbax

NUM_LATENTS, NUM_PIXELS = 2, 3


class Model(eqx.Module):
    weights: Any
    offset: Any
    scale: Any

    def __call__(self, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros((x.shape[0], NUM_LATENTS)), 1.0).to_event(1))
        elbax.observe("x", dist.Normal(z @ self.weights.T + self.offset, self.scale).to_event(1), x)


class FullGuide(eqx.Module):
    """A Gaussian with a full covariance: it holds the exact posterior."""

    gain: Any
    offset: Any
    tril: Any

    def __call__(self, x):
        loc = (x - self.offset) @ self.gain.T
        elbax.sample("z", dist.MultivariateNormal(loc, scale_tril=self.tril))


class MeanFieldGuide(eqx.Module):
    gain: Any
    offset: Any
    log_scale: Any

    def __call__(self, x):
        loc = (x - self.offset) @ self.gain.T
        elbax.sample("z", dist.Normal(loc, jnp.exp(self.log_scale)).to_event(1))


def make_model():
    """Asymmetric on purpose: a symmetric model hides sign errors."""
    weights = jnp.array([[0.9, -0.4], [0.3, 1.1], [-0.7, 0.2]])
    return Model(weights, jnp.array([0.5, -0.2, 0.1]), jnp.array(0.6))


def make_data(n=5):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(n, NUM_PIXELS)) * np.array([1.0, 1.4, 0.8]) + 0.3)


def log_evidence(model, x):
    cov = model.weights @ model.weights.T + model.scale**2 * jnp.eye(NUM_PIXELS)
    return dist.MultivariateNormal(model.offset, cov).log_prob(x)


def posterior(model):
    """Gain and covariance of the exact posterior."""
    m = model.weights.T @ model.weights + model.scale**2 * jnp.eye(NUM_LATENTS)
    inverse = jnp.linalg.inv(m)
    return inverse @ model.weights.T, model.scale**2 * inverse


def exact_guide(model):
    gain, cov = posterior(model)
    return FullGuide(gain, model.offset, jnp.linalg.cholesky(cov))


def rough_guide():
    """A guide that is wrong in every way a Gaussian can be."""
    return FullGuide(
        jnp.array([[0.3, 0.1, -0.2], [0.0, 0.4, 0.1]]), jnp.array([0.2, 0.0, -0.1]), jnp.array([[0.7, 0.0], [0.2, 0.5]])
    )


def rough_mean_field():
    return MeanFieldGuide(
        jnp.array([[0.3, 0.1, -0.2], [0.0, 0.4, 0.1]]), jnp.array([0.2, 0.0, -0.1]), jnp.array([-0.3, -0.6])
    )


def guide_distribution(guide, x):
    loc = (x - guide.offset) @ guide.gain.T
    if isinstance(guide, MeanFieldGuide):
        return dist.MultivariateNormal(loc, covariance_matrix=jnp.diag(jnp.exp(2 * guide.log_scale)))
    return dist.MultivariateNormal(loc, scale_tril=guide.tril)


def kl_to_posterior(model, guide, x):
    """KL(q(z|x) || p(z|x)) of each datum, in closed form."""
    gain, cov = posterior(model)
    p = dist.MultivariateNormal((x - model.offset) @ gain.T, covariance_matrix=cov)
    return dist.kl_divergence(guide_distribution(guide, x), p)


def elbo(model, guide, x):
    """The exact ELBO of each datum: log p(x) - KL(q || posterior)."""
    return log_evidence(model, x) - kl_to_posterior(model, guide, x)
