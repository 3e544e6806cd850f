"""What a fit gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from elbax.bounds.base import Bound
from elbax.fit.stopping import Outcome

__all__ = ["Fit", "Row"]


@dataclass(frozen=True)
class Row:
    """One line of a fit's history: a block of steps.

    Attributes:
        step: steps done at its end.
        bound: mean bound over the block, on training batches, nats per datum.
        std_error: of that mean, from the spread of the single steps.
        costs: mean of each cost over the block, nats per datum; they add up to minus the bound.
        valid_bound: bound on the validation data after the block, nats per datum, or `None` if it was not evaluated.
        valid_costs: its parts.
    """

    step: int
    bound: float
    std_error: float
    costs: Mapping[str, float]
    valid_bound: float | None = None
    valid_costs: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: dict(v) if isinstance(v, Mapping) else v for name, v in vars(self).items()}


@dataclass(frozen=True)
class Fit:
    """The result of `elbax.fit`.

    Attributes:
        bound: the bound with trained parameters; `model` and `guide` are shortcuts to its parts.
        outcome: how training ended; `outcome.advice` says what to make of it.
        history: one row per block of steps.
        steps: steps done.
        best_step: the step whose parameters these are: the best validation, or the last step without validation data.
        plan: the gradient estimator of each latent site, and why.
        exact_terms: the latent sites whose KL term was taken in closed form; all others were sampled.
        seconds: wall-clock time, compilation included; of a resumed run, with the sessions before it.
        config: options of the fit, versions and seed, for the record.
        state: the full training state (see `elbax.fit.training.State`), to go on with.
    """

    bound: Bound
    outcome: Outcome
    history: tuple[Row, ...]
    steps: int
    best_step: int
    plan: Mapping[str, str]
    exact_terms: tuple[str, ...]
    seconds: float
    config: Mapping[str, Any]
    state: Any = field(repr=False)

    @property
    def model(self) -> Any:
        """The trained model."""
        return self.bound.model

    @property
    def guide(self) -> Any:
        """The trained guide."""
        return self.bound.guide

    @property
    def bounds(self) -> np.ndarray:
        """Mean training bound of each block, nats per datum. Shape `[blocks]`."""
        return np.array([row.bound for row in self.history])

    def __str__(self) -> str:
        last = self.history[-1] if self.history else None
        lines = [f"fit: {self.outcome.value} after {self.steps} steps ({self.seconds:.1f} s). {self.outcome.advice}"]
        if last is not None:
            lines.append(f"training bound {last.bound:.3f} +- {last.std_error:.3f} nats per datum (step {last.step})")
        best = [row for row in self.history if row.step == self.best_step and row.valid_bound is not None]
        if best:
            lines.append(f"validation bound {best[0].valid_bound:.3f} nats per datum (step {self.best_step})")
        lines += [f"{name}: {plan}" for name, plan in self.plan.items()]
        if self.exact_terms:
            lines.append(f"KL in closed form: {', '.join(self.exact_terms)}")
        return "\n".join(lines)
