"""Splitting a cost changes neither its value nor its derivative, and finds the terms that a person would."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax.graph.evaluate import evaluate, site_keys
from elbax.graph.graph import build

THETA = np.array([0.7, -0.4, 0.3])


def bits(theta, n=6):
    return 1.0 * elbax.sample("b", dist.Bernoulli(logits=theta[0] * jnp.linspace(-1.0, 1.0, n)))


def total(block, graph, arrays, key):
    """The sum of all costs with the draws of a key."""

    def draw(eq, dist, site_key):
        value = lax.stop_gradient(dist.sample(site_key))
        return value, dist.log_prob(value), None

    keys = site_keys(key, {name: fact.loops for name, fact in graph.facts.samples.items()})
    costs = evaluate(block, arrays, draw, keys)[1].costs
    return sum(jnp.sum(c) for c in costs.values())


def check_split(program, *args):
    """The graph of a program, after checking that splitting left value and derivative alone."""
    args = args or (jnp.asarray(THETA),)
    graph, _ = build(program, args, {})
    for seed in range(3):
        key = jax.random.key(seed)
        before, d_before = jax.value_and_grad(lambda a: total(graph.program, graph, a, key))(list(args))  # noqa: B023
        after, d_after = jax.value_and_grad(lambda a: total(graph.block, graph, a, key))(list(args))  # noqa: B023
        np.testing.assert_allclose(after, before, rtol=1e-12)
        for x, y in zip(d_after, d_before, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)
    return graph


def parts(graph):
    """For each term, its relation to the node called b, in words."""
    from elbax.graph.relations import relation_text

    index = graph.facts.samples["b"].index
    found = []
    for fact in graph.facts.costs.values():
        rels = fact.dep.rels(index)
        found.append(
            None if rels is None else tuple("mixed" if a is None else relation_text(a.low, a.high) for a in rels)
        )
    return sorted(found, key=str)


# One program per line: what is returned, and how its terms relate to the six elements of b.
SUMS = {
    "mean": (lambda b, t: jnp.mean(b * t[1]), [("=",)]),
    "sum and penalty": (lambda b, t: jnp.sum(b * t[1]) + t[2] ** 2, [("=",), None]),
    "difference": (lambda b, t: t[2] - jnp.sum(b * t[1]), [("=",), None]),
    "negative": (lambda b, t: -(b.sum() * t[1]), [("=",)]),
    "scalar added to an array": (lambda b, t: ((b**2).sum() / 6 + b * t[1]).mean(), [("=",)]),
    "array times array, scalar added": (
        lambda b, t: (((b**2).sum() + b) * jnp.arange(6.0) * jnp.linspace(1, 2, 6)).sum(),
        [("=",)],
    ),
    "factor of theta": (lambda b, t: (b.sum() - t[1]) * t[2] / t[0], [("=",), None]),
    "array factors": (lambda b, t: (jnp.outer(b, t).sum(1) * jnp.arange(6.0)).sum(), [("=",)]),
    "nonlinear in the sum": (lambda b, t: b.sum() ** 2 * t[1], [("mixed",)]),
    "product of two sums": (lambda b, t: b.sum() * (b * t[1]).sum(), [("mixed",)]),
    "mean of means": (lambda b, t: jnp.mean(jnp.mean(b.reshape(2, 3) * t, 1)), [("=",)]),
    "reshape and weights": (lambda b, t: (b.reshape(3, 2).sum(1) * t).sum(), [("=",)]),
    "weights, then reshape": (lambda b, t: ((b * t[1]).reshape(2, 3) * t).sum(), [("=",)]),
    "transpose": (lambda b, t: (jnp.outer(b, t).T * t[:, None]).sum(), [("=",)]),
    "new axis": (lambda b, t: (b[:, None] * t[1]).sum(0)[0] * t[2], [("=",)]),
    "dot": (lambda b, t: jnp.dot(b * t[1], jnp.arange(6.0)), [("=",)]),
    "dot from the left": (lambda b, t: jnp.arange(6.0) @ (b * t[1]) * t[2], [("=",)]),
    "einsum over two axes": (
        lambda b, t: jnp.einsum("ij,i,j->", jnp.outer(b, t), jnp.arange(6.0), jnp.arange(3.0)),
        [("=",)],
    ),
    "einsum that keeps one": (
        lambda b, t: (jnp.einsum("ij,i->j", jnp.outer(b, t), jnp.arange(6.0)) * t).sum(),
        [("=",)],
    ),
    "stack of scalars": (lambda b, t: jnp.stack([b.sum() * t[1], t[2], b[0] * t[0]]).sum(), [("=",), ("=",), None]),
    "weighted stack": (lambda b, t: (jnp.stack([b.sum(), t[2]]) * jnp.array([1.0, 0.3])).sum(), [("=",), None]),
    "concatenation": (lambda b, t: (jnp.concatenate([b.sum()[None], t]) * jnp.arange(4.0)).sum(), [("=",), None]),
    "added to itself": (lambda b, t: _doubled(b.sum() * t[1], 40), [("=",)]),
    "two ways to one value": (lambda b, t: jnp.sum(b[None] * jnp.ones((6, 6)) + b[:, None]), [("=",)]),
    "a value and its transpose": (lambda b, t: _and_transpose(jnp.outer(b, jnp.arange(6.0)) * t[1]).sum(), [("=",)]),
    "long discounted sum": (lambda b, t: _discounted([(b * i).sum() for i in range(30)], t[1]), [("=",), None]),
    "sum of running sums": (
        lambda b, t: _running([b[i] * t[1] for i in range(3)], t),
        [("=",), ("[+1, +1]",), ("[+2, +2]",), None],
    ),
    "division by a sum": (lambda b, t: t[1] / (1 + b.sum()), [("mixed",)]),
    "half precision on the way": (
        lambda b, t: (b.astype(jnp.float16) * 500).astype(float).mean() * t[1],
        [("=",)],
    ),
    "nothing to do with b": (lambda b, t: t.sum(), [None]),
}


def _doubled(x, times):
    for _ in range(times):
        x = x + x
    return x


def _and_transpose(x):
    return x + x.T * 0.5


def _discounted(rewards, gamma):
    value = 0.0
    for r in rewards:
        value = r + gamma * value
    return value


def _running(rewards, theta):
    value, result = 0.0, 0.0
    for i, r in enumerate(rewards):
        value = value + r
        result = result + value * (theta[2] + i)
    return result


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SUMS)
def test_terms_of_a_sum(name):
    cost, expected = SUMS[name]
    graph = check_split(lambda theta: cost(bits(theta), theta))
    assert parts(graph) == sorted(expected, key=str)


@pytest.mark.usefixtures("x64")
def test_two_costs_share_a_part():
    def program(theta):
        shared = (bits(theta) * theta[1]).sum()
        return {"one": shared + theta[2], "two": 2 * shared - theta[0]}

    graph = check_split(program)
    assert parts(graph) == [("=",), ("=",), None, None]


@pytest.mark.usefixtures("x64")
def test_half_precision_is_not_summed_in_half_precision():
    def program(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * jnp.ones(1000)))
        return (b.astype(jnp.float16) * 500).astype(float).mean()  # the sum is above the largest float16

    value, _ = elbax.value_and_grad(program)(jax.random.key(0), jnp.asarray(THETA))
    assert 100 < value < 500


@pytest.mark.usefixtures("x64")
def test_masked_infinities_stay_what_they_were():
    def program(theta):
        b = bits(theta)
        return jnp.where(b > 2, jnp.log(b - b), 0.0).sum() + (b * theta[1]).sum()

    assert np.isfinite(elbax.value_and_grad(program)(jax.random.key(0), jnp.asarray(THETA))[0])


@pytest.mark.usefixtures("x64")
def test_thousands_of_terms_need_no_recursion():
    def program(theta):
        b, loss = bits(theta), 0.0
        for i in range(2000):
            loss = loss + (b * i).sum()
        return loss * theta[1]

    graph, _ = build(program, (jnp.asarray(THETA),), {})
    assert parts(graph) == [("=",), None]


# ------------------------------------------------------------------------------------------ loops


def scanned(step, carry, length=4, after=lambda last, ys: last, **options):
    """A program with a chain b in a loop; `step(carry, b, t, theta)` gives the next carry and an output."""

    def program(theta):
        def body(c, t):
            previous, rest = c
            b = 1.0 * elbax.sample("b", dist.Bernoulli(logits=theta[0] * previous + theta[1]))
            rest, y = step(rest, b, t, theta)
            return (b, rest), y

        (_, last), ys = lax.scan(body, (1.0, carry), jnp.arange(1.0 * length), length=length, **options)
        return after(last, ys)

    return program


LOOPS = {
    "accumulator": (scanned(lambda c, b, t, th: (c + b * t, None), 0.5), [("<=",), None]),
    "backwards": (scanned(lambda c, b, t, th: (c + b * t, None), 0.5, reverse=True), [(">=",), None]),
    "accumulator from the right": (scanned(lambda c, b, t, th: (b * t + c, None), 0.5), [("<=",), None]),
    "subtracted": (scanned(lambda c, b, t, th: (c - b * t, None), 0.5), [("<=",), None]),
    "several summands": (scanned(lambda c, b, t, th: (th[2] + (c + b * t - th[1]), None), 0.5), [("<=",), None]),
    "not a sum": (scanned(lambda c, b, t, th: (c * th[1] + b * t, None), 0.5), [("mixed",)]),
    "subtracted from": (scanned(lambda c, b, t, th: (b * t - c, None), 0.5), [("mixed",)]),
    "read elsewhere too": (
        scanned(lambda c, b, t, th: (c + b * t, jnp.sin(c)), 0.5, after=lambda c, ys: c + ys.sum()),
        [("<",), ("<=",), None],
    ),
    "adds a function of itself": (scanned(lambda c, b, t, th: (c + jnp.sin(c) * b, None), 0.5), [("<=",), None]),
    "vector": (
        scanned(lambda c, b, t, th: (c + b * th, None), np.zeros(3), after=lambda c, ys: c @ jnp.arange(3.0)),
        [("<=",), None],
    ),
    "stacked": (
        scanned(lambda c, b, t, th: (c, b * t + th[2]), 0.0, after=lambda c, ys: ys.mean()),
        [("<=",), None],
    ),
    "stacked and weighted": (
        scanned(lambda c, b, t, th: (c, (b * th).sum() + th[2]), 0.0, after=lambda c, ys: ys @ jnp.arange(4.0)),
        [("<=",), None],
    ),
    "two sums in one carry": (
        scanned(
            lambda c, b, t, th: ((c[0] + b, c[1] - b * t), None), (0.0, 1.0), after=lambda c, ys: c[0] * 2 + c[1] * 3
        ),
        [("<=",), None],
    ),
    "one step": (scanned(lambda c, b, t, th: (c + b * t, None), 0.5, length=1), [("<=",), None]),
    "no step": (scanned(lambda c, b, t, th: (c + b * t + th[1], None), 0.5, length=0), [("<=",), None]),
    "unrolled": (scanned(lambda c, b, t, th: (c + b * t, None), 0.5, unroll=2), [("<=",), None]),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOOPS)
def test_terms_of_a_loop(name):
    program, expected = LOOPS[name]
    graph = check_split(program)
    assert parts(graph) == sorted(expected, key=str)


@pytest.mark.usefixtures("x64")
def test_nested_accumulators():
    def program(theta):
        def outer(carry, s):
            def inner(loss, t):
                b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * (s - t)))
                return loss + b * theta[1] * s, None

            loss, _ = lax.scan(inner, 0.0, jnp.arange(3.0))
            return carry + loss, None

        return lax.scan(outer, theta[2], jnp.arange(2.0))[0]

    graph = check_split(program)
    assert parts(graph) == [("=", "="), None]


@pytest.mark.usefixtures("x64")
def test_sum_inside_a_rematerialised_call_and_a_jitted_one():
    def program(theta):
        @jax.jit
        def layer(b):
            return jax.checkpoint(lambda b: (b * theta[1]).sum() + theta[2])(b)

        return layer(bits(theta)) * theta[0]

    graph = check_split(program)
    assert parts(graph) == [("=",), None]


@pytest.mark.usefixtures("x64")
def test_cost_stated_in_a_branch_is_split_there():
    def program(theta):
        def yes():
            elbax.cost("yes", bits(theta).sum() * theta[1] + theta[2])
            return 0.0

        return lax.cond(theta[0] > 0, yes, lambda: theta[1])

    graph = check_split(program)
    assert parts(graph) == [("=",), None, None]


@pytest.mark.usefixtures("x64")
def test_cost_that_is_a_constant():
    def program(theta):
        elbax.cost("constant", 3.0)
        elbax.cost("zeros", jnp.zeros(4))
        return bits(theta).sum() + 1.0

    graph = check_split(program)
    assert parts(graph) == [("=",), None, None, None]
