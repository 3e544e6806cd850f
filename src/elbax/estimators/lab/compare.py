"""Compares gradient estimators on a program: bias, consistency, variance, time, and which is best for each node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from elbax.errors import ConfigError, EstimatorError
from elbax.estimators.base import Estimator
from elbax.estimators.choose import describe
from elbax.estimators.lab.comparison import Comparison, Measurement, rank
from elbax.estimators.lab.measure import Compiled, Groups, draw, time_all
from elbax.estimators.lab.reference import MAX_OUTCOMES, Reference, count_outcomes, exact_gradient
from elbax.estimators.lab.statistics import Trial, measurement
from elbax.estimators.plan import Plan, make_plan
from elbax.estimators.surrogate import check_key, is_differentiable, with_parameters
from elbax.graph.tracing import Arguments

__all__ = ["compare_estimators"]

WARM_UP = 300  # steps that learned baselines and control variates take before they are measured


def compare_estimators(
    program: Callable,
    args: tuple,
    candidates: Sequence[Estimator] | Mapping[str, Sequence[Estimator]] | None = None,
    *,
    key: jax.Array,
    argnums: int | Sequence[int] = 0,
    base: Estimator | Mapping[str, Estimator] | None = None,
    reference: str = "auto",
    num_draws: int = 2000,
    batch_size: int | None = None,
    on_tried: Callable[[str, str], None] | None = None,
) -> Comparison:
    """Measures gradient estimators on a program, node by node.

    For each node, each candidate takes its place while the other nodes keep their estimators. The figures are those of
    the whole gradient and of each array of parameters: bias against a reference, with a confidence interval; error
    against the number of draws; variance and signal-to-noise ratio; time, memory and parallel speed-up.

    Main Arguments:
        program: an ordinary JAX function with sites in it (see `elbax.trace`).
        args: its arguments; the gradient is measured at them.
        candidates: estimators to try at every node that they can serve, or lists of them by node; all that the library
            has, in their plain forms, if not given.
        key: random key.

    Other Arguments:
        argnums: which arguments to differentiate.
        base: the estimators of the other nodes; by rule where none is given.
        reference: `"exact"` (enumeration), `"long_run"` (twenty times the draws of the base assignment, which has to
            be unbiased), or `"auto"`: exact where there are few enough outcomes.
        num_draws: gradients per candidate.
        batch_size: gradients computed together; as many as fit into some 400 MB by default.
        on_tried: called with site and estimator after each candidate.

    Returns:
        The comparison.

    Raises:
        ConfigError: for options that do not exist, or nothing to compare.
        ProgramError, EstimatorError: if the program or the base assignment is not valid.
    """
    check_key(key)
    program, args = with_parameters(program, args)
    lab = _Lab(program, args, argnums, num_draws, batch_size)
    plan = lab.plan(base)
    tried = _candidates(plan, candidates)
    draw_key, reference_key, time_key = jax.random.split(key, 3)
    ref = lab.reference(plan, base, reference, reference_key)
    trials: list[Trial] = []
    refused: dict[tuple[str, str], str] = {}
    fixed = {name: choice.estimator for name, choice in plan.chosen.items()}
    for site, estimators in tried.items():
        for estimator in estimators:
            assignment = {**fixed, site: estimator}
            try:
                lab.plan(assignment)
            except EstimatorError as error:
                refused[site, describe(estimator)] = str(error)
                continue
            trials.append(lab.try_out(site, estimator, assignment, ref, draw_key))
            if on_tried is not None:
                on_tried(site, describe(estimator))
    rows = lab.measure(trials, ref, time_key)
    if not rows:
        raise ConfigError(f"no candidate can serve a node of program `{plan.graph.name}`: {_listed(refused)}")
    best = {site: min((r for r in rows if r.site == site), key=rank) for site in dict.fromkeys(r.site for r in rows)}
    chosen = {**fixed, **{site: row.estimator for site, row in best.items() if row.estimator is not None}}
    together = lab.measure([lab.try_out("", None, chosen, ref, draw_key)], ref, time_key)[0]
    return Comparison(plan.graph.name, tuple(rows), together, ref, refused)


def _listed(refused: Mapping[tuple[str, str], str]) -> str:
    return "; ".join(refused.values()) or "it has no stochastic nodes."


def _candidates(plan: Plan, given: Any) -> dict[str, Sequence[Estimator]]:
    """The candidates of each node that has a parameter to differentiate."""
    from elbax.estimators.fixed import Fixed
    from elbax.estimators.lab.candidates import candidates_of

    open_nodes = [name for name, choice in plan.chosen.items() if not isinstance(choice.estimator, Fixed)]
    if given is None:
        return {name: candidates_of(plan.sites[name]) for name in open_nodes}
    if isinstance(given, Mapping):
        for name in given:
            if name not in plan.sites:
                raise ConfigError(f"candidates names '{name}', but the program's nodes are {', '.join(plan.sites)}.")
        return {name: list(estimators) for name, estimators in given.items()}
    if isinstance(given, Estimator):
        given = [given]
    return {name: list(given) for name in open_nodes}


class _Lab:
    """A program at given arguments."""

    def __init__(
        self, program: Callable, args: tuple, argnums: int | Sequence[int], num_draws: int, batch_size: int | None
    ) -> None:
        self.program, self.args = program, args
        self.num_draws = num_draws
        positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        chosen = tuple(args[i] for i in positions)
        self.positions = [i % len(args) for i in positions]
        self.moving, self.still = eqx.partition(chosen, is_differentiable)
        if not jax.tree.leaves(self.moving):
            raise ConfigError("there is nothing to differentiate: the chosen arguments hold no arrays of floats.")
        single = self.moving[0] if len(positions) == 1 else self.moving
        self.groups = Groups.of(single)
        self.batch_size = batch_size or max(1, min(50, 10**8 // max(1, len(self.groups.index))))

    def plan(self, estimators: Any) -> Plan:
        """The program made ready with some estimators."""
        return make_plan(self.program, estimators, self.args, {})

    def arrays(self, moving: Any) -> list[Any]:
        """The program's arguments, flat, with other values of the differentiated ones."""
        full = list(self.args)
        for i, value in zip(self.positions, eqx.combine(moving, self.still), strict=True):
            full[i] = value
        return Arguments.of(self.program, tuple(full), {}).arrays

    def gradient(self, plan: Plan, key: jax.Array) -> Callable[[jax.Array], Any]:
        """`key -> gradient`; estimators that learn have learned for a while, at these arguments."""
        states = plan.init(key)
        if states:

            def step(states: Any, key: jax.Array) -> tuple[Any, None]:
                return plan.estimate(key, self.arrays(self.moving), {}, states)[1].states, None

            states = jax.jit(lambda s, k: jax.lax.scan(step, s, k)[0])(states, jax.random.split(key, WARM_UP))
        return lambda key: jax.grad(lambda moving: plan.estimate(key, self.arrays(moving), {}, states)[0])(self.moving)

    def reference(self, plan: Plan, base: Any, kind: str, key: jax.Array) -> Reference:
        """What the gradient is."""
        if kind not in ("auto", "exact", "long_run"):
            raise ConfigError(f'reference must be "auto", "exact" or "long_run"; got {kind!r}.')
        count = count_outcomes(plan)
        if kind == "exact" or (kind == "auto" and count is not None and count <= MAX_OUTCOMES):
            exact = exact_gradient(plan, self.arrays(self.moving), self.arrays, self.moving)
            return Reference(exact, np.zeros_like(exact), f"enumeration of {count:,} joint outcomes")
        biased = [f"'{n}' {describe(c.estimator)}" for n, c in plan.chosen.items() if not c.estimator.unbiased]
        if biased:
            raise ConfigError(
                f"the reference would be a long run of the base assignment, but {', '.join(biased)} is biased. Give a "
                "base assignment of unbiased estimators."
            )
        zero = np.zeros(len(self.groups.index))
        draws = draw(self.gradient(plan, key), key, 20 * self.num_draws, zero, self.groups, self.batch_size)
        used = ", ".join(f"{n}: {describe(c.estimator)}" for n, c in plan.chosen.items())
        return Reference(draws.mean, draws.std_error, f"mean of {draws.num:,} draws with {used}")

    def try_out(
        self, site: str, estimator: Estimator | None, assignment: dict[str, Estimator], ref: Reference, key: jax.Array
    ) -> Trial:
        """Draws and compiles gradients under an assignment."""
        warm_key, draw_key = jax.random.split(key)
        gradient = self.gradient(self.plan(assignment), warm_key)
        draws = draw(gradient, draw_key, self.num_draws, ref.gradient, self.groups, self.batch_size)
        return Trial(site, estimator, assignment, draws, Compiled.of(gradient, key))

    def measure(self, trials: Sequence[Trial], ref: Reference, key: jax.Array) -> list[Measurement]:
        """Times all trials in turns, and puts their figures together."""
        timings = time_all([trial.compiled for trial in trials], key)
        return [measurement(t, timing, ref, self.groups) for t, timing in zip(trials, timings, strict=True)]
