"""Reweighted wake-sleep: the model climbs IWAE, the guide covers the posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax

from elbax.bounds import log_weights
from elbax.bounds.base import positive_integer
from elbax.bounds.gradients import ByDensity, DReG
from elbax.bounds.particles import Gradient, ParticleBound

__all__ = ["RWS"]


class RWS(ParticleBound):
    """Reweighted wake-sleep with the wake updates of both: the model climbs IWAE, the guide `E_p(z|x) log q(z | x)`.

    `sum_k wt_k d log p(x, z_k) / dtheta` and `sum_k wt_k d log q(z_k | x) / dphi`, with `wt` the normalised weights:
    the guide descends KL(p(z|x) || q(z|x)), not KL(q || p), and covers the posterior instead of seeking one mode of it.
    The second expectation is estimated with the particles' weights: its gradient is biased, less so with more of them.
    The cost is minus IWAE, a lower bound on log p(x) in nats per datum; the gradient of the guide is not that of the
    cost. Use it for discrete latents, with ten particles or more.

    Attributes:
        num_particles: `K`.
        num_samples: independent bounds that are averaged.
        gradient: `ByDensity()`, which needs no reparameterisation; or `DReG()`, which has the same expectation with the
            weights `wt_k - wt_k^2` on derivatives of the draws, and vanishes at the exact posterior.

    References:
        Bornschein & Bengio, Reweighted Wake-Sleep, ICLR 2015. Le et al., Revisiting Reweighted Wake-Sleep, UAI 2019.
        Tucker et al., Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives, ICLR 2019, equation 10.
    """

    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=ByDensity())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (ByDensity, DReG)

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        num_particles: int,
        num_samples: int = 1,
        gradient: Gradient = ByDensity(),  # noqa: B008  frozen
    ) -> None:
        self.model = model
        self.guide = guide
        self.num_particles = positive_integer("num_particles", num_particles)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.gradient = gradient

    def of(self, log_w: jax.Array) -> jax.Array:
        """`log mean_k w_k` of each datum."""
        return log_weights.iwae(log_w)

    def path_weights(self, log_w: jax.Array) -> jax.Array:
        """`wt - wt^2`: the score of a draw, weighted by `wt`, reparameterised."""
        weights = self.model_weights(log_w)
        return weights - weights**2

    def density_weights(self, log_w: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The normalised weights, for model and guide alike."""
        weights = self.model_weights(log_w)
        return weights, weights
