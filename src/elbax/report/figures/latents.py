"""The units of a latent site."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from elbax.report.facts.units import Units
from elbax.report.figures.base import drawable, finished, new_figure, styled
from elbax.report.palette import LIGHT

__all__ = ["units_figure"]

SMALLEST = 1e-8


def units_figure(units: Units) -> Figure:
    """KL of each unit, and the variance over data of its posterior mean, in the order of KL.

    Upper panel: KL(q || p) of the unit, mean over test data, nats per datum; bars add up to the KL of the site. Lower
    panel, logarithmic: the statistic that decides whether a unit is active, Var_x(E_q[z | x]); a unit is active
    (blue) above the dashed line at `units.threshold`, 0.01 in the convention of Burda et al. (2016).
    """
    with styled():
        figure = new_figure(3.9)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        rank = np.arange(1, len(units.kl) + 1)
        colours = [LIGHT["blue"] if active else LIGHT["faint"] for active in units.active]
        upper.bar(rank, np.nan_to_num(drawable(units.kl)), color=colours, width=0.8)
        upper.axhline(0.0, color=LIGHT["edge"], linewidth=0.8)
        upper.set_title("KL to the prior, nats per datum", loc="left")
        lower.scatter(rank, np.maximum(drawable(units.mean_variance), SMALLEST), c=colours, s=14)
        lower.axhline(units.threshold, color=LIGHT["orange"], linewidth=1.2, linestyle=(0, (4, 2)))
        lower.set_title(f"variance of the posterior mean over data; active above {units.threshold:g}", loc="left")
        lower.set_yscale("log")
        lower.margins(y=0.12)
        lower.yaxis.set_major_locator(LogLocator(numticks=5))
        lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        lower.yaxis.set_minor_locator(NullLocator())
        lower.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        lower.set_xlim(0.3, len(rank) + 0.7)
        lower.set_xlabel(f"units of {units.site}, by decreasing KL")
        return finished(figure)
