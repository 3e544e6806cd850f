"""DisARM for categorical nodes: a category is reached by binary decisions, and those are coupled in pairs."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import log_prob_of
from elbax.estimators.logits import logits_of, no_categories, of_index
from elbax.graph.distributions import Lifted

__all__ = ["DisARMTree"]


class DisARMTree(Estimator):
    """DisARM-Tree: two coupled draws of a categorical node, from antithetic decisions in a balanced tree.

    A category is a leaf of a binary tree, and a draw the path to it; the decision at inner node `i` has the log-odds
    `a_i = log sum exp(logits on its right) - log sum exp(logits on its left)`, `s_i = sigmoid(a_i)`. Two draws `z` and
    `z'` decide antithetically wherever their paths run together, and independently after they have parted. The estimate
    for `a_i` is

        (f(z) - f(z')) / 2  *  (b_i - b'_i) max(s_i, 1 - s_i)   at nodes that both paths go through,
                               b_i - s_i                        at nodes on the path to z only,
                               s_i - b'_i                       at nodes on the path to z' only.

    Unbiased for every cost, however discontinuous. With two categories it is `DisARM`. Elements that share costs are
    redrawn all at once. Use it for few evaluations of expensive costs; where the number of categories is small, exact
    sums (`Enumerate`) are better. Cost: two evaluations, the draw and one probe.

    References:
        Dong, Mnih & Tucker, Coupled Gradient Estimators for Discrete Latent Variables, NeurIPS 2021, section 3.2.
    """

    probes: ClassVar[bool] = True

    def requires(self, site: Site) -> str | None:
        """Needs categories."""
        return no_categories(site.dist)

    def num_evaluations(self, site: Site) -> int:
        """The draw and its partner."""
        return 2

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of two coupled draws; the second, and the sum of log-odds with the weights of the estimate."""
        logits = logits_of(dist)
        num = logits.shape[-1]
        noise = jax.random.logistic(key, (depth(num), 2, *logits.shape[:-1]), logits.dtype)
        first, second, score = coupled_paths(logits, noise)
        value, other = (jax.lax.stop_gradient(of_index(dist, i, num, logits.dtype)) for i in (first, second))
        return Draw(value, log_prob_of(dist, value, log_prob), (other, score))

    def term(self, context: Context) -> jax.Array:
        """`(Q - Q') / 2` times the sum over decisions."""
        assert context.probe is not None
        assert context.credit is not None
        other, score = context.aux
        return jnp.sum(score * jax.lax.stop_gradient(context.credit - context.probe(other))) / 2


def depth(num: int) -> int:
    """Decisions on the longest path to one of `num` leaves."""
    return max(1, (num - 1).bit_length())


def decisions(logits: jax.Array) -> list[jax.Array]:
    """The log-odds of going right, at the inner nodes of the tree over the last axis; root first.

    Infinite, and without derivative, where there is nothing to go to on one side.
    """
    size = 2 ** depth(logits.shape[-1])
    padding = [(0, 0)] * (logits.ndim - 1) + [(0, size - logits.shape[-1])]
    sums = jnp.pad(logits, padding, constant_values=-jnp.inf)
    levels = []
    while sums.shape[-1] > 1:
        left, right = sums[..., ::2], sums[..., 1::2]
        both = ~jnp.isneginf(left) & ~jnp.isneginf(right)
        odds = jnp.where(both, right, 0.0) - jnp.where(both, left, 0.0)
        levels.append(jnp.where(both, odds, jnp.where(jnp.isneginf(right), -jnp.inf, jnp.inf)))
        sums = jnp.logaddexp(left, right)
    return levels[::-1]


def coupled_paths(logits: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Two coupled draws, and the score: the sum of the log-odds of their decisions, each times its weight.

    Args:
        logits: shape `[..., categories]`.
        noise: logistic noise, two for each level of the tree. Shape `[depth, 2, ...]`.
    """
    first = second = jnp.zeros(logits.shape[:-1], int)
    score = jnp.zeros(logits.shape[:-1], logits.dtype)
    for odds, (shared, own) in zip(decisions(logits), noise, strict=True):
        together = first == second
        a, a2 = _at(odds, first), _at(odds, second)
        b, b2 = shared > -a, jnp.where(together, shared < a2, own < a2)
        score += jnp.where(together, _coupled(a, b, b2), _alone(a, b) - _alone(a2, b2))
        first, second = 2 * first + b, 2 * second + b2
    return first, second, score


def _at(odds: jax.Array, node: jax.Array) -> jax.Array:
    return jnp.take_along_axis(odds, node[..., None], axis=-1)[..., 0]


def _coupled(a: jax.Array, b: jax.Array, b2: jax.Array) -> jax.Array:
    weight = (b.astype(a.dtype) - b2.astype(a.dtype)) * jax.nn.sigmoid(jnp.abs(a))
    return _finite(a) * jax.lax.stop_gradient(weight)


def _alone(a: jax.Array, b: jax.Array) -> jax.Array:
    return _finite(a) * jax.lax.stop_gradient(jnp.where(b, jax.nn.sigmoid(-a), -jax.nn.sigmoid(a)))


def _finite(a: jax.Array) -> jax.Array:
    return jnp.where(jnp.isinf(a), 0.0, a)
