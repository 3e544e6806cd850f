"""Kullback-Leibler terms in closed form, where that is exact.

`E_q[log q(z) - log p(z)]` may be replaced by `KL(q(z | parents) || p(z | parents))` for a site `z` if two things hold:
there is a closed form for the two distributions, and under the guide `z` is drawn independently, given its own parents,
of what the model's distribution of `z` depends on. The second holds unless `z` influences, in the guide, a latent that
is a parent of `z` in the model; a bottom-up guide for a top-down model is the typical case where it fails.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions.kl import kl_divergence

from elbax.bounds.pair import Latent, Run
from elbax.graph.analysis import Facts
from elbax.graph.distributions import Lifted
from elbax.graph.relations import Align, Rels

__all__ = ["closed_form_kl", "why_not_exact"]


def closed_form_kl(run: Run, latent: Latent) -> tuple[jax.Array | None, str]:
    """KL(q || p) of one site, in nats, with the node's shape; or `None` and the reason why it is not exact."""
    if reason := why_not_exact(run.guide, run.model, latent.name):
        return None, reason
    if [size for size, _ in latent.q.structure.lanes] != [size for size, _ in latent.p.structure.lanes]:
        return None, "guide and model map over the site in different ways"
    q, p = latent.q.one, latent.p.one
    if (q.batch_shape, q.event_shape) != (p.batch_shape, p.event_shape):
        return None, f"{latent.q.name} and {latent.p.name} divide the site into independent elements in different ways"
    try:
        value = _over_both(latent.q, latent.p)
    except NotImplementedError:
        return None, f"there is no closed form for KL({latent.q.name} || {latent.p.name})"
    return jnp.broadcast_to(value, latent.q.shape), ""


def _over_both(q: Lifted, p: Lifted) -> jax.Array:
    def one(q_leaves: tuple, p_leaves: tuple) -> Any:
        q_one = jax.tree.unflatten(q.structure.treedef, q_leaves)
        p_one = jax.tree.unflatten(p.structure.treedef, p_leaves)
        return jnp.broadcast_to(kl_divergence(q_one, p_one), q_one.batch_shape)

    for (size, q_axes), (_, p_axes) in zip(reversed(q.structure.lanes), reversed(p.structure.lanes), strict=True):
        one = jax.vmap(one, in_axes=(q_axes, p_axes), axis_size=size)
    return one(q.leaves, p.leaves)


def why_not_exact(guide: Facts, model: Facts, name: str) -> str:
    """Why the KL of a site may not be taken in closed form given its parents; empty if it may."""
    z, parameters = guide.samples[name], model.samples[name].parameters
    for parent, fact in model.samples.items():
        to_site = parameters.restrict(parameters.direct).rels(fact.index)
        if to_site is None:
            continue
        to_parent = guide.samples[parent].parameters.rels(z.index)
        if parent == name:
            itself: Rels = tuple(Align(d, 1, n) for d, n in enumerate(z.shape))
            to_parent = (
                itself if to_parent is None else tuple(_hull(a, b) for a, b in zip(itself, to_parent, strict=True))
            )
        if to_parent is not None and not _never_itself(to_parent, to_site):
            return f"in the guide '{name}' influences '{parent}', on which it depends in the model"
    return ""


def _hull(a: Align | None, b: Align | None) -> Align | None:
    if a is None or b is None or a[:3] != b[:3]:
        return None
    return a._replace(low=min(a.low, b.low), high=max(a.high, b.high))


def _never_itself(to_parent: Rels, to_site: Rels) -> bool:
    """Whether no element of a site influences, through the guide, a parent that the same element has in the model."""
    for axis, first in enumerate(to_parent):
        if first is None or first.inner != 1 or first.dim >= len(to_site):
            continue
        second = to_site[first.dim]
        if second is None or second.dim != axis or second.inner != 1:
            continue
        if not first.low + second.low <= 0 <= first.high + second.high:
            return True
    return False
