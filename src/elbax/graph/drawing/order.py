"""The order of the items of each row, so that few steps of arrows cross.

Rows are sorted by the mean place of their items' neighbours, downwards and upwards in turn; then neighbours change
places where that saves crossings. The best order that was met is kept.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence

from elbax.graph.drawing.layers import Layers, Step

__all__ = ["crossings", "ordered"]

SWEEPS = 10
Row = tuple[int, ...]


def ordered(plan: Layers) -> tuple[Row, ...]:
    """The rows in an order with few crossings."""
    steps = _by_upper_row(plan)
    mirrored = tuple(row[::-1] for row in plan.rows)
    found = [_improved(start, plan, steps) for start in (plan.rows, mirrored)]
    return min(found, key=lambda rows: _total(rows, steps))


def _improved(rows: tuple[Row, ...], plan: Layers, steps: Sequence[Sequence[Step]]) -> tuple[Row, ...]:
    """The best order that is met from one start."""
    near: tuple[dict[int, list[int]], dict[int, list[int]]] = (defaultdict(list), defaultdict(list))
    for step in plan.steps():
        near[0][step.lower.item].append(step.upper.item)
        near[1][step.upper.item].append(step.lower.item)
    best, fewest = rows, _total(rows, steps)
    for sweep in range(SWEEPS):
        rows = _switched(_swept(rows, near[sweep % 2], up=sweep % 2 == 1), steps)
        found = _total(rows, steps)
        if found < fewest:
            best, fewest = rows, found
    return best


def _by_upper_row(plan: Layers) -> list[list[Step]]:
    steps: list[list[Step]] = [[] for _ in plan.rows]
    for step in plan.steps():
        steps[plan.items[step.upper.item].row].append(step)
    return steps


def _swept(rows: Sequence[Row], near: Mapping[int, list[int]], *, up: bool) -> tuple[Row, ...]:
    """Each row sorted by the mean place of its items' neighbours in the row before."""
    places = {i: (k + 0.5) / len(row) for row in rows for k, i in enumerate(row)}
    result = list(rows)
    for r in reversed(range(len(rows))) if up else range(len(rows)):
        mean = {i: sum(places[j] for j in near[i]) / len(near[i]) if near.get(i) else places[i] for i in rows[r]}
        result[r] = tuple(sorted(rows[r], key=mean.__getitem__))
        places.update({i: (k + 0.5) / len(rows[r]) for k, i in enumerate(result[r])})
    return tuple(result)


def _switched(rows: Sequence[Row], steps: Sequence[Sequence[Step]]) -> tuple[Row, ...]:
    """Neighbours change places as long as that saves crossings."""
    result = [list(row) for row in rows]
    places = {i: k for row in rows for k, i in enumerate(row)}
    ends: dict[int, tuple[list, list]] = defaultdict(lambda: ([], []))  # per item: steps upwards, steps downwards
    for step in (s for row in steps for s in row):
        ends[step.lower.item][0].append((step.lower.offset, step.upper))
        ends[step.upper.item][1].append((step.upper.offset, step.lower))
    for _ in range(4):
        changed = False
        for row in result:
            for k in range(len(row) - 1):
                a, b = row[k], row[k + 1]
                if _pair(ends[a], ends[b], places) > _pair(ends[b], ends[a], places):
                    row[k], row[k + 1] = b, a
                    places[a], places[b] = k + 1, k
                    changed = True
        if not changed:
            break
    return tuple(map(tuple, result))


def _pair(left: tuple[list, list], right: tuple[list, list], places: Mapping[int, int]) -> int:
    """Crossings between the steps of two items of a row, one to the left of the other."""
    return sum(_along(p, places) > _along(q, places) for side in (0, 1) for _, p in left[side] for _, q in right[side])


def _along(port: tuple[int, float], places: Mapping[int, int]) -> float:
    """The place of a port along its row; those beside a shape are between it and its neighbour."""
    item, offset = port
    return places[item] + (0.3 if offset > 0 else -0.3 if offset < 0 else 0.0)


def _total(rows: Sequence[Row], steps: Sequence[Sequence[Step]]) -> int:
    places = {i: k for row in rows for k, i in enumerate(row)}
    return sum(crossings([(_along(s.upper, places), _along(s.lower, places)) for s in row]) for row in steps)


def crossings(lines: Sequence[tuple[float, float]]) -> int:
    """How many pairs of lines cross, each given by its places in two rows."""
    seen: list[float] = []
    count = 0
    for _, low in sorted(lines):
        count += len(seen) - bisect_right(seen, low)
        insort(seen, low)
    return count
