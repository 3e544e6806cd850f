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

from elbax.bounds.base import Bound, positive_integer
from elbax.bounds.divergence import closed_form_kl
from elbax.bounds.pair import Run, run_pair
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

    References:
        Jordan et al., An introduction to variational methods for graphical models, 1999. Kingma & Welling,
        Auto-Encoding Variational Bayes, ICLR 2014, equations 3 (sampled) and 10 (closed form). Roeder et al., Sticking
        the Landing, NeurIPS 2017.
    """

    num_samples: int = eqx.field(static=True, default=1)
    analytic_kl: bool = eqx.field(static=True, default=True)

    def __init__(self, model: Callable, guide: Callable, *, num_samples: int = 1, analytic_kl: bool = True) -> None:
        self.model = model
        self.guide = guide
        self.num_samples = positive_integer("num_samples", num_samples)
        self.analytic_kl = analytic_kl

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """States the costs of one run; minus their sum estimates the ELBO of the whole batch, in nats, without bias."""

        def once() -> None:
            run = run_pair(self.model, self.guide, args, kwargs, linear=True)
            for name, value in elbo_costs(run, analytic_kl=self.analytic_kl).items():
                bind_cost(name, run.line(name), value / self.num_samples if self.num_samples > 1 else value)

        if self.num_samples == 1:
            once()
        else:
            jax.vmap(once, axis_size=self.num_samples)()


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
