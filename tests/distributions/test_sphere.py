"""Distributions on spheres: densities, divergences, moments, and derivatives of draws, against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpyro.distributions.kl import kl_divergence
from scipy.optimize import brentq

import elbax
from elbax import ConfigError, HypersphericalUniform, Pathwise, PowerSpherical, Score, VonMisesFisher
from elbax.distributions.special import mean_cosine
from elbax.distributions.von_mises_fisher import _speed
from elbax.estimators.implicit import _von_mises
from elbax.graph.distributions import Lifted, take_apart
from elbax.graph.draws import jumps_in_draw, unseen_by_density
from tests.oracles.statistics import assert_mean, repeat

BOTH = pytest.mark.parametrize("kind", [VonMisesFisher, PowerSpherical])
MU3 = np.array([1.0, 2.0, -2.0]) / 3


def direction(m):
    """Nothing special: no symmetry, no zero."""
    x = np.cos(1.7 * np.arange(1, m + 1) ** 1.3) + 0.2
    return jnp.asarray(x / np.linalg.norm(x), float)


def sphere_grid(m):
    """Points and weights on a circle or a sphere; their sum is the area."""
    turn = 2 * np.pi * np.arange(4000 if m == 2 else 120) / (4000 if m == 2 else 120)
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)
    if m == 2:
        return jnp.asarray(circle), jnp.full(len(turn), 2 * np.pi / len(turn))
    w, weights = np.polynomial.legendre.leggauss(200)
    points = np.concatenate(
        [np.sqrt(1 - w**2)[:, None, None] * circle, np.broadcast_to(w[:, None, None], (200, 120, 1))], -1
    )
    return jnp.asarray(points.reshape(-1, 3)), jnp.asarray(np.repeat(weights, 120) * 2 * np.pi / 120)


def lifted(d):
    structure, leaves = take_apart(d, "z")
    return Lifted(structure, leaves)


# ------------------------------------------------------------------------------------------ densities


@pytest.mark.usefixtures("x64")
@BOTH
@pytest.mark.parametrize("m", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_density_moments_and_divergences_by_quadrature(kind, m):
    points, weights = sphere_grid(m)
    for kappa in (0.01, 1.3, 20.0):
        p, q = kind(direction(m), kappa), VonMisesFisher(-direction(m)[::-1], 0.5 * kappa + 0.3)
        log_p = p.log_prob(points)
        mass = weights * jnp.exp(log_p)
        np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-5)  # the power spherical has a kink at the antipode
        np.testing.assert_allclose(mass @ points, p.mean, atol=1e-5)
        np.testing.assert_allclose(mass @ (points - p.mean) ** 2, p.variance, atol=1e-5)
        np.testing.assert_allclose(-mass @ log_p, p.entropy(), atol=1e-5)
        for other in (q, HypersphericalUniform(m)):
            np.testing.assert_allclose(mass @ (log_p - other.log_prob(points)), kl_divergence(p, other), atol=1e-5)
        u = HypersphericalUniform(m)
        backwards = weights / weights.sum() @ (u.log_prob(points) - q.log_prob(points))
        np.testing.assert_allclose(backwards, kl_divergence(u, q), atol=1e-8)
    assert kl_divergence(u, u) == 0


def test_known_divergences():
    """In single precision: of 11 dimensions, from Davidson et al.'s closed form in high precision."""
    u = HypersphericalUniform(11)
    np.testing.assert_allclose(kl_divergence(VonMisesFisher(direction(11), 1e-3), u), 4.5454542e-8, rtol=2e-3)
    np.testing.assert_allclose(kl_divergence(VonMisesFisher(direction(11), 50.0), u), 8.80766958, rtol=1e-5)
    assert abs(kl_divergence(PowerSpherical(direction(11), 1e-4), u)) < 1e-5
    slope = jax.grad(lambda k: kl_divergence(VonMisesFisher(direction(11), k), u))(50.0)
    np.testing.assert_allclose(slope, 50 * 0.0018357030253666749, rtol=1e-5)  # kappa A'


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@BOTH
@pytest.mark.parametrize("m", [2, 5, 40])
def test_divergences_and_entropy_by_sampling(kind, m):
    p, q = kind(direction(m), 3.0 * m), VonMisesFisher(direction(m)[::-1], 0.4 * m)
    z = p.sample(jax.random.key(0), (100_000,))
    log_p = p.log_prob(z)
    found = np.stack([-log_p, log_p - q.log_prob(z), log_p - HypersphericalUniform(m).log_prob(z)], -1)
    exact = [p.entropy(), kl_divergence(p, q), kl_divergence(p, HypersphericalUniform(m))]
    assert_mean(found, np.stack(exact), resolution=0.05)


def test_density_at_the_antipode():
    for kind in (VonMisesFisher, PowerSpherical):
        d = kind(MU3, 4.0)
        slope = jax.grad(lambda z, d=d: d.log_prob(z))(-d.mean_direction)
        assert not np.isnan(d.log_prob(-d.mean_direction))
        assert np.isfinite(slope).all()
    assert jnp.isneginf(PowerSpherical(jnp.array([1.0, 0.0]), 4.0).log_prob(jnp.array([-1.0, 0.0])))


# ------------------------------------------------------------------------------------------ draws


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@BOTH
@pytest.mark.parametrize("m", [2, 3, 11, 60])
def test_moments_of_draws(kind, m):
    """Mean, and all of the covariance."""
    for kappa in (0.05, 2.0, 60.0, 1e4):
        d = kind(direction(m), kappa)
        z = d.sample(jax.random.key(1), (200_000,))
        spread = float(jnp.sqrt(d.variance.sum()))
        assert_mean(z, d.mean, resolution=0.2, scale=spread)
        _, along, across = d._moments()
        outer = jnp.outer(d.mean_direction, d.mean_direction)
        axes = jnp.linalg.svd(jnp.eye(m) - outer)[0][:, :1]  # one direction across, and the mean direction itself
        square = jnp.stack([((z - d.mean) @ d.mean_direction) ** 2, ((z - d.mean) @ axes)[:, 0] ** 2], -1)
        for found, exact in zip(square.T, (along, across), strict=True):
            assert_mean(found, exact, resolution=0.1)
        product = ((z - d.mean) @ d.mean_direction) * ((z - d.mean) @ axes)[:, 0]
        assert_mean(product, 0.0, resolution=0.1, scale=float(jnp.sqrt(along * across)))


@pytest.mark.slow
@pytest.mark.parametrize("m", [2, 3, 500])
def test_single_precision(m):
    """From almost uniform to almost certain: unit length, right spread, and finite derivatives."""
    kappa = jnp.asarray([1e-4, 1.0, 300.0, 1e5])
    for kind in (VonMisesFisher, PowerSpherical):
        d = kind(direction(m), kappa)
        z = jax.jit(lambda k, d=d: d.sample(k, (4000,)))(jax.random.key(0))
        assert z.dtype == jnp.float32
        assert bool(d.support(z).all())
        gap = jnp.sum((z - d.mean_direction) ** 2, -1) / 2
        for i, exact in enumerate(d._moments()[0]):
            assert_mean(gap[:, i], float(exact), resolution=0.15 if m > 3 else 0.25)

        def total(mu, k, kind=kind):
            d = kind(mu, k)
            z = d.sample(jax.random.key(0), (50,))
            return jnp.sum(z**3) + d.log_prob(z).sum() + kl_divergence(d, HypersphericalUniform(m)).sum()

        value, grads = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(direction(m), kappa)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, grads)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("m", [2, 10, 200])
def test_implicit_derivative_against_the_inverse_of_the_distribution_function(m):
    """By differences of quantiles, each found by root search on a fine quadrature."""
    x, w = np.polynomial.legendre.leggauss(400)

    def cdf(t, kappa):
        def mass(high, low=0.0):
            r = low + (high - low) * (x + 1) / 2
            return (high - low) / 2 * (w @ (np.sin(r) ** (m - 2) * np.exp(kappa * (np.cos(r) - 1))))

        return mass(t) / (mass(t) + mass(np.pi, t))

    for kappa in (0.05, 1.5, 30.0):
        for u in (0.003, 0.3, 0.6, 0.99):
            angle = lambda k, u=u: brentq(lambda t: cdf(t, k) - u, 1e-9, np.pi - 1e-9, xtol=1e-15)  # noqa: E731
            logit = lambda k, angle=angle: -2 * np.log(np.tan(angle(k) / 2))  # noqa: E731
            step = 1e-3 * kappa
            slopes = [(logit(kappa + h) - logit(kappa - h)) / (2 * h) for h in (step, 2 * step)]
            exact = (4 * slopes[0] - slopes[1]) / 3
            np.testing.assert_allclose(_speed(jnp.asarray(kappa), jnp.asarray(logit(kappa)), m), exact, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_on_a_circle_it_is_the_von_mises_derivative():
    import numpyro.distributions as dist

    for kappa in (0.01, 2.0, 400.0):
        angle = jnp.asarray([0.02, 0.5, 1.2, 2.4]) / max(1.0, kappa**0.5)
        path = lambda k, angle=angle: _von_mises(dist.VonMises(jnp.zeros(4), k), angle)  # noqa: E731
        exact = jax.jvp(path, (jnp.full(4, kappa),), (jnp.ones(4),))[1]
        speed = _speed(jnp.full(4, kappa), -2 * jnp.log(jnp.tan(angle / 2)), 2)
        np.testing.assert_allclose(-jnp.sin(angle) / 2 * speed, exact, rtol=1e-8)


# ------------------------------------------------------------------------------------------ gradients


def cost(z):
    return jnp.sin(1.7 * z[..., 0] + 0.4) + z[..., 0] * z[..., -1] ** 2 + 0.3 * z[..., -1]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@BOTH
@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kappa", [0.1, 2.0, 25.0])
def test_gradient_against_quadrature(kind, m, kappa):
    points, weights = sphere_grid(m)

    def exact(mu, k):
        return jnp.sum(weights * jnp.exp(kind(mu, k).log_prob(points)) * cost(points))

    def program(mu, k):
        return cost(elbax.sample("z", kind(mu, k)))

    args = (1.3 * direction(m), jnp.asarray(kappa))  # not of length one: only the direction counts
    gradient = jnp.concatenate([jnp.ravel(x) for x in jax.grad(exact, (0, 1))(*args)])
    run, score = (elbax.value_and_grad(program, e, argnums=(0, 1)) for e in (Pathwise(), Score()))
    samples = repeat(lambda k: jnp.concatenate([jnp.ravel(x) for x in run(k, *args)[1]]), 100_000)
    for found, true in zip(samples.T, gradient, strict=True):  # derivatives in kappa may be small
        assert_mean(found, true, resolution=0.25, scale=max(abs(float(true)), float(found.std()) / 5))
    if kappa > 20:  # for wide draws, a score that is proportional to kappa varies less
        others = repeat(lambda k: jnp.concatenate([jnp.ravel(x) for x in score(k, *args)[1]]), 4000)
        assert np.all(samples.var(0) < others.var(0))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("m", "kappa"), [(2, 0.5), (3, 8.0), (11, 1.0), (11, 300.0), (60, 40.0), (300, 2000.0)])
def test_gradient_of_a_linear_cost(m, kappa):
    """`E a.z = A a.mu`: the derivative along the mean direction is `A'`, across it `A`."""
    mu = direction(m)
    a = jnp.sin(jnp.arange(1.0, m + 1)) + mu

    def slopes(key):
        z = lambda mu, k: a @ VonMisesFisher(mu, k).sample(key)  # noqa: E731
        dmu, dkappa = jax.grad(z, (0, 1))(mu, jnp.asarray(kappa))
        return jnp.append(dmu, dkappa)

    samples = repeat(slopes, 160_000, batch=20_000)
    mean = mean_cosine(jnp.asarray(kappa), m)
    assert_mean(samples[:, :-1], mean * (a - (a @ mu) * mu), resolution=0.1)
    assert_mean(samples[:, -1], jax.grad(mean_cosine)(kappa, m) * (a @ mu), resolution=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_second_derivatives():
    """The rule has derivatives of its own: the Hessian of `E f` in the concentration and an angle, by quadrature."""
    points, weights = sphere_grid(3)

    def make(t):
        return VonMisesFisher(jnp.stack([jnp.cos(t[0]), 0.3 + 0 * t[0], jnp.sin(t[0])]), t[1])

    t = jnp.array([0.4, 3.0])
    exact = jax.hessian(lambda t: jnp.sum(weights * jnp.exp(make(t).log_prob(points)) * cost(points)))(t)
    samples = repeat(lambda k: jax.hessian(lambda t: cost(make(t).sample(k)))(t), 100_000, batch=20_000)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        found = samples[:, i, j]
        assert_mean(found, exact[i, j], resolution=0.25, scale=max(abs(float(exact[i, j])), float(found.std()) / 5))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", [VonMisesFisher, pytest.param(PowerSpherical, marks=pytest.mark.slow)])
def test_derivative_in_the_mean_direction_is_a_rotation(kind):
    """`dz = (mu.z) dmu - (dmu.z) mu`, also where the mean direction is an axis or its opposite."""
    sample = lambda mu: kind(mu, 2.0).sample(jax.random.key(3), (20,))  # noqa: E731
    moving = jax.jit(lambda mu, dmu: jax.jvp(sample, (mu,), (dmu,)))
    for mu in (MU3, np.array([1.0, 0.0, 0.0]), np.array([-1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])):
        across = np.cross(mu, np.array([0.3, 0.5, 0.9]))
        z, moved = moving(mu, across)
        np.testing.assert_allclose(moved, (z @ mu)[:, None] * across - (z @ across)[:, None] * mu, atol=1e-12)
        np.testing.assert_allclose(moving(mu, mu)[1], 0.0, atol=1e-12)


# ------------------------------------------------------------------------------------------ in programs


@BOTH
def test_what_the_rule_finds(kind):
    d = lifted(kind(MU3, 2.0))
    assert d.has_rsample
    assert not jumps_in_draw(d)
    assert not unseen_by_density(d)
    plan = elbax.trace(lambda k: cost(elbax.sample("z", kind(MU3, k))), jnp.asarray(2.0)).plan
    assert "Pathwise" in plan["z"]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@BOTH
def test_in_scan_and_vmap(kind):
    """A walk on the sphere, and a batch with an expanded site: eager, jitted and by two estimators."""

    def program(t):
        def step(z, _):
            z = elbax.sample("z", kind(z + 0.2 * t, jnp.exp(t[0])))
            return z, cost(z)

        _, costs = lax.scan(step, jnp.asarray(MU3), None, length=3)
        each = jax.vmap(lambda k: elbax.sample("each", kind(t, k)))(jnp.array([0.5, 4.0]))
        plate = elbax.sample("plate", kind(t, 1.0).expand((2,)).to_event(1))
        return costs.sum() + cost(each).sum() + cost(plate).sum()

    t = jnp.array([0.8, -0.4, 0.5])
    pathwise, score = (elbax.value_and_grad(program, e) for e in (Pathwise(), Score()))
    key = jax.random.key(0)
    np.testing.assert_allclose(pathwise(key, t)[1], jax.jit(pathwise)(key, t)[1], rtol=1e-9)
    one, two = repeat(lambda k: pathwise(k, t)[1], 20_000), repeat(lambda k: score(k, t)[1], 100_000, jax.random.key(1))
    means = one[:, None].reshape(20_000, -1, 3).mean(1) - two.reshape(20_000, 5, 3).mean(1)
    assert_mean(means, 0.0, resolution=0.1, scale=float(np.abs(one).mean()))


def autoencoder(kind, x):
    """A decoder of a point on the sphere; the encoder's mean direction and concentration depend on parameters."""
    load = jnp.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1]])

    def model(theta):
        z = elbax.sample("z", HypersphericalUniform(3).expand((4,)))
        logits = jnp.tanh(z @ load) @ load.T * theta
        elbax.observe("x", elbax_bernoulli(logits), x)

    def guide(phi):
        elbax.sample("z", kind(x @ phi + jnp.array([0.1, 0.2, 0.3]), jnp.exp(x.sum(-1) * phi[0, 0])))

    return model, guide


def elbax_bernoulli(logits):
    import numpyro.distributions as dist

    return dist.Bernoulli(logits=logits).to_event(1)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@BOTH
def test_elbo_with_a_uniform_prior(kind):
    """Closed-form and sampled divergences have one mean, as have their gradients; sticking the landing too."""
    import equinox as eqx

    x = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    model, guide = autoencoder(kind, x)
    phi = jnp.array([[0.6, -0.2, 0.4], [0.3, 0.9, -0.5], [-0.7, 0.2, 0.8]])
    outcomes = []
    for analytic, estimator in ((True, Pathwise()), (False, Pathwise()), (False, Pathwise(stick=True))):
        bound = elbax.ELBO(eqx.Partial(model, jnp.asarray(1.2)), eqx.Partial(guide, phi), analytic_kl=analytic)
        assert ("KL(z)" in set(elbax.trace(bound).costs)) == analytic
        run = elbax.value_and_grad(lambda bound: bound(), estimator)

        def both(key, run=run, bound=bound):
            value, grads = run(key, bound)
            return value, grads.guide.args[0]

        outcomes.append(repeat(both, 40_000))
    (value, grad), *others = outcomes
    for sampled, sampled_grad in others:
        assert_mean(value - sampled, 0.0, resolution=0.1, scale=1.0)
        assert_mean(grad - sampled_grad, 0.0, resolution=0.1, scale=float(np.linalg.norm(grad.mean(0))))


# ------------------------------------------------------------------------------------------ conventions


@pytest.mark.parametrize("kind", [VonMisesFisher, pytest.param(PowerSpherical, marks=pytest.mark.slow)])
def test_shapes_and_trees(kind):
    d = kind(jnp.ones((4, 1, 5)), jnp.ones(3))
    assert (d.batch_shape, d.event_shape) == ((4, 3), (5,))
    z = d.sample(jax.random.key(0), (2,))
    assert z.shape == (2, 4, 3, 5)
    assert d.log_prob(z).shape == (2, 4, 3)
    assert d.mean.shape == d.variance.shape == (4, 3, 5)
    assert d.entropy().shape == kl_divergence(d, HypersphericalUniform(5)).shape == (4, 3)
    again = jax.jit(lambda d: d)(d)
    np.testing.assert_array_equal(again.sample(jax.random.key(0), (2,)), z)
    assert kind([0, 3], 2).concentration.dtype == jnp.float32


def test_uniform():
    d = HypersphericalUniform(4)
    z = d.sample(jax.random.key(0), (20_000,))
    assert bool(d.support(z).all())
    np.testing.assert_allclose(d.log_prob(z[:3]), -np.log(2 * np.pi**2), rtol=1e-6)
    assert_mean(z, d.mean, resolution=0.1, scale=1.0)
    assert_mean(z**2, d.variance, resolution=0.1)
    assert d.expand((3, 2)).sample(jax.random.key(0), (5,)).shape == (5, 3, 2, 4)
    assert d.entropy() == -d.log_prob(z[0])


def test_arguments():
    with pytest.raises(ConfigError, match="at least two numbers"):
        VonMisesFisher(jnp.ones(1), 1.0)
    with pytest.raises(ConfigError, match=r"shape \(3, 2\).*concentrations of shape \(4,\)"):
        VonMisesFisher(jnp.ones((3, 2)), jnp.ones(4))
    with pytest.raises(ValueError, match="concentration"):
        PowerSpherical(MU3, -1.0)
    with pytest.raises(ValueError, match="mean_direction"):
        VonMisesFisher(jnp.zeros(3), 1.0)
    with pytest.raises(ConfigError, match="dim=1"):
        HypersphericalUniform(1)


def test_observed_data_must_lie_on_the_sphere():
    on, off = jnp.array([0.6, 0.8, 0.0]), jnp.array([0.6, 0.9, 0.0])
    for d in (VonMisesFisher(MU3, 2.0), PowerSpherical(MU3, 2.0), HypersphericalUniform(3)):
        assert bool(lifted(d).in_support(on))
        assert not bool(lifted(d).in_support(off))


def test_a_concentration_that_is_no_number_ends():
    sample = jax.jit(lambda k: VonMisesFisher(MU3, k).sample(jax.random.key(0)))
    assert np.isnan(sample(jnp.nan)).all()
