"""A run from recipe to result: train, evaluate, record; and open what was recorded."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from elbax.bounds.base import Bound
from elbax.data import Dataset, load
from elbax.diagnose.bracket import Bracket, bracket
from elbax.diagnose.collapse import collapse
from elbax.diagnose.evaluate import Evaluation, evaluate
from elbax.diagnose.latents import LatentSummary, latent_summary
from elbax.diagnose.layers import Collapse
from elbax.errors import ConfigError, NonFiniteError, ProgramError, RunError
from elbax.fit.fit import fit
from elbax.fit.result import Fit, Row
from elbax.fit.stopping import Outcome, Stopping
from elbax.fit.training import State, make_trainer
from elbax.models.recipe import Recipe
from elbax.models.targets import absolute_target, recipe_of
from elbax.runs.folder import RunFolder

__all__ = ["Run", "collapse_of_run", "evaluate_run", "open_run", "train"]

# Fields that a resumed run may change: they say how long it goes on, not what it is.
MAY_CHANGE = ("max_steps", "early_stopping", "checkpoint_every", "eval_particles", "eval_data")


@dataclass(frozen=True)
class Run:
    """A run as it was recorded.

    Attributes:
        folder: where it lies.
        config: its `config.toml`.
        recipe: with the fields it was trained with.
        data: the data set, prepared as in training.
        bound: the trained bound: its `model` and `guide`.
        step: the step that its parameters are of.
        history: one row per block.
        result: its `result.json`; empty if it has not ended.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    recipe: Recipe
    data: Dataset
    bound: Bound
    step: int
    history: tuple[Row, ...]
    result: Mapping[str, Any]


def train(
    recipe: Recipe,
    data: str,
    out: str | Path,
    *,
    resume: bool = False,
    command: str = "",
    progress: bool | None = None,
    load_options: Mapping[str, Any] | None = None,
    recipe_path: str | None = None,
) -> tuple[RunFolder, Fit]:
    """Trains a recipe on a data set and records the run in a folder; with `resume`, goes on where it stopped.

    Args:
        recipe: what to train.
        data: name of a data set, or path of a file or folder.
        out: the run folder.
        resume: continue the run in `out`, if there is one.
        command: the command line, for the record.
        progress: whether to show a progress bar; by default only on a terminal.
        load_options: further options of `elbax.data.load`.
        recipe_path: how to find the recipe again: its name, or `FILE.py:CLASS`.

    Raises:
        RunError: if the folder exists, or does not belong to this run.
        DataError: if the data cannot be loaded.
        NonFiniteError: if a value became NaN or infinite; the last good state is in the folder's checkpoints.
    """
    folder = RunFolder(out)
    resumed = resume and folder.exists
    dataset = recipe.prepared(load(data, **(load_options or {})))
    if recipe.batch_size > len(dataset.train):
        raise ConfigError(f"batch_size={recipe.batch_size} is more than the {len(dataset.train)} training images.")
    config = configuration(recipe_path or recipe.name, recipe, data, dataset, command, load_options or {})
    if resumed:
        check_same_run(folder, config)
    else:
        folder.create(config)
    latest = folder.checkpoints.latest()
    if resumed:
        before = folder.read_config()
        again = [*before.get("resumed_with", []), command]
        folder.write_config(
            {**config, "started": before.get("started", ""), "command": before["command"], "resumed_with": again}
        )
        folder.drop_result()
        folder.cut_metrics(0 if latest is None else int(latest.stem.removeprefix("step-")))
    try:
        result = fit_recipe(recipe, dataset, folder, resume=resumed, progress=progress)
    except NonFiniteError as error:
        folder.write_result({"outcome": Outcome.NON_FINITE.value, "advice": str(error)})
        raise
    if result.outcome is not Outcome.INTERRUPTED:
        record_result(folder, recipe, dataset, result)
    return folder, result


def fit_recipe(recipe: Recipe, data: Dataset, folder: RunFolder, *, resume: bool, progress: bool | None) -> Fit:
    """The training itself."""
    build_key, fit_key = run_keys(recipe)
    model, guide = recipe.build(data, build_key)
    return fit(
        model,
        guide,
        data.train,
        key=fit_key,
        bound=recipe.bound,
        optimizer=recipe.optimizer(),
        batch_size=recipe.batch_size,
        max_steps=recipe.max_steps,
        valid=data.valid,
        estimators=recipe.estimators(),
        prepare=recipe.prepare(data),
        stopping=Stopping() if recipe.early_stopping else Stopping(stationary=None, patience=None),
        log_every=recipe.log_every,
        validate_every=recipe.validate_every,
        checkpoint=folder.path / "checkpoints",
        checkpoint_every=recipe.checkpoint_every,
        resume=resume,
        on_row=lambda row: folder.append_metrics(row.as_dict()),
        progress=progress,
    )


def run_keys(recipe: Recipe) -> tuple[jax.Array, jax.Array]:
    """The keys of a run: for its weights, and for its training."""
    build_key, fit_key = jr.split(jr.key(recipe.seed))
    return build_key, fit_key


def configuration(
    recipe_path: str, recipe: Recipe, name: str, data: Dataset, command: str, load_options: Mapping[str, Any]
) -> dict[str, Any]:
    """What `config.toml` holds."""
    path = Path(name)
    versions = ("elbax", "jax", "jaxlib", "numpyro", "equinox", "optax", "numpy")
    return {
        "recipe": absolute_target(recipe_path),
        "data": str(path.resolve()) if path.exists() else name,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "options": recipe.as_dict(),
        "data_options": {k: v for k, v in load_options.items() if v is not None},
        "data_files": {file.path.name: file.sha256 or "not computed" for file in data.files},
        "data_set": {"description": data.split, "licence": data.licence, "citation": data.citation},
        "versions": {v: importlib.metadata.version(v) for v in versions} | {"python": platform.python_version()},
        "machine": {"device": jax.devices()[0].device_kind, "platform": platform.platform()},
    }


def check_same_run(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Refuses to go on with a run under other options than it was started with."""
    before = folder.read_config()
    pairs = [("recipe", before["recipe"], config["recipe"]), ("data", before["data"], config["data"])]
    options = config["options"]
    # With a schedule over max_steps, another limit would be another run from the first step on.
    may_change = MAY_CHANGE if options["schedule"] == "constant" else tuple(k for k in MAY_CHANGE if k != "max_steps")
    pairs += [(k, v, options.get(k)) for k, v in before["options"].items() if k not in may_change]
    pairs += [(f"data file {k}", v, config["data_files"].get(k)) for k, v in before["data_files"].items()]
    for name, old, new in pairs:
        if old != new:
            raise RunError(
                f"the run in '{folder.path}' has {name}={old!r}, but {name}={new!r} was asked for. A run is resumed "
                f"with its own options (only {', '.join(may_change)} may change); start another one with another --out."
            )


# --------------------------------------------------------------------------------------------- figures


def record_result(folder: RunFolder, recipe: Recipe, data: Dataset, fitted: Fit) -> None:
    """Evaluates a fit on test data and writes `result.json`."""
    evaluation, latents = evaluate_bound(recipe, data, fitted.bound, recipe.eval_particles, recipe.eval_data, "test")
    last = fitted.history[-1] if fitted.history else None
    result = {
        "outcome": fitted.outcome.value,
        "advice": fitted.outcome.advice,
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "seconds": fitted.seconds,
        "training": None if last is None else {"bound": last.bound, "std_error": last.std_error, "step": last.step},
        "validation": next(({"bound": r.valid_bound} for r in fitted.history if r.step == fitted.best_step), None),
        "unit": "nats per datum",
        "test": evaluation.as_dict(),
        "collapse": told_by_latents(recipe, data, fitted.bound, recipe.eval_data, "test"),
        "bracket": bracket_or_reason(recipe, data, fitted.bound, recipe.bracket_data, "test"),
        "latents": {s.name: s.as_dict() for s in latents},
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "plan": dict(fitted.plan),
        "exact_terms": list(fitted.exact_terms),
    }
    folder.write_result(result)


def evaluate_bound(
    recipe: Recipe,
    data: Dataset,
    bound: Bound,
    num_particles: int,
    num_data: int,
    split: str,
    on_batch: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, list[LatentSummary]]:
    """Bounds on a split, and what the latents do there."""
    images = recipe.seen(data, split, num_data)
    eval_key, latent_key = jr.split(jr.fold_in(jr.key(recipe.seed), 1000))  # 0 to 2 draw the splits
    size = min(100, len(images))
    evaluation = evaluate(
        bound.model,
        bound.guide,
        images,
        key=eval_key,
        num_particles=num_particles,
        batch_size=size,
        on_batch=on_batch,
    )
    return evaluation, latent_summary(bound.model, bound.guide, images, key=latent_key, batch_size=size)


def bracket_bound(
    recipe: Recipe,
    data: Dataset,
    bound: Bound,
    num_data: int,
    split: str,
    on_stage: Callable[[str], None] | None = None,
) -> Bracket:
    """Log p(x) of a split's first data from both sides."""
    key = jr.fold_in(jr.key(recipe.seed), 1001)
    images = recipe.seen(data, split, num_data)
    return bracket(bound.model, bound.guide, images, key=key, on_stage=on_stage)


def bracket_or_reason(recipe: Recipe, data: Dataset, bound: Bound, num_data: int, split: str) -> dict[str, Any] | None:
    """The bracket for a record, or why there is none."""
    if num_data == 0:
        return None
    try:
        return bracket_bound(recipe, data, bound, num_data, split).as_dict()
    except (ConfigError, ProgramError) as error:
        return {"none": str(error)}


def evaluate_run(
    run: Run,
    *,
    num_particles: int,
    num_data: int,
    split: str = "test",
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Bounds of a recorded run on one of its splits."""
    check_split(split)
    return evaluate_bound(run.recipe, run.data, run.bound, num_particles, num_data, split, on_batch)[0]


def told_by_latents(recipe: Recipe, data: Dataset, bound: Bound, num_data: int, split: str) -> dict[str, Any] | None:
    """What the latents tell of the data, for a record, or why that is not known; `None` for a single datum."""
    images = recipe.seen(data, split, num_data)
    if len(images) < 2:
        return None
    key = jr.fold_in(jr.key(recipe.seed), 1002)
    try:
        return collapse(bound.model, bound.guide, images, key=key).as_dict()
    except (ConfigError, ProgramError) as error:
        return {"none": str(error)}


def collapse_of_run(run: Run, *, num_data: int, split: str = "test") -> Collapse:
    """What the latents of a recorded run tell of one of its splits."""
    check_split(split)
    images = run.recipe.seen(run.data, split, num_data)
    key = jr.fold_in(jr.key(run.recipe.seed), 1001)
    return collapse(run.bound.model, run.bound.guide, images, key=key)


def check_split(split: str) -> None:
    """Refuses names of splits that do not exist."""
    if split not in ("train", "valid", "test"):
        raise ConfigError(f"there is no split '{split}'; the splits are train, valid and test.")


def open_run(path: str | Path) -> Run:
    """A recorded run, with its trained parameters.

    Raises:
        RunError: if there is no run, no checkpoint, or one that is damaged.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    recipe = recipe_of(config["recipe"]).from_dict(config["options"])
    data = recipe.prepared(load(config["data"], **config.get("data_options", {})))
    bound, step, about = read_parameters(folder, recipe, data)
    history = tuple(Row(**row) for row in about["history"])
    return Run(folder, config, recipe, data, bound, step, history, folder.read_result())


def read_parameters(folder: RunFolder, recipe: Recipe, data: Dataset) -> tuple[Bound, int, dict[str, Any]]:
    """The parameters of a run: those of its best validation, else the last ones."""
    build_key, fit_key = run_keys(recipe)
    bound = recipe.bound(*recipe.build(data, build_key))
    params, static = eqx.partition(bound, eqx.is_inexact_array)
    states = estimator_states(recipe, data, bound, fit_key)
    like = State(params, recipe.optimizer().init(params), jax.numpy.zeros((), jax.numpy.int32), fit_key, states)
    (state, best), about = folder.checkpoints.load((like, params))
    chosen, step = (best, about["best_step"]) if about["best_step"] else (state.params, int(state.step))
    return eqx.combine(chosen, static), step, about


def estimator_states(recipe: Recipe, data: Dataset, bound: Bound, key: jax.Array) -> dict[str, Any]:
    """States of the shapes that a run's estimators have; those chosen by rule have none."""
    estimators = recipe.estimators()
    if estimators is None:
        return {}
    batch = data.train[: recipe.batch_size]
    optimizer, prepare = recipe.optimizer(), recipe.prepare(data)
    trainer = make_trainer(bound, optimizer, batch, num_data=len(data.train), estimators=estimators, prepare=prepare)
    return trainer.plan.init(key)
