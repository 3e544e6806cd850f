"""The contract of a gradient estimator: how a node is drawn, and what it adds to the surrogate loss.

An estimator is chosen per stochastic node. `draw` runs where the site stands, possibly inside loops, branches and
`vmap`; what it returns as `aux` leaves those constructs, stacked over loops, and comes back in `term`, which runs once,
outside, when all costs are known. The surrogate loss is

    L = sum_c c + sum_w term_w,        d L / d parameters = the gradient estimate,

in which a term only counts through its derivative: the value of the loss is the value of the costs.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.graph import ir
from elbax.graph.distributions import Lifted

__all__ = ["Context", "Draw", "Estimator", "LogProb"]


class Draw(NamedTuple):
    """A draw of a node.

    Attributes:
        value: how it enters the program. Shape `dist.shape + dist.event_shape`.
        log_prob: its log-density as the program may use it in a cost, or `None` if it does not. Shape `dist.shape`.
        aux: what the estimator wants to see again in `term`.
    """

    value: jax.Array
    log_prob: jax.Array | None
    aux: Any = None


class LogProb(enum.Enum):
    """What a program does with the log-density of a draw.

    `LINEAR`: it is a summand of the costs, as log q is in the ELBO; derivatives of expectation zero may be left out.
    `FULL`: it enters them otherwise, as in a bound with several particles inside a logarithm.
    """

    UNUSED = "unused"
    LINEAR = "linear"
    FULL = "full"

    @classmethod
    def of(cls, eq: ir.Sample) -> LogProb:
        """What a program does with the log-density of a site."""
        if eq.outputs[1] is None:
            return cls.UNUSED
        return cls.LINEAR if eq.options.linear else cls.FULL


class Context(NamedTuple):
    """What `term` gets; arrays have the axes of the loops around the site first.

    Attributes:
        name: of the node.
        shape: of the node.
        aux: what `draw` returned.
        credit: Q̂, the sum of the costs that each element influences, without derivative. The node's axes, of size one
            where the node is mixed. `None` if the estimator does not ask for it.
        baseline: the value that the program states as the node's baseline, without derivative, or `None`.
    """

    name: str
    shape: tuple[int, ...]
    aux: Any
    credit: jax.Array | None
    baseline: jax.Array | None


class Estimator(eqx.Module):
    """Base of all estimators.

    Attributes:
        unbiased: whether the expectation of the estimate is the gradient.
        pathwise: whether derivatives flow through the drawn value.
        by_density: whether the derivative is that of the draw's log-density, which has to show all that moves the draw.
        needs_credit: whether `term` needs Q̂.
        num_evaluations: forward passes of the program, or of the part below the node, per estimate.
    """

    unbiased: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False
    by_density: ClassVar[bool] = False
    needs_credit: ClassVar[bool] = True
    num_evaluations: ClassVar[int] = 1

    def requires(self, dist: Lifted, log_prob: LogProb) -> str | None:
        """Why this estimator cannot serve a node with this distribution, whose density is so used, or `None`."""
        return None

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """Draws the node. `dist` carries derivatives with respect to its parameters."""
        raise NotImplementedError

    def term(self, context: Context) -> jax.Array:
        """What the node adds to the surrogate, a scalar."""
        return jnp.zeros(())
