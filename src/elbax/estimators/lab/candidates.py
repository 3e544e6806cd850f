"""Which estimators are worth trying at a node."""

from __future__ import annotations

from elbax.estimators.antithetic import ARM, ARMS, DisARM
from elbax.estimators.base import Estimator, LogProb, Site
from elbax.estimators.baselines import Learned, MovingAverage
from elbax.estimators.carms import CARMS
from elbax.estimators.double_cv import DoubleCV
from elbax.estimators.enumerate import Enumerate
from elbax.estimators.fini import Fini
from elbax.estimators.gumbel import GumbelRao, GumbelSoftmax
from elbax.estimators.leave_one_out import RLOO, Replicas
from elbax.estimators.measure_valued import MeasureValued
from elbax.estimators.pathwise import Pathwise
from elbax.estimators.rebar import REBAR, RELAX
from elbax.estimators.rodeo import RODEO
from elbax.estimators.score import Score
from elbax.estimators.straight_through import Gapped, ReinMax, StraightThrough
from elbax.estimators.tree import DisARMTree
from elbax.estimators.unordered import Unordered

__all__ = ["EVERYTHING", "FEW", "candidates_of"]

# What the laboratory tries if nobody says what to try.
EVERYTHING: tuple[Estimator, ...] = (
    Pathwise(),
    Pathwise(stick=True),
    Score(),
    Score(baseline=MovingAverage()),
    Score(baseline=Learned()),
    Score(baseline=Replicas(4)),
    RLOO(2),
    RLOO(4),
    Enumerate(),
    ARM(),
    DisARM(),
    ARMS(4),
    DoubleCV(4),
    REBAR(),
    RELAX(),
    RODEO(2),
    DisARMTree(),
    CARMS(4),
    Unordered(4),
    MeasureValued(),
    Fini(3),
    GumbelSoftmax(),
    GumbelRao(),
    StraightThrough(),
    ReinMax(),
    Gapped(),
)

# What a fit that adapts tries: without bias, and without a network to train.
FEW: tuple[Estimator, ...] = (
    Pathwise(),
    Pathwise(stick=True),
    Score(),
    Score(baseline=Replicas(4)),
    RLOO(4),
    Enumerate(),
    DisARM(),
    DoubleCV(4),
    MeasureValued(),
)

MAX_EVALUATIONS = 600


def candidates_of(site: Site, among: tuple[Estimator, ...] = EVERYTHING) -> list[Estimator]:
    """Those estimators that a node's distribution and place admit, and that do not take a great many evaluations."""
    return [e for e in among if _worth_trying(e, site)]


def _worth_trying(estimator: Estimator, site: Site) -> bool:
    if estimator.requires(site) is not None or (estimator.probes and site.loops):
        return False
    if isinstance(estimator, Pathwise):
        return not estimator.stick or site.log_prob is LogProb.LINEAR
    return estimator.num_evaluations(site) <= MAX_EVALUATIONS
