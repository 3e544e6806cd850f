"""Importance-weighted bounds: several particles of the guide inside the logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.bounds import log_weights
from elbax.bounds.base import Bound, positive_integer
from elbax.bounds.elbo import ELBO, elbo_costs
from elbax.bounds.pair import run_pair
from elbax.bounds.per_datum import data_relations, sum_per_datum

__all__ = ["IWAE"]


class IWAE(Bound):
    """The importance-weighted bound `E log (1/K) sum_k p(x, z_k) / q(z_k | x)`, as a program.

    One cost, `-IWAE`, with one element per datum: the weights of a datum are those of its own latents, found by
    following the leading axis of the data through the model and the guide. The score-function gradient of this bound
    for discrete latents is valid but has a high variance.

    Attributes:
        num_particles: `K`, inside the logarithm. With one particle this is the ELBO with everything sampled.
        num_samples: independent bounds that are averaged, outside the logarithm.

    References:
        Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016.
    """

    num_particles: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True, default=1)

    def __init__(self, model: Callable, guide: Callable, *, num_particles: int, num_samples: int = 1) -> None:
        self.model = model
        self.guide = guide
        self.num_particles = positive_integer("num_particles", num_particles)
        self.num_samples = positive_integer("num_samples", num_samples)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, jax.Array]:
        """The cost of one run: minus the bound of each datum, in nats."""
        relations = data_relations(ELBO(self.model, self.guide, analytic_kl=False), args, kwargs, type(self).__name__)

        def particle() -> jax.Array:
            run = run_pair(self.model, self.guide, args, kwargs, linear=False)
            return -sum_per_datum(elbo_costs(run, analytic_kl=False), relations)

        def once() -> jax.Array:
            return log_weights.iwae(jax.vmap(particle, axis_size=self.num_particles)())

        return {"-IWAE": -jnp.mean(jax.vmap(once, axis_size=self.num_samples)(), axis=0)}
