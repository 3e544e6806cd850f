"""The host's side of a training run: blocks handed to the device, decisions between them, checkpoints, the result."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.bounds.base import Bound
from elbax.errors import NonFiniteError, RunError
from elbax.estimators.base import Estimator
from elbax.estimators.choose import Choice, describe
from elbax.fit.checkpoint import Checkpoints
from elbax.fit.feed import Feed
from elbax.fit.nonfinite import find_non_finite
from elbax.fit.result import Fit, Row
from elbax.fit.stopping import Outcome, Stopping
from elbax.fit.training import State, Summary, Trainer
from elbax.fit.validation import Validator

__all__ = ["Every", "Loop", "Progress"]


@dataclass(frozen=True)
class Every:
    """The grid of decisions, in steps."""

    log: int
    validate: int
    checkpoint: int


@dataclass
class Progress:
    """What changes while a run goes on; all of it is in a checkpoint."""

    state: State
    best: Any  # a bound: the parameters of the best validation
    history: list[Row] = field(default_factory=list)
    best_step: int = 0
    saved_step: int = -1
    seconds: float = 0.0  # of earlier sessions

    @property
    def step(self) -> int:
        """Steps done at the end of the last recorded block."""
        return self.history[-1].step if self.history else 0


@dataclass
class Loop:
    """A training run; `run` drives it, `save` and `restore` move it to and from checkpoints."""

    trainer: Trainer
    feed: Feed
    validator: Validator | None
    stopping: Stopping
    every: Every
    max_steps: int
    checkpoints: Checkpoints | None
    on_row: Callable[[Row], None] | None
    adapted: Mapping[str, Estimator] | None = None  # the estimators that a warm-up chose

    def __post_init__(self) -> None:
        self.started = time.perf_counter()

        def block(state: State, source: Any, num_steps: jax.Array) -> tuple[State, Summary]:
            return self.trainer.block(state, lambda step, i: self.feed.select(source, step, i), num_steps)

        self.block = jax.jit(block, donate_argnums=0)

    # ------------------------------------------------------------------------------------- running

    def run(
        self, p: Progress, interrupted: Callable[[], bool], show: Callable[[Row, float], None]
    ) -> tuple[Outcome, NonFiniteError | None]:
        """Runs blocks until a rule, the limit, an interrupt or a value that is not finite ends it."""
        while p.step < self.max_steps:
            began, before = time.perf_counter(), p.step
            error = self.one_block(p)
            if error is not None:
                self.save(p)
                return Outcome.NON_FINITE, error
            row = p.history[-1]
            show(row, (row.step - before) / (time.perf_counter() - began))
            if self.on_row is not None:
                self.on_row(row)
            outcome = self.decide(p)
            if outcome is not None or row.step % self.every.checkpoint == 0 or interrupted():
                self.save(p)
            if outcome is not None:
                return outcome, None
            if interrupted():
                return Outcome.INTERRUPTED, None
        self.save(p)
        return Outcome.MAX_STEPS, None

    def decide(self, p: Progress) -> Outcome | None:
        """What the stopping rules say."""
        validations = [row.valid_bound for row in p.history if row.valid_bound is not None]
        return self.stopping.decide([row.bound for row in p.history], validations)

    def one_block(self, p: Progress) -> NonFiniteError | None:
        """Runs one block and adds its row; on a value that is not finite, goes back to the last good state."""
        num_steps = min(self.every.log, self.max_steps - p.step)
        source = self.feed.source(p.step, num_steps)
        start = jax.tree.map(jnp.copy, p.state)
        state, summary = self.block(p.state, source, jnp.int32(num_steps))
        if not bool(summary.finite):
            p.state, error = self.locate(start, source, int(summary.steps), p)
            return error
        p.state = state
        row = _row(p.step + num_steps, summary)
        if self.validator is not None and row.step % self.every.validate == 0:
            row = self.validate(p, row)
        p.history.append(row)
        return None

    def validate(self, p: Progress, row: Row) -> Row:
        """The row with the validation bound; keeps the parameters if it is the best so far."""
        assert self.validator is not None
        bound, costs = self.validator(p.state.params)
        earlier = [r.valid_bound for r in p.history if r.valid_bound is not None]
        if all(bound > b for b in earlier):
            p.best, p.best_step = self.trainer.bound(jax.tree.map(jnp.copy, p.state.params)), row.step
        return Row(row.step, row.bound, row.std_error, row.costs, bound, costs)

    def locate(self, start: State, source: Any, failed: int, p: Progress) -> tuple[State, NonFiniteError]:
        """The last good state and an error with the address, found by running the block again up to the failure."""
        address, state = None, start
        # A gradient that is not finite shows in the loss one step later: look at the step before as well.
        for good in (failed - 2, failed - 1):
            if good < 0:
                continue
            state, _ = self.block(jax.tree.map(jnp.copy, start), source, jnp.int32(good))
            batch = self.feed.select(source, state.step, jnp.int32(good))
            address = find_non_finite(self.trainer, state, batch)
            if address is not None:
                break
        said = str(address) if address is not None else f"step {p.step + failed - 1}: the loss is not finite."
        kept = f" The last good state (after step {int(state.step)}) is kept."
        return state, NonFiniteError(said + kept)

    # ------------------------------------------------------------------------------------- saving

    def identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        return {
            "batch_size": self.feed.batch_size,
            "num_data": self.feed.num_data,
            "log_every": self.every.log,
            "validate_every": self.every.validate,
        }

    def save(self, p: Progress) -> None:
        """Writes a checkpoint, unless this state is saved already."""
        if self.checkpoints is None or p.saved_step == int(p.state.step):
            return
        about = {
            "run": self.identity(),
            "history": [row.as_dict() for row in p.history],
            "best_step": p.best_step,
            "seconds": p.seconds + time.perf_counter() - self.started,
            "elbax": importlib.metadata.version("elbax"),
            "adapted": None if self.adapted is None else {n: describe(e) for n, e in self.adapted.items()},
        }
        self.checkpoints.save(int(p.state.step), (p.state, self.parameters(p.best)), about)
        p.saved_step = int(p.state.step)

    def parameters(self, bound: Bound) -> Any:
        """The trained arrays of a bound."""
        return eqx.filter(bound, eqx.is_inexact_array)

    def restore(self, p: Progress) -> None:
        """Puts a run back where its newest checkpoint left it; nothing happens if there is none yet."""
        assert self.checkpoints is not None
        if self.checkpoints.latest() is None:
            return
        (p.state, best), about = self.checkpoints.load((p.state, self.parameters(p.best)))
        for name, value in self.identity().items():
            if about["run"].get(name) != value:
                raise RunError(
                    f"the run in '{self.checkpoints.folder}' has {name}={about['run'].get(name)}, this call has "
                    f"{name}={value}. A resumed run must have the options it was started with (max_steps may grow)."
                )
        p.state = jax.tree.map(jnp.asarray, p.state)
        p.best = self.trainer.bound(jax.tree.map(jnp.asarray, best))
        p.history = [Row(**row) for row in about["history"]]
        p.best_step = about["best_step"]
        p.seconds = about["seconds"]
        p.saved_step = int(p.state.step)

    def reason(self, name: str, choice: Choice) -> str:
        """The estimator of a node and why it was chosen."""
        measured = self.adapted is not None and name in self.adapted
        return f"{describe(choice.estimator)} (measured in a warm-up)" if measured else str(choice)

    # ------------------------------------------------------------------------------------- the result

    def result(self, p: Progress, outcome: Outcome, seconds: float, key: jax.Array) -> Fit:
        """What `fit` returns."""
        if p.best_step == 0:
            p.best, p.best_step = self.trainer.bound(p.state.params), int(p.state.step)
        plan = self.trainer.plan
        exact = tuple(name.partition("KL(")[2][:-1] for name in plan.graph.costs if "KL(" in name)
        versions = {name: importlib.metadata.version(name) for name in ("elbax", "jax", "numpyro", "equinox", "optax")}
        config = {
            **self.identity(),
            "max_steps": self.max_steps,
            "key": np.asarray(jax.random.key_data(key)).ravel().tolist() if _typed(key) else np.asarray(key).tolist(),
            "versions": versions,
            "device": jax.devices()[0].device_kind,
        }
        return Fit(
            p.best,
            outcome,
            tuple(p.history),
            int(p.state.step),
            p.best_step,
            {name: self.reason(name, choice) for name, choice in plan.chosen.items()},
            exact,
            p.seconds + seconds,
            config,
            p.state,
        )


def _typed(key: jax.Array) -> bool:
    return bool(jnp.issubdtype(key.dtype, jax.dtypes.prng_key))


def _row(step: int, summary: Summary) -> Row:
    n = int(summary.steps)
    # The one line of the library where the sign flips: a loss is minus a bound.
    bound = -float(summary.loss)
    std_error = float(np.sqrt(float(summary.loss_variance) / max(n - 1, 1)))
    return Row(step, bound, std_error, {name: float(v) for name, v in summary.costs.items()})
