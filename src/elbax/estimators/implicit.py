"""Draws that are made differentiable by the derivative of their distribution function.

A draw `z` with distribution function `F(z; theta)` keeps `F(z; theta) = u` while the parameters move, hence

    dz = - (dF / dz)^-1 (dF / dtheta) dtheta,

whatever way it was drawn. For a vector, `F` holds the conditional distribution functions of one number after another.
This serves distributions whose sampler is not differentiable: mixtures of factorised components, and the von Mises.

Sources: Figurnov, Mohamed & Mnih, Implicit Reparameterization Gradients, NeurIPS 2018. Graves, Stochastic
Backpropagation through Mixture Density Distributions, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro_dist
from jax.scipy.special import i0e, i1e

from elbax.graph.distributions import Lifted, innermost

__all__ = ["has_implicit", "implicit_sample", "wraps_around"]

# (distribution of one lane, draw without derivative) -> zero, with the derivative of the draw
Path = Callable[[Any, jax.Array], jax.Array]


def has_implicit(dist: Lifted) -> bool:
    """Whether draws can be made differentiable here."""
    path = _path(dist)
    if path is None:
        return False

    def moved(leaves: tuple) -> jax.Array:
        return Lifted(dist.structure, leaves).over(path, jnp.zeros((*dist.shape, *dist.event_shape)))

    floats = [jnp.issubdtype(x.dtype, jnp.inexact) for x in dist.leaves]
    zeros = tuple(
        jnp.zeros(x.shape, x.dtype if f else jax.dtypes.float0) for x, f in zip(dist.leaves, floats, strict=True)
    )
    try:
        jax.eval_shape(lambda leaves: jax.jvp(moved, (leaves,), (zeros,)), dist.leaves)
    except (NotImplementedError, ValueError, TypeError, AttributeError):  # a distribution function without derivative
        return False
    return True


def implicit_sample(dist: Lifted, key: jax.Array) -> jax.Array:
    """A draw, with its implicit derivative."""
    path = _path(dist)
    assert path is not None
    value = jax.lax.stop_gradient(dist.sample(key))
    return value + dist.over(path, value).astype(value.dtype)


def wraps_around(dist: Lifted) -> str | None:
    """Why the rule leaves pathwise gradients of a distribution on a circle to the user, or `None`."""
    if not isinstance(innermost(dist.one), numpyro_dist.VonMises):
        return None
    return "its values lie on a circle: a pathwise gradient is right only if the costs are the same at both ends"


def _path(dist: Lifted) -> Path | None:
    base = innermost(dist.one)
    if isinstance(base, numpyro_dist.VonMises):
        return _von_mises
    if isinstance(base, numpyro_dist.MixtureSameFamily) and not dist.is_discrete:
        component = base.component_distribution
        factors = innermost(component)
        if not factors.event_shape and len(component.event_shape) <= 1:
            return _mixture
    return None


# ------------------------------------------------------------------------------------------ mixtures


def _mixture(d: Any, z: jax.Array) -> jax.Array:
    """A mixture of components whose numbers are independent within a component, one or a vector of them.

    The conditional distribution function of number `i` is `S_i = sum_k w_ki F_k(z_i)`, with weights
    `w_ki ~ w_k prod_(j<i) p_k(z_j)`. `dS/dz` is triangular, and is solved from the first number on.
    """
    base = innermost(d)
    factors, is_vector = innermost(base.component_distribution), bool(base.event_shape)
    x = z[..., None, :] if is_vector else z[..., None]
    shape = (*d.batch_shape, base.mixture_size, *base.event_shape)

    def log_prob(x: jax.Array) -> jax.Array:
        return _as_vector(jnp.broadcast_to(factors.log_prob(x), shape), is_vector)

    cdf = _as_vector(jnp.broadcast_to(factors.cdf(x), shape), is_vector)  # [.., K, D]
    log_p, slopes = jax.jvp(lambda y: log_prob(y), (jnp.broadcast_to(x, shape),), (jnp.ones(shape, x.dtype),))
    log_w = jnp.log(jnp.maximum(base.mixing_distribution.probs, jnp.finfo(log_p.dtype).tiny))
    log_w = jnp.broadcast_to(log_w, (*d.batch_shape, base.mixture_size))[..., None]
    w = jax.nn.softmax(log_w + jnp.cumsum(log_p, -1) - log_p, axis=-2)
    s = jnp.sum(w * cdf, -2)  # [.., D]
    cdf, slopes, w, density = jax.lax.stop_gradient((cdf, slopes, w, jnp.sum(w * jnp.exp(log_p), -2)))
    moved = s - jax.lax.stop_gradient(s)

    def next_number(weights_moved: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        """How far a number moves, given how the log-weights [.., K] move with the numbers before it."""
        cdf, slopes, w, density, moved = at
        relative = weights_moved - jnp.sum(w * weights_moved, -1, keepdims=True)
        path = -(moved + jnp.sum(w * relative * cdf, -1)) / jnp.where(density > 0, density, jnp.inf)
        return weights_moved + slopes * path[..., None], path

    numbers = [jnp.moveaxis(a, -1, 0) for a in (cdf, slopes, w, density, moved)]
    _, path = jax.lax.scan(next_number, jnp.zeros(w.shape[:-1], w.dtype), tuple(numbers))
    path = jnp.moveaxis(path, 0, -1)
    return path if is_vector else path[..., 0]


def _as_vector(x: jax.Array, is_vector: bool) -> jax.Array:  # noqa: FBT001
    return x if is_vector else x[..., None]


# ------------------------------------------------------------------------------------------ von Mises

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


def _von_mises(d: Any, z: jax.Array) -> jax.Array:
    """`dz = d loc + g d concentration`, `g = -1/p(t) int_0^t p(s) (cos s - A) ds`, `t = z - loc`, `A = I_1 / I_0`.

    By quadrature. In the tail the integral is that from `t` to `pi`, with the other sign: they sum to zero.
    """
    base = innermost(d)
    loc = jnp.broadcast_to(base.loc, d.batch_shape)
    kappa = jnp.broadcast_to(base.concentration, d.batch_shape)
    at, k = (jnp.asarray(jax.lax.stop_gradient(x)) for x in (loc, kappa))
    angle = jnp.mod(z - at + math.pi, 2 * math.pi) - math.pi
    t, root = jnp.abs(angle), jnp.sqrt(jnp.maximum(k, 1.0))
    in_tail = t * root > 1.5
    low = jnp.where(in_tail, t, 0.0)
    high = jnp.where(in_tail, jnp.minimum(math.pi, t + 9 / root), t)  # beyond, the density is nothing
    nodes = jnp.asarray((NODES + 1) / 2, t.dtype)
    s = low[..., None] + (high - low)[..., None] * nodes.reshape((1,) * t.ndim + nodes.shape)
    ratio = jnp.exp(k[..., None] * (jnp.cos(s) - jnp.cos(t)[..., None]))
    mean = (i1e(k) / i0e(k))[..., None]
    integral = (high - low) * ((ratio * (jnp.cos(s) - mean)) @ jnp.asarray(WEIGHTS / 2, t.dtype))
    slope = jnp.sign(angle) * jnp.where(in_tail, integral, -integral)
    return loc - at + jax.lax.stop_gradient(slope) * (kappa - k)
