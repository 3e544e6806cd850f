"""Importance-weighted bounds: several particles of the guide inside the logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.bounds import log_weights
from elbax.bounds.base import positive_integer
from elbax.bounds.gradients import VIMCO, DReG
from elbax.bounds.particles import Gradient, ParticleBound, Total
from elbax.errors import ConfigError

__all__ = ["CIWAE", "IWAE", "PIWAE"]


class IWAE(ParticleBound):
    """The importance-weighted bound `E log (1/K) sum_k p(x, z_k) / q(z_k | x)`, as a program.

    A lower bound on log p(x), in nats per datum, that rises with `K`. One cost, `-IWAE`, with one element per datum:
    the weights of a datum are those of its own latents, found by following the leading axis of the data through the
    model and the guide. With more than one sample this is MIWAE, the mean of independent bounds. For discrete latents
    use `gradient=VIMCO()`; for continuous ones with many particles `gradient=DReG()`.

    Attributes:
        num_particles: `K`, inside the logarithm. With one particle this is the ELBO with everything sampled.
        num_samples: independent bounds that are averaged, outside the logarithm.
        gradient: `Total()`, `DReG()` or `VIMCO()`.

    References:
        Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016. Rainforth et al., Tighter
        Variational Bounds are Not Necessarily Better, ICML 2018 (MIWAE).
    """

    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=Total())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (Total, DReG, VIMCO)

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        num_particles: int,
        num_samples: int = 1,
        gradient: Gradient = Total(),  # noqa: B008  frozen
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
        """The squares of the normalised weights."""
        return jax.nn.softmax(log_w, axis=0) ** 2


class CIWAE(ParticleBound):
    """`beta ELBO + (1 - beta) IWAE`, of the same particles: a lower bound on log p(x), in nats per datum.

    Between the ELBO, whose gradient for the guide is strong, and IWAE, which is tighter for the model.

    Attributes:
        beta: weight of the ELBO, between 0 and 1.
        num_particles: `K`, inside the logarithm.
        num_samples: independent bounds that are averaged.
        gradient: `Total()` or `DReG()`.

    References:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, ICML 2018, section 4.
    """

    beta: float = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=Total())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (Total, DReG)

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        beta: float,
        num_particles: int,
        num_samples: int = 1,
        gradient: Gradient = Total(),  # noqa: B008  frozen
    ) -> None:
        if not 0 <= beta <= 1:
            raise ConfigError(f"CIWAE(beta={beta!r}): the weight of the ELBO must be between 0 and 1.")
        self.model = model
        self.guide = guide
        self.beta = float(beta)
        self.num_particles = positive_integer("num_particles", num_particles)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.gradient = gradient

    def of(self, log_w: jax.Array) -> jax.Array:
        """`beta mean_k log w_k + (1 - beta) log mean_k w_k` of each datum."""
        return log_weights.ciwae(log_w, self.beta)

    def path_weights(self, log_w: jax.Array) -> jax.Array:
        """Those of the two bounds, mixed."""
        return self.beta / log_w.shape[0] + (1 - self.beta) * jax.nn.softmax(log_w, axis=0) ** 2


class PIWAE(ParticleBound):
    """Two targets: the model follows IWAE with all `M K` particles, the guide the mean of `M` bounds with `K` each.

    The model gets the tightest bound, the guide a gradient that is not drowned in noise. The cost is that of the model,
    a lower bound on log p(x) in nats per datum; the guide descends another one, so that the two are not the gradient of
    one function. The guide's gradient is doubly reparameterised, so all sites must be pathwise.

    Attributes:
        num_particles: `K`, inside each of the guide's logarithms.
        num_groups: `M`, how many of them are averaged.

    References:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, ICML 2018, section 4 (there with
        `Total`).
    """

    num_groups: int = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)
    gradient: Gradient = eqx.field(static=True, default=DReG())

    gradients: ClassVar[tuple[type[Gradient], ...]] = (DReG,)

    def __init__(self, model: Callable, guide: Callable, *, num_particles: int, num_groups: int) -> None:
        self.model = model
        self.guide = guide
        self.num_groups = positive_integer("num_groups", num_groups)
        self.num_particles = self.num_groups * positive_integer("num_particles", num_particles)
        self.num_samples = 1
        self.gradient = DReG()

    def of(self, log_w: jax.Array) -> jax.Array:
        """`log mean w` over all particles of each datum."""
        return log_weights.iwae(log_w)

    def path_weights(self, log_w: jax.Array) -> jax.Array:
        """The squares of the weights normalised within a group, averaged over groups."""
        groups = log_w.reshape(self.num_groups, -1, *log_w.shape[1:])
        return jnp.reshape(jax.nn.softmax(groups, axis=1) ** 2, log_w.shape) / self.num_groups
