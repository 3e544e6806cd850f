"""Signal and noise of gradients that are known."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError

X = np.linspace(-1.0, 2.0, 20).astype(np.float32)


def model(x):
    z = elbax.sample("z", dist.Normal(jnp.zeros(len(x)), 1.0))
    elbax.observe("x", dist.Normal(z, 1.0), x)


class Guide(eqx.Module):
    loc: jax.Array
    log_scale: jax.Array
    dead: jax.Array

    def __call__(self, x):
        unused = jax.nn.relu(self.dead).sum()
        elbax.sample("z", dist.Normal(self.loc + unused + jnp.zeros(len(x)), jnp.exp(self.log_scale)))


def guide(loc):
    return Guide(jnp.array(loc), jnp.array(-0.5), jnp.array([-1.0, -2.0]))


@pytest.fixture(scope="module")
def found():
    return elbax.gradient_health(elbax.ELBO(model, guide(1.0)), X, key=jr.key(0), num_draws=4800)


def test_against_the_closed_form(found):
    """The derivative by the mean is `mean_n(z_n - x_n) + loc`: expectation 2 loc - mean x, variance s^2/n."""
    (loc,) = (p for p in found.parameters if p.path == "guide.loc")
    norm, variance = 2 * 1.0 - X.mean(), np.exp(-1.0) / len(X)
    assert loc.norm == pytest.approx(norm, rel=0.02)
    assert loc.variance == pytest.approx(variance, rel=0.15)
    snr = norm / np.sqrt(variance)
    assert abs(loc.snr - snr) < 5 * loc.snr_error
    assert loc.snr_error < 0.05 * snr
    assert loc.word == ""


def test_dead_parameters_are_named(found):
    assert found.dead == ("guide.dead",)
    assert "no gradient reaches 'guide.dead': exactly zero in all 4,800 draws" in str(found)
    assert "dead" in found.parameters[2].word
    assert json.loads(json.dumps(found.as_dict()))["parameters"]["guide.dead"]["dead"]


def test_noise_is_named():
    """At the optimum of the mean, there is no signal."""
    bound = elbax.ELBO(model, guide(float(X.mean()) / 2))
    found = elbax.gradient_health(bound, X, key=jr.key(0), num_draws=2048)
    assert found.noisy == ("guide.loc",)
    assert "mostly noise at 'guide.loc'" in str(found)
    assert found.total.num_zero == 2


@pytest.mark.slow
def test_estimators_that_learn():
    bound = elbax.ELBO(model, guide(1.0))
    score = elbax.Score(baseline=elbax.MovingAverage())
    found = elbax.gradient_health(bound, X, key=jr.key(0), num_draws=512, estimators={"z": score})
    assert "MovingAverage" in found.plan["z"]
    (loc,) = (p for p in found.parameters if p.path == "guide.loc")
    assert abs(loc.norm - (2 - X.mean())) < 5 * np.sqrt(loc.variance / 512)


class TestRefusals:
    def test_draws(self):
        with pytest.raises(ConfigError, match="num_draws must be at least 32"):
            elbax.gradient_health(elbax.ELBO(model, guide(1.0)), X, key=jr.key(0), num_draws=8)

    def test_nothing_to_differentiate(self):
        def fixed(x):
            elbax.sample("z", dist.Normal(x, 1.0))

        with pytest.raises(ConfigError, match="there is nothing to train"):
            elbax.gradient_health(elbax.ELBO(model, fixed), X, key=jr.key(0))
