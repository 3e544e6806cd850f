"""One datum, one Gaussian latent: every bound by quadrature, with log p(x), posterior and divergences in closed form.

z ~ N(0, 1),   x | z ~ N(t z, s^2),     q(z | x) = N(a x + c, e^(2 r))
log p(x) = log N(x; 0, t^2 + s^2),     z | x ~ N(t x / (t^2 + s^2), s^2 / (t^2 + s^2))

`theta = (t, log s)` and `phi = (a, c, r)`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import elbax

X = 0.7
THETA = np.array([1.2, -0.2])
PHI = np.array([0.3, 0.1, -0.5])
NUM_NODES = 60


def _model(theta, x):
    z = elbax.sample("z", dist.Normal(jnp.zeros_like(x), 1.0))
    elbax.observe("x", dist.Normal(theta[0] * z, jnp.exp(theta[1])), x)


def _guide(phi, x):
    elbax.sample("z", dist.Normal(phi[0] * x + phi[1], jnp.exp(phi[2])))


def pair(theta=THETA, phi=PHI):
    """Model and guide as programs of the data `x [num_data]`."""
    return eqx.Partial(_model, jnp.asarray(theta)), eqx.Partial(_guide, jnp.asarray(phi))


def data(num=1):
    return jnp.asarray(np.linspace(X, X + 0.4 * (num - 1), num))


def log_evidence(theta=THETA, x=X):
    return dist.Normal(0.0, jnp.sqrt(theta[0] ** 2 + jnp.exp(2 * theta[1]))).log_prob(x)


def exact_phi(theta=THETA):
    """The guide's parameters that make it the posterior."""
    variance = np.exp(2 * theta[1]) / (theta[0] ** 2 + np.exp(2 * theta[1]))
    return np.array([variance * theta[0] / np.exp(2 * theta[1]), 0.0, 0.5 * np.log(variance)])


def log_weight(theta, phi, z, x=X):
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(theta[0] * z, jnp.exp(theta[1])).log_prob(x)
    return log_joint - guide_distribution(phi, x).log_prob(z)


def guide_distribution(phi, x=X):
    return dist.Normal(phi[0] * x + phi[1], jnp.exp(phi[2]))


def nodes(num_particles, num_nodes=NUM_NODES):
    """Noise of the particles at the nodes of a Gauss-Hermite rule, `[rows, num_particles]`, and the rows' weights."""
    points, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    grid = np.meshgrid(*[points] * num_particles, indexing="ij")
    mass = np.meshgrid(*[weights / weights.sum()] * num_particles, indexing="ij")
    return jnp.stack([g.ravel() for g in grid], 1), jnp.asarray(np.prod([m.ravel() for m in mass], 0))


def expected(bound, theta, phi, num_particles, x=X, num_nodes=NUM_NODES):
    """The expectation of `bound(log_w)` over that many particles; differentiable in `theta` and `phi`."""
    noise, weights = nodes(num_particles, num_nodes)
    q = guide_distribution(phi, x)
    log_w = log_weight(theta, phi, q.loc + q.scale * noise, x)
    return weights @ jax.vmap(bound)(log_w)
