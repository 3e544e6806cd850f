"""`fit`: maximise a bound, and say how it went.

The host does little: it hands blocks of steps to the device, reads one summary per block, and decides from the
summaries whether to go on. All decisions fall on a fixed grid of steps, so that a run that was killed and resumed makes
the same ones and ends bit-identical to one that was not.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from elbax.bounds.base import Bound
from elbax.bounds.elbo import ELBO
from elbax.errors import ConfigError, DataError, NonFiniteError, RunError
from elbax.estimators.choose import Estimators
from elbax.estimators.surrogate import check_key
from elbax.fit.checkpoint import Checkpoints
from elbax.fit.feed import Feed, make_feed
from elbax.fit.interrupt import watch_interrupts
from elbax.fit.nonfinite import find_non_finite
from elbax.fit.progress import progress_bar
from elbax.fit.result import Fit, Row
from elbax.fit.stopping import Outcome, Stopping
from elbax.fit.training import Prepare, State, Summary, Trainer, make_trainer
from elbax.fit.validation import Validator, make_validator

__all__ = ["fit"]


def fit(
    model: Callable,
    guide: Callable,
    data: Any = None,
    *,
    key: jax.Array,
    bound: Callable[[Callable, Callable], Bound] = ELBO,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    max_steps: int = 10_000,
    valid: Any = None,
    estimators: Estimators = None,
    prepare: Prepare | None = None,
    stopping: Stopping = Stopping(),  # noqa: B008  frozen
    num_data: int | None = None,
    log_every: int = 100,
    validate_every: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    on_row: Callable[[Row], None] | None = None,
    progress: bool | None = None,
    throw: bool = True,
) -> Fit:
    """Fits a model and a guide by maximising a bound on log p(data).

    Main arguments:
        model: program with sample sites (latents) and observed sites (data); called with a batch. A pytree whose arrays
            of floats are trained, such as an Equinox module.
        guide: program that samples the same latents; called with a batch. Trained likewise.
        data: an array or a tuple of arrays with one row per datum (NumPy, JAX, or `numpy.memmap`), an iterator of
            batches, or `None` if the programs hold their data.
        key: random key; the run is a function of it.
        bound: makes the bound from model and guide, such as `elbax.ELBO`.
        optimizer: an Optax transformation; Adam with learning rate 1e-3 by default.
        batch_size: rows per step; all rows by default.
        max_steps: an upper limit; training usually ends when it has converged (see `stopping`).
        valid: validation data, like `data`. The parameters returned are then those of the best validation.

    Other Arguments:
        estimators: gradient estimators by site name (see `elbax.surrogate`).
        prepare: `(key, batch) -> batch`, applied to every batch inside the compiled step (binarisation, augmentation).
        stopping: rules for ending early.
        num_data: size of the data set, where `data` is an iterator and latents are shared by all data.
        log_every: steps per block; the grid on which everything is recorded and decided.
        validate_every: steps between validations; every fifth block by default.
        checkpoint: folder for checkpoints; none are written without it.
        checkpoint_every: steps between checkpoints; every tenth block by default.
        resume: go on from the newest checkpoint, if there is one.
        on_row: called with every new row of the history.
        progress: whether to show a progress bar; by default only on a terminal.
        throw: whether to raise if a value becomes NaN or infinite; otherwise the result says so.

    Returns:
        The trained bound, how training ended, its history, and everything needed to go on or to repeat it.

    Raises:
        ProgramError, SiteMismatchError, EstimatorError: if the programs do not fit together.
        DataError: for data that are empty, of uneven length, or not finite.
        NonFiniteError: with the address of the first value that was not finite; `error.fit` holds the last good state.
        RunError: if a checkpoint cannot be written or does not belong to this run.
    """
    started = time.perf_counter()
    check_key(key)
    log_every, max_steps = _positive("log_every", log_every), _positive("max_steps", max_steps)
    every = _Every(
        log_every,
        _multiple("validate_every", validate_every, log_every, 5),
        _multiple("checkpoint_every", checkpoint_every, log_every, 10),
    )
    if resume and checkpoint is None:
        raise ConfigError("resume=True needs the checkpoint folder to resume from: pass checkpoint=FOLDER.")
    check_finite(data, "data")
    check_finite(valid, "valid")
    run_key, feed_key, valid_key = jax.random.split(key, 3)
    feed = make_feed(data, batch_size, feed_key, num_data)
    whole = bound(model, guide)
    trainer = make_trainer(
        whole,
        optax.adam(1e-3) if optimizer is None else optimizer,
        feed.example(),
        num_data=feed.num_data,
        estimators=estimators,
        prepare=prepare,
    )
    validator = None if valid is None else make_validator(whole, valid, valid_key, trainer, prepare)
    loop = _Loop(
        trainer,
        feed,
        validator,
        stopping,
        every,
        max_steps,
        None if checkpoint is None else Checkpoints(Path(checkpoint)),
        on_row,
    )
    progress_of = _Progress(trainer.init(whole, run_key), whole)
    if resume:
        loop.restore(progress_of)
    with watch_interrupts() as interrupted, progress_bar(progress_of.step, max_steps, show=progress) as show:
        outcome, error = loop.run(progress_of, interrupted, show)
    result = loop.result(progress_of, outcome, time.perf_counter() - started, key)
    if error is not None and throw:
        error.fit = result  # type: ignore[attr-defined]
        raise error
    return result


@dataclass(frozen=True)
class _Every:
    """The grid of decisions, in steps."""

    log: int
    validate: int
    checkpoint: int


@dataclass
class _Progress:
    """What changes while a run goes on; all of it is in a checkpoint."""

    state: State
    best: Any  # a bound: the parameters of the best validation
    history: list[Row] = field(default_factory=list)
    best_step: int = 0
    saved_step: int = -1

    @property
    def step(self) -> int:
        return self.history[-1].step if self.history else 0


@dataclass
class _Loop:
    trainer: Trainer
    feed: Feed
    validator: Validator | None
    stopping: Stopping
    every: _Every
    max_steps: int
    checkpoints: Checkpoints | None
    on_row: Callable[[Row], None] | None

    def __post_init__(self) -> None:
        def block(state: State, source: Any, num_steps: jax.Array) -> tuple[State, Summary]:
            return self.trainer.block(state, lambda step, i: self.feed.select(source, step, i), num_steps)

        self.block = jax.jit(block, donate_argnums=0)

    # ------------------------------------------------------------------------------------- running

    def run(
        self, p: _Progress, interrupted: Callable[[], bool], show: Callable[[Row, float], None]
    ) -> tuple[Outcome, NonFiniteError | None]:
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

    def decide(self, p: _Progress) -> Outcome | None:
        validations = [row.valid_bound for row in p.history if row.valid_bound is not None]
        return self.stopping.decide([row.bound for row in p.history], validations)

    def one_block(self, p: _Progress) -> NonFiniteError | None:
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

    def validate(self, p: _Progress, row: Row) -> Row:
        assert self.validator is not None
        bound, costs = self.validator(p.state.params)
        earlier = [r.valid_bound for r in p.history if r.valid_bound is not None]
        if all(bound > b for b in earlier):
            p.best, p.best_step = self.trainer.bound(jax.tree.map(jnp.copy, p.state.params)), row.step
        return Row(row.step, row.bound, row.std_error, row.costs, bound, costs)

    def locate(self, start: State, source: Any, failed: int, p: _Progress) -> tuple[State, NonFiniteError]:
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

    def save(self, p: _Progress) -> None:
        if self.checkpoints is None or p.saved_step == int(p.state.step):
            return
        about = {
            "run": self.identity(),
            "history": [row.as_dict() for row in p.history],
            "best_step": p.best_step,
            "elbax": importlib.metadata.version("elbax"),
        }
        self.checkpoints.save(int(p.state.step), (p.state, self.parameters(p.best)), about)
        p.saved_step = int(p.state.step)

    def parameters(self, bound: Bound) -> Any:
        import equinox as eqx

        return eqx.filter(bound, eqx.is_inexact_array)

    def restore(self, p: _Progress) -> None:
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
        p.saved_step = int(p.state.step)

    # ------------------------------------------------------------------------------------- the result

    def result(self, p: _Progress, outcome: Outcome, seconds: float, key: jax.Array) -> Fit:
        if p.best_step == 0:
            p.best, p.best_step = self.trainer.bound(p.state.params), int(p.state.step)
        plan = self.trainer.plan
        exact = tuple(name[3:-1] for name in plan.graph.costs if name.startswith("KL("))
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
            {name: str(choice) for name, choice in plan.chosen.items()},
            exact,
            seconds,
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


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1; got {value!r}.")
    return value


def _multiple(name: str, value: int | None, unit: int, default: int) -> int:
    if value is None:
        return default * unit
    if _positive(name, value) % unit:
        raise ConfigError(f"{name}={value} must be a multiple of log_every={unit}.")
    return value


def check_finite(data: Any, name: str) -> None:
    """Refuses NaN and infinity in arrays of floats, before any work is done."""
    if data is None or hasattr(data, "__next__"):
        return
    for path, x in jax.tree_util.tree_leaves_with_path(data):
        if not hasattr(x, "dtype") or not np.issubdtype(x.dtype, np.inexact):
            continue
        rows = max(1, 2**24 // max(1, int(np.prod(x.shape[1:]))))
        for start in range(0, len(x) if x.ndim else 0, rows):
            bad = ~np.isfinite(np.asarray(x[start : start + rows]))
            if bad.any():
                first = start + int(np.argwhere(bad)[0][0])
                raise DataError(
                    f"{name}{jax.tree_util.keystr(path)} holds NaN or infinity, first in row {first}. Remove or impute "
                    "these rows."
                )
