"""Runs of the whole program whose draws of a node are coupled: antithetic, or quasi-Monte Carlo.

A node is drawn in run `k` as `F^-1(u_k)`, the inverse of its distribution function. Every `u_k` is uniform, so that
each run by itself is what it would have been; jointly they cover the unit cube better than independent ones, and the
mean over the runs has less variance for costs that are nearly linear (antithetic) or smooth (quasi-Monte Carlo).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from elbax.errors import ConfigError
from elbax.estimators.base import Site
from elbax.estimators.support import log_probs_of, support_of
from elbax.graph.distributions import Lifted, innermost

__all__ = ["Antithetic", "Coupling", "QuasiMonteCarlo", "are_uniforms", "coupled_sample"]

BITS = 30  # of the points of a Sobol sequence


class Coupling(eqx.Module):
    """Base of all couplings: uniform numbers of a node in all runs of the program."""

    @property
    def num(self) -> int:
        """How many runs are coupled."""
        raise NotImplementedError

    def requires(self, site: Site) -> str | None:
        """Why the draws of a node cannot be coupled, or `None`: needs the inverse of the distribution function."""
        if support_of(site.dist) is not None or _has_inverse(site.dist):
            return None
        return (
            f"its distribution {site.dist.name} has no inverse distribution function, of which coupled draws are made"
        )

    def uniforms(self, key: jax.Array, site: Site) -> jax.Array:
        """Numbers in the open unit interval, one for each number to be drawn. Shape `[num, *site.shape, *event]`."""
        raise NotImplementedError


class Antithetic(Coupling):
    """Pairs of runs with `u` and `1 - u`.

    What is odd in the noise cancels: the gradient of a cost that is linear in a symmetric node has no variance, and it
    falls wherever costs are monotone in the node. It can rise where they are even in it.

    Attributes:
        pairs: how many; the program is run twice as often.

    References:
        Hammersley & Morton, A New Monte Carlo Technique: Antithetic Variates, 1956. Wu, Goodman & Ermon,
        Differentiable Antithetic Sampling for Variance Reduction in Stochastic Variational Inference, AISTATS 2019.
    """

    pairs: int = 1

    def __check_init__(self) -> None:
        if not isinstance(self.pairs, int) or isinstance(self.pairs, bool) or self.pairs < 1:
            raise ConfigError(f"Antithetic(pairs={self.pairs!r}): needs at least one pair.")

    @property
    def num(self) -> int:
        """Two for each pair."""
        return 2 * self.pairs

    def uniforms(self, key: jax.Array, site: Site) -> jax.Array:
        """`u` of all pairs, then `1 - u`."""
        u = jax.random.uniform(key, (self.pairs, *site.shape, *_event(site)))
        return _open(jnp.concatenate([u, 1 - u]))


class QuasiMonteCarlo(Coupling):
    """Runs at the points of a Sobol sequence, randomised by a digital shift.

    The error of a mean of `K` runs falls nearly like `1 / K` for smooth costs of few numbers, not like `1 / sqrt(K)`.
    The numbers of a node that share costs are the coordinates of the points; elements with separate costs, and other
    nodes, have the same points shifted by themselves and in another order.

    Attributes:
        num: runs of the program, a power of two.

    References:
        Buchholz, Wenzel & Mandt, Quasi-Monte Carlo Variational Inference, ICML 2018. Owen, Latin Supercube Sampling
        for Very High-Dimensional Simulations, 1998. Joe & Kuo, Constructing Sobol Sequences with Better
        Two-Dimensional Projections, 2008 (direction numbers, as in SciPy).
    """

    num: int = 8  # type: ignore[assignment]

    def __check_init__(self) -> None:
        n = self.num
        if not isinstance(n, int) or isinstance(n, bool) or n < 2 or n & (n - 1):
            raise ConfigError(f"QuasiMonteCarlo({n!r}): a Sobol sequence is even at powers of two: 2, 4, 8, ..")

    def requires(self, site: Site) -> str | None:
        """Also needs direction numbers."""
        _, mixed = _axes(site)
        num = math.prod(_sizes(site)[i] for i in mixed)
        if num > qmc.Sobol.MAXDIM:
            return f"{num:,} of its numbers share costs, and Sobol sequences are known up to {qmc.Sobol.MAXDIM:,}"
        return Coupling.requires(self, site)

    def uniforms(self, key: jax.Array, site: Site) -> jax.Array:
        """Shifted points, in random order for each set of elements that share costs."""
        sizes, (cells, mixed) = _sizes(site), _axes(site)
        cell_shape, mixed_shape = [sizes[i] for i in cells], [sizes[i] for i in mixed]
        points = jnp.asarray(_sobol(math.prod(mixed_shape), self.num))

        def of_cell(key: jax.Array) -> jax.Array:
            order_key, shift_key, rest_key = jax.random.split(key, 3)
            shift = jax.random.bits(shift_key, points.shape[1:], jnp.uint32) >> (32 - BITS)
            shifted = jax.random.permutation(order_key, points) ^ jnp.broadcast_to(shift, points.shape)
            return (shifted.astype(float) + jax.random.uniform(rest_key, points.shape)) / 2**BITS

        u = jax.vmap(of_cell)(jax.random.split(key, math.prod(cell_shape)))  # [cells, num, mixed]
        u = u.reshape(*cell_shape, self.num, *mixed_shape)
        places = [*cells, -1, *mixed]
        return _open(u.transpose([places.index(i) for i in range(-1, len(sizes))]))


def are_uniforms(coupling: Coupling | None, feed: jax.Array) -> bool:
    """Whether what a node is drawn from are uniform numbers, not a random key."""
    return coupling is not None and jnp.issubdtype(feed.dtype, jnp.floating)


def coupled_sample(dist: Lifted, u: jax.Array) -> jax.Array:
    """The draw that belongs to uniform numbers: `F^-1(u)`, differentiable in the parameters where it is continuous."""
    dtype = jax.eval_shape(dist.sample, jax.eval_shape(lambda: jax.random.key(0))).dtype
    support = support_of(dist)
    if support is None:
        return dist.over(lambda d, x: innermost(d).icdf(x), u.astype(dtype))
    below = jnp.cumsum(jnp.exp(log_probs_of(dist.stopped(), support)), 0)
    below = below[:-1] / below[-1:]
    index = jnp.sum(jnp.broadcast_to(u, below.shape).astype(below.dtype) > below, 0)
    return jnp.asarray(support, dtype)[index]


def _has_inverse(dist: Lifted) -> bool:
    def inverse(leaves: tuple, u: jax.Array) -> Any:
        return Lifted(dist.structure, leaves).over(lambda d, x: innermost(d).icdf(x), u)

    u = jax.ShapeDtypeStruct((*dist.shape, *dist.event_shape), jnp.result_type(float))
    try:
        return jax.eval_shape(inverse, dist.leaves, u).shape == u.shape and not dist.is_discrete
    except (NotImplementedError, AttributeError, ImportError):  # some are in packages that NumPyro does not require
        return False


def _event(site: Site) -> tuple[int, ...]:
    """One outcome of many is one number to be drawn."""
    return () if support_of(site.dist) is not None else site.dist.event_shape


def _sizes(site: Site) -> tuple[int, ...]:
    return (*site.shape, *_event(site))


def _axes(site: Site) -> tuple[list[int], list[int]]:
    """Axes along which numbers influence separate costs, and the others."""
    aligned = [*site.aligned, *(False for _ in _event(site))]
    return [i for i, a in enumerate(aligned) if a], [i for i, a in enumerate(aligned) if not a]


def _sobol(num_dims: int, num: int) -> np.ndarray:
    """The first points of a Sobol sequence as integers below `2^BITS`. Shape `[num, num_dims]`."""
    if num_dims == 0:
        return np.zeros((num, 0), np.uint32)
    points = qmc.Sobol(num_dims, scramble=False, bits=BITS).random(num)
    return np.asarray(points * 2**BITS, np.uint32)


def _open(u: jax.Array) -> jax.Array:
    """Numbers of the closed unit interval, in the open one."""
    limits = jnp.finfo(u.dtype)
    return jnp.clip(u, float(limits.tiny), 1 - float(limits.epsneg))
