"""Credit against its definition, element by element; spread is its transpose."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elbax.graph.influence import credit, credit_shape, spread, usable
from elbax.graph.relations import INF, Align

ENDS = [-INF, -4, -1, 0, 1, 3, INF]
BANDS = [
    (low, high)
    for low, high in itertools.product(ENDS, ENDS)
    if low <= high and low < INF and high > -INF and (low, high) != (-INF, INF)
]


def coordinate(index, a):
    """Of a cost element: where it stands along the factor that an alignment names."""
    return (index[a.dim] // a.inner) % a.size


def credit_by_definition(c, rels, shape):
    rels = usable(rels)
    q = np.zeros(credit_shape(rels, shape))
    for j in np.ndindex(*q.shape):
        for i in np.ndindex(*c.shape):
            seen = (a is None or a.low <= at - coordinate(i, a) <= a.high for at, a in zip(j, rels, strict=True))
            q[j] += c[i] if all(seen) else 0.0
    return q


def check(rels, shape, cost_shape, seed=0):
    rng = np.random.default_rng(seed)
    c = rng.normal(size=cost_shape)
    q = credit(jnp.asarray(c), rels, shape)
    assert q.shape == credit_shape(rels, shape)
    np.testing.assert_allclose(q, credit_by_definition(c, rels, shape), atol=1e-12)
    w = rng.normal(size=shape)
    s = spread(jnp.asarray(w), rels, cost_shape)
    assert s.shape == cost_shape
    np.testing.assert_allclose(np.sum(np.asarray(s) * c), np.sum(np.broadcast_to(q, shape) * w), atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize(("node", "cost"), [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1), (1, 1), (0, 3), (3, 0), (0, 0)])
def test_credit_along_one_axis(band, node, cost):
    check((Align(0, 1, cost, *band),), (node,), (cost,))


@pytest.mark.usefixtures("x64")
def test_a_wide_band_is_one_operation():
    rels = (Align(0, 1, 2000, -700, 650),)
    jaxpr = jax.make_jaxpr(lambda c: credit(c, rels, (1900,)))(jnp.ones(2000))
    assert len(jaxpr.eqns) < 5
    c = np.random.default_rng(0).normal(size=2000)
    expected = [c[max(0, j - 650) : j + 701].sum() for j in range(1900)]
    np.testing.assert_allclose(credit(jnp.asarray(c), rels, (1900,)), expected, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("rels", "node", "cost"),
    [
        ((), (), (2, 3)),
        ((None, None), (2, 3), (4,)),
        ((Align(1, 1, 3), Align(0, 1, 2)), (3, 2), (2, 3)),  # transposed
        ((None, Align(0, 1, 2)), (4, 2), (2, 3)),
        ((Align(0, 3, 2), Align(0, 1, 3)), (2, 3), (6,)),  # both factors of a merged dimension
        ((Align(0, 1, 3), Align(0, 3, 2)), (3, 2), (6,)),  # in the other order
        ((Align(0, 2, 3),), (3,), (12,)),  # a factor in the middle: 2 * 3 * 2
        ((Align(0, 2, 3, -INF, 0), Align(1, 1, 4, 0, 1)), (3, 4), (12, 4)),
        ((Align(0, 1, 3), Align(0, 1, 3)), (3, 3), (3,)),  # a diagonal: the second axis is mixed
        ((Align(0, 6, 2), Align(0, 1, 4)), (2, 4), (12,)),  # factors that are not nested
        ((Align(0, 1, 4, -1, 2), None, Align(2, 1, 3, 1, INF)), (5, 2, 3), (4, 2, 3)),
    ],
)
def test_credit_of_several_axes(rels, node, cost):
    check(rels, node, cost)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(40))
def test_credit_of_random_relations(seed):
    rng = np.random.default_rng(seed)
    cost = tuple(int(n) for n in rng.integers(1, 4, size=rng.integers(1, 4)))
    rels, node = [], []
    for dim in rng.permutation(len(cost)):
        if rng.random() < 0.7:
            band = BANDS[rng.integers(len(BANDS))]
            rels.append(Align(int(dim), 1, cost[dim], *band))
            node.append(int(rng.integers(1, 5)))
        if rng.random() < 0.4:
            rels.append(None)
            node.append(int(rng.integers(1, 4)))
    check(tuple(rels), tuple(node), cost, seed)
