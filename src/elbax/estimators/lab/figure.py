"""A comparison of estimators as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from elbax.errors import ConfigError

if TYPE_CHECKING:
    from elbax.estimators.lab.comparison import Comparison

__all__ = ["plot"]


def plot(comparison: Comparison, path: Path, *, overwrite: bool) -> Path:
    """Two panels per node: variance against time with 95 % intervals, and error against the number of draws."""
    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"a comparison is drawn as .png or .svg; '{path}' is neither.")
    if path.exists() and not overwrite:
        raise ConfigError(f"'{path}' exists. Pass overwrite=True, or another name.")
    sites = comparison.sites
    figure = Figure(figsize=(10.5, 3.9 * len(sites)), layout="constrained")
    panels = figure.subplots(len(sites), 2, squeeze=False)
    for (left, right), site in zip(panels, sites, strict=True):
        cost_panel(left, comparison, site)
        consistency_panel(right, comparison, site)
    figure.suptitle(f"{comparison.program}: reference is the {comparison.reference.about}", fontsize=10)
    figure.savefig(path, dpi=144)
    return path


def _marks(comparison: Comparison, site: str) -> Any:
    colours = [f"C{i}" for i in range(10)]
    shapes = "osD^vP*X<>"
    for i, row in enumerate(comparison.of(site)):
        yield row, colours[i % 10], shapes[(i + i // 10) % 10]


def cost_panel(axes: Any, comparison: Comparison, site: str) -> None:
    """Variance of one gradient against its time; on each dotted line, variance times time is the same."""
    smallest = min((r.groups["all"].variance for r in comparison.of(site) if r.groups["all"].variance > 0), default=1.0)
    for row, colour, shape in _marks(comparison, site):
        total = row.groups["all"]
        variance = max(total.variance, 1e-3 * smallest)  # exact estimators have none
        axes.errorbar(
            1e3 * row.seconds,
            variance,
            xerr=1.96e3 * row.seconds_error,
            yerr=min(1.96 * total.variance_error, 0.9 * variance),
            fmt=shape,
            color=colour,
            markerfacecolor=colour if row.unbiased else "white",
            label=row.label,
            capsize=2,
        )
    axes.set(xscale="log", yscale="log", xlabel="ms per gradient", ylabel="variance", title=f"site '{site}'")
    _lines_of_equal_work(axes)
    axes.legend(fontsize=7, title="hollow: biased", title_fontsize=7)


def _lines_of_equal_work(axes: Any) -> None:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    times = np.array([left, right])
    for work in np.geomspace(left * low, right * high, 7)[1:-1]:
        axes.plot(times, work / times, ":", color="0.75", linewidth=0.8, zorder=0)
    axes.set(xlim=(left, right), ylim=(low, high))


def consistency_panel(axes: Any, comparison: Comparison, site: str) -> None:
    """Root mean square error of the mean of n gradients; a bias flattens the line."""
    for row, colour, shape in _marks(comparison, site):
        points = [(n, e) for n, e in row.errors if e > 0]
        if points:
            n, error = np.array(points).T
            axes.plot(n, error, color=colour, marker=shape, markersize=3, label=f"{row.label}: slope {row.slope:.2f}")
    axes.set(xscale="log", yscale="log", xlabel="gradients averaged", ylabel="error", title="consistency")
    axes.legend(fontsize=7)
