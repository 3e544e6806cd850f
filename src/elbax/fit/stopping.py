"""When to stop: a bound that no longer rises, a validation bound that no longer improves, or a bound that breaks.

The criterion looks at blocks of steps. Each block has a mean bound; two windows of blocks are compared, and training
has converged when the rise from one to the other is, with its Monte Carlo error, below a tolerance. That is a statement
about what further training of the same length would bring, and needs no schedule of steps.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Outcome", "Patience", "Stationary", "Stopping"]


class Outcome(enum.Enum):
    """How a fit ended."""

    CONVERGED = "converged"
    PATIENCE = "validation_stopped"
    MAX_STEPS = "max_steps"
    DIVERGED = "diverged"
    NON_FINITE = "non_finite"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        """What to make of it, and what to do next."""
        return _ADVICE[self]


_ADVICE = {
    Outcome.CONVERGED: (
        "The training bound no longer rises beyond its Monte Carlo error. A smaller learning rate may still gain a "
        "little."
    ),
    Outcome.PATIENCE: (
        "The validation bound stopped improving; the parameters are those of its best evaluation. If the training "
        "bound was still rising, the model over-fits: use more data, a smaller network, or stop here."
    ),
    Outcome.MAX_STEPS: (
        "The limit on steps was reached before the bound became stationary: its value may still rise. Raise max_steps "
        "and resume."
    ),
    Outcome.DIVERGED: (
        "The bound fell far below where it started. Lower the learning rate, clip gradients "
        "(optax.clip_by_global_norm), or start closer to the data."
    ),
    Outcome.NON_FINITE: "A value became NaN or infinite; the error says where. The last good state is kept.",
    Outcome.INTERRUPTED: "Training was interrupted; resume to continue exactly where it stopped.",
}


@dataclass(frozen=True)
class Stationary:
    """Stops when the bound no longer rises: `gain + 2 * std_error < tolerance` between two windows of blocks.

    Attributes:
        window: blocks per window; two windows are needed before anything is decided.
        tolerance: smallest gain per window worth training for, in nats per datum; by default a thousandth of the
            bound's size, at least 1e-3.
    """

    window: int = 25
    tolerance: float | None = None

    def met(self, bounds: Sequence[float]) -> bool:
        """Whether the blocks so far (mean bound of each, nats per datum) are stationary."""
        if len(bounds) < 2 * self.window:
            return False
        before, after = bounds[-2 * self.window : -self.window], bounds[-self.window :]
        (m0, v0), (m1, v1) = _mean_and_variance(before), _mean_and_variance(after)
        tolerance = self.tolerance if self.tolerance is not None else 1e-3 * max(1.0, abs(m1))
        return (m1 - m0) + 2 * math.sqrt((v0 + v1) / self.window) < tolerance


@dataclass(frozen=True)
class Patience:
    """Stops when the validation bound has not improved for a number of evaluations.

    Attributes:
        evaluations: how many evaluations without improvement are enough.
    """

    evaluations: int = 10

    def met(self, bounds: Sequence[float]) -> bool:
        """Whether the evaluations so far (validation bounds, nats per datum) show no more improvement."""
        if not bounds:
            return False
        best = max(range(len(bounds)), key=lambda i: bounds[i])
        return len(bounds) - 1 - best >= self.evaluations


@dataclass(frozen=True)
class Stopping:
    """The rules of a fit; `None` switches a rule off.

    Attributes:
        stationary: about the training bound.
        patience: about the validation bound, where there are validation data.
        divergence: a fall below the first block by this many times its size counts as divergence.
    """

    stationary: Stationary | None = Stationary()
    patience: Patience | None = Patience()
    divergence: float | None = 10.0

    def decide(self, training: Sequence[float], validation: Sequence[float]) -> Outcome | None:
        """The outcome that the bounds so far call for, if any."""
        if self.divergence is not None and _diverged(training, self.divergence):
            return Outcome.DIVERGED
        if self.patience is not None and self.patience.met(validation):
            return Outcome.PATIENCE
        if self.stationary is not None and self.stationary.met(training):
            return Outcome.CONVERGED
        return None


def _diverged(bounds: Sequence[float], factor: float, blocks: int = 5) -> bool:
    if len(bounds) <= blocks:
        return False
    floor = bounds[0] - factor * max(1.0, abs(bounds[0]))
    return all(b < floor for b in bounds[-blocks:])


def _mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)
