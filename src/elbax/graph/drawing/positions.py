"""Positions of the items along their rows, so that arrows are straight, long ones above all.

Minimises `sum over steps of weight * |x_upper - x_lower|` subject to the items of a row keeping their order and their
distance: a linear program. Where many positions are equally good (a node above two others), it takes the middle of
the leftmost and the rightmost.

Source: Gansner, Koutsofios, North & Vo, A Technique for Drawing Directed Graphs, IEEE Trans. Software Eng. 1993, §4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from elbax.graph.drawing.layers import GAP, Item, Layers, Step

__all__ = ["distance", "positions"]

# How much it matters that a step is straight, by how many of its ends are stops or labels.
WEIGHTS = (100.0, 130.0, 300.0)
OWN = 1000.0  # the same from parameters to their node
TOGETHER, CENTRED, SIDE = 2.0, 1.0, 0.05  # rows are narrow; rows are centred; left and right of what is equally good
AMPLE, TOO_WIDE = 1.25, 3000.0  # how much wider than its widest row must be the picture may be; each pixel beyond


def distance(left: Item, right: Item) -> float:
    """The least distance between the centres of two neighbours."""
    shapes = (left.kind == "shape") + (right.kind == "shape")
    return left.right + right.left + (8.0, 12.0, GAP)[shapes]


def positions(plan: Layers, rows: Sequence[Sequence[int]]) -> list[float]:
    """The centre of each item."""
    sides = [_program(plan, rows, side).solution()[: len(plan.items)] for side in (SIDE, -SIDE)]
    return [round(float(x), 1) for x in np.mean(sides, axis=0)]


class LinearProgram:
    """Minimises a sum of unknowns with coefficients, subject to such sums not exceeding limits."""

    def __init__(self) -> None:
        self.costs: list[float] = []
        self.least: list[float | None] = []
        self.limits: list[float] = []
        self.entries: list[tuple[float, int, int]] = []  # coefficient, rule, unknown

    def unknown(self, cost: float, *, least: float | None = 0.0) -> int:
        """One more unknown, which is at least so large."""
        self.costs.append(cost)
        self.least.append(least)
        return len(self.costs) - 1

    def at_most(self, terms: Mapping[int, float], limit: float) -> None:
        """A sum of unknowns with coefficients does not exceed a limit."""
        self.entries += [(c, len(self.limits), i) for i, c in terms.items()]
        self.limits.append(limit)

    def absolute(self, terms: Mapping[int, float], zero: float, cost: float) -> None:
        """It costs how far a sum is away from a number."""
        length = self.unknown(cost)
        for sign in (1.0, -1.0):
            self.at_most({length: -1.0} | {i: sign * c for i, c in terms.items()}, sign * zero)

    def solution(self) -> np.ndarray:
        """The best unknowns."""
        from scipy.optimize import linprog  # takes a while, and most programs draw nothing
        from scipy.sparse import coo_array

        values, rules, unknowns = zip(*self.entries, strict=True)
        matrix = coo_array((values, (rules, unknowns)), shape=(len(self.limits), len(self.costs))).tocsr()
        return linprog(self.costs, matrix, self.limits, bounds=[(x, None) for x in self.least], method="highs").x


def _program(plan: Layers, rows: Sequence[Sequence[int]], side: float) -> LinearProgram:
    """The linear program of a picture; its first unknowns are the centres of the items."""
    program, items = LinearProgram(), plan.items
    for _ in items:
        program.unknown(side, least=None)
    for step in plan.steps():
        apart = {step.upper.item: 1.0, step.lower.item: -1.0}
        program.absolute(apart, step.lower.offset - step.upper.offset, _weight(plan, step))
    left, right = program.unknown(0.0, least=None), program.unknown(0.0, least=None)
    for row in rows:
        first, last = row[0], row[-1]
        for a, b in pairwise(row):
            program.at_most({a: 1.0, b: -1.0}, -distance(items[a], items[b]))
        program.at_most({left: 1.0, first: -1.0}, -items[first].left)
        program.at_most({last: 1.0, right: -1.0}, -items[last].right)
        if any(items[i].kind == "shape" for i in row):
            program.costs[first] -= TOGETHER
            program.costs[last] += TOGETHER
            program.absolute(Counter({first: 0.5}) + Counter({last: 0.5}), 0.0, CENTRED)
    enough = AMPLE * max(_least_width(items, row) for row in rows)
    program.at_most({right: 1.0, left: -1.0, program.unknown(TOO_WIDE): -1.0}, enough)
    return program


def _least_width(items: Sequence[Item], row: Sequence[int]) -> float:
    inside = sum(distance(items[a], items[b]) for a, b in pairwise(row))
    return items[row[0]].left + inside + items[row[-1]].right


def _weight(plan: Layers, step: Step) -> float:
    if (step.upper.item, step.lower.item) in plan.own and not step.upper.offset:
        return OWN
    return WEIGHTS[sum(plan.items[port.item].kind != "shape" for port in step)]
