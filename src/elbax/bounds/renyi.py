"""Bounds from Rényi and chi divergences: powers of the weights inside the logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.bounds import log_weights
from elbax.bounds.base import positive_integer
from elbax.bounds.gradients import ByDensity, DReG
from elbax.bounds.particles import Gradient, ParticleBound, Total
from elbax.errors import ConfigError

__all__ = ["CUBO", "Renyi"]


class Renyi(ParticleBound):
    """The variational Rényi bound `1 / (1 - alpha) log E_q w^(1 - alpha)`, in nats per datum; maximised.

    `alpha = 1` is the ELBO and `alpha = 0` log p(x), estimated by IWAE. The bound is a lower one for `alpha > 0`, and
    an upper one below; what is maximised is the expectation of its estimate with `K` particles, which lies below the
    bound for `alpha < 1` and above it for `alpha > 1`. For `alpha >= 0` that expectation is itself a lower bound on
    log p(x). For `alpha < 0` it may be on either side, and `alpha = -inf` (VR-max) follows the largest weight alone;
    use those to make the guide cover the posterior's mass, not as figures of merit.

    Attributes:
        alpha: order; smaller covers more mass, larger seeks modes.
        num_particles: `K`, inside the logarithm.
        num_samples: independent bounds that are averaged.
        gradient: `Total()` or, for finite `alpha`, `DReG()`.

    References:
        Li & Turner, Rényi Divergence Variational Inference, NeurIPS 2016.
    """

    alpha: float = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=Total())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (Total, DReG)

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        alpha: float,
        num_particles: int,
        num_samples: int = 1,
        gradient: Gradient = Total(),  # noqa: B008  frozen
    ) -> None:
        if math.isnan(alpha):
            raise ConfigError(f"Renyi(alpha={alpha!r}): the order must be a number, or minus infinity.")
        if math.isinf(alpha) and isinstance(gradient, DReG):
            raise ConfigError(
                f"Renyi(alpha={alpha!r}, gradient=DReG()): which weight is the largest jumps with the draws, and the "
                "second reparameterisation does not see jumps. Use `Total()`."
            )
        self.model = model
        self.guide = guide
        self.alpha = float(alpha)
        self.num_particles = positive_integer("num_particles", num_particles)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.gradient = gradient

    def of(self, log_w: jax.Array) -> jax.Array:
        """`1 / (1 - alpha) log mean_k w_k^(1 - alpha)` of each datum."""
        return log_weights.renyi(log_w, self.alpha)

    def path_weights(self, log_w: jax.Array) -> jax.Array:
        """`alpha s + (1 - alpha) s^2`, with `s` the normalised powers of the weights."""
        s = jax.nn.softmax((1 - self.alpha) * log_w, axis=0)
        return self.alpha * s + (1 - self.alpha) * s**2


class CUBO(ParticleBound):
    """The chi upper bound `1/n log E_q w^n` on log p(x), in nats per datum; minimised, for the guide only.

    One cost, `CUBO` (not minus it), so that `fit` shows minus the bound. Its estimate is too low, and with one particle
    it is the ELBO, which nobody wants to minimise. What is descended is therefore `E w^n` itself, whose estimate is
    unbiased: each particle is weighted by `w_k^n` over the mean of `w^n` of the *other* particles. The expectation of
    this gradient is that of CUBO times a positive number for each datum, near 1 for many particles. The parameters of
    the model get no gradient: an upper bound says nothing about what raises log p(x). The weights have finite variance
    only if the guide has heavier tails than the posterior; start from a wide one.

    Attributes:
        order: `n`, above 1; 2 in the paper.
        num_particles: two or more.
        num_samples: independent bounds that are averaged.
        gradient: `DReG()`, or `ByDensity()` for sites that are not reparameterised.

    References:
        Dieng et al., Variational Inference via chi Upper Bound Minimization, NeurIPS 2017, section 2.3 (there the
        weights are divided by the largest one).
    """

    order: float = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=DReG())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (DReG, ByDensity)
    is_upper: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        num_particles: int,
        order: float = 2.0,
        num_samples: int = 1,
        gradient: Gradient = DReG(),  # noqa: B008  frozen
    ) -> None:
        if not 1 < order < math.inf:
            raise ConfigError(f"CUBO(order={order!r}): the order must be above 1; at 1 it is log p(x) itself.")
        if positive_integer("num_particles", num_particles) < 2:
            raise ConfigError("CUBO(num_particles=1): a particle is weighed against the others; use two or more.")
        self.model = model
        self.guide = guide
        self.order = float(order)
        self.num_particles = num_particles
        self.num_samples = positive_integer("num_samples", num_samples)
        self.gradient = gradient

    def of(self, log_w: jax.Array) -> jax.Array:
        """`1/n log mean_k w_k^n` of each datum."""
        return log_weights.cubo(log_w, self.order)

    def model_weights(self, log_w: jax.Array) -> jax.Array:
        """None: the model is not trained."""
        return jnp.zeros_like(log_w)

    def path_weights(self, log_w: jax.Array) -> jax.Array:
        """`(1 - n) e_k`."""
        return (1 - self.order) * self._shares(log_w)

    def density_weights(self, log_w: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`(1 - n)/n (e_k - 1/K)` for log q; subtracting the constant lowers the variance."""
        shares = self._shares(log_w) - 1 / log_w.shape[0]
        return jnp.zeros_like(log_w), (1 - self.order) / self.order * shares

    def _shares(self, log_w: jax.Array) -> jax.Array:
        """`e_k = w_k^n / (K mean_{i!=k} w_i^n)`."""
        powers = self.order * log_w
        return jnp.exp(powers - log_weights.leave_one_out(powers, arithmetic=True)) / log_w.shape[0]
