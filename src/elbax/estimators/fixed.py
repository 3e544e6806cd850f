"""No gradient at all, for nodes that have nothing to differentiate."""

from __future__ import annotations

from typing import ClassVar

import jax

from elbax.estimators.base import Draw, Estimator, LogProb
from elbax.graph.distributions import Lifted

__all__ = ["Fixed"]


class Fixed(Estimator):
    """Draws, and adds nothing: for a node whose distribution depends neither on an argument nor on another node.

    The rule gives it to such nodes (fixed noise, rows of a subsample), so that they cost nothing. Chosen for a node
    with parameters it would leave their gradient out, so it is refused there.
    """

    needs_credit: ClassVar[bool] = False

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw without derivative."""
        value = jax.lax.stop_gradient(dist.sample(key))
        return Draw(value, None if log_prob is LogProb.UNUSED else dist.log_prob(value))
