"""Tests of a mean against a known value, with both error rates stated.

A test of this kind can fail by chance (rate `false_failure`, over all elements together) and can miss a real bias. It
would miss a bias of `effect` with probability at most `miss`: that is checked as well, so that a test with too few
draws to see anything fails instead of passing.
"""

import numpy as np
from scipy.stats import norm

FALSE_FAILURE = 1e-6
MISS = 1e-3


def assert_mean(draws, expected, *, effect, false_failure=FALSE_FAILURE, miss=MISS):
    """The mean of independent draws is `expected`.

    Args:
        draws: one draw per row. Shape `[num_draws, ...]`.
        expected: their exact mean. Shape `[...]`.
        effect: the bias that must not be missed, in the unit of the draws (a number or an array of that shape).
        false_failure: probability that the test fails although the mean is right.
        miss: probability that a bias of `effect` in one element goes unseen.
    """
    draws, expected = np.asarray(draws, float), np.asarray(expected, float)
    num_draws = len(draws)
    error = draws.std(0, ddof=1) / np.sqrt(num_draws)
    threshold = norm.isf(false_failure / (2 * max(expected.size, 1)))
    detectable = (threshold + norm.isf(miss)) * error
    assert np.all(detectable <= effect), (
        f"{num_draws} draws are too few: a bias below {np.max(detectable):.3g} could go unseen, {effect} was asked for"
    )
    z = np.abs(draws.mean(0) - expected) / np.where(error > 0, error, np.finfo(float).tiny)
    exact = np.isclose(draws.mean(0), expected, rtol=1e-9, atol=1e-12)
    assert np.all((z < threshold) | exact), f"mean {draws.mean(0)} is not {expected}: z = {z}"
