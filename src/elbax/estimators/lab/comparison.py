"""What a comparison of gradient estimators found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elbax.estimators.base import Estimator
from elbax.estimators.choose import describe
from elbax.estimators.lab.reference import Reference

__all__ = ["Comparison", "Group", "Measurement", "rank"]


@dataclass(frozen=True)
class Group:
    """One assignment's gradient of one group of parameters.

    Attributes:
        bias: along the gradient, as a fraction of its norm; negative is too short. With its standard error, which
            includes that of the reference.
        variance: sum over elements of one draw, with its standard error.
        snr: norm of the reference over the standard deviation of one draw.
    """

    bias: float
    bias_error: float
    variance: float
    variance_error: float
    snr: float


@dataclass(frozen=True)
class Measurement:
    """One estimator at one node, the other nodes as in the base assignment.

    Attributes:
        site: the node; empty for the best assignment of all nodes together.
        estimator: measured there.
        assignment: the estimators of all nodes.
        unbiased: whether all estimators say that they are.
        z: largest distance of an element of the mean gradient to the reference, in standard errors.
        z_limit: what an unbiased estimator exceeds with probability 0.001.
        groups: by name of the group; `"all"` is the whole gradient.
        errors: root mean square error of the mean of `n` draws, for growing `n`, as `(n, error)`.
        slope: of log error against log n; -1/2 for a consistent estimator.
        seconds, seconds_error: of one gradient.
        memory: bytes of one gradient beyond arguments and results, or `None`.
        speedup: time of 16 single gradients over that of 16 together.
        num_draws: gradients drawn.
    """

    site: str
    estimator: Estimator | None
    assignment: dict[str, Estimator]
    unbiased: bool
    z: float
    z_limit: float
    groups: dict[str, Group]
    errors: tuple[tuple[int, float], ...]
    slope: float
    seconds: float
    seconds_error: float
    memory: int | None
    speedup: float
    num_draws: int

    @property
    def label(self) -> str:
        """The estimator as one would write it."""
        return "best together" if self.estimator is None else describe(self.estimator)

    @property
    def bias_seen(self) -> bool:
        """Whether a bias was seen."""
        return self.z > self.z_limit

    @property
    def work(self) -> float:
        """Variance times seconds of one gradient: the lower, the more accuracy per time."""
        return self.groups["all"].variance * self.seconds

    @property
    def log_work_error(self) -> float:
        """Standard error of the logarithm of `work`."""
        total = self.groups["all"]
        relative = total.variance_error / total.variance if total.variance > 0 else 0.0
        return math.hypot(relative, self.seconds_error / self.seconds)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_estimators`; print it, `plot` it, pass `best` to `elbax.fit`.

    Attributes:
        program: its name.
        rows: one measurement per node and candidate.
        together: the best assignment of all nodes, measured as a whole.
        reference: what the gradients were compared with.
        refused: for each node, the candidates that cannot serve it, with the reason.
    """

    program: str
    rows: tuple[Measurement, ...]
    together: Measurement
    reference: Reference
    refused: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Estimator]:
        """For each node, the estimator with the smallest variance times time among those without bias."""
        return self.together.assignment

    @property
    def sites(self) -> tuple[str, ...]:
        """The nodes compared."""
        return tuple(dict.fromkeys(row.site for row in self.rows))

    def of(self, site: str) -> tuple[Measurement, ...]:
        """The measurements of a node, best first: those without bias, by variance times time."""
        return tuple(sorted((r for r in self.rows if r.site == site), key=rank))

    def tied(self, site: str) -> tuple[Measurement, ...]:
        """The best of a node and all that cannot be told apart from it at the 95 % level."""
        ranked = self.of(site)
        return tuple(r for r in ranked if _usable(r) == _usable(ranked[0]) and _indistinguishable(r, ranked[0]))

    def __str__(self) -> str:
        from elbax.estimators.lab.table import text

        return text(self)

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        from elbax.estimators.lab.table import as_dict

        return as_dict(self)

    def plot(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Draws variance against time, and error against number of draws; `.png` or `.svg`."""
        from elbax.estimators.lab.figure import plot

        return plot(self, Path(path), overwrite=overwrite)


def _usable(row: Measurement) -> bool:
    return row.unbiased and not row.bias_seen


def rank(row: Measurement) -> tuple[bool, float]:
    """What to sort by, best first."""
    return not _usable(row), row.work


def _indistinguishable(a: Measurement, b: Measurement) -> bool:
    if a is b or a.work == b.work:
        return True
    if min(a.work, b.work) <= 0:
        return False
    apart = abs(math.log(a.work) - math.log(b.work))
    return apart < 1.96 * math.hypot(a.log_work_error, b.log_work_error)
