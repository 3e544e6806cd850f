"""The contract of a gradient estimator: how a node is drawn, and what it adds to the surrogate loss.

An estimator is chosen per stochastic node. `draw` runs where the site stands, possibly inside loops, branches and
`vmap`; what it returns as `aux` leaves those constructs, stacked over loops, and comes back in `term`, which runs once,
outside, when all costs are known. The surrogate loss is

    L = sum_c c + sum_w term_w,        d L / d parameters = the gradient estimate,

in which a term only counts through its derivative: the value of the loss is the value of the costs.

An estimator may ask what the costs would have been with another value of its node (`Context.probe`): coupled, exact,
control-variate and measure-valued estimators are short files on top of that. It may keep a state from step to step
(`init`, `update`), such as a moving average or a learned baseline.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.graph import ir
from elbax.graph.compat import Source
from elbax.graph.distributions import Lifted

__all__ = ["Context", "Draw", "Estimator", "LogProb", "Site", "Slope"]


class Draw(NamedTuple):
    """A draw of a node.

    Attributes:
        value: how it enters the program. Shape `dist.shape + dist.event_shape`.
        log_prob: its log-density as the program may use it in a cost, or `None` if it does not. Shape `dist.shape`.
        aux: what the estimator wants to see again in `term`; arrays, zero for a branch that is not taken.
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


class Site(NamedTuple):
    """What an estimator may ask about its node before anything is run.

    Attributes:
        name: of the node.
        source: the user's line.
        dist: its distribution, of one step of the loops around it; without numbers.
        loops: lengths of the loops around it.
        shape: of the node, loops first.
        credit_shape: of its Q̂: the node's axes, of size one where it is mixed.
        aligned: for each axis, whether the elements along it influence separate costs, so that all of them can be
            probed at once.
        log_prob: what the program does with the log-density of the draw.
        smooth: why the costs are no differentiable functions of the node's value, or `None` if they are.
    """

    name: str
    source: Source
    dist: Lifted
    loops: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    credit_shape: tuple[int, ...] = ()
    aligned: tuple[bool, ...] = ()
    log_prob: LogProb = LogProb.UNUSED
    smooth: str | None = None


class Slope(NamedTuple):
    """The part of a node's credit whose elements are shared in one way, and its derivative at a value of the node.

    Attributes:
        credit: of the elements. The node's axes, of size one where all elements share the costs of this part.
        slope: derivative of the sum of these costs, each counted once. Shape of the node's value.
    """

    credit: jax.Array
    slope: jax.Array


class Context(NamedTuple):
    """What `term` gets; arrays have the axes of the loops around the site first.

    Attributes:
        site: the node.
        aux: what `draw` returned.
        credit: Q̂, the sum of the costs that each element influences, without derivative. The node's axes, of size one
            where the node is mixed. `None` if the estimator does not ask for it.
        baseline: the value that the program states as the node's baseline, without derivative, or `None`.
        others: the mean credit of the other replicas of the whole program, or `None` if there is one only.
        probe: `value -> credit`, what Q̂ had been if the node had had that value and all else had been drawn with the
            same random numbers. Carries a derivative with respect to the value only. To be mapped with `jax.vmap`.
        state: of the estimator.
        share: the weight of this run among the branches that are run, for each element: a baseline has to carry it.
        slopes: `value -> [Slope, ..]`, the credit had the node had that value, in parts that add up to it, with their
            derivatives; like `probe` otherwise. For estimators that ask for floats (`as_float`).
        work: what the estimator's `work` returned.
    """

    site: Site
    aux: Any
    credit: jax.Array | None
    baseline: jax.Array | None
    others: jax.Array | None = None
    probe: Callable[[jax.Array], jax.Array] | None = None
    state: Any = None
    share: jax.Array | float = 1.0
    slopes: Callable[[jax.Array], list[Slope]] | None = None
    work: Any = None


class Estimator(eqx.Module):
    """Base of all estimators.

    Attributes:
        unbiased: whether the expectation of the estimate is the gradient.
        pathwise: whether derivatives flow through the drawn value.
        by_density: whether the derivative is that of the draw's log-density, which has to show all that moves the draw.
        needs_credit: whether `term` needs Q̂.
        probes: whether `term` probes. A node in a loop cannot be probed.
        as_float: whether the values of a discrete node have to enter the program as floats.
    """

    unbiased: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False
    by_density: ClassVar[bool] = False
    needs_credit: ClassVar[bool] = True
    probes: ClassVar[bool] = False
    as_float: ClassVar[bool] = False

    @property
    def num_replicas(self) -> int:
        """How often the whole program is run for one estimate."""
        return 1

    def requires(self, site: Site) -> str | None:
        """Why this estimator cannot serve a node, or `None`."""
        return None

    def num_evaluations(self, site: Site) -> int:
        """Runs of the program, or of the part below the node, per estimate."""
        return self.num_replicas

    def init(self, key: jax.Array, site: Site) -> Any:
        """The state before the first step; `None` for an estimator without one."""
        return None

    def work(self, context: Context) -> Any:
        """What `term` and `update` both need, so that it is computed once: `Context.work`."""
        return None

    def update(self, context: Context) -> Any:
        """The state after a step; nothing in it carries a derivative."""
        return context.state

    def with_state(self, state: Any) -> Estimator:
        """The estimator as it draws in a state; itself, unless its draws depend on the state."""
        return self

    def coupled(self, key: jax.Array, num_replicas: int, site: Site) -> Any:
        """What to hand to `draw` in place of independent keys, with an axis of replicas first; `None` for keys."""
        return None

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """Draws the node. `dist` carries derivatives with respect to its parameters."""
        raise NotImplementedError

    def term(self, context: Context) -> jax.Array:
        """What the node adds to the surrogate, a scalar."""
        return jnp.zeros(())
