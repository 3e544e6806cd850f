"""A number with its standard error and its unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["Estimate", "bits_per_dim", "mean_of"]


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo estimate.

    Attributes:
        value: the estimate.
        std_error: its standard error, in the same unit.
        unit: such as `"nats per datum"`.
    """

    value: float
    std_error: float
    unit: str = "nats per datum"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.std_error:.2g} {self.unit}" if abs(self.value) < 10 else self._long()

    def _long(self) -> str:
        return f"{self.value:.2f} ± {self.std_error:.2f} {self.unit}"


def mean_of(values: np.ndarray, unit: str = "nats per datum") -> Estimate:
    """The mean over data, with the standard error that the spread between data implies. Shape `[num_data]`."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(np.mean(values)), error, unit)


def bits_per_dim(bound: Estimate, num_dims: int) -> Estimate:
    """Minus a bound on log p(x) in nats per datum, as bits per dimension (lower is better)."""
    scale = 1.0 / (num_dims * np.log(2.0))
    return Estimate(-bound.value * scale, bound.std_error * scale, "bits per dimension")
