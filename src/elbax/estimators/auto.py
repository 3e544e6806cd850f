"""The rule by which a node gets its estimator when nobody names one."""

from __future__ import annotations

from typing import ClassVar

from elbax.estimators.base import Estimator, Site
from elbax.estimators.enumerate import Enumerate
from elbax.estimators.leave_one_out import RLOO
from elbax.estimators.score import Score
from elbax.estimators.support import mixed_size, support_of

__all__ = ["Auto", "score_like"]


class Auto(Estimator):
    """Chooses by rule; the choice and its reason are printed with the graph and recorded with a fit.

    1. A node that depends on no argument is only drawn.
    2. A node with a baseline stated by the program is a score-function node with it.
    3. A node whose draws are differentiable in its parameters, and whose costs are differentiable in its draws, is
       pathwise.
    4. A node with few outcomes is summed out, one element at a time where they share costs, if that takes at most
       `max_evaluations` runs of what is below it.
    5. A node in a loop is a score-function node with reward-to-go.
    6. Any other is a score-function node with leave-one-out over `num_samples` draws.

    Steps 4 and 6 run what is below a node several times. With more than 16 such nodes they become plain score-function
    nodes, so that time stays linear in the number of nodes.

    `elbax.compare_estimators` measures instead.

    Attributes:
        max_evaluations: how many runs of the part below a node an exact sum may take.
        num_samples: draws of a node for leave-one-out.
    """

    max_evaluations: int = 8
    num_samples: int = 4

    needs_credit: ClassVar[bool] = True


def score_like(rule: Auto, site: Site) -> tuple[Estimator, str]:
    """The estimator of a node that is not pathwise, by steps 4 to 6, with the reason."""
    if site.loops:
        return Score(), "in a loop"
    support = support_of(site.dist)
    if support is not None and 1 + len(support) * mixed_size(site) <= rule.max_evaluations:
        together = "" if mixed_size(site) == 1 else f" for each of {mixed_size(site)} elements that share costs"
        return Enumerate(), f"{len(support)} outcomes{together}"
    return RLOO(rule.num_samples), "leave-one-out"
