"""The graph in Mermaid's flowchart language, for Markdown pages that draw it themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elbax.graph.drawing.diagram import Edge, Shape, diagram
from elbax.graph.drawing.words import clean

if TYPE_CHECKING:
    from elbax.graph.graph import Graph

__all__ = ["mermaid"]

BRACKETS = {"input": ("([", "])"), "sample": ("((", "))"), "deterministic": ("[", "]"), "cost": ("[[", "]]")}
CLASSES = """\
    classDef input stroke-dasharray: 4 3
    classDef sample fill:#e6effa,stroke:#24588f,color:#1b1b1f
    classDef cost fill:#fdf1e3,stroke:#b5540f,color:#1b1b1f
"""


def mermaid(graph: Graph) -> str:
    """The graph in Mermaid's flowchart language."""
    picture = diagram(graph)
    lines = [f"    {_node(i, shape)}" for i, shape in enumerate(picture.shapes)]
    lines += [f"    n{edge.tail} {_arrow(edge)} n{edge.head}" for edge in picture.edges]
    return "\n".join(["flowchart TD", *lines, CLASSES])


def _node(i: int, shape: Shape) -> str:
    left, right = BRACKETS[shape.kind]
    name = f":::{shape.kind}" if shape.kind in CLASSES else ""
    return f'n{i}{left}"{"<br/>".join(map(_quoted, shape.lines))}"{right}{name}'


def _arrow(edge: Edge) -> str:
    if edge.kind != "credit":
        return "-->"
    return f'-. "{_quoted(edge.label)}" .->' if edge.label else "-.->"


def _quoted(words: str) -> str:
    """Text inside quotes: Mermaid knows characters by their number, `#60;`."""
    return "".join(c if c.isalnum() or c in " _.,-+()[]/" else f"#{ord(c)};" for c in clean(words))
