"""The bounds of a run over its training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elbax.report.facts.curves import Curves
from elbax.report.figures.base import drawable, finished, new_figure, steps_axis, styled
from elbax.report.palette import LIGHT

__all__ = ["axis_floor", "bounds"]

BAND = 2.0


def bounds(curves: Curves) -> Figure:
    """Training and validation bound over steps, in nats per datum; higher is better.

    Training: the mean of each block of steps, with a band of two standard errors on either side, from the spread of
    single steps. Validation: the bound on all validation data, whose own sampling error is not recorded. The axis
    begins at `axis_floor`. The ring marks the step whose parameters were kept.
    """
    with styled():
        figure = new_figure(3.1)
        axes = figure.add_subplot()
        bound, spread = drawable(curves.bound), BAND * np.nan_to_num(drawable(curves.std_error))
        axes.fill_between(curves.steps, bound - spread, bound + spread, color=LIGHT["blue"], alpha=0.22, linewidth=0)
        axes.plot(curves.steps, bound, color=LIGHT["blue"], label="training, ± 2 s.e.")
        if len(curves.valid_steps):
            draw_validation(axes, curves.valid_steps, drawable(curves.valid_bound), curves.best_step)
        limit_below(axes, axis_floor(curves))
        axes.set_ylabel("bound, nats per datum")
        steps_axis(axes)
        figure.legend(loc="outside upper left", ncols=3)
        return finished(figure)


def draw_validation(axes: Axes, steps: np.ndarray, values: np.ndarray, best_step: int) -> None:
    """Validations as a line with points, and a ring around the one that was kept."""
    axes.plot(
        steps, values, color=LIGHT["orange"], marker="o", markersize=3.6, linewidth=1.2, linestyle=(0, (4, 2)),
        label="validation",
    )  # fmt: skip
    kept = steps == best_step
    axes.plot(
        steps[kept], values[kept], linestyle="none", marker="o", markersize=9.0, markerfacecolor="none",
        markeredgecolor=LIGHT["ink"], markeredgewidth=1.1, label="kept parameters" if kept.any() else "_",
    )  # fmt: skip


def axis_floor(curves: Curves) -> float | None:
    """The lower end of the axis: below everything after the first tenth of training, by 15% of its range.

    `None` if nothing is left out that way, or if nothing is finite.
    """
    late = [curves.bound[curves.settled(curves.steps)], curves.valid_bound[curves.settled(curves.valid_steps)]]
    shown = np.concatenate(late)
    shown = shown[np.isfinite(shown)]
    everything = np.concatenate([curves.bound, curves.valid_bound])
    everything = everything[np.isfinite(everything)]
    if not len(shown) or not len(everything):
        return None
    floor = shown.min() - 0.15 * max(everything.max() - shown.min(), 1e-6)
    return float(floor) if everything.min() < floor else None


def limit_below(axes: Axes, floor: float | None) -> None:
    """Sets the lower end of an axis."""
    if floor is not None:
        axes.set_ylim(bottom=floor)
