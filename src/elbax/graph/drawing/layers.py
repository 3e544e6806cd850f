"""Shapes in rows, and arrows as steps from row to row.

Every arrow runs from a row to a lower one, whatever end its head is at. An arrow over several rows has a *stop* in
each row between, which takes room there like a shape; so nothing is drawn behind anything else. Arrows over several
rows that share their tail (or their head) share stops, and are drawn as one line that branches: parameters that
every node uses would else be as many parallel lines as there are nodes. The label of an arrow is a stop as well, in a
low row of its own.

Source: Sugiyama, Tagawa & Toda, Methods for Visual Understanding of Hierarchical System Structures, 1981; stops for
labels after Gansner et al., A Technique for Drawing Directed Graphs, 1993.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from elbax.graph.drawing.diagram import SMALL_SIZE, Diagram, Edge
from elbax.graph.drawing.words import text_width

__all__ = ["CHANNEL", "Item", "Layers", "Port", "Step", "layers"]

GAP = 26.0  # between shapes of a row, pixels
CHANNEL = 20.0  # room beside a shape for arrows that point upwards
MIN_ROW = 640.0  # shapes may fill a row at least up to this width

Bundle = tuple[str, str, int]  # kind of arrows; "tail", "head" or "" (shared with none); which shape they share there


class Item(NamedTuple):
    """What takes room in a row: a shape, a stop of arrows, or a label.

    Attributes:
        row: counted from the top.
        left: room to the left of its centre, pixels.
        right: room to the right of it.
        kind: `"shape"`, `"stop"` or `"label"`.
    """

    row: int
    left: float
    right: float
    kind: str


class Port(NamedTuple):
    """Where an arrow meets an item: so far to the right of its centre. Zero is its upper or lower end."""

    item: int
    offset: float


class Step(NamedTuple):
    """A piece of an arrow between two neighbouring rows."""

    upper: Port
    lower: Port


@dataclass(frozen=True)
class Layers:
    """Rows of items, and how arrows run through them.

    Attributes:
        items: first the shapes, as in the diagram, then stops and labels.
        rows: the items of each row, from left to right.
        paths: for each arrow, its steps from the top down.
        labels: the items that are labels, by arrow.
        own: pairs of parameters and their node.
    """

    items: tuple[Item, ...]
    rows: tuple[tuple[int, ...], ...]
    paths: dict[Edge, tuple[Step, ...]]
    labels: dict[Edge, int]
    own: frozenset[tuple[int, int]]

    def steps(self) -> list[Step]:
        """Every step once."""
        return list(dict.fromkeys(step for path in self.paths.values() for step in path))


def layers(picture: Diagram) -> Layers:
    """Puts shapes and stops into rows, in no particular order within a row."""
    shape_rows = rows_of_shapes(picture)
    bundles = _bundles(picture.edges, shape_rows)
    below = {_label_row(edge, bundles[edge], shape_rows) for edge in picture.edges if edge.label}
    row_of = {r: r + sum(k < r for k in below) for r in range(max(shape_rows, default=0) + 1)}
    items = [_shape_item(picture, i, row_of[r]) for i, r in enumerate(shape_rows)]
    stops: dict[Hashable, int] = {}
    paths, labels = {}, {}
    for edge in picture.edges:
        label_row = row_of[_label_row(edge, bundles[edge], shape_rows)] + 1 if edge.label else -1
        way = []
        for row in range(items[edge.upper].row + 1, items[edge.lower].row):
            name: Hashable = (edge, row) if row == label_row else (bundles[edge], row)
            if name not in stops:
                stops[name] = len(items)
                items.append(_label_item(edge.label, row) if row == label_row else Item(row, 2.0, 2.0, "stop"))
            way.append(stops[name])
        paths[edge] = _steps(edge, way, picture)
        if edge.label:
            labels[edge] = stops[edge, label_row]
    rows: list[list[int]] = [[] for _ in range(max((item.row for item in items), default=-1) + 1)]
    for i, item in enumerate(items):
        rows[item.row].append(i)
    own = frozenset((e.tail, e.head) for e in picture.edges if picture.shapes[e.tail].kind == "deterministic")
    return Layers(tuple(items), tuple(map(tuple, rows)), paths, labels, own)


def rows_of_shapes(picture: Diagram) -> list[int]:
    """For each shape its row: below all that stands above it, but no row is much wider than the picture is high."""
    limit = _row_limit(picture)
    above, below = defaultdict(list), defaultdict(list)
    for edge in picture.edges:
        above[edge.lower].append(edge.upper)
        below[edge.upper].append(edge.lower)
    used: Counter[int] = Counter()  # pixels per row
    rows: list[int] = []
    widths = [math.ceil(sum(_extent(picture, i)) + GAP) for i in range(len(picture.shapes))]
    for i, shape in enumerate(picture.shapes):
        row = max((rows[j] + 1 for j in above[i]), default=0)
        own = widths[i + 1] if shape.kind == "deterministic" else 0  # its node is to stand right below it
        while used[row] and (used[row] + widths[i] > limit or used[row + 1] + own > limit):
            row += 2 if own else 1  # parameters stand with parameters
        rows.append(row)
        used[row] += widths[i]
    for i in reversed(range(len(rows))):  # right above what uses it, if that makes no arrows longer
        row = min((rows[j] - 1 for j in below[i]), default=rows[i])
        if len(set(below[i])) >= len(set(above[i])) and row > rows[i] and used[row] + widths[i] <= limit:
            used[rows[i]] -= widths[i]
            used[row] += widths[i]
            rows[i] = row
    kept = {row: k for k, row in enumerate(sorted(set(rows)))}
    return [kept[row] for row in rows]


def _row_limit(picture: Diagram) -> float:
    area = sum((shape.size[0] + GAP) * (shape.size[1] + 60.0) for shape in picture.shapes)
    return max(MIN_ROW, 1.2 * math.sqrt(area))


def _bundles(edges: tuple[Edge, ...], rows: list[int]) -> dict[Edge, Bundle]:
    """Which stops an arrow shares: those of its tail or of its head, whichever more arrows share.

    For credit, which may be between any two, this is decided for all together, so that the picture stays regular.
    """
    far = [e for e in edges if rows[e.lower] - rows[e.upper] > 1]
    shared = Counter(b for e in far for b in _ends(e))
    credit = [e for e in far if e.kind == "credit"]
    credit_by_head = len({e.head for e in credit}) < len({e.tail for e in credit})
    bundles: dict[Edge, Bundle] = {edge: (edge.kind, "", i) for i, edge in enumerate(edges)}
    for edge in far:
        tail, head = _ends(edge)
        by_head = credit_by_head if edge.kind == "credit" else shared[head] > shared[tail]
        bundles[edge] = head if by_head else tail
    return bundles


def _ends(edge: Edge) -> tuple[Bundle, Bundle]:
    return (edge.kind, "tail", edge.tail), (edge.kind, "head", edge.head)


def _label_row(edge: Edge, bundle: Bundle, rows: list[int]) -> int:
    """The row of shapes below which the label stands: near the end that the arrow does not share with others."""
    return rows[edge.tail] - 1 if bundle[1] == "head" else rows[edge.head]


def _shape_item(picture: Diagram, i: int, row: int) -> Item:
    return Item(row, *_extent(picture, i), "shape")


def _extent(picture: Diagram, i: int) -> tuple[float, float]:
    """Room to the left and to the right of the centre of a shape, with that for arrows at its sides."""
    half = picture.shapes[i].size[0] / 2
    kinds = {edge.kind for edge in picture.edges if i in (edge.tail, edge.head)}
    return half + CHANNEL * ("credit" in kinds), _loop_offset(picture, i) if "loop" in kinds else half


def _loop_offset(picture: Diagram, i: int) -> float:
    """How far to the right of a shape's centre loops run; the same for parameters and their node."""
    pair = picture.shapes[i : i + 2] if picture.shapes[i].kind == "deterministic" else picture.shapes[i : i + 1]
    return max(shape.size[0] for shape in pair) / 2 + CHANNEL


def _label_item(label: str, row: int) -> Item:
    half = text_width(label, SMALL_SIZE) / 2 + 4.0
    return Item(row, half, half, "label")


def _steps(edge: Edge, way: list[int], picture: Diagram) -> tuple[Step, ...]:
    """The steps of an arrow: loops run on the right sides of shapes, credit on their left sides."""

    def end(i: int) -> Port:
        if edge.kind == "loop":
            return Port(i, _loop_offset(picture, i))
        return Port(i, -_extent(picture, i)[0] if edge.kind == "credit" else 0.0)

    ports = [end(edge.upper), *(Port(i, 0.0) for i in way), end(edge.lower)]
    return tuple(Step(a, b) for a, b in pairwise(ports))
