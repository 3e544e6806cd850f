"""The power spherical distribution: like the von Mises-Fisher, without rejection and without Bessel functions.

With `a = (m-1)/2 + concentration` and `b = (m-1)/2`, the cosine of a draw with the mean direction is `2 y - 1` for `y`
from a Beta(a, b); its logit is that of `y`, the difference of the logarithms of two Gamma draws.

Source: De Cao & Aziz, The Power Spherical Distribution, 2020.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from elbax.distributions.special import log_gamma_ratio
from elbax.distributions.sphere import AroundDirection, uniform_direction

__all__ = ["PowerSpherical"]


class PowerSpherical(AroundDirection):
    """Vectors of length one around a mean direction, with density `(1 + mean_direction . z)^concentration / C`.

    Draws are differentiable in both parameters: implicitly through two Gamma draws, as JAX provides it, and by the
    shortest rotation of the mean direction. The log-density, the entropy and the Kullback-Leibler divergences to the
    uniform and to von Mises-Fisher distributions are in closed form. At the point opposite to the mean direction the
    log-density is minus infinity.

    Args:
        mean_direction: vectors on the last axis, of length two or more; divided by their norm, which must not be zero.
        concentration: above zero; broadcast with the other axes of `mean_direction`.
    """

    def _draw(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        kappa, m = jnp.broadcast_to(self.concentration, shape), self.event_shape[0]
        a_key, b_key, tangent_key = jax.random.split(key, 3)
        half = (m - 1) / 2
        logit = jax.random.loggamma(a_key, half + kappa) - jax.random.loggamma(b_key, half, shape, kappa.dtype)
        return logit, uniform_direction(tangent_key, shape, m, kappa.dtype)[1]

    def _log_ratio(self, gap: jax.Array, value: Any) -> jax.Array:
        half = (self.event_shape[0] - 1) / 2
        near = gap < 1
        # (1 + cosine) / 2, by the distance from the mean direction or by that from the point opposite to it
        opposite = jnp.sum((jnp.asarray(value) + self.mean_direction) ** 2, axis=-1) / 4
        reached = ~near & (opposite > 0)
        far = jnp.where(reached, jnp.log(jnp.where(reached, opposite, 1.0)), -jnp.inf)
        log_y = jnp.where(near, jnp.log1p(-jnp.where(near, gap, 0.0) / 2), far)
        a, b = half + self.concentration, jnp.full_like(self.concentration, half)
        return self.concentration * log_y + log_gamma_ratio(a, half) - log_gamma_ratio(b, half)

    def _moments(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        kappa, m = self.concentration, self.event_shape[0]
        total = kappa + m - 1
        shortfall = (m - 1) / total
        along = shortfall * (total + kappa) / (total * (total + 1))
        square = shortfall * (2 - shortfall) - along  # 1 minus the mean square of the cosine
        return shortfall, along, square / (m - 1)

    def _kl_to_uniform(self) -> jax.Array:
        kappa, half = self.concentration, (self.event_shape[0] - 1) / 2
        a = half + kappa
        ratio, slope = jax.jvp(lambda a: log_gamma_ratio(a, half), (a,), (jnp.ones_like(a),))
        return ratio - log_gamma_ratio(jnp.full_like(a, half), half) - kappa * slope
