"""Finite-order relaxation of counts: a pathwise derivative for discrete draws that is exact for polynomials.

Seek `w(z)` such that `E w(z) f'(z) = d E f(z) / d theta` for all polynomials `f` of degree `D`, among polynomials of
degree `D - 1`. With `u = z - mean`, variance `v`, third central moment `m`, and `N` the squared norm of the quadratic
orthogonal polynomial `h(z) = u^2 - (m / v) u - v`,

    w d theta = d mean + u / (2 v) d v + h(z) / N (d m / 3 - m / (2 v) d v)        (the last summand for D = 3 only),

which is `v(z)^T G^-1 c` of the source in an orthogonal basis: linear in the derivatives of the moments, so that it
holds for every parameter of the distribution. For a Poisson, a binomial and a negative binomial, whose variance is
`v = mean + b mean^2` with `b` = 0, -1/n, 1/r, one has `m = v (1 + 2 b mean)` and `N = 2 (1 + b) v^2`.

Sources: He & Wu, Extending Pathwise Gradients to Discrete Random Variables via Finite-Order Relaxation, 2026. Morris,
Natural Exponential Families with Quadratic Variance Functions, Annals of Statistics, 1982.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from elbax.errors import ConfigError
from elbax.estimators.base import Draw, Estimator, LogProb, Site
from elbax.graph.distributions import Lifted, innermost

__all__ = ["Fini"]

COUNTS = ("Binomial", "GammaPoisson", "NegativeBinomial", "NegativeBinomial2", "Poisson")


class Fini(Estimator):
    """Pathwise gradients of counts: `E w_D(z) f'(z)`, equal to `grad E f(z)` if `f` is a polynomial of degree `D`.

    For a Poisson with its log-rate as the parameter, `w_2 = (z + rate) / 2` and
    `w_3 = 5 rate / 12 + (8 rate + 1) z / (12 rate) - z^2 / (12 rate)`. Biased otherwise, the less the smoother the cost
    is on the scale of the distribution's spread. The program sees counts as floats and is differentiated in them, so
    that it must be defined between them (`lgamma`, not a table). Variance like that of pathwise gradients; one forward
    and one backward pass; valid in loops. Use it for nodes that are Poisson, binomial or negative binomial.

    Attributes:
        degree: of the polynomials for which the gradient is exact, 2 or 3.

    References:
        He & Wu, Extending Pathwise Gradients to Discrete Random Variables via Finite-Order Relaxation, 2026.
    """

    degree: int = 3

    unbiased: ClassVar[bool] = False
    pathwise: ClassVar[bool] = True
    needs_credit: ClassVar[bool] = False
    as_float: ClassVar[bool] = True

    def __check_init__(self) -> None:
        if self.degree not in (2, 3):
            raise ConfigError(f"Fini(degree={self.degree!r}): weights are known for degrees 2 and 3.")

    def requires(self, site: Site) -> str | None:
        """Needs a distribution of counts whose variance is a quadratic function of its mean."""
        if site.dist.name in COUNTS:
            return None
        return f"its distribution {site.dist.name} is not one of counts with known weights: {', '.join(COUNTS)}"

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The draw, as a float that carries the derivative `w d theta`."""
        sampled = jax.lax.stop_gradient(dist.sample(key))
        moments = dist.over(_moments)
        value = jnp.asarray(sampled, moments.mean.dtype)
        value = value + self._path(value, moments)
        return Draw(value, None if log_prob is LogProb.UNUSED else dist.log_prob(value))

    def _path(self, z: jax.Array, moments: Moments) -> jax.Array:
        """Zero, with the derivative of the draw."""
        mean, variance, b = fixed = jax.lax.stop_gradient(moments)
        d_mean, d_variance = moments.mean - mean, moments.variance - variance
        path = d_mean + _over(z - mean, 2 * variance) * d_variance
        if self.degree == 2:
            return path
        h = z * (z - 1) - (1 + b) * mean * (2 * z - mean)  # multiplied out: exact where the mean is tiny
        d_third = _third(moments) - _third(fixed)
        return path + _over(h, 2 * (1 + b) * variance**2) * (d_third / 3 - (1 + 2 * b * mean) * d_variance / 2)


class Moments(NamedTuple):
    """Mean, variance, and `b` in `variance = mean + b mean^2`."""

    mean: jax.Array
    variance: jax.Array
    curvature: jax.Array


def _third(moments: Moments) -> jax.Array:
    return moments.variance * (1 + 2 * moments.curvature * moments.mean)


def _over(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x / y`, zero where there is no spread to divide by."""
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 0.0)


def _moments(d: Any) -> Moments:
    base = innermost(d)
    mean, variance = jnp.asarray(base.mean), jnp.asarray(base.variance)
    if hasattr(base, "total_count") and not hasattr(base, "concentration"):
        curvature = -1 / jnp.maximum(jnp.asarray(base.total_count, mean.dtype), 1.0)
    elif hasattr(base, "concentration"):
        curvature = 1 / jnp.asarray(base.concentration, mean.dtype)
    else:
        curvature = jnp.zeros_like(mean)
    return Moments(*(jnp.broadcast_to(x, d.batch_shape) for x in (mean, variance, curvature)))
