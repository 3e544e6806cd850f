"""Coupled runs of the whole program: each by itself is as it was, together they vary less."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import Antithetic, ConfigError, EstimatorError, MovingAverage, Pathwise, QuasiMonteCarlo, Replicas, Score
from elbax.estimators.choose import site_of
from elbax.estimators.couplings import coupled_sample
from elbax.graph.distributions import Lifted, innermost, take_apart
from tests.oracles import programs
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
from tests.oracles.distributions import INSTANCES
from tests.oracles.programs import THETA
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

COUPLINGS = [Antithetic(), Antithetic(pairs=2), QuasiMonteCarlo(4)]
NORMAL = Case("Normals", normal_bernoulli_normal, ("x", "z"))


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS[1:], ids=repr)
@pytest.mark.parametrize("case", [*BINARY, *CATEGORICAL, *ONE_HOT, NORMAL], ids=ids)
def test_score_is_unbiased(case, coupling):
    assert_estimator(case, Score(draws=coupling))


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS[1:], ids=repr)
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
def test_unbiased_within_other_transformations(wrap, coupling):
    assert_estimator(BINARY[3], Score(draws=coupling), wrap=wrap)


@pytest.mark.parametrize("coupling", COUPLINGS[::2], ids=repr)
def test_unbiased(coupling):
    assert_estimator(BINARY[6], Score(draws=coupling), num=40_000, resolution=0.25)
    z = Pathwise(draws=coupling, stick=True)
    run = elbax.value_and_grad(programs.elbo, {"k": Score(draws=coupling), "z": z})
    plain = elbax.value_and_grad(programs.elbo, {"k": Score()})
    theta = jnp.asarray(THETA)
    coupled = repeat(lambda k: run(k, theta)[1], 20_000)
    independent = repeat(lambda k: plain(k, theta)[1], 40_000, key=jax.random.key(9))
    error = np.sqrt(coupled.var(0) / len(coupled) + independent.var(0) / len(independent))
    assert np.all(np.abs(coupled.mean(0) - independent.mean(0)) < 5.2 * error)
    assert np.all(coupled.var(0) < independent.var(0))


def sites_of(program, *args):
    facts = elbax.trace(program, *args).raw_facts
    return {name: site_of(facts, name) for name in facts.samples}


def lanes(theta):
    """Four data with three numbers each, in a loop of two steps."""

    def lane(x):
        def body(c, _):
            z = elbax.sample("z", dist.Normal(theta * x + c, jnp.ones(3)))
            return z, (z**2).sum()

        return lax.scan(body, jnp.zeros(3), None, length=2)[1].sum()

    return jax.vmap(lane)(jnp.arange(4.0))


@pytest.mark.parametrize("coupling", [*COUPLINGS, QuasiMonteCarlo(16)], ids=repr)
def test_every_number_is_uniform(coupling):
    site = sites_of(lanes, 0.3)["z"]
    assert site.shape == (2, 4, 3)
    draws = repeat(lambda k: coupling.uniforms(k, site), 4000)
    assert draws.shape == (4000, coupling.num, 2, 4, 3)
    assert draws.min() > 0
    assert draws.max() < 1
    bins = np.apply_along_axis(lambda x: np.bincount((x * 8).astype(int), minlength=8), 0, draws)
    chi2 = ((bins - 500) ** 2 / 500).sum(0)
    assert chi2.max() < 55  # seven degrees of freedom: 1.5e-9 each
    pair = np.corrcoef(draws[:, 0].reshape(4000, -1).T) - np.eye(24)
    assert np.abs(pair).max() < 0.1  # numbers of one run are independent


def test_antithetic_runs_are_mirror_images():
    site = sites_of(lanes, 0.3)["z"]
    u = Antithetic(pairs=2).uniforms(jax.random.key(0), site)
    np.testing.assert_allclose(u[:2] + u[2:], 1.0)


def test_points_are_even_in_every_cell_and_cells_differ():
    """One point in each of 16 intervals, and 4 x 4 squares of the first two numbers, for each datum by itself."""
    site = sites_of(lanes, 0.3)["z"]
    u = np.asarray(QuasiMonteCarlo(16).uniforms(jax.random.key(0), site))
    np.testing.assert_array_equal(
        np.sort((u * 16).astype(int), 0), np.arange(16)[:, None, None, None] + 0 * u.astype(int)
    )
    for lane in range(4):
        squares = (u[:, 0, lane, :2] * 4).astype(int)
        assert len({tuple(s) for s in squares}) == 16
    assert not np.allclose(u[:, :, 0], u[:, :, 1])


# ------------------------------------------------------------------------------------------ inverses


def invertible(name):
    try:
        d = innermost(INSTANCES[name]())
        d.icdf(jnp.full(d.batch_shape + d.event_shape, 0.4))
    except (NotImplementedError, ImportError, AttributeError):
        return False
    return not d.is_discrete


FAST = ("Normal", "Exponential", "TruncatedNormal", "independent", "masked")


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in INSTANCES if invertible(n)]
)
def test_derivatives_of_inverse_distribution_functions(name):
    """`d F^-1(u) = - dF / p`, which is what pathwise gradients need."""
    lifted = Lifted(*take_apart(INSTANCES[name](), name))
    u = jnp.linspace(0.1, 0.9, int(np.prod(lifted.shape))).reshape(lifted.shape)
    z = coupled_sample(lifted, u)
    base = lambda s: innermost(INSTANCES[name](s))  # noqa: E731
    np.testing.assert_allclose(base(0.0).cdf(z), u, atol=1e-9)

    def drawn(s):
        return base(s).icdf(u)

    slope = jax.jvp(drawn, (0.0,), (1.0,))[1]
    shift = jax.jvp(lambda s: base(s).cdf(z) * jnp.ones(z.shape), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(slope, -shift / jnp.exp(base(0.0).log_prob(z)), atol=1e-8)


@pytest.mark.parametrize("name", ["Bernoulli", "Categorical", "OneHot"])
def test_discrete_inverses_give_every_outcome_its_share(name):
    make = {
        "Bernoulli": dist.Bernoulli(logits=jnp.array([0.3, -40.0, 40.0])),
        "Categorical": dist.Categorical(probs=jnp.array([[0.2, 0.0, 0.5, 0.3], [1.0, 0.0, 0.0, 0.0]])),
        "OneHot": elbax.OneHotCategorical(logits=jnp.array([0.3, -1.0, 1.2])),
    }[name]
    lifted = Lifted(*take_apart(make, name))
    u = (jnp.arange(20_000) + 0.5) / 20_000
    z = jax.vmap(lambda x: coupled_sample(lifted, jnp.full(lifted.shape, x)))(u)
    assert z.dtype == make.sample(jax.random.key(0)).dtype
    support = make.enumerate_support(expand=False).reshape(-1, *make.event_shape)
    for value in support:
        same = (z == value).all(-1) if make.event_shape else z == value
        shape = (*make.batch_shape, *make.event_shape)
        share = jnp.exp(make.log_prob(jnp.broadcast_to(value, shape)))
        np.testing.assert_allclose(same.mean(0), share, atol=1e-4)


# ------------------------------------------------------------------------------------------ variance


def variance(program, estimator, num=2000, theta=0.4):
    run = elbax.value_and_grad(program, estimator)
    return repeat(lambda k: run(k, jnp.asarray(theta))[1], num).var()


def test_antithetic_draws_cancel_what_is_odd():
    quadratic = lambda t: elbax.sample("z", dist.Normal(t, 0.8)) ** 2  # noqa: E731
    assert variance(quadratic, Pathwise(draws=Antithetic())) < 1e-20
    assert variance(quadratic, Pathwise()) > 1.0
    even = lambda t: jnp.cos(elbax.sample("z", dist.Normal(t, 0.8)) - lax.stop_gradient(t))  # noqa: E731
    assert variance(even, Score(draws=Antithetic())) < 1e-20


def test_error_of_quasi_monte_carlo_falls_faster():
    def program(t):
        z = elbax.sample("z", dist.Normal(t * jnp.ones(2), 0.8))
        return jnp.sin(z.sum()) + z[0] * jnp.exp(0.3 * z[1])

    single = variance(program, Pathwise(), 4000)
    for num in (16, 64):
        assert variance(program, Pathwise(draws=QuasiMonteCarlo(num)), 400) < 0.2 * single / num
    assert variance(program, Score(draws=QuasiMonteCarlo(64)), 400) < 0.5 * variance(program, Score(), 4000) / 64


def test_baselines_of_earlier_steps_go_with_couplings():
    loss = elbax.surrogate(programs.two_layers, Score(baseline=MovingAverage(), draws=Antithetic()))
    theta = jnp.asarray(THETA)
    state = loss.init(jax.random.key(0), theta)
    value, after = loss.step(state, jax.random.key(1), theta)
    assert np.isfinite(value)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.slow
def test_all_precisions_and_jit():
    for dtype in (jnp.float32, jnp.float64):
        theta = jnp.asarray(THETA, dtype)
        run = elbax.value_and_grad(
            normal_bernoulli_normal, {"b": Score(draws=QuasiMonteCarlo(2)), "x": Pathwise(draws=Antithetic())}
        )
        eager, jitted = run(jax.random.key(2), theta)[1], jax.jit(run)(jax.random.key(2), theta)[1]
        np.testing.assert_allclose(eager, jitted, rtol=1e-4 if dtype == jnp.float32 else 1e-9, atol=1e-5)


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ConfigError, match=r"Score\(baseline=Replicas\(..\), draws=Antithetic\(..\)\): .*independently"):
        Score(baseline=Replicas(2), draws=Antithetic())
    with pytest.raises(ConfigError, match=r"QuasiMonteCarlo\(6\): .*powers of two"):
        QuasiMonteCarlo(6)
    with pytest.raises(ConfigError, match=r"at least one pair"):
        Antithetic(pairs=0)
    for make in (
        lambda t: dist.Gamma(t, 1.0),
        lambda t: dist.Poisson(t),
        lambda t: dist.MultivariateNormal(t * jnp.ones(2), jnp.eye(2)),
    ):
        run = elbax.value_and_grad(lambda t, f=make: jnp.sum(1.0 * elbax.sample("z", f(t))), Score(draws=Antithetic()))
        with pytest.raises(EstimatorError, match=r"'z' .* has no inverse distribution function"):
            run(key, 1.3)
    with pytest.raises(EstimatorError, match=r"different numbers of runs"):
        elbax.value_and_grad(
            normal_bernoulli_normal, {"b": Score(draws=QuasiMonteCarlo(4)), "x": Pathwise(draws=Antithetic())}
        )(key, jnp.asarray(THETA))
