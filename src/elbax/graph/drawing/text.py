"""The graph as a table of its nodes, which is what `print` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elbax.graph.graph import Graph, Node

__all__ = ["shape_text", "text"]


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


def shape_text(node: Node) -> str:
    """Shape with loop axes marked as steps: `[5 steps, 10]`."""
    parts = [f"{n} steps" if i < node.loops else str(n) for i, n in enumerate(node.shape)]
    return "[" + ", ".join(parts) + "]"
