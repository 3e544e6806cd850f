"""A fit that measures which estimators to use."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError, RunError

NEVER = elbax.Stopping(stationary=None, patience=None, divergence=None)


def model(x):
    b = elbax.sample("b", dist.Bernoulli(0.4).expand([len(x)]))
    elbax.observe("x", dist.Normal(2.0 * b, 1.0), x)


def _guide(params, x):
    elbax.sample("b", dist.Bernoulli(logits=params[0] + params[1] * x))


def run(**options):
    x = np.random.default_rng(0).normal(1.0, 1.4, 60).astype(np.float32)
    options = {"estimators": "adapt", "max_steps": 100, "log_every": 50, "stopping": NEVER} | options
    return elbax.fit(model, eqx.Partial(_guide, jnp.zeros(2)), x, key=jr.key(0), **options)


def test_choices_are_measured_recorded_and_kept(tmp_path):
    fitted = run(checkpoint=tmp_path)
    assert "(measured in a warm-up)" in fitted.plan["b"]
    # Times differ from run to run; a resumed run takes what was chosen.
    resumed = run(checkpoint=tmp_path, resume=True, max_steps=200)
    assert resumed.plan == fitted.plan
    assert resumed.steps == 200


def test_a_run_that_did_not_adapt_cannot_be_resumed_so(tmp_path):
    run(checkpoint=tmp_path, estimators=None)
    with pytest.raises(RunError, match='not started with estimators="adapt"'):
        run(checkpoint=tmp_path, resume=True)


def test_other_words_are_refused():
    with pytest.raises(ConfigError, match="estimators, or \"adapt\"; got 'adpat'"):
        run(estimators="adpat")
