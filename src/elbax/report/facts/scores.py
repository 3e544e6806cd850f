"""The final figures of a run on test data: the ELBO and the tighter importance-weighted bound, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elbax.diagnose.estimate import Estimate
from elbax.report.facts.reading import Reading, number, required

__all__ = ["BracketFacts", "Scores", "scores"]

FEW_PARTICLES = 10.0


@dataclass(frozen=True)
class BracketFacts:
    """log p(x) from both sides, mean over the first test data, nats per datum.

    Attributes:
        lower, upper: its ends.
        confidence: with which they hold.
        short: how far the ELBO of the same data falls short of log p(x), from and to.
        num_data: data.
        basis: what the claim rests on.
        met: whether it is as narrow as it was asked to be.
    """

    lower: float
    upper: float
    confidence: float
    short: tuple[float, float]
    num_data: int
    basis: str
    met: bool


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
        bracket: of log p(x) on the first of these data, or `None`.
        no_bracket: why there is none, if it was tried.
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
    bracket: BracketFacts | None
    no_bracket: str | None
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
        bracket=bracket_facts(result, path),
        no_bracket=(result.get("bracket") or {}).get("none"),
        training=None if training is None else training_estimate(training, path),
        validation=None if not validation or validation.get("bound") is None else number(validation, "bound", path),
    )


def bracket_facts(result: Mapping[str, Any], path: Path) -> BracketFacts | None:
    """The bracket of a result, if it has one."""
    found = result.get("bracket")
    if not found or "none" in found:
        return None
    low, high = required(found, "elbo_gap", path)
    return BracketFacts(
        number(found, "lower", path),
        number(found, "upper", path),
        number(found, "confidence", path),
        (float(low), float(high)),
        int(number(found, "num_data", path)),
        str(required(found, "basis", path)),
        bool(required(found, "met", path)),
    )


def estimate(test: Mapping[str, Any], name: str, path: Path) -> Estimate:
    """A figure of the result."""
    value, error = number(test, f"{name}.value", path), number(test, f"{name}.std_error", path)
    return Estimate(value, error, str(required(test, f"{name}.unit", path)))


def training_estimate(training: Any, path: Path) -> Estimate:
    """The last training bound."""
    return Estimate(number(training, "bound", path), number(training, "std_error", path))
