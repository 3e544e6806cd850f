"""CARMS: several negatively dependent draws of a categorical node."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import log_prob_of
from elbax.estimators.leave_one_out import at_least_two
from elbax.estimators.logits import logits_of, no_categories, of_index
from elbax.graph.distributions import Lifted

__all__ = ["CARMS"]


class CARMS(Estimator):
    """CARMS: `num_samples` draws of a categorical node that avoid one another, made unbiased by importance weights.

    Uniforms from a Dirichlet copula, pairwise as negatively dependent as they can be, are turned into categories by the
    inverse distribution function, with the categories in a random order. The estimate is leave-one-out over pairs,

        1 / (n (n - 1)) sum_{j<k} r(z_j, z_k) (f(z_j) - f(z_k)) grad (log p(z_j) - log p(z_k)),

    with `r(a, b) = p(a) p(b) / P(a, b)` and `P` the joint probability of a pair; with independent draws (`r = 1`) that
    is `RLOO`. The orders are drawn from one for each pair of categories, in which these two stand first and last, so
    that every pair is possible. Unbiased for every cost. With two draws of many categories the weights vary so much
    that `RLOO` is better; take three or more. With two categories it is `ARMS`, with two draws then `DisARM`. Elements
    that share costs are redrawn all at once. Cost: `num_samples - 1` probes; work and memory for the weights grow with
    the square of the number of categories.

    Attributes:
        num_samples: draws of the node, two or more.

    References:
        Dimitriev & Zhou, CARMS: Categorical-Antithetic-REINFORCE Multi-Sample Gradient Estimator, NeurIPS 2021
        (CARMS-I).
    """

    num_samples: int = 3

    probes: ClassVar[bool] = True

    def __check_init__(self) -> None:
        at_least_two("CARMS", "num_samples", self.num_samples)

    def requires(self, site: Site) -> str | None:
        """Needs categories."""
        return no_categories(site.dist)

    def num_evaluations(self, site: Site) -> int:
        """One per draw."""
        return self.num_samples

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the draws; the others, all log-probabilities, and the weights of pairs."""
        logits = logits_of(dist)
        log_p = jax.nn.log_softmax(logits, axis=-1)
        p = jnp.exp(jax.lax.stop_gradient(log_p))
        uniform_key, order_key = jax.random.split(key)
        uniforms = antithetic_uniforms(uniform_key, self.num_samples, p.shape[:-1], p.dtype)
        order = jax.random.randint(order_key, p.shape[:-1], 0, len(first_and_last(p.shape[-1])))
        indices = categories(p, uniforms, order)
        weights = pair_weights(p, indices)
        values = of_index(dist, indices, p.shape[-1], p.dtype)
        scores = jnp.stack([_taken(log_p, i) for i in indices])
        return Draw(values[0], log_prob_of(dist, values[0], log_prob), (values[1:], scores, weights))

    def term(self, context: Context) -> jax.Array:
        """`1 / (n (n - 1)) sum_k log p(z_k) stop_gradient(sum_j r(z_j, z_k) (Q_k - Q_j))`."""
        assert context.probe is not None
        assert context.credit is not None
        others, scores, weights = context.aux
        q = jnp.concatenate([context.credit[None], jax.vmap(context.probe)(others)])
        signal = jnp.sum(weights * (q[:, None] - q[None, :]), axis=1)
        n = self.num_samples
        return jnp.sum(scores * jax.lax.stop_gradient(signal)) / (n * (n - 1))


def antithetic_uniforms(key: jax.Array, num: int, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Uniforms from the Dirichlet copula: `u_k = (1 - d_k)^(n-1)`, `d` uniform on the simplex; `[num, *shape]`."""
    noise = jax.random.exponential(key, (num, *shape), dtype)
    rest = jnp.sum(noise, axis=0, keepdims=True) - noise if num > 2 else noise[::-1]
    return (rest / jnp.sum(noise, axis=0, keepdims=True)) ** (num - 1)


def joint_below(num: int, u: jax.Array, v: jax.Array) -> jax.Array:
    """`P(u_1 < u, u_2 < v)` of two of the uniforms."""
    root = 1 / (num - 1)
    return jnp.maximum(u**root + v**root - 1, 0.0) ** (num - 1)


def first_and_last(num: int) -> np.ndarray:
    """The orders of the categories: which one stands first and which last, the others as they are numbered."""
    return np.stack(np.triu_indices(num, 1), axis=1)


def left_end(p_ends: tuple, ends: tuple, before: jax.Array, index: jax.Array) -> jax.Array:
    """Where the interval of a category begins, in an order.

    Args:
        p_ends: probabilities of the categories that stand first and last.
        ends: their numbers.
        before: probability of all categories with smaller numbers.
        index: of the category.
    """
    (p_first, p_last), (first, last) = p_ends, ends
    between = before + jnp.where(first < index, 0.0, p_first) - jnp.where(last < index, p_last, 0.0)
    return jnp.where(index == first, 0.0, jnp.where(index == last, 1 - p_last, between))


def categories(p: jax.Array, uniforms: jax.Array, order: jax.Array) -> jax.Array:
    """The categories in whose intervals the uniforms lie. Shape of `uniforms`: `[n, ...]`.

    Args:
        p: probabilities, shape `[..., categories]`.
        uniforms: shape `[n, ...]`.
        order: for each element the row of its order in `first_and_last`. Shape `[...]`.
    """
    ends = tuple(jnp.asarray(e)[order][..., None] for e in first_and_last(p.shape[-1]).T)
    p_ends = tuple(jnp.take_along_axis(p, e, axis=-1) for e in ends)
    index = jnp.arange(p.shape[-1]).reshape((1,) * (p.ndim - 1) + (-1,))
    left = left_end(p_ends, ends, jnp.cumsum(p, axis=-1) - p, index)
    reached = (left[None] <= uniforms[..., None]) & (p > 0)[None]
    return jnp.argmax(jnp.where(reached, left[None], -1.0), axis=-1)


def pair_weights(p: jax.Array, indices: jax.Array) -> jax.Array:
    """`p(a) p(b) / P(a, b)` of the categories of each two draws, zero if they are the same. Shape `[n, n, ...]`."""
    num = len(indices)
    ends = tuple(e.reshape(-1, *(1 for _ in p.shape[:-1])) for e in first_and_last(p.shape[-1]).T)
    p_ends = tuple(jnp.moveaxis(p, -1, 0)[e.ravel()] for e in ends)
    before = jnp.cumsum(p, axis=-1) - p
    mass = jnp.stack([_taken(p, i) for i in indices])  # [n, ...]
    left = jnp.stack([left_end(p_ends, ends, _taken(before, i)[None], i[None]) for i in indices])  # [n, orders, ...]
    right = jnp.minimum(left + mass[:, None], 1.0)

    def below(u: jax.Array, v: jax.Array) -> jax.Array:
        return joint_below(num, u[:, None], v[None, :])

    cells = below(right, right) + below(left, left) - below(left, right) - below(right, left)
    joint = jnp.maximum(jnp.mean(cells, axis=2), jnp.finfo(p.dtype).eps)
    same = indices[:, None] == indices[None, :]
    return jnp.where(same, 0.0, mass[:, None] * mass[None, :] / joint)


def _taken(values: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
