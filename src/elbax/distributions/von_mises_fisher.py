"""The von Mises-Fisher distribution: rejection sampling, and the exact derivative of its draws.

Draws follow Wood's rejection sampler. His proposal is a uniform point of the sphere, moved towards the mean direction;
in terms of the logit `s` of its cosine, by the constant `-log b`. The other numbers keep their direction, so that one
normal vector makes a whole proposal. Proposals are repeated until every element of the batch has accepted one.

The derivative does not go through the sampler: holding the accepted noise fixed would leave out that acceptance moves
with the concentration, which the "correction term" of rejection-sampling gradients makes up for at the price of
variance. A draw is differentiated as what it is in the end, a draw with distribution function `F(s; kappa)`:

    ds / dkappa = - (dF / dkappa) / (dF / ds),

by quadrature. As there is one meridian through each point, this is the only derivative along it, and it is unbiased.

Sources: Wood, Simulation of the von Mises Fisher distribution, 1994. Davidson et al., Hyperspherical Variational
Auto-Encoders, UAI 2018. Figurnov, Mohamed & Mnih, Implicit Reparameterization Gradients, NeurIPS 2018.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions.kl import kl_divergence

from elbax.distributions.special import cosine_variance, mean_cosine, mean_shortfall, shortfall, tangent_variance
from elbax.distributions.sphere import AroundDirection, HypersphericalUniform, uniform_direction

__all__ = ["VonMisesFisher"]


class VonMisesFisher(AroundDirection):
    """Vectors of length one around a mean direction, with density `exp(concentration * mean_direction . z) / C`.

    Draws are made by rejection, which `jit`, `vmap` and `scan` can run; they are differentiable in both parameters.
    The derivative is not that of the accepted proposal, which would be biased: in the concentration it is the implicit
    one, of the distribution function of the angle with the mean direction, by quadrature; in the mean direction, that
    of the shortest rotation. Gradients `E f'(z) dz` are unbiased to rounding and cost 32 evaluations of the
    density per draw. Kullback-Leibler divergences to the uniform distribution and to other von Mises-Fisher
    distributions are in closed form. Concentrations from 1e-4 to 1e5 are tested, also in single precision.

    Args:
        mean_direction: vectors on the last axis, of length two or more; divided by their norm, which must not be zero.
        concentration: above zero; broadcast with the other axes of `mean_direction`.
    """

    def _draw(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        kappa, m = jnp.broadcast_to(self.concentration, shape), self.event_shape[0]
        logit, tangent = jax.lax.stop_gradient(_reject(key, jax.lax.stop_gradient(kappa), m))
        return _carried(kappa, logit, m), tangent

    def _log_ratio(self, gap: jax.Array, value: Any) -> jax.Array:
        kappa = self.concentration
        return shortfall(kappa, self.event_shape[0]) - kappa * gap

    def _moments(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        kappa, m = self.concentration, self.event_shape[0]
        return mean_shortfall(kappa, m), cosine_variance(kappa, m), tangent_variance(kappa, m)

    @property
    def mean(self) -> jax.Array:
        """Mean of the vectors, `A mean_direction` with a ratio `A` of Bessel functions."""
        return mean_cosine(self.concentration, self.event_shape[0])[..., None] * self.mean_direction

    def _kl_to_uniform(self) -> jax.Array:
        kappa, m = self.concentration, self.event_shape[0]
        return shortfall(kappa, m) - kappa * mean_shortfall(kappa, m)


# ------------------------------------------------------------------------------------------ drawing


@functools.partial(jax.jit, static_argnums=2)
def _reject(key: jax.Array, kappa: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
    """Logits of cosines, of the shape of `kappa`, and directions orthogonal to the mean; without derivatives."""
    b = (m - 1) / (2 * kappa + jnp.sqrt(4 * kappa**2 + (m - 1) ** 2))

    def propose(state: tuple) -> tuple:
        key, waiting, logit, tangent = state
        key, noise_key, accept_key = jax.random.split(key, 3)
        base, direction = uniform_direction(noise_key, kappa.shape, m, kappa.dtype)
        proposed = base - jnp.log(b)
        # The target's ratio to the proposal, divided by its maximum; `at` is 1 minus the cosine of the proposal.
        at, peak = 2 * jax.nn.sigmoid(-proposed), 2 * b / (1 + b)
        log_ratio = kappa * (peak - at) + (m - 1) * (jnp.log1p(b) - jnp.log1p(b + (1 - b) * jnp.tanh(base / 2)))
        refused = log_ratio < jnp.log(jax.random.uniform(accept_key, kappa.shape, kappa.dtype))  # not so for NaN
        logit = jnp.where(waiting, proposed, logit)
        tangent = jnp.where(waiting[..., None], direction, tangent)
        return key, waiting & refused, logit, tangent

    state = (key, jnp.ones(kappa.shape, bool), kappa, jnp.zeros((*kappa.shape, m - 1), kappa.dtype))
    _, _, logit, tangent = jax.lax.while_loop(lambda state: state[1].any(), propose, state)
    return logit, tangent


# ------------------------------------------------------------------------------------------ derivative

NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _carried(kappa: jax.Array, logit: jax.Array, m: int) -> jax.Array:
    """The logit of a draw, as it moves with the concentration. The logit that is given is not differentiated."""
    return logit


@_carried.defjvp
def _carried_jvp(m: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    kappa, _ = primals
    logit = _carried(*primals, m)  # moves too: the rule has derivatives of its own
    return logit, _speed(kappa, logit, m) * tangents[0]


@functools.partial(jax.jit, static_argnums=2)
def _speed(kappa: jax.Array, logit: jax.Array, m: int) -> jax.Array:
    """Derivative of a draw's logit in the concentration: `2 / (p(t) sin t) int_0^t p(r) (cos r - A) dr`.

    Here `t` is the angle with the mean direction and `p(t) ~ sin(t)^(m-2) exp(kappa cos t)`. Above the mode, the
    integral is that from `t` to `pi` with the other sign, as both sum to zero. It is cut where it ends far away.
    """
    sine, angle = 1 / jnp.cosh(logit / 2), 2 * jnp.arctan(jnp.exp(-logit / 2))
    below, reach = _side(*jax.lax.stop_gradient((kappa, angle)), m)
    length = jnp.where(below, -jnp.minimum(angle, reach), jnp.minimum(math.pi - angle, reach))
    nodes = jnp.asarray((NODES + 1) / 2, angle.dtype).reshape(-1, *(1 for _ in range(angle.ndim)))
    r = angle + length * nodes  # [nodes, ..]
    rise = -2 * jnp.sin(length * nodes / 2) * jnp.sin((r + angle) / 2)  # cos r - cos t
    tiny = jnp.finfo(angle.dtype).tiny
    log_ratio = kappa * rise + (m - 2) * jnp.log(jnp.maximum(jnp.sin(r), tiny) / sine)
    centred = rise + mean_shortfall(kappa, m) - 2 * jax.nn.sigmoid(-logit)  # cos r - A
    return -2 * length / sine * jnp.tensordot(jnp.asarray(WEIGHTS / 2, angle.dtype), jnp.exp(log_ratio) * centred, 1)


def _side(kappa: jax.Array, angle: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
    """Whether to integrate from zero, and how far the integral needs to reach.

    The log-density of the angle is curved by `sqrt((m-2)^2 + 4 kappa^2)` at its mode, and by half of it in the tail.
    """
    curvature = jnp.hypot(jnp.asarray(m - 2, kappa.dtype), 2 * kappa)
    total = jnp.maximum(curvature + m - 2, jnp.finfo(kappa.dtype).tiny)
    mode = jnp.arctan2(jnp.sqrt(2 * (m - 2) / total), 2 * kappa / total)
    scale = jax.lax.rsqrt(jnp.maximum(curvature / 2, 1.0))
    return angle < mode + scale, 9 * scale


# ------------------------------------------------------------------------------------------ divergences


def _kl(p: AroundDirection | HypersphericalUniform, q: VonMisesFisher) -> jax.Array:
    """`KL(p || u) + E_p log(u / q)` with the uniform distribution `u`: the second term is linear in the mean of p."""
    kappa, m = q.concentration, q.event_shape[0]
    if isinstance(p, HypersphericalUniform):
        return kappa - shortfall(kappa, m)
    away = p.mean_direction - q.mean_direction
    lost, _, _ = p._moments()
    lost = lost + (1 - lost) * jnp.sum(away * away, axis=-1) / 2  # 1 minus the mean of the cosine with q's direction
    return p._kl_to_uniform() + kappa * lost - shortfall(kappa, m)


kl_divergence.add((AroundDirection, VonMisesFisher), _kl)  # type: ignore[attr-defined]
kl_divergence.add((HypersphericalUniform, VonMisesFisher), _kl)  # type: ignore[attr-defined]
