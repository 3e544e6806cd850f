"""Annealed importance sampling between a guide and the posterior, forwards and backwards.

    pi_b  is proportional to  q(z)^(1 - b) p(x, z)^b,      b = 0: the guide,  b = 1: the posterior

Forwards, latents start at the guide, are weighted by `(b_t - b_(t-1)) log w` and moved by a kernel that leaves `pi_b_t`
invariant; the sum `log W` of the weights has `E W = p(x)`, hence `E log W <= log p(x)`. Backwards, they start at the
posterior, are moved and then weighted, and `E 1/W = 1/p(x)`, hence `E log W >= log p(x)`.

A *pilot* finds the path first: a population that is reweighted in steps of equal size, resampled and moved, and that
adapts the kernel as it goes. Nothing adapts in the runs that count: that would bias them.

References:
    Neal, Annealed Importance Sampling, Statistics and Computing 2001. Grosse, Ghahramani & Adams, Sandwiching the
    marginal likelihood using bidirectional Monte Carlo, 2015. Del Moral, Doucet & Jasra, Sequential Monte Carlo
    Samplers, JRSS B 2006 (the pilot).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Path", "Problem", "anneal_backwards", "anneal_forwards", "find_path", "finite", "resampled"]

NUM_LEAPFROG = 2
MOVES_PER_LEVEL = 3
MAX_LEVELS = 400
STEP_ESS = 0.9  # of the pilot's population after one step, as a fraction
TARGET_ACCEPTANCE = 0.8


class Problem(NamedTuple):
    """What is annealed: latents as vectors.

    Attributes:
        draw: `key -> z`, from the guide. Shape `[dim]`.
        log_q: `z -> log q(z)`, a scalar.
        log_w: `z -> log p(x, z) - log q(z)`, a scalar.
    """

    draw: Callable[[jax.Array], jax.Array]
    log_q: Callable[[jax.Array], jax.Array]
    log_w: Callable[[jax.Array], jax.Array]

    def log_density(self, b: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """Of `pi_b`, unnormalised."""
        return lambda z: self.log_q(z) + b * finite(self.log_w(z))


class Path(NamedTuple):
    """From the guide to the posterior in levels; arrays are filled up with the last one.

    Attributes:
        num_levels: levels that count.
        b: exponents. Shape `[MAX_LEVELS + 1]`.
        log_step: of the kernel, relative to `scale`. Same shape.
        scale: standard deviations of the latents. Shape `[MAX_LEVELS + 1, dim]`.
    """

    num_levels: jax.Array
    b: jax.Array
    log_step: jax.Array
    scale: jax.Array

    def at(self, s: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Exponent, step size and scale at a fraction `s` of the path."""
        position = jnp.clip(s, 0.0, 1.0) * self.num_levels
        low = jnp.clip(jnp.floor(position).astype(int), 0, MAX_LEVELS - 1)
        t = position - low

        def between(x: jax.Array) -> jax.Array:
            return (1 - t) * x[low] + t * x[low + 1]

        return between(self.b), jnp.exp(between(self.log_step)), between(self.scale)

    @property
    def length(self) -> jax.Array:
        """How many standard deviations of the weights lie on the path: `Var log W` is about `length^2 / steps`."""
        return self.num_levels * jnp.sqrt(1 / STEP_ESS - 1)


def finite(log_w: jax.Array) -> jax.Array:
    """Log-weights with those of impossible latents at a large negative number."""
    low = jnp.finfo(log_w.dtype).min / 1e4
    return jnp.clip(jnp.nan_to_num(log_w, nan=low, neginf=low), low, None)


@functools.cache
def _hmc() -> Any:
    """BlackJAX, which sets up a device when it is imported: not before a chain moves."""
    import blackjax

    return blackjax.hmc


def move(
    key: jax.Array, z: jax.Array, log_density: Callable, step: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One transition of Hamiltonian Monte Carlo, with its acceptance probability."""
    key, jitter_key = jax.random.split(key)
    step = step * jax.random.uniform(jitter_key, minval=0.8, maxval=1.2)
    hmc = _hmc()
    state = hmc.init(z, log_density)
    new, info = hmc.build_kernel()(key, state, log_density, step, scale**2, NUM_LEAPFROG)
    accepted = jnp.isfinite(new.logdensity)
    return jnp.where(accepted, new.position, z), jnp.nan_to_num(info.acceptance_rate)


# ------------------------------------------------------------------------------------------ the pilot


def find_path(key: jax.Array, problem: Problem, num_chains: int) -> tuple[Path, jax.Array]:
    """A path with levels that are equally far from each other, and latents at its end. Shape `[num_chains, dim]`."""
    draw_key, key = jax.random.split(key)
    z = jax.vmap(problem.draw)(jax.random.split(draw_key, num_chains))
    dim = z.shape[-1]
    scale = spread(z)
    shape = (MAX_LEVELS + 1,)
    path = Path(jnp.int32(0), jnp.zeros(shape), jnp.zeros(shape), jnp.ones((*shape, dim)) * scale)
    first = -0.25 * math.log(max(dim, 1))
    path = path._replace(log_step=path.log_step + first)

    def go_on(carry: tuple) -> jax.Array:
        path, *_ = carry
        return (path.b[path.num_levels] < 1.0) & (path.num_levels < MAX_LEVELS)

    def level(carry: tuple) -> tuple:
        path, z, log_step, key = carry
        i, b = path.num_levels, path.b[path.num_levels]
        key, resample_key, move_key = jax.random.split(key, 3)
        log_w = finite(jax.vmap(problem.log_w)(z))
        b_new = b + largest_step(log_w, 1.0 - b)
        b_new = jnp.where((i == MAX_LEVELS - 1) | (b_new > 1.0 - 1e-6), 1.0, b_new)
        z = resampled(resample_key, z, (b_new - b) * log_w)
        scale = spread(z)
        log_density = problem.log_density(b_new)

        def moved(carry: tuple, key: jax.Array) -> tuple:
            z, log_step = carry
            keys = jax.random.split(key, num_chains)
            z, rate = jax.vmap(lambda k, x: move(k, x, log_density, jnp.exp(log_step), scale))(keys, z)
            return (z, log_step + jnp.mean(rate) - TARGET_ACCEPTANCE), None

        (z, log_step), _ = jax.lax.scan(moved, (z, log_step), jax.random.split(move_key, MOVES_PER_LEVEL))
        after = jnp.arange(MAX_LEVELS + 1) > i
        path = Path(
            i + 1,
            jnp.where(after, b_new, path.b),
            jnp.where(after, log_step, path.log_step),
            jnp.where(after[:, None], spread(z), path.scale),
        )
        return path, z, log_step, key

    path, z, _, _ = jax.lax.while_loop(go_on, level, (path, z, path.log_step[0], key))
    # Where the guide is the posterior there is one level: start and end are alike.
    return path._replace(log_step=path.log_step.at[0].set(path.log_step[1])), z


def largest_step(log_w: jax.Array, rest: jax.Array) -> jax.Array:
    """The largest step whose weights leave `STEP_ESS` of the population; at most `rest`."""

    def ess(step: jax.Array) -> jax.Array:
        w = jax.nn.softmax(step * log_w)
        return 1.0 / jnp.sum(w**2) / len(log_w)

    def halve(_: int, ends: tuple) -> tuple:
        low, high = ends
        middle = jnp.where(low > 0, jnp.sqrt(low * high), high / 64)
        enough = ess(middle) >= STEP_ESS
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, high = jax.lax.fori_loop(0, 40, halve, (jnp.zeros_like(rest), rest))
    return jnp.where(ess(rest) >= STEP_ESS, rest, jnp.maximum(jnp.where(low > 0, low, high), 1e-12))


def resampled(key: jax.Array, z: jax.Array, log_w: jax.Array) -> jax.Array:
    """As many latents, drawn with their weights by systematic resampling."""
    num = len(log_w)
    places = (jax.random.uniform(key) + jnp.arange(num)) / num
    return z[jnp.clip(jnp.searchsorted(jnp.cumsum(jax.nn.softmax(log_w)), places), 0, num - 1)]


def spread(z: jax.Array) -> jax.Array:
    """Standard deviations over a population, bounded away from zero. Shape `[dim]`."""
    std = jnp.std(z, axis=0)
    return jnp.maximum(std, 1e-6 * (1.0 + jnp.abs(jnp.mean(z, axis=0))))


# ------------------------------------------------------------------------------------------ the runs that count


def anneal_forwards(key: jax.Array, problem: Problem, path: Path, num_steps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One chain from the guide to the posterior.

    Returns:
        `log W`, a scalar with `E W = p(x)`, and where the chain ends.
    """
    draw_key, key = jax.random.split(key)

    def step(t: jax.Array, carry: tuple) -> tuple:
        z, b, log_weight = carry
        b_new, size, scale = path.at((t + 1) / num_steps)
        log_weight = log_weight + (b_new - b) * finite(problem.log_w(z))
        z, _ = move(jax.random.fold_in(key, t), z, problem.log_density(b_new), size, scale)
        return z, b_new, log_weight

    start = problem.draw(draw_key)
    zero = jnp.zeros((), start.dtype)
    z, _, log_weight = jax.lax.fori_loop(0, num_steps, step, (start, zero, zero))
    return log_weight, z


def anneal_backwards(key: jax.Array, problem: Problem, path: Path, num_steps: jax.Array, start: jax.Array) -> jax.Array:
    """`log W` of one chain from the posterior to the guide: `E 1/W = 1/p(x)` if `start` is drawn from the posterior."""

    def step(i: jax.Array, carry: tuple) -> tuple:
        z, log_weight = carry
        t = num_steps - i
        b, size, scale = path.at(t / num_steps)
        b_below, _, _ = path.at((t - 1) / num_steps)
        z, _ = move(jax.random.fold_in(key, t), z, problem.log_density(b), size, scale)
        return z, log_weight + (b - b_below) * finite(problem.log_w(z))

    return jax.lax.fori_loop(0, num_steps, step, (start, jnp.zeros((), start.dtype)))[1]
