"""Every way to differentiate a bound: exact expectations by quadrature and enumeration, variance where it is known."""

from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import elbax
from elbax.bounds import log_weights as lw
from elbax.bounds.particles import ParticleBound
from elbax.errors import ConfigError, EstimatorError, ProgramError
from tests.oracles import enumeration
from tests.oracles import one_gaussian as og
from tests.oracles.enumeration import exact_gradient, expected_estimate, forced_draws
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

THETA, PHI = og.THETA, og.PHI

BOUNDS = {
    "IWAE": elbax.IWAE,
    "CIWAE": lambda m, g, **k: elbax.CIWAE(m, g, beta=0.3, **k),
    "Renyi(0.5)": lambda m, g, **k: elbax.Renyi(m, g, alpha=0.5, **k),
    "Renyi(1)": lambda m, g, **k: elbax.Renyi(m, g, alpha=1.0, **k),
    "Renyi(2)": lambda m, g, **k: elbax.Renyi(m, g, alpha=2.0, **k),
    "Renyi(-1)": lambda m, g, **k: elbax.Renyi(m, g, alpha=-1.0, **k),
    "TVO": lambda m, g, **k: elbax.TVO(m, g, partition=(0.0, 0.2, 1.0), **k),
}


def _slow(cases, first):
    """All cases but the first, for the long run."""
    return [pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in cases.items() if name != first]


CUBO = {"CUBO, DReG": elbax.DReG(), "CUBO, ByDensity": elbax.ByDensity()}


def program(make, **options):
    """Minus the bound of one datum as a program of `theta` and `phi`."""
    return lambda theta, phi: make(*og.pair(theta, phi), **options)(og.data())


def estimate(run, noise, *args):
    with forced_draws({"z": noise}):
        return run(jr.key(0), *args)


def expected_gradient(loss, num_particles, theta=THETA, phi=PHI, *, num_nodes=og.NUM_NODES, estimators=None):
    """The exact expectations of value and gradient, by quadrature over the noise of two or more particles."""
    noise, weights = og.nodes(num_particles, num_nodes)
    run = elbax.value_and_grad(loss, estimators, argnums=(0, 1))
    values, grads = jax.jit(jax.vmap(lambda n: estimate(run, n[None, :, None], theta, phi)))(noise)
    return weights @ values, jax.tree.map(lambda g: weights @ g, grads)


class TestQuadrature:
    """One Gaussian latent, two particles: the estimate's expectation against the derivative of the bound itself."""

    @pytest.mark.parametrize(
        ("make", "gradient"), [(BOUNDS["IWAE"], elbax.DReG()), (BOUNDS["CIWAE"], elbax.Total())], ids=["IWAE", "CIWAE"]
    )
    def test_unbiased_in_short(self, make, gradient):
        self.test_unbiased(make, gradient)

    @pytest.mark.slow
    @pytest.mark.parametrize("gradient", [elbax.Total(), elbax.DReG()], ids=repr)
    @pytest.mark.parametrize("make", BOUNDS.values(), ids=BOUNDS)
    def test_unbiased(self, make, gradient):
        of = make(*og.pair(), num_particles=2).of
        loss = program(make, num_particles=2, gradient=gradient)
        value, grads = expected_gradient(loss, 2)
        exact, exact_grads = jax.value_and_grad(lambda t, p: -og.expected(of, t, p, 2), argnums=(0, 1))(THETA, PHI)
        np.testing.assert_allclose(value, exact, rtol=1e-8)
        for found, wanted in zip(grads, exact_grads, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)

    @pytest.mark.slow
    def test_two_targets(self):
        """PIWAE with two groups of one: the model follows IWAE with two particles, the guide the ELBO."""
        _, (of_theta, of_phi) = expected_gradient(program(elbax.PIWAE, num_particles=1, num_groups=2), 2)
        np.testing.assert_allclose(of_theta, jax.grad(lambda t: -og.expected(lw.iwae, t, PHI, 2))(THETA), rtol=1e-7)
        np.testing.assert_allclose(of_phi, jax.grad(lambda p: -og.expected(lw.elbo, THETA, p, 1))(PHI), rtol=1e-7)

    @pytest.mark.parametrize("gradient", [CUBO["CUBO, DReG"], *_slow(CUBO, "CUBO, DReG")])
    def test_upper_bound(self, gradient):
        """The derivative of CUBO, times `E w^n E w^-n` with two particles; nothing for the model."""

        def log_mean_power(n, phi):
            return jnp.log(og.expected(lambda w: jnp.exp(n * w[0]), THETA, phi, 1))

        value, (of_theta, of_phi) = expected_gradient(program(elbax.CUBO, num_particles=2, gradient=gradient), 2)
        exact = jax.grad(lambda p: log_mean_power(2, p) / 2)(PHI)
        factor = jnp.exp(log_mean_power(2, PHI) + log_mean_power(-2, PHI))
        np.testing.assert_allclose(of_phi, factor * exact, rtol=1e-4)
        np.testing.assert_array_equal(of_theta, 0.0)
        np.testing.assert_allclose(value, og.expected(lambda w: lw.cubo(w, 2.0), THETA, PHI, 2), rtol=1e-9)

    @pytest.mark.parametrize("gradient", [elbax.ByDensity(), pytest.param(elbax.DReG(), marks=pytest.mark.slow)])
    def test_reweighted_wake_sleep(self, gradient):
        """The model follows IWAE, the guide the weighted log q of its draws."""
        value, (of_theta, of_phi) = expected_gradient(program(elbax.RWS, num_particles=2, gradient=gradient), 2)
        exact, exact_theta = jax.value_and_grad(lambda t: -og.expected(lw.iwae, t, PHI, 2))(THETA)
        noise, weights = og.nodes(2)
        q = og.guide_distribution(PHI)
        z = q.loc + q.scale * noise
        shares = jax.nn.softmax(og.log_weight(THETA, PHI, z), axis=1)
        wake = jax.grad(lambda p: -weights @ (shares * og.guide_distribution(p).log_prob(z)).sum(1))(PHI)
        np.testing.assert_allclose(value, exact, rtol=1e-8)
        np.testing.assert_allclose(of_theta, exact_theta, rtol=1e-7)
        np.testing.assert_allclose(of_phi, wake, rtol=1e-6)


class TestManyParticles:
    """With an even grid of quantiles of q for particles, weighted derivatives of log-densities are integrals."""

    def weighted(self, bound, num=200_000):
        z = og.guide_distribution(PHI).icdf((jnp.arange(num) + 0.5) / num)
        of_model, of_guide = bound.density_weights(og.log_weight(THETA, PHI, z)[:, None])

        def total(theta, phi):
            log_q = og.guide_distribution(phi).log_prob(z)
            log_joint = og.log_weight(theta, PHI, z) + og.guide_distribution(PHI).log_prob(z)
            return of_model[:, 0] @ log_joint + of_guide[:, 0] @ log_q

        return jax.grad(total, argnums=(0, 1))(THETA, PHI)

    def integral(self, of, num=200_000):
        def bound(theta, phi):
            q = og.guide_distribution(phi)
            return of(og.log_weight(theta, phi, q.icdf((jnp.arange(num) + 0.5) / num)))

        return jax.grad(bound, argnums=(0, 1))(THETA, PHI)

    @pytest.mark.parametrize("partition", [pytest.param((0.0, 1.0), marks=pytest.mark.slow), (0.0, 0.1, 0.5, 1.0)])
    def test_thermodynamic(self, partition):
        """Both parts of the derivative of each term: without either, this is far off."""
        bound = elbax.TVO(*og.pair(), partition=partition, num_particles=200_000)
        exact = self.integral(lambda w: lw.tvo_lower(w, partition))
        for found, wanted in zip(self.weighted(bound), exact, strict=True):
            np.testing.assert_allclose(found, wanted, atol=3e-3)
            assert np.abs(wanted).max() > 0.1

    @pytest.mark.slow
    def test_wake(self):
        """The model climbs log p(x), the guide descends KL(p || q)."""
        of_theta, of_phi = self.weighted(elbax.RWS(*og.pair(), num_particles=2))
        posterior = og.guide_distribution(og.exact_phi())
        kl = lambda p: dist.kl_divergence(posterior, og.guide_distribution(p))  # noqa: E731
        np.testing.assert_allclose(of_theta, jax.grad(og.log_evidence)(THETA), atol=1e-3)
        np.testing.assert_allclose(of_phi, -jax.grad(kl)(PHI), atol=3e-3)

    @pytest.mark.slow
    def test_chi(self):
        exact = self.integral(lambda w: lw.cubo(w, 2.0))[1]
        np.testing.assert_allclose(self.weighted(elbax.CUBO(*og.pair(), num_particles=2))[1], exact, atol=3e-3)


@pytest.mark.slow
def test_the_first_term_is_the_elbo():
    """With one piece, the covariance is the score function with leave-one-out: unbiased for discrete sites."""

    def make(gradient):
        def loss(phi):
            guide, x = eqx.Partial(binary_guide, phi), jnp.array(0.7)
            return elbax.TVO(binary_model, guide, partition=(0, 1), num_particles=2, gradient=gradient)(x)

        return loss

    assert_same_gradient(make, elbax.ByDensity(), jnp.array([0.7, -0.4, 0.3]))


@pytest.mark.parametrize("make", [BOUNDS["Renyi(0.5)"], *_slow(BOUNDS, "Renyi(0.5)")])
def test_weights_of_the_draws_in_closed_form(make):
    """They are the slope of the bound minus its own curvature."""
    bound = make(*og.pair(), num_particles=4)
    log_w = jnp.array([[0.0, -1.0], [1.0, -2.0], [-0.5, 3.0], [0.1, 0.2]])
    np.testing.assert_allclose(bound.path_weights(log_w), ParticleBound.path_weights(bound, log_w), rtol=1e-9)


def test_weights_of_groups():
    bound = elbax.PIWAE(*og.pair(), num_particles=2, num_groups=2)
    log_w = jnp.array([[0.0], [1.0], [-0.5], [0.1]])
    expected = [jax.nn.softmax(log_w[i : i + 2], axis=0) ** 2 / 2 for i in (0, 2)]
    np.testing.assert_allclose(bound.path_weights(log_w), jnp.concatenate(expected))


@pytest.mark.parametrize("make", [BOUNDS["IWAE"], *_slow(BOUNDS, "IWAE")])
def test_lands_at_the_exact_posterior(make):
    """The guide's gradient is zero draw by draw, where the total derivative is not."""
    phi, noise = jnp.asarray(og.exact_phi()), jr.normal(jr.key(0), (50, 1, 3, 1))

    def draws(gradient):
        loss = program(make, num_particles=3, gradient=gradient)
        run = elbax.value_and_grad(loss, argnums=1)
        return jax.vmap(lambda n: estimate(run, n, THETA, phi)[1])(noise)

    np.testing.assert_allclose(draws(elbax.DReG()), 0.0, atol=1e-12)
    assert jnp.abs(draws(elbax.Total())).max() > 0.1


@pytest.mark.slow
def test_signal_to_noise_ratio():
    """Of the guide's gradient against the number of particles: slopes -1/2 and +1/2 on logarithmic axes."""
    particles, num_draws = np.array([8, 32]), 1_000_000

    def ratio(num_particles, gradient):
        run = elbax.value_and_grad(program(elbax.IWAE, num_particles=int(num_particles), gradient=gradient), argnums=1)
        draws = repeat(lambda k: run(k, THETA, PHI)[1][0], num_draws, batch=10_000)
        return abs(draws.mean()) / draws.std()

    for gradient, slope in ((elbax.Total(), -0.5), (elbax.DReG(), 0.5)):
        ratios = np.array([ratio(k, gradient) for k in particles])
        # The standard error of a ratio is 1 / sqrt(num_draws), or less than that times the ratio where it is large.
        error = np.hypot(*np.maximum(1, ratios) / ratios) / np.sqrt(num_draws) / np.log(particles[1] / particles[0])
        assert error < 0.05, "sees no difference of a tenth"
        found = np.diff(np.log(ratios))[0] / np.log(particles[1] / particles[0])
        # False failures: 5 standard errors (6e-7), and a tenth for what is of higher order in 1/K.
        assert abs(found - slope) < 0.1 + 5 * error, (gradient, ratios, found, error)


GRADIENTS = {
    "IWAE, DReG": lambda m, g: elbax.IWAE(m, g, num_particles=2, num_samples=2, gradient=elbax.DReG()),
    "IWAE, VIMCO": lambda m, g: elbax.IWAE(m, g, num_particles=2, num_samples=2, gradient=elbax.VIMCO()),
    "RWS": lambda m, g: elbax.RWS(m, g, num_particles=2, num_samples=2),
    "TVO": lambda m, g: elbax.TVO(m, g, partition=(0.0, 0.3, 1.0), num_particles=2, num_samples=2),
    "CUBO": lambda m, g: elbax.CUBO(m, g, num_particles=2, num_samples=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_data_do_not_mix(make):
    """Value and gradient of a batch are the sums over its data, drawn with the same noise, however it is written."""
    x, noise = og.data(3), jr.normal(jr.key(0), (2, 2, 3))

    def of(x, noise, one=lambda program: program):
        def loss(theta, phi):
            model, guide = og.pair(theta, phi)
            return make(one(model), one(guide))(x)

        return estimate(elbax.value_and_grad(loss, argnums=(0, 1)), noise, THETA, PHI)

    batch, mapped = of(x, noise), of(x, noise, lambda program: jax.vmap(lambda x: program(x)))
    single = [of(x[i : i + 1], noise[:, :, i : i + 1]) for i in range(3)]
    for found in (mapped, jax.tree.map(lambda *parts: sum(parts), *single)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, batch)


# ------------------------------------------------------------------------------------------ other guides and models


def two_layers(x):
    a = elbax.sample("a", dist.Normal(jnp.zeros_like(x), 1.0))
    b = elbax.sample("b", dist.Normal(0.7 * a, 0.8))
    elbax.observe("x", dist.Normal(b + 0.3 * a, 0.6), x)


def two_layer_guide(phi, x):
    a = elbax.sample("a", dist.Normal(phi[0] * x, 0.9))
    elbax.sample("b", dist.Normal(phi[1] * x + phi[2] * a, jnp.exp(-0.4 + 0.2 * phi[2])))


def chain(x):
    """Two steps of a loop: the same as two layers."""

    def step(c, scales):
        z = elbax.sample("z", dist.Normal(scales[0] * c, scales[1]))
        return z, scales[2] * z

    _, parts = jax.lax.scan(step, jnp.zeros_like(x), jnp.array([[0.0, 1.0, 0.3], [0.7, 0.8, 1.0]]))
    elbax.observe("x", dist.Normal(parts.sum(0), 0.6), x)


def chain_guide(phi, x):
    def step(c, t):
        z = elbax.sample("z", dist.Normal(phi[0] * x + t * phi[1] * c, jnp.exp(-0.4 + 0.2 * phi[1])))
        return z, None

    jax.lax.scan(step, jnp.zeros_like(x), jnp.arange(2.0))


def many_nodes(num):
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    known = {"NUM_NODES": num, "NODES": nodes, "LOG_WEIGHTS": np.log(weights / weights.sum()), "MAX_OUTCOMES": 2**20}
    return mock.patch.multiple(enumeration, **known)


def assert_same_gradient(make, form, *args, rtol=1e-9, estimators=None):
    """The expectation of an estimate by `form` is the derivative of the expected cost as it stands. Their variances."""
    exact_value, exact, probs = exact_gradient(make(elbax.Total()), *args)
    value, mean, variance = expected_estimate(make(form), *args, probs=probs, estimators=estimators)
    np.testing.assert_allclose(value, exact_value, rtol=1e-9)
    for m, e in zip(mean, exact, strict=True):
        assert jnp.abs(e).max() > 1e-3
        np.testing.assert_allclose(m, e, rtol=rtol, atol=rtol * np.abs(e).max())
    return variance


@pytest.mark.slow
@pytest.mark.parametrize(("model", "q"), [(two_layers, two_layer_guide), (chain, chain_guide)], ids=["layers", "loop"])
def test_two_layers_by_quadrature(model, q):
    """Draws of the first layer enter log q of the second, whose parameters are fixed."""

    def make(gradient):
        def loss(phi):
            guide = eqx.Partial(q, phi)
            return elbax.IWAE(model, guide, num_particles=2, gradient=gradient)(jnp.array([0.7]))

        return loss

    with many_nodes(12):
        assert_same_gradient(make, elbax.DReG(), jnp.array([0.4, 0.3, 0.5]), rtol=2e-3)


@pytest.mark.slow
def test_parameters_that_model_and_guide_share():
    """By closure, in a loop, and used by both: the guide's copy is fixed in log q, the model's is not."""

    def make(gradient):
        def loss(phi):
            def model(x):
                z = elbax.sample("z", dist.Normal(phi[0] * jnp.ones_like(x), 1.0))
                elbax.observe("x", dist.Normal(jnp.tanh(phi[1] * z), 0.8), x)

            def guide(x):
                loc, _ = jax.lax.scan(lambda c, _: (jnp.sin(phi[1] * c + phi[0]), None), x, None, length=2)
                elbax.sample("z", dist.Normal(loc, jnp.exp(phi[2])))

            return elbax.IWAE(model, guide, num_particles=2, gradient=gradient)(jnp.array([0.7]))

        return loss

    with many_nodes(60):
        assert_same_gradient(make, elbax.DReG(), jnp.array([0.4, 0.8, -0.5]), rtol=1e-6)


def binary_model(x):
    b = elbax.sample("b", dist.Bernoulli(logits=jnp.array([0.3, -0.5])).to_event(1))
    c = elbax.sample("c", dist.Bernoulli(logits=0.8 * b[0] - b[1]))
    elbax.observe("x", dist.Normal(b @ jnp.array([1.0, -0.7]) + 0.5 * c, 0.7), x)


def binary_guide(phi, x):
    b = elbax.sample("b", dist.Bernoulli(logits=phi[:2] * x).to_event(1))
    elbax.sample("c", dist.Bernoulli(logits=phi[2] + b[0]))


def mixed_model(x):
    k = elbax.sample("k", dist.Bernoulli(0.3))
    z = elbax.sample("z", dist.Normal(1.0 * k, 0.9))
    elbax.observe("x", dist.Normal(z, 0.8), x)


def discrete_first(phi, x):
    k = elbax.sample("k", dist.Bernoulli(logits=phi[0]))
    elbax.sample("z", dist.Normal(phi[1] * x + k, jnp.exp(phi[2])))


def discrete_last(phi, x):
    z = elbax.sample("z", dist.Normal(phi[1] * x, jnp.exp(phi[2])))
    elbax.sample("k", dist.Bernoulli(logits=phi[0] * z))


VIMCO_CASES = {
    "binary": (binary_model, binary_guide, 2),
    "binary, three particles": (binary_model, binary_guide, 3),
    "discrete, continuous": (mixed_model, discrete_first, 2),
    "continuous, discrete": (mixed_model, discrete_last, 2),
}


class TestVIMCO:
    @pytest.mark.parametrize("arithmetic", [False, pytest.param(True, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("case", [VIMCO_CASES["discrete, continuous"], *_slow(VIMCO_CASES, "discrete, continuous")])
    def test_unbiased(self, case, arithmetic):
        model, guide, num_particles = case

        def make(gradient):
            def loss(phi):
                options = {"num_particles": num_particles, "gradient": gradient}
                return elbax.IWAE(model, eqx.Partial(guide, phi), **options)(jnp.array(0.7))

            return loss

        phi = jnp.array([0.7, -0.4, 0.3])
        variance = assert_same_gradient(make, elbax.VIMCO(arithmetic), phi)
        if guide is binary_guide:  # elsewhere most of the variance is that of the continuous site
            plain = expected_estimate(make(elbax.Total()), phi, estimators=elbax.Score())[2]
            assert variance < 0.5 * plain, variance / plain

    def test_continuous_sites_stay_pathwise(self):
        bound = elbax.IWAE(
            mixed_model, eqx.Partial(discrete_first, jnp.asarray(PHI)), num_particles=2, gradient=elbax.VIMCO()
        )
        chosen = elbax.surrogate(lambda b, x: b(x)).plan((bound, jnp.array(0.7)), {})[0].chosen
        assert isinstance(chosen["z"].estimator, elbax.Pathwise)
        assert chosen["k"].reason == "the bound differentiates its log-density"


class TestRefusals:
    def trace(self, bound, estimators=None, x=None):
        x = jnp.array(0.7) if x is None else x
        return elbax.value_and_grad(lambda b, x: b(x), estimators)(jr.key(0), bound, x)

    def test_discrete_site_under_dreg(self):
        bound = elbax.IWAE(
            mixed_model, eqx.Partial(discrete_first, jnp.asarray(PHI)), num_particles=2, gradient=elbax.DReG()
        )
        message = r"site 'k' \(test_gradients.py:\d+.*doubly reparameterised.*Bernoulli is discrete.*VIMCO"
        with pytest.raises(EstimatorError, match=message):
            self.trace(bound)

    @pytest.mark.parametrize("estimators", [elbax.Score(), {"z": elbax.Score()}])
    def test_other_estimator_under_dreg(self, estimators):
        bound = elbax.IWAE(*og.pair(), num_particles=2, gradient=elbax.DReG())
        with pytest.raises(EstimatorError, match=r"site 'z' .* it is Score\(\)"):
            self.trace(bound, estimators, og.data())

    def test_jump_on_the_way_to_a_cost(self):
        def model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros_like(x), 1.0))
            elbax.observe("x", dist.Normal(jnp.floor(z), 1.0), x)

        bound = elbax.IWAE(model, og.pair()[1], num_particles=2, gradient=elbax.DReG())
        with pytest.raises(EstimatorError, match=r"site 'z' .* goes through `floor`"):
            self.trace(bound, x=og.data())

    def test_support_that_moves(self):
        def model(x):
            elbax.observe("x", dist.Normal(elbax.sample("z", dist.Normal(0 * x, 1.0)), 1.0), x)

        def guide(phi, x):
            elbax.sample("z", dist.Uniform(jnp.zeros_like(x), x + phi[0]))

        bound = elbax.IWAE(model, eqx.Partial(guide, jnp.asarray(PHI)), num_particles=2, gradient=elbax.DReG())
        with pytest.raises(EstimatorError, match=r"site 'z' .* support of its Uniform moves"):
            self.trace(bound, x=og.data())

    @pytest.mark.parametrize(("masked", "gradient"), [(True, elbax.VIMCO()), (False, elbax.DReG())])
    def test_log_q_that_is_not_that_of_the_draw(self, masked, gradient):
        def model(x):
            elbax.sample("z", dist.Bernoulli(0.5).expand(x.shape) if masked else dist.Normal(0 * x, 1.0), scale=scale)

        def guide(phi, x):
            q = dist.Bernoulli(logits=phi[0] * x).mask(x > 0) if masked else dist.Normal(phi[0] * x, 1.0)
            elbax.sample("z", q, scale=scale)

        scale = 1.0 if masked else 2.0
        bound = elbax.IWAE(model, eqx.Partial(guide, jnp.asarray(PHI)), num_particles=2, gradient=gradient)
        with pytest.raises(EstimatorError, match=r"site 'z' .* has (a mask|scale=2)"):
            self.trace(bound, x=og.data())

    def test_estimator_of_a_site_that_the_bound_differentiates(self):
        bound = elbax.IWAE(
            mixed_model, eqx.Partial(discrete_first, jnp.asarray(PHI)), num_particles=2, gradient=elbax.VIMCO()
        )
        with pytest.raises(EstimatorError, match=r"site 'k' .* is RLOO\(\), but the bound differentiates"):
            self.trace(bound, {"k": elbax.RLOO()})

    @pytest.mark.slow
    def test_second_derivative(self):
        loss = elbax.surrogate(program(elbax.IWAE, num_particles=2, gradient=elbax.DReG()))
        with pytest.raises(ProgramError, match=r"IWAE with gradient=DReG\(\) was differentiated twice"):
            jax.grad(jax.grad(lambda a: loss(jr.key(0), THETA, jnp.asarray(PHI).at[0].set(a))))(0.3)

    def test_options(self):
        model, guide = og.pair()
        with pytest.raises(ConfigError, match=r"CIWAE\(gradient=VIMCO.* `elbax.Total\(\)` or `elbax.DReG\(\)`"):
            elbax.CIWAE(model, guide, beta=0.5, num_particles=2, gradient=elbax.VIMCO())
        with pytest.raises(ConfigError, match="leaving one out needs num_particles of two or more"):
            elbax.IWAE(model, guide, num_particles=1, gradient=elbax.VIMCO())
        with pytest.raises(ConfigError, match="which weight is the largest jumps"):
            elbax.Renyi(model, guide, alpha=-np.inf, num_particles=2, gradient=elbax.DReG())
        with pytest.raises(ConfigError, match="must be between 0 and 1"):
            elbax.CIWAE(model, guide, beta=2.0, num_particles=2)
        with pytest.raises(ConfigError, match="order must be above 1"):
            elbax.CUBO(model, guide, order=1.0, num_particles=2)
        with pytest.raises(ConfigError, match="weighed against the others"):
            elbax.CUBO(model, guide, num_particles=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda m, g: elbax.IWAE(m, g, num_particles=4, gradient=elbax.DReG()),
        lambda m, g: elbax.CUBO(m, g, num_particles=8),
        lambda m, g: elbax.RWS(m, g, num_particles=8, gradient=elbax.DReG()),
    ],
    ids=["IWAE", "CUBO", "RWS"],
)
def test_fits(make):
    """Doubly reparameterised, every bound arrives at the exact posterior and stays there without noise."""
    model, guide = og.pair()[0], og.pair(phi=og.PHI + np.array([0.2, 0.0, 0.3]))[1]
    options = {
        "max_steps": 1500,
        "log_every": 500,
        "optimizer": optax.adam(0.02),
        "stopping": elbax.Stopping(None, None, None),
    }
    fit = elbax.fit(lambda x: model(x), guide, np.array([0.7, -1.1, 2.0]), key=jr.key(0), bound=make, **options)
    np.testing.assert_allclose(fit.guide.args[0], og.exact_phi(), atol=0.02)
