"""`fit`: maximise a bound, and say how it went.

The host does little: it hands blocks of steps to the device, reads one summary per block, and decides from the
summaries whether to go on. All decisions fall on a fixed grid of steps, so that a run that was killed and resumed makes
the same ones and ends bit-identical to one that was not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import optax

from elbax.bounds.base import Bound
from elbax.bounds.elbo import ELBO
from elbax.errors import ConfigError
from elbax.estimators.choose import Estimators
from elbax.estimators.surrogate import check_key
from elbax.fit.adapt import adapted, measured
from elbax.fit.checkpoint import Checkpoints
from elbax.fit.checks import check_finite, check_observed
from elbax.fit.feed import make_feed
from elbax.fit.interrupt import watch_interrupts
from elbax.fit.loop import Every, Loop, Progress
from elbax.fit.progress import progress_bar
from elbax.fit.result import Fit, Row
from elbax.fit.stopping import Stopping
from elbax.fit.training import Prepare, Trainer, make_trainer
from elbax.fit.validation import make_validator

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
    estimators: Estimators | str = None,
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
        estimators: gradient estimators by site name (see `elbax.surrogate`), or `"adapt"`: measured in a short warm-up.
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
        DataError: for data that are empty, of uneven length, not finite, or outside the support of their distribution.
        NonFiniteError: with the address of the first value that was not finite; `error.fit` holds the last good state.
        RunError: if a checkpoint cannot be written or does not belong to this run.
    """
    started = time.perf_counter()
    check_key(key)
    log_every, max_steps = _positive("log_every", log_every), _positive("max_steps", max_steps)
    every = Every(
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
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    checkpoints = None if checkpoint is None else Checkpoints(Path(checkpoint))

    def trained_with(estimators: Estimators) -> Trainer:
        example = feed.example()
        return make_trainer(whole, optimizer, example, num_data=feed.num_data, estimators=estimators, prepare=prepare)

    adapting = None
    if isinstance(estimators, str):
        if estimators != "adapt":
            raise ConfigError(f'estimators must be estimators, or "adapt"; got {estimators!r}.')
        adapting = adapted(checkpoints) if resume else None
        if adapting is None:
            adapting = measured(trained_with(None), whole, feed, jax.random.fold_in(key, 3))
        estimators = adapting
    trainer = trained_with(estimators)
    check_observed(model, feed.example() if isinstance(data, Iterator) else data, "data", prepare)
    check_observed(model, valid, "valid", prepare)
    validator = None if valid is None else make_validator(whole, valid, valid_key, trainer, prepare)
    loop = Loop(
        trainer,
        feed,
        validator,
        stopping,
        every,
        max_steps,
        checkpoints,
        on_row,
        adapting,
    )
    progress_of = Progress(trainer.init(whole, run_key), whole)
    if resume:
        loop.restore(progress_of)
    with watch_interrupts() as interrupted, progress_bar(progress_of.step, max_steps, show=progress) as show:
        outcome, error = loop.run(progress_of, interrupted, show)
    result = loop.result(progress_of, outcome, time.perf_counter() - started, key)
    if error is not None and throw:
        error.fit = result  # type: ignore[attr-defined]
        raise error
    return result


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
