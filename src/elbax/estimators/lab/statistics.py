"""Statistics of gradient draws: bias, variance, and error against the number of draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from elbax.estimators.base import Estimator
from elbax.estimators.lab.comparison import Group, Measurement
from elbax.estimators.lab.measure import NUM_CHUNKS, SPEEDUP, Compiled, Draws, Groups, Timing
from elbax.estimators.lab.reference import Reference

__all__ = ["Trial", "measurement"]

FALSE_ALARM = 1e-3  # probability that an unbiased estimator is called biased


@dataclass(frozen=True)
class Trial:
    """An assignment with its draws, before it is timed."""

    site: str
    estimator: Estimator | None
    assignment: dict[str, Estimator]
    draws: Draws
    compiled: Compiled


def measurement(trial: Trial, timing: Timing, ref: Reference, groups: Groups) -> Measurement:
    """The figures of a trial."""
    errors = _errors(trial.draws, ref)
    z, limit = _largest_z(trial.draws, ref)
    return Measurement(
        trial.site,
        trial.estimator,
        trial.assignment,
        all(e.unbiased for e in trial.assignment.values()),
        z,
        limit,
        _by_group(trial.draws, ref, groups),
        errors,
        _slope(errors),
        timing.single,
        timing.error,
        trial.compiled.memory,
        SPEEDUP * timing.single / timing.several,
        trial.draws.num,
    )


def _largest_z(draws: Draws, ref: Reference) -> tuple[float, float]:
    """The largest distance of an element to the reference in standard errors, and what is usual."""
    error = np.sqrt(draws.std_error**2 + ref.std_error**2)
    # Elements without spread must agree to rounding.
    floor = 1e-5 * (np.abs(ref.gradient) + np.abs(ref.gradient).max()) + 1e-30
    z = np.abs(draws.mean - ref.gradient) / np.maximum(error, floor)
    return float(z.max()), -NormalDist().inv_cdf(FALSE_ALARM / (2 * z.size))


def _by_group(draws: Draws, ref: Reference, groups: Groups) -> dict[str, Group]:
    found = {}
    norms2 = np.bincount(groups.index, ref.gradient**2, len(groups.names))
    noise2 = np.bincount(groups.index, ref.std_error**2, len(groups.names))
    offset2 = np.bincount(groups.index, (draws.mean - ref.gradient) ** 2, len(groups.names))
    for i, name in enumerate(groups.names):
        found[name] = _group(draws.squares[:, i], draws.along[:, i], norms2[i], noise2[i], offset2[i])
    share = np.sqrt(norms2 / max(norms2.sum(), 1e-300))
    found["all"] = _group(draws.squares.sum(1), draws.along @ share, norms2.sum(), noise2.max(), offset2.sum())
    return found


def _group(squares: np.ndarray, along: np.ndarray, norm2: float, noise2: float, offset2: float) -> Group:
    n, norm = len(squares), math.sqrt(norm2)
    variance = max(float(squares.mean()) - offset2, 0.0) * n / (n - 1)
    bias_error = math.sqrt(float(along.var(ddof=1)) / n + noise2)
    scale = norm if norm > 0 else float("nan")
    spread = math.sqrt(variance)
    return Group(
        float(along.mean()) / scale,
        bias_error / scale,
        variance,
        float(squares.std(ddof=1)) / math.sqrt(n),
        norm / spread if spread > 0 else float("inf"),
    )


def _errors(draws: Draws, ref: Reference) -> tuple[tuple[int, float], ...]:
    """Root mean square error of means of ever more draws, the reference's own error taken off."""
    found = []
    n, means = draws.num // NUM_CHUNKS, draws.chunk_means
    own = float(np.sum(ref.std_error**2))
    first = float(draws.squares.sum(1).mean())
    found.append((1, math.sqrt(max(first - own, 0.0))))
    while True:
        error = float(((means - ref.gradient) ** 2).sum(1).mean()) - own
        found.append((n, math.sqrt(max(error, 0.0))))
        if len(means) == 1:
            return tuple(found)
        means, n = means.reshape(len(means) // 2, 2, -1).mean(1), 2 * n


def _slope(errors: Sequence[tuple[int, float]]) -> float:
    points = [(math.log(n), math.log(e)) for n, e in errors if e > 0]
    if len(points) < 2:
        return float("nan")
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
