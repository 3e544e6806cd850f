"""`gradient_health`: signal and noise of the gradient, array by array of the parameters.

    SNR = |E g| / sqrt(tr Cov g)

of one estimate g of the gradient at a batch. Below 0.1, a step is mostly noise. The noise is that of the draws of the
latents; that of choosing the batch comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import box
from rich.console import Console
from rich.table import Table

from elbax.bounds.base import Bound
from elbax.errors import ConfigError
from elbax.estimators.choose import Estimators
from elbax.estimators.lab.compare import WARM_UP
from elbax.estimators.lab.measure import NUM_CHUNKS, Groups, draw
from elbax.estimators.surrogate import check_key
from elbax.fit.checks import check_finite, check_observed
from elbax.fit.feed import check_rows
from elbax.fit.training import State, make_trainer

__all__ = ["GradientHealth", "ParameterHealth", "gradient_health"]

NOISY = 0.1


@dataclass(frozen=True)
class ParameterHealth:
    """The gradient of one array of parameters; the loss is minus the bound per datum.

    Attributes:
        path: of the array in the bound, such as `guide.encoder.weight`.
        size: its number of elements.
        norm: of the mean gradient.
        variance: of one estimate, summed over elements.
        snr: norm over standard deviation; infinite if the gradient is exact.
        snr_error: its standard error.
        num_zero: elements whose gradient was exactly zero in every draw.
    """

    path: str
    size: int
    norm: float
    variance: float
    snr: float
    snr_error: float
    num_zero: int

    @property
    def dead(self) -> bool:
        """Whether no element ever had a gradient."""
        return self.num_zero == self.size

    @property
    def noisy(self) -> bool:
        """Whether the ratio is below 0.1 by two standard errors."""
        return not self.dead and self.snr + 2 * self.snr_error < NOISY

    @property
    def word(self) -> str:
        """What is wrong, if anything is."""
        return "dead" if self.dead else "noise" if self.noisy else ""


@dataclass(frozen=True)
class GradientHealth:
    """Signal and noise of a gradient.

    Attributes:
        parameters: one entry per array, in the order of the pytree.
        total: of all together.
        plan: by site, the estimator and why it was chosen.
        num_draws: gradients drawn.
        batch_size: data in the batch.
    """

    parameters: tuple[ParameterHealth, ...]
    total: ParameterHealth
    plan: dict[str, str]
    num_draws: int
    batch_size: int

    @property
    def dead(self) -> tuple[str, ...]:
        """Paths of the arrays whose gradient is exactly zero."""
        return tuple(p.path for p in self.parameters if p.dead)

    @property
    def noisy(self) -> tuple[str, ...]:
        """Paths of the arrays whose ratio is below 0.1."""
        return tuple(p.path for p in self.parameters if p.noisy)

    @property
    def findings(self) -> tuple[str, ...]:
        """What to look at."""
        said = []
        if self.dead:
            said.append(
                f"no gradient reaches {_listed(self.dead)}: exactly zero in all {self.num_draws:,} draws. Saturated or "
                "dead units, a stopped gradient, or parameters that nothing uses"
            )
        if self.noisy:
            said.append(
                f"mostly noise at {_listed(self.noisy)} (signal-to-noise ratio below {NOISY}). More draws per step "
                "(num_samples), larger batches, or another estimator (`elbax.compare_estimators`); near an optimum the "
                "signal vanishes by itself"
            )
        return tuple(said)

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON; ratios of exact gradients are `null`."""
        rows = {
            p.path: {**vars(p), "snr": p.snr if np.isfinite(p.snr) else None, "dead": p.dead, "noisy": p.noisy}
            for p in (*self.parameters, self.total)
        }
        return {
            "parameters": rows,
            "plan": self.plan,
            "num_draws": self.num_draws,
            "batch_size": self.batch_size,
            "findings": list(self.findings),
        }

    def __str__(self) -> str:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("parameters", overflow="fold")
        for name in ("size", "norm", "SNR", "zero"):
            table.add_column(name, justify="right")
        table.add_column("")
        for p in (*self.parameters, self.total):
            snr = "-" if p.dead else f"{p.snr:.2g} ± {p.snr_error:.1g}" if np.isfinite(p.snr) else "exact"
            table.add_row(p.path, f"{p.size:,}", f"{p.norm:.2g}", snr, f"{p.num_zero:,}", p.word)
        console = Console(width=120, no_color=True, highlight=False)
        with console.capture() as capture:
            console.print(table)
        lines = [line.rstrip() for line in capture.get().splitlines() if line.strip()]
        about = f"gradient of minus the bound per datum; {self.num_draws:,} draws at one batch of {self.batch_size:,}"
        return "\n".join([*lines, about, *self.findings])


def gradient_health(
    bound: Bound,
    batch: Any,
    *,
    key: jax.Array,
    estimators: Estimators = None,
    num_draws: int = 512,
    num_data: int | None = None,
) -> GradientHealth:
    """Signal-to-noise ratio of the gradient of a bound, for each array of its parameters.

    The gradient is drawn many times at the same parameters and the same batch. The squared norm of its mean is
    estimated without bias from products of different draws; errors are jackknife errors over 16 chunks of draws.

    Main arguments:
        bound: such as `elbax.ELBO(model, guide)`; its arrays of floats are the parameters.
        batch: data of one step, an array or tuple of arrays with one row per datum; `None` if the programs hold them.
        key: random key.

    Other arguments:
        estimators: as in `elbax.fit`. Those that learn do so for a while first, at these parameters.
        num_draws: gradients drawn, rounded up to a multiple of 16.
        num_data: size of the data set, where latents are shared by all data; that of the batch by default.

    Raises:
        ConfigError: if the bound has no parameters, or for fewer than 32 draws.
        DataError: for data that are empty, uneven or not finite.
    """
    check_key(key)
    if num_draws < 2 * NUM_CHUNKS:
        raise ConfigError(f"num_draws must be at least {2 * NUM_CHUNKS}; got {num_draws}.")
    check_finite(batch, "batch")
    check_observed(bound.model, batch, "batch")
    batch_size = 1 if batch is None else check_rows(batch)
    batch = jax.tree.map(jnp.asarray, batch)
    trainer = make_trainer(bound, optax.set_to_zero(), batch, num_data=num_data or batch_size, estimators=estimators)
    warm_key, draw_key = jax.random.split(key)
    state = trainer.init(bound, warm_key)
    if state.estimators:

        def step(state: State, _: None) -> tuple[State, None]:
            return trainer.update(state, batch)[0], None

        state = jax.jit(lambda s: jax.lax.scan(step, s, None, length=WARM_UP)[0])(state)
    groups = Groups.of(state.params)

    def gradient(key: jax.Array) -> Any:
        return jax.grad(lambda p: trainer.loss(p, batch, key, state.estimators)[0])(state.params)

    at_once = max(1, min(50, 10**8 // len(groups.index)))
    draws = draw(gradient, draw_key, num_draws, np.zeros(len(groups.index)), groups, at_once)
    plan = {name: str(choice) for name, choice in trainer.plan.chosen.items()}
    zero = (draws.mean == 0) & (draws.std_error == 0)
    rows = tuple(
        _health(path, draws.chunk_means[:, groups.index == i], draws.squares[:, i], zero[groups.index == i])
        for i, path in enumerate(groups.names)
    )
    total = _health("all", draws.chunk_means, draws.squares.sum(1), zero)
    return GradientHealth(rows, total, plan, draws.num, batch_size)


def _health(path: str, chunk_means: np.ndarray, squares: np.ndarray, zero: np.ndarray) -> ParameterHealth:
    """From means over chunks `[chunks, elements]` and the squared norm of each draw."""
    by_chunk = squares.reshape(NUM_CHUNKS, -1).mean(1)
    norm2, variance = _moments(chunk_means, by_chunk)
    without = [_ratio(*_moments(np.delete(chunk_means, i, 0), np.delete(by_chunk, i))) for i in range(NUM_CHUNKS)]
    snr = _ratio(norm2, variance)
    error = np.std(without) * np.sqrt(NUM_CHUNKS - 1) if np.isfinite(without).all() else 0.0
    return ParameterHealth(path, zero.size, float(np.sqrt(norm2)), variance, snr, float(error), int(zero.sum()))


def _moments(means: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """The squared norm of the mean, at least 0, and the variance of one draw."""
    n = len(means)
    # Products of different chunks have no noise in common.
    norm2 = (np.sum(means.sum(0) ** 2) - np.sum(means**2)) / (n * (n - 1))
    total = float(squares.mean())
    norm2 = min(max(float(norm2), 0.0), total)
    variance = total - norm2
    return norm2, variance if variance > 1e-10 * total else 0.0


def _ratio(norm2: float, variance: float) -> float:
    return float(np.sqrt(norm2 / variance)) if variance > 0 else float("inf")


def _listed(paths: tuple[str, ...], most: int = 6) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(f"'{p}'" for p in paths[:most]) + more
