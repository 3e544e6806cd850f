"""Categorical draws as one-hot vectors, which programs can multiply with."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence
from numpyro.distributions.util import clamp_probs

from elbax.distributions.divergences import categorical_kl
from elbax.errors import ConfigError

__all__ = ["OneHotCategorical"]


class _OneHot(constraints.Constraint):
    """Corners of the simplex and, as data may be probabilities, the points between them."""

    is_discrete = True
    event_dim = 1

    def __call__(self, x: Any) -> Any:
        return constraints.simplex(x)

    def tree_flatten(self) -> Any:
        return (), ((), {})


_one_hot = _OneHot()


class OneHotCategorical(dist.Distribution):
    """One of `n` categories, as a vector of floats that is 1 at the category drawn and 0 elsewhere.

    A program that multiplies with the vector, where it would have indexed with a `Categorical`, is differentiable in it
    and so open to relaxed and straight-through estimators. `log_prob` is the linear function `sum_j v_j log p_j`, also
    of vectors between the corners of the simplex. One event is the vector: `batch_shape` is that of the logits without
    their last axis. Kullback-Leibler divergences to other one-hot distributions are in closed form.

    Args:
        logits: unnormalised log-probabilities, categories last; `-inf` for a category that cannot be drawn.
        probs: probabilities, categories last. Give either.
    """

    arg_constraints = {"logits": constraints.independent(constraints.less_than(jnp.inf), 1)}  # noqa: RUF012
    has_enumerate_support = True

    def __init__(self, logits: Any = None, *, probs: Any = None, validate_args: bool | None = None) -> None:
        if (logits is None) == (probs is None):
            raise ConfigError("OneHotCategorical needs either logits or probs.")
        self.logits = jnp.asarray(logits) if probs is None else jnp.log(clamp_probs(jnp.asarray(probs)))
        if self.logits.ndim == 0:
            raise ConfigError("OneHotCategorical needs an axis of categories; got a single number.")
        shape = self.logits.shape
        super().__init__(batch_shape=shape[:-1], event_shape=shape[-1:], validate_args=validate_args)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """One-hot vectors of the dtype of the logits. Shape `sample_shape + batch_shape + event_shape`."""
        assert key is not None
        index = jax.random.categorical(key, self.logits, shape=sample_shape + self.batch_shape)
        return jax.nn.one_hot(index, self.event_shape[0], dtype=self.logits.dtype)

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """`sum_j value_j log p_j` in nats; where a category is impossible and `value_j` is 0, its summand is 0."""
        log_p = jax.nn.log_softmax(self.logits, axis=-1)
        value = jnp.asarray(value, log_p.dtype)
        unused = jnp.isneginf(log_p) & (value == 0)
        return jnp.sum(value * jnp.where(unused, 0.0, log_p), axis=-1)

    @property
    def probs(self) -> jax.Array:
        """Probabilities of the categories."""
        return jax.nn.softmax(self.logits, axis=-1)

    @property
    def mean(self) -> jax.Array:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> jax.Array:
        """`p (1 - p)`, element by element."""
        return self.probs * (1 - self.probs)

    @constraints.dependent_property(is_discrete=True, event_dim=1)  # type: ignore[arg-type]
    def support(self) -> Any:  # type: ignore[override]
        """Vectors that are not negative and sum to one."""
        return _one_hot

    def enumerate_support(self, expand: bool = True) -> jax.Array:  # noqa: FBT001, FBT002 - NumPyro's signature
        """All one-hot vectors, first axis."""
        n = self.event_shape[0]
        values = jnp.eye(n, dtype=self.logits.dtype).reshape(n, *(1 for _ in self.batch_shape), n)
        return jnp.broadcast_to(values, (n, *self.batch_shape, n)) if expand else values

    def entropy(self) -> jax.Array:
        """Entropy in nats."""
        return -jnp.sum(jax.scipy.special.xlogy(self.probs, self.probs), axis=-1)


def _one_hot_kl(q: OneHotCategorical, p: OneHotCategorical) -> jax.Array:
    return categorical_kl(q.logits, p.logits)


kl_divergence.add((OneHotCategorical, OneHotCategorical), _one_hot_kl)  # type: ignore[attr-defined]
