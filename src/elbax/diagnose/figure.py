"""Brackets and gaps as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from elbax.errors import ConfigError

if TYPE_CHECKING:
    from elbax.diagnose.bracket import Bracket
    from elbax.diagnose.gap import Gap

__all__ = ["plot_bracket", "plot_gap"]


def plot_bracket(bracket: Bracket, path: Path, *, overwrite: bool) -> Path:
    """How far ELBO and IWAE lie from log p(x), datum by datum, with the interval of each; `.png` or `.svg`."""
    middle = (bracket.lower + bracket.upper) / 2
    order = np.argsort(bracket.elbo - middle)
    x = np.arange(bracket.num_data)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    half = (bracket.upper - bracket.lower)[order] / 2
    label = "log p(x), exact" if bracket.exact else f"log p(x), {bracket.confidence:.0%} interval"
    axes.errorbar(x, np.zeros(len(x)), yerr=half, fmt="none", color="C3", label=label)
    axes.plot(x, (bracket.iwae - middle)[order], "s", color="C0", markersize=4, label=f"IWAE-{bracket.num_particles:,}")
    axes.plot(x, (bracket.elbo - middle)[order], "o", color="C1", markersize=4, label="ELBO")
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="datum, by distance of the ELBO", ylabel="nats from the middle of the interval")
    axes.set_title(bracket.claim, fontsize=10)
    axes.legend(fontsize=8)
    return _saved(figure, path, overwrite=overwrite)


def plot_gap(gap: Gap, path: Path, *, overwrite: bool) -> Path:
    """The two parts of each datum's gap, as stacked bars; `.png` or `.svg`."""
    amortisation = gap.refined_elbo - gap.elbo
    approximation = (gap.bracket.lower + gap.bracket.upper) / 2 - gap.refined_elbo
    order = np.argsort(amortisation + approximation)
    x = np.arange(len(order))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    low, high = gap.approximation
    family = f"approximation: the family ({low:.2f} to {high:.2f})"
    encoder = f"amortisation: the encoder ({gap.amortisation.value:.2f} ± {gap.amortisation.std_error:.2f})"
    axes.bar(x, approximation[order], width=1.0, color="C0", label=family)
    axes.bar(x, amortisation[order], bottom=np.maximum(approximation[order], 0), width=1.0, color="C1", label=encoder)
    axes.set(xlabel="datum, by the size of its gap", ylabel="log p(x) - ELBO, nats")
    axes.legend(fontsize=8)
    return _saved(figure, path, overwrite=overwrite)


def _saved(figure: Any, path: Path, *, overwrite: bool) -> Path:
    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"figures are drawn as .png or .svg; '{path}' is neither.")
    if path.exists() and not overwrite:
        raise ConfigError(f"'{path}' exists. Pass overwrite=True, or another name.")
    figure.savefig(path, dpi=144)
    return path
