"""Antithetic draws of binary nodes: a draw and its mirror images, which differ where it matters.

With `u` uniform and `s` the probability of a one, `1[u > 1 - s]` and `1[u < s]` are two draws from the same Bernoulli,
as unlike each other as two can be. The noise is kept as `logit(u)`, in which both are comparisons with the logit `a`.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import as_drawn, binary_logits, log_prob_of, no_bernoulli, with_events
from elbax.estimators.leave_one_out import at_least_two
from elbax.graph.distributions import Lifted

__all__ = ["ARM", "ARMS", "DisARM"]


class ARM(Estimator):
    """Augment-REINFORCE-merge, for binary nodes: `(f(1[u > 1 - s]) - f(1[u < s])) (u - 1/2)`.

    An estimate of the gradient with respect to the logits `a`, `s = sigmoid(a)`, from one uniform `u` per element; all
    elements that share costs take their mirror images at once. Unbiased for every cost, however discontinuous. `DisARM`
    has the same expectation given the two draws and less variance: use that; this one is here to compare with.
    Cost: two evaluations, the draw and one probe.

    References:
        Yin & Zhou, ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks, ICLR 2019, theorem 1.
    """

    probes: ClassVar[bool] = True

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli."""
        return no_bernoulli(site)

    def num_evaluations(self, site: Site) -> int:
        """The draw and its mirror image."""
        return 2

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the two draws; the second, and the logits with the weight of their difference."""
        logits, noise = _logits_and_noise(key, dist)
        value, mirrored = _pair(logits, noise)
        weight = jax.lax.stop_gradient(jax.nn.sigmoid(noise) - 0.5)
        return Draw(value, log_prob_of(dist, value, log_prob), (mirrored, weight * logits))

    def term(self, context: Context) -> jax.Array:
        """The difference of the two credits, times `(u - 1/2) a`."""
        return _difference(context)


class DisARM(Estimator):
    """DisARM, also known as U2G, for binary nodes: `(f(b) - f(b')) / 2 (b - b') max(s, 1 - s)`.

    `b = 1[u > 1 - s]` and `b' = 1[u < s]` are antithetic draws, and the gradient is that of the logits. This is ARM
    with the noise integrated out given the two draws, element by element. Unbiased for every cost, however
    discontinuous. The best that two evaluations without derivatives of the costs can do here: less variance than ARM,
    and than leave-one-out with two draws where the costs are additive over elements. Cost: two evaluations, the draw
    and one probe.

    References:
        Dong, Mnih & Tucker, DisARM: An Antithetic Gradient Estimator for Binary Latent Variables, NeurIPS 2020,
        equation 5. Yin et al., Probabilistic Best Subset Selection via Gradient-Based Optimization, 2020 (U2G).
    """

    probes: ClassVar[bool] = True

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli."""
        return no_bernoulli(site)

    def num_evaluations(self, site: Site) -> int:
        """The draw and its mirror image."""
        return 2

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the two draws; the second, and the logits with the weight of their difference."""
        logits, noise = _logits_and_noise(key, dist)
        value, mirrored = _pair(logits, noise)
        differ = (value - mirrored).astype(logits.dtype)
        weight = jax.lax.stop_gradient(0.5 * differ * jax.nn.sigmoid(jnp.abs(logits)))
        return Draw(value, log_prob_of(dist, value, log_prob), (mirrored, weight * logits))

    def term(self, context: Context) -> jax.Array:
        """The difference of the two credits, times `(b - b') max(s, 1 - s) a / 2`."""
        return _difference(context)


def _logits_and_noise(key: jax.Array, dist: Lifted) -> tuple[jax.Array, jax.Array]:
    logits = binary_logits(dist)
    return logits, jax.random.logistic(key, logits.shape, logits.dtype)


def _pair(logits: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    return as_drawn(logits + noise > 0), as_drawn(logits - noise > 0)


def _difference(context: Context) -> jax.Array:
    assert context.probe is not None
    assert context.credit is not None
    mirrored, weighted = context.aux
    difference = jax.lax.stop_gradient(context.credit - context.probe(mirrored))
    return jnp.sum(with_events(difference, context.site) * weighted)


class ARMS(Estimator):
    """ARMS, for binary nodes: leave-one-out with several antithetic draws, corrected for their correlation.

        1/(K-1) sum_k (f(b_k) - mean(f)) (b_k - s) / (1 - rho),     1 - rho = (m - P) / (m (1 - m))

    per element, where `m` is the probability of the element's rarer outcome and `P` that two draws both take it. The
    draws are `1[1 - (1 - d_k)^(K-1) > 1 - m]` with `d` uniform on the simplex (the Dirichlet copula), for which
    `P = max(0, 2 m^(1/(K-1)) - 1)^(K-1)`: with two draws this is DisARM. Unbiased for every cost, however
    discontinuous. Use it for three and more evaluations without derivatives of the costs. Cost: `num_samples`
    evaluations.

    Attributes:
        num_samples: draws of the node, two or more.

    References:
        Dimitriev & Zhou, ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables, ICML 2021, theorem 3
        and section 3.3.
    """

    num_samples: int = 3

    probes: ClassVar[bool] = True

    def __check_init__(self) -> None:
        at_least_two("ARMS", "num_samples", self.num_samples)

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli."""
        return no_bernoulli(site)

    def num_evaluations(self, site: Site) -> int:
        """One per draw."""
        return self.num_samples

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the draws; the others, and the logits with the weights of all credits."""
        logits, k = binary_logits(dist), self.num_samples
        fixed = jax.lax.stop_gradient(logits)
        log_rare = jax.nn.log_sigmoid(-jnp.abs(fixed))
        noise = jax.random.exponential(key, (k, *logits.shape), logits.dtype)
        rare = _upper_tail(noise, log_rare[None])
        values = as_drawn(rare == (fixed < 0)[None])
        # m (1 - m) / (m - P), without dividing by an m that may be zero
        both = jnp.maximum(0.0, 2.0 - jnp.exp(-log_rare / (k - 1))) ** (k - 1)
        weight = jax.nn.sigmoid(jnp.abs(fixed)) / (1.0 - both) / (k - 1)
        weighted = values.astype(logits.dtype) * (weight * logits)[None]
        return Draw(values[0], log_prob_of(dist, values[0], log_prob), (values[1:], weighted))

    def term(self, context: Context) -> jax.Array:
        """`sum_k (f(b_k) - mean(f)) b_k a / ((K-1) (1 - rho))`; the mean of the draws drops out."""
        assert context.probe is not None
        assert context.credit is not None
        others, weighted = context.aux
        q = jnp.concatenate([context.credit[None], jax.vmap(context.probe)(others)])
        q = jax.lax.stop_gradient(q - q.mean(0))
        return jnp.sum(with_events(q, context.site) * weighted)


def _upper_tail(noise: jax.Array, log_rare: jax.Array) -> jax.Array:
    """`1[u_k > 1 - m]` for the copula `u_k = 1 - (1 - d_k)^(K-1)`, `d` the shares of exponential `noise`."""
    rest = jnp.log(jnp.sum(noise, axis=0, keepdims=True) - noise) - jnp.log(jnp.sum(noise, axis=0, keepdims=True))
    return (len(noise) - 1) * rest < log_rare
