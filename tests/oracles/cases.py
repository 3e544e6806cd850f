"""Where an estimator must be unbiased: the programs of the proof, one for each construct, with exact gradients.

`assert_estimator` runs one estimator, on all nodes that it can serve, through `elbax.value_and_grad` and compares the
mean of many estimates with the exact gradient (`tests.oracles.enumeration`), element by element, with both error rates
stated (`tests.oracles.statistics`). Programs differ in what their nodes are, so a case says which distributions it has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax

import elbax
from tests.oracles import programs
from tests.oracles.enumeration import exact_gradient
from tests.oracles.programs import THETA
from tests.oracles.statistics import assert_mean, mean_test, repeat

NUM_DRAWS = 200_000
RESOLUTION = 0.1


@dataclass(frozen=True)
class Case:
    """A program of `theta` and the sites that an estimator under test is given to; the others go by rule."""

    name: str
    program: Callable
    sites: tuple[str, ...]
    loop: bool = False


def one_hot(logits):
    return elbax.OneHotCategorical(logits=logits)


def one_hot_chain(theta):
    """A chain of two one-hot draws."""
    a = 1.0 * elbax.sample("a", one_hot(theta))
    b = 1.0 * elbax.sample("b", one_hot(a @ jnp.stack([theta, -theta, theta**2])))
    return {"first": jnp.sin(a @ theta), "second": (a @ jnp.arange(9.0).reshape(3, 3) @ b - theta[1]) ** 2 / 10}


def ten_lanes(theta):
    return programs.vmapped(theta, lanes=10)


def normal_bernoulli_normal(theta):
    """Continuous, discrete, continuous: each node's parameters depend on the one before."""
    x = elbax.sample("x", dist.Normal(theta[0], 0.8))
    b = elbax.sample("b", dist.Bernoulli(logits=0.5 * x + theta[1]))
    z = elbax.sample("z", dist.Normal(theta[2] * b + 0.2 * x, 0.6))
    return {"first": (b - 0.3) ** 2 * theta[2] + b * x, "second": z**2 * theta[0] + b * z}


def binary_branches(theta):
    """Draws in both branches of a `cond`."""
    a = elbax.sample("a", dist.Bernoulli(logits=theta[0]))

    def left(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[1] * jnp.ones(2)))
        return ((b - 0.3) ** 2 * theta[2]).sum() + b.sum() * theta[0]

    def right(theta):
        return theta[1] * (elbax.sample("c", dist.Bernoulli(logits=theta[2])) - 0.2) ** 2

    return lax.cond(a == 1, left, right, theta) ** 2 + 0.3 * a


def categorical_branches(theta):
    a = elbax.sample("a", dist.Categorical(logits=theta))
    left = lambda: theta[elbax.sample("b", dist.Categorical(logits=theta * 2))] ** 2  # noqa: E731
    right = lambda: theta[elbax.sample("c", dist.Categorical(logits=-theta))]  # noqa: E731
    return lax.cond(a == 1, left, right) + theta[a] ** 2


def over_data(run, key, theta):
    """The estimate under `vmap` over data, jitted: each datum has a key."""
    xs = jnp.array([0.5, -1.0, 2.0])
    keys = jax.random.split(key, 3)
    return jax.jit(jax.vmap(lambda k, x: run(k, theta * x)[1] * x))(keys, xs).sum(0)


def inside_grad(run, key, theta):
    """`jax.grad` of a function that contains the whole estimate."""
    return jax.grad(lambda t: run(key, jnp.sin(t) + t)[0] * 2.0)(theta)


BINARY = [
    Case("one", programs.single, ("b",)),
    Case("ten under vmap", ten_lanes, ("b",)),
    Case("plate", programs.plate, ("b",)),
    Case("two layers", programs.two_layers, ("h", "v")),
    Case("normal, Bernoulli, normal", normal_bernoulli_normal, ("b",)),
    Case("cond", binary_branches, ("a", "b", "c")),
    Case("scan", programs.chain, ("s",), loop=True),
    Case("windows", programs.windowed, ("b",)),
]
CATEGORICAL = [
    Case("chain", programs.categorical_chain, ("a", "b")),
    Case("mixture", programs.observed_mixture, ("k",)),
    Case("cond", categorical_branches, ("a", "b", "c")),
]
ONE_HOT = [Case("one-hot chain", one_hot_chain, ("a", "b"))]


def ids(case):
    return case.name


def samples_of(case, estimator, num=NUM_DRAWS, wrap=None, seed=0):
    """Gradient estimates `[num, 3]` of a case, and the exact gradient."""
    theta = jnp.asarray(THETA)
    estimators: Any = dict.fromkeys(case.sites, estimator)
    run = elbax.value_and_grad(case.program, estimators)
    if wrap is inside_grad:
        loss = elbax.surrogate(case.program, estimators)
        one = lambda k: inside_grad(lambda key, t: (loss(key, t), None), k, theta)  # noqa: E731
        (exact,) = exact_gradient(case.program, jnp.sin(theta) + theta)[1]
        exact = exact * (jnp.cos(theta) + 1) * 2.0
    elif wrap is over_data:
        one = lambda k: over_data(run, k, theta)  # noqa: E731
        exact = sum(exact_gradient(case.program, theta * x)[1][0] * x for x in (0.5, -1.0, 2.0))
    else:
        one = lambda k: run(k, theta)[1]  # noqa: E731
        (exact,) = exact_gradient(case.program, theta)[1]
    return repeat(one, num, jax.random.key(seed), batch=20_000), np.asarray(exact)


def assert_estimator(case, estimator, *, num=NUM_DRAWS, wrap=None, resolution=RESOLUTION):
    """The mean of the estimates is the gradient. Returns their variance, summed over elements."""
    samples, exact = samples_of(case, estimator, num, wrap)
    assert_mean(samples, exact, resolution=resolution)
    return float(samples.var(0).sum())


def bias_of(case, estimator, *, num=NUM_DRAWS):
    """The bias of an estimator that declares one, and the half width of its interval (99.9999 % for all elements)."""
    samples, exact = samples_of(case, estimator, num)
    outcome = mean_test(samples, exact)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    return outcome.mean - exact, outcome.limit * error
