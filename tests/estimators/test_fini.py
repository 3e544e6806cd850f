"""Fini: exact for polynomials up to its degree, by summation over all counts; wrong beyond."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax
from jax.scipy.special import gammaln

import elbax
from elbax import ConfigError, EstimatorError, Fini, Score
from elbax.estimators.base import LogProb
from elbax.estimators.fini import _moments
from elbax.graph.distributions import Lifted, take_apart
from tests.oracles.statistics import assert_mean, mean_test, repeat

pytestmark = pytest.mark.usefixtures("x64")

COUNTS = np.arange(400)

FAMILIES = {
    "Poisson, log-rate": lambda t: dist.Poisson(jnp.exp(t)),
    "Poisson, rate": lambda t: dist.Poisson(1.7 * t),
    "Binomial, logits": lambda t: dist.Binomial(6, logits=t),
    "Binomial, probs": lambda t: dist.Binomial(5, probs=t**2),
    "Binomial, two trials": lambda t: dist.Binomial(2, logits=t),
    "Bernoulli": lambda t: dist.Binomial(1, logits=t),
    "NegativeBinomial, logits": lambda t: dist.NegativeBinomial(3.0, logits=-t),
    "NegativeBinomial, probs": lambda t: dist.NegativeBinomial(2.5, probs=0.6 * t),
    "NegativeBinomial, total count": lambda t: dist.NegativeBinomial(2 * t, probs=0.3),
    "NegativeBinomial2, mean": lambda t: dist.NegativeBinomial2(2 * t, 1.3),
    "NegativeBinomial2, dispersion": lambda t: dist.NegativeBinomial2(2.0, 1.0 + t),
    "GammaPoisson, both": lambda t: dist.GammaPoisson(1.0 + t, 2 - t**2),
}


def counts_of(d):
    top = getattr(d, "total_count", None) if type(d).__name__.startswith("Binomial") else None
    return jnp.asarray(COUNTS if top is None else np.arange(int(top) + 1))


def log_mass(d, z):
    """NumPyro's own is good to seven digits only for a GammaPoisson."""
    if not hasattr(d, "concentration"):
        return d.log_prob(z)
    a, b = d.concentration, d.rate
    return gammaln(a + z) - gammaln(a) - gammaln(1.0 + z) + a * jnp.log(b / (1 + b)) - z * jnp.log1p(b)


def weights(make, theta, degree, z):
    """`w(z)`: the derivative of the draw, at every count."""
    return jax.jvp(lambda t: Fini(degree)._path(1.0 * z, _moments(make(t).expand(z.shape))), (theta,), (1.0,))[1]


def both(make, f, degree, theta=0.6):
    """`E w(z) f'(z)` and the exact gradient, by summation."""
    z = counts_of(make(theta))
    p = jnp.exp(log_mass(make(theta), z))
    estimate = jnp.sum(p * weights(make, theta, degree, z) * jax.vmap(jax.grad(f))(1.0 * z))
    exact = jax.grad(lambda t: jnp.sum(jnp.exp(log_mass(make(t), z)) * f(1.0 * z)))(theta)
    return float(estimate), float(exact)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_exact_for_polynomials_to_its_degree_and_wrong_beyond(name, degree):
    exact_to = min(degree, 2) if name == "Bernoulli" else degree  # two counts can only tell two degrees apart
    for power in range(1, exact_to + 1):
        estimate, exact = both(FAMILIES[name], lambda z, n=power: (z - 0.7) ** n, degree)
        assert estimate == pytest.approx(exact, rel=1e-8)
    estimate, exact = both(FAMILIES[name], lambda z: (z - 0.7) ** (exact_to + 1), degree)
    assert abs(estimate - exact) > 1e-3 * abs(exact)


def test_weights_of_a_poisson_are_those_of_the_paper():
    rate, z = jnp.exp(0.6), jnp.arange(12)
    np.testing.assert_allclose(weights(FAMILIES["Poisson, log-rate"], 0.6, 2, z), (z + rate) / 2)
    third = 5 * rate / 12 + (8 * rate + 1) * z / (12 * rate) - z**2 / (12 * rate)
    np.testing.assert_allclose(weights(FAMILIES["Poisson, log-rate"], 0.6, 3, z), third)


def test_a_higher_degree_is_nearer_for_smooth_costs():
    errors = [abs(np.subtract(*both(FAMILIES["Poisson, log-rate"], lambda z: jnp.log1p(z), d))) for d in (2, 3)]
    assert errors[1] < errors[0]
    assert errors[0] > 1e-3


@pytest.mark.parametrize("degree", [2, 3])
def test_programs_through_which_the_derivative_passes(degree):
    """Counts in a loop, in a branch and under `vmap`, with quadratic costs, and a later node's parameters."""

    def program(theta):
        def body(c, _):
            z = elbax.sample("z", dist.Poisson(jnp.exp(theta * jnp.ones(2))).to_event(1))
            return c + z, None

        total, _ = lax.scan(body, jnp.zeros(2), None, length=2)
        m = jax.vmap(lambda x: elbax.sample("m", dist.Binomial(4, logits=theta * x)))(jnp.array([1.0, -0.5]))
        y = lax.cond(
            theta > 0,
            lambda: 1.0 * elbax.sample("y", dist.NegativeBinomial2(theta + 1, 2.0)) ** 2,
            lambda: 0.0,
        )
        x = elbax.sample("x", dist.Normal(m.sum(), 0.4))
        return 0.3 * total[0] * total[1] + m @ m + 0.5 * y + x**2

    def exact(t):
        p = jax.nn.sigmoid(t * jnp.array([1.0, -0.5]))
        mean, var = 4 * p, 4 * p * (1 - p)
        y = (t + 1) + (t + 1) ** 2 / 2 + (t + 1) ** 2
        return 1.2 * jnp.exp(2 * t) + jnp.sum(var + mean**2) + 0.5 * y + var.sum() + mean.sum() ** 2

    run = elbax.value_and_grad(program, dict.fromkeys(("z", "m", "y"), Fini(degree)))
    theta = jnp.asarray(0.4)
    samples = repeat(lambda k: run(k, theta)[1], 40_000)
    assert_mean(samples, jax.grad(exact)(theta), resolution=0.1)
    score = elbax.value_and_grad(program, dict.fromkeys(("z", "m", "y"), Score()))
    assert samples.var() < 0.2 * repeat(lambda k: score(k, theta)[1], 4000).var()


def test_the_bias_of_an_elbo_is_seen_and_small():
    """A Poisson latent with its own log q in the bound: no polynomial."""

    def model(x):
        z = elbax.sample("z", dist.Poisson(2.0))
        elbax.observe("x", dist.Normal(0.5 * z, 1.0), x)

    def guide(t, x):
        elbax.sample("z", dist.Poisson(jnp.exp(t)))

    def program(t):
        return elbax.ELBO(model, eqx.Partial(guide, t), analytic_kl=False)(jnp.array(2.2))

    def exact(t):
        z = jnp.arange(80)
        q = dist.Poisson(jnp.exp(t)).log_prob(z)
        p = dist.Poisson(2.0).log_prob(z) + dist.Normal(0.5 * z, 1.0).log_prob(2.2)
        return jnp.sum(jnp.exp(q) * (q - p))

    theta = jnp.asarray(0.2)
    run = elbax.value_and_grad(program, {"z": Fini(2)})
    outcome = mean_test(repeat(lambda k: run(k, theta)[1], 200_000), float(jax.grad(exact)(theta)))
    bias = abs(outcome.mean - float(jax.grad(exact)(theta)))
    assert bias < 0.3
    assert not Fini().unbiased


def test_draws_are_counts_and_given_as_floats():
    d = dist.Poisson(jnp.array([1.0, 30.0])).mask(jnp.array([True, False]))
    draw = Fini().draw(jax.random.key(0), Lifted(*take_apart(d, "z")), LogProb.FULL)
    assert draw.log_prob is not None
    assert jnp.issubdtype(draw.value.dtype, jnp.floating)
    np.testing.assert_array_equal(draw.value, jnp.round(draw.value))
    np.testing.assert_allclose(draw.log_prob, d.log_prob(draw.value))


@pytest.mark.slow
def test_extreme_parameters_stay_finite():
    def program(t):
        z = elbax.sample("z", dist.Binomial(3, logits=t * jnp.array([1.0, -1.0, 0.0])))
        n = elbax.sample("n", dist.NegativeBinomial(2.0, logits=-jnp.abs(t)))
        p = elbax.sample("p", dist.Poisson(jnp.exp(-jnp.abs(t))))
        return (z**3).sum() + n**2 + p**2

    for dtype in (jnp.float32, jnp.float64):
        for value in (40.0, -80.0):
            theta = jnp.asarray(value, dtype)
            run = elbax.value_and_grad(program, Fini())
            eager, jitted = run(jax.random.key(0), theta)[1], jax.jit(run)(jax.random.key(0), theta)[1]
            assert np.isfinite(eager)
            np.testing.assert_allclose(eager, jitted, rtol=1e-4, atol=1e-5)


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ConfigError, match=r"Fini\(degree=4\): weights are known for degrees 2 and 3"):
        Fini(4)
    with pytest.raises(EstimatorError, match=r"'z' .*Normal is not one of counts with known weights: Binomial, Gamma"):
        elbax.value_and_grad(lambda t: elbax.sample("z", dist.Normal(t, 1.0)), Fini())(key, 0.3)
    with pytest.raises(EstimatorError, match=r"'z' .*without a derivative"):
        elbax.value_and_grad(lambda t: jnp.floor(elbax.sample("z", dist.Poisson(t))), Fini())(key, 0.3)
