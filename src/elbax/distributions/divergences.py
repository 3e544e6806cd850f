"""Kullback-Leibler divergences in closed form that NumPyro does not have: Bernoulli and categorical distributions.

They join NumPyro's own table, which knows how to look below `expand`, `to_event` and `mask`.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions.kl import kl_divergence

__all__ = ["bernoulli_kl", "categorical_kl"]


def bernoulli_kl(q: jax.Array, p: jax.Array) -> jax.Array:
    """KL of two Bernoulli distributions with logits `q` and `p`, element by element, in nats."""
    return _term(q, q, p) + _term(-q, -q, -p)


def _term(logits: jax.Array, q: jax.Array, p: jax.Array) -> jax.Array:
    weight = jax.nn.sigmoid(logits)
    drawn = weight > 0  # what is never drawn counts nothing, however unlikely it is under p
    ratio = jax.nn.log_sigmoid(jnp.where(drawn, q, 0.0)) - jax.nn.log_sigmoid(jnp.where(drawn, p, 0.0))
    return weight * jnp.where(drawn, ratio, 0.0)


def categorical_kl(q: jax.Array, p: jax.Array) -> jax.Array:
    """KL of two categorical distributions with logits `q` and `p`, categories last, in nats."""
    log_q, log_p = jax.nn.log_softmax(q, axis=-1), jax.nn.log_softmax(p, axis=-1)
    drawn = ~jnp.isneginf(log_q)  # log_q - log_p would be nan where both are impossible
    ratio = jnp.where(drawn, log_q, 0.0) - jnp.where(drawn, log_p, 0.0)
    return jnp.sum(jnp.exp(log_q) * ratio, axis=-1)


def _register() -> None:
    def bernoulli(q: Any, p: Any) -> jax.Array:
        return bernoulli_kl(1.0 * jnp.asarray(q.logits), 1.0 * jnp.asarray(p.logits))

    def categorical(q: Any, p: Any) -> jax.Array:
        return categorical_kl(jnp.asarray(q.logits), jnp.asarray(p.logits))

    for kinds, divergence in (
        ((dist.BernoulliLogits, dist.BernoulliProbs), bernoulli),
        ((dist.CategoricalLogits, dist.CategoricalProbs), categorical),
    ):
        for pair in itertools.product(kinds, kinds):
            if pair not in kl_divergence.funcs:  # type: ignore[attr-defined]
                kl_divergence.add(pair, divergence)  # type: ignore[attr-defined]


_register()
