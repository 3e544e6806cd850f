"""The parts of a run's bound over its training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elbax.report.facts.curves import Curves, Part
from elbax.report.figures.base import drawable, finished, new_figure, steps_axis, styled
from elbax.report.palette import LIGHT

__all__ = ["axis_range", "parts"]


def parts(curves: Curves) -> Figure:
    """Each part of the bound over steps, in nats per datum, on training blocks and on validation data.

    The parts add up to minus the bound. One panel per part, as their sizes differ; each axis is fitted to what follows
    the first tenth of training (`axis_range`).
    """
    with styled():
        figure = new_figure(0.35 + 1.4 * len(curves.parts))
        panels = figure.subplots(len(curves.parts), 1, sharex=True, squeeze=False)[:, 0]
        for axes, part in zip(panels, curves.parts, strict=True):
            draw_part(axes, curves, part)
            axes.set_title(part.title, loc="left")
        steps_axis(panels[-1])
        figure.supylabel("nats per datum", fontsize=9.0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return finished(figure)


def draw_part(axes: Axes, curves: Curves, part: Part) -> None:
    """One part."""
    axes.plot(curves.steps, drawable(part.training), color=LIGHT["blue"], label="training")
    if part.validation is not None and len(curves.valid_steps):
        axes.plot(
            curves.valid_steps, drawable(part.validation), color=LIGHT["orange"], marker="o", markersize=3.6,
            linewidth=1.2, linestyle=(0, (4, 2)), label="validation",
        )  # fmt: skip
    limits = axis_range(curves, part)
    if limits is not None:
        axes.set_ylim(*limits)


def axis_range(curves: Curves, part: Part) -> tuple[float, float] | None:
    """What the axis of a part shows: its range after the first tenth of training, with a tenth of that around it."""
    late = [part.training[curves.settled(curves.steps)]]
    if part.validation is not None:
        late.append(part.validation[curves.settled(curves.valid_steps)])
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    margin = 0.1 * max(values.max() - values.min(), 1e-6)
    return float(values.min() - margin), float(values.max() + margin)
