"""The final figures of a run on test data: the ELBO and the tighter importance-weighted bound, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elbax.diagnose.estimate import Estimate
from elbax.report.facts.reading import Reading, number, required

__all__ = ["Scores", "scores"]

FEW_PARTICLES = 10.0


@dataclass(frozen=True)
class Scores:
    """Bounds on log p(x) of test data.

    Attributes:
        elbo: mean ELBO, nats per datum.
        iwae: mean bound of `num_particles` particles, nats per datum.
        gap: mean difference of the two, nats per datum.
        elbo_bits, iwae_bits: the same in bits per dimension, or `None`.
        num_particles: particles of the importance-weighted bound.
        num_data: test data evaluated, from the first.
        ess_median, ess_min: effective number of particles, over the data.
        step: the step whose parameters were evaluated, or `None` if not recorded.
        training: last mean training bound with its standard error, or `None`.
        validation: validation bound of the parameters evaluated, or `None`.
    """

    elbo: Estimate
    iwae: Estimate
    gap: Estimate
    elbo_bits: Estimate | None
    iwae_bits: Estimate | None
    num_particles: int
    num_data: int
    ess_median: float
    ess_min: float
    step: int | None
    training: Estimate | None
    validation: float | None

    @property
    def few_particles(self) -> bool:
        """Whether the weights of some datum rest on fewer than 10 particles, and fewer than a tenth of all.

        The importance-weighted bound of such a datum may lie well below log p(x), by an amount that its standard error
        does not show.
        """
        return self.ess_min < min(FEW_PARTICLES, self.num_particles / 10)


def scores(reading: Reading) -> Scores | None:
    """The test figures of a run, or `None` if it was not evaluated.

    Raises:
        RunError: if the result lacks a figure.
    """
    result, path = reading.result, reading.folder.result_path
    if "test" not in result:
        return None
    test = required(result, "test", path)
    training, validation = result.get("training"), result.get("validation")
    return Scores(
        elbo=estimate(test, "elbo", path),
        iwae=estimate(test, "iwae", path),
        gap=estimate(test, "gap", path),
        elbo_bits=estimate(test, "elbo_bits", path) if "elbo_bits" in test else None,
        iwae_bits=estimate(test, "iwae_bits", path) if "iwae_bits" in test else None,
        num_particles=int(number(test, "num_particles", path)),
        num_data=int(number(test, "num_data", path)),
        ess_median=number(test, "effective_particles.median", path),
        ess_min=number(test, "effective_particles.min", path),
        step=None if result.get("best_step") is None else int(number(result, "best_step", path)),
        training=None if training is None else training_estimate(training, path),
        validation=None if not validation or validation.get("bound") is None else number(validation, "bound", path),
    )


def estimate(test: Mapping[str, Any], name: str, path: Path) -> Estimate:
    """A figure of the result."""
    value, error = number(test, f"{name}.value", path), number(test, f"{name}.std_error", path)
    return Estimate(value, error, str(required(test, f"{name}.unit", path)))


def training_estimate(training: Any, path: Path) -> Estimate:
    """The last training bound."""
    return Estimate(number(training, "bound", path), number(training, "std_error", path))
