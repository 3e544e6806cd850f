"""The bound on validation data: the same draws at every evaluation, so that differences are those of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from elbax.bounds.base import Bound
from elbax.fit.feed import check_rows
from elbax.fit.training import Prepare, Trainer, make_trainer

__all__ = ["Validator", "make_validator"]

# parameters -> (bound in nats per datum, mean of each cost)
Validator = Callable[[Any], tuple[float, Mapping[str, float]]]

MAX_ROWS = 1000


def make_validator(bound: Bound, valid: Any, key: jax.Array, trainer: Trainer, prepare: Prepare | None) -> Validator:
    """Evaluates a bound on validation data, in batches of equal size and a rest."""
    num_data = check_rows(valid)
    estimators = {name: choice.estimator for name, choice in trainer.plan.chosen.items()}
    pieces = [
        _piece(bound, chunk, key, i, estimators, trainer, prepare) for i, chunk in enumerate(_chunks(valid, num_data))
    ]

    def validate(params: Any) -> tuple[float, Mapping[str, float]]:
        totals: dict[str, float] = {}
        for size, evaluate in pieces:
            for name, value in jax.device_get(evaluate(params)).items():
                totals[name] = totals.get(name, 0.0) + float(value) * size / num_data
        return -sum(totals.values()), totals

    return validate


def _chunks(valid: Any, num_data: int) -> list[Any]:
    size = min(num_data, MAX_ROWS)
    full = num_data // size
    stacked = jax.tree.map(lambda x: np.asarray(x[: full * size]).reshape(full, size, *x.shape[1:]), valid)
    chunks = [stacked]
    if num_data % size:
        chunks.append(jax.tree.map(lambda x: np.asarray(x[full * size :])[None], valid))
    return chunks


def _piece(
    bound: Bound, chunk: Any, key: jax.Array, index: int, estimators: Any, trainer: Trainer, prepare: Prepare | None
) -> tuple[int, Callable]:
    leaf = jax.tree.leaves(chunk)[0]
    num_batches, size = leaf.shape[:2]
    example = jax.tree.map(lambda x: x[0], chunk)
    one = make_trainer(
        bound, trainer.optimizer, example, num_data=num_batches * size, estimators=estimators, prepare=prepare
    )
    one = replace(one, static=trainer.static)
    keys = jax.random.split(jax.random.fold_in(key, index), num_batches)

    def of_batch(params: Any, batch: Any, batch_key: jax.Array) -> dict[str, jax.Array]:
        prepare_key, draw_key = jax.random.split(batch_key)
        seen = batch if prepare is None else prepare(prepare_key, batch)
        return one.loss(params, seen, draw_key)[1].costs

    @jax.jit
    def evaluate(params: Any, batches: Any) -> dict[str, jax.Array]:
        sums = jax.lax.map(lambda pair: of_batch(params, *pair), (batches, keys))
        return jax.tree.map(lambda s: s.mean(0), sums)

    chunk = jax.device_put(chunk)
    return num_batches * size, lambda params: evaluate(params, chunk)
