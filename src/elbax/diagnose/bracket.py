"""`bracket`: log p(x) from both sides, with the confidence of the claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elbax.bounds.densities import Densities
from elbax.bounds.elbo import ELBO
from elbax.diagnose.estimate import Estimate, mean_of
from elbax.diagnose.sandwich import GROUPS, Sandwich, interval, log_mean_exp, log_sum_exp
from elbax.errors import ConfigError, ProgramError
from elbax.estimators.surrogate import check_key
from elbax.fit.checks import check_finite, check_observed
from elbax.fit.feed import check_rows
from elbax.fit.training import as_arguments

__all__ = ["Bracket", "bracket", "rows_of"]

MAX_OUTCOMES = 2**14
FIRST_STEPS = 64


@dataclass(frozen=True)
class Bracket:
    """An interval for log p(x) of each datum, and for the mean over the data.

    Attributes:
        lower, upper: ends of the interval of each datum, nats. Shape `[num_data]`.
        mean_lower, mean_upper: of the interval for the mean of log p(x) over these data, nats per datum.
        confidence: probability with which each interval holds log p(x), given `basis`.
        elbo, iwae: bounds of each datum from `num_particles` draws of the guide, nats. Shape `[num_data]`.
        num_particles: draws of the guide per datum.
        ess: effective fraction of the chains' weights at the end of the forward runs. Shape `[num_data]`.
        num_chains: annealing chains per datum in each direction; 0 if all outcomes were enumerated.
        num_steps: temperatures of each chain.
        met: whether the width that was asked for was reached.
    """

    lower: np.ndarray
    upper: np.ndarray
    mean_lower: float
    mean_upper: float
    confidence: float
    elbo: np.ndarray
    iwae: np.ndarray
    num_particles: int
    ess: np.ndarray
    num_chains: int = 0
    num_steps: int = 0
    met: bool = True

    @property
    def num_data(self) -> int:
        """Data in the bracket."""
        return len(self.lower)

    @property
    def exact(self) -> bool:
        """Whether log p(x) is known exactly: all outcomes of the latents were summed."""
        return self.num_chains == 0

    @property
    def width(self) -> float:
        """Of the interval of the mean, nats per datum."""
        return self.mean_upper - self.mean_lower

    @property
    def elbo_gap(self) -> tuple[float, float]:
        """How far the mean ELBO falls short of log p(x): the two ends, nats per datum."""
        elbo = float(self.elbo.mean())
        return self.mean_lower - elbo, self.mean_upper - elbo

    @property
    def basis(self) -> str:
        """What the claim rests on."""
        if self.exact:
            return "the sum over all outcomes of the latents"
        return (
            f"annealing between guide and posterior, {self.num_chains} chains x {self.num_steps:,} temperatures in "
            "each direction; the upper end takes the ends of forward chains for draws from the posterior"
        )

    @property
    def claim(self) -> str:
        """The bracket in one line."""
        what = "log p(x)" if self.num_data == 1 else f"mean log p(x) of {self.num_data:,} data"
        if self.exact:
            return f"{what} = {self.mean_lower:.4f} nats per datum, exactly"
        digits = max(2, 1 - math.floor(math.log10(max(self.width, 1e-6))))
        ends = f"[{self.mean_lower:.{digits}f}, {self.mean_upper:.{digits}f}]"
        return f"{what} is in {ends} nats per datum ({self.confidence:.0%} confidence)"

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        low, high = self.elbo_gap
        return {
            "lower": self.mean_lower,
            "upper": self.mean_upper,
            "confidence": self.confidence,
            "elbo": mean_of(self.elbo).as_dict(),
            "iwae": mean_of(self.iwae).as_dict(),
            "elbo_gap": [low, high],
            "num_data": self.num_data,
            "num_particles": self.num_particles,
            "num_chains": self.num_chains,
            "num_steps": self.num_steps,
            "smallest_ess": float(self.ess.min()),
            "met": self.met,
            "basis": self.basis,
        }

    def plot(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Draws ELBO, IWAE and the interval of each datum; `.png` or `.svg`."""
        from elbax.diagnose.figure import plot_bracket

        return plot_bracket(self, Path(path), overwrite=overwrite)

    def __str__(self) -> str:
        low, high = self.elbo_gap
        lines = [
            self.claim,
            f"    ELBO {_mean(self.elbo)}; it falls short by {low:.3g} to {high:.3g}",
            f"    IWAE {_mean(self.iwae)} ({self.num_particles:,} particles)",
            f"    basis: {self.basis}",
        ]
        if not self.met:
            lines.append(
                "    the width asked for was not reached: raise max_steps or num_chains, or train a closer guide"
            )
        if self.ess.min() < 0.1:
            lines.append(
                f"    the weights of the chains of {np.sum(self.ess < 0.1)} data rest on few of them (effective "
                f"fraction down to {self.ess.min():.2g}): do not trust these ends, raise max_steps"
            )
        return "\n".join(lines)


def _mean(values: np.ndarray) -> Estimate | str:
    return mean_of(values) if len(values) > 1 else f"{values[0]:.4g} nats"


def bracket(
    model: Callable,
    guide: Callable,
    data: Any = None,
    *,
    key: jax.Array,
    target: float = 0.05,
    confidence: float = 0.95,
    num_chains: int = 64,
    max_steps: int = 2**14,
    num_particles: int = 1000,
    per_datum: bool = True,
    each: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> Bracket:
    """Log p(x) of each datum from below and from above.

    From below: annealed importance sampling from the guide to the posterior, whose log-weight is at most log p(x) in
    expectation. From above: the same chains run back from the posterior to the guide, at least log p(x) in
    expectation; they start where forward chains ended, resampled by their weights. The ends of the interval are
    confidence bounds of these two expectations. The number of temperatures grows until the interval of the mean over
    the data is as narrow as asked for. Where all latents have few joint outcomes, log p(x) is summed exactly instead.

    Args:
        model: program with observed sites.
        guide: program with the model's latent sites; the closer to the posterior, the cheaper the bracket.
        data: an array or a tuple of arrays with one row per datum, as the programs take them; `None` if they hold
            their data.
        key: random key.
        target: width of the interval of the mean over the data, in nats per datum.
        confidence: of each interval.
        num_chains: per datum and direction, a multiple of 16.
        max_steps: temperatures at most. The cost is about `6 * num_chains * temperatures` evaluations of the densities
            with their derivatives per datum.
        num_particles: draws of the guide for ELBO and importance bound, shown beside the bracket.
        per_datum: `False` takes the whole data set for one datum: for models with latents that all data share.
        each: whether `target` is meant for the interval of each datum instead of that of the mean.
        on_stage: called with a line on each stage.

    Returns:
        The bracket; `print` it.

    Raises:
        ProgramError: if data cannot be told apart, or stand for a subsample.
        ConfigError: for impossible options, for discrete latents with too many joint outcomes to be summed, and for
            latents on a sphere.
        DataError: for empty, uneven or non-finite data.

    References:
        Neal 2001; Grosse, Ghahramani & Adams 2015 (see `elbax.diagnose.annealing`).
    """
    check_key(key)
    _check_options(target, confidence, num_chains, max_steps, num_particles)
    say = on_stage or (lambda _: None)
    check_finite(data, "data")
    check_observed(model, data, "data")
    bound = ELBO(model, guide, analytic_kl=False)
    rows = rows_of(bound, data, per_datum=per_datum)
    densities = Densities.of(bound, jax.tree.map(lambda x: x[0], rows))
    _check_discrete(densities)
    _check_coordinates(densities)
    sandwich = Sandwich(densities, bound, rows, num_chains)
    draw_key, path_key, anneal_key = jax.random.split(key, 3)
    draws = sandwich.weights(draw_key, num_particles)
    beside = {"elbo": draws.mean(1), "iwae": log_mean_exp(draws), "num_particles": num_particles}
    if densities.discrete:
        say(f"summing {densities.num_outcomes:,} outcomes")
        exact = sandwich.enumerate()
        mean = float(exact.mean())
        return Bracket(exact, exact, mean, mean, 1.0, **beside, ess=np.ones(len(exact)))
    say("finding a path from the guide to the posterior")
    path = sandwich.find(path_key)
    num_steps = FIRST_STEPS
    while True:
        say(f"annealing through {num_steps:,} temperatures")
        forwards, backwards = sandwich.both_ways(jax.random.fold_in(anneal_key, num_steps), path, num_steps)
        ends = interval(forwards, backwards, confidence)
        width = ends.widest if each else ends.mean_upper - ends.mean_lower
        if width <= target or num_steps >= max_steps:
            break
        # The width falls as the square root of the number of temperatures.
        growth = 2 ** math.ceil(2 * math.log2(max(width / target, 1.2)))
        num_steps = min(num_steps * min(growth, 16), max_steps)
    ess = np.exp(2 * log_sum_exp(forwards) - log_sum_exp(2 * forwards)) / num_chains
    return Bracket(
        ends.lower,
        ends.upper,
        ends.mean_lower,
        ends.mean_upper,
        confidence,
        **beside,
        ess=ess,
        num_chains=num_chains,
        num_steps=num_steps,
        met=bool(width <= target),
    )


def rows_of(bound: ELBO, data: Any, *, per_datum: bool) -> tuple:
    """The arguments of one datum after the other: arrays `[num_data, 1, ...]`, or `[1, ...]` for one datum."""
    arguments = jax.tree.map(jnp.asarray, as_arguments(data))
    if not per_datum or data is None:
        return jax.tree.map(lambda x: x[None], arguments)
    if check_rows(data) > 1:
        _check_independent(bound, jax.tree.map(lambda x: x[:2], arguments))
    return jax.tree.map(lambda x: x[:, None], arguments)


def _check_independent(bound: ELBO, pair: tuple) -> None:
    """Refuses pairs of programs in which data share latents, or influence each other's densities."""
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], pair) for i in range(2)]
    alone, both = Densities.of(bound, rows[0]), Densities.of(bound, pair)
    _check_coordinates(alone)
    latents = both.draw(jax.random.key(0), bound, pair)
    parts: list[dict[str, jax.Array]] = [{}, {}]
    for name, value in latents.items():
        fact = both.facts.samples[name]
        one, two = alone.facts.samples[name].shape, fact.shape
        grown = [axis for axis, (n, m) in enumerate(zip(one, two, strict=True)) if m == 2 * n]
        if len(one) != len(two) or not grown:
            raise ProgramError(
                f"site '{name}' ({fact.equation.source}) is shared by all data, so log p of a single datum is not "
                "defined. `bracket(..., per_datum=False)` takes the whole data set for one datum."
            )
        for i, half in enumerate(jnp.split(value, 2, axis=grown[0])):
            parts[i][name] = half
    whole = both.at(latents, bound, pair)
    halves = [alone.at(part, bound, row) for part, row in zip(parts, rows, strict=True)]
    for name in ("log_q", "log_w"):
        together, apart = float(getattr(whole, name)), float(sum(getattr(h, name) for h in halves))
        if abs(together - apart) > 1e-3 * (1 + abs(together)):
            raise ProgramError(
                f"data influence each other's densities (batch normalisation?): {name} of two data is {together:.6g} "
                f"together and {apart:.6g} apart. log p of a single datum is not defined; `bracket(..., "
                "per_datum=False)` takes the whole data set for one datum."
            )


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"about 10^{len(str(count)) - 1}"


def _check_discrete(densities: Densities) -> None:
    """Refuses discrete latents that can neither be summed nor moved along derivatives."""
    count = densities.num_outcomes
    if not densities.discrete or (count is not None and count <= MAX_OUTCOMES):
        return
    sites = ", ".join(f"'{n}' ({densities.facts.samples[n].equation.source})" for n in densities.discrete)
    found = "with others that have infinitely many values" if count is None else f"with {_many(count)} joint outcomes"
    raise ConfigError(
        f"the model has discrete latents, {sites}, {found}: annealing moves latents along derivatives, and at most "
        f"{MAX_OUTCOMES:,} outcomes are summed. Sum the discrete latents out in the model."
    )


def _check_coordinates(densities: Densities) -> None:
    """Refuses latents that cannot be annealed because their support has other dimensions than their coordinates."""
    for name, support in sorted(densities.bent.items()):
        source = densities.facts.samples[name].equation.source
        raise ConfigError(
            f"the values of site '{name}' ({source}) lie on a {support}, and annealing moves latents in unconstrained "
            f"coordinates, which a {support} does not have. The importance-weighted bound of `elbax.evaluate` with "
            "many particles bounds log p(x) from below."
        )


def _check_options(target: float, confidence: float, num_chains: int, max_steps: int, num_particles: int) -> None:
    if not target > 0:
        raise ConfigError(f"target must be a positive width in nats; got {target!r}.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1, such as 0.95; got {confidence!r}.")
    if num_chains < 2 * GROUPS or num_chains % GROUPS:
        raise ConfigError(f"num_chains must be a multiple of {GROUPS}, at least {2 * GROUPS}; got {num_chains!r}.")
    if max_steps < 1:
        raise ConfigError(f"max_steps must be at least 1; got {max_steps!r}.")
    if num_particles < 1:
        raise ConfigError(f"num_particles must be at least 1; got {num_particles!r}.")
