"""Draws of a gradient under one assignment of estimators, with what they cost.

Draws are made in `NUM_CHUNKS` chunks. Of each chunk the mean is kept, and of each draw and each group of parameters two
numbers: the squared distance to the reference and the projection on it. That is enough for bias, variance, consistency
and their errors, without holding all draws.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["SPEEDUP", "Compiled", "Draws", "Groups", "Timing", "draw", "time_all"]

NUM_CHUNKS = 16
REPEATS = 15
SPEEDUP = 16  # gradients run together to measure parallel speed-up


@dataclass(frozen=True)
class Groups:
    """Groups of parameters: for each element of a flat gradient, the number of its group.

    Attributes:
        names: of the groups.
        index: shape `[parameters]`.
    """

    names: tuple[str, ...]
    index: np.ndarray

    @classmethod
    def of(cls, tree: Any) -> Groups:
        """One group per array of a pytree."""
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") or "parameters" for path, _ in leaves)
        index = np.concatenate([np.full(np.size(x), i) for i, (_, x) in enumerate(leaves)])
        return cls(names, index)

    def sums(self, x: Any) -> Any:
        """The sum over the elements of each group. Shape `[groups]`."""
        return jax.ops.segment_sum(jnp.asarray(x), jnp.asarray(self.index), len(self.names))


@dataclass(frozen=True)
class Draws:
    """What is kept of the draws of a gradient.

    Attributes:
        num: draws.
        mean: shape `[parameters]`.
        chunk_means: shape `[NUM_CHUNKS, parameters]`.
        std_error: of each element of the mean. Shape `[parameters]`.
        squares: squared distance of each draw to the reference, by group. Shape `[num, groups]`.
        along: projection of each draw on the direction of the reference, by group. Shape `[num, groups]`.
    """

    num: int
    mean: np.ndarray
    chunk_means: np.ndarray
    std_error: np.ndarray
    squares: np.ndarray
    along: np.ndarray


def draw(
    gradient: Callable[[jax.Array], Any], key: jax.Array, num: int, center: np.ndarray, groups: Groups, batch: int
) -> Draws:
    """Draws `num` gradients (rounded up to whole chunks) and keeps what is needed."""
    per_chunk = -(-num // NUM_CHUNKS)
    batch = min(batch, per_chunk)
    rounds = -(-per_chunk // batch)
    middle = jnp.asarray(center, jnp.result_type(float))
    norms = jnp.sqrt(groups.sums(middle**2))
    direction = middle / jnp.maximum(norms, jnp.finfo(middle.dtype).tiny)[jnp.asarray(groups.index)]

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        leaves = jax.tree.leaves(gradient(key))
        apart = jnp.concatenate([jnp.ravel(x) for x in leaves]).astype(middle.dtype) - middle
        return apart, apart**2, groups.sums(apart**2), groups.sums(apart * direction)

    def one_round(_: None, keys: jax.Array) -> tuple[None, Any]:
        apart, elements, squares, along = jax.vmap(one)(keys)
        return None, (apart.mean(0), elements.mean(0), squares, along)

    @jax.jit
    def chunk(key: jax.Array) -> Any:
        _, (apart, elements, squares, along) = jax.lax.scan(one_round, None, jax.random.split(key, (rounds, batch)))
        return apart.mean(0), elements.mean(0), *(x.reshape(rounds * batch, -1) for x in (squares, along))

    parts = [jax.device_get(chunk(k)) for k in jax.random.split(key, NUM_CHUNKS)]
    means, elements, squares, along = (np.stack([p[i] for p in parts]).astype(np.float64) for i in range(4))
    total = NUM_CHUNKS * rounds * batch
    mean = means.mean(0)
    variance = np.maximum(elements.mean(0) - mean**2, 0.0)
    return Draws(
        total,
        center + mean,
        center + means,
        np.sqrt(variance / (total - 1)),
        squares.reshape(total, -1),
        along.reshape(total, -1),
    )


@dataclass(frozen=True)
class Compiled:
    """A gradient compiled once, alone and for several keys together."""

    single: Callable[[jax.Array], Any]
    several: Callable[[jax.Array], Any]
    memory: int | None

    @classmethod
    def of(cls, gradient: Callable[[jax.Array], Any], key: jax.Array) -> Compiled:
        """Compiles a gradient; `memory` is what the compiler says that one needs beyond arguments and results."""
        single = jax.jit(gradient).lower(key).compile()
        several = jax.jit(lambda key: jax.vmap(gradient)(jax.random.split(key, SPEEDUP))).lower(key).compile()
        return cls(single, several, getattr(single.memory_analysis(), "temp_size_in_bytes", None))


class Timing(NamedTuple):
    """Seconds of one gradient with their standard error, and of `SPEEDUP` together."""

    single: float
    error: float
    several: float


def time_all(compiled: Sequence[Compiled], key: jax.Array) -> list[Timing]:
    """Times all of them in turns (A B C A B C ...), so that what the machine does beside falls on all alike."""
    single: list[list[float]] = [[] for _ in compiled]
    several: list[list[float]] = [[] for _ in compiled]
    for _ in range(REPEATS + 1):  # the first round warms up
        for i, c in enumerate(compiled):
            single[i].append(_time_one(c.single, key))
            several[i].append(_time_one(c.several, key))
    return [
        Timing(*_median(alone[1:]), _median(together[1:])[0]) for alone, together in zip(single, several, strict=True)
    ]


def _time_one(fn: Callable[[jax.Array], Any], key: jax.Array) -> float:
    calls, started = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - started < 2e-3:  # short calls are timed together
        jax.block_until_ready(fn(key))
        calls += 1
    return (time.perf_counter() - started) / calls


def _median(times: Sequence[float]) -> tuple[float, float]:
    """The median, and its standard error from the median deviation."""
    middle = statistics.median(times)
    spread = statistics.median(abs(t - middle) for t in times)
    return middle, 1.2533 * 1.4826 * spread / len(times) ** 0.5
