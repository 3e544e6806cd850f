"""Bounds as functions of the log-weights `log_w = log_joint - log_q` of one datum's particles.

Everything with several particles is written here once, for one datum; the axis of the particles is the first one, and
further axes (data) are carried along. Values are in nats per datum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = [
    "ciwae",
    "cubo",
    "effective_sample_size",
    "elbo",
    "eubo",
    "iwae",
    "leave_one_out",
    "renyi",
    "tempered_mean",
    "tvo_lower",
    "tvo_upper",
    "vr_max",
]

LogWeights = Float[Array, "particles ..."]
PerDatum = Float[Array, "..."]


def elbo(log_w: LogWeights) -> PerDatum:
    """Mean of the log-weights: an unbiased estimate of the ELBO, in nats per datum.

    Args:
        log_w: `log_joint - log_q` of each particle, in nats. Shape `[num_particles, ...]`.

    Returns:
        Shape `[...]`; higher is better.
    """
    return jnp.mean(log_w, axis=0)


def iwae(log_w: LogWeights) -> PerDatum:
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


def ciwae(log_w: LogWeights, beta: float) -> PerDatum:
    """`beta ELBO + (1 - beta) IWAE`: between the two.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
        beta: weight of the ELBO, between 0 and 1.

    References:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, ICML 2018, equation 14.
    """
    return beta * elbo(log_w) + (1 - beta) * iwae(log_w)


def renyi(log_w: LogWeights, alpha: float) -> PerDatum:
    """Rényi bound `1 / (1 - alpha) log mean_k w[k]^(1 - alpha)`, estimated with the particles at hand.

    With all particles in the world: the ELBO at `alpha = 1` (by continuity), log p(x) at 0, a lower bound above 0, an
    upper bound below. With few, the mean inside the logarithm pulls every `alpha` towards the ELBO: the expectation is
    below the limit for `alpha < 1`, and above it for `alpha > 1`. It is exactly `iwae` at 0 and `vr_max` at `-inf`.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
        alpha: order, any real number, or infinite.

    References:
        Li & Turner, Rényi Divergence Variational Inference, NeurIPS 2016, equations 5 and 6.
    """
    if alpha == 1:
        return elbo(log_w)
    if math.isinf(alpha):
        return vr_max(log_w) if alpha < 0 else jnp.min(log_w, axis=0)
    power = 1 - alpha
    return (jax.nn.logsumexp(power * log_w, axis=0) - jnp.log(log_w.shape[0])) / power


def vr_max(log_w: LogWeights) -> PerDatum:
    """The largest log-weight: `renyi` at `alpha = -inf`, no bound of anything with few particles.

    Its derivative is that of the largest weight alone.

    References:
        Li & Turner, Rényi Divergence Variational Inference, NeurIPS 2016, section 4.2.
    """
    return jnp.max(log_w, axis=0)


def cubo(log_w: LogWeights, order: float) -> PerDatum:
    """Chi upper bound `1/n log mean_k w[k]^n`, estimated with the particles at hand; lower is better.

    Above log p(x) for `n >= 1` in the limit of many particles. The estimate is too low in expectation, because the
    logarithm of a mean is: with few particles it may well lie below log p(x).

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
        order: `n`; 2 in the paper.

    References:
        Dieng et al., Variational Inference via chi Upper Bound Minimization, NeurIPS 2017, equation 4.
    """
    return renyi(log_w, 1 - order)


def tempered_mean(log_w: LogWeights, beta: float) -> PerDatum:
    """`E log_w` under `pi_beta ~ q^(1 - beta) p(x, z)^beta`, by weights `w^beta` normalised over the particles.

    `beta = 0` is the ELBO estimate; the expectation rises with `beta`. Normalising biases it for `beta > 0`.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`; `-inf` counts as zero weight for `beta > 0`.
        beta: inverse temperature, between 0 and 1.
    """
    if beta == 0:
        return elbo(log_w)
    weights = jax.nn.softmax(beta * log_w, axis=0)
    return jnp.sum(weights * jnp.where(jnp.isneginf(log_w), 0.0, log_w), axis=0)


def eubo(log_w: LogWeights) -> PerDatum:
    """Evidence upper bound `E_p(z|x) log_w`, by self-normalised weights; too low in expectation. Lower is better.

    `EUBO - ELBO = KL(p, q) + KL(q, p)`.
    """
    return tempered_mean(log_w, 1)


def tvo_lower(log_w: LogWeights, partition: Sequence[float]) -> PerDatum:
    """Left sum of `log p(x) = int_0^1 E_beta log_w d beta`: a lower bound.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
        partition: `0 = b_0 < b_1 < ... < b_n = 1`. With `n = 1` this is the ELBO.

    References:
        Masrani, Le & Wood, The Thermodynamic Variational Objective, NeurIPS 2019, equations 7 and 8.
    """
    return _riemann_sum(log_w, partition, partition[:-1])


def tvo_upper(log_w: LogWeights, partition: Sequence[float]) -> PerDatum:
    """Right sum of `log p(x) = int_0^1 E_beta log_w d beta`: an upper bound, but for the bias of the weights.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
        partition: `0 = b_0 < b_1 < ... < b_n = 1`. With `n = 1` this is `eubo`.
    """
    return _riemann_sum(log_w, partition, partition[1:])


def _riemann_sum(log_w: LogWeights, partition: Sequence[float], at: Sequence[float]) -> PerDatum:
    widths = [high - low for low, high in itertools.pairwise(partition)]
    terms = [width * tempered_mean(log_w, beta) for width, beta in zip(widths, at, strict=True)]
    return sum(terms[1:], terms[0])


def leave_one_out(log_w: LogWeights, *, arithmetic: bool = False) -> LogWeights:
    """`iwae` with each particle's weight in turn replaced by a mean of the others': the baselines of VIMCO.

    Args:
        log_w: log-weights in nats, of two particles or more. Shape `[num_particles, ...]`.
        arithmetic: whether to fill in the arithmetic mean of the other weights, which leaves `log mean_{i!=k} w[i]`,
            or else their geometric mean.

    Returns:
        Shape `[num_particles, ...]`; element `k` does not depend on `log_w[k]`.

    References:
        Mnih & Rezende, Variational Inference for Monte Carlo Objectives, ICML 2016, equations 9 and 10.
    """
    num = log_w.shape[0]
    others = _log_sum_of_others(log_w)
    if arithmetic:
        return others - jnp.log(num - 1)
    is_self = jnp.arange(num)[:, None] == jnp.arange(num)
    mean_of_others = jnp.tensordot(jnp.where(is_self, 0.0, 1.0 / (num - 1)), log_w, axes=1)
    return jnp.logaddexp(others, mean_of_others) - jnp.log(num)


def _log_sum_of_others(log_w: LogWeights) -> LogWeights:
    """`log sum_{i!=k} w[i]` of each `k`, as sums from both ends: subtracting `w[k]` from the total would cancel."""
    none = jnp.full_like(log_w[:1], -jnp.inf)
    before = jnp.concatenate([none, lax.cumlogsumexp(log_w, axis=0)[:-1]])
    after = jnp.concatenate([lax.cumlogsumexp(log_w, axis=0, reverse=True)[1:], none])
    return jnp.logaddexp(before, after)


def effective_sample_size(log_w: LogWeights) -> PerDatum:
    """`(sum w)^2 / sum w^2`: between 1, when one particle has all the weight, and the number of particles.

    Args:
        log_w: log-weights in nats. Shape `[num_particles, ...]`.
    """
    return jnp.exp(2 * jax.nn.logsumexp(log_w, axis=0) - jax.nn.logsumexp(2 * log_w, axis=0))
