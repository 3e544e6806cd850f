"""Special functions of the distributions on spheres, in forms that do not cancel in single precision.

Let `w` be a component of a uniform draw from the unit sphere in `m` dimensions, and `nu = m/2 - 1`. Then

    log E exp(k w) = log Gamma(nu+1) + log I_nu(k) - nu log(k/2),        A(k) = d/dk of it = I_(nu+1)(k) / I_nu(k).

For large `k` the first is close to `k` and the second to 1, and what is of interest is their distance from there:

    shortfall(k) = k - log E exp(k w) = -log E exp(-k (1 - w)),          its derivative 1 - A(k).

Of high orders, `I_n` has Debye's asymptotic expansion, which holds for all `k` at once. From there the recurrence
`A_n = k / (2(n+1) + k A_(n+1))` leads down, here for `c_n = k (1 - A_n)` and in a fixed number of steps:

    c_n = k (2(n+1) - c_(n+1)) / (2(n+1) + k - c_(n+1)),
    shortfall_n = shortfall_(n+1) - log(1 + (k - c_(n+1)) / (2(n+1))).

Source: NIST Digital Library of Mathematical Functions, 10.29, 10.41.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["cosine_variance", "log_gamma_ratio", "mean_cosine", "mean_shortfall", "shortfall", "tangent_variance"]

HIGH_ORDER = 16  # from here on, NUM_TERMS of the expansion are right to 2e-13
NUM_TERMS = 10


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def shortfall(kappa: jax.Array, m: int) -> jax.Array:
    """`-log E exp(-kappa (1 - w))`, for `w` a component of a uniform draw from the sphere in `m` dimensions."""
    return _descend(kappa, m)[1]


@shortfall.defjvp
def _shortfall_jvp(m: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (kappa,), (moved,) = primals, tangents
    return shortfall(kappa, m), mean_shortfall(kappa, m) * moved


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_shortfall(kappa: jax.Array, m: int) -> jax.Array:
    """`1 - A`, with `A = I_(m/2)(kappa) / I_(m/2-1)(kappa)` the mean cosine of a von Mises-Fisher draw."""
    c, _ = _descend(kappa, m)
    return (m - c) / (m + kappa - c)


@mean_shortfall.defjvp
def _mean_shortfall_jvp(m: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (kappa,), (moved,) = primals, tangents
    return mean_shortfall(kappa, m), -cosine_variance(kappa, m) * moved


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_cosine(kappa: jax.Array, m: int) -> jax.Array:
    """`A`, exact to rounding also where it is small."""
    return kappa * tangent_variance(kappa, m)


@mean_cosine.defjvp
def _mean_cosine_jvp(m: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (kappa,), (moved,) = primals, tangents
    return mean_cosine(kappa, m), cosine_variance(kappa, m) * moved


def cosine_variance(kappa: jax.Array, m: int) -> jax.Array:
    """`A' = 1 - A^2 - (m-1) A / kappa`, the variance of the cosine; from `A = kappa / (m + kappa - c)`."""
    c, slope = jax.jvp(lambda k: _descend(k, m)[0], (kappa,), (jnp.ones_like(kappa),))
    return (m - c + kappa * slope) / (m + kappa - c) ** 2


def tangent_variance(kappa: jax.Array, m: int) -> jax.Array:
    """`A / kappa`: variance of a von Mises-Fisher draw along any direction orthogonal to its mean."""
    c, _ = _descend(kappa, m)
    return 1 / (m + kappa - c)


@functools.partial(jax.jit, static_argnums=1)
def _descend(kappa: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
    """`c` of order `m/2`, and the shortfall of order `m/2 - 1`."""
    low = m / 2 - 1
    steps = max(1, math.ceil(HIGH_ORDER - low))
    c, total = _debye(kappa, low + steps)

    def down(state: tuple, twice: jax.Array) -> tuple[tuple, None]:
        c, total = state
        total = total - jnp.log1p((kappa - c) / twice)
        return (kappa * (twice - c) / (twice + kappa - c), total), None

    orders = low + np.arange(steps - 1, 0, -1)
    (c, total), _ = jax.lax.scan(down, (c, total), jnp.asarray(2 * (orders + 1), kappa.dtype))
    return c, total - jnp.log1p((kappa - c) / m)


def _debye(kappa: jax.Array, order: float) -> tuple[jax.Array, jax.Array]:
    """`c` and shortfall of a high order; with `s = sqrt(order^2 + kappa^2)` and `p = order / s`."""
    remainder, slope = _expansion(order)
    s = jnp.hypot(jnp.asarray(order, kappa.dtype), kappa)
    p, y = order / s, kappa / order * (kappa / (s + order))  # y = s / order - 1
    leading = order * (order * y + kappa) / (s + kappa)  # kappa - (s - order)
    total = leading + order * jnp.log1p(y / 2) + jnp.log1p(y) / 2 + y / (1 + y) * _polynomial(remainder, p)
    bends = kappa / s * (0.5 + p * _polynomial(slope, p)) / s
    return kappa * (order / (s + order) * (1 + order / (s + kappa)) + bends), total


def _polynomial(coefficients: np.ndarray, x: jax.Array) -> jax.Array:
    return jnp.polyval(jnp.asarray(coefficients, x.dtype), x)


@functools.cache
def _expansion(order: float) -> tuple[np.ndarray, np.ndarray]:
    """Of `f(p) = log sum_j U_j(p) / order^j`: the polynomials `(f(p) - f(1)) / (p - 1)` and `f'(p)`, highest first."""
    f = sum(np.pad(d, (0, 3 * NUM_TERMS + 1 - len(d))) / order**j for j, d in enumerate(_log_series(), 1))
    assert isinstance(f, np.ndarray)
    return np.cumsum(f[:0:-1]), (f * np.arange(len(f)))[:0:-1]


@functools.cache
def _log_series() -> list[np.ndarray]:
    """Coefficients in `p` of the terms of `log sum_j U_j(p) / n^j`, from `U_j` by `j D_j = j U_j - sum i D_i U_(j-i)`.

    Where `U_(j+1) = p^2 (1 - p^2) U_j' / 2 + int_0^p (1 - 5 t^2) U_j(t) dt / 8`. In fractions: the terms cancel.
    """
    size = 3 * NUM_TERMS + 1
    u, logs = [[Fraction(int(i == 0)) for i in range(size)]], []
    for _ in range(NUM_TERMS):
        a, new = u[-1], [Fraction(0)] * size
        for i in range(size - 3):
            new[i + 1] += a[i] * (Fraction(i, 2) + Fraction(1, 8 * (i + 1)))
            new[i + 3] -= a[i] * (Fraction(i, 2) + Fraction(5, 8 * (i + 3)))
        u.append(new)
    for j in range(1, NUM_TERMS + 1):
        found = [j * x for x in u[j]]
        for i in range(1, j):
            for at, x in enumerate(logs[i - 1]):
                for to, y in enumerate(u[j - i][: size - at]):
                    found[at + to] -= i * x * y
        logs.append([x / j for x in found])
    return [np.array([float(x) for x in d]) for d in logs]


# ------------------------------------------------------------------------------------------ gamma functions

STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
SHIFT = 10


def log_gamma_ratio(a: jax.Array, b: float) -> jax.Array:
    """`log Gamma(a + b) - log Gamma(a)`, which are large numbers for large `a`; by Stirling's series."""
    steps = sum(jnp.log1p(b / (a + j)) for j in range(SHIFT))
    x = a + SHIFT
    y = x + b
    return (x - 0.5) * jnp.log1p(b / x) + b * (jnp.log(y) - 1) + _stirling(y) - _stirling(x) - steps


def _stirling(x: jax.Array) -> jax.Array:
    return _polynomial(np.array(STIRLING[::-1]), 1 / (x * x)) / x
