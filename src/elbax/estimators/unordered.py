"""The unordered set estimator: several different outcomes, drawn without replacement."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import log_prob_of
from elbax.estimators.enumerate import one_at_a_time
from elbax.estimators.logits import logits_of, no_categories, of_index
from elbax.estimators.support import mixed_size, support_of
from elbax.graph.distributions import Lifted

__all__ = ["Unordered"]

MAX_SAMPLES = 6  # weights are sums over subsets


class Unordered(Estimator):
    """Unordered set estimator: `num_samples` different categories, drawn without replacement.

    `sum_{s in S} grad p(s) R(S, s) (f(s) - sum_{s' in S} p(s') R(S, s', s) f(s'))`, where `R(S, s)` is the probability
    of the set given that `s` was drawn first, relative to that of the set, and `R(S, s', s)` the same among the
    categories without `s`. This is leave-one-out with the order of the draws integrated out, and no draw is wasted on
    an outcome already seen; with as many samples as categories it is the exact sum. Unbiased for every cost. Use it
    where probabilities are uneven, or categories too many to sum over.

    Elements that influence separate costs are redrawn all at once, those that share costs one at a time. Cost:
    `num_samples - 1` probes per element that shares costs.

    Attributes:
        num_samples: different categories per draw, from 2 to 6.
        batch_size: how many elements that share costs are probed at a time; all by default.

    References:
        Kool, van Hoof & Welling, Estimating Gradients for Discrete Random Variables by Sampling without Replacement,
        ICLR 2020, equations 16 and 20.
    """

    num_samples: int = 2
    batch_size: int | None = None

    probes: ClassVar[bool] = True

    def __check_init__(self) -> None:
        n = self.num_samples
        if not isinstance(n, int) or isinstance(n, bool) or not 2 <= n <= MAX_SAMPLES:
            raise ConfigError(f"Unordered(num_samples={n!r}): needs a whole number from 2 to {MAX_SAMPLES}.")

    def requires(self, site: Site) -> str | None:
        """Needs at least as many categories as samples."""
        if obstacle := no_categories(site.dist):
            return obstacle
        support = support_of(site.dist)
        if support is not None and len(support) < self.num_samples:
            return f"it has {len(support)} categories, fewer than {self.num_samples} different samples"
        return None

    def num_evaluations(self, site: Site) -> int:
        """The draw, and the others for each element that shares costs."""
        return 1 + (self.num_samples - 1) * mixed_size(site)

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first category; the others, log-probabilities of all of them, and their weights."""
        logits = logits_of(dist)
        num = logits.shape[-1]
        log_p = jnp.maximum(jax.nn.log_softmax(logits, axis=-1), -1e30)  # so that impossible ones may be in the set
        noise = jax.random.gumbel(key, logits.shape, logits.dtype)
        _, indices = jax.lax.top_k(jax.lax.stop_gradient(log_p) + noise, self.num_samples)
        drawn = jnp.moveaxis(jnp.take_along_axis(log_p, indices, axis=-1), -1, 0)  # [samples, *shape]
        in_set = jnp.any(jax.nn.one_hot(indices, num, dtype=bool), axis=-2)
        outside = jax.nn.logsumexp(jnp.where(in_set, -jnp.inf, jax.lax.stop_gradient(log_p)), axis=-1)
        weights = set_weights(jax.lax.stop_gradient(drawn), outside)
        values = of_index(dist, jnp.moveaxis(indices, -1, 0), num, logits.dtype)
        return Draw(values[0], log_prob_of(dist, values[0], log_prob), (values, drawn, weights))

    def term(self, context: Context) -> jax.Array:
        """`sum_s log p(s) stop_gradient(p(s) R(S, s) (Q(s) - baseline(s)))`, element by element."""
        assert context.probe is not None
        assert context.credit is not None
        values, log_p, (first, baseline) = context.aux
        probe, credit, ndim = context.probe, context.credit, values.ndim - 1

        def element(where: jax.Array) -> jax.Array:
            place = where.reshape(where.shape + (1,) * (ndim - where.ndim))
            others = jax.vmap(lambda v: probe(jnp.where(place, v, values[0])))(values[1:])
            q = jnp.broadcast_to(jnp.concatenate([credit[None], others]), log_p.shape)
            weight = first * (q - jnp.einsum("st...,t...->s...", baseline, q))
            return jnp.sum(jnp.where(where, log_p * jax.lax.stop_gradient(weight), 0.0))

        masks = one_at_a_time(context.site)
        if len(masks) == 1:
            return element(masks[0])
        return jnp.sum(jax.lax.map(element, masks, batch_size=self.batch_size or len(masks)))


def set_weights(log_p: jax.Array, outside: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`p(s) R(S, s)`, shape `[k, ...]`, and `p(s') R(S, s', s)` at `[s, s']`, zero on the diagonal where it belongs.

    Args:
        log_p: log-probabilities of the `k` categories of the set. Shape `[k, ...]`.
        outside: log of the probability of all others. Shape `[...]`.
    """
    k = len(log_p)
    everything = frozenset(range(k))

    @functools.cache
    def left(gone: frozenset[int]) -> jax.Array:
        """Log of the probability of all categories that are not `gone`."""
        return functools.reduce(jnp.logaddexp, [log_p[i] for i in sorted(everything - gone)], outside)

    @functools.cache
    def drawn(without: frozenset[int], subset: frozenset[int]) -> Any:
        """Log of the probability that the first draws are `subset`, in any order, among categories `without` some."""
        if not subset:
            return jnp.zeros_like(outside)
        ways = [drawn(without, subset - {i}) + log_p[i] - left(without | subset - {i}) for i in sorted(subset)]
        return functools.reduce(jnp.logaddexp, ways)

    whole = drawn(frozenset(), everything)
    first = [log_p[s] + drawn(frozenset({s}), everything - {s}) - whole for s in range(k)]
    baseline = [[jnp.zeros_like(outside)] * k for _ in range(k)]
    for s in range(k):
        rest = everything - {s}
        given = drawn(frozenset({s}), rest)
        baseline[s][s] = jnp.exp(log_p[s])
        for t in sorted(rest):
            second = drawn(frozenset({s, t}), rest - {t})
            baseline[s][t] = jnp.exp(log_p[t] + second - given)
    return jnp.exp(jnp.stack(first)), jnp.stack([jnp.stack(row) for row in baseline])
