"""The domain: bands close under what programs do to them, joins only lose, iteration ends."""

import itertools

import numpy as np
import pytest

from elbax.graph.relations import (
    EMPTY,
    INF,
    Align,
    Dep,
    bits,
    join,
    join_all,
    moves,
    relation_text,
    widen,
)

ALIGNED = Align(0, 1, 4)


def dep(rels, node=0, **flags):
    return Dep(((rels, 1 << node),), **flags)


def says_no(rels, j, i):
    """Whether relations rule out that cost element i depends on node element j."""
    return any(a is not None and not a.admits(at - i[a.dim]) for at, a in zip(j, rels, strict=True))


@pytest.mark.parametrize(
    ("band", "text"),
    [
        ((0, 0), "="),
        ((-INF, 0), "<="),
        ((-INF, -1), "<"),
        ((0, INF), ">="),
        ((1, INF), ">"),
        ((-1, 0), "[-1, 0]"),
        ((2, INF), "[+2, +inf]"),
    ],
)
def test_bands_in_words(band, text):
    assert relation_text(*band) == text


def test_shifting_moves_both_ends_and_a_whole_line_says_nothing():
    assert ALIGNED.shifted(-1, 2) == Align(0, 1, 4, -1, 2)
    earlier = ALIGNED.shifted(-INF, 0)
    assert earlier is not None
    assert earlier.shifted(1, 1) == Align(0, 1, 4, -INF, 1)
    assert earlier.shifted(0, INF) is None


def test_a_join_holds_the_hull():
    a, b = dep((Align(0, 1, 4, -2, -1),)), dep((Align(0, 1, 4, 0, 1),))
    assert join(a, b).rels(0) == (Align(0, 1, 4, -2, 1),)
    assert join(dep((Align(0, 1, 4, -INF, 0),)), dep((Align(0, 1, 4, 0, INF),))).rels(0) == (None,)
    assert join(dep((ALIGNED,)), dep((None,))).rels(0) == (None,)


@pytest.mark.parametrize("other", [Align(1, 1, 4), Align(0, 2, 4), Align(0, 1, 2), Align(-1, 1, 4)])
def test_alignments_with_different_places_have_no_hull(other):
    assert join(dep((ALIGNED,)), dep((other,))).rels(0) == (None,)


def test_a_join_unites_nodes_and_flags():
    a = Dep((((None,), 0b001), ((ALIGNED,), 0b010)), direct=0b001, smooth=0b010, cut=0)
    b = Dep((((ALIGNED,), 0b110),), direct=0b100, smooth=0, cut=0b100)
    both = join(a, b)
    assert both.nodes == 0b111
    assert (both.direct, both.smooth, both.cut) == (0b101, 0b010, 0b100)
    assert [both.rels(n) for n in range(4)] == [(None,), (ALIGNED,), (ALIGNED,), None]
    assert join(a, EMPTY) == a
    assert join(EMPTY, b) == b
    assert join_all([]) == EMPTY


def random_dep(rng):
    groups = {}
    for node in range(4):
        if rng.random() < 0.7:
            low, high = sorted(rng.choice([-INF, -2, -1, 0, 1, 2, INF], size=2))
            a = Align(int(rng.integers(2)), 1, 4, low, high).checked()
            rels = (a,) if rng.random() < 0.8 else (None,)
            groups[rels] = groups.get(rels, 0) | 1 << node
    return Dep(tuple(groups.items()), *(int(x) for x in rng.integers(0, 16, size=3)))


@pytest.mark.parametrize("seed", range(30))
def test_a_join_never_rules_out_what_a_part_allows(seed):
    rng = np.random.default_rng(seed)
    a, b = random_dep(rng), random_dep(rng)
    both = join(a, b)
    assert both.nodes == a.nodes | b.nodes
    for node in bits(both.nodes):
        for part in (a, b):
            rels = part.rels(node)
            if rels is None:
                continue
            for j, i in itertools.product(range(4), itertools.product(range(4), range(4))):
                assert says_no(rels, (j,), i) or not says_no(both.rels(node), (j,), i)


@pytest.mark.parametrize("seed", range(30))
def test_a_join_does_not_depend_on_the_order(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (random_dep(rng) for _ in range(3))
    one, other = join(join(a, b), c), join(c, join(b, a))
    assert {n: one.rels(n) for n in range(4)} == {n: other.rels(n) for n in range(4)}
    assert (one.direct, one.smooth, one.cut) == (other.direct, other.smooth, other.cut)


@pytest.mark.parametrize("seed", range(30))
def test_widening_covers_the_join_and_ends(seed):
    rng = np.random.default_rng(seed)
    old, steps = random_dep(rng), 0
    while True:
        new = random_dep(rng)
        wide = widen(old, new)
        for node in bits(join(old, new).nodes):
            joined, widened = join(old, new).rels(node), wide.rels(node)
            assert joined is not None
            assert widened is not None
            for a, b in zip(joined, widened, strict=True):
                assert b is None or (a is not None and b.low <= a.low and b.high >= a.high)
        changed, old, steps = wide != old, wide, steps + 1
        if not changed or steps > 200:
            break
    settled = old
    for _ in range(100):
        old = widen(old, random_dep(rng))
    moved = [(settled.rels(n), old.rels(n)) for n in range(4)]
    ends = {end for pair in moved for rels in pair if rels for a in rels if a for end in (a.low, a.high)}
    assert ends <= {-INF, INF, -2, -1, 0, 1, 2}


def test_a_carry_settles_at_all_earlier_steps():
    carry, steps = EMPTY, 0
    own = dep((Align(-1, 1, 9),))
    while True:
        later = join(carry, own).map_all(lambda a: a.shifted(-1, -1))
        new = widen(carry, later)
        steps += 1
        if new == carry:
            break
        carry = new
    assert carry.rels(0) == (Align(-1, 1, 9, -INF, -1),)
    assert steps <= 4


def test_maps_leave_loops_alone_and_report_losses():
    lost = []
    value = Dep((((Align(0, 1, 4), Align(-1, 1, 3)), 0b1),))
    mixed = value.map(lambda a: None, lambda axis, nodes: lost.append((axis, nodes)))
    assert mixed.rels(0) == (None, Align(-1, 1, 3))
    assert lost == [(0, 0b1)]
    assert value.map(lambda a: a) is value


def test_moves_renames_dimensions_and_adds_bands():
    transfer = moves({0: 2, 1: (0, -1, 0)})
    assert transfer(Align(0, 2, 3)) == Align(2, 2, 3)
    assert transfer(Align(1, 1, 4)) == Align(0, 1, 4, -1, 0)
    assert transfer(Align(2, 1, 4)) is None


def test_what_operations_do_to_derivatives():
    value = Dep((((None,), 0b11),), direct=0b11, smooth=0b01, cut=0b10)
    assert (value.piecewise_constant().smooth, value.piecewise_constant().cut) == (0, 0b11)
    assert (value.constant().smooth, value.constant().cut) == (0, 0b10)
    assert (value.guard().smooth, value.guard().cut) == (0, 0)
    assert (value.through_sample().direct, value.through_sample().nodes) == (0, 0b11)
    assert value.restrict(0b10) == Dep((((None,), 0b10),), direct=0b10, smooth=0, cut=0b10)


def test_bits():
    assert list(bits(0b10110)) == [1, 2, 4]
