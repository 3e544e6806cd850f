"""The intermediate form of a program: blocks of equations, read off a jaxpr.

JAX's jaxpr is the truth about a program, but it belongs to JAX: its parameter layouts move, and a loop in it cannot be
given one more output without binding a foreign primitive. A block is the same thing in elbax's own terms. Sites are
equations of their own kind with full names, calls are inlined, loops and branches show their bodies; everything else
is an `Apply` that keeps the JAX equation and is evaluated as such.

    jaxpr  --read-->  Block  --split-->  Block  --analyse-->  Graph  --evaluate-->  values

Blocks are immutable; a rewrite makes new ones and shares what it did not touch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from elbax.errors import ProgramError
from elbax.graph import compat
from elbax.graph.compat import UNKNOWN_SOURCE, Source
from elbax.graph.distributions import Structure
from elbax.graph.sites import SiteOptions

__all__ = [
    "Apply",
    "Atom",
    "Baseline",
    "Block",
    "Cond",
    "Constant",
    "Cost",
    "Custom",
    "Equation",
    "Observe",
    "Remat",
    "Sample",
    "Scan",
    "Var",
    "While",
    "inline",
    "prune",
    "read",
    "walk",
]


class Var:
    """A value computed by a program; compared by identity."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"Var{self.shape}"


class Constant:
    """A value known when the program was traced; it may be a tracer of an enclosing transformation."""

    __slots__ = ("dtype", "shape", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.shape = tuple(int(n) for n in np.shape(value))
        self.dtype = value.dtype if hasattr(value, "dtype") else np.result_type(value)


Atom = Var | Constant


@dataclass(frozen=True, eq=False)
class Block:
    """A straight piece of program: `outputs` from `inputs` by `equations` in order."""

    inputs: tuple[Var, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Atom, ...]

    @functools.cached_property
    def has_sites(self) -> bool:
        """Whether a site stands in this block or in one below it."""
        return any(isinstance(eq, SITES) or any(b.has_sites for b in eq.blocks) for eq in self.equations)


@dataclass(frozen=True, eq=False)
class Equation:
    """Base of all equations: `outputs` are defined by reading `inputs`. An output that nobody reads may be `None`."""

    inputs: tuple[Atom, ...]
    outputs: tuple[Var | None, ...]
    source: Source

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that this equation runs."""
        return ()

    def with_blocks(self, blocks: tuple[Block, ...]) -> Equation:
        """The same equation running other blocks."""
        return self


@dataclass(frozen=True, eq=False)
class Apply(Equation):
    """A JAX operation; `variables` tells which inputs feed the distinct variables of the JAX equation."""

    outputs: tuple[Var, ...]
    eqn: Any = field(repr=False)
    variables: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name of the JAX primitive."""
        return self.eqn.primitive.name


@dataclass(frozen=True, eq=False)
class Sample(Equation):
    """A sample site: inputs are the distribution's arrays, outputs the value and its log-density."""

    name: str
    structure: Structure
    options: SiteOptions


@dataclass(frozen=True, eq=False)
class Cost(Equation):
    """A cost site: one input, no output. `part` numbers the terms into which a cost was split, else 0."""

    name: str
    part: int = 0


@dataclass(frozen=True, eq=False)
class Observe(Equation):
    """An observed site, a cost `-log p(value)`: inputs are the value and the distribution's arrays, no output."""

    name: str
    structure: Structure
    options: SiteOptions


@dataclass(frozen=True, eq=False)
class Baseline(Equation):
    """The baseline of the sample site called `name`."""

    name: str


@dataclass(frozen=True, eq=False)
class Scan(Equation):
    """A loop of known length: inputs are constants, carries, scanned arrays; outputs are carries, stacked arrays.

    `eqn`, here as in `Cond` and `Remat`, is the JAX equation, or `None` once the blocks are no longer its own.
    """

    eqn: Any = field(repr=False)
    body: Block = field(repr=False)
    length: int
    reverse: bool
    unroll: int | bool
    num_consts: int
    num_carry: int

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The body."""
        return (self.body,)

    def with_blocks(self, blocks: tuple[Block, ...]) -> Scan:
        """The same loop with another body."""
        return replace(self, body=blocks[0])


@dataclass(frozen=True, eq=False)
class Cond(Equation):
    """A choice between blocks: inputs are the index and the operands of all branches."""

    eqn: Any = field(repr=False)
    branches: tuple[Block, ...] = field(repr=False)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The branches."""
        return self.branches

    def with_blocks(self, blocks: tuple[Block, ...]) -> Cond:
        """The same choice between other branches."""
        return replace(self, branches=blocks)


@dataclass(frozen=True, eq=False)
class Remat(Equation):
    """A block that is computed again in the backward pass; `options` are the arguments of `jax.checkpoint`."""

    eqn: Any = field(repr=False)
    body: Block = field(repr=False)
    options: dict[str, Any] = field(repr=False)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The body."""
        return (self.body,)

    def with_blocks(self, blocks: tuple[Block, ...]) -> Remat:
        """The same call of another body."""
        return replace(self, body=blocks[0])


@dataclass(frozen=True, eq=False)
class While(Apply):
    """A loop of unknown length, without sites; its blocks are for analysis only."""

    cond: Block | None = field(default=None, repr=False)
    body: Block | None = field(default=None, repr=False)
    num_cond_consts: int = 0
    num_body_consts: int = 0


@dataclass(frozen=True, eq=False)
class Custom(Apply):
    """An operation with a derivative rule of its own, without sites; its body is for analysis only."""

    body: Block | None = field(default=None, repr=False)


SITES = (Sample, Cost, Observe, Baseline)


def walk(block: Block) -> Iterator[Equation]:
    """All equations of a block and of the blocks that it runs, outer before inner, in program order."""
    for eq in block.equations:
        yield eq
        for inner in eq.blocks:
            yield from walk(inner)


def atoms(block: Block) -> Iterator[Atom]:
    """All atoms that a block and those that it runs read or return."""
    yield from block.outputs
    for eq in block.equations:
        yield from eq.inputs
        for inner in eq.blocks:
            yield from atoms(inner)


def map_constants(block: Block, change: Callable[[Any], Any]) -> Block:
    """The block with other values for the constants that it and those that it runs read or return."""

    def of(atom: Atom) -> Atom:
        return Constant(change(atom.value)) if isinstance(atom, Constant) else atom

    equations = []
    for eq in block.equations:
        inner = eq.with_blocks(tuple(map_constants(b, change) for b in eq.blocks))
        equations.append(replace(inner, inputs=tuple(of(a) for a in eq.inputs)))
    return Block(block.inputs, tuple(equations), tuple(of(a) for a in block.outputs))


# --------------------------------------------------------------------------------------------- reading a jaxpr


def read(jaxpr: Any) -> Block:
    """The block of a closed jaxpr: calls inlined, sites named in full."""
    jaxpr, consts = compat.open_jaxpr(jaxpr)
    inputs = tuple(_var(v) for v in jaxpr.invars)
    env: dict[Any, Atom] = dict(zip(jaxpr.invars, inputs, strict=True))
    env |= {v: Constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    reader = _Reader([])
    equations = reader.equations(jaxpr, env)
    return Block(inputs, tuple(equations), tuple(_atom(env, v) for v in jaxpr.outvars))


def inline(fn: Callable, *atoms: Atom, source: Source = UNKNOWN_SOURCE) -> tuple[list[Equation], tuple[Atom, ...]]:
    """Equations of a line that compute `fn` of `atoms`, and the atoms of its results. `fn` takes and returns arrays."""
    avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in atoms]
    jaxpr, consts = compat.open_jaxpr(jax.make_jaxpr(fn)(*avals))
    env: dict[Any, Atom] = dict(zip(jaxpr.invars, atoms, strict=True))
    env |= {v: Constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    equations = [replace(eq, source=source) for eq in _Reader([]).equations(jaxpr, env)]
    return equations, tuple(_atom(env, v) for v in jaxpr.outvars)


def _var(v: Any) -> Var:
    return Var(getattr(v.aval, "shape", ()), getattr(v.aval, "dtype", None))


def _atom(env: dict[Any, Atom], v: Any) -> Atom:
    return Constant(v.val) if isinstance(v, compat.Literal) else env[v]


class _Reader:
    """Reads equations, keeping the scopes that are open at each, and the line that calls them.

    `inside` an operation that JAX runs as a whole, only sites matter.
    """

    def __init__(self, scopes: list[str], *, inside: bool = False) -> None:
        self.scopes = scopes
        self.inside = inside
        self.around, self.in_library = UNKNOWN_SOURCE, False

    def equations(self, jaxpr: Any, env: dict[Any, Atom]) -> list[Equation]:
        found: list[Equation] = []
        around, in_library = self.around, self.in_library
        self.in_library |= compat.is_of_library(jaxpr)
        for eqn in jaxpr.eqns:
            self.around = self.source(eqn, around)
            found += self.equation(eqn, env)
        self.around, self.in_library = around, in_library
        return found

    def source(self, eqn: Any, around: Source) -> Source:
        """The user's line; for what a function of JAX or NumPyro does, the line that calls it.

        JAX traces a function that it compiles only once, so that its equations may carry the line of another call.
        """
        own = UNKNOWN_SOURCE if self.in_library and around.line else compat.source_of(eqn)
        return own if own.line else around

    def equation(self, eqn: Any, env: dict[Any, Atom]) -> list[Equation]:
        name = eqn.primitive.name
        if name == "elbax_scope":
            self.scopes.append(eqn.params["name"]) if eqn.params["enters"] else self.scopes.pop()
            return []
        if compat.is_mutable(eqn) and not self.inside:
            line = f" ({self.around})" if self.around.line else ""
            raise ProgramError(
                f"`{name}`{line} uses a mutable array (`jax.new_ref`). What is written there influences what is read "
                "later without appearing in between, so elbax cannot follow it. Use the result of `x.at[...].set(...)`."
            )
        inputs = tuple(_atom(env, v) for v in eqn.invars)
        if name in compat.CALLS and (inner := compat.call_jaxpr(eqn)) is not None:
            return self.call(inner, inputs, eqn, env)
        outputs = tuple(_var(v) for v in eqn.outvars)
        env |= dict(zip(eqn.outvars, outputs, strict=True))
        return [self.make(eqn, name, inputs, outputs)]

    def call(self, inner: Any, inputs: tuple[Atom, ...], eqn: Any, env: dict[Any, Atom]) -> list[Equation]:
        jaxpr, consts = compat.open_jaxpr(inner)
        local: dict[Any, Atom] = dict(zip(jaxpr.invars, inputs, strict=True))
        local |= {v: Constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
        equations = self.equations(jaxpr, local)
        env |= {v: _atom(local, o) for v, o in zip(eqn.outvars, jaxpr.outvars, strict=True)}
        return equations

    def block(self, jaxpr: Any) -> Block:
        jaxpr, consts = compat.open_jaxpr(jaxpr)
        inputs = tuple(_var(v) for v in jaxpr.invars)
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, inputs, strict=True))
        env |= {v: Constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
        equations = self.equations(jaxpr, env)
        return Block(inputs, tuple(equations), tuple(_atom(env, v) for v in jaxpr.outvars))

    def make(self, eqn: Any, name: str, inputs: tuple[Atom, ...], outputs: tuple[Var, ...]) -> Equation:
        if name.startswith("elbax_"):
            return self.site(eqn, inputs, outputs)
        source = self.around
        if name == "scan":
            p = compat.scan_params(eqn)
            body = self.block(p.body)
            return Scan(inputs, outputs, source, eqn, body, p.length, p.reverse, p.unroll, p.num_consts, p.num_carry)
        if name == "cond":
            return Cond(inputs, outputs, source, eqn, tuple(self.block(b) for b in compat.cond_params(eqn)))
        if name in compat.REMATS:
            jaxpr, options = compat.remat_params(eqn)
            return Remat(inputs, outputs, source, eqn, self.block(jaxpr), options)
        return self.opaque(eqn, name, inputs, outputs, source)

    def opaque(
        self, eqn: Any, name: str, inputs: tuple[Atom, ...], outputs: tuple[Var, ...], source: Source
    ) -> Equation:
        """An equation evaluated by JAX as it stands; no site may be inside."""
        variables = _variable_positions(eqn)
        if name == "while":
            p = compat.while_params(eqn)
            cond, body = self.block(p.cond), self.block(p.body)
            _refuse_sites((cond, body), name, source)
            return While(inputs, outputs, source, eqn, variables, cond, body, p.num_cond_consts, p.num_body_consts)
        if name in compat.CUSTOM_RULES and (inner := compat.call_jaxpr(eqn)) is not None:
            body = self.block(inner)
            _refuse_sites((body,), name, source)
            return Custom(inputs, outputs, source, eqn, variables, body)
        whole = _Reader(self.scopes, inside=True)
        _refuse_sites(tuple(whole.block(j) for j in compat.sub_jaxprs(eqn)), name, source)
        return Apply(inputs, outputs, source, eqn, variables)

    def site(self, eqn: Any, inputs: tuple[Atom, ...], outputs: tuple[Var, ...]) -> Equation:
        p = eqn.params
        name, source = "/".join([*self.scopes, p["name"]]), p["source"]
        if eqn.primitive.name == "elbax_sample":
            return Sample(inputs, outputs, source, name, p["structure"], p["options"])
        if eqn.primitive.name == "elbax_cost":
            return Cost(inputs, outputs, source, name)
        if eqn.primitive.name == "elbax_observe":
            return Observe(inputs, outputs, source, name, p["structure"], p["options"])
        return Baseline(inputs, outputs, source, name)


def _variable_positions(eqn: Any) -> tuple[int, ...]:
    return tuple(eqn.invars.index(v) for v in compat.distinct_inputs(eqn))


_WAY_OUT = {
    "while": "Use lax.scan, or fori_loop with bounds that are Python numbers, and mask the steps that are not needed",
    "custom_jvp_call": "Move it out of the function that has the custom derivative and pass its value in",
    "custom_vjp_call": "Move it out of the function that has the custom derivative and pass its value in",
    "shard_map": "Shard with jax.jit and NamedSharding (elbax.fit takes a mesh), not with shard_map or pmap",
    "xla_pmap": "Shard with jax.jit and NamedSharding (elbax.fit takes a mesh), not with pmap",
}


def kind_of_site(eq: Equation) -> str:
    """What to call a site in messages."""
    return {Sample: "sample site", Observe: "observed site", Cost: "cost", Baseline: "baseline"}[type(eq)]


def _refuse_sites(blocks: tuple[Block, ...], construct: str, source: Source) -> None:
    for block in blocks:
        for eq in walk(block):
            if isinstance(eq, SITES):
                way_out = _WAY_OUT.get(construct, "Move it out and pass its value in")
                line = f" ({source})" if source.line else ""
                raise ProgramError(
                    f"{kind_of_site(eq)} '{eq.name}' ({eq.source}) stands inside a `{construct}`{line}, which JAX runs "
                    f"as a whole, so that elbax can neither draw nor differentiate there. {way_out}."
                )


# --------------------------------------------------------------------------------------------- dead code


def _acts(eq: Equation) -> bool:
    return isinstance(eq, SITES) or bool(isinstance(eq, Apply) and eq.eqn.effects)


def prune(block: Block, keep: Callable[[Equation], bool] = _acts) -> Block:
    """The block without equations that neither an output nor a kept equation needs.

    Kept by default are sites and whatever has an effect, such as `jax.debug.print`. Stacked results that nobody reads
    are dropped from loops; carries stay, since whether one is needed depends on the loop itself.
    """
    live: set[Var | None] = {v for v in block.outputs if isinstance(v, Var)}
    kept: list[Equation] = []
    for eq in reversed(block.equations):
        if not (keep(eq) or any(v in live for v in eq.outputs) or any(_holds(b, keep) for b in eq.blocks)):
            continue
        eq = _prune_inside(eq, live, keep)
        live |= {v for v in eq.inputs if isinstance(v, Var)}
        kept.append(eq)
    return replace(block, equations=tuple(reversed(kept)))


def _prune_inside(eq: Equation, live: set[Var | None], keep: Callable[[Equation], bool]) -> Equation:
    if isinstance(eq, Sample):
        return replace(eq, outputs=tuple(v if v in live else None for v in eq.outputs))
    if not eq.blocks or not must_emit(eq):
        return eq
    first = eq.num_carry if isinstance(eq, Scan) else 0
    wanted = [i for i, v in enumerate(eq.outputs) if i < first or v in live]
    blocks = (replace(b, outputs=tuple(b.outputs[i] for i in wanted)) for b in eq.blocks)
    return replace(
        eq.with_blocks(tuple(prune(b, keep) for b in blocks)), outputs=tuple(eq.outputs[i] for i in wanted), eqn=None
    )


def must_emit(eq: Equation) -> bool:
    """Whether an equation that runs blocks has to be built again, because it holds sites or was rewritten."""
    return eq.eqn is None or any(b.has_sites for b in eq.blocks)  # type: ignore[attr-defined]


def _holds(block: Block, keep: Callable[[Equation], bool]) -> bool:
    return any(keep(eq) for eq in walk(block))


def ordered(values: Sequence[Any]) -> tuple[Any, ...]:
    """The distinct values in order of first appearance."""
    return tuple(dict.fromkeys(values))
