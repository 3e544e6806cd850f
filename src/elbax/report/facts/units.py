"""What each unit of each latent site does, on test data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.random as jr
import numpy as np

from elbax.diagnose.latents import LatentSummary, latent_summary
from elbax.runs.run import Run

__all__ = ["Units", "units"]


@dataclass(frozen=True)
class Units:
    """One latent site, its units in the order of their KL, largest first.

    Attributes:
        site: name of the latent site.
        names: of the units: their index in the site.
        kl: mean KL(q || p) of each unit over the data, nats per datum.
        mean_variance: variance over the data of the posterior mean of each unit.
        exact: whether `kl` is in closed form; else it is estimated from draws.
        threshold: a unit is active if its `mean_variance` exceeds this.
        num_data: data that these are means over.
    """

    site: str
    names: tuple[str, ...]
    kl: np.ndarray
    mean_variance: np.ndarray
    exact: bool
    threshold: float
    num_data: int

    @property
    def active(self) -> np.ndarray:
        """Which units are active: the data move their posterior means (Burda et al., 2016)."""
        return self.mean_variance > self.threshold

    @property
    def num_active(self) -> int:
        """How many units are active."""
        return int(self.active.sum())

    @property
    def total(self) -> float:
        """KL of all units, nats per datum."""
        return float(self.kl.sum())


def units(run: Run) -> tuple[Units, ...]:
    """KL and activity of every unit of a run's latent sites, on the first test data."""
    images = run.recipe.seen(run.data, "test", run.recipe.eval_data)
    # The key with which `result.json` was made, so that sampled figures are the same in both places.
    _, key = jr.split(jr.fold_in(jr.key(run.recipe.seed), 1))
    num_data = len(jax.tree.leaves(images)[0])
    summaries = latent_summary(run.bound.model, run.bound.guide, images, key=key)
    return tuple(ordered(s, num_data) for s in summaries)


def ordered(summary: LatentSummary, num_data: int) -> Units:
    """The units of a site by their KL; a site whose KL does not fall into units counts as one unit."""
    kl, variance = np.asarray(summary.kl, float), np.asarray(summary.mean_variance, float)
    if kl.shape != variance.shape:
        kl, variance = kl.sum().reshape(1), variance.max().reshape(1)
        names = ("all",)
    else:
        names = tuple(", ".join(map(str, i)) or "0" for i in np.ndindex(kl.shape))
        kl, variance = kl.ravel(), variance.ravel()
    order = np.argsort(np.where(np.isnan(kl), np.inf, -kl), kind="stable")
    return Units(
        summary.name,
        tuple(names[i] for i in order),
        kl[order],
        variance[order],
        summary.exact,
        summary.threshold,
        num_data,
    )
