"""The thermodynamic variational objective: a Riemann sum between guide and posterior.

    log p(x) = int_0^1 E_{pi_b} log_w db,      pi_b ~ q^(1 - b) p(x, z)^b

The integrand rises with `b`, so that the left sum over a partition is a lower bound and the right sum an upper one
(`elbax.bounds.log_weights.tvo_upper`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.bounds import log_weights
from elbax.bounds.base import positive_integer
from elbax.bounds.gradients import ByDensity, DReG
from elbax.bounds.particles import Gradient, ParticleBound, Total
from elbax.errors import ConfigError

__all__ = ["TVO"]


class TVO(ParticleBound):
    """The left Riemann sum `sum_i (b_(i+1) - b_i) E_{pi_(b_i)} log_w`, in nats per datum: a lower bound on log p(x).

    With one piece this is the ELBO. Expectations under `pi_b` are taken with the normalised weights `w^b` of the
    particles, which are biased for few of them; the sum still is a lower bound in expectation, because it is at most
    IWAE of the same particles. `ByDensity()` differentiates each term as

        grad E_pi f = E_pi grad f + Cov_pi(f, grad log pi~_b),   f = log_w,   log pi~_b = (1 - b) log q + b log p(x, z)

    at fixed draws; both parts are needed, and nothing has to be reparameterised. It is consistent as `K` grows, and
    exact for the term at `b = 0`. `Total()` and `DReG()` differentiate the estimate with `K` particles, without bias.

    Attributes:
        partition: `0 = b_0 < b_1 < ... < b_n = 1`. A first inner point between 0.01 and 0.1 serves well.
        num_particles: `K`, which all terms share; two or more.
        num_samples: independent bounds that are averaged.
        gradient: `ByDensity()`, `Total()` or `DReG()`.

    References:
        Masrani, Le & Wood, The Thermodynamic Variational Objective, NeurIPS 2019, equations 8 and 12 (there the
        covariance is that of the particles; here it is multiplied by K / (K - 1)).
    """

    partition: tuple[float, ...] = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=ByDensity())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (ByDensity, Total, DReG)

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        partition: Sequence[float],
        num_particles: int,
        num_samples: int = 1,
        gradient: Gradient = ByDensity(),  # noqa: B008  frozen
    ) -> None:
        points = tuple(float(b) for b in partition)
        rises = all(low < high for low, high in itertools.pairwise(points))
        if len(points) < 2 or points[0] != 0 or points[-1] != 1 or not rises:
            raise ConfigError(f"TVO(partition={partition!r}): give rising points from 0 to 1, such as (0, 0.05, 1).")
        if positive_integer("num_particles", num_particles) < 2:
            raise ConfigError("TVO(num_particles=1): a covariance needs two particles or more.")
        self.model = model
        self.guide = guide
        self.partition = points
        self.num_particles = num_particles
        self.num_samples = positive_integer("num_samples", num_samples)
        self.gradient = gradient

    def of(self, log_w: jax.Array) -> jax.Array:
        """The left sum of each datum."""
        return log_weights.tvo_lower(log_w, self.partition)

    def density_weights(self, log_w: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`s + b c` for the model, `(1 - b) c - s` for the guide; `c` are the particles' shares of the covariance."""
        of_model, of_guide = jnp.zeros_like(log_w), jnp.zeros_like(log_w)
        for low, high in itertools.pairwise(self.partition):
            s = jax.nn.softmax(low * log_w, axis=0)
            c = s * (log_w - log_weights.tempered_mean(log_w, low)) * self.num_particles / (self.num_particles - 1)
            of_model += (high - low) * (s + low * c)
            of_guide += (high - low) * ((1 - low) * c - s)
        return of_model, of_guide
