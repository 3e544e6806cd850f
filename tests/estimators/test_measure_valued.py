"""Measure-valued derivatives against closed forms, sums and quadrature, and on the programs of the proof."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax import EstimatorError, MeasureValued, Score
from tests.oracles.cases import (
    BINARY,
    CATEGORICAL,
    ONE_HOT,
    Case,
    assert_estimator,
    ids,
    inside_grad,
    normal_bernoulli_normal,
    over_data,
)
from tests.oracles.programs import THETA, mixed_branches
from tests.oracles.statistics import assert_mean, repeat

pytestmark = pytest.mark.usefixtures("x64")

NORMAL = [
    Case("Normals", normal_bernoulli_normal, ("x", "z")),
    Case("all", normal_bernoulli_normal, ("x", "b", "z")),
    Case("branches", mixed_branches, ("z",)),
]
FINITE = [case for case in [*BINARY, *CATEGORICAL, *ONE_HOT] if not case.loop]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*FINITE, *NORMAL], ids=ids)
def test_unbiased(case):
    assert_estimator(case, MeasureValued())


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
@pytest.mark.parametrize("case", [BINARY[3], NORMAL[1]], ids=ids)
def test_unbiased_within_other_transformations(case, wrap):
    assert_estimator(case, MeasureValued(), wrap=wrap)


@pytest.mark.parametrize("case", [BINARY[3], CATEGORICAL[0], NORMAL[1]], ids=ids)
def test_unbiased_on_chains(case):
    assert_estimator(case, MeasureValued(), num=40_000, resolution=0.2)


# ------------------------------------------------------------------------------------------ one node, exactly

GRID = np.linspace(-1.0, 1.0, 40_001)[1:-1]
WIDE = jnp.asarray(np.sinh(6 * GRID) / 10)  # from -20 to 20, dense around zero
WIDE_STEP = jnp.asarray(6 * np.cosh(6 * GRID) / 10 * (GRID[1] - GRID[0]))
COUNTS = jnp.arange(80.0)


def jump(z):
    return jnp.where(z > 0.6, 2.0, 0.5) + 0.3 * z


def smooth(z):
    return jnp.sin(1.3 * z) + 0.2 * z**2


def expectation(d, f):
    """By summation or quadrature."""
    if d.is_discrete:
        return jnp.sum(jnp.exp(d.log_prob(COUNTS)) * f(COUNTS))
    inside = d.support(WIDE)
    p = jnp.where(inside, jnp.exp(d.log_prob(jnp.where(inside, WIDE, 1.0))), 0.0)
    return jnp.sum(p * f(WIDE) * WIDE_STEP)


ONE_NODE = {
    "Normal, location": lambda t: dist.Normal(t - 0.4, 0.8),
    "Normal, scale": lambda t: dist.Normal(0.3, t),
    "Normal, both": lambda t: dist.Normal(jnp.sin(t), jnp.exp(-t)),
    "Poisson, rate": lambda t: dist.Poisson(2 * t),
    "Poisson, log-rate": lambda t: dist.Poisson(jnp.exp(t)),
    "Gamma, rate": lambda t: dist.Gamma(2.3, t + 1),
    "Gamma, scale": lambda t: dist.Gamma(1.7, 1 / t),
    "Exponential": lambda t: dist.Exponential(1.2 + t),
}


@pytest.mark.parametrize("f", [jump, smooth], ids=["jump", "smooth"])
@pytest.mark.parametrize("name", ONE_NODE)
def test_against_sums_and_quadrature(name, f):
    make = ONE_NODE[name]
    theta = jnp.asarray(0.7)

    def program(t):
        return f(elbax.sample("z", make(t)))

    run = elbax.value_and_grad(program, MeasureValued())
    exact = jax.grad(lambda t: expectation(make(t), f))(theta)
    assert_mean(repeat(lambda k: run(k, theta)[1], 50_000), exact, resolution=0.15, scale=max(0.2, abs(float(exact))))


def test_closed_forms():
    """Polynomials of a Normal: `d E z^3 / d loc = 3 (loc^2 + scale^2)`, and so on."""
    loc, scale = jnp.asarray(0.6), jnp.asarray(0.9)
    for power, argnum, exact in [
        (3, 0, 3 * (loc**2 + scale**2)),
        (3, 1, 6 * loc * scale),
        (4, 1, 12 * scale * (loc**2 + scale**2)),
    ]:
        run = elbax.value_and_grad(
            lambda m, s, n=power: elbax.sample("z", dist.Normal(m, s)) ** n, MeasureValued(), argnums=argnum
        )
        samples = repeat(lambda k, run=run: run(k, loc, scale)[1], 50_000)
        assert_mean(samples, exact, resolution=0.2)


def test_no_variance_where_theory_says_so():
    """A Poisson with a linear cost; a Bernoulli; a Normal's location with an even cost around it."""
    for program in (
        lambda t: 3.0 * elbax.sample("z", dist.Poisson(jnp.exp(t))),
        lambda t: jnp.sin(2.0 * elbax.sample("z", dist.Bernoulli(logits=t))),
        lambda t: jnp.cos(elbax.sample("z", dist.Normal(t, 0.7)) - jax.lax.stop_gradient(t)),
    ):
        run = elbax.value_and_grad(program, MeasureValued())
        assert repeat(lambda k, run=run: run(k, jnp.asarray(0.4))[1], 200).std() < 1e-12


def test_elements_that_share_costs_are_probed_one_at_a_time():
    """Ten Normals in one cost: the variance is far below that of the score function."""

    def program(t):
        z = elbax.sample("z", dist.Normal(t * jnp.linspace(-1.0, 1.0, 10), 0.5))
        return jnp.where(z.sum() > 0.3, 1.0, 0.0) + (z**2).sum() * jnp.abs(z).max()

    theta = jnp.asarray(0.7)
    variance = []
    for estimator in (MeasureValued(), MeasureValued(batch_size=3), Score()):
        run = elbax.value_and_grad(program, estimator)
        variance.append(repeat(lambda k, run=run: run(k, theta)[1], 4000).var())
    assert variance[0] < 0.3 * variance[2]
    np.testing.assert_allclose(variance[0], variance[1], rtol=1e-9)


def test_wrapped_distributions():
    """Expanded, masked and joined; the mask does not count, since nothing here reads the log-density."""

    def program(t):
        z = elbax.sample("z", dist.Poisson(jnp.exp(t) * jnp.ones(2)).expand((3, 2)))
        g = elbax.sample("g", dist.Gamma(2.0, t * jnp.ones(2)).mask(jnp.array([True, False])))
        n = elbax.sample("n", dist.Normal(t, 0.5 * jnp.ones(2)).to_event(1))
        b = elbax.sample("b", dist.BernoulliProbs(t * jnp.ones(2)).expand((2, 2)).to_event(2).mask(True))
        return z.sum() + g.sum() + n.sum() + b.sum()

    theta = jnp.asarray(0.6)
    run = elbax.value_and_grad(program, MeasureValued())
    exact = 6 * jnp.exp(theta) - 2 * 2 / theta**2 + 2 + 4
    assert_mean(repeat(lambda k: run(k, theta)[1], 20_000), exact, resolution=0.1)


@pytest.mark.slow
def test_jitted_equals_eager_in_both_precisions():
    for dtype in (jnp.float32, jnp.float64):
        theta = jnp.asarray(THETA, dtype)
        run = elbax.value_and_grad(normal_bernoulli_normal, MeasureValued())
        eager, jitted = run(jax.random.key(2), theta)[1], jax.jit(run)(jax.random.key(2), theta)[1]
        np.testing.assert_allclose(eager, jitted, rtol=1e-4 if dtype == jnp.float32 else 1e-9, atol=1e-5)


def test_saturated_logits_stay_finite():
    def program(t):
        b = elbax.sample("b", dist.Bernoulli(logits=t * jnp.array([1.0, -1.0])))
        c = elbax.sample("c", dist.Categorical(logits=t * jnp.arange(3.0)))
        return (b * 1.0).sum() * (c + 1.0)

    for value in (40.0, -40.0):
        assert np.isfinite(elbax.value_and_grad(program, MeasureValued())(jax.random.key(0), value)[1])


def test_refusals():
    def beta(t):
        return elbax.sample("z", dist.Beta(t, 2.0))

    def in_a_loop(t):
        return jax.lax.scan(lambda c, _: (c + elbax.sample("z", dist.Normal(t, 1.0)), None), 0.0, None, length=3)[0]

    def concentration(t):
        return elbax.sample("z", dist.Gamma(t, 2.0))

    key = jax.random.key(0)
    with pytest.raises(EstimatorError, match=r"'z' .*Beta has no rule: there are rules for Bernoulli, Exponential"):
        elbax.value_and_grad(beta, MeasureValued())(key, 1.0)
    with pytest.raises(EstimatorError, match=r"'z' .*loop of 3 steps"):
        elbax.value_and_grad(in_a_loop, MeasureValued())(key, 1.0)
    with pytest.raises(EstimatorError, match=r"Gamma whose concentration is differentiated"):
        elbax.value_and_grad(concentration, MeasureValued())(key, 1.0)
