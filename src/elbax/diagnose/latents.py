"""What the latent variables do: KL per unit, and which units are active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.bounds.divergence import closed_form_kl
from elbax.bounds.pair import run_pair
from elbax.estimators.plan import make_plan
from elbax.fit.feed import check_rows
from elbax.fit.training import as_arguments
from elbax.graph.evaluate import cost_key

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
        batch_size: data evaluated together; a rest that does not fill a batch is left out.

    References:
        Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, section 5.2 (active units).
    """
    num_data = check_rows(data)
    size = min(batch_size, num_data)
    arrays, static = eqx.partition((model, guide), eqx.is_array)
    exact: dict[str, bool] = {}

    def program(arrays: Any, *batch: Any) -> dict[str, jax.Array]:
        model, guide = eqx.combine(arrays, static)
        run = run_pair(model, guide, batch, {}, linear=False)
        said: dict[str, jax.Array] = {}
        for name, latent in run.latents.items():
            kl, _ = closed_form_kl(run, latent)
            exact[name] = kl is not None
            mean = latent.q.over(lambda d: d.mean)
            said[f"{name}\tkl"] = _drawn_kl(latent.log_q, latent.log_p) if kl is None else kl
            said[f"{name}\tmean"] = jnp.asarray(mean, jnp.result_type(float))
        return said

    example = as_arguments(jax.tree.map(lambda x: jnp.asarray(x[:size]), data))
    plan = make_plan(program, None, (arrays, *example), {})
    leaves = jax.tree.leaves(arrays)

    @jax.jit
    def run_batch(key: jax.Array, arrays: Any, batch: tuple) -> dict[str, jax.Array]:
        records = plan.run(key, [*arrays, *jax.tree.leaves(batch)])
        return {name: records.costs[cost_key(name, 0)] for name, _ in plan.facts.costs}

    rows: dict[str, list[np.ndarray]] = {}
    for start in range(0, num_data - size + 1, size):
        batch = as_arguments(jax.tree.map(lambda x: jnp.asarray(x[start : start + size]), data))  # noqa: B023
        for name, value in jax.device_get(run_batch(jax.random.fold_in(key, start), leaves, batch)).items():
            rows.setdefault(name, []).append(value)
    table = {name: np.concatenate(values) for name, values in rows.items() if values[0].ndim and len(values[0]) == size}
    return [
        LatentSummary(name, table[f"{name}\tkl"].mean(0), table[f"{name}\tmean"].var(0), exact[name])
        for name in exact
        if f"{name}\tkl" in table and f"{name}\tmean" in table
    ]


def _drawn_kl(log_q: jax.Array, log_p: jax.Array) -> jax.Array:
    """`log q - log p` of a draw, in the finest parts that both densities have."""
    ndim = min(log_q.ndim, log_p.ndim)
    parts = [jnp.sum(x, axis=tuple(range(ndim, x.ndim))) for x in (log_q, log_p)]
    return parts[0] - parts[1]
