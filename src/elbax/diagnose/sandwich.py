"""The two sides of a bracket for many data: compiled annealing, and the intervals that it gives."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from elbax.bounds.densities import Densities
from elbax.bounds.elbo import ELBO
from elbax.diagnose.annealing import Path, Problem, anneal_backwards, anneal_forwards, find_path, finite, resampled

__all__ = ["GROUPS", "Interval", "Sandwich", "interval", "log_mean_exp", "log_sum_exp"]

AT_ONCE = 4096  # chains that move together
GROUPS = 16  # of chains, whose spread gives the errors


class Sandwich:
    """A model and a guide with many data.

    Args:
        densities: of one datum.
        bound: the pair with its parameters.
        rows: the arguments of one datum after the other: arrays `[num_data, 1, ...]`.
        num_chains: per datum.
    """

    def __init__(self, densities: Densities, bound: ELBO, rows: tuple, num_chains: int) -> None:
        self.densities, self.rows, self.num_chains = densities, rows, num_chains
        self.arrays, self.still = eqx.partition(bound, eqx.is_array)
        leaves = jax.tree.leaves(rows)
        self.num_data = leaves[0].shape[0] if leaves else 1

    def weights(self, key: jax.Array, num: int) -> np.ndarray:
        """Log-weights of draws from the guide. Shape `[num_data, num]`."""

        def of(key: jax.Array, bound: ELBO, row: tuple) -> jax.Array:
            def one(key: jax.Array) -> jax.Array:
                return finite(self.densities.at(self.densities.draw(key, bound, row), bound, row).log_w)

            return jax.lax.map(one, jax.random.split(key, num), batch_size=min(num, self.num_chains))

        return self._each(of, key)

    def enumerate(self) -> np.ndarray:
        """Log p(x) of each datum, summed over all outcomes. Shape `[num_data]`."""
        values = _all_outcomes(self.densities)

        def of(_: jax.Array, bound: ELBO, row: tuple) -> jax.Array:
            return jax.nn.logsumexp(jax.vmap(lambda v: self.densities.joint(v, bound, row))(values))

        return self._each(of, jax.random.key(0), at_once=1)

    def find(self, key: jax.Array) -> Path:
        """A path for each datum."""

        def of(key: jax.Array, bound: ELBO, row: tuple) -> Path:
            return find_path(key, self._problem(bound, row), self.num_chains)[0]

        return self._each(of, key)

    def both_ways(self, key: jax.Array, path: Path, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-weights of forward and backward chains. Shapes `[num_data, num_chains]`."""
        forwards, backwards = self._anneal(key, self.arrays, self.rows, path, jnp.int32(num_steps))
        return np.asarray(forwards, np.float64), np.asarray(backwards, np.float64)

    @functools.cached_property
    def _anneal(self) -> Callable:
        """Compiled once for all numbers of temperatures."""

        def of(key: jax.Array, bound: ELBO, row: tuple, path: Path, num_steps: jax.Array) -> tuple:
            problem = self._problem(bound, row)
            forth, choose, back = jax.random.split(key, 3)
            keys = jax.random.split(forth, self.num_chains)
            log_w, ends = jax.vmap(lambda k: anneal_forwards(k, problem, path, num_steps))(keys)
            starts = resampled(choose, ends, finite(log_w))
            keys = jax.random.split(back, self.num_chains)
            return log_w, jax.vmap(lambda k, z: anneal_backwards(k, problem, path, num_steps, z))(keys, starts)

        @jax.jit
        def run(key: jax.Array, arrays: Any, rows: tuple, path: Path, num_steps: jax.Array) -> tuple:
            bound = eqx.combine(arrays, self.still)
            keys = jax.random.split(key, self.num_data)
            return jax.lax.map(
                lambda x: of(x[0], bound, x[1], x[2], num_steps), (keys, rows, path), batch_size=self._size
            )

        return run

    def _each(self, of: Callable, key: jax.Array, at_once: int | None = None) -> Any:
        """`of(key, bound, row)` of each datum, as many at once as their chains fit."""

        @jax.jit
        def run(key: jax.Array, arrays: Any, rows: tuple) -> Any:
            bound = eqx.combine(arrays, self.still)
            keys = jax.random.split(key, self.num_data)
            return jax.lax.map(lambda x: of(x[0], bound, x[1]), (keys, rows), batch_size=at_once or self._size)

        found = run(key, self.arrays, self.rows)
        return np.asarray(found, np.float64) if isinstance(found, jax.Array) else found

    @property
    def _size(self) -> int:
        return max(1, min(self.num_data, AT_ONCE // self.num_chains))

    def _problem(self, bound: ELBO, row: tuple) -> Problem:
        """What is annealed for one datum."""
        like = jax.eval_shape(lambda k: self.densities.draw(k, bound, row), jax.eval_shape(lambda: jax.random.key(0)))
        unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like))[1]

        def at(z: jax.Array) -> Any:
            return self.densities.at(unravel(z), bound, row)

        return Problem(
            lambda k: ravel_pytree(self.densities.draw(k, bound, row))[0], lambda z: at(z).log_q, lambda z: at(z).log_w
        )


def _all_outcomes(densities: Densities) -> dict[str, jax.Array]:
    """All joint outcomes, one row each, of every node in its shape."""
    shapes = {name: fact.shape for name, fact in densities.facts.samples.items()}
    sizes = [len(densities.outcomes[n]) for n, shape in shapes.items() for _ in range(math.prod(shape))]
    table = np.array(list(itertools.product(*map(range, sizes))), np.int64).reshape(math.prod(sizes), len(sizes))
    values, start = {}, 0
    for name, shape in shapes.items():
        outcomes, num = densities.outcomes[name], math.prod(shape)
        picked = np.asarray(outcomes)[table[:, start : start + num]]
        values[name] = jnp.asarray(picked.reshape(len(table), *shape, *np.shape(outcomes)[1:]))
        start += num
    return values


# ------------------------------------------------------------------------------------------ the interval


@dataclass(frozen=True)
class Interval:
    """Ends of the intervals of each datum, shape `[num_data]`, and of the mean over the data, nats."""

    lower: np.ndarray
    upper: np.ndarray
    mean_lower: float
    mean_upper: float

    @property
    def widest(self) -> float:
        """Width of the widest interval of a datum."""
        return float(np.max(self.upper - self.lower))


def interval(forwards: np.ndarray, backwards: np.ndarray, confidence: float) -> Interval:
    """From log-weights of both directions. Shapes `[num_data, num_chains]`.

    The log of the mean weight of a group of chains is at most log p(x) in expectation, the corresponding figure of
    backward chains at least. Each end is a one-sided t-bound of the expectation, so that both hold with `confidence`.
    """
    below = log_mean_exp(_grouped(forwards))
    above = -log_mean_exp(-_grouped(backwards))
    t = stats.t.ppf(0.5 + confidence / 2, GROUPS - 1)
    low, high = below.mean(1), above.mean(1)
    low_error, high_error = (x.std(1, ddof=1) / math.sqrt(GROUPS) for x in (below, above))
    num = len(low)
    t_mean = stats.t.ppf(0.5 + confidence / 2, (GROUPS - 1) * num)
    return Interval(
        low - t * low_error,
        high + t * high_error,
        float(low.mean() - t_mean * math.sqrt(np.sum(low_error**2)) / num),
        float(high.mean() + t_mean * math.sqrt(np.sum(high_error**2)) / num),
    )


def _grouped(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), GROUPS, -1)


def log_sum_exp(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    top = x.max(-1, keepdims=True)
    return np.log(np.exp(x - top).sum(-1)) + top[..., 0]


def log_mean_exp(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    return log_sum_exp(x) - math.log(x.shape[-1])
