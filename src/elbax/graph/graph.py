"""The stochastic computation graph of a program: its nodes, who influences whom, and who is credited with what.

Terms follow Schulman et al., *Gradient Estimation Using Stochastic Computation Graphs*, NeurIPS 2015: `v ≺ w` means
that `v` influences `w` by any path, `v ≺ᴰ w` by a path of deterministic operations only, and `DEPS(w)` are the nodes
with `v ≺ᴰ w`. The graph goes one step further: every influence holds element by element (`Relation`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax

from elbax.errors import ProgramError
from elbax.graph import ir
from elbax.graph.analysis import Facts, SampleFact, ValueFact, analyse
from elbax.graph.compat import Source
from elbax.graph.distributions import Lifted
from elbax.graph.ir import Block
from elbax.graph.relations import Dep, Rels, bits, relation_text
from elbax.graph.split import split_costs
from elbax.graph.tracing import Arguments, capture, returned_costs

__all__ = ["Graph", "Lost", "Node", "Relation", "build"]


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Attributes:
        name: unique in the graph.
        kind: `"input"`, `"sample"` or `"cost"`.
        shape: of the node's elements: axes of the loops around it, then of `vmap`, then of the distribution's batch.
            For an input, the size of its leading axis if that is followed, else `()`.
        source: the user's line; `None` for inputs.
        about: class of the distribution of a sample or observed site, else `""`.
        loops: how many of the leading axes are loops.
        discrete: whether a sample takes values in a set of integers.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    source: Source | None
    about: str = ""
    loops: int = 0
    discrete: bool = False


@dataclass(frozen=True)
class Relation:
    """How the elements of a cost or node depend on the elements of a node.

    Attributes:
        axes: one entry per axis of the influencing node: `"="`, `"<="`, `"<"`, `">="`, `">"` or a band such as
            `"[-1, 0]"`, all read as "element i depends on the node's element j only for j <= i" and so on; or
            `"mixed"`, when nothing is known along that axis.
    """

    axes: tuple[str, ...]

    def __str__(self) -> str:
        return self.axes[0] if len(self.axes) == 1 else f"({', '.join(self.axes)})" if self.axes else ""


@dataclass(frozen=True)
class Lost:
    """A place where the analysis lost sight of an axis, so that a cost is credited to more elements than needed.

    Attributes:
        node: the node whose axis became mixed.
        axis: which axis of the node.
        primitive: the JAX operation that mixed it.
        source: the user's line of that operation.
    """

    node: str
    axis: int
    primitive: str
    source: Source

    def __str__(self) -> str:
        return f"axis {self.axis} of '{self.node}' becomes mixed in `{self.primitive}` ({self.source})"


@dataclass(frozen=True, eq=False)
class Graph:
    """The stochastic computation graph of a program; made by `elbax.trace`.

    Attributes:
        name: of the program.
        arguments: of the call that was traced.
        program: the block as written.
        raw_facts: the analysis of `program`.
        portable: whether the graph may be used for other calls with arguments of the same shapes.
        plan: what each sample node's gradient estimator is, for printing and drawing.
    """

    name: str
    arguments: Arguments
    program: Block
    raw_facts: Facts
    portable: bool
    plan: Mapping[str, str]

    @cached_property
    def block(self) -> Block:
        """The block with costs split as far as that tells influences apart."""
        return ir.prune(split_costs(self.program, self.raw_facts, all_samples(self.raw_facts)))

    @cached_property
    def facts(self) -> Facts:
        """The analysis of `block`."""
        if self.block is self.program:
            return self.raw_facts
        return analyse(self.block, self.arguments.inputs, self.arguments.owners)

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """All nodes by name: inputs, then samples in program order, then costs."""
        nodes = {n.name: Node(n.name, "input", (n.batch,) if n.batch else (), None) for n in self.raw_facts.inputs}
        for name, fact in self.raw_facts.samples.items():
            dist = abstract_distribution(fact.equation)
            nodes[name] = Node(
                name, "sample", fact.shape, fact.equation.source, dist.name, len(fact.loops), dist.is_discrete
            )
        for name in self.costs:
            fact = self.raw_facts.costs[name, 0]
            about = abstract_distribution(fact.equation).name if isinstance(fact.equation, ir.Observe) else ""
            nodes[name] = Node(name, "cost", fact.shape, fact.equation.source, about, len(fact.loops))
        return nodes

    @cached_property
    def samples(self) -> tuple[str, ...]:
        """Names of the stochastic nodes, in program order."""
        return tuple(sorted(self.raw_facts.samples, key=lambda n: self.raw_facts.samples[n].index))

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """Names of the costs, in program order."""
        return ir.ordered([name for name, _ in self.raw_facts.costs])

    def deps(self, name: str) -> tuple[str, ...]:
        """DEPS of a node: the inputs and samples that reach it through deterministic operations only."""
        return self._names(self._dep(name).direct)

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All inputs and samples that influence a node."""
        return self._names(self._dep(name).nodes)

    def influences(self, v: str, w: str, *, direct: bool = False) -> bool:
        """Whether `v ≺ w`; with `direct`, whether `v ≺ᴰ w`."""
        self._node(v)
        return v in (self.deps(w) if direct else self.ancestors(w))

    def relation(self, v: str, w: str) -> Relation | None:
        """How the elements of `w` depend on the elements of `v`; `None` if `v` does not influence `w`.

        For a cost that was split into terms, the relation that holds for all terms that `v` influences.
        """
        bit = self._index(v)
        found = [rels for rels in (dep.rels(bit) for dep in self._deps(w)) if rels is not None]
        if not found:
            return None
        return Relation(tuple(_common(column) for column in zip(*found, strict=True)))

    @cached_property
    def lost(self) -> tuple[Lost, ...]:
        """Where the analysis lost an axis that some cost is then mixed in; empty if every credit is as fine as can be.

        Not every entry can be helped: a sum over a batch that enters a nonlinear function does mix the batch.
        """
        mixed = {
            (node, axis)
            for fact in self.facts.costs.values()
            for rels, members in fact.dep.groups
            for node in bits(members)
            for axis, a in enumerate(rels)
            if a is None
        }
        found = []
        for loss in self.facts.losses.values():
            for node in bits(loss.node):
                name = self._names(1 << node)[0]
                if (node, loss.axis) in mixed and name in self.facts.samples and self.nodes[name].shape[loss.axis] > 1:
                    found.append(Lost(name, loss.axis, loss.primitive, loss.source))
        return ir.ordered(found)

    @property
    def unknown(self) -> dict[str, Source]:
        """JAX primitives without a rule of their own that samples pass through (everything is mixed there)."""
        return dict(self.facts.unknown)

    def draw(self, path: str | os.PathLike | None = None, *, overwrite: bool = False) -> str:
        """Draws the graph: stochastic nodes as circles, deterministic ones as rectangles, inputs and costs apart.

        Args:
            path: where to write it: `.svg` for a picture, `.mmd` for Mermaid, `.md` for a Markdown page that holds
                it, `.txt` for the table that `print` shows; `None` to only return the SVG.
            overwrite: whether an existing file may be replaced.

        Returns:
            The text of the picture.
        """
        from elbax.graph.drawing import draw

        return draw(self, path, overwrite=overwrite)

    def mermaid(self) -> str:
        """The graph in Mermaid's flowchart language."""
        from elbax.graph.drawing import mermaid

        return mermaid(self)

    def _repr_svg_(self) -> str:
        return self.draw()

    def __str__(self) -> str:
        from elbax.graph.drawing import text

        return text(self)

    __repr__ = __str__

    def _names(self, mask: int) -> tuple[str, ...]:
        names = [n.name for n in self.facts.inputs] + list(self.samples)
        return tuple(names[i] for i in bits(mask))

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            known = ", ".join(f"'{n}'" for n in self.nodes)
            raise ProgramError(f"there is no node '{name}' in the graph of `{self.name}`; its nodes are {known}.")
        return self.nodes[name]

    def _index(self, name: str) -> int:
        if self._node(name).kind == "cost":
            raise ProgramError(f"'{name}' is a cost: a cost influences nothing. Ask for its own relation to a sample.")
        return self.facts.index(name)

    def _deps(self, name: str) -> list[Dep]:
        kind = self._node(name).kind
        if kind == "sample":
            return [self.facts.samples[name].parameters]
        if kind == "cost":
            return [fact.dep for (cost, _), fact in self.facts.costs.items() if cost == name]
        return [Dep()]

    def _dep(self, name: str) -> Dep:
        total = Dep()
        for dep in self._deps(name):
            groups = (*total.groups, *dep.groups)
            total = Dep(groups, total.direct | dep.direct, total.smooth | dep.smooth, total.cut | dep.cut)
        return total


def _common(column: tuple[Any, ...]) -> str:
    if any(a is None for a in column):
        return "mixed"
    return relation_text(min(a.low for a in column), max(a.high for a in column))


def abstract_distribution(eq: ir.Sample | ir.Observe) -> Lifted:
    """The distribution of a site, without numbers, for questions about its type."""
    leaves = eq.inputs[1:] if isinstance(eq, ir.Observe) else eq.inputs
    return Lifted(eq.structure, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in leaves))


def build(
    program: Callable, args: tuple, kwargs: dict[str, Any], *, batch_axes: tuple[int, ...] = ()
) -> tuple[Graph, Any]:
    """The graph of a program, and what the program returned (abstractly)."""
    arguments = Arguments.of(program, args, kwargs, batch_axes)
    captured = capture(program, arguments)
    block = ir.prune(returned_costs(captured))
    arguments = _told_apart(arguments, block)
    facts = analyse(block, arguments.inputs, arguments.owners)
    check_baselines(facts)
    return Graph(captured.name, arguments, block, facts, captured.portable, {}), captured.result


def _told_apart(arguments: Arguments, block: Block) -> Arguments:
    """Arguments under names that no site has: `x (argument)` where the data `x` are observed at a site `x`."""
    sites = {eq.name for eq in ir.walk(block) if isinstance(eq, ir.SITES)}
    inputs = tuple(replace(n, name=f"{n.name} (argument)") if n.name in sites else n for n in arguments.inputs)
    return replace(arguments, inputs=inputs)


def all_samples(facts: Facts) -> int:
    """The bit mask of all sample nodes and of inputs whose leading axis is followed."""
    mask = 0
    for fact in facts.samples.values():
        mask |= 1 << fact.index
    for i, node in enumerate(facts.inputs):
        if node.batch is not None:
            mask |= 1 << i
    return mask


def check_baselines(facts: Facts) -> None:
    """Refuses a baseline for a node that does not exist, or that depends on the element it is subtracted from."""
    for name, fact in facts.baselines.items():
        source = fact.equation.source
        if name not in facts.samples:
            near = difflib.get_close_matches(name, facts.samples, n=3, cutoff=0.4) or list(facts.samples)[:5]
            known = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else "The program has no sample site."
            raise ProgramError(f"baseline '{name}' ({source}) is for a sample site that does not exist. {known}")
        sample = facts.samples[name]
        axes = baseline_axes(fact, sample)
        rels = fact.dep.rels(sample.index)
        if rels is not None and not _excludes_itself(rels, axes, sample.shape):
            raise ProgramError(
                f"the baseline of '{name}' ({source}) depends on '{name}' itself ({sample.equation.source}), so "
                "subtracting it would bias the gradient. Compute it from values that are known before the draw."
            )


def baseline_axes(baseline: ValueFact, sample: SampleFact) -> tuple[int, ...]:
    """For each dimension of a baseline, the axis of the node: loops from the left, the rest from the right.

    Raises:
        ProgramError: if the baseline does not broadcast to the node.
    """
    own_loops, ndim, node_ndim = len(baseline.loops), len(baseline.shape), len(sample.shape)
    inner = ndim - own_loops
    axes = (*range(own_loops), *range(node_ndim - inner, node_ndim))
    fits = (
        baseline.loops == sample.loops[:own_loops]
        and inner <= node_ndim - own_loops
        and all(n in (1, sample.shape[axis]) for n, axis in zip(baseline.shape, axes, strict=True))
    )
    if not fits:
        steps = "" if baseline.loops == sample.loops else f" in loops of {baseline.loops or 'no'} steps"
        node_steps = f" in loops of {sample.loops or 'no'} steps" if steps else ""
        raise ProgramError(
            f"the baseline of '{sample.equation.name}' ({baseline.equation.source}) has shape "
            f"{baseline.shape[own_loops:]}{steps}, which does not broadcast to the node's shape "
            f"{sample.shape[len(sample.loops) :]}{node_steps} ({sample.equation.source}). Give it one value, or one "
            "for each element of the node, in the same loop."
        )
    return axes


def _excludes_itself(rels: Rels, axes: tuple[int, ...], node_shape: tuple[int, ...]) -> bool:
    """Whether no element of a baseline depends on the element of the node that it is subtracted from."""
    return any(
        a is not None and axes[a.dim] == axis and a.inner == 1 and a.size == node_shape[axis] and not a.admits(0)
        for axis, a in enumerate(rels)
    )
