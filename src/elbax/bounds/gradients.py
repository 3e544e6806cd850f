"""Ways to differentiate the expectation of a bound with several particles, beside `Total`.

With `v_k = dF/dlog_w_k`, the derivative of `E F(log_w_1, .., log_w_K)` has two parts: that of the model in `log_w_k`,
weighted by `v_k`, and that of the guide, by way of the draws and of log q. The second can be written in several ways
that have one expectation and very different variance. Each class here is one of them, for all bounds that state what it
needs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from elbax.bounds import log_weights
from elbax.bounds.particles import Gradient, Particles
from elbax.estimators.base import Site
from elbax.estimators.pathwise import Pathwise
from elbax.graph.analysis import SampleFact
from elbax.graph.graph import abstract_distribution
from elbax.graph.sites import Derivative

__all__ = ["VIMCO", "ByDensity", "DReG"]


class DReG(Gradient):
    """Doubly reparameterised: sticks the landing with any number of particles.

    `sum_k v_k d log p(x, z_k) / dtheta + sum_k (v_k - dv_k/dlog_w_k) d log_w_k / dz_k dz_k/dphi`, where the second sum
    holds the parameters of log q fixed: the term `v_k d log q(z_k) / dphi` is the score of a draw, and is
    reparameterised once more. For the importance-weighted bound `v_k` are the normalised weights and the second weights
    are `v_k^2`. Unbiased, zero for the guide where q is the exact posterior, and with a signal-to-noise ratio that
    rises as `K^(1/2)`. With several layers of latents, log q of a layer is differentiated with respect to the draws of
    the layers above, but not to its parameters, which is what makes it right there.

    All sites must be pathwise, with supports that do not move. Cost: one more backward pass of model and guide.

    References:
        Tucker et al., Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives, ICLR 2019, equations 6 and
        8. Bauer & Mnih, Generalized Doubly Reparameterized Gradient Estimators, ICML 2021 (several layers). Roeder et
        al., Sticking the Landing, NeurIPS 2017 (one particle).
    """

    def derivative(self, site: SampleFact) -> Derivative:
        """Weighs derivatives of the draws."""
        return Derivative.BY_DRAW

    def surrogate(self, bound: Any, particles: Particles) -> jax.Array:
        """`sum_k v_k log p(x, z_k)` of the model, and `sum_k u_k log_w(z_k)` of the draws."""
        of_model = stop_gradient(bound.model_weights(particles.log_w)) * particles.of_model()
        of_values = stop_gradient(bound.path_weights(particles.log_w)) * particles.of_values()
        return jnp.sum(of_model + of_values, axis=0)


class VIMCO(Gradient):
    """Score function with leave-one-out inside the logarithm, for the sites that are not reparameterised.

    `sum_k (L - L_-k) d log q(z_k) / dphi + sum_k v_k d log_w_k / d(theta, phi)`, with `L_-k` the bound without particle
    `k`, whose weight is replaced by a mean of the others'. Every discrete site of a particle is credited with it;
    reparameterised sites of the same guide stay pathwise. Unbiased, and with a far lower variance than the plain score
    function, because `L_-k` does not depend on particle `k`. Needs two particles or more. Costs nothing.

    Attributes:
        arithmetic: whether the missing weight is the arithmetic mean of the others, or else their geometric mean (the
            recommendation of the paper).

    References:
        Mnih & Rezende, Variational Inference for Monte Carlo Objectives, ICML 2016, equations 9 and 10.
    """

    arithmetic: bool = False

    def requires(self, bound: Any) -> str | None:
        """Needs another particle to leave one out."""
        return None if bound.num_particles > 1 else "leaving one out needs num_particles of two or more"

    def derivative(self, site: SampleFact) -> Derivative:
        """Weighs log-densities of sites that have no reparameterisation."""
        name, source, dist = site.equation.name, site.equation.source, abstract_distribution(site.equation)
        is_pathwise = Pathwise().requires(Site(name, source, dist)) is None
        return Derivative.BY_ESTIMATOR if is_pathwise else Derivative.BY_DENSITY

    def surrogate(self, bound: Any, particles: Particles) -> jax.Array:
        """`L + sum_k stop_gradient(L - L_-k) log q(z_k)`."""
        value = bound.of(particles.log_w)
        signal = value - log_weights.leave_one_out(particles.log_w, arithmetic=self.arithmetic)
        return value + jnp.sum(stop_gradient(signal) * particles.log_q, axis=0)


class ByDensity(Gradient):
    """Weighted derivatives of log q and of the model at the drawn values: nothing needs to be reparameterised.

    `sum_k a_k d log p(x, z_k) / dtheta + sum_k b_k d log q(z_k) / dphi` with weights that the bound states. Valid for
    discrete and continuous sites alike; no site has an estimator of its own.
    """

    def derivative(self, site: SampleFact) -> Derivative:
        """Weighs derivatives of the log-densities."""
        return Derivative.BY_DENSITY

    def surrogate(self, bound: Any, particles: Particles) -> jax.Array:
        """`sum_k a_k log p(x, z_k) + b_k log q(z_k)`."""
        of_model, of_guide = map(stop_gradient, bound.density_weights(stop_gradient(particles.log_w)))
        log_joint = particles.log_w + particles.log_q
        return jnp.sum(of_model * log_joint + of_guide * particles.log_q, axis=0)
