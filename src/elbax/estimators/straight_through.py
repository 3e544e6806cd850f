"""Straight-through estimators: the draw is discrete, its derivative that of something smooth.

All are of the form `dD = sum_i w_i J(p_i) d logits`, with `J(p) = diag(p) - p p^T` and `D` the one-hot draw; they
differ in the points `p_i` of the simplex at which the Jacobian of the softmax is taken.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from elbax.estimators.relaxed import Relaxed, along, check_at_least, check_positive, one_hot_draw
from elbax.graph.distributions import Lifted

__all__ = ["Gapped", "ReinMax", "StraightThrough"]


class StraightThrough(Relaxed):
    """Straight-through: a discrete draw with the derivative of its mean, `dD = d softmax(logits)`.

    The estimate is `J(p) df/dD`. Biased, unless the costs are linear in each node given the others, where it is
    exact. The simplest of its kind, and a first-order approximation of the gradient; `ReinMax` is of second order. One
    forward and backward pass. Costs must be differentiable functions of the value.

    References:
        Bengio, Léonard & Courville, Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
        Computation, 2013. First-order: Liu et al., NeurIPS 2023, theorem 2.1.
    """

    def relax(self, key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
        """A draw with the derivative of the softmax."""
        return one_hot_draw(key, dist, logits) + along(jax.nn.softmax(logits, axis=-1), logits)


class ReinMax(Relaxed):
    """ReinMax: a straight-through estimator of second order.

    `dD = 2 J((p_tau + D) / 2) d logits - 1/2 J(p) d logits`, `p_tau = softmax(logits / tau)`: Heun's method where
    straight-through is Euler's. Biased, but exact at `tau = 1` if the costs are quadratic in the node; the least
    error per pass of the straight-through family in most comparisons. One forward and backward pass. Costs must be
    differentiable functions of the value.

    Attributes:
        tau: temperature, 1 or more; larger values trade bias for variance.

    References:
        Liu, Dong, Liu, Yu & Gao, Bridging Discrete and Backpropagation: Straight-Through and Beyond, NeurIPS 2023,
        equation 7 and algorithm 2.
    """

    tau: float = 1.0

    def __check_init__(self) -> None:
        check_at_least("ReinMax", "tau", self.tau, 1.0)

    def relax(self, key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
        """A draw with the derivative of Heun's method."""
        drawn = one_hot_draw(key, dist, logits)
        middle = (jax.nn.softmax(logits / self.tau, axis=-1) + drawn) / 2
        return drawn + 2 * along(middle, logits) - along(jax.nn.softmax(logits, axis=-1), logits) / 2


class Gapped(Relaxed):
    """Gapped straight-through: the derivative of a softmax of logits that are moved until they agree with the draw.

    The logit of the category drawn is lifted to the largest one, and all others are pushed at least `gap` below it;
    `dD = J(softmax(moved / temperature)) d logits / temperature`. Biased. It has what makes straight-through
    Gumbel-softmax work, an argmax that is the draw with a margin, without the noise of Gumbel variables. One forward
    and backward pass. Costs must be differentiable functions of the value.

    Attributes:
        gap: the margin; `None` for `-log(1 - p_D) / p_D`, the mean of what Gumbel noise would leave.
        temperature: of the softmax, above 0.

    References:
        Fan, Chi, Rudnicky & Ramadge, Training Discrete Deep Generative Models via Gapped Straight-Through Estimator,
        ICML 2022.
    """

    gap: float | None = 1.0
    temperature: float = 1.0

    def __check_init__(self) -> None:
        check_positive("Gapped", "temperature", self.temperature)
        if self.gap is not None:
            check_at_least("Gapped", "gap", self.gap, 0.0)

    def relax(self, key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
        """A draw with the derivative of the softmax of moved logits."""
        drawn = one_hot_draw(key, dist, logits)
        fixed = jax.lax.stop_gradient(logits)
        largest = jnp.max(fixed, axis=-1, keepdims=True)
        gap = _expected_gap(fixed, drawn) if self.gap is None else self.gap
        moved = jnp.where(drawn > 0, largest, jnp.minimum(fixed, largest - gap))
        return drawn + along(jax.nn.softmax(moved / self.temperature, axis=-1), logits) / self.temperature


def _expected_gap(logits: jax.Array, drawn: jax.Array) -> jax.Array:
    """`-log(1 - p) / p` of the category drawn. Its limit for small `p` is 1."""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    others = jax.nn.logsumexp(log_p, axis=-1, keepdims=True, where=drawn == 0)  # log(1 - p), also where p is nearly 1
    p = jnp.sum(jnp.exp(log_p) * drawn, axis=-1, keepdims=True)
    small = p < 1e-4
    series = 1 + p / 2
    return jnp.where(small, series, -others / jnp.where(small, 1.0, p))
