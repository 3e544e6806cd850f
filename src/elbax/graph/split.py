"""Costs taken apart into the terms that tell their influences apart.

A program may return one scalar loss; what a node influences is then everything. But a loss is a sum, and a sum can be
undone: walking back from a cost through everything that is linear in it, additions, factors that no node of interest
influences, sums over axes, stacked loop outputs and accumulators carried through a loop, finds terms with dependences
of their own,

    loss = sum_b recon[b] + beta * sum_b kl[b] + sum_t r[t]     ->     recon[B], beta * kl[B], r[T].

Values and gradients stay what they were. The walk is that of reverse-mode differentiation: each value is visited once,
with all that it counts for in the cost (its *share*), so the work is linear in the size of the program. It only goes
where it gains something for the nodes of interest, and sums out the dimensions that none of them is aligned with; a
cost that needs no credit is left as it was written.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from elbax.graph import ir
from elbax.graph.analysis import Facts, leave_loop
from elbax.graph.compat import UNKNOWN_SOURCE, Source
from elbax.graph.ir import Atom, Block, Constant, Var
from elbax.graph.linear import Factor, Share, Shares, carried_by, shares_of_operands, wider
from elbax.graph.relations import EMPTY, Align, Dep, moves

__all__ = ["split_costs"]


def split_costs(block: Block, facts: Facts, nodes: int) -> Block:
    """The block with every cost split as far as that helps to credit `nodes` (a bit mask)."""
    return _Splitter(block, dict(facts.deps), facts.levels, nodes).result()


@dataclass(frozen=True)
class Term:
    """One summand: an atom and its share."""

    atom: Atom
    share: Share


@dataclass
class _Splitter:
    block: Block
    deps: dict[Var, Dep]
    levels: dict[Block, int]
    nodes: int
    producers: dict[Var, tuple[int, ir.Equation, int]] = field(default_factory=dict)
    inner: dict[ir.Equation, tuple[_Splitter, ...]] = field(default_factory=dict)
    exported: dict[ir.Equation, list[Var]] = field(default_factory=dict)
    exports: dict[Var, Shares] = field(default_factory=dict)
    splits: dict[Atom, bool] = field(default_factory=dict)
    bodies: dict[Var, list[Term] | None] = field(default_factory=dict)
    lines: dict[Var, Source] = field(default_factory=dict)
    added: list[Atom] = field(default_factory=list)  # further outputs of this block
    added_equations: list[ir.Equation] = field(default_factory=list)

    def __post_init__(self) -> None:
        for position, eq in enumerate(self.block.equations):
            made = [(i, v) for i, v in enumerate(eq.outputs) if v is not None]
            self.producers |= {v: (position, eq, i) for i, v in made}
            self.lines |= {v: eq.source for _, v in made}
            if eq.blocks:
                self.inner[eq] = tuple(_Splitter(b, self.deps, self.levels, self.nodes) for b in eq.blocks)

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
        (whole,) = eq.inputs
        self.decide([whole])
        if not self.splits.get(whole):
            return [eq]
        # Terms of one shape and with the same influences are one term.
        alike: dict[Any, list[Atom]] = {}
        for term in self.terms([(whole, Share(whole.dtype))]):
            atom, dims = self.materialise(term, keep=())
            dep = self.dep(term.atom).restrict(self.nodes).map(moves(dims))
            alike.setdefault((dep.groups, atom.shape, str(atom.dtype)), []).append(atom)
        return [replace(eq, inputs=(self.sum(atoms),), part=part) for part, atoms in enumerate(alike.values())]

    # ------------------------------------------------------------------------------------- where to go

    def dep(self, atom: Atom) -> Dep:
        return EMPTY if isinstance(atom, Constant) else self.deps.get(atom, EMPTY)

    def free(self, atom: Atom) -> bool:
        """Whether no node of interest influences a value."""
        return not self.dep(atom).nodes & self.nodes

    def decide(self, roots: Sequence[Atom]) -> None:
        """Finds out which of the values below `roots` it pays to take apart."""
        stack = list(roots)
        while stack:
            atom = stack[-1]
            if atom in self.splits:
                stack.pop()
                continue
            operands, deps = self.below(atom)
            if todo := [a for a in operands if a not in self.splits]:
                stack += todo
                continue
            gains = any(_finer(d, self.dep(atom), self.nodes) for d in deps)
            self.splits[atom] = gains or any(self.splits[a] for a in operands)

    def below(self, atom: Atom) -> tuple[list[Atom], list[Dep]]:
        """The summands of a value: atoms of this block, and the dependences of all of them."""
        if isinstance(atom, Constant) or atom not in self.producers or self.free(atom):
            return [], []
        _, eq, index = self.producers[atom]
        operands: list[Atom] = []
        if isinstance(eq, ir.Apply):
            shares = shares_of_operands(eq, Share(atom.dtype), self.free, self.compute)
            operands = [a for a, _ in shares or ()]
        elif isinstance(eq, ir.Scan) and index < eq.num_carry and self.body_terms(atom) is not None:
            operands = [eq.inputs[eq.num_consts + index]]
        inside = [self.outside(eq, self.dep(t.atom)) for t in self.body_terms(atom) or ()]
        return operands, [*(self.dep(a) for a in operands), *inside]

    def terms(self, roots: Shares) -> list[Term]:
        """The sum of `roots`, taken apart as far as that gains something; in program order."""
        self.decide([atom for atom, _ in roots])
        pending: dict[Var, list[Share]] = {}
        leaves: dict[Atom, list[Share]] = {}
        queue: list[tuple[int, int]] = []  # positions of the values that are pending, last equation first

        def give(shares: Shares) -> None:
            for atom, share in shares:
                if isinstance(atom, Constant) or not self.splits.get(atom):
                    leaves.setdefault(atom, []).append(share)
                elif atom in pending:
                    pending[atom].append(share)
                else:
                    pending[atom] = [share]
                    position, _, index = self.producers[atom]
                    heapq.heappush(queue, (-position, index))

        give(roots)
        while queue:
            position, index = heapq.heappop(queue)
            atom = self.block.equations[-position].outputs[index]
            assert atom is not None
            for share in self.united(atom, pending.pop(atom)):
                shares = self.shares(atom, share)
                if shares is None:
                    leaves.setdefault(atom, []).append(share)
                else:
                    give(shares)
        found = [Term(a, s) for a, shares in leaves.items() for s in self.united(a, shares)]
        return found[::-1]

    def shares(self, atom: Var, share: Share) -> Shares | None:
        """What the operands of a value count for, or `None` where the share cannot be handed on."""
        _, eq, _ = self.producers[atom]
        if isinstance(eq, ir.Apply):
            return shares_of_operands(eq, share, self.free, self.compute)
        shares: Shares = []
        for outside, own in self.export(atom):
            if own.origin is None and share.arrays:
                return None
            moved = share.moved(own.origin) if own.origin is not None else replace(share, origin=None)
            shares.append((outside, replace(moved, dtype=wider(moved.dtype, own.dtype))))
        return shares

    def united(self, atom: Atom, shares: list[Share]) -> Iterator[Share]:
        """Shares of one value as one share, if their dimensions are told alike."""
        by_origin: dict[Any, list[Share]] = {}
        for share in shares:
            by_origin.setdefault(share.origin, []).append(share)
        for alike in by_origin.values():
            yield alike[0] if len(alike) == 1 else self.total(atom, alike)

    def total(self, atom: Atom, shares: list[Share]) -> Share:
        """The sum of several shares of one value."""
        first = shares[0]
        dtype = functools.reduce(wider, (s.dtype for s in shares))
        if all(s.factors == first.factors for s in shares):
            return replace(first, weight=sum(s.weight for s in shares), dtype=dtype)
        shape = () if not any(s.arrays for s in shares) else atom.shape
        counts = [len(s.factors) for s in shares]

        def add(*values: jax.Array) -> jax.Array:
            result, left = jnp.zeros(shape, dtype), iter(values)
            for share, n in zip(shares, counts, strict=True):
                one = jnp.full(shape, share.weight, dtype)
                for f, value in zip(share.factors, (next(left) for _ in range(n)), strict=True):
                    one = f.times(one, value)
                result = result + one
            return result

        factor = Factor(self.compute(add, *(f.atom for s in shares for f in s.factors)), tuple(range(len(shape))))
        return Share(dtype, 1.0, (factor,), first.origin)

    # ------------------------------------------------------------------------------------- loops and calls

    def body_terms(self, atom: Var) -> list[Term] | None:
        """The terms, within a body, of a result of a loop or of a rematerialised call; `None` if it is no sum."""
        if atom not in self.bodies:
            self.bodies[atom] = self.body_terms_once(atom)
        return self.bodies[atom]

    def body_terms_once(self, atom: Var) -> list[Term] | None:
        _, eq, index = self.producers[atom]
        if not isinstance(eq, (ir.Scan, ir.Remat)):
            return None
        body = self.inner[eq][0]
        last = body.block.outputs[index]
        roots: list[tuple[Atom, float]] | None = [(last, 1.0)]
        if isinstance(eq, ir.Scan) and index < eq.num_carry:
            roots = body.added_to(body.block.inputs[eq.num_consts + index], last)
        if roots is None:
            return None
        told = tuple(range(len(last.shape)))
        return body.terms([(a, Share(last.dtype, weight, origin=told)) for a, weight in roots])

    def added_to(self, entering: Var, leaving: Atom) -> list[tuple[Atom, float]] | None:
        """What a step adds to a carry: the result is the initial value plus the sum of it over all steps.

        It does not matter what else reads the carry, since what is added is computed in the loop as ever.
        """
        reached: set[Atom] = {entering}
        for eq in self.block.equations:
            if isinstance(eq, ir.Apply) and any(a in reached for a in carried_by(eq)):
                reached.add(eq.outputs[0])
        if leaving not in reached:
            return None
        found: list[tuple[Atom, float]] = []
        while leaving is not entering:
            _, eq, _ = self.producers[leaving]  # type: ignore[index]
            assert isinstance(eq, ir.Apply)
            through = next(a for a in carried_by(eq) if a in reached)
            sign = -1.0 if eq.name == "sub" else 1.0
            found += [(a, sign) for i, a in enumerate(eq.inputs) if i != eq.inputs.index(through)]
            leaving = through
        return found

    def export(self, atom: Var) -> Shares:
        """The terms of a result of a loop or call as values of this block, told where its dimensions went."""
        if atom not in self.exports:
            self.exports[atom] = self.export_once(atom)
        return self.exports[atom]

    def export_once(self, atom: Var) -> Shares:
        _, eq, index = self.producers[atom]
        body, shares = self.inner[eq][0], []
        carried = eq.num_consts + index if isinstance(eq, ir.Scan) and index < eq.num_carry else None
        length = (eq.length,) if isinstance(eq, ir.Scan) else ()
        for term in self.body_terms(atom) or ():
            own, dims = body.materialise(term, keep=term.share.origin or ())
            body.added.append(own)
            out = Var((*length, *own.shape), own.dtype)
            self.exported.setdefault(eq, []).append(out)
            self.lines[out] = eq.source
            self.deps[out] = self.outside(eq, self.dep(term.atom).map(moves(dims)))
            origin = None
            if term.share.origin is not None:
                inside = tuple(dims[d] + len(length) for d in term.share.origin)
                origin = (0, *inside) if length and carried is None else inside
            shares.append((out, Share(own.dtype, origin=origin)))
        if carried is not None:
            shares.append((eq.inputs[carried], Share(atom.dtype, origin=tuple(range(len(atom.shape))))))
        return shares

    def outside(self, eq: ir.Equation, dep: Dep) -> Dep:
        """A dependence inside the body of an equation as seen from outside, stacked if it is a loop."""
        if not isinstance(eq, ir.Scan):
            return dep
        level = self.levels[eq.body]
        return dep.map_all(lambda a: leave_loop(a, level))

    # ------------------------------------------------------------------------------------- new equations

    def compute(self, fn: Callable, *atoms: Atom) -> Atom:
        """The value of `fn` of `atoms`, by new equations of this block."""
        source = next((self.lines[a] for a in atoms if a in self.lines), UNKNOWN_SOURCE)
        made, (atom,) = ir.inline(fn, *atoms, source=source)
        self.added_equations += made
        if isinstance(atom, Var):
            self.lines[atom] = source
            self.deps[atom] = EMPTY  # only factors and finished terms are made here, and nobody asks these again
        return atom

    def sum(self, atoms: Sequence[Atom]) -> Atom:
        return atoms[0] if len(atoms) == 1 else self.compute(lambda *values: sum(values[1:], values[0]), *atoms)

    def materialise(self, term: Term, keep: Sequence[int]) -> tuple[Atom, dict[int, int]]:
        """A term times its factors, summed over the dimensions that tell nothing; and where the others went."""
        ndim, share = len(term.atom.shape), term.share
        useful = set(keep) | _aligned_dims(self.dep(term.atom), self.nodes)
        summed = tuple(d for d in range(ndim) if d not in useful)
        dims = {d: i for i, d in enumerate(d for d in range(ndim) if d in useful)}
        dtype = wider(share.dtype, term.atom.dtype)
        if not summed and not share.factors and share.weight == 1 and dtype == term.atom.dtype:
            return term.atom, dims

        def value(x: jax.Array, *factors: jax.Array) -> jax.Array:
            x = x.astype(dtype)
            if share.weight != 1:
                x = x * jnp.asarray(share.weight, dtype)
            for factor, y in zip(share.factors, factors, strict=True):
                x = factor.times(x, y)
            return jnp.sum(x, axis=summed)

        return self.compute(value, term.atom, *(f.atom for f in share.factors)), dims


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
