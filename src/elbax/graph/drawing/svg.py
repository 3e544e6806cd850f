"""The picture of a graph as a self-contained SVG: no script, no font from elsewhere, all text escaped.

The picture stands on a white card, so that it can be read on any page; a page with colours of its own may replace
those of `STYLE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from elbax.graph.drawing.curves import Box, Curve
from elbax.graph.drawing.diagram import LINE, NAME_SIZE, SMALL_SIZE, Diagram, Edge, Shape, diagram
from elbax.graph.drawing.layout import Layout, layout
from elbax.graph.drawing.words import escape, shortened, text_width

if TYPE_CHECKING:
    from elbax.graph.graph import Graph

__all__ = ["drawn", "legend", "svg"]

MARGIN = 22.0
TITLE_HEIGHT, KEY_LINE = 34.0, 22.0
TITLE_ROOM = 420.0  # a longer title is shortened, unless the graph is wider, pixels
FONT = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif"
STYLE = f"""
.e text{{font:{NAME_SIZE:g}px {FONT};fill:#1b1b1f}}.e .s{{font-size:{SMALL_SIZE:g}px;fill:#4a4a55}}
.e .paper{{fill:#ffffff}}.e .edge{{fill:none;stroke:#5b6470;stroke-width:1.3}}
.e .credit{{fill:none;stroke:#b5540f;stroke-width:1.3;stroke-dasharray:5 3.5}}
.e .sample{{fill:#e6effa;stroke:#24588f;stroke-width:1.5}}
.e .deterministic{{fill:#ffffff;stroke:#5b6470;stroke-width:1.2}}
.e .input{{fill:#f4f4f6;stroke:#5b6470;stroke-width:1.2;stroke-dasharray:4 3}}
.e .cost{{fill:#fdf1e3;stroke:#b5540f;stroke-width:1.3}}.e .inner{{fill:none;stroke:#b5540f;stroke-width:1}}
.e .r{{font-size:{SMALL_SIZE:g}px;fill:#b5540f}}.e .rule{{stroke:#d9dce1}}
"""
MARKER = (
    '<marker id="{}" viewBox="0 0 8 8" refX="7.6" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" '
    'markerHeight="9" orient="auto"><path d="M0 .6 8 4 0 7.4z" fill="{}"/></marker>'
)
DEFS = f"<defs>{MARKER.format('a', '#5b6470')}{MARKER.format('c', '#b5540f')}</defs>"

KEY = (
    ("sample", "stochastic"),
    ("deterministic", "deterministic"),
    ("input", "input"),
    ("cost", "cost"),
    ("loop", "next loop step"),
    ("credit", "is credited to"),
)


def legend() -> Sequence[tuple[str, str]]:
    """What the shapes mean, for captions."""
    return (
        ("circle", "stochastic node, with its gradient estimator"),
        ("rectangle", "deterministic node: the parameters of a distribution"),
        ("dashed outline", "input"),
        ("double outline", "cost"),
        ("dashed arrow", "the cost that a score-function node is credited with, and for which of its elements"),
    )


def svg(graph: Graph, *, caption: bool = True) -> str:
    """The graph as a picture; without `caption`, for a page that says itself what it shows."""
    return drawn(diagram(graph), caption=caption)


def drawn(picture: Diagram, *, caption: bool = True) -> str:
    """A diagram as a picture."""
    place = layout(picture)
    room = min(text_width(picture.title, NAME_SIZE), TITLE_ROOM) + 1 if caption else 0.0
    width = max(place.width, room) + 2 * MARGIN
    top = MARGIN + (TITLE_HEIGHT if caption else 0.0)
    shift = f'transform="translate({_n((width - place.width) / 2)} {_n(top)})"'
    key, height = _key(picture, width, top + place.height + MARGIN) if caption else ("", top + place.height + MARGIN)
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    name = shortened(picture.title, NAME_SIZE, width - 2 * MARGIN)
    title = f'<text class="t" x="{_n(MARGIN)}" y="{_n(MARGIN + 10)}">{escape(name)}</text>' if caption else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="e" {size} role="img" style="max-width:100%;height:auto">'
        f"<title>{escape(picture.title)}</title><style>{STYLE}</style>{DEFS}"
        f'<rect class="paper" width="{_n(width)}" height="{_n(height)}" rx="6"/>{title}'
        f"<g {shift}>\n{_body(picture, place)}</g>{key}</svg>\n"
    )


def _body(picture: Diagram, place: Layout) -> str:
    lines = list(_arrows(place))
    lines += [_shape(shape, box) for shape, box in zip(picture.shapes, place.boxes, strict=True)]
    lines += [_label(edge, box) for edge, box in place.labels.items()]
    return "".join(f"{line}\n" for line in lines)


def _arrows(place: Layout) -> Iterable[str]:
    """One path for each arrow; curves that arrows share are drawn once, or dashes would fill each other's gaps."""
    seen: set[tuple[str, Curve]] = set()
    for edge, curves in place.curves.items():
        own = [curve for curve in curves if (edge.kind, curve) not in seen]
        seen.update((edge.kind, curve) for curve in own)
        look, marker = ("credit", "c") if edge.kind == "credit" else ("edge", "a")
        end = f' marker-end="url(#{marker})"' if own and own[-1] == curves[-1] else ""
        title = f"<title>{escape(edge.title)}</title>" if edge.title else ""
        yield f'<path class="{look}"{end} d="{_path(own)}">{title}</path>'


def _path(curves: Sequence[Curve]) -> str:
    parts = []
    for before, curve in pairwise([None, *curves]):
        assert curve is not None
        if before is None or before.end != curve.start:
            parts.append(f"M{_p(curve.start)}")
        parts.append(f"C{_p(curve.first)} {_p(curve.second)} {_p(curve.end)}")
    return "".join(parts)


def _shape(shape: Shape, box: Box) -> str:
    first = box.y - LINE * (len(shape.fitted) - 1) / 2 + 4.2
    words = "".join(
        f'<text{" class=" + chr(34) + "s" + chr(34) if i else ""} x="{_n(box.x)}" y="{_n(first + LINE * i)}" '
        f'text-anchor="middle">{escape(line)}</text>'
        for i, line in enumerate(shape.fitted)
    )
    title = f"<title>{escape(shape.title)}</title>" if shape.title else ""
    return f"<g>{title}{_outline(shape.kind, box)}{words}</g>"


def _outline(kind: str, box: Box) -> str:
    x, y, width, height = box
    if kind == "sample":
        return f'<ellipse class="sample" cx="{_n(x)}" cy="{_n(y)}" rx="{_n(width / 2)}" ry="{_n(height / 2)}"/>'
    radius = min(14.0, height / 2) if kind == "input" else 2.5
    inner = _rect("inner", Box(x, y, width - 6, height - 6), 1.5) if kind == "cost" else ""
    return _rect(kind, box, radius) + inner


def _rect(look: str, box: Box, radius: float) -> str:
    x, y, width, height = box
    return (
        f'<rect class="{look}" x="{_n(x - width / 2)}" y="{_n(y - height / 2)}" width="{_n(width)}" '
        f'height="{_n(height)}" rx="{_n(radius)}"/>'
    )


def _label(edge: Edge, box: Box) -> str:
    """A label on its line, which the card covers there."""
    text = f'<text class="r" x="{_n(box.x)}" y="{_n(box.y + 4)}" text-anchor="middle">{escape(edge.label)}</text>'
    return f"<g>{_rect('paper', box, 2)}{text}</g>"


def _key(picture: Diagram, width: float, top: float) -> tuple[str, float]:
    """The legend of what occurs in the picture, in columns, and where it ends."""
    kinds = {shape.kind for shape in picture.shapes} | {edge.kind for edge in picture.edges}
    entries = [entry for entry in KEY if entry[0] in kinds]
    column = 34.0 + max((text_width(words, SMALL_SIZE) for _, words in entries), default=0.0) + 14.0
    columns = max(1, min(len(entries), int((width - 2 * MARGIN + 14.0) / column)))
    parts = [f'<path class="rule" d="M{_n(MARGIN)} {_n(top)}H{_n(width - MARGIN)}"/>']
    for i, (kind, words) in enumerate(entries):
        x, y = MARGIN + column * (i % columns), top + KEY_LINE * (1 + i // columns)
        parts.append(f'{_sign(kind, x, y)}<text class="s" x="{_n(x + 34)}" y="{_n(y + 4)}">{escape(words)}</text>')
    return "\n".join(parts), top + KEY_LINE * -(-len(entries) // columns) + MARGIN


def _sign(kind: str, x: float, y: float) -> str:
    if kind in ("loop", "credit"):
        look, marker = ("credit", "c") if kind == "credit" else ("edge", "a")
        return f'<path class="{look}" marker-end="url(#{marker})" d="M{_n(x)} {_n(y)}H{_n(x + 27)}"/>'
    return _outline(kind, Box(x + 14, y, 14.0 if kind == "sample" else 26.0, 14.0))


def _p(point: tuple[float, float]) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
