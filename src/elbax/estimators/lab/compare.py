"""Compares gradient estimators on a program: bias, consistency, variance, time, and which is best for each node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import equinox as eqx
import jax
import numpy as np

from elbax.errors import ConfigError, EstimatorError
from elbax.estimators.base import Estimator
from elbax.estimators.choose import describe
from elbax.estimators.lab.measure import NUM_CHUNKS, SPEEDUP, Compiled, Draws, Groups, Timing, draw, time_all
from elbax.estimators.lab.reference import MAX_OUTCOMES, Reference, count_outcomes, exact_gradient
from elbax.estimators.plan import Plan, make_plan
from elbax.estimators.surrogate import check_key, is_differentiable, with_parameters
from elbax.graph.tracing import Arguments

__all__ = ["Comparison", "Measurement", "compare_estimators"]

FALSE_ALARM = 1e-3  # probability that an unbiased estimator is called biased
WARM_UP = 300  # steps that learned baselines and control variates take before they are measured


@dataclass(frozen=True)
class Group:
    """One assignment's gradient of one group of parameters.

    Attributes:
        bias: along the gradient, as a fraction of its norm; negative is too short. With its standard error, which
            includes that of the reference.
        variance: sum over elements of one draw, with its standard error.
        snr: norm of the reference over the standard deviation of one draw.
    """

    bias: float
    bias_error: float
    variance: float
    variance_error: float
    snr: float


@dataclass(frozen=True)
class Measurement:
    """One estimator at one node, the other nodes as in the base assignment.

    Attributes:
        site: the node; empty for the best assignment of all nodes together.
        estimator: measured there.
        assignment: the estimators of all nodes.
        unbiased: whether all estimators say that they are.
        z: largest distance of an element of the mean gradient to the reference, in standard errors.
        z_limit: what an unbiased estimator exceeds with probability 0.001.
        groups: by name of the group; `"all"` is the whole gradient.
        errors: root mean square error of the mean of `n` draws, for growing `n`, as `(n, error)`.
        slope: of log error against log n; -1/2 for a consistent estimator.
        seconds, seconds_error: of one gradient.
        memory: bytes of one gradient beyond arguments and results, or `None`.
        speedup: time of 16 single gradients over that of 16 together.
        num_draws: gradients drawn.
    """

    site: str
    estimator: Estimator | None
    assignment: dict[str, Estimator]
    unbiased: bool
    z: float
    z_limit: float
    groups: dict[str, Group]
    errors: tuple[tuple[int, float], ...]
    slope: float
    seconds: float
    seconds_error: float
    memory: int | None
    speedup: float
    num_draws: int

    @property
    def label(self) -> str:
        """The estimator as one would write it."""
        return "best together" if self.estimator is None else describe(self.estimator)

    @property
    def bias_seen(self) -> bool:
        """Whether a bias was seen."""
        return self.z > self.z_limit

    @property
    def work(self) -> float:
        """Variance times seconds of one gradient: the lower, the more accuracy per time."""
        return self.groups["all"].variance * self.seconds

    @property
    def log_work_error(self) -> float:
        """Standard error of the logarithm of `work`."""
        total = self.groups["all"]
        relative = total.variance_error / total.variance if total.variance > 0 else 0.0
        return math.hypot(relative, self.seconds_error / self.seconds)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_estimators`; print it, `plot` it, pass `best` to `elbax.fit`.

    Attributes:
        program: its name.
        rows: one measurement per node and candidate.
        together: the best assignment of all nodes, measured as a whole.
        reference: what the gradients were compared with.
        refused: for each node, the candidates that cannot serve it, with the reason.
    """

    program: str
    rows: tuple[Measurement, ...]
    together: Measurement
    reference: Reference
    refused: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Estimator]:
        """For each node, the estimator with the smallest variance times time among those without bias."""
        return self.together.assignment

    @property
    def sites(self) -> tuple[str, ...]:
        """The nodes compared."""
        return tuple(dict.fromkeys(row.site for row in self.rows))

    def of(self, site: str) -> tuple[Measurement, ...]:
        """The measurements of a node, best first: those without bias, by variance times time."""
        return tuple(sorted((r for r in self.rows if r.site == site), key=_rank))

    def tied(self, site: str) -> tuple[Measurement, ...]:
        """The best of a node and all that cannot be told apart from it at the 95 % level."""
        ranked = self.of(site)
        return tuple(r for r in ranked if _usable(r) == _usable(ranked[0]) and _indistinguishable(r, ranked[0]))

    def __str__(self) -> str:
        from elbax.estimators.lab.table import text

        return text(self)

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        from elbax.estimators.lab.table import as_dict

        return as_dict(self)

    def plot(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Draws variance against time, and error against number of draws; `.png` or `.svg`."""
        from elbax.estimators.lab.figure import plot

        return plot(self, Path(path), overwrite=overwrite)


def _usable(row: Measurement) -> bool:
    return row.unbiased and not row.bias_seen


def _rank(row: Measurement) -> tuple[bool, float]:
    return not _usable(row), row.work


def _indistinguishable(a: Measurement, b: Measurement) -> bool:
    if a is b or a.work == b.work:
        return True
    if min(a.work, b.work) <= 0:
        return False
    apart = abs(math.log(a.work) - math.log(b.work))
    return apart < 1.96 * math.hypot(a.log_work_error, b.log_work_error)


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
    trials: list[_Trial] = []
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
    best = {site: min((r for r in rows if r.site == site), key=_rank) for site in dict.fromkeys(r.site for r in rows)}
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
    ) -> _Trial:
        """Draws and compiles gradients under an assignment."""
        warm_key, draw_key = jax.random.split(key)
        gradient = self.gradient(self.plan(assignment), warm_key)
        draws = draw(gradient, draw_key, self.num_draws, ref.gradient, self.groups, self.batch_size)
        return _Trial(site, estimator, assignment, draws, Compiled.of(gradient, key))

    def measure(self, trials: Sequence[_Trial], ref: Reference, key: jax.Array) -> list[Measurement]:
        """Times all trials in turns, and puts their figures together."""
        timings = time_all([trial.compiled for trial in trials], key)
        return [_measurement(t, timing, ref, self.groups) for t, timing in zip(trials, timings, strict=True)]


@dataclass(frozen=True)
class _Trial:
    """An assignment with its draws, before it is timed."""

    site: str
    estimator: Estimator | None
    assignment: dict[str, Estimator]
    draws: Draws
    compiled: Compiled


def _measurement(trial: _Trial, timing: Timing, ref: Reference, groups: Groups) -> Measurement:
    errors = _errors(trial.draws, ref)
    z, limit = _largest_z(trial.draws, ref)
    return Measurement(
        trial.site,
        trial.estimator,
        trial.assignment,
        all(e.unbiased for e in trial.assignment.values()),
        z,
        limit,
        _by_group(trial.draws, ref, groups),
        errors,
        _slope(errors),
        timing.single,
        timing.error,
        trial.compiled.memory,
        SPEEDUP * timing.single / timing.several,
        trial.draws.num,
    )


def _largest_z(draws: Draws, ref: Reference) -> tuple[float, float]:
    """The largest distance of an element to the reference in standard errors, and what is usual."""
    error = np.sqrt(draws.std_error**2 + ref.std_error**2)
    # Elements without spread must agree to rounding.
    floor = 1e-5 * (np.abs(ref.gradient) + np.abs(ref.gradient).max()) + 1e-30
    z = np.abs(draws.mean - ref.gradient) / np.maximum(error, floor)
    return float(z.max()), -NormalDist().inv_cdf(FALSE_ALARM / (2 * z.size))


def _by_group(draws: Draws, ref: Reference, groups: Groups) -> dict[str, Group]:
    found = {}
    norms2 = np.bincount(groups.index, ref.gradient**2, len(groups.names))
    noise2 = np.bincount(groups.index, ref.std_error**2, len(groups.names))
    offset2 = np.bincount(groups.index, (draws.mean - ref.gradient) ** 2, len(groups.names))
    for i, name in enumerate(groups.names):
        found[name] = _group(draws.squares[:, i], draws.along[:, i], norms2[i], noise2[i], offset2[i])
    share = np.sqrt(norms2 / max(norms2.sum(), 1e-300))
    found["all"] = _group(draws.squares.sum(1), draws.along @ share, norms2.sum(), noise2.max(), offset2.sum())
    return found


def _group(squares: np.ndarray, along: np.ndarray, norm2: float, noise2: float, offset2: float) -> Group:
    n, norm = len(squares), math.sqrt(norm2)
    variance = max(float(squares.mean()) - offset2, 0.0) * n / (n - 1)
    bias_error = math.sqrt(float(along.var(ddof=1)) / n + noise2)
    scale = norm if norm > 0 else float("nan")
    spread = math.sqrt(variance)
    return Group(
        float(along.mean()) / scale,
        bias_error / scale,
        variance,
        float(squares.std(ddof=1)) / math.sqrt(n),
        norm / spread if spread > 0 else float("inf"),
    )


def _errors(draws: Draws, ref: Reference) -> tuple[tuple[int, float], ...]:
    """Root mean square error of means of ever more draws, the reference's own error taken off."""
    found = []
    n, means = draws.num // NUM_CHUNKS, draws.chunk_means
    own = float(np.sum(ref.std_error**2))
    first = float(draws.squares.sum(1).mean())
    found.append((1, math.sqrt(max(first - own, 0.0))))
    while True:
        error = float(((means - ref.gradient) ** 2).sum(1).mean()) - own
        found.append((n, math.sqrt(max(error, 0.0))))
        if len(means) == 1:
            return tuple(found)
        means, n = means.reshape(len(means) // 2, 2, -1).mean(1), 2 * n


def _slope(errors: Sequence[tuple[int, float]]) -> float:
    points = [(math.log(n), math.log(e)) for n, e in errors if e > 0]
    if len(points) < 2:
        return float("nan")
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
