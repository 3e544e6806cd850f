"""What a picture of a graph shows: shapes with their texts and sizes, and arrows between them. No positions yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from elbax.graph.drawing.text import shape_text
from elbax.graph.drawing.words import clean, shortened, text_width

if TYPE_CHECKING:
    from elbax.graph.graph import Graph, Node, Relation

__all__ = ["LINE", "NAME_SIZE", "SMALL_SIZE", "Diagram", "Edge", "Shape", "credited", "diagram"]

NAME_SIZE, SMALL_SIZE, LINE = 13.0, 11.0, 16.0  # sizes of the fonts and height of a line, pixels
ROOM = 190.0  # the longest line of a shape, pixels

# Estimators that do not multiply anything by the costs that a node is credited with.
WITHOUT_CREDIT = ("Pathwise", "Fixed")


@dataclass(frozen=True)
class Shape:
    """One shape of the picture.

    Attributes:
        name: of the node; for parameters, of the node whose parameters they are.
        kind: `"input"`, `"sample"`, `"deterministic"` or `"cost"`.
        lines: what stands in it: the name, then small print.
        title: what a pointer that rests on it is told.
    """

    name: str
    kind: Literal["input", "sample", "deterministic", "cost"]
    lines: tuple[str, ...]
    title: str = ""

    @cached_property
    def fitted(self) -> tuple[str, ...]:
        """The lines, shortened where they are too long."""
        return tuple(shortened(line, size, ROOM) for line, size in zip(self.lines, self._sizes, strict=True))

    @cached_property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        widths = [text_width(line, size) for line, size in zip(self.fitted, self._sizes, strict=True)]
        height = LINE * len(widths)
        if self.kind == "sample":
            return ellipse_around(widths)
        border = 6.0 if self.kind == "cost" else 0.0
        side = 14.0 if self.kind == "input" else 10.0
        return max(52.0, max(widths) + 2 * side + border), height + 14.0 + border

    @property
    def _sizes(self) -> tuple[float, ...]:
        return (NAME_SIZE, *[SMALL_SIZE] * (len(self.lines) - 1))


def ellipse_around(widths: list[float]) -> tuple[float, float]:
    """Width and height of an ellipse that holds centred lines: a circle, unless that would be large."""
    half = LINE * len(widths) / 2
    corners = [(w / 2 + 3.0, max(abs(LINE * i - half), abs(LINE * (i + 1) - half)) + 1.0) for i, w in enumerate(widths)]
    radius = max(24.0, *(math.hypot(x, y) for x, y in corners))
    flat = min(radius, max(54.0, half * 1.3))
    wide = max(flat, *(x / math.sqrt(1 - (y / flat) ** 2) for x, y in corners))
    return 2 * wide, 2 * flat


@dataclass(frozen=True)
class Edge:
    """An arrow of the picture; shapes are counted as in `Diagram.shapes`.

    Attributes:
        tail: the shape it leaves.
        head: the shape it points at.
        kind: `"dependence"` points down; `"loop"`, to what the next step of a loop uses, and `"credit"` point up.
        label: for credit, the relation.
        title: what a pointer that rests on it is told.
    """

    tail: int
    head: int
    kind: Literal["dependence", "loop", "credit"]
    label: str = ""
    title: str = ""

    @property
    def upper(self) -> int:
        """The end that stands higher."""
        return self.tail if self.kind == "dependence" else self.head

    @property
    def lower(self) -> int:
        """The end that stands lower."""
        return self.head if self.kind == "dependence" else self.tail


@dataclass(frozen=True)
class Diagram:
    """What a picture shows, before it has a layout. The upper end of each arrow comes before its lower end."""

    title: str
    shapes: tuple[Shape, ...]
    edges: tuple[Edge, ...]


def diagram(graph: Graph) -> Diagram:
    """The shapes and arrows of a graph."""
    shapes: list[Shape] = []
    entry: dict[str, int] = {}  # where the arrows to a node end: at its parameters, if it has any
    place: dict[str, int] = {}
    for name, node in graph.nodes.items():
        entry[name] = len(shapes)
        if node.kind == "sample" and graph.deps(name):
            shapes.append(Shape(name, "deterministic", (parameter_names(graph, name),), f"parameters of {name}"))
        place[name] = len(shapes)
        shapes.append(_shape(node, graph.plan.get(name, "")))
    edges = []
    for name in graph.nodes:
        edges += [_dependence(place[parent], entry[name], parent, name) for parent in graph.deps(name)]
        if entry[name] != place[name]:
            edges.append(Edge(entry[name], place[name], "dependence"))
    edges += [_credit(place[c], place[w], c, w, relation) for w, c, relation in credited(graph)]
    return Diagram(f"Stochastic computation graph of {clean(graph.name)}", tuple(shapes), tuple(edges))


def _dependence(tail: int, head: int, parent: str, child: str) -> Edge:
    if tail < head:
        return Edge(tail, head, "dependence", title=f"{child} depends on {parent}")
    return Edge(tail, head, "loop", title=f"the next step of {child} depends on {parent}")


def _credit(tail: int, head: int, cost: str, node: str, relation: Relation) -> Edge:
    label = clean(str(relation))
    return Edge(tail, head, "credit", label, f"{cost} is credited to {node} {label}".rstrip())


def _shape(node: Node, plan: str) -> Shape:
    lines = [node.name, node.about, shape_text(node) if node.shape else "", plan.split(" (")[0].removesuffix("()")]
    title = ": ".join(filter(None, (node.name, plan)))
    return Shape(node.name, node.kind, (lines[0], *filter(None, lines[1:])), title)  # type: ignore[arg-type]


def credited(graph: Graph) -> list[tuple[str, str, Relation]]:
    """For each score-function node, the costs that it is credited with, and the relation."""
    return [
        (w, c, relation)
        for w in graph.samples
        if not graph.plan.get(w, "").startswith(WITHOUT_CREDIT)
        for c in graph.costs
        if (relation := graph.relation(w, c)) is not None
    ]


def parameter_names(graph: Graph, name: str) -> str:
    """Names of the parameters of a site's distribution."""
    from elbax.graph.graph import abstract_distribution

    dist = abstract_distribution(graph.facts.samples[name].equation).one
    while hasattr(dist, "base_dist"):
        dist = dist.base_dist
    present = [p for p in getattr(dist, "arg_constraints", {}) if p in vars(dist)]
    return ", ".join(present) or "parameters"
