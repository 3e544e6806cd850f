"""`estimators="adapt"`: measure in a short warm-up which estimator is best for each node, then train with those.

The warm-up trains by rule for some steps, so that estimators are compared where training will spend its time and not at
random parameters; then the laboratory compares a few unbiased candidates on one batch. Training itself starts from the
beginning. Which estimators were chosen is written into checkpoints, since times are not reproducible: a resumed run
does not measure again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from elbax.bounds.base import Bound
from elbax.errors import RunError
from elbax.estimators.base import Estimator
from elbax.estimators.choose import describe
from elbax.estimators.fixed import Fixed
from elbax.estimators.lab.candidates import FEW, candidates_of
from elbax.estimators.lab.compare import compare_estimators
from elbax.fit.checkpoint import Checkpoints
from elbax.fit.feed import Feed, InMemory
from elbax.fit.training import Trainer, as_arguments, call

__all__ = ["adapted", "measured"]

WARM_UP = 200
NUM_DRAWS = 256


def measured(trainer: Trainer, bound: Bound, feed: Feed, key: jax.Array) -> dict[str, Estimator]:
    """The estimator of each node with the smallest variance times time after a warm-up.

    Args:
        trainer: by rule.
        bound: with the parameters that training starts from.
        feed: of the training data.
        key: random key.
    """
    warm_key, lab_key = jax.random.split(key)
    state = trainer.init(bound, warm_key)
    # Batches of an iterator can be had once only: the warm-up then stays with the first.
    source = feed.source(0, WARM_UP) if isinstance(feed, InMemory) else None
    first = feed.example()

    def select(step: jax.Array, i: jax.Array) -> Any:
        return first if source is None else feed.select(source, step, i)

    state, summary = jax.jit(lambda s: trainer.block(s, select, jnp.int32(WARM_UP)))(state)
    params = state.params if bool(summary.finite) else trainer.init(bound, warm_key).params
    batch, _ = trainer.see(state, first)
    chosen, sites = trainer.plan.chosen, trainer.plan.sites
    drawn_only = {name for name, choice in chosen.items() if isinstance(choice.estimator, Fixed)}
    admitted = {name: candidates_of(site, FEW) for name, site in sites.items() if name not in drawn_only}
    candidates = {name: few for name, few in admitted.items() if len(few) > 1}
    if not candidates:
        return {}
    found = compare_estimators(
        call, (trainer.bound(params), *as_arguments(batch)), candidates, key=lab_key, num_draws=NUM_DRAWS
    )
    return {name: found.best[name] for name in candidates}


def adapted(checkpoints: Checkpoints | None) -> dict[str, Estimator] | None:
    """The estimators that an earlier session of the same run chose; `None` if there was none.

    Raises:
        RunError: if that run did not adapt.
    """
    about: Mapping[str, Any] | None = None if checkpoints is None else checkpoints.about()
    if about is None:
        return None
    known = {describe(e): e for e in FEW}
    labels = about.get("adapted")
    if labels is None or any(label not in known for label in labels.values()):
        raise RunError(
            'the run to be resumed was not started with estimators="adapt" by this version. Resume with the options it '
            "was started with."
        )
    return {name: known[label] for name, label in labels.items()}
