"""ARM, DisARM, ARMS: exact over their own noise, and unbiased on every construct."""

import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators import antithetic
from tests.oracles import binary
from tests.oracles.binary import LOGITS
from tests.oracles.cases import BINARY, assert_estimator, ids, inside_grad, over_data, samples_of
from tests.oracles.statistics import repeat

pytestmark = pytest.mark.usefixtures("x64")

ALL = [elbax.ARM(), elbax.DisARM(), elbax.ARMS(2), elbax.ARMS(3), elbax.ARMS(4)]
PROBED = [c for c in BINARY if not c.loop]


def logistic_outcomes():
    """Noise and probabilities: `u` in the middle of the ranges in which neither draw changes."""
    choices, probs = [], []
    for a in LOGITS:
        high = 1 / (1 + np.exp(-abs(a)))
        u = np.array([(1 - high) / 2, 0.5, (1 + high) / 2])
        choices.append(np.log(u) - np.log1p(-u))
        probs.append([1 - high, 2 * high - 1, 1 - high])
    return binary.every(choices, probs)


def copula_outcomes(k):
    """Which draws take the rarer outcome, from the survival function of the uniform distribution on the simplex."""
    patterns = list(itertools.product([False, True], repeat=k))
    choices, probs = [], []
    for a in LOGITS:
        m = 1 / (1 + np.exp(abs(a)))
        threshold = 1 - m ** (1 / (k - 1))
        all_of = [max(0.0, 1 - n * threshold) ** (k - 1) for n in range(k + 1)]
        p = []
        for pattern in patterns:
            n, rest = sum(pattern), k - sum(pattern)
            inclusion = [
                (-1) ** i * len(list(itertools.combinations(range(rest), i))) * all_of[n + i] for i in range(rest + 1)
            ]
            p.append(sum(inclusion))
        choices.append(patterns)
        probs.append(p)
    rows, weights = binary.every(choices, probs)
    return np.moveaxis(rows, 2, 1), weights  # [outcomes, draws, elements]


def expected(estimator, rows, weights, module, name, node="logits"):
    """The mean estimate when a function that makes noise returns each of `rows`."""
    run = elbax.value_and_grad(binary.program, {"b": estimator})

    def one(row):
        with mock.patch.object(module, name, return_value=row):
            return run(jax.random.key(0), jnp.asarray(LOGITS), node)[1]

    return weights @ np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(rows)))


@pytest.mark.parametrize("estimator", ALL[:2], ids=repr)
@pytest.mark.parametrize("node", [n for n in binary.NODES if "copied" not in n])
def test_exact_over_the_noise_of_the_pair(estimator, node):
    found = expected(estimator, *logistic_outcomes(), jax.random, "logistic", node)
    np.testing.assert_allclose(found, binary.exact(LOGITS), rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_exact_over_the_noise_of_the_copula(k):
    found = expected(elbax.ARMS(k), *copula_outcomes(k), antithetic, "_upper_tail")
    np.testing.assert_allclose(found, binary.exact(LOGITS), rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_copula_has_its_joint_distribution(k, key):
    """Pairs take the rarer outcome together as often as the weights say."""
    m, n = 0.4, 200_000
    rare = antithetic._upper_tail(jax.random.exponential(key, (k, n)), jnp.log(m))
    both = max(0.0, 2 * m ** (1 / (k - 1)) - 1) ** (k - 1)
    for found, wanted in ((rare.mean(), m), ((rare[0] & rare[-1]).mean(), both)):
        assert abs(float(found) - wanted) < 5 * np.sqrt(max(wanted * (1 - wanted), 1e-9) / n)


def test_two_antithetic_draws_are_disarm():
    """ARMS(2) weighs a difference of two draws as DisARM does."""
    variances = [samples_of(BINARY[3], e, num=40_000)[0].var(0).sum() for e in (elbax.DisARM(), elbax.ARMS(2))]
    np.testing.assert_allclose(variances[0], variances[1], rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("case", PROBED, ids=ids)
def test_unbiased(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
@pytest.mark.parametrize("estimator", ALL[1::2], ids=repr)
def test_unbiased_within_other_transformations(estimator, wrap):
    assert_estimator(BINARY[3], estimator, wrap=wrap)


@pytest.mark.parametrize("case", [BINARY[3], BINARY[5]], ids=ids)
@pytest.mark.parametrize("estimator", [ALL[1], ALL[3]], ids=repr)
def test_unbiased_in_short(case, estimator):
    assert_estimator(case, estimator, num=40_000, resolution=0.25)


def test_variances_are_in_the_order_of_theory():
    """DisARM integrates out what is left of ARM's noise; draws of RLOO are not antithetic."""

    def additive(logits):
        return 1.0 * elbax.sample("b", dist.Bernoulli(logits=logits)) @ jnp.linspace(-1.0, 2.0, 5)

    def variance(estimator):
        run = elbax.value_and_grad(additive, {"b": estimator})
        return repeat(lambda key: run(key, jnp.linspace(-1.5, 2.0, 5))[1], 20_000).var(0).sum()

    arm, disarm, three, four = map(variance, (*ALL[:2], *ALL[3:]))
    assert arm > disarm > three > four
    assert variance(elbax.RLOO(2)) > 1.1 * disarm
    assert variance(elbax.RLOO(3)) > 1.1 * three


@pytest.mark.parametrize("estimator", [ALL[1], ALL[3]], ids=repr)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_saturated_logits(estimator, dtype):
    """Finite gradients, and compiled or not they are the same."""
    logits = jnp.array([-40.0, 40.0, 0.5], dtype)
    run = elbax.value_and_grad(binary.program, {"b": estimator})
    for node in ("logits", "probs"):
        eager = [run(jax.random.key(i), logits, node)[1] for i in range(2)]
        compiled = [jax.jit(run, static_argnums=2)(jax.random.key(i), logits, node)[1] for i in range(2)]
        assert np.isfinite(eager).all()
        np.testing.assert_allclose(eager, compiled, rtol=1e-4 if dtype == jnp.float32 else 1e-12, atol=1e-12)


def test_refusals():
    def normal(theta):
        return elbax.sample("z", dist.Normal(theta, 1.0)) ** 2

    for estimator in ALL[:3]:
        with pytest.raises(EstimatorError, match="its distribution Normal is not Bernoulli"):
            elbax.surrogate(normal, {"z": estimator})(jax.random.key(0), 0.3)
        with pytest.raises(EstimatorError, match="it stands in a loop of 5 steps"):
            elbax.surrogate(BINARY[6].program, {"s": estimator})(jax.random.key(0), jnp.asarray(LOGITS))
    with pytest.raises(ConfigError, match=r"ARMS\(num_samples=1\)"):
        elbax.ARMS(1)
