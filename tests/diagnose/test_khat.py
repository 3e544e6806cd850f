"""Pareto k-hat where the tail of the weights is known."""

import json

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import elbax
from elbax.errors import ConfigError, ProgramError

X = np.zeros(200, np.float32)
DRAWS = 1000
TAIL = 3 * np.sqrt(DRAWS)  # weights that the fit sees


def unit_exponential(x):
    elbax.sample("z", dist.Exponential(1.0 + 0.0 * x))
    elbax.observe("x", dist.Normal(0.0, 1.0), x)


def unit_normal(x):
    elbax.sample("z", dist.Normal(0.0 * x, 1.0))
    elbax.observe("x", dist.Normal(0.0, 1.0), x)


def exponential_guide(rate):
    return lambda x: elbax.sample("z", dist.Exponential(rate + 0.0 * x))


def normal_guide(scale):
    return lambda x: elbax.sample("z", dist.Normal(0.0 * x, scale))


class TestTail:
    def test_exactly_pareto(self):
        """q = Exp(a), p = Exp(1): w = exp((a - 1) z) / a has P(w > t) ~ t^(-a / (a - 1)), so k = 1 - 1/a."""
        found = elbax.khat(unit_exponential, exponential_guide(4.0), X, key=jr.key(0), num_draws=DRAWS)
        k = (TAIL * 0.75 + 10 * 0.5) / (TAIL + 10)  # the prior of the fit: ten draws at 0.5
        error = found.values.std(ddof=1) / np.sqrt(len(X))
        assert error < 0.015
        # The fit itself is 0.01 to 0.02 too high with 95 draws.
        assert abs(found.values.mean() - k) < 5 * error + 0.02
        spread = (1 + 0.75) / np.sqrt(TAIL)
        assert found.values.std() == pytest.approx(spread, rel=0.3)
        assert len(found.unusable) == np.sum(found.values > 0.7) > 50
        assert "infinite variance in practice" in str(found)
        assert "elbax.bracket" in found.finding
        assert json.loads(json.dumps(found.as_dict()))["above_0.7"] == len(found.unusable)

    @pytest.mark.slow
    def test_narrow_normal(self):
        """q = N(0, s^2), p = N(0, 1): k = 1 - s^2, times `x (1 - cdf(x)) / pdf(x)` at x, where the tail begins.

        P(w > t) is t^(-1/k) over a root of log t, which the tail of 1000 draws sees as a smaller k: the logarithmic
        derivative of the quantiles of w over the largest tenth.
        """
        scale = 0.5
        found = elbax.khat(unit_normal, normal_guide(scale), X, key=jr.key(0), num_draws=DRAWS)
        x = stats.norm.isf(np.array([TAIL / DRAWS, 0.01 * TAIL / DRAWS]) / 2)
        low, high = (1 - scale**2) * x * stats.norm.sf(x) / stats.norm.pdf(x)
        assert low < found.values.mean() < high < 1 - scale**2

    @pytest.mark.slow
    def test_wide_normal(self):
        """Weights are bounded: k is below zero, and nothing stands against reweighting."""
        found = elbax.khat(unit_normal, normal_guide(1.5), X[:50], key=jr.key(0), batch_size=20)
        assert found.num_data == 50
        assert np.median(found.values) < 0.1
        assert "no k-hat of 50 data above 0.5" in found.finding

    def test_the_posterior_itself(self):
        found = elbax.khat(unit_normal, normal_guide(1.0), X[:3], key=jr.key(0))
        assert found.values.tolist() == [0.0, 0.0, 0.0]


class TestRefusals:
    def test_few_draws(self):
        with pytest.raises(ConfigError, match="num_draws must be at least 100"):
            elbax.khat(unit_normal, normal_guide(1.0), X, key=jr.key(0), num_draws=50)

    def test_shared_latent(self):
        def model(x):
            mean = elbax.sample("mean", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(mean, 1.0), x)

        with pytest.raises(ProgramError, match="shared by all data"):
            elbax.khat(model, lambda x: elbax.sample("mean", dist.Normal(0.0, 1.0)), jnp.ones(4), key=jr.key(0))
