"""`gap`: what the ELBO falls short of log p(x) by, split into what the family cannot do and what the encoder does not.

    log p(x) - ELBO(q) = [log p(x) - ELBO(q*)]  +  [ELBO(q*) - ELBO(q)]
                          approximation gap         amortisation gap

with `q*` the best member of the family for this datum.

References:
    Cremer, Li & Duvenaud, Inference Suboptimality in Variational Autoencoders, ICML 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from elbax.bounds.densities import Densities
from elbax.bounds.elbo import ELBO
from elbax.bounds.refine import FreeGuide, Offsets
from elbax.diagnose.bracket import Bracket, rows_of
from elbax.diagnose.bracket import bracket as find_bracket
from elbax.diagnose.estimate import Estimate
from elbax.errors import ConfigError
from elbax.estimators.surrogate import check_key
from elbax.fit.checks import check_finite, check_observed

__all__ = ["Gap", "gap"]

BLOCK = 100  # steps between looks at the bound
PATIENCE = 5  # looks without gain
AT_ONCE = 4096  # draws at once


@dataclass(frozen=True)
class Gap:
    """The inference gap of each datum and its two parts, in nats.

    Attributes:
        bracket: of log p(x).
        elbo: of the guide, for each datum. Shape `[num_data]`.
        refined_elbo: of the best member of the family found for each datum. Shape `[num_data]`.
        amortisation: `refined_elbo - elbo`, from common random numbers; with its Monte Carlo error.
        num_steps: of refinement.
        settled: whether the refined bound had stopped rising; if not, the amortisation gap is larger than stated.
    """

    bracket: Bracket
    elbo: np.ndarray
    refined_elbo: np.ndarray
    amortisation: Estimate
    num_steps: int
    settled: bool

    @property
    def approximation(self) -> tuple[float, float]:
        """Mean of `log p(x) - ELBO(q*)`: between these two, nats per datum."""
        refined = float(self.refined_elbo.mean())
        return self.bracket.mean_lower - refined, self.bracket.mean_upper - refined

    @property
    def total(self) -> tuple[float, float]:
        """Mean of `log p(x) - ELBO(q)`: between these two, nats per datum."""
        elbo = float(self.elbo.mean())
        return self.bracket.mean_lower - elbo, self.bracket.mean_upper - elbo

    @property
    def advice(self) -> str:
        """Where there is more to win."""
        low, high = self.approximation
        if self.amortisation.value > max(high, 0.1):
            return "most of the gap is the encoder's: a larger encoder, longer training of it, or refinement per datum"
        if low > max(self.amortisation.value, 0.1):
            return "most of the gap is the family's: full covariance or a flow instead of independent latents"
        return "neither part is large"

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        return {
            "total": list(self.total),
            "approximation": list(self.approximation),
            "amortisation": self.amortisation.as_dict(),
            "num_steps": self.num_steps,
            "settled": self.settled,
            "bracket": self.bracket.as_dict(),
        }

    def plot(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Draws both parts of each datum's gap; `.png` or `.svg`."""
        from elbax.diagnose.figure import plot_gap

        return plot_gap(self, Path(path), overwrite=overwrite)

    def __str__(self) -> str:
        (low, high), (family_low, family_high) = self.total, self.approximation
        lines = [
            f"log p(x) - ELBO    {low:.3g} to {high:.3g} nats per datum",
            f"    approximation  {family_low:.3g} to {family_high:.3g} (what the family cannot do)",
            f"    amortisation   {self.amortisation} (what the guide's networks do not do)",
            f"    {self.advice}",
        ]
        if not self.settled:
            lines.append(f"    the refinement was still rising after {self.num_steps:,} steps: raise max_steps")
        return "\n".join(lines)


def gap(
    model: Callable,
    guide: Callable,
    data: Any,
    *,
    key: jax.Array,
    bracket: Bracket | None = None,
    max_steps: int = 3000,
    learning_rate: float = 0.03,
    num_samples: int = 16,
    num_particles: int = 1000,
    per_datum: bool = True,
) -> Gap:
    """Splits the distance between ELBO and log p(x).

    The parameters of the guide's distributions are set free for each datum, in unconstrained coordinates, start where
    the guide puts them, and follow the gradient of the ELBO of that datum (Adam, sticking the landing), until the mean
    bound has stopped rising. All data are refined at once.

    Args:
        model: program with observed sites.
        guide: program with the model's latent sites, continuous ones.
        data: an array or tuple of arrays with one row per datum.
        key: random key.
        bracket: of the same data, if it is known already.
        max_steps: of refinement, at most.
        learning_rate: of Adam; it falls to zero over `max_steps` along a cosine.
        num_samples: draws per step and datum.
        num_particles: draws per datum for the bounds compared, the same random numbers for both.
        per_datum: see `elbax.bracket`.

    Raises:
        ConfigError: for latents that are not differentiable in their parameters, or a bracket of other data.
        ProgramError, DataError: as `elbax.bracket`.
    """
    check_key(key)
    for name, value in (("max_steps", max_steps), ("num_samples", num_samples), ("num_particles", num_particles)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1; got {value!r}.")
    check_finite(data, "data")
    check_observed(model, data, "data")
    bound = ELBO(model, guide, analytic_kl=False)
    rows = rows_of(bound, data, per_datum=per_datum)
    first = jax.tree.map(lambda x: x[0], rows)
    free = FreeGuide.of(Densities.of(bound, first))
    bracket_key, refine_key, look_key = jax.random.split(key, 3)
    if bracket is None:
        bracket = find_bracket(model, guide, data, key=bracket_key, per_datum=per_datum)
    num_data = jax.tree.leaves(rows)[0].shape[0]
    if bracket.num_data != num_data:
        raise ConfigError(f"the bracket is of {bracket.num_data} data, but {num_data} were given.")
    refinement = _Refinement(free, bound, rows, optax.adam(optax.cosine_decay_schedule(learning_rate, max_steps)))
    state = refinement.start()
    start = best = refinement.look(look_key, state[0], num_particles)
    best_offsets, looks, steps = state[0], 0, 0
    while steps < max_steps and looks < PATIENCE:
        steps += BLOCK
        state = refinement.block(jax.random.fold_in(refine_key, steps), state, num_samples)
        now = refinement.look(look_key, state[0], num_particles)
        error = float(np.std(now.mean(1) - best.mean(1)) / math.sqrt(num_data)) if num_data > 1 else 0.0
        gained = now.mean() > best.mean() + max(1e-3, 0.1 * error)
        looks = 0 if gained else looks + 1
        if now.mean() > best.mean():
            best, best_offsets = now, state[0]
    # Looks choose among bounds of the same draws; fresh ones are free of that choice.
    fresh = jax.random.fold_in(look_key, 1)
    start, best = (refinement.look(fresh, o, num_particles) for o in (refinement.start()[0], best_offsets))
    differences = best - start
    error = float(np.sqrt(np.sum(differences.var(1, ddof=1) / num_particles)) / num_data) if num_particles > 1 else 0.0
    amortisation = Estimate(float(differences.mean()), error)
    return Gap(bracket, start.mean(1), best.mean(1), amortisation, steps, settled=looks >= PATIENCE)


class _Refinement:
    """The refinement of all data, compiled."""

    def __init__(self, free: FreeGuide, bound: ELBO, rows: tuple, optimizer: optax.GradientTransformation) -> None:
        self.free, self.rows, self.optimizer = free, rows, optimizer
        self.arrays, self.still = eqx.partition(bound, eqx.is_array)
        self.num_data = jax.tree.leaves(rows)[0].shape[0]
        self._block = jax.jit(self._run_block, static_argnums=4)
        self._look = jax.jit(self._run_look, static_argnums=4)

    def start(self) -> tuple[Offsets, Any]:
        """Offsets and states of the optimiser before the first step, data first."""
        first = jax.tree.map(lambda x: x[0], self.rows)
        zeros = self.free.offsets(eqx.combine(self.arrays, self.still), first)
        offsets = jax.tree.map(lambda x: jnp.zeros((self.num_data, *x.shape), x.dtype), zeros)
        return offsets, jax.vmap(self.optimizer.init)(offsets)

    def block(self, key: jax.Array, state: tuple[Offsets, Any], num_samples: int) -> tuple[Offsets, Any]:
        """Some steps for every datum."""
        return self._block(key, self.arrays, self.rows, state, num_samples)

    def look(self, key: jax.Array, offsets: Offsets, num: int) -> np.ndarray:
        """Log-weights of draws. Shape `[num_data, num]`."""
        return np.asarray(self._look(key, self.arrays, self.rows, offsets, num), np.float64)

    def _run_block(self, key: jax.Array, arrays: Any, rows: tuple, state: tuple, num_samples: int) -> tuple:
        bound = eqx.combine(arrays, self.still)

        def one(key: jax.Array, row: tuple, offsets: Offsets, opt_state: Any) -> tuple:
            def loss(offsets: Offsets, key: jax.Array) -> jax.Array:
                keys = jax.random.split(key, num_samples)
                return -jnp.mean(jax.vmap(lambda k: self.free.log_weight(k, offsets, bound, row))(keys))

            def step(carry: tuple, key: jax.Array) -> tuple:
                offsets, opt_state = carry
                updates, opt_state = self.optimizer.update(jax.grad(loss)(offsets, key), opt_state, offsets)
                return (optax.apply_updates(offsets, updates), opt_state), None

            return jax.lax.scan(step, (offsets, opt_state), jax.random.split(key, BLOCK))[0]

        keys = jax.random.split(key, self.num_data)
        return jax.lax.map(lambda x: one(*x), (keys, rows, *state), batch_size=self._size(num_samples))

    def _run_look(self, key: jax.Array, arrays: Any, rows: tuple, offsets: Offsets, num: int) -> jax.Array:
        bound = eqx.combine(arrays, self.still)
        at_once = min(num, 64)

        def one(key: jax.Array, row: tuple, offsets: Offsets) -> jax.Array:
            return jax.lax.map(
                lambda k: self.free.log_weight(k, offsets, bound, row), jax.random.split(key, num), batch_size=at_once
            )

        keys = jax.random.split(key, self.num_data)
        return jax.lax.map(lambda x: one(*x), (keys, rows, offsets), batch_size=self._size(at_once))

    def _size(self, draws: int) -> int:
        return max(1, min(self.num_data, AT_ONCE // draws))
