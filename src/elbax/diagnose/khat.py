"""`khat`: whether the guide can serve as a proposal of importance sampling, datum by datum.

The largest weights `w = p(x, z) / q(z|x)` follow a generalised Pareto distribution; its shape k counts the moments that
weights have: the variance is infinite from k = 1/2, the mean from k = 1. Above 0.7 the number of draws that averages
with these weights need is beyond reach.

References:
    Vehtari, Simpson, Gelman, Yao & Gabry, Pareto Smoothed Importance Sampling, JMLR 2024; the fit is that of ArviZ.
    Yao, Vehtari, Simpson & Gelman, Yes, but Did It Work?: Evaluating Variational Inference, ICML 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.bounds.elbo import ELBO
from elbax.bounds.weights import log_weight_function
from elbax.errors import ConfigError
from elbax.estimators.surrogate import check_key
from elbax.fit.checks import check_finite, check_observed
from elbax.fit.feed import check_rows
from elbax.fit.training import as_arguments

__all__ = ["Khat", "khat"]

UNUSABLE = 0.7
FEWEST = 100  # draws: the tail is a fifth of them, and its fit has a prior worth ten
EQUAL = 1e-4  # nats; weights closer together are equal up to rounding
AT_ONCE = 4096  # rows times draws


@dataclass(frozen=True)
class Khat:
    """The Pareto shape of the guide's importance weights.

    Attributes:
        values: k-hat of each datum; 0 where all weights are equal (the guide is the posterior). Shape `[num_data]`.
        num_draws: of the guide per datum. The error of a k-hat is about `(1 + k) / sqrt(3 sqrt(num_draws))`.
    """

    values: np.ndarray
    num_draws: int

    @property
    def num_data(self) -> int:
        """Data looked at."""
        return len(self.values)

    @property
    def unusable(self) -> np.ndarray:
        """Rows of the data whose k-hat is above 0.7."""
        return np.flatnonzero(~(self.values <= UNUSABLE))

    @property
    def finding(self) -> str:
        """What it means for reweighting."""
        bad, heavy = len(self.unusable), int(np.sum(self.values > 0.5))
        if bad:
            return (
                f"k-hat of {bad:,} of {self.num_data:,} data above {UNUSABLE}: importance weights of the guide have "
                "infinite variance in practice. Do not reweight its draws for these, and read importance bounds (IWAE) "
                "as lower bounds only; use `elbax.bracket` for log p(x)"
            )
        if heavy:
            return (
                f"k-hat of {heavy:,} of {self.num_data:,} data between 0.5 and {UNUSABLE}: reweighting works, but "
                "converges slowly"
            )
        return f"no k-hat of {self.num_data:,} data above 0.5: draws of the guide may be reweighted"

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        return {
            "median": float(np.median(self.values)),
            "max": float(np.max(self.values)),
            "above_0.5": int(np.sum(self.values > 0.5)),
            "above_0.7": len(self.unusable),
            "num_data": self.num_data,
            "num_draws": self.num_draws,
            "finding": self.finding,
        }

    def __str__(self) -> str:
        low, middle, high = np.quantile(self.values, [0.05, 0.5, 0.95])
        figures = f"median {middle:.2f}, 90 % of data {low:.2f} to {high:.2f}, largest {self.values.max():.2f}"
        return f"{self.finding}\n    {figures} ({self.num_draws:,} draws per datum)"


def khat(
    model: Callable,
    guide: Callable,
    data: Any,
    *,
    key: jax.Array,
    num_draws: int = 1000,
    batch_size: int = 100,
) -> Khat:
    """Pareto k-hat of the guide's importance weights for each datum.

    Args:
        model: program with observed sites.
        guide: program with the model's latent sites.
        data: an array or tuple of arrays with one row per datum.
        key: random key.
        num_draws: of the guide per datum, at least 100. With few, k-hat is drawn towards 0.5.
        batch_size: data evaluated together.

    Raises:
        ProgramError: if costs do not belong to single data.
        DataError: for empty, uneven or non-finite data.
    """
    check_key(key)
    if num_draws < FEWEST:
        raise ConfigError(
            f"num_draws must be at least {FEWEST}, for the tail of the weights to be seen; got {num_draws}."
        )
    check_finite(data, "data")
    num_data = check_rows(data)
    check_observed(model, data, "data")
    size = min(batch_size, num_data)
    bound = ELBO(model, guide, analytic_kl=False)

    def batch_of(start: int) -> tuple:
        # Filled up with rows that are dropped afterwards, so that one compilation serves all.
        rows = np.minimum(np.arange(start, start + size), num_data - 1)
        return as_arguments(jax.tree.map(lambda x: jnp.asarray(x[rows]), data))

    log_weights = log_weight_function(model, guide, batch_of(0))

    @eqx.filter_jit
    def draw(key: jax.Array, bound: ELBO, batch: tuple) -> jax.Array:
        keys = jax.random.split(key, num_draws)
        return jax.lax.map(lambda k: log_weights(k, bound, batch), keys, batch_size=max(1, AT_ONCE // size))

    values = []
    for start in range(0, num_data, size):
        log_w = np.asarray(draw(jax.random.fold_in(key, start), bound, batch_of(start)), np.float64)
        values += [_shape(column) for column in log_w.T[: num_data - start]]
    return Khat(np.array(values), num_draws)


def _shape(log_w: np.ndarray) -> float:
    """The Pareto shape of one datum's weights; infinite where some are."""
    # Here, since ArviZ loads xarray where that is installed, which takes longer than all of elbax.
    from arviz_stats.base.array import array_stats

    if np.ptp(log_w) < EQUAL:
        return 0.0
    if not np.isfinite(log_w).all():
        return float("inf")
    return float(array_stats.psislw(-log_w)[1])
