"""What the latent variables do: KL per unit, and which units are active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from elbax.diagnose.posteriors import Drawn, Posteriors

__all__ = ["LatentSummary", "latent_summary"]

ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class LatentSummary:
    """One latent site over a data set; arrays have one entry per unit.

    Attributes:
        name: of the site.
        kl: mean KL(q || p) of each unit, nats; in closed form if `exact`, else by sampling.
        mean_variance: variance over data of the posterior mean of each unit.
        exact: whether `kl` is in closed form.
        threshold: a unit is active if its `mean_variance` exceeds this.
    """

    name: str
    kl: np.ndarray
    mean_variance: np.ndarray
    exact: bool
    threshold: float = ACTIVE_VARIANCE

    @property
    def active(self) -> np.ndarray:
        """Which units are active (Burda et al., 2016): the data move their posterior means."""
        return self.mean_variance > self.threshold

    @property
    def num_active(self) -> int:
        """How many."""
        return int(self.active.sum())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kl": float(self.kl.sum()),
            "unit": "nats per datum",
            "exact": self.exact,
            "active_units": self.num_active,
            "units": int(self.mean_variance.size),
            "kl_per_unit": np.ravel(self.kl).tolist(),
        }


def latent_summary(
    model: Callable, guide: Callable, data: Any, *, key: jax.Array, batch_size: int = 100
) -> list[LatentSummary]:
    """KL and activity of every unit of every latent site whose draws have one row per datum.

    Args:
        model: program with observed sites.
        guide: program with the model's latent sites.
        data: an array or tuple of arrays with one row per datum.
        key: random key; for sites after others in the guide, means are those given one draw of their ancestors.
        batch_size: data evaluated together.

    References:
        Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, section 5.2 (active units).
    """
    posteriors = Posteriors(model, guide, data, batch_size)
    rows: dict[str, list[Drawn]] = {}
    for _, drawn in posteriors.draw(key, 1):
        for name, said in drawn.items():
            rows.setdefault(name, []).append(said)
    return [
        LatentSummary(
            name,
            np.concatenate([said.kl[:, 0] for said in rows[name]]).mean(0),
            np.concatenate([said.mean[:, 0] for said in rows[name]]).var(0),
            posteriors.exact[name],
        )
        for name in posteriors.order
        if name in rows
    ]
