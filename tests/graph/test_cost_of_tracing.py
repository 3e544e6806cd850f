"""The work of tracing, counted and not timed: linear in the number of sites, independent of the length of a loop."""

import itertools
from collections import Counter
from contextlib import contextmanager
from unittest import mock

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import Score
from elbax.graph import analysis, evaluate, ir


@contextmanager
def counting():
    """Counts equations that are read, analysed and evaluated."""
    counts: Counter[str] = Counter()

    def counted(original, name):
        def method(self, *args):
            counts[name] += 1
            return original(self, *args)

        return method

    with (
        mock.patch.object(ir._Reader, "equation", counted(ir._Reader.equation, "read")),
        mock.patch.object(analysis._Interpreter, "equation", counted(analysis._Interpreter.equation, "analysed")),
        mock.patch.object(evaluate._Runner, "equation", counted(evaluate._Runner.equation, "evaluated")),
    ):
        yield counts


def work(program, estimators=None):
    """Equations handled to make a gradient, and those of the gradient that is made."""
    with counting() as counts:
        jaxpr = jax.make_jaxpr(elbax.value_and_grad(program, estimators))(jax.random.key(0), 0.3)
    return {**counts, "made": len(jaxpr.eqns)}


def chain(n):
    """Each node depends on the one before, each has a cost."""

    def program(theta):
        z, costs = theta, {}
        for i in range(n):
            z = elbax.sample(f"z{i}", dist.Normal(jnp.sin(z), 1.0))
            costs[f"c{i}"] = z**2
        return costs

    return program


def independent(n):
    """Nodes that have nothing to do with each other, and one cost that is a sum."""

    def program(theta):
        return sum(elbax.sample(f"z{i}", dist.Normal(theta, 1.0)) ** 2 for i in range(n))

    return program


@pytest.mark.parametrize("make", [chain, independent])
@pytest.mark.parametrize("estimators", [None, Score()], ids=["pathwise", "score"])
def test_linear_in_the_number_of_sites(make, estimators):
    """Equal steps in the number of sites make equal steps in work, whatever the estimator."""
    work(make(2), estimators)  # fills caches of distributions
    counts = [work(make(n), estimators) for n in (50, 100, 150, 200)]
    assert {"read", "analysed", "evaluated", "made"} == set(counts[0])
    for what in counts[0]:
        first, *rest = [b[what] - a[what] for a, b in itertools.pairwise(counts)]
        assert first > 0
        assert all(abs(step - first) <= 0.01 * first for step in rest), (what, [c[what] for c in counts])


def test_one_site_is_like_the_two_hundredth():
    for n in (1, 200):
        work(chain(n))
    one, two, many = (work(chain(n)) for n in (1, 2, 200))
    for what in one:
        assert many[what] <= 200 * (two[what] - one[what]) + one[what]


@pytest.mark.parametrize("estimators", [None, Score()], ids=["pathwise", "score"])
@pytest.mark.parametrize("nested", [False, True])
def test_independent_of_the_length_of_a_loop(estimators, nested):
    def make(length):
        def walk(theta):
            def body(z, _):
                z = elbax.sample("z", dist.Normal(jnp.sin(z) * theta, 1.0))
                return z, z**2

            return lax.scan(body, theta, None, length=length)[1].mean()

        def program(theta):
            return lax.scan(lambda c, x: (c, walk(x)), 0.0, theta * jnp.ones(length))[1] if nested else walk(theta)

        return program

    work(make(3), estimators)
    assert work(make(5), estimators) == work(make(50), estimators) == work(make(500), estimators)
