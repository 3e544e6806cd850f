"""What `collapse` found: figures and units of each latent, a verdict, and the cure that fits it."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from elbax.diagnose.estimate import Estimate
from elbax.diagnose.information import Weights
from elbax.diagnose.latents import ACTIVE_VARIANCE

__all__ = ["ACTIVE_KL", "Collapse", "LatentLayer", "Verdict"]

ACTIVE_KL = 0.01  # nats per unit; also the least information of a unit that is used
SHARED = 0.1  # nats of KL(q(z) || p) from which a site without information is said to be away from its prior
SATURATED = 0.5  # nats below log N from which I_q says only that the data are told apart
FAR = 1.0  # nats of KL(q(z) || p) that are worth a remark, if they are more than half of the KL


class Verdict(enum.Enum):
    """What a latent says of the data.

    A unit is used if its mutual information is more than 0.01 nats, two standard errors away. A site is collapsed
    without such units, and partly collapsed if less than half of its units are used.
    """

    ALIVE = "alive"
    PARTLY = "partly collapsed"
    COLLAPSED = "collapsed"


@dataclass(frozen=True)
class LatentLayer:
    """One latent site; figures are nats per datum, arrays have one entry per unit.

    Attributes:
        name: of the site.
        given: sites that its information is conditional on: those drawn earlier that the model makes it depend on.
        children: sites that depend on it in the model.
        kl: mean of KL(q || p), with the spread between data as error.
        exact: whether `kl` is in closed form; else it is the mean of `log q - log p` of draws.
        information: I_q, between draws and data; at most log N. Errors below 0.001 nats rest on rare draws in the
            tails of q(z), and are themselves known within a factor of two or so.
        low, high: between these is the information of a larger set of such data, in expectation (for sites that are
            given others, differences of such bounds).
        aggregate: KL(q(z) || p) of the aggregated posterior, `kl - information`; negative by noise only, if q and p
            are given the same sites.
        unit_kl: `kl` of each unit.
        unit_information: `information` of each unit alone; `None` where elements of the site depend on each other, or
            KL does not fall into the same units.
        unit_error: its standard error.
        mean_variance: variance over data of the posterior mean of each unit; `None` for discrete latents, and where
            there is no closed form of the mean.
        density: mean fraction of units whose KL for the datum at hand is more than 0.01; `None` if KL is sampled.
        num_data: `N`.
    """

    name: str
    given: tuple[str, ...]
    children: tuple[str, ...]
    kl: Estimate
    exact: bool
    information: Estimate
    low: float
    high: float
    aggregate: Estimate
    unit_kl: np.ndarray
    unit_information: np.ndarray | None
    unit_error: np.ndarray | None
    mean_variance: np.ndarray | None
    density: float | None
    num_data: int

    @property
    def num_units(self) -> int:
        """Units that KL falls into."""
        return int(self.unit_kl.size)

    @property
    def active_by_kl(self) -> np.ndarray:
        """Units with a mean KL above 0.01 nats (Sonderby et al., 2016)."""
        return self.unit_kl > ACTIVE_KL

    @property
    def active_by_variance(self) -> np.ndarray | None:
        """Units whose posterior mean varies by more than 0.01 over the data (Burda et al., 2016)."""
        return None if self.mean_variance is None else self.mean_variance > ACTIVE_VARIANCE

    @property
    def used(self) -> np.ndarray:
        """Units that tell something of the data: information above 0.01 nats by two standard errors.

        Without figures per unit, those that are active by KL, if the site has information.
        """
        if self.unit_information is not None and self.unit_error is not None:
            return self.unit_information - 2 * self.unit_error > ACTIVE_KL
        return self.active_by_kl & (self.information.value - 2 * self.information.std_error > ACTIVE_KL)

    @property
    def unit_aggregate(self) -> np.ndarray | None:
        """KL of the aggregated posterior of each unit to its prior."""
        return None if self.unit_information is None else self.unit_kl - self.unit_information

    @property
    def verdict(self) -> Verdict:
        """Whether it says something of the data, see `Verdict`."""
        used = int(self.used.sum())
        if used == 0:
            return Verdict.COLLAPSED
        return Verdict.PARTLY if 2 * used < self.num_units else Verdict.ALIVE

    @property
    def saturated(self) -> bool:
        """Whether the information is about as large as it can be seen to be: every datum is told from all others."""
        return self.information.value > math.log(self.num_data) - SATURATED

    @property
    def shared(self) -> bool:
        """Whether all data have about one posterior, which is not the prior."""
        return self.verdict is Verdict.COLLAPSED and self.aggregate.value > SHARED

    @property
    def finding(self) -> str:
        """The verdict in words, with its figures."""
        least = math.log(self.num_data)
        given = f" given {', '.join(map(repr, self.given))}" if self.given else ""
        figures = (
            f"KL {self.kl.value:.2f} nats, mutual information{given} {_short(self.information)} of at most "
            f"log {self.num_data:,} = {least:.1f}"
        )
        if self.shared:
            return f"site '{self.name}' says the same of all data, but not what the prior says: {figures}"
        if self.verdict is Verdict.COLLAPSED:
            return f"site '{self.name}' ignores the data: {figures}"
        return f"site '{self.name}' uses {int(self.used.sum())} of {self.num_units} units: {figures}"

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        arrays = {
            "unit_kl": self.unit_kl,
            "unit_information": self.unit_information,
            "unit_aggregate_kl": self.unit_aggregate,
            "mean_variance": self.mean_variance,
        }
        return {
            "verdict": self.verdict.value,
            "given": list(self.given),
            "kl": self.kl.as_dict(),
            "exact": self.exact,
            "information": self.information.as_dict(),
            "information_bounds": [_number(self.low), _number(self.high)],
            "aggregate_kl": self.aggregate.as_dict(),
            "units": self.num_units,
            "active_by_kl": int(self.active_by_kl.sum()),
            "active_by_variance": None if self.active_by_variance is None else int(self.active_by_variance.sum()),
            "used": int(self.used.sum()),
            "density": self.density,
            **{name: None if x is None else np.ravel(x).tolist() for name, x in arrays.items()},
        }


@dataclass(frozen=True)
class Collapse:
    """What the latents of a model tell of its data.

    Attributes:
        layers: one per latent site with one row per datum, in the order of the model.
        kl, information, aggregate: of all of them jointly, nats per datum; see `LatentLayer`.
        bounds: between these is the joint information of a larger set of such data, in expectation.
        weights: of the mixtures that stand for q(z).
        num_draws: of the latents of each datum.
        left_out: other latents, and why.
    """

    layers: tuple[LatentLayer, ...]
    kl: Estimate
    information: Estimate
    aggregate: Estimate
    bounds: tuple[float, float]
    weights: Weights
    num_draws: int
    left_out: dict[str, str]

    def __getitem__(self, name: str) -> LatentLayer:
        """A layer by the name of its site."""
        return {layer.name: layer for layer in self.layers}[name]

    @property
    def num_data(self) -> int:
        """Data that this is about."""
        return self.weights.num_data

    @property
    def bias(self) -> float:
        """How far the information is overestimated at most, in expectation; 0 if q(z) is the mean over all data."""
        return 0.0 if self.weights.whole else max(self.information.value - self.bounds[0], 0.0)

    def advice(self, name: str) -> str:
        """What to do about a site; empty if there is nothing."""
        layer = self[name]
        below = [c for c in layer.children if c in self._names and self[c].verdict is not Verdict.COLLAPSED]
        if layer.shared:
            return _SHARED
        if layer.verdict is Verdict.COLLAPSED:
            return _UPPER.format(below=", ".join(map(repr, below))) if below else _PRIOR
        if layer.saturated:
            return _SATURATED
        if layer.aggregate.value > max(FAR, layer.kl.value / 2):
            return _FAR.format(kl=f"{layer.aggregate.value:.1f}")
        return _PARTLY if layer.verdict is Verdict.PARTLY else ""

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        return {
            "layers": {layer.name: layer.as_dict() | {"advice": self.advice(layer.name)} for layer in self.layers},
            "kl": self.kl.as_dict(),
            "information": self.information.as_dict(),
            "information_bounds": [_number(x) for x in self.bounds],
            "aggregate_kl": self.aggregate.as_dict(),
            "log_num_data": math.log(self.num_data),
            "bias": self.bias,
            "num_data": self.num_data,
            "num_draws": self.num_draws,
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        console = Console(width=120, no_color=True, highlight=False)
        with console.capture() as capture:
            console.print(self._table())
        lines = [line.rstrip() for line in capture.get().splitlines() if line.strip()]
        for layer in self.layers:
            lines.append(f"{layer.finding}")
            lines += [f"    {self.advice(layer.name)}"] if self.advice(layer.name) else []
        return "\n".join([*lines, *self._notes()])

    @property
    def _names(self) -> set[str]:
        return {layer.name for layer in self.layers}

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("site")
        for name in ("units", "KL", "I_q", "KL(q(z)||p)", "active: KL", "variance", "I_q", "density"):
            table.add_column(name, justify="right")
        table.add_column("")
        for layer in self.layers:
            by_variance = layer.active_by_variance
            table.add_row(
                layer.name,
                str(layer.num_units),
                f"{_short(layer.kl)}{'' if layer.exact else ' *'}",
                _short(layer.information),
                _short(layer.aggregate),
                str(int(layer.active_by_kl.sum())),
                "-" if by_variance is None else str(int(by_variance.sum())),
                str(int(layer.used.sum())),
                "-" if layer.density is None else f"{100 * layer.density:.0f} %",
                layer.verdict.value,
            )
        if len(self.layers) > 1:
            table.add_row("all", "", _short(self.kl), _short(self.information), _short(self.aggregate), *[""] * 5)
        return table

    def _notes(self) -> list[str]:
        low, high = self.bounds
        few = f"{self.num_data:,}"
        how = (
            f"q(z) is the mean over all {few} data: I_q has no bias for these"
            if self.weights.whole
            else f"q(z) is from {self.weights.num_others:,} of {few} data: I_q is too high, by at most {self.bias:.2g}"
        )
        lines = [
            f"nats per datum; {how}, and is at most log {few} = {math.log(self.num_data):.2f}.",
            f"More such data would show between {low:.3g} and {high:.3g} (in expectation).",
        ]
        if not all(layer.exact for layer in self.layers):
            lines.append("* sampled: log q - log p of the draws")
        return [*lines, *(f"left out: {reason}" for reason in self.left_out.values())]


def _number(x: float) -> float | None:
    """For JSON, which knows no infinity."""
    return x if math.isfinite(x) else None


def _short(e: Estimate) -> str:
    return f"{round(e.value, 2) + 0.0:.2f} ± {e.std_error:.2f}"  # no -0.00


_PRIOR = (
    "Its posterior is the prior. Warm up beta from 0 to 1 over the first epochs, or keep free bits (0.05 to 0.25 nats "
    "per unit). Let it enter every layer of the decoder (skip connections). If the encoder lags behind, make several "
    "updates of it per update of the decoder (He et al., 2019). If the decoder does without it (autoregressive), lower "
    "its capacity."
)
_UPPER = (
    "The layers below, {below}, explain the data without it. Warm up beta from 0 to 1, and let the guide of the lower "
    "layers combine what comes from the data with the model's own distribution by their precisions (a ladder: "
    "Sonderby et al., 2016). Free bits per layer keep it open; otherwise leave it away."
)
_SHARED = (
    "All data share one posterior, away from the prior: its KL buys nothing, so free bits or warm-up would not help. "
    "See whether gradients reach the encoder (elbax.gradient_health) and whether its output moves with the data "
    "(saturated units, scale of the input); train longer, or give the prior a mean and scale to be learnt."
)
_SATURATED = "I_q is near its bound: every datum is told from all others. More data would show how much more there is."
_FAR = (
    "q(z) is {kl} nats away from the prior: draws of the prior do not look like codes of data. Train longer, or take a "
    "richer prior (a mixture of posteriors, a flow)."
)
_PARTLY = (
    "Units that are not used cost nothing. If the model should use them: warm up beta, or free bits per unit; "
    "otherwise fewer units give the same bound."
)
