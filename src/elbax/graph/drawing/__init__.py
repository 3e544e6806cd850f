"""The graph as a picture: SVG, Mermaid, and the table that `print` shows.

Stochastic nodes are circles, deterministic ones rectangles (the parameters of a distribution, computed from the nodes
in DEPS), inputs have rounded dashed outlines, costs are rectangles with a double outline. Solid arrows are
deterministic dependence; those that point upwards lead to the next step of a loop. A dashed arrow leads from a cost
back to each score-function node that is credited with it, and tells by which relation.

    diagram   what is shown: shapes and arrows            mermaid, text   written down without a layout
    layers    shapes in rows, long arrows cut into steps  order           few crossings
    positions straight lines                              layout          all of these, and the curves
    svg       the layout, written down                    words           widths of text, escaping

The picture is drawn here rather than by Graphviz, which is a binary that a pip install does not bring.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from elbax.errors import ConfigError
from elbax.graph.drawing.mermaid import mermaid
from elbax.graph.drawing.svg import legend, svg
from elbax.graph.drawing.text import shape_text, text

if TYPE_CHECKING:
    from elbax.graph.graph import Graph

__all__ = ["draw", "legend", "mermaid", "shape_text", "svg", "text"]


def draw(graph: Graph, path: str | os.PathLike | None, *, overwrite: bool = False) -> str:
    """See `Graph.draw`."""
    if path is None:
        return svg(graph)
    target = Path(path)
    writers = {".svg": svg, ".mmd": mermaid, ".md": _fenced, ".txt": text}
    if target.suffix not in writers:
        raise ConfigError(f"cannot draw a graph to '{target.name}': use a name that ends in {', '.join(writers)}.")
    if target.exists() and not overwrite:
        raise ConfigError(f"'{target}' exists; pass overwrite=True to replace it, or choose another name.")
    content = writers[target.suffix](graph)
    target.write_text(content, encoding="utf-8", errors="replace")
    return content


def _fenced(graph: Graph) -> str:
    return f"```mermaid\n{mermaid(graph)}```\n"
