"""Exact sums over a finite support."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.branches import MAX_OUTCOMES
from elbax.estimators.support import log_probs_of, mixed_size, over_mixed, support_of
from elbax.graph.distributions import Lifted

__all__ = ["Enumerate"]


class Enumerate(Estimator):
    """Exact sum over the outcomes of a node: `grad sum_v p(v) f(v)`.

    Elements that influence separate costs (a plate) are summed out all at once. Of elements that share costs, each is
    summed out in turn with the others as they were drawn (local expectation gradients): the term is
    `sum_i sum_v p_i(v) stop_gradient(Q(v, z_-i))`, with no variance left of element `i` itself.

    With `branch`, the whole rest of the program is run for every outcome and weighted with its probability, so that
    the value of the loss, and the gradients of whatever lies below, are averaged over the node as well. Elements that
    share costs are then summed out jointly, which is refused where they have too many joint outcomes.

    Use it where the support is small: a gate, a cluster, an exit step. Cost: one probe per outcome and element that
    shares costs; with `branch`, one run forward and backward per joint outcome.

    Attributes:
        branch: whether to run the rest of the program for every outcome.
        batch_size: how many elements that share costs are probed at a time; all by default.

    References:
        Titsias & Lázaro-Gredilla, Local Expectation Gradients for Black Box Variational Inference, NeurIPS 2015.
        Schulman et al., NeurIPS 2015, section 5 (branching).
    """

    branch: bool = False
    batch_size: int | None = None

    probes: ClassVar[bool] = True

    def requires(self, site: Site) -> str | None:
        """Needs a finite support that is known when the program is traced."""
        support = support_of(site.dist)
        if support is None:
            return f"its distribution {site.dist.name} has no finite support that is known when the program is traced"
        if not self.branch:
            return None
        if site.loops:
            return f"it stands in a loop of {site.loops[0]} steps, whose joint outcomes are too many to run"
        if (mixed := mixed_size(site)) > 1 and len(support) ** mixed > MAX_OUTCOMES:
            return (
                f"{mixed} of its elements share costs, so that branch mode would have to run {len(support)}^{mixed} "
                "joint outcomes. Enumerate() sums one element out at a time"
            )
        return None

    def num_outcomes(self, site: Site) -> int:
        """Joint outcomes of the elements that share costs."""
        support = support_of(site.dist)
        assert support is not None
        return len(support) ** mixed_size(site)

    def num_evaluations(self, site: Site) -> int:
        """One for the draw and one per outcome probed."""
        support = support_of(site.dist)
        assert support is not None
        return self.num_outcomes(site) if self.branch else 1 + len(support) * mixed_size(site)

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw, with the log-probabilities of all outcomes."""
        value = jax.lax.stop_gradient(dist.sample(key))
        stated = None if log_prob is LogProb.UNUSED else dist.log_prob(value)
        if log_prob is LogProb.LINEAR:
            stated = jax.lax.stop_gradient(stated)
        support = support_of(dist)
        assert support is not None
        return Draw(value, stated, (value, log_probs_of(dist, support)))

    def outcome(self, index: jax.Array, dist: Lifted, site: Site) -> Draw:
        """The joint outcome with a number; `aux` is its log-probability, over aligned axes."""
        support = support_of(dist)
        assert support is not None
        mixed = [1 if aligned else n for n, aligned in zip(site.shape, site.aligned, strict=True)]
        digits = index // jnp.asarray(len(support) ** np.arange(np.prod(mixed, dtype=int))) % len(support)
        value = jnp.asarray(support)[digits].reshape(*mixed, *dist.event_shape)
        value = jnp.broadcast_to(value, (*dist.shape, *dist.event_shape))
        log_prob = dist.log_prob(value)
        return Draw(value, log_prob, over_mixed(dist.density(value), site))

    def term(self, context: Context) -> jax.Array:
        """`sum_v p(v) stop_gradient(Q(v))`, element by element."""
        if self.branch:
            return jnp.zeros(())
        value, log_probs = context.aux
        support = support_of(context.site.dist)
        assert support is not None
        assert context.probe is not None
        site, probe = context.site, context.probe
        p = jnp.exp(log_probs)

        def probed(where: jax.Array, outcome: jax.Array) -> jax.Array:
            where = where.reshape(where.shape + (1,) * (value.ndim - where.ndim))
            return probe(jnp.where(where, outcome.astype(value.dtype), value))

        def element(where: jax.Array) -> jax.Array:
            q = jax.lax.stop_gradient(jax.vmap(lambda v: probed(where, v))(jnp.asarray(support)))
            return jnp.sum(jnp.where(where, p * q, 0.0))

        masks = one_at_a_time(site)
        if len(masks) == 1:
            return element(masks[0])
        return jnp.sum(jax.lax.map(element, masks, batch_size=self.batch_size or len(masks)))


def one_at_a_time(site: Site) -> Any:
    """Masks that select the elements that are probed together: all of an aligned axis, one of the others."""
    mixed = [1 if aligned else n for n, aligned in zip(site.shape, site.aligned, strict=True)]
    masks = np.eye(int(np.prod(mixed)), dtype=bool).reshape(-1, *mixed)
    return jnp.asarray(np.broadcast_to(masks, (len(masks), *site.shape)))
