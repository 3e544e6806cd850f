"""Pathwise and score gradients of one expectation agree, for every distribution of NumPyro that has both."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax import Pathwise, Score
from elbax.graph.distributions import Lifted, take_apart
from elbax.graph.draws import jumps_in_draw, unseen_by_density
from tests.oracles.distributions import INSTANCES, public_names
from tests.oracles.statistics import mean_test, repeat


def test_every_distribution_has_an_instance():
    assert public_names() <= set(INSTANCES)


def lifted(name):
    structure, leaves = take_apart(INSTANCES[name](), name)
    return Lifted(structure, leaves)


CLAIM = [n for n in INSTANCES if lifted(n).has_rsample]


@pytest.mark.parametrize("name", sorted(INSTANCES))
def test_claims_of_differentiable_draws_are_believed_only_if_true(name):
    """NumPyro's own claims are all true; where it makes none, draws do jump, or it is only being careful."""
    careful = {"DiscreteUniform", "EulerMaruyama", "GaussianStateSpace", "InverseWishart", "InverseWishartCholesky"}
    careful |= {"Levy", "Wishart", "WishartCholesky"}
    d = lifted(name)
    if d.has_rsample:
        assert not jumps_in_draw(d)
    elif name not in careful:
        assert jumps_in_draw(d)


MOVING = {"Delta", "DoublyTruncatedPowerLaw", "LogUniform", "LowerTruncatedPowerLaw", "Pareto", "Uniform"}


@pytest.mark.parametrize("name", sorted(INSTANCES))
def test_supports_that_move(name):
    moves = name in MOVING or ("Trunc" in name and name != "TruncatedPolyaGamma")
    assert bool(unseen_by_density(lifted(name))) == moves


# All their parameters move the support, or they have none.
SKIP = {"Delta", "TruncatedPolyaGamma", "Uniform", "LogUniform"}


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", sorted(set(CLAIM) - SKIP))
def test_pathwise_and_score_gradients_agree(name):
    """Both estimate the derivative of `E sum f(z)` for an `f` with a bounded derivative, also times z.

    False failures: 1e-6 for each distribution. A bias as large as a third of a typical sample would be seen (1 - 1e-3).
    """

    def program(s):
        z = elbax.sample("z", INSTANCES[name](s))
        return jnp.sum(jnp.arctan(z - 0.3) + 0.3 * jnp.arctan(z) ** 2 * jnp.arange(1, 1 + z.size).reshape(z.shape))

    pathwise, score = elbax.value_and_grad(program, Pathwise()), elbax.value_and_grad(program, Score())

    def both(key):
        one, two = jax.random.split(key)
        return jnp.stack([pathwise(one, 0.0)[1], score(two, 0.0)[1]])

    num = {"Dirichlet": 120_000, "LKJCholesky": 80_000}.get(name, 40_000)  # small gradients
    samples = repeat(both, num, batch=4000)
    outcome = mean_test(samples[:, 0] - samples[:, 1], 0.0)
    assert outcome.passes, (outcome.z, samples.mean(0))
    assert outcome.smallest_bias.max() < 0.35 * np.abs(samples[:, 0]).mean()


def test_masked_elements_are_drawn_and_so_have_a_score():
    """A mask takes an element out of a bound, not out of what is drawn: its score counts."""

    def program(theta, *, masked):
        d = dist.Bernoulli(logits=theta * jnp.ones(2))
        z = elbax.sample("z", d.mask(jnp.array([True, False])) if masked else d)
        return (z * jnp.array([1.0, 3.0])).sum()

    for seed in range(5):
        key = jax.random.key(seed)
        plain = elbax.value_and_grad(lambda t: program(t, masked=False), Score())(key, 0.3)
        masked = elbax.value_and_grad(lambda t: program(t, masked=True), Score())(key, 0.3)
        assert plain == masked


@pytest.mark.parametrize(
    ("d", "moves"),
    [
        (lambda t: dist.Uniform(0.0, t), True),
        (lambda t: dist.Uniform(0.0, jax.lax.stop_gradient(t)), False),
        (lambda t: dist.Uniform(0.0, t * jnp.ones(2)).to_event(1), True),
        (lambda t: dist.TruncatedNormal(t, 1.0, low=0.0), False),
        (lambda t: dist.TruncatedNormal(0.0, 1.0, low=t), True),
        (lambda t: dist.Delta(t), True),
        (lambda t: dist.Delta(t).expand((2,)).to_event(1), True),
        (lambda t: dist.Pareto(t, 2.0), True),
        (lambda t: dist.Pareto(1.0, t), False),
        (lambda t: dist.TransformedDistribution(dist.Uniform(0.0, t), dist.transforms.ExpTransform()), True),
    ],
)
def test_score_refuses_a_support_that_moves_with_what_is_differentiated(d, moves):
    def program(theta, data):
        return jnp.floor(3 * elbax.sample("u", d(theta))).sum() * data

    def in_a_loop(theta, data):
        return jax.lax.scan(lambda c, _: (c, program(theta, data)), 0.0, None, length=2)[1]

    for p in (program, in_a_loop):
        run = elbax.value_and_grad(p, Score())
        other = elbax.value_and_grad(p, Score(), argnums=1)(jax.random.key(0), 1.2, 0.7)  # nothing moves with data
        assert np.isfinite(other[0])
        if not moves:
            assert np.isfinite(run(jax.random.key(0), 1.2, 0.7)[1])
            continue
        message = r"(?s)site 'u' \(test_pathwise.py:\d+\) .* support of its .* moves with .*Draw from a fixed support"
        for call in (run, jax.jit(run)):
            with pytest.raises(elbax.EstimatorError, match=message):
                call(jax.random.key(0), 1.2, 0.7)
