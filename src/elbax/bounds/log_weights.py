"""Bounds as functions of the log-weights `log_w = log_joint - log_q` of one datum's particles.

Everything with several particles is written here once, for one datum; the axis of the particles is the first one, and
further axes (data) are carried along.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["effective_sample_size", "elbo", "iwae"]


def elbo(log_w: Float[Array, "particles ..."]) -> Float[Array, "..."]:
    """Mean of the log-weights: an unbiased estimate of the ELBO, in nats per datum.

    Args:
        log_w: `log_joint - log_q` of each particle, in nats. Shape `[num_particles, ...]`.

    Returns:
        Shape `[...]`; higher is better.
    """
    return jnp.mean(log_w, axis=0)


def iwae(log_w: Float[Array, "particles ..."]) -> Float[Array, "..."]:
    """Importance-weighted bound `log mean_k exp(log_w[k])`, in nats per datum.

    In expectation it lies between the ELBO and log p(x), grows with the number of particles, and its distance to
    log p(x) is about `Var(w / p(x)) / (2 K)`.

    Args:
        log_w: `log_joint - log_q` of each particle, in nats. Shape `[num_particles, ...]`.

    Returns:
        Shape `[...]`; higher is better. Equals the ELBO estimate for one particle; `-inf` if all weights are zero.

    References:
        Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, equation 8.
    """
    return jax.nn.logsumexp(log_w, axis=0) - jnp.log(log_w.shape[0])


def effective_sample_size(log_w: Float[Array, "particles ..."]) -> Float[Array, "..."]:
    """`(sum w)^2 / sum w^2`: between 1, when one particle has all the weight, and the number of particles.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
    """
    return jnp.exp(2 * jax.nn.logsumexp(log_w, axis=0) - jax.nn.logsumexp(2 * log_w, axis=0))
