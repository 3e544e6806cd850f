"""The curves along which arrows run, once all items have their places.

Between two rows there is a band with nothing in it but curves; within a row, an arrow runs straight through its own
stop, or turns into the side of its own shape. That is why no arrow passes behind a shape or a label. Where one curve
over several rows keeps to its place in each of them, it replaces the bends at its stops.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from elbax.graph.drawing.diagram import Edge
from elbax.graph.drawing.layers import Layers, Port, Step

__all__ = ["Box", "Curve", "Pen", "Point"]

TIP = 9.0  # an arrow is straight for so long before its head, pixels
CLEAR = 4.0  # the least distance of a curve from what stands beside it, pixels
SAMPLES = 48  # points of a curve that are looked at

Point = tuple[float, float]


class Box(NamedTuple):
    """A rectangle by its centre, width and height."""

    x: float
    y: float
    width: float
    height: float


class Curve(NamedTuple):
    """A cubic Bézier curve."""

    start: Point
    first: Point
    second: Point
    end: Point

    @property
    def reverse(self) -> Curve:
        """The same curve, run through from its end."""
        return Curve(self.end, self.second, self.first, self.start)

    def at(self, t: float) -> Point:
        """A point of the curve, for `t` from 0 to 1."""
        s = 1 - t
        weights = (s**3, 3 * s * s * t, 3 * s * t * t, t**3)
        x, y = (sum(w * p[k] for w, p in zip(weights, self, strict=True)) for k in (0, 1))
        return x, y

    @property
    def empty(self) -> bool:
        """Whether it is a point, but for rounding."""
        return abs(self.start[0] - self.end[0]) + abs(self.start[1] - self.end[1]) < 0.2


def straight(start: Point, end: Point) -> Curve:
    """A straight line as a curve."""
    third, rest = ((end[k] - start[k]) / 3 for k in (0, 1))
    first = (start[0] + third, start[1] + rest)
    return Curve(start, first, (end[0] - third, end[1] - rest), end)


def upright(start: Point, end: Point) -> Curve:
    """An S from a higher point to a lower one, upright at both ends."""
    middle = (start[1] + end[1]) / 2
    return Curve(start, (start[0], middle), (end[0], middle), end)


@dataclass(frozen=True)
class Pen:
    """Draws arrows.

    Attributes:
        plan: how arrows run through rows.
        rows: the items of each row in their order.
        xs: the centre of each item.
        bands: upper and lower end of each row.
        boxes: of the shapes.
    """

    plan: Layers
    rows: Sequence[Sequence[int]]
    xs: Sequence[float]
    bands: Sequence[Point]
    boxes: Sequence[Box]

    def arrow(self, edge: Edge) -> tuple[Curve, ...]:
        """The curves of an arrow, from tail to head."""
        path = self.plan.paths[edge]
        start, end = path[0].upper, path[-1].lower
        curves = [self._touch(start, self._band(start)[1], 1.0)]
        first = 0
        while first < len(path):
            last = self._reach(path, first)
            lower = path[last].lower
            curves.append(self._fall(path[first].upper, lower))
            if lower != end:
                x, (top, bottom) = self._x(lower), self._band(lower)
                curves.append(straight((x, top), (x, bottom)))
            first = last + 1
        curves.append(self._touch(end, self._top(end), -1.0).reverse)
        if edge.tail != edge.upper:
            curves = [curve.reverse for curve in reversed(curves)]
        return tuple(curve for curve in curves if not curve.empty)

    def _x(self, port: Port) -> float:
        return self.xs[port.item] + port.offset

    def _band(self, port: Port) -> Point:
        return self.bands[self.plan.items[port.item].row]

    def _top(self, port: Port) -> float:
        """Where a curve from above ends: somewhat higher if the head of an arrow follows."""
        tip = self.plan.items[port.item].kind == "shape" and not port.offset
        return self._band(port)[0] - TIP * tip

    def _fall(self, upper: Port, lower: Port) -> Curve:
        """From the lower end of one row to the upper end of another."""
        return upright((self._x(upper), self._band(upper)[1]), (self._x(lower), self._top(lower)))

    def _touch(self, port: Port, end: float, down: float) -> Curve:
        """From the lower (or upper) end of a shape, or from its side, to a height outside its row."""
        x, box = self._x(port), self.boxes[port.item]
        if not port.offset:
            return straight((x, box.y + down * box.height / 2), (x, end))
        side = box.x + (box.width if port.offset > 0 else -box.width) / 2
        return Curve((side, box.y), (x + 0.2 * (side - x), box.y), (x, box.y + 0.3 * (end - box.y)), (x, end))

    def _reach(self, path: Sequence[Step], first: int) -> int:
        """The last step that one curve from the first can do, without those between."""
        last = first
        while last < len(path) - 1 and path[last].lower.item in self._plain:
            last += 1
        while last > first and not self._keeps(path, first, last):
            last -= 1
        return last

    def _keeps(self, path: Sequence[Step], first: int, last: int) -> bool:
        """Whether one curve stays between the neighbours of all the stops that it passes."""
        curve = self._fall(path[first].upper, path[last].lower)
        points = [curve.at(k / SAMPLES) for k in range(SAMPLES + 1)]
        for step in path[first:last]:
            low, high = self._between_neighbours[step.lower.item]
            top, bottom = self._band(step.lower)
            if not all(low <= x <= high for x, y in points if top - CLEAR <= y <= bottom + CLEAR):
                return False
        return True

    @cached_property
    def _plain(self) -> frozenset[int]:
        """Stops with one way in and one way out."""
        ways = Counter(i for step in self.plan.steps() for i in (step.upper.item, step.lower.item))
        return frozenset(i for i, item in enumerate(self.plan.items) if item.kind == "stop" and ways[i] == 2)

    @cached_property
    def _between_neighbours(self) -> dict[int, Point]:
        """For each plain stop, from where to where its row has nothing but other plain stops."""
        free = {}
        for row in self.rows:
            low, run = -math.inf, []
            for i in row:
                if i in self._plain:
                    run.append(i)
                    continue
                free.update(dict.fromkeys(run, (low, self.xs[i] - self.plan.items[i].left - CLEAR)))
                low, run = self.xs[i] + self.plan.items[i].right + CLEAR, []
            free.update(dict.fromkeys(run, (low, math.inf)))
        return free
