"""The graph of a run's bound: its drawing, how each node gets its gradient, and which terms are exact."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from elbax.estimators.surrogate import graph_of
from elbax.fit.training import as_arguments
from elbax.graph.compat import Source
from elbax.graph.drawing import legend, shape_text, svg
from elbax.graph.graph import Graph
from elbax.runs.run import Run

__all__ = ["GraphFacts", "Mixed", "NodePlan", "Term", "graph_facts"]


@dataclass(frozen=True)
class NodePlan:
    """A stochastic node: its distribution, how its gradient is estimated and why, and the user's line."""

    name: str
    distribution: str
    shape: str
    estimator: str
    reason: str
    source: str


@dataclass(frozen=True)
class Term:
    """A term of the bound: its name, its shape, and whether it is exact or estimated from draws, in words."""

    name: str
    shape: str
    exact: bool
    how: str


@dataclass(frozen=True)
class Mixed:
    """A place after which the elements of a node along one axis can no longer be told apart."""

    node: str
    axis: int
    primitive: str
    source: str


@dataclass(frozen=True)
class GraphFacts:
    """The graph of a bound on one training batch.

    Attributes:
        svg: its drawing.
        legend: what the shapes of the drawing mean.
        nodes: the stochastic nodes.
        terms: the terms of the bound; minus their sum is the bound of the batch.
        lost: where credit is coarser than it could be; matters to score-function nodes only.
        credited: whether any node uses the costs that it is credited with (a score-function node).
        batch_size: data in the batch.
    """

    svg: str
    legend: tuple[tuple[str, str], ...]
    nodes: tuple[NodePlan, ...]
    terms: tuple[Term, ...]
    lost: tuple[Mixed, ...]
    credited: bool
    batch_size: int


def graph_facts(run: Run) -> GraphFacts:
    """Traces the bound of a run on a training batch."""
    batch = jax.tree.map(jnp.asarray, run.recipe.seen(run.data, "train", run.recipe.batch_size))
    graph = graph_of(run.bound, run.recipe.estimators(), as_arguments(batch), {})
    return GraphFacts(
        svg=svg(graph, caption=False),
        legend=tuple(legend()),
        nodes=tuple(node_plan(graph, name) for name in graph.samples),
        terms=tuple(term(graph, name) for name in graph.costs),
        lost=tuple(Mixed(x.node, x.axis, x.primitive, line_of(x.source)) for x in graph.lost),
        credited=any(not graph.plan[name].startswith("Pathwise") for name in graph.samples),
        batch_size=len(jax.tree.leaves(batch)[0]),
    )


def node_plan(graph: Graph, name: str) -> NodePlan:
    """A stochastic node of a graph."""
    node = graph.nodes[name]
    estimator, _, reason = graph.plan[name].partition(" (")
    return NodePlan(name, node.about, shape_text(node), estimator, reason.removesuffix(")"), line_of(node.source))


def line_of(source: Source | None) -> str:
    """File and line, or nothing where there is none (inside the library)."""
    return str(source) if source is not None and source.line else ""


def term(graph: Graph, name: str) -> Term:
    """A term of the bound. It is exact, given the data, if no stochastic node influences it."""
    node = graph.nodes[name]
    draws = [sample for sample in graph.samples if graph.influences(sample, name)]
    of = " and ".join([", ".join(draws[:-1]), draws[-1]] if len(draws) > 1 else draws)
    if not draws:
        how = "exact, in closed form"
    elif "KL(" in name:
        how = f"in closed form, given draws of {of}"
    else:
        how = f"estimated from draws of {of}"
    return Term(name, shape_text(node) if node.shape else "[]", not draws, how)
