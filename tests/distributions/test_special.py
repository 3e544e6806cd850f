"""Special functions against SciPy, and against mpmath in 60 digits where SciPy underflows or cancels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from elbax.distributions.special import log_gamma_ratio, mean_cosine, mean_shortfall, shortfall, tangent_variance

# m, kappa, kappa - log E exp(kappa w), A, 1 - A, A': by mpmath 1.4, besseli in 60 digits
TABLE = [
    (2, 0.0001, 9.9997500000001567e-5, 4.9999999937500003e-5, 0.9999500000000625, 0.49999999812500001),
    (2, 3.0, 1.4146923781865791, 0.80998529395650453, 0.19001470604349547, 0.073928725588693442),
    (2, 100000.0, 6.6754000156835369, 0.99999499998749987, 5.000012500125002e-6, 5.0000250003750078e-11),
    (3, 0.5, 0.45867514538708189, 0.16395341373865285, 0.83604658626134715, 0.31730562316883072),
    (11, 0.001, 0.00099995454545470441, 9.090909027336301e-5, 0.99990909090972664, 0.090909089001907222),
    (11, 50.0, 13.603977086271699, 0.90407385035894313, 0.095926149641056868, 0.0018357030253666749),
    (11, 10000.0, 39.894664162935445, 0.9995001000099965, 0.0004998999900035017, 4.997999700140085e-8),
    (49, 20.0, 16.19220584001369, 0.35758998206905385, 0.64241001793094615, 0.013913447758124496),
    (50, 0.0001, 9.9999900000000005e-5, 1.9999999999923078e-6, 0.99999800000000001, 0.019999999999769231),
    (51, 100000.0, 215.37380160500693, 0.99975003000029955, 0.00024996999970044552, 2.4993999910178209e-9),
    (300, 1.0, 0.99833334253113852, 0.0033332965423815021, 0.9966667034576185, 0.0033332229620914252),
    (300, 400.0, 220.82968803839351, 0.69352728728507517, 0.30647271271492483, 0.00060825454541111916),
    (300, 100000.0, 1018.9238993719819, 0.99850611004798443, 0.0014938899520155741, 1.4927798941626946e-8),
    (500, 2000.0, 611.71078921955279, 0.88297411099976666, 0.11702588900023334, 5.467860972995734e-5),
]


@functools.partial(jax.jit, static_argnums=1)
def everything(kappa, m):
    first, second = jax.grad(shortfall), jax.grad(jax.grad(shortfall))
    values = shortfall(kappa, m), mean_cosine(kappa, m), mean_shortfall(kappa, m), tangent_variance(kappa, m)
    return jnp.stack([*values, first(kappa, m), jax.grad(mean_cosine)(kappa, m), -second(kappa, m)])


@pytest.mark.parametrize(("x64", "limit"), [pytest.param(True, 2e-13, marks=pytest.mark.slow), (False, 2e-5)])
def test_table(x64, limit):
    """Single precision too: no entry is the difference of two large numbers."""
    with jax.enable_x64(x64):
        for m, kappa, value, a, rest, slope in TABLE:
            found = np.asarray(everything(jnp.asarray(kappa, float), m), np.float64)
            exact = [value, a, rest, a / kappa, rest, slope, slope]
            np.testing.assert_allclose(found, exact, rtol=limit, err_msg=f"{m}, {kappa}")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("m", [2, 3, 11, 50, 120])
def test_against_scipy(m):
    """`log I_nu` and the ratio of neighbours, wherever `ive` is a number and `log I_nu` is not lost to rounding."""
    kappa = np.logspace(0, 5, 41)
    low, high = scipy.special.ive(m / 2 - 1, kappa), scipy.special.ive(m / 2, kappa)
    exact = (m / 2 - 1) * np.log(kappa / 2) - scipy.special.gammaln(m / 2) - np.log(low)
    np.testing.assert_allclose(shortfall(jnp.asarray(kappa), m), exact, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mean_cosine(jnp.asarray(kappa), m), high / low, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("m", [3, 400])
def test_second_derivative(m):
    """`A' = 1 - A^2 - (m-1) A / kappa`, and its own derivative by differences."""
    slope = jax.jit(jax.grad(mean_cosine), static_argnums=1)
    for number in (1e-3, 0.7, 20.0, 300.0):
        kappa = jnp.asarray(number)
        a = mean_cosine(kappa, m)
        np.testing.assert_allclose(slope(kappa, m), 1 - a**2 - (m - 1) * a / kappa, rtol=1e-8)
        step = 1e-4 * number
        by_difference = (slope(kappa + step, m) - slope(kappa - step, m)) / (2 * step)
        np.testing.assert_allclose(jax.grad(slope)(kappa, m), by_difference, rtol=1e-5, atol=1e-9)


def test_zero_concentration():
    for m in (2, 300):
        assert shortfall(jnp.asarray(0.0), m) == 0
        assert mean_shortfall(jnp.asarray(0.0), m) == 1
        np.testing.assert_allclose(jax.grad(mean_cosine)(0.0, m), 1 / m, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_log_gamma_ratio():
    a = np.array([0.5, 1.3, 7.0, 90.0])
    for b in (0.5, 4.0, 250.0):
        exact = scipy.special.gammaln(a + b) - scipy.special.gammaln(a)
        np.testing.assert_allclose(log_gamma_ratio(jnp.asarray(a), b), exact, rtol=1e-13, atol=1e-13)
        slope = jax.vmap(jax.grad(lambda a, b=b: log_gamma_ratio(a, b)))(jnp.asarray(a))
        np.testing.assert_allclose(slope, scipy.special.digamma(a + b) - scipy.special.digamma(a), rtol=1e-12)


def test_log_gamma_ratio_of_large_numbers_in_single_precision():
    """`log Gamma(1e5)` is 1e6, of which single precision keeps 0.06."""
    exact = scipy.special.gammaln(1e5 + 5.5) - scipy.special.gammaln(1e5)
    np.testing.assert_allclose(log_gamma_ratio(jnp.float32(1e5), 5.5), exact, rtol=1e-6)
