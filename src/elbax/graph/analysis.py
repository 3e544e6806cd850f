"""The abstract interpreter: what influences what in a block, and element by element.

One pass over the equations carries a `Dep` for every value. Loops are run on an abstract carry until it is stable;
their time axis is one more axis, so that reward-to-go is nothing special: a cost of step `t` depends on the draws of
steps up to `t`, relation `<=`. A sample's dependence on its parameters is read off the program of its own log-density
(if that is separable along an axis, the conditional factorises along it), which is one rule for all distributions.

Everything stated here is an upper bound of the true dependence. Influence through control flow counts: the index of a
`cond` influences all sites and all results of its branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import ProgramError
from elbax.graph import compat, ir
from elbax.graph.compat import Source, cached
from elbax.graph.distributions import Lifted, Structure, value_and_log_prob_avals
from elbax.graph.ir import Atom, Block, Constant, Var
from elbax.graph.relations import EMPTY, Align, Dep, Rels, join, join_all, loop, widen
from elbax.graph.rules import FLAT, nothing, transfers

__all__ = ["Facts", "InputNode", "Loss", "analyse", "leave_loop"]


@dataclass(frozen=True)
class InputNode:
    """An argument of the program.

    Attributes:
        name: of the parameter.
        batch: size of the leading axis that is followed through the program, or `None` to follow the argument whole.
    """

    name: str
    batch: int | None = None


@dataclass(frozen=True)
class SampleFact:
    """What is known of a sample site; shapes and relations include the axes of the loops around it, outermost first."""

    index: int
    equation: ir.Sample
    loops: tuple[int, ...]
    shape: tuple[int, ...]
    value_dtype: np.dtype
    parameters: Dep


@dataclass(frozen=True)
class ValueFact:
    """What is known of a cost or a baseline; its relations point into its value as stacked over the loops around it."""

    equation: ir.Cost | ir.Observe | ir.Baseline
    loops: tuple[int, ...]
    shape: tuple[int, ...]
    dep: Dep


@dataclass(frozen=True)
class Loss:
    """A place where an alignment ended: an axis of a node became mixed there."""

    node: int
    axis: int
    primitive: str
    source: Source


@dataclass
class Facts:
    """The result of the analysis.

    Attributes:
        inputs: the program's arguments; they are nodes `0 .. len(inputs) - 1`.
        samples: by name; their indices follow those of the inputs, in program order.
        costs: by name and part.
        baselines: by the name of the sample site that they belong to.
        deps: of every value of the block and of the blocks below it.
        losses: where alignments ended.
        unknown: primitives without a rule, with the first line that uses each.
        cuts: `(nodes, primitive, line)` of operations that jump and that the values of nodes go through.
        levels: the level of the loop that each loop body belongs to.
    """

    inputs: tuple[InputNode, ...]
    samples: dict[str, SampleFact] = field(default_factory=dict)
    costs: dict[tuple[str, int], ValueFact] = field(default_factory=dict)
    baselines: dict[str, ValueFact] = field(default_factory=dict)
    deps: dict[Var, Dep] = field(default_factory=dict)
    losses: dict[tuple[int, int, str, Source], Loss] = field(default_factory=dict)
    unknown: dict[str, Source] = field(default_factory=dict)
    cuts: list[tuple[int, str, Source]] = field(default_factory=list)
    levels: dict[Block, int] = field(default_factory=dict)

    def index(self, name: str) -> int:
        """The bit of a node."""
        for i, node in enumerate(self.inputs):
            if node.name == name:
                return i
        return self.samples[name].index


def analyse(block: Block, inputs: Sequence[InputNode], owners: Sequence[int]) -> Facts:
    """Analyses a program.

    Args:
        block: the program.
        inputs: its arguments.
        owners: for each input of the block, the index of the argument that it is a part of.
    """
    facts = Facts(tuple(inputs))
    interpreter = _Interpreter(facts, _number_samples(block, len(inputs)))
    deps = [_input_dep(v, inputs[owner], owner) for v, owner in zip(block.inputs, owners, strict=True)]
    interpreter.run(block, deps, EMPTY, ())
    return facts


def _number_samples(block: Block, start: int) -> dict[str, int]:
    names = [eq.name for eq in ir.walk(block) if isinstance(eq, ir.Sample)]
    return {name: start + i for i, name in enumerate(ir.ordered(names))}


def _input_dep(v: Var, node: InputNode, index: int) -> Dep:
    smooth = 1 << index if jnp.issubdtype(v.dtype, jnp.inexact) else 0
    rels: Rels = ()
    if node.batch is not None:
        rels = (Align(0, 1, node.batch) if v.shape and v.shape[0] == node.batch else None,)
    return Dep(((rels, 1 << index),), direct=1 << index, smooth=smooth)


class _Interpreter:
    def __init__(self, facts: Facts, numbers: dict[str, int]) -> None:
        self.facts, self.numbers = facts, numbers
        self.site: Source | None = None  # inside a log-density, the line of its site

    def run(self, block: Block, inputs: Sequence[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        """Dependences of the outputs of a block; `control` is that of the branch taken, `loops` those around it."""
        deps = self.facts.deps
        deps.update(zip(block.inputs, inputs, strict=True))
        for eq in block.equations:
            arguments = [self.read(a) for a in eq.inputs]
            results = self.equation(eq, arguments, control, loops)
            deps.update((v, d) for v, d in zip(eq.outputs, results, strict=True) if v is not None)
        return [self.read(a) for a in block.outputs]

    def read(self, atom: Atom) -> Dep:
        return EMPTY if isinstance(atom, Constant) else self.facts.deps[atom]

    def equation(self, eq: ir.Equation, deps: list[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        match eq:
            case ir.Sample():
                return self.sample(eq, deps, control, loops)
            case ir.Observe():
                dep = self.density(eq, _avals(eq), deps, loops)
                shape = Lifted(eq.structure, _avals(eq)[1:]).shape
                self.facts.costs[eq.name, 0] = ValueFact(
                    eq, loops, (*loops, *shape), _stacked(join(dep, control), loops)
                )
                return []
            case ir.Cost():
                self.facts.costs[eq.name, eq.part] = _value_fact(eq, join(deps[0], control), loops)
                return []
            case ir.Baseline():
                self.facts.baselines[eq.name] = _value_fact(eq, join(deps[0], control), loops)
                return []
            case ir.Scan():
                return self.scan(eq, deps, control, loops)
            case ir.Cond():
                return self.cond(eq, deps, control, loops)
            case ir.Remat():
                return self.run(eq.body, deps, control, loops)
            case ir.While():
                return self.while_loop(eq, deps, control, loops)
            case ir.Custom():
                return self.custom(eq, deps, control, loops)
            case ir.Apply():
                return self.apply(eq, deps)
        raise TypeError(f"no analysis for {type(eq).__name__}")

    # ------------------------------------------------------------------------------------- plain operations

    def apply(self, eq: ir.Apply, deps: list[Dep]) -> list[Dep]:
        if not any(d.groups for d in deps):
            return [EMPTY] * len(eq.outputs)
        table = transfers(eq)
        if table is None:
            self.facts.unknown.setdefault(eq.name, self.site or eq.source)
            table = [[lambda a: None] * len(eq.inputs)] * len(eq.outputs)
        results = []
        for row, out in zip(table, eq.outputs, strict=True):
            pairs = zip(_derivatives(eq, deps), row, strict=True)
            moved = [d.map(t, self.reporter(eq.name, eq.source)) for d, t in pairs if t is not nothing]
            before = join_all(moved)
            after = _after(eq, out, before)
            if after.cut != before.cut:
                self.facts.cuts.append((after.cut & ~before.cut, eq.name, eq.source))
            results.append(after)
        return results

    def reporter(self, primitive: str, source: Source) -> Callable[[int, int], None]:
        source = self.site or source

        def on_loss(axis: int, nodes: int) -> None:
            self.facts.losses.setdefault((axis, nodes, primitive, source), Loss(nodes, axis, primitive, source))

        return on_loss

    # ------------------------------------------------------------------------------------- sites

    def sample(self, eq: ir.Sample, deps: list[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        avals = _avals(eq)
        value, log_prob = value_and_log_prob_avals(eq.structure, avals, as_float=eq.options.as_float)
        parameters = join(self.density(eq, (value, *avals), [EMPTY, *deps], loops), control)
        bit = 1 << self.numbers[eq.name]
        levels = tuple(loop(level, n) for level, n in enumerate(loops))
        lanes = tuple(Align(d, 1, n) for d, n in enumerate(log_prob.shape))
        smooth = bit if jnp.issubdtype(value.dtype, jnp.inexact) else 0
        itself = Dep((((*levels, *lanes), bit),), direct=bit, smooth=smooth)
        self.facts.samples[eq.name] = SampleFact(
            self.numbers[eq.name],
            eq,
            loops,
            (*loops, *log_prob.shape),
            value.dtype,
            _stacked(parameters, loops),
        )
        return [join(itself, parameters.through_sample()), join(itself, parameters)]

    def density(
        self,
        eq: ir.Sample | ir.Observe,
        avals: tuple[jax.ShapeDtypeStruct, ...],
        deps: list[Dep],
        loops: tuple[int, ...],
    ) -> Dep:
        """How the elements of a log-density depend on its value (the first input) and on the distribution's arrays.

        Also how the elements of a draw depend on them: if the density is separable along an axis, so is the draw.
        """
        if not any(d.groups for d in deps):
            return EMPTY
        entering = join_all(d.mixed() for d in deps)
        try:
            block = _log_prob_block(eq.structure, avals)
        except NotImplementedError:  # a flow that can be drawn from but not inverted
            return entering
        self.site = eq.source
        (result,) = self.run(block, deps, EMPTY, loops)
        self.site = None
        # What a draw depends on but its log-density does not show (a mask, a point mass) is mixed.
        hidden = entering.restrict(entering.nodes & ~result.nodes)
        # Densities are smooth in their parameters inside the support, whatever their formula branches on.
        return Dep(join(result, hidden).groups, entering.direct, entering.smooth, entering.cut)

    # ------------------------------------------------------------------------------------- control flow

    def scan(self, eq: ir.Scan, deps: list[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        level, first = len(loops), eq.num_consts + eq.num_carry
        consts, init = deps[: eq.num_consts], deps[eq.num_consts : first]
        report = self.reporter("scan", eq.source)
        xs = [d.map(lambda a: _enter(a, level, eq.length), report) for d in deps[first:]]
        step = 1 if eq.reverse else -1
        self.facts.levels[eq.body] = level
        carry = init
        while True:
            outs = self.run(eq.body, [*consts, *carry, *xs], control, (*loops, eq.length))
            nexts = [d.map_all(lambda a: _later(a, level, step)) for d in outs[: eq.num_carry]]
            new = [widen(c, join(i, n)) for c, i, n in zip(carry, init, nexts, strict=True)]
            if new == carry:
                break
            carry = new
        last = [
            join(i, d.map_all(lambda a: None if a.dim == -1 - level else a, report))
            for i, d in zip(init, outs[: eq.num_carry], strict=True)
        ]
        return [*last, *(d.map_all(lambda a: leave_loop(a, level)) for d in outs[eq.num_carry :])]

    def cond(self, eq: ir.Cond, deps: list[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        if len(going_on := [b for b in eq.branches if not _raises(b)]) == 1:  # `equinox.error_if`
            return self.run(going_on[0], deps[1:], control, loops)
        index = deps[0].mixed()
        branches = [self.run(b, deps[1:], join(control, index), loops) for b in eq.branches]
        return [join_all([*outs, index]) for outs in zip(*branches, strict=True)]

    def while_loop(self, eq: ir.While, deps: list[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        assert eq.cond is not None
        assert eq.body is not None
        split = eq.num_cond_consts + eq.num_body_consts
        cond_consts, body_consts = deps[: eq.num_cond_consts], deps[eq.num_cond_consts : split]
        carry = deps[split:]
        while True:
            (predicate,) = self.run(eq.cond, [*cond_consts, *carry], control, loops)
            outs = self.run(eq.body, [*body_consts, *carry], control, loops)
            new = [widen(c, join(c, o)) for c, o in zip(carry, outs, strict=True)]
            if new == carry:
                return [join(c, predicate.mixed()) for c in carry]
            carry = new

    def custom(self, eq: ir.Custom, deps: list[Dep], control: Dep, loops: tuple[int, ...]) -> list[Dep]:
        """The user's derivative rule is trusted: what enters differentiably leaves differentiably."""
        assert eq.body is not None
        if len(eq.body.inputs) != len(deps):
            return [join_all(deps).mixed()] * len(eq.outputs)
        entering = join_all(deps)
        outs = self.run(eq.body, deps, control, loops)
        return [
            _after(eq, v, Dep(d.groups, d.direct, entering.smooth & d.nodes, entering.cut & d.cut))
            for v, d in zip(eq.outputs, outs, strict=True)
        ]


def _raises(block: Block) -> bool:
    """Whether a branch does nothing but raise an error, so that what follows does not depend on its being taken."""
    return any(isinstance(eq, ir.Apply) and compat.raises_error(eq.eqn) for eq in block.equations)


def _value_fact(eq: ir.Cost | ir.Baseline, dep: Dep, loops: tuple[int, ...]) -> ValueFact:
    return ValueFact(eq, loops, (*loops, *eq.inputs[0].shape), _stacked(dep, loops))


def _stacked(dep: Dep, loops: tuple[int, ...]) -> Dep:
    """Relations to a value inside loops, as relations to that value stacked over the loops, outermost first."""
    depth = len(loops)
    return dep.map_all(lambda a: a._replace(dim=-1 - a.dim if a.is_loop else a.dim + depth)) if depth else dep


def _enter(a: Align, level: int, length: int) -> Align | None:
    """From a scanned array to its element of one step."""
    if a.dim > 0:
        return a._replace(dim=a.dim - 1)
    return a._replace(dim=-1 - level) if (a.inner, a.size) == (1, length) else None


def leave_loop(a: Align, level: int) -> Align:
    """From the element of one step to the stacked array."""
    if a.dim == -1 - level:
        return a._replace(dim=0)
    return a if a.is_loop else a._replace(dim=a.dim + 1)


def _later(a: Align, level: int, step: int) -> Align | None:
    """From the end of one step to the beginning of the next."""
    return a.shifted(step, step) if a.dim == -1 - level else a


def _derivatives(eq: ir.Apply, deps: list[Dep]) -> list[Dep]:
    """Which inputs of an operation can carry a derivative at all."""
    if eq.name == "select_n":
        # Which case is taken may jump, or only change the formula (relu, softplus): not decidable, so not counted.
        return [Dep(deps[0].groups, deps[0].direct), *deps[1:]]
    if eq.name == "mul" and any(_never_finite(a) for a in eq.inputs):
        return [d.guard() for d in deps]  # a guard value, such as `inf * (x > 0)` for infinite logits
    if eq.name in ("ne", "eq") and eq.inputs[0] is eq.inputs[1]:
        return [d.guard() for d in deps]  # a test for NaN
    return deps


def _never_finite(atom: Atom) -> bool:
    if not isinstance(atom, Constant) or isinstance(atom.value, compat.Tracer):
        return False
    return jnp.issubdtype(atom.dtype, jnp.floating) and not bool(np.isfinite(np.asarray(atom.value)).any())


def _after(eq: ir.Apply, out: Var | None, dep: Dep) -> Dep:
    """The dependence with what the operation does to derivatives."""
    if eq.name == "stop_gradient":
        return dep.constant()
    if eq.name == "is_finite":
        return dep.guard()
    if eq.name in FLAT or (out is not None and not jnp.issubdtype(out.dtype, jnp.inexact)):
        return dep.piecewise_constant()
    if eq.name == "rem":
        return Dep(dep.groups, dep.direct, dep.smooth, dep.cut | dep.smooth)
    return dep


@cached
def _log_prob_block(structure: Structure, avals: tuple[jax.ShapeDtypeStruct, ...]) -> Block:
    """The program of a log-density, of its value and the distribution's arrays."""
    return ir.read(jax.make_jaxpr(lambda v, *leaves: Lifted(structure, leaves).log_prob(v))(*avals))


def _avals(eq: ir.Equation) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in eq.inputs)


def check_unique_names(block: Block) -> None:
    """Refuses two sites of one name."""
    seen: dict[tuple[type, str], Source] = {}
    for eq in ir.walk(block):
        if not isinstance(eq, ir.SITES):
            continue
        kind = ir.Baseline if isinstance(eq, ir.Baseline) else ir.Sample  # samples and costs share one name space
        if (kind, eq.name) in seen:
            first = seen[kind, eq.name]
            twice = (
                ""
                if first != eq.source
                else (
                    " (one line, so it is run twice; JAX also runs twice what stands in a `jax.checkpoint` that the "
                    "program itself differentiates: keep sites out of that)"
                )
            )
            raise ProgramError(
                f"two sites are called '{eq.name}': {first} and {eq.source}{twice}. Names must be unique in a "
                "program. If one function states the site several times, wrap each use in "
                '`with elbax.scope("..."):`; in a loop over layers, use the loop index in the name.'
            )
        seen[kind, eq.name] = eq.source
