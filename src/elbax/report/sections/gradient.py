"""The graph of the bound and its gradient plan."""

from __future__ import annotations

import re

from elbax.report.content import Content
from elbax.report.facts.graphs import GraphFacts, Mixed, NodePlan
from elbax.report.markup import Html, allowed, join, table, tag
from elbax.report.numbers import count
from elbax.report.picture import Picture
from elbax.report.sections.base import Section

__all__ = ["gradient_section"]

COLUMN = 520.0  # CSS pixels: a wider drawing has the whole width of the page


def gradient_section(content: Content) -> Section | None:
    """The graph, how each node gets its gradient, and which terms are exact; `None` without a checkpoint."""
    if content.trained is None:
        return None
    graph = content.trained.graph
    drawing = graph_picture(content.trained.bound, graph)
    words = join([tag("h3", "Terms of the bound"), terms_table(graph), tag("h3", "Gradient plan"), plan_table(graph)])
    narrow = drawing.natural_width is not None and drawing.natural_width < COLUMN
    rest = join(lost(graph))
    return Section("gradient", "Graph and gradient", ((drawing, words), rest) if narrow else (drawing, words, rest))


def graph_picture(bound: str, graph: GraphFacts) -> Picture:
    """The drawing of the graph, with its legend."""
    shown = [entry for entry in graph.legend if graph.credited or entry[0] != "dashed arrow"]
    legend = "; ".join(f"{shape}: {meaning}" for shape, meaning in shown)
    nodes = ", ".join(n.name for n in graph.nodes)
    width = re.search(r'width="([0-9.]+)"', graph.svg)
    return Picture(
        "graph",
        allowed(graph.svg),
        None,
        f"Stochastic computation graph of {bound}: stochastic nodes {nodes}; costs "
        f"{', '.join(t.name for t in graph.terms)}.",
        join(
            [
                tag("b", "Stochastic computation graph of the bound "),
                f"on one batch of {count(graph.batch_size)} data, as it was traced from the program: solid arrows "
                f"are deterministic dependence. {legend[:1].upper()}{legend[1:]}. Brackets hold shapes.",
            ]
        ),
        natural_width=float(width[1]) if width else 480.0,
    )


def terms_table(graph: GraphFacts) -> Html:
    """Which terms are exact and which are estimated."""
    rows = [(tag("code", t.name), tag("code", t.shape, class_="keep"), t.how) for t in graph.terms]
    about = "Their sum, over all elements, is minus the bound of the batch. A term is exact only where it is said here."
    return join([table(rows, head=("Term", "Shape", "How it is computed")), tag("p", about, class_="note")])


def plan_table(graph: GraphFacts) -> Html:
    """The estimator of each node and why it was chosen."""
    rows = [(node_text(n), tag("code", n.estimator, class_="keep"), n.reason, n.source) for n in graph.nodes]
    return table(rows, head=("Node", "Estimator", "Why", "Line"), class_="stack")


def node_text(node: NodePlan) -> Html:
    """Name, distribution and shape of a node."""
    return join([tag("code", node.name), tag("br"), node.distribution, " ", tag("code", node.shape, class_="keep")])


def lost(graph: GraphFacts) -> list[Html]:
    """Where a cost is credited to more elements than it needs to be, and whether that matters here."""
    if not graph.lost:
        return []
    if graph.credited:
        about = (
            "The gradient stays unbiased, but a score-function node is credited there with more costs than it caused, "
            "which adds variance. It helps to move a sum or product over that axis further down the program."
        )
    else:
        about = (
            "This matters to score-function nodes only. All nodes here are pathwise: their gradients follow the value "
            "itself, and nothing is lost."
        )
    places = tag("ul", *(tag("li", mixed_text(mixed)) for mixed in graph.lost))
    return [tag("h3", "Where elements mix"), places, tag("p", about, class_="note")]


def mixed_text(mixed: Mixed) -> Html:
    """A place where elements mix, as a sentence."""
    where = f" ({mixed.source})" if mixed.source else " (inside the bound)"
    node, primitive = tag("code", mixed.node), tag("code", mixed.primitive)
    return join(["After ", primitive, where, ", elements of ", node, f" along axis {mixed.axis} ",
                 "are no longer told apart: each is credited with the costs of all."])  # fmt: skip
