"""What all figures share: one style, and ways to write a figure that give the same bytes for the same figure.

Figures are objects of Matplotlib's own interface, without its global state: no window, no current figure, no backend
to choose. A figure is as wide as a phone held upright shows it, so that its text stays readable there.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from elbax.report.palette import LIGHT

__all__ = ["WIDTH", "drawable", "finished", "new_figure", "png", "steps_axis", "styled", "svg"]

WIDTH = 5.0  # inches, 360 points
POINTS = 72.0
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib: files look the same everywhere
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["edge"],
    "xtick.color": LIGHT["edge"],
    "ytick.color": LIGHT["edge"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "figure.facecolor": LIGHT["paper"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
    "text.parse_math": False,  # names of sites are not formulas
    "svg.fonttype": "none",  # text stays text: readable by machines, in the reader's font
    "svg.hashsalt": "elbax",
    "path.simplify_threshold": 0.2,
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The style of all figures; the reader's own Matplotlib settings play no part."""
    with mpl.rc_context(), warnings.catch_warnings():
        # Names may be in any script: the SVG keeps them as text, only the PNG shows a box for what the font lacks.
        warnings.filterwarnings("ignore", message="(?s)Glyph .* missing from font")
        mpl.rcdefaults()
        for name, value in STYLE.items():
            mpl.rcParams[name] = value  # type: ignore[index]  # pyright knows names only as literals
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of the common width, height in inches; to be used within `styled`."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def finished(figure: Figure) -> Figure:
    """The figure with its layout settled, once: otherwise every time it is written would move it by a hair."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def drawable(values: Any) -> np.ndarray:
    """Numbers without infinities, which no axis can show: they become NaN, which leaves a gap."""
    values = np.asarray(values, float)
    return np.where(np.isfinite(values), values, np.nan)


def steps_axis(axes: Axes) -> None:
    """Labels an x axis that counts steps."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("step")


def svg(figure: Figure) -> str:
    """The figure as SVG, without date and name of the writer, with the same identifiers at every call."""
    with styled():
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
        return buffer.getvalue()


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as PNG, without the name of the writer."""
    with styled():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()
