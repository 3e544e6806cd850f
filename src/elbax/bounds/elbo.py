"""The evidence lower bound, in all its forms.

    log p(x) = ELBO(q) + KL(q(z|x) || p(z|x)),     ELBO = E_q[log p(x, z) - log q(z|x)]

with three estimates of one number: the KL of the prior in closed form, everything sampled, and everything sampled with
the landing stuck (`elbax.Pathwise(stick=True)`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from elbax.bounds.base import Bound, positive_integer
from elbax.bounds.divergence import closed_form_kl
from elbax.bounds.kl_terms import LAST_STEP, KLTerm, SiteKL
from elbax.bounds.pair import Run, run_pair
from elbax.bounds.per_datum import data_axes
from elbax.errors import ConfigError, ProgramError
from elbax.graph.sites import bind_cost

__all__ = ["ELBO"]


class ELBO(Bound):
    """The evidence lower bound of a model with a guide, as a program.

    Costs, each an array whose elements are summed: `-log p(site)` for every observed site; for every latent site
    either `KL(site)`, in closed form, or `-log p(site)` and `log q(site)` of the draw. A closed form is used where one
    exists and where the draw leaves what the model's distribution depends on alone (`elbax.bounds.divergence`); names
    tell which terms are exact, nothing is replaced silently.

    Attributes:
        num_samples: draws of the guide that are averaged, outside the logarithm.
        analytic_kl: whether to take KL terms in closed form where that is exact.
        kl: what takes the place of the KL terms, such as `BetaKL(4.0)`, `FreeBits(0.1)` or `Capacity(25.0)`; `None` for
            the ELBO itself. Their costs have names of their own, such as `beta KL(z)`.
        step: of training, set by `elbax.fit` where `kl` has a schedule; the last one otherwise.

    References:
        Jordan et al., An introduction to variational methods for graphical models, 1999. Kingma & Welling,
        Auto-Encoding Variational Bayes, ICLR 2014, equations 3 (sampled) and 10 (closed form). Roeder et al., Sticking
        the Landing, NeurIPS 2017.
    """

    num_samples: int = eqx.field(static=True, default=1)
    analytic_kl: bool = eqx.field(static=True, default=True)
    kl: KLTerm | None = eqx.field(static=True, default=None)
    step: Any = None

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        num_samples: int = 1,
        analytic_kl: bool = True,
        kl: KLTerm | None = None,
    ) -> None:
        if kl is not None and kl.of_batch and not analytic_kl:
            raise ConfigError(f"ELBO(kl={kl!r}, analytic_kl=False): {_WHY_EXACT}. Leave out `analytic_kl`.")
        self.model = model
        self.guide = guide
        self.num_samples = positive_integer("num_samples", num_samples)
        self.analytic_kl = analytic_kl
        self.kl = kl
        self.step = np.asarray(LAST_STEP, np.int32) if kl is not None and kl.has_schedule else None

    def at_step(self, step: jax.Array) -> ELBO:
        """The objective as it is at a step of training."""
        return self if self.step is None else eqx.tree_at(lambda bound: bound.step, self, step)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """States the costs of one run; minus their sum estimates the ELBO of the whole batch, in nats, without bias."""
        of_batch = self.kl is not None and self.kl.of_batch
        axes = data_axes(ELBO(self.model, self.guide), args, kwargs) if of_batch else {}

        def once() -> None:
            run = run_pair(self.model, self.guide, args, kwargs, linear=True)
            costs = elbo_costs(run, analytic_kl=self.analytic_kl)
            for name, value in (costs if self.kl is None else _with_kl(self.kl, run, costs, axes, self.step)).items():
                bind_cost(name, run.line(name), value / self.num_samples if self.num_samples > 1 else value)

        if self.num_samples == 1:
            once()
        else:
            jax.vmap(once, axis_size=self.num_samples)()


_WHY_EXACT = "a function of a mean over the batch takes KL terms in closed form, since that of a noisy mean is biased"


def _with_kl(kl: KLTerm, run: Run, costs: dict[str, jax.Array], axes: dict[str, Any], step: Any) -> dict[str, Any]:
    """The costs of an ELBO with something else in place of its KL terms."""
    costs, sites = dict(costs), {}
    for name in (*run.latents, *run.auxiliary):
        names = [part for part in (f"KL({name})", f"log q({name})", f"-log p({name})") if part in costs]
        exact, place = names[0].startswith("KL"), f"site '{name}' ({run.line(names[0])}): {kl!r} does not apply"
        if kl.of_batch and not exact:
            reason = closed_form_kl(run, run.latents[name])[1] if name in run.latents else "the model has no such site"
            raise ProgramError(f"{place}. It is {_WHY_EXACT}, and {reason}. Use `elbax.BetaKL`.")
        if kl.of_batch and axes[names[0]] == "mixed":
            raise ProgramError(f"{place}. It is a mean over the data, and the KL of this site mixes them.")
        sites[name] = SiteKL({part: costs.pop(part) for part in names}, axes.get(names[0]))
    return costs | kl.costs(sites, LAST_STEP if step is None else step)


def elbo_costs(run: Run, *, analytic_kl: bool) -> dict[str, jax.Array]:
    """The costs of a run of a pair: their sum is minus one sample of the ELBO."""
    costs = {f"-log p({name})": value for name, value in run.observed.items()}
    for name, latent in run.latents.items():
        exact, _ = closed_form_kl(run, latent) if analytic_kl else (None, "")
        if exact is not None:
            costs[f"KL({name})"] = _scaled(exact, latent.scale)
        else:
            costs[f"log q({name})"] = _scaled(latent.log_q, latent.scale)
            costs[f"-log p({name})"] = _scaled(-latent.log_p, latent.scale)
    costs |= {f"log q({name})": value for name, value in run.auxiliary.items()}
    return costs | run.costs


def _scaled(value: jax.Array, scale: float) -> jax.Array:
    return value if scale == 1.0 else scale * value
