"""Which estimators are worth trying at a node."""

from __future__ import annotations

from collections.abc import Sequence

from elbax.estimators.base import Estimator, LogProb, Site
from elbax.estimators.enumerate import Enumerate
from elbax.estimators.leave_one_out import RLOO, Replicas
from elbax.estimators.pathwise import Pathwise
from elbax.estimators.score import Score
from elbax.estimators.support import mixed_size, support_of

__all__ = ["candidates_of"]

MAX_PROBES = 512


def candidates_of(site: Site) -> Sequence[Estimator]:
    """The estimators of the library that a node's distribution and place admit, in their plain forms."""
    found: list[Estimator] = [Pathwise(), Score(), Score(baseline=Replicas(4)), RLOO(2), RLOO(4)]
    support = support_of(site.dist)
    if support is not None and len(support) * mixed_size(site) <= MAX_PROBES:
        found.append(Enumerate())
    if site.log_prob is LogProb.LINEAR:
        found.append(Pathwise(stick=True))
    return [e for e in found if e.requires(site) is None and not (e.probes and site.loops)]
