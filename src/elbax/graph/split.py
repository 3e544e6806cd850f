"""Costs taken apart into the terms that tell their influences apart.

A program may return one scalar loss; what a node influences is then everything. But a loss is a sum, and a sum can be
undone: walking back from a cost through additions, factors that no node of interest influences, sums over axes,
stacked loop outputs and accumulators carried through a loop finds terms with dependences of their own,

    loss = sum_b recon[b] + beta * sum_b kl[b] + sum_t r[t]     ->     recon[B], beta * kl[B], r[T].

Values and gradients stay what they were. The walk only goes where it gains something for the nodes of interest, and
sums out the dimensions that none of them is aligned with; a cost that needs no credit is left as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from elbax.graph import ir
from elbax.graph.analysis import Facts, leave_loop
from elbax.graph.ir import Atom, Block, Constant, Var
from elbax.graph.relations import EMPTY, Align, Dep, moves

__all__ = ["split_costs"]


def split_costs(block: Block, facts: Facts, nodes: int) -> Block:
    """The block with every cost split as far as that helps to credit `nodes` (a bit mask)."""
    return _Splitter(block, facts, nodes).result()


@dataclass(frozen=True)
class Factor:
    """Multiplies (or divides) a term; `dims` are the term's dimensions that the factor's dimensions stand for."""

    atom: Atom
    dims: tuple[int, ...] = ()
    divides: bool = False


@dataclass(frozen=True)
class Term:
    """One summand of a value: the sum of `atom * factors` over everything equals its share of the value's sum.

    `origin` gives, for each dimension of the value, the dimension of `atom` that it became; `None` after a reshape.
    """

    atom: Atom
    dep: Dep
    origin: tuple[int, ...] | None
    factors: tuple[Factor, ...] = ()


@dataclass
class _Splitter:
    block: Block
    facts: Facts
    nodes: int
    producers: dict[Var, tuple[ir.Equation, int]] = field(default_factory=dict)
    inner: dict[ir.Equation, tuple[_Splitter, ...]] = field(default_factory=dict)
    exported: dict[ir.Equation, list[Var]] = field(default_factory=dict)
    walked: dict[Atom, list[Term]] = field(default_factory=dict)
    added: list[Atom] = field(default_factory=list)  # further outputs of this block
    added_equations: list[ir.Equation] = field(default_factory=list)

    def __post_init__(self) -> None:
        for eq in self.block.equations:
            self.producers |= {v: (eq, i) for i, v in enumerate(eq.outputs) if v is not None}
            if eq.blocks:
                self.inner[eq] = tuple(_Splitter(b, self.facts, self.nodes) for b in eq.blocks)

    # ------------------------------------------------------------------------------------- the new block

    def result(self) -> Block:
        costs: list[ir.Equation] = []
        for eq in self.block.equations:
            if isinstance(eq, ir.Cost):
                costs += self.cost(eq)
        rest = [self.rebuilt(eq) for eq in self.block.equations if not isinstance(eq, ir.Cost)]
        # Nothing reads a cost, so costs may stand last, after everything that splitting has added.
        equations = (*rest, *self.added_equations, *costs)
        if equations == self.block.equations and not self.added:
            return self.block
        return replace(self.block, equations=equations, outputs=(*self.block.outputs, *self.added))

    def rebuilt(self, eq: ir.Equation) -> ir.Equation:
        if eq not in self.inner:
            return eq
        blocks = tuple(s.result() for s in self.inner[eq])
        if all(new is old for new, old in zip(blocks, eq.blocks, strict=True)):
            return eq
        return replace(eq.with_blocks(blocks), outputs=(*eq.outputs, *self.exported.get(eq, ())), eqn=None)

    def cost(self, eq: ir.Cost) -> list[ir.Equation]:
        terms = self.walk(eq.inputs[0])
        if len(terms) == 1 and terms[0].atom is eq.inputs[0]:
            return [eq]
        equations: list[ir.Equation] = []
        for part, term in enumerate(terms):
            made, atom, _ = self.materialise(term, keep=())
            equations += [*made, replace(eq, inputs=(atom,), part=part)]
        return equations

    # ------------------------------------------------------------------------------------- walking back

    def dep(self, atom: Atom) -> Dep:
        return EMPTY if isinstance(atom, Constant) else self.facts.deps.get(atom, EMPTY)

    def leaf(self, atom: Atom) -> Term:
        return Term(atom, self.dep(atom), tuple(range(len(atom.shape))))

    def walk(self, atom: Atom) -> list[Term]:
        """The terms of a value, the value itself if splitting it gains nothing."""
        if atom not in self.walked:
            self.walked[atom] = self.walk_once(atom)
        return self.walked[atom]

    def walk_once(self, atom: Atom) -> list[Term]:
        if isinstance(atom, Constant) or atom not in self.producers:
            return [self.leaf(atom)]
        eq, index = self.producers[atom]
        terms = self.expand(eq, index, atom)
        if terms is None or not any(_finer(t.dep, self.dep(atom), self.nodes) for t in terms):
            return [self.leaf(atom)]
        return terms

    def expand(self, eq: ir.Equation, index: int, atom: Atom) -> list[Term] | None:
        """The terms of one equation's result, or `None` where a sum ends."""
        match eq:
            case ir.Scan() if index < eq.num_carry:
                return self.accumulator(eq, index)
            case ir.Scan():
                body = self.inner[eq][0]
                return self.export(eq, body, body.walk(body.block.outputs[index]), stacked=True)
            case ir.Remat():
                body = self.inner[eq][0]
                return self.export(eq, body, body.walk(body.block.outputs[index]), stacked=False)
            case ir.Apply():
                return self.operation(eq, atom)
        return None

    def operation(self, eq: ir.Apply, atom: Atom) -> list[Term] | None:
        inputs, identity = eq.inputs, tuple(range(len(atom.shape)))
        match eq.name:
            case "add" | "add_any":
                return [*self.part(inputs[0], atom), *self.part(inputs[1], atom)]
            case "sub":
                return [*self.part(inputs[0], atom), *self.part(inputs[1], atom, negative=True)]
            case "neg":
                return self.part(inputs[0], atom, negative=True)
            case "mul" | "div":
                return self.product(eq, atom)
            case "copy" | "copy_p":
                return self.carry_over(inputs[0], identity)
            case "convert_element_type" if np.issubdtype(inputs[0].dtype, np.floating):
                return self.carry_over(inputs[0], identity)
            case "reduce_sum":
                axes = {int(a) for a in eq.eqn.params["axes"]}
                return self.carry_over(inputs[0], tuple(d for d in range(len(inputs[0].shape)) if d not in axes))
            case "squeeze":
                gone = {int(d) for d in eq.eqn.params["dimensions"]}
                return self.carry_over(inputs[0], tuple(d for d in range(len(inputs[0].shape)) if d not in gone))
            case "transpose":
                return self.carry_over(inputs[0], tuple(int(d) for d in eq.eqn.params["permutation"]))
            case "reshape":
                return self.carry_over(inputs[0], None)
        return None

    def part(self, operand: Atom, whole: Atom, *, negative: bool = False) -> list[Term]:
        """The terms of a summand of `whole`."""
        if operand.shape != whole.shape:  # a scalar, added to every element
            made, (spread,) = ir.inline(lambda x: jnp.broadcast_to(x, whole.shape), operand)
            self.added_equations += made
            self.facts.deps[cast(Var, spread)] = self.dep(operand)
            operand = spread
        terms = self.walk(operand)
        if not negative:
            return terms
        minus = Factor(Constant(np.asarray(-1, dtype=whole.dtype)))
        return [replace(t, factors=(*t.factors, minus)) for t in terms]

    def product(self, eq: ir.Apply, atom: Atom) -> list[Term] | None:
        """A product is linear in one operand when no node of interest influences the other."""
        x, y = eq.inputs
        if not self.dep(y).nodes & self.nodes and x.shape == atom.shape:
            return self.scaled(x, y, divides=eq.name == "div")
        if eq.name == "mul" and not self.dep(x).nodes & self.nodes and y.shape == atom.shape:
            return self.scaled(y, x, divides=False)
        return None

    def scaled(self, x: Atom, factor: Atom, *, divides: bool) -> list[Term] | None:
        terms = []
        for term in self.walk(x):
            if term.origin is None and factor.shape:
                return None
            dims = tuple(term.origin[d] for d in range(len(factor.shape))) if term.origin else ()
            terms.append(replace(term, factors=(*term.factors, Factor(factor, dims, divides))))
        return terms

    def carry_over(self, x: Atom, dims: tuple[int, ...] | None) -> list[Term]:
        """The terms of `x` as terms of a value whose dimension `d` is dimension `dims[d]` of `x`."""
        return [replace(t, origin=_compose(dims, t.origin)) for t in self.walk(x)]

    # ------------------------------------------------------------------------------------- loops

    def accumulator(self, eq: ir.Scan, index: int) -> list[Term] | None:
        """A carry that each step only adds to equals its initial value plus the sum of what was added."""
        body = self.inner[eq][0]
        entering = body.block.inputs[eq.num_consts + index]
        added = body.summands(body.block.outputs[index], entering)
        if added is None:
            return None
        inside = []
        for atom, sign in added:
            minus = (Factor(Constant(np.asarray(-1, dtype=atom.dtype))),) if sign < 0 else ()
            inside += [replace(t, factors=(*t.factors, *minus)) for t in body.walk(atom)]
        terms = self.export(eq, body, inside, stacked=True)
        ndim = len(entering.shape)
        summed = [replace(t, origin=_compose(tuple(d + 1 for d in range(ndim)), t.origin)) for t in terms]
        return [*self.walk(eq.inputs[eq.num_consts + index]), *summed]

    def summands(self, atom: Atom, entering: Var) -> list[tuple[Atom, int]] | None:
        """What is added to `entering` to get `atom`, with signs; `None` if it is not such a sum."""
        if atom is entering:
            return []
        if isinstance(atom, Constant) or atom not in self.producers:
            return None
        eq, _ = self.producers[atom]
        if not isinstance(eq, ir.Apply) or eq.name not in ("add", "add_any", "sub"):
            return None
        x, y = eq.inputs
        if x.shape != y.shape:
            return None
        if (left := self.summands(x, entering)) is not None:
            return [*left, (y, -1 if eq.name == "sub" else 1)]
        if eq.name != "sub" and (right := self.summands(y, entering)) is not None:
            return [*right, (x, 1)]
        return None

    def export(self, eq: ir.Equation, body: _Splitter, terms: list[Term], *, stacked: bool) -> list[Term]:
        """Makes terms of a body available outside, as further outputs of the equation that runs it."""
        length = (eq.length,) if isinstance(eq, ir.Scan) and stacked else ()
        depth = body.depth if stacked else 0
        outside = []
        for term in terms:
            made, atom, dims = body.materialise(term, keep=term.origin or ())
            body.added_equations += made
            body.added.append(atom)
            out = Var((*length, *atom.shape), atom.dtype)
            self.exported.setdefault(eq, []).append(out)
            dep = term.dep.map(moves(dims))
            origin = None if term.origin is None else tuple(dims[d] for d in term.origin)
            if stacked:
                dep = dep.map_all(lambda a: leave_loop(a, depth))
                origin = None if origin is None else (0, *(d + 1 for d in origin))
            self.facts.deps[out] = dep
            outside.append(Term(out, dep, origin))
        return outside

    @property
    def depth(self) -> int:
        """Level of the loop whose body this is."""
        return self.facts.levels[self.block]

    # ------------------------------------------------------------------------------------- one term

    def materialise(self, term: Term, keep: Sequence[int]) -> tuple[list[ir.Equation], Atom, dict[int, int]]:
        """Equations for a term times its factors, summed over the dimensions that tell nothing.

        Returns the equations, the result and where the remaining dimensions went.
        """
        ndim = len(term.atom.shape)
        useful = set(keep) | _aligned_dims(term.dep, self.nodes)
        summed = tuple(d for d in range(ndim) if d not in useful)
        dims = {d: i for i, d in enumerate(d for d in range(ndim) if d in useful)}
        if not summed and not term.factors:
            return [], term.atom, dims

        def compute(x: jax.Array, *factors: jax.Array) -> jax.Array:
            for value, factor in zip(factors, term.factors, strict=True):
                y = _spread(value, factor.dims, ndim)
                x = x / y if factor.divides else x * y
            return jnp.sum(x, axis=summed)

        made, (atom,) = ir.inline(compute, term.atom, *(f.atom for f in term.factors))
        return made, atom, dims


def _spread(value: jax.Array, dims: tuple[int, ...], ndim: int) -> jax.Array:
    order = sorted(range(len(dims)), key=lambda i: dims[i])
    shape = [1] * ndim
    for i in order:
        shape[dims[i]] = value.shape[i]
    return jnp.transpose(value, order).reshape(shape)


def _compose(outer: tuple[int, ...] | None, inner: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if outer is None or inner is None else tuple(inner[d] for d in outer)


def _aligned_dims(dep: Dep, nodes: int) -> set[int]:
    return {a.dim for rels, members in dep.groups if members & nodes for a in rels if a is not None and not a.is_loop}


def _finer(term: Dep, whole: Dep, nodes: int) -> bool:
    """Whether a term says more about its influences than the value that it is a part of."""
    if whole.nodes & nodes & ~term.nodes:
        return True
    for coarse, members in whole.groups:
        for fine, shared in term.groups:
            if members & shared & nodes and any(_narrower(f, c) for f, c in zip(fine, coarse, strict=True)):
                return True
    return False


def _narrower(fine: Align | None, coarse: Align | None) -> bool:
    if fine is None:
        return False
    return coarse is None or fine.low > coarse.low or fine.high < coarse.high
