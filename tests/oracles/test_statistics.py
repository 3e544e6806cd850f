"""The tests of means keep their own promises."""

import numpy as np
import pytest

from tests.oracles.statistics import assert_mean, mean_test, z_limit


def test_limits():
    assert z_limit(1, 0.05) == pytest.approx(1.96, abs=0.01)
    assert z_limit(1) == pytest.approx(4.89, abs=0.01)
    assert z_limit(100) > z_limit(1)


def test_rate_of_false_failures():
    rng = np.random.default_rng(0)
    failures = sum(not mean_test(rng.normal(size=(50, 3)), np.zeros(3), false_failure=0.1).passes for _ in range(4000))
    # Normal quantiles on 50 samples fail a little more often than promised (Student's t): 10% becomes 11 to 12%.
    assert 0.08 < failures / 4000 < 0.14


def test_rate_of_misses():
    rng = np.random.default_rng(1)
    missed, total = 0, 2000
    for _ in range(total):
        samples = rng.normal(size=(400, 1))
        bias = mean_test(samples, 0.0, false_failure=1e-3, miss=0.1).smallest_bias
        missed += mean_test(samples + bias, 0.0, false_failure=1e-3).passes
    assert missed / total < 0.1 + 3 * np.sqrt(0.09 / total)


def test_a_bias_fails():
    samples = np.random.default_rng(2).normal(size=(10_000, 2))
    assert_mean(samples, [0.0, 0.0], resolution=0.1, scale=1.0)
    with pytest.raises(AssertionError, match="z = "):
        assert_mean(samples + np.array([0.0, 0.1]), [0.0, 0.0], resolution=0.1, scale=1.0)


def test_too_few_samples_fail():
    with pytest.raises(AssertionError, match="draw more samples"):
        assert_mean(np.random.default_rng(3).normal(size=(50, 2)), [0.0, 0.0], resolution=0.1, scale=1.0)


def test_without_spread_it_has_to_be_exact():
    assert mean_test(np.ones((10, 1)), 1.0).passes
    assert not mean_test(np.ones((10, 1)), 1.0 + 1e-6).passes
