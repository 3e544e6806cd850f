"""The gap and its two parts where both are known: linear-Gaussian models with a mean-field guide."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import elbax
from elbax.errors import ConfigError

stats: Any = scipy.stats  # whose types its stubs do not tell

DIM, PIXELS, NOISE = 3, 4, 0.7
W = np.random.default_rng(0).normal(size=(PIXELS, DIM))
PRECISION = np.eye(DIM) + W.T @ W / NOISE**2


def model(x):
    z = elbax.sample("z", dist.Normal(jnp.zeros((len(x), DIM)), 1.0).to_event(1))
    elbax.observe("x", dist.Normal(z @ jnp.asarray(W, jnp.float32).T, NOISE).to_event(1), x)


class Guide(eqx.Module):
    """The posterior mean, shifted by `shift`, and given standard deviations."""

    shift: float
    scale: jax.Array

    def __call__(self, x):
        loc = x @ jnp.asarray(np.linalg.solve(PRECISION, W.T / NOISE**2).T, jnp.float32) + self.shift
        elbax.sample("z", dist.Normal(loc, self.scale).to_event(1))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, DIM)) @ W.T + NOISE * rng.normal(size=(6, PIXELS))
    exact = stats.multivariate_normal(np.zeros(PIXELS), W @ W.T + NOISE**2 * np.eye(PIXELS)).logpdf(x)
    return jnp.asarray(x, jnp.float32), exact


BEST = jnp.asarray(1 / np.sqrt(np.diag(PRECISION)), jnp.float32)
APPROXIMATION = 0.5 * (np.log(np.diag(PRECISION)).sum() - np.linalg.slogdet(PRECISION)[1])


def amortisation(shift, scale):
    """KL to the best mean-field Gaussian, measured in the ELBO."""
    diagonal, ratio = np.diag(PRECISION), np.asarray(scale) ** 2 * np.diag(PRECISION)
    del diagonal
    quadratic = 0.5 * np.full(DIM, shift) @ PRECISION @ np.full(DIM, shift)
    return quadratic + 0.5 * np.sum(ratio - 1 - np.log(ratio))


@pytest.mark.slow
def test_parts_of_the_gap(data, tmp_path):
    x, exact = data
    guide = Guide(0.3, 1.5 * BEST)
    found = elbax.gap(model, guide, x, key=jr.key(0), num_particles=2000)
    expected = amortisation(0.3, 1.5 * BEST)
    assert found.settled
    assert abs(found.amortisation.value - expected) < 5 * found.amortisation.std_error + 0.01
    low, high = found.approximation
    noise = 5 * np.sqrt(found.amortisation.std_error**2 + found.refined_elbo.std() ** 2 / 2000)
    assert low - noise < APPROXIMATION < high + noise
    assert found.bracket.mean_lower < exact.mean() < found.bracket.mean_upper
    assert found.plot(tmp_path / "gap.png").stat().st_size > 5_000
    for words in ("approximation", "amortisation", "most of the gap is"):
        assert words in str(found)


@pytest.mark.slow
def test_best_guide_has_no_amortisation_gap(data):
    x, _ = data
    guide = Guide(0.0, BEST)
    bracket = elbax.bracket(model, guide, x, key=jr.key(1), target=0.2)
    found = elbax.gap(model, guide, x, key=jr.key(0), bracket=bracket, max_steps=600)
    assert abs(found.amortisation.value) < 0.01
    assert found.bracket is bracket


def test_discrete_latents_are_refused():
    def discrete(x):
        k = elbax.sample("k", dist.Bernoulli(0.5).expand([len(x)]))
        elbax.observe("x", dist.Normal(1.0 * k, 1.0), x)

    def guide(x):
        elbax.sample("k", dist.Bernoulli(logits=x))

    with pytest.raises(ConfigError, match=r"site 'k' .* is Bernoulli, whose draws have no derivative"):
        elbax.gap(discrete, guide, jnp.ones(2), key=jr.key(0))


def test_bracket_of_other_data(data):
    x, _ = data
    two = np.zeros(2)
    bracket = elbax.Bracket(two, two, 0.0, 0.0, 0.95, two, two, num_particles=1, ess=np.ones(2))
    with pytest.raises(ConfigError, match="of 2 data, but 6 were given"):
        elbax.gap(model, Guide(0.0, BEST), x, key=jr.key(0), bracket=bracket)
