"""How the elements of a value depend on the elements of a node: the abstract domain of the analysis.

For one axis of a node and one dimension of a value, a *band* `[low, high]` says: element `i` of the value depends on
`w[j]` only for `i + low <= j <= i + high`. The familiar cases are

    [0, 0]        "="    plates, vmap, element-wise code
    [-inf, 0]     "<="   a value at time i has seen the draws up to its own time (reward-to-go)
    [-inf, -1]    "<"    ... strictly before it
    [0, inf], [1, inf]   the same for a loop that runs backwards
    [-1, 0]              code that reads x[1:] and x[:-1]; a causal convolution of width two

Bands close under everything a program does along an axis: a slice or a pad shifts them, a cumulative sum opens one
end, a convolution widens them, joining two takes their hull. The dimension may be a factor of a merged one
(`reshape(K*B, D)` keeps both `K` and `B`) or the axis of an enclosing loop. An axis without such a relation is *mixed*
(`None`): always sound, because crediting a node with a cost that it does not influence adds variance, never bias.

A `Dep` is what is known of one value: for each node that influences it, one relation per axis of the node. Nodes are
bits of an integer and are grouped by their relations, so that a value influenced by two hundred nodes in the same way
costs the same as one influenced by a single node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["EMPTY", "Align", "Dep", "Rels", "Transfer", "bits", "join", "join_all", "moves", "relation_text"]

INF = float("inf")


class Align(NamedTuple):
    """An axis of a node is aligned with position `a` of dimension `dim` of a value.

    A dimension of size `outer * size * inner` has elements `(o, a, r)`; `a` is the aligned coordinate, so that
    `inner == 1` and `size ==` the dimension's size for an ordinary dimension. `dim = -1 - level` stands for the axis
    of the enclosing loop with that level.
    """

    dim: int
    inner: int
    size: int
    low: float = 0
    high: float = 0

    @property
    def is_loop(self) -> bool:
        """Whether the alignment is with an enclosing loop."""
        return self.dim < 0

    def shifted(self, low: float, high: float) -> Align | None:
        """The band moved and widened by `[low, high]`; `None` when it no longer excludes anything."""
        return self._replace(low=self.low + low, high=self.high + high).checked()

    def checked(self) -> Align | None:
        """Itself, or `None` when the band is the whole line."""
        return None if self.low == -INF and self.high == INF else self

    def admits(self, offset: int) -> bool:
        """Whether element `i` may depend on `w[i + offset]`."""
        return self.low <= offset <= self.high


def loop(level: int, length: int) -> Align:
    """Alignment with the axis of the enclosing loop `level`."""
    return Align(-1 - level, 1, length)


Rels = tuple[Align | None, ...]
Transfer = Callable[[Align], Align | None]


@dataclass(frozen=True)
class Dep:
    """What one value depends on.

    Attributes:
        groups: `(relations, nodes)` pairs; the sets of nodes (bit masks) are disjoint.
        direct: nodes reached through deterministic operations only (v ≺ᴰ w).
        smooth: nodes reached through differentiable operations only, along some path.
        cut: nodes that reach the value through an operation with jumps (comparison, floor, argmax, a branch).
    """

    groups: tuple[tuple[Rels, int], ...] = ()
    direct: int = 0
    smooth: int = 0
    cut: int = 0

    @property
    def nodes(self) -> int:
        """All nodes that influence the value, as a bit mask."""
        mask = 0
        for _, members in self.groups:
            mask |= members
        return mask

    def rels(self, node: int) -> Rels | None:
        """Relations to the axes of a node; `None` if the node does not influence the value."""
        bit = 1 << node
        for rels, members in self.groups:
            if members & bit:
                return rels
        return None

    def map(self, transfer: Transfer, on_loss: Callable[[int, int], None] | None = None) -> Dep:
        """The dependence after an operation that moves alignments with dimensions by `transfer`.

        `on_loss(axis, nodes)` hears of every alignment that ends here.
        """
        return self.map_all(lambda a: a if a.is_loop else transfer(a), on_loss)

    def map_all(self, transfer: Transfer, on_loss: Callable[[int, int], None] | None = None) -> Dep:
        """Like `map`, for alignments with enclosing loops too."""
        changed = False
        groups: dict[Rels, int] = {}
        for rels, members in self.groups:
            new = tuple(None if a is None else transfer(a) for a in rels)
            changed |= new != rels
            groups[new] = groups.get(new, 0) | members
            if on_loss is not None and new != rels:
                for axis, (before, after) in enumerate(zip(rels, new, strict=True)):
                    if before is not None and after is None:
                        on_loss(axis, members)
        return Dep(tuple(groups.items()), self.direct, self.smooth, self.cut) if changed else self

    def restrict(self, nodes: int) -> Dep:
        """The dependence on some of the nodes."""
        groups = tuple((rels, members & nodes) for rels, members in self.groups if members & nodes)
        return Dep(groups, self.direct & nodes, self.smooth & nodes, self.cut & nodes)

    def mixed(self) -> Dep:
        """The dependence with every dimension mixed; alignments with loops stay."""
        return self.map(lambda a: None)

    def piecewise_constant(self) -> Dep:
        """After an operation without a derivative that jumps."""
        if not self.groups:
            return self
        return Dep(self.groups, self.direct, 0, self.cut | self.smooth)

    def constant(self) -> Dep:
        """After `stop_gradient`: the same value, no derivative."""
        return Dep(self.groups, self.direct, 0, self.cut)

    def guard(self) -> Dep:
        """Where a value only guards against NaN and infinity: no derivative, and no jump that counts."""
        return Dep(self.groups, self.direct)

    def through_sample(self) -> Dep:
        """What remains of dependences on ancestors in a value that was drawn: none of them is direct."""
        return Dep(self.groups, 0, 0, 0)


EMPTY = Dep()


def _hull(a: Align | None, b: Align | None) -> Align | None:
    if a is None or b is None or a[:3] != b[:3]:
        return None
    if a == b:
        return a
    return a._replace(low=min(a.low, b.low), high=max(a.high, b.high)).checked()


def join(a: Dep, b: Dep) -> Dep:
    """What holds of a value computed from both: the union of the nodes, the hull of their bands."""
    if a is b or not b.groups:
        return a
    if not a.groups:
        return b
    groups: dict[Rels, int] = {}
    both = a.nodes & b.nodes
    for dep in (a, b):
        for rels, members in dep.groups:
            if alone := members & ~both:
                groups[rels] = groups.get(rels, 0) | alone
    for rels_a, members_a in a.groups:
        for rels_b, members_b in b.groups:
            if shared := members_a & members_b:
                rels = tuple(_hull(x, y) for x, y in zip(rels_a, rels_b, strict=True))
                groups[rels] = groups.get(rels, 0) | shared
    return Dep(
        tuple(sorted(groups.items(), key=lambda item: item[1])), a.direct | b.direct, a.smooth | b.smooth, a.cut | b.cut
    )


def join_all(deps: Iterable[Dep]) -> Dep:
    """The join of several dependences."""
    result = EMPTY
    for dep in deps:
        result = join(result, dep)
    return result


def widen(old: Dep, new: Dep) -> Dep:
    """The join of `old` and `new`, with every band end that moved sent to infinity, so that iteration ends."""
    joined = join(old, new)
    if joined == old:
        return old
    groups: dict[Rels, int] = {}
    for rels, members in joined.groups:
        for node in bits(members):
            before = old.rels(node)
            after = rels if before is None else tuple(_widen_axis(x, y) for x, y in zip(before, rels, strict=True))
            groups[after] = groups.get(after, 0) | (1 << node)
    return Dep(tuple(sorted(groups.items(), key=lambda item: item[1])), joined.direct, joined.smooth, joined.cut)


def _widen_axis(old: Align | None, new: Align | None) -> Align | None:
    if old is None or new is None:
        return None
    low = new.low if new.low == old.low else -INF
    high = new.high if new.high == old.high else INF
    return new._replace(low=low, high=high).checked()


def bits(mask: int) -> Iterator[int]:
    """The nodes of a bit mask."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def moves(table: Mapping[int, int | tuple[int, float, float]]) -> Transfer:
    """A transfer that sends dimension `d` to `table[d]`, optionally with a band to add; others become mixed.

    A factor of a merged dimension moves along when its dimension does so unchanged.
    """

    def transfer(a: Align) -> Align | None:
        target = table.get(a.dim)
        if target is None:
            return None
        if isinstance(target, int):
            return a._replace(dim=target)
        dim, low, high = target
        if (low, high) == (0, 0):
            return a._replace(dim=dim)
        return a._replace(dim=dim).shifted(low, high)

    return transfer


def relation_text(low: float, high: float) -> str:
    """A band in words: `=`, `<=`, `<`, `>=`, `>` between the node's index and the value's, or the band itself."""
    known = {(0, 0): "=", (-INF, 0): "<=", (-INF, -1): "<", (0, INF): ">=", (1, INF): ">"}
    if (low, high) in known:
        return known[low, high]
    return f"[{_end(low)}, {_end(high)}]"


def _end(x: float) -> str:
    return f"{x:+g}" if x else "0"
