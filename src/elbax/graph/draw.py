"""The graph as a picture: text, SVG, Mermaid.

Stochastic nodes are circles, deterministic ones rectangles (the parameters of a distribution, computed from the nodes
in DEPS), inputs have rounded dashed outlines, costs are rectangles with a double outline. Solid arrows are
deterministic dependence; a dashed arrow leads from a cost back to each score-function node that is credited with it,
and tells by which relation.

The picture is drawn here rather than by Graphviz, which is a binary that a pip install does not bring. The layout is
the usual layered one (Sugiyama): longest path, then a few sweeps of sorting by the mean position of the neighbours.
"""

from __future__ import annotations

import html
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elbax.errors import ConfigError

if TYPE_CHECKING:
    from elbax.graph.graph import Graph, Node

__all__ = ["draw", "mermaid", "text"]


@dataclass(frozen=True)
class Shape:
    """One shape of the picture."""

    key: str
    kind: str  # input, sample, deterministic, cost
    lines: tuple[str, ...]
    title: str = ""

    @property
    def width(self) -> float:
        """In pixels, from the longest line."""
        return max(56.0, 7.2 * max(len(line) for line in self.lines) + 22.0)

    @property
    def height(self) -> float:
        """In pixels; circles are at least as high as their text is long, up to a limit."""
        text = 17.0 * len(self.lines) + 16.0
        return max(text, min(self.width, 74.0)) if self.kind == "sample" else text


@dataclass(frozen=True)
class Edge:
    """An arrow of the picture; `credit` marks the dashed ones from a cost to a score node."""

    tail: str
    head: str
    label: str = ""
    credit: bool = False


@dataclass(frozen=True)
class Diagram:
    """What a picture shows, before it has a layout."""

    shapes: tuple[Shape, ...]
    edges: tuple[Edge, ...]


def diagram(graph: Graph) -> Diagram:
    """The shapes and arrows of a graph."""
    shapes, edges = [], []
    for node in graph.nodes.values():
        parents = graph.deps(node.name)
        plan = graph.plan.get(node.name, "")
        if node.kind == "sample":
            head = node.name
            if parents:
                head = f"{node.name} parameters"
                shapes.append(Shape(head, "deterministic", (parameter_names(graph, node.name),)))
                edges.append(Edge(head, node.name))
            edges += [Edge(p, head) for p in parents]
        else:
            edges += [Edge(p, node.name) for p in parents]
        shapes.append(Shape(node.name, node.kind, tuple(_label(node, plan)), plan))
    edges += [Edge(c, w, str(r), credit=True) for w, c, r in credited(graph)]
    return Diagram(tuple(shapes), tuple(edges))


def credited(graph: Graph) -> list[tuple[str, str, object]]:
    """For each score-function node, the costs that it is credited with, and the relation."""
    return [
        (w, c, relation)
        for w in graph.samples
        if not graph.plan.get(w, "").startswith("Pathwise")
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


def _label(node: Node, plan: str) -> list[str]:
    lines = [node.name]
    if node.about:
        lines.append(node.about)
    if node.shape:
        lines.append(shape_text(node))
    if plan:
        lines.append(plan.split(" (")[0].removesuffix("()"))
    return lines


def shape_text(node: Node) -> str:
    """Shape with loop axes marked as steps: `[5 steps, 10]`."""
    parts = [f"{n} steps" if i < node.loops else str(n) for i, n in enumerate(node.shape)]
    return "[" + ", ".join(parts) + "]"


# --------------------------------------------------------------------------------------------- text


def text(graph: Graph) -> str:
    """The graph as a table of its nodes, then the reasons of the gradient plan, then what was lost."""
    header = ("node", "kind", "shape", "distribution", "DEPS", "estimator, or influenced by", "line")
    rows: list[tuple[str, ...]] = [header]
    for node in graph.nodes.values():
        plan = graph.plan.get(node.name, "").split(" (")[0]
        rows.append(
            (
                node.name,
                node.kind,
                shape_text(node) if node.shape else "",
                node.about,
                ", ".join(graph.deps(node.name)),
                plan or _influences_text(graph, node),
                str(node.source) if node.source and node.source.line else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    notes = [f"plan: {name}: {plan}" for name, plan in graph.plan.items()]
    notes += [f"lost: {loss}" for loss in graph.lost]
    notes += [f"no rule for `{name}` ({source}): everything is mixed there" for name, source in graph.unknown.items()]
    return "\n".join([f"stochastic computation graph of `{graph.name}`", *lines, *notes])


def _influences_text(graph: Graph, node: Node) -> str:
    if node.kind != "cost":
        return ""
    found = [(w, graph.relation(w, node.name)) for w in graph.samples]
    return ", ".join(f"{w} {r}".strip() for w, r in found if r is not None)


# --------------------------------------------------------------------------------------------- mermaid


def mermaid(graph: Graph) -> str:
    """The graph in Mermaid's flowchart language."""
    picture = diagram(graph)
    ids = {shape.key: f"n{i}" for i, shape in enumerate(picture.shapes)}
    brackets = {"input": ("([", "])"), "sample": ("((", "))"), "deterministic": ("[", "]"), "cost": ("[[", "]]")}
    lines = ["flowchart TD"]
    for shape in picture.shapes:
        left, right = brackets[shape.kind]
        label = "<br/>".join(html.escape(line, quote=True).replace("&", "#").replace("##", "#") for line in shape.lines)
        lines.append(f'    {ids[shape.key]}{left}"{label}"{right}')
    for edge in picture.edges:
        arrow = f'-. "{html.escape(edge.label)}" .->' if edge.credit else "-->"
        lines.append(f"    {ids[edge.tail]} {arrow} {ids[edge.head]}")
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class Layout:
    """Centres of the shapes and the size of the picture."""

    centres: Mapping[str, tuple[float, float]]
    width: float
    height: float


def layers(picture: Diagram) -> list[list[Shape]]:
    """Shapes by longest path from a source; arrows against program order (to the next step of a loop) do not count."""
    order = {shape.key: i for i, shape in enumerate(picture.shapes)}
    depth = dict.fromkeys(order, 0)
    for shape in picture.shapes:
        parents = [
            e.tail for e in picture.edges if not e.credit and e.head == shape.key and order[e.tail] < order[e.head]
        ]
        depth[shape.key] = max((depth[p] + 1 for p in parents), default=0)
    by_depth: dict[int, list[Shape]] = defaultdict(list)
    for shape in picture.shapes:
        by_depth[depth[shape.key]].append(shape)
    return _sorted_layers([by_depth[d] for d in sorted(by_depth)], picture)


def _sorted_layers(rows: list[list[Shape]], picture: Diagram) -> list[list[Shape]]:
    neighbours: dict[str, list[str]] = defaultdict(list)
    for edge in picture.edges:
        neighbours[edge.tail].append(edge.head)
        neighbours[edge.head].append(edge.tail)
    for _ in range(6):
        place = {s.key: i / max(len(row) - 1, 1) for row in rows for i, s in enumerate(row)}

        def mean(shape: Shape, place: Mapping[str, float] = place) -> float:
            near = [place[n] for n in neighbours[shape.key] if n != shape.key]
            return sum(near) / len(near) if near else place[shape.key]

        rows = [sorted(row, key=mean) for row in rows]
    return rows


GAP_X, GAP_Y, MARGIN = 34.0, 54.0, 26.0


def layout(picture: Diagram) -> Layout:
    """Places the shapes, layer below layer, each layer centred."""
    rows = layers(picture)
    widths = [sum(s.width for s in row) + GAP_X * (len(row) - 1) for row in rows]
    total = max(widths, default=0.0) + 2 * MARGIN + 60.0
    centres, y = {}, MARGIN
    for row, width in zip(rows, widths, strict=True):
        height = max(s.height for s in row)
        x = (total - width) / 2
        for shape in row:
            centres[shape.key] = (x + shape.width / 2, y + height / 2)
            x += shape.width + GAP_X
        y += height + GAP_Y
    return Layout(centres, total, y - GAP_Y + MARGIN)


# --------------------------------------------------------------------------------------------- svg

STYLE = """
.e{font:13px system-ui,sans-serif;fill:#1b1b1f}.e .s{font-size:11px;fill:#4a4a55}
.e .edge{fill:none;stroke:#5b6470;stroke-width:1.4}
.e .credit{fill:none;stroke:#b5540f;stroke-width:1.3;stroke-dasharray:5 4}
.e .sample{fill:#e6effa;stroke:#24588f;stroke-width:1.6}.e .deterministic{fill:#fff;stroke:#5b6470;stroke-width:1.2}
.e .input{fill:#f4f4f6;stroke:#5b6470;stroke-width:1.2;stroke-dasharray:4 3}
.e .cost{fill:#fdf1e3;stroke:#b5540f;stroke-width:1.4}.e .r{font-size:11px;fill:#b5540f}
"""


def svg(graph: Graph) -> str:
    """The graph as a self-contained SVG."""
    picture = diagram(graph)
    place = layout(picture)
    shapes = {s.key: s for s in picture.shapes}
    body = [_arrow(e, shapes, place) for e in picture.edges]
    body += [_drawn(s, place.centres[s.key]) for s in picture.shapes]
    size = f'width="{place.width:.0f}" height="{place.height:.0f}" viewBox="0 0 {place.width:.0f} {place.height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="e" {size} role="img">'
        f"<title>stochastic computation graph of {html.escape(graph.name)}</title><style>{STYLE}</style>"
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#5b6470"/></marker><marker id="c" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#b5540f"/></marker></defs>'
        + "".join(body)
        + "</svg>\n"
    )


def _drawn(shape: Shape, centre: tuple[float, float]) -> str:
    (x, y), w, h = centre, shape.width, shape.height
    if shape.kind == "sample":
        outline = f'<ellipse class="sample" cx="{x:.1f}" cy="{y:.1f}" rx="{w / 2:.1f}" ry="{h / 2:.1f}"/>'
    else:
        radius = h / 2 if shape.kind == "input" else 3
        outline = _rect(shape.kind, x, y, w, h, radius)
        if shape.kind == "cost":
            outline += _rect(shape.kind, x, y, w - 6, h - 6, radius)
    first = y - 8.5 * (len(shape.lines) - 1) + 4.5
    words = "".join(
        f'<text{"" if i == 0 else " class=" + chr(34) + "s" + chr(34)} x="{x:.1f}" y="{first + 17 * i:.1f}" '
        f'text-anchor="middle">{html.escape(line)}</text>'
        for i, line in enumerate(shape.lines)
    )
    title = f"<title>{html.escape(shape.title)}</title>" if shape.title else ""
    return f"<g>{title}{outline}{words}</g>"


def _rect(kind: str, x: float, y: float, w: float, h: float, radius: float) -> str:
    return (
        f'<rect class="{kind}" x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" '
        f'rx="{radius:.1f}"/>'
    )


def _arrow(edge: Edge, shapes: Mapping[str, Shape], place: Layout) -> str:
    (x0, y0), (x1, y1) = place.centres[edge.tail], place.centres[edge.head]
    half0, half1 = shapes[edge.tail].height / 2, shapes[edge.head].height / 2
    kind, marker = ("credit", "c") if edge.credit else ("edge", "a")
    if y1 > y0:  # downwards
        start, end = (x0, y0 + half0), (x1, y1 - half1)
        bend = max(24.0, (end[1] - start[1]) / 2)
        path = _curve(start, (start[0], start[1] + bend), (end[0], end[1] - bend), end)
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    else:  # upwards or level: around the right side
        start = (x0 + shapes[edge.tail].width / 2, y0)
        end = (x1 + shapes[edge.head].width / 2, y1)
        side = min(max(start[0], end[0]) + 42.0, place.width - 4.0)
        path = _curve(start, (side, start[1]), (side, end[1]), end)
        middle = (0.25 * (start[0] + end[0]) + 0.5 * side, (start[1] + end[1]) / 2)
    label = (
        f'<text class="r" x="{middle[0]:.1f}" y="{middle[1]:.1f}" text-anchor="middle">{html.escape(edge.label)}</text>'
        if edge.label
        else ""
    )
    return f'<path class="{kind}" marker-end="url(#{marker})" d="{path}"/>{label}'


def _curve(*points: tuple[float, float]) -> str:
    (x0, y0), *rest = points
    return f"M{x0:.1f} {y0:.1f}C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in rest)


def draw(graph: Graph, path: str | os.PathLike | None, *, overwrite: bool = False) -> str:
    """See `Graph.draw`."""
    if path is None:
        return svg(graph)
    target = Path(path)
    writers = {".svg": svg, ".mmd": mermaid, ".txt": text}
    if target.suffix not in writers:
        raise ConfigError(f"cannot draw a graph to '{target.name}': use a name that ends in {', '.join(writers)}.")
    if target.exists() and not overwrite:
        raise ConfigError(f"'{target}' exists; pass overwrite=True to replace it, or choose another name.")
    content = writers[target.suffix](graph)
    target.write_text(content, encoding="utf-8")
    return content


def legend() -> Sequence[tuple[str, str]]:
    """What the shapes mean, for captions."""
    return (
        ("circle", "stochastic node, with its gradient estimator"),
        ("rectangle", "deterministic node: the parameters of a distribution"),
        ("dashed outline", "input"),
        ("double outline", "cost"),
        ("dashed arrow", "the cost that a score-function node is credited with, and for which of its elements"),
    )
