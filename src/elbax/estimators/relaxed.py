"""What relaxed and straight-through estimators share.

The value of such a node carries a derivative of its own, which is that of something smooth: the gradient costs one
backward pass and varies little, but is biased. Nodes must be Bernoulli or one-hot, and enter the program as floats.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from elbax.errors import ConfigError
from elbax.estimators.base import Draw, Estimator, LogProb, Site
from elbax.estimators.logits import logits_of, of_one_hot, to_index
from elbax.graph.distributions import Lifted

__all__ = ["Relaxed", "along", "check_at_least", "check_positive", "no_relaxation", "one_hot_draw"]


class Relaxed(Estimator):
    """Base of the estimators whose draws carry a derivative although the node is discrete; all are biased."""

    unbiased: ClassVar[bool] = False
    pathwise: ClassVar[bool] = True
    needs_credit: ClassVar[bool] = False
    as_float: ClassVar[bool] = True

    @property
    def discrete(self) -> bool:
        """Whether values are corners of the simplex: draws of the node itself."""
        return True

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli or one-hot node."""
        return no_relaxation(site)

    def relax(self, key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
        """A vector over categories with the derivative that the estimator gives it. Shape of `logits`."""
        raise NotImplementedError

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw that carries a derivative."""
        value = of_one_hot(dist, self.relax(key, dist, logits_of(dist)))
        if log_prob is LogProb.UNUSED:
            return Draw(value, None)
        # Of a fresh draw, the derivative with respect to the parameters has expectation zero; a relaxed one is none.
        at = dist.stopped() if log_prob is LogProb.LINEAR and self.discrete else dist
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Out-of-support values")  # NumPyro's Bernoulli, between 0 and 1
            return Draw(value, at.log_prob(value))


def no_relaxation(site: Site) -> str | None:
    """Why there are no values between those of a node, or `None`."""
    name = site.dist.name
    if name in ("Bernoulli", "OneHotCategorical"):
        return None
    if name == "Categorical":
        return (
            "its values are indices, which have no values in between. Sample an `elbax.OneHotCategorical`, and "
            "multiply with the vector where the program indexes (`one_hot @ table` for `table[index]`)"
        )
    return f"its distribution {name} is not Bernoulli or OneHotCategorical"


def one_hot_draw(key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
    """A draw of the node as a one-hot vector over categories, without derivative."""
    index = to_index(dist, jax.lax.stop_gradient(dist.sample(key)))
    return jax.nn.one_hot(index, logits.shape[-1], dtype=logits.dtype)


def along(p: jax.Array, logits: jax.Array) -> jax.Array:
    """Zero, with the derivative `J(p) d logits`, where `J(p) = diag(p) - p p^T` is that of a softmax with value `p`."""
    possible = ~jnp.isneginf(logits)
    logits = jnp.where(possible, logits, 0.0)
    step = logits - jax.lax.stop_gradient(logits)
    p = jax.lax.stop_gradient(p)
    return p * (step - jnp.sum(p * step, axis=-1, keepdims=True))


def check_positive(owner: str, name: str, value: Any) -> None:
    """Refuses a number that is not above zero; what is not a plain number passes."""
    if isinstance(value, (bool, str)) or (isinstance(value, (int, float)) and not value > 0):
        raise ConfigError(f"{owner}({name}={value!r}): must be a number above 0.")


def check_at_least(owner: str, name: str, value: Any, least: float) -> None:
    """Refuses a number below the least one that makes sense."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise ConfigError(f"{owner}({name}={value!r}): must be a number of at least {least}.")
