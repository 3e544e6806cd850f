"""Sheets of small images: grey, from 0 (black) to 1 (white), every pixel shown as it is.

A sheet is one array with gaps, so that its file holds each pixel once however large it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elbax.report.facts.images import Interpolations, PriorSamples, Reconstructions, Traversals
from elbax.report.figures.base import POINTS, WIDTH, drawable, styled
from elbax.report.numbers import signed
from elbax.report.palette import LIGHT

__all__ = ["interpolations", "prior_samples", "reconstructions", "traversals"]

COLUMNS, NUM_ROWS = 10, 6
SEEN = {"data": "seen"}  # where data are shown both as stored and as the model saw them
LINE, EDGE = 13.0, 3.0  # points: height of a line of text, and what stays free at the sides


@dataclass(frozen=True)
class Sheet:
    """Images in rows and columns.

    Attributes:
        tiles: NaN where there is no image. Shape `[rows, columns, height, width]`.
        rows: a label per row, or none at all.
        columns: a label per column, or none at all.
        wide_after_rows: rows that are followed by a wide gap.
        wide_after_columns: likewise.
        label_width: room for the labels of the rows, in points.
    """

    tiles: np.ndarray
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    wide_after_rows: frozenset[int] = frozenset()
    wide_after_columns: frozenset[int] = frozenset()
    label_width: float = 0.0


def reconstructions(images: Reconstructions) -> Figure:
    """Bands of rows: test data as stored, as the model saw them, and the mean of p(x | z) at the mean of q(z | x)."""
    rows = {"stored": images.originals, "data": images.data, "recon.": images.means}
    shown = {label: in_rows(x[: COLUMNS * NUM_ROWS // 2]) for label, x in rows.items() if x is not None}
    bands = [np.stack(band) for band in zip(*shown.values(), strict=True)][: NUM_ROWS // len(shown)]
    tiles = np.concatenate(bands)
    wide = frozenset(range(len(shown) - 1, len(tiles), len(shown)))
    labels = [label if images.originals is None else SEEN.get(label, label) for label in shown] * len(bands)
    return draw(Sheet(tiles, labels, wide_after_rows=wide, label_width=34.0))[0]


def prior_samples(images: PriorSamples) -> Figure:
    """The mean of p(x | z) for independent draws of z from the prior."""
    return draw(Sheet(in_rows(images.means)))[0]


def interpolations(images: Interpolations) -> Figure:
    """One line per row: a datum, means of p(x | z) from its posterior mean straight to that of another, the other."""
    tiles = np.concatenate([images.ends[:, :1], images.means, images.ends[:, 1:]], 1)
    last = tiles.shape[1] - 2
    shares = [f"{round(100 * w)}%" if w in (0.0, 0.5, 1.0) else "" for w in images.weights]
    return draw(Sheet(tiles, columns=("data", *shares, "data"), wide_after_columns=frozenset({0, last})))[0]


def traversals(images: Traversals) -> Figure:
    """One unit per row, moved over the prior's standard deviations while the others stay at a datum's code.

    A mark below each row shows where the datum's own code lies.
    """
    labels = [f"unit {name}\n{signed(float(kl), 2)} nats" for name, kl in zip(images.units, images.kl, strict=True)]
    columns = [deviation_text(d) if i % 2 == 0 else "" for i, d in enumerate(images.deviations)]
    wide = frozenset(range(len(labels)))
    figure, axes, (xs, ys) = draw(Sheet(images.means, labels, columns, wide_after_rows=wide, label_width=52.0))
    first, last = images.deviations[0], images.deviations[-1]
    with styled():
        for y, own in zip(ys, drawable(images.own), strict=True):
            if np.isnan(own):
                continue
            x, foot = np.interp(own, (first, last), (xs[0], xs[-1])), y + images.means.shape[2] / 2
            axes.annotate(
                "▲", (x, foot), (0, -1), textcoords="offset points", ha="center", va="top", fontsize=5.5,
                color=LIGHT["orange"], annotation_clip=False,
            )  # fmt: skip
    return figure


def deviation_text(value: float) -> str:
    """A number of standard deviations, such as `+1.5`."""
    text = signed(value, 0 if value == round(value) else 1)
    return f"+{text}" if value > 0 else text


def in_rows(images: np.ndarray) -> np.ndarray:
    """Images in rows of `COLUMNS`, the last row filled up with NaN."""
    num_rows = -(-len(images) // COLUMNS)
    tiles = np.full((num_rows * COLUMNS, *images.shape[1:]), np.nan)
    tiles[: len(images)] = images
    return tiles.reshape(num_rows, COLUMNS, *images.shape[1:])


# --------------------------------------------------------------------------------------------- drawing


def draw(sheet: Sheet) -> tuple[Figure, Axes, tuple[np.ndarray, np.ndarray]]:
    """Draws a sheet.

    Returns:
        The figure, its axes in units of pixels of the images, and the centres of columns and rows there.
    """
    num_rows, num_columns, height, width = sheet.tiles.shape
    lefts = starts(num_columns, width, sheet.wide_after_columns)
    tops = starts(num_rows, height, sheet.wide_after_rows)
    canvas = np.full((tops[-1] + height, lefts[-1] + width), np.nan)
    for r, top in enumerate(tops):
        for c, left in enumerate(lefts):
            canvas[top : top + height, left : left + width] = sheet.tiles[r, c]
    with styled():
        figure, axes = framed(sheet, canvas)
        xs, ys = lefts + (width - 1) / 2, tops + (height - 1) / 2
        for x, label in zip(xs, sheet.columns, strict=False):
            axes.annotate(label, (x, -0.5), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8.5)
        for y, label in zip(ys, sheet.rows, strict=False):
            axes.annotate(label, (-0.5, y), (-5, 0), textcoords="offset points", ha="right", va="center", fontsize=8.5)
    return figure, axes, (xs, ys)


def starts(num: int, size: int, wide_after: frozenset[int]) -> np.ndarray:
    """First pixel of each of `num` tiles of a size, with gaps between them."""
    narrow, wide = max(round(0.08 * size), 1), max(round(0.36 * size), 2)
    gaps = [wide if i in wide_after else narrow for i in range(num - 1)]
    return np.cumsum([0, *(size + gap for gap in gaps)])


def framed(sheet: Sheet, canvas: np.ndarray) -> tuple[Figure, Axes]:
    """A figure of the common width that leaves room for the labels, with the canvas in it."""
    total = WIDTH * POINTS
    above = LINE if len(sheet.columns) else EDGE
    below = LINE if sheet.wide_after_rows and sheet.columns else EDGE
    across = total - sheet.label_width - 2 * EDGE
    down = across * canvas.shape[0] / canvas.shape[1]
    high = above + down + below
    figure = Figure(figsize=(WIDTH, high / POINTS))
    axes = figure.add_axes(
        ((sheet.label_width + EDGE) / total, below / high, across / total, down / high), frameon=False
    )
    axes.set_axis_off()
    shown = np.ma.masked_invalid(np.clip(canvas, 0.0, 1.0))
    axes.imshow(shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="none", aspect="auto")
    axes.set_autoscale_on(False)
    return figure, axes
