"""Draws of mixtures and of the von Mises distribution: their derivatives against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import EstimatorError, Pathwise, Score
from elbax.estimators.implicit import _mixture, _von_mises
from tests.oracles.statistics import assert_mean, mean_test, repeat

pytestmark = pytest.mark.usefixtures("x64")


def grid(low, high, num=4001):
    x, w = np.polynomial.legendre.leggauss(num // 20)
    x, w = (x + 1) / 2, w / 2
    edges = np.linspace(low, high, 21)[:-1]
    step = (high - low) / 20
    return jnp.asarray((edges[:, None] + step * x).ravel()), jnp.asarray(np.tile(step * w, 20))


def cost(z):
    return jnp.sin(1.3 * z) + 0.2 * z**2


def mixture(t):
    mixing = dist.Categorical(logits=jnp.stack([t, -t, 0.3]))
    return dist.MixtureSameFamily(mixing, dist.Normal(jnp.stack([t - 1, t**2, 1.5]), jnp.stack([0.5, 0.4 + t, 0.7])))


def positive(t):
    mixing = dist.Categorical(probs=jnp.stack([0.3 + 0.0 * t, 0.7]))
    return dist.MixtureSameFamily(mixing, dist.Gamma(jnp.stack([1.5 + t, 4.0]), jnp.stack([1.0, 2 + t])))


SCALARS = {
    "mixture of Normals": (mixture, (-7.0, 8.0)),
    "mixture of Gammas": (positive, (0.0, 40.0)),
    "von Mises": (lambda t: dist.VonMises(t - 0.2, 1 + 2 * t), (-np.pi, np.pi)),
    "Gamma": (lambda t: dist.Gamma(1 + t, 1.4), (0.0, 40.0)),
    "Beta": (lambda t: dist.Beta(1.5 + t, 2 - t), (0.0, 1.0)),
    "StudentT": (lambda t: dist.StudentT(8 + 10 * t, t, 0.7), (-40.0, 40.0)),
}


@pytest.mark.parametrize("name", SCALARS)
def test_one_number_against_quadrature(name):
    make, (low, high) = SCALARS[name]
    theta = jnp.asarray(0.4)
    x, w = grid(low, high)
    f = (lambda z: jnp.sin(z - 0.5) + 0.4 * jnp.cos(2 * z)) if name == "von Mises" else cost  # a circle has no ends
    exact = jax.grad(lambda t: jnp.sum(w * jnp.exp(make(t).log_prob(x)) * f(x)))(theta)
    run = elbax.value_and_grad(lambda t: f(elbax.sample("z", make(t))), Pathwise())
    samples = repeat(lambda k: run(k, theta)[1], 40_000)
    assert_mean(samples, exact, resolution=0.1, scale=max(0.2, abs(float(exact))))


@pytest.mark.parametrize("kappa", [0.01, 0.7, 3.0, 30.0, 500.0])
def test_derivative_of_a_von_mises_draw(kappa):
    """`- dF/dkappa / p` by quadrature of the density's derivative, at all angles that are ever drawn."""
    reach = min(3.1, 5 / np.sqrt(kappa))
    for angle in (-reach, -0.4 * reach, 0.1 * reach, 0.5 * reach, reach):
        path = jax.jvp(lambda k, a=angle: _von_mises(dist.VonMises(0.0, k), jnp.asarray(a)), (kappa,), (1.0,))[1]
        s, w = grid(0.0, abs(angle))
        shift = jax.jvp(lambda k, s=s, w=w: jnp.sum(w * jnp.exp(dist.VonMises(0.0, k).log_prob(s))), (kappa,), (1.0,))[
            1
        ]
        exact = -np.sign(angle) * shift / np.exp(dist.VonMises(0.0, kappa).log_prob(angle))
        np.testing.assert_allclose(path, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_vector_of_a_mixture_against_quadrature():
    """Components factorise, their mixture does not: the cost looks at both numbers."""

    def make(t):
        loc = jnp.stack([jnp.stack([t, -1.0]), jnp.stack([-0.8, t**2]), jnp.stack([1.2, 1.0 - t])])
        scale = jnp.stack([jnp.stack([0.6, 0.4 + t]), jnp.stack([0.5, 0.7]), jnp.stack([0.3 + t, 0.5])])
        mixing = dist.Categorical(logits=jnp.stack([t, -t, 0.2]))
        return dist.MixtureSameFamily(mixing, dist.Normal(loc, scale).to_event(1))

    def f(z):
        return jnp.sin(z[..., 0] * z[..., 1]) + z[..., 0] * jnp.cos(z[..., 1])

    theta = jnp.asarray(0.4)
    x, w = grid(-6.0, 6.0, 401)
    points = jnp.stack(jnp.meshgrid(x, x, indexing="ij"), -1)
    exact = jax.grad(lambda t: jnp.sum(w[:, None] * w * jnp.exp(make(t).log_prob(points)) * f(points)))(theta)
    run = elbax.value_and_grad(lambda t: f(elbax.sample("z", make(t))), Pathwise())
    samples = repeat(lambda k: run(k, theta)[1], 60_000)
    assert_mean(samples, exact, resolution=0.2, scale=0.5)
    score = elbax.value_and_grad(lambda t: f(elbax.sample("z", make(t))), Score())
    assert samples.var() < repeat(lambda k: score(k, theta)[1], 4000).var()


def test_conditional_distribution_functions_stay_what_they_were():
    """Exactly: along the path of a draw of three numbers, `P(z_i | z_(<i))` does not move."""
    locs = jnp.array([[0.3, -1.0, 0.2], [-0.8, 0.5, 0.9]])

    def make(t):
        mixing = dist.Categorical(logits=jnp.stack([t, 0.4 - t]))
        return dist.MixtureSameFamily(mixing, dist.Normal(locs * t, jnp.exp(t * locs)).to_event(1))

    def conditionals(t, z):
        normal, log_w, found = dist.Normal(locs * t, jnp.exp(t * locs)), jnp.log(make(t).mixing_distribution.probs), []
        for i in range(3):
            found.append(jax.nn.softmax(log_w) @ normal.cdf(z)[:, i])
            log_w = log_w + normal.log_prob(z)[:, i]
        return jnp.stack(found)

    theta = jnp.asarray(0.7)
    for z in jax.random.normal(jax.random.key(0), (5, 3)):
        path = jax.jvp(lambda t, z=z: _mixture(make(t), z), (theta,), (1.0,))[1]
        moved = jax.jvp(conditionals, (theta, z), (jnp.ones(()), path))[1]
        np.testing.assert_allclose(moved, 0.0, atol=1e-12)


def test_dirichlet_agrees_with_the_score_function():
    """Every component, with a weight of its own: the test of all distributions has one number only."""
    f = lambda z: jnp.sin(3 * z[0]) + z[1] * z[2] ** 2  # noqa: E731
    program = lambda a: f(elbax.sample("z", dist.Dirichlet(a)))  # noqa: E731
    a = jnp.array([0.8, 1.7, 2.4])
    pathwise, score = elbax.value_and_grad(program, Pathwise()), elbax.value_and_grad(program, Score())
    one = repeat(lambda k: pathwise(k, a)[1], 40_000)
    two = repeat(lambda k: score(k, a)[1], 40_000, key=jax.random.key(1))
    assert mean_test(one - two, 0.0).passes
    assert np.all(one.var(0) < two.var(0))


@pytest.mark.slow
def test_constructs_and_the_rule():
    """In a loop, under `vmap`, expanded and masked; the rule finds mixtures pathwise, and circles only if asked."""

    def program(t):
        def body(c, _):
            z = elbax.sample("z", mixture(t).expand((2,)).mask(jnp.array([True, False])))
            return c + jnp.sin(z).sum(), None

        total, _ = lax.scan(body, 0.0, None, length=2)
        angles = jax.vmap(lambda x: elbax.sample("a", dist.VonMises(t * x, 2.0)))(jnp.arange(1.0, 4.0))
        return total + jnp.cos(angles - 0.3).sum()

    theta = jnp.asarray(0.4)
    x, w = grid(-7.0, 8.0)

    def exact(t):
        ratio = jax.scipy.special.i1e(2.0) / jax.scipy.special.i0e(2.0)
        means = ratio * jnp.cos(t * jnp.arange(1.0, 4.0) - 0.3)
        return 4 * jnp.sum(w * jnp.exp(mixture(t).log_prob(x)) * jnp.sin(x)) + means.sum()

    run = elbax.value_and_grad(program, {"a": Pathwise()})
    assert_mean(repeat(lambda k: run(k, theta)[1], 20_000), jax.grad(exact)(theta), resolution=0.1)
    assert "Pathwise" in elbax.trace(program, theta).plan["z"]
    assert "on a circle" in elbax.trace(program, theta).plan["a"]
    for dtype in (jnp.float32, jnp.float64):
        t = jnp.asarray(0.4, dtype)
        np.testing.assert_allclose(
            run(jax.random.key(0), t)[1], jax.jit(run)(jax.random.key(0), t)[1], rtol=1e-3, atol=1e-3
        )


def test_mixtures_without_a_distribution_function_are_refused():
    def program(t):
        mixing = dist.Categorical(logits=jnp.zeros(2))
        return elbax.sample("z", dist.MixtureSameFamily(mixing, dist.Beta(jnp.stack([t, 2 * t]), 2.0)))

    with pytest.raises(EstimatorError, match=r"'z' .*MixtureSameFamily is not reparameterised"):
        elbax.value_and_grad(program, Pathwise())(jax.random.key(0), 1.2)
