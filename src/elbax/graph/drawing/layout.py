"""The layout of a picture: where shapes and labels stand, and along which curves arrows run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from elbax.graph.drawing.curves import Box, Curve, Pen, Point
from elbax.graph.drawing.diagram import SMALL_SIZE, Diagram, Edge
from elbax.graph.drawing.layers import Layers, layers
from elbax.graph.drawing.order import ordered
from elbax.graph.drawing.positions import positions
from elbax.graph.drawing.words import text_width

__all__ = ["Layout", "layout"]

ROW_GAP, LABEL_GAP = 46.0, 22.0  # between rows; between a row and labels
MANY_ROWS, CLOSER = 20, 12.0  # rows of tall pictures are closer by so much
LABEL_HEIGHT = 15.0


@dataclass(frozen=True)
class Layout:
    """Everything that is drawn, in pixels from the upper left corner.

    Attributes:
        boxes: around the shapes, as in the diagram.
        curves: of each arrow, from its tail to its head. Arrows that share stops share curves.
        labels: boxes around the labels of arrows.
        width: of all together.
        height: of all together.
    """

    boxes: tuple[Box, ...]
    curves: dict[Edge, tuple[Curve, ...]]
    labels: dict[Edge, Box]
    width: float
    height: float


def layout(picture: Diagram) -> Layout:
    """Places the shapes and draws the arrows."""
    if not picture.shapes:
        return Layout((), {}, {}, 0.0, 0.0)
    plan = layers(picture)
    rows = ordered(plan)
    xs = positions(plan, rows)
    shift = min(x - item.left for x, item in zip(xs, plan.items, strict=True))
    xs = [x - shift for x in xs]
    bands = _bands(picture, plan, rows, xs)
    middles = [sum(bands[item.row]) / 2 for item in plan.items]
    boxes = tuple(Box(xs[i], middles[i], *shape.size) for i, shape in enumerate(picture.shapes))
    pen = Pen(plan, rows, xs, bands, boxes)
    curves = {edge: pen.arrow(edge) for edge in picture.edges}
    labels = {
        edge: Box(xs[i], middles[i], text_width(edge.label, SMALL_SIZE) + 6.0, LABEL_HEIGHT)
        for edge, i in plan.labels.items()
    }
    width = max(x + item.right for x, item in zip(xs, plan.items, strict=True))
    return Layout(boxes, curves, labels, width, bands[-1][1])


def _bands(picture: Diagram, plan: Layers, rows: Sequence[Sequence[int]], xs: Sequence[float]) -> list[Point]:
    """Upper and lower end of each row; rows are further apart where steps go far to the side."""
    reach = [0.0] * len(rows)
    for a, b in plan.steps():
        row = plan.items[a.item].row
        reach[row] = max(reach[row], abs(xs[a.item] + a.offset - xs[b.item] - b.offset))
    shapes = [[picture.shapes[i].size[1] for i in row if i < len(picture.shapes)] for row in rows]
    row_gap = ROW_GAP - CLOSER * (len(rows) > MANY_ROWS)
    gaps = [row_gap if all(pair) else LABEL_GAP for pair in pairwise(shapes)]
    bands, y = [], 0.0
    for heights, gap, far in zip(shapes, [*gaps, 0.0], reach, strict=True):
        bands.append((y, y + max(heights, default=LABEL_HEIGHT)))
        y = bands[-1][1] + gap + min(70.0, far / 8)
    return bands
