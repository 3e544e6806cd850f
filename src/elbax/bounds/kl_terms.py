"""What an ELBO may make of its KL terms: weigh them, leave the first nats free, hold them at a capacity.

The objectives here are the ELBO's likelihood terms with something else in place of `sum_sites KL(q || p)`. None of them
is log p(x) minus a divergence any more; a guide and a model that were trained with them are judged by the plain ELBO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import ConfigError

__all__ = ["BetaKL", "Capacity", "Cyclic", "FreeBits", "KLTerm", "SiteKL"]

LAST_STEP = np.iinfo(np.int32).max  # of a schedule: training is over

Schedule = Callable[[Any], Any]  # of a step


def _plain(value: Any) -> Any:
    """A number as Python has it, so that it is no array of the bound; anything else as it is."""
    return float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class SiteKL:
    """The KL of one site.

    Attributes:
        parts: costs by name, which add up to it: one in closed form, or `log q` and `-log p` of a draw. Nats.
        data_axis: the axis of the data in a closed form, `None` for a latent that all data share.
    """

    parts: dict[str, jax.Array]
    data_axis: int | None = None


class KLTerm(eqx.Module):
    """Base of what takes the place of the KL terms of an ELBO."""

    @property
    def of_batch(self) -> bool:
        """Whether it is a function of means over the batch, which takes KL terms in closed form."""
        return True

    @property
    def has_schedule(self) -> bool:
        """Whether it changes from step to step."""
        return False

    def costs(self, sites: dict[str, SiteKL], step: Any) -> dict[str, jax.Array]:
        """The costs, by name. Their sum is over the whole batch, in nats."""
        raise NotImplementedError


class BetaKL(KLTerm):
    """`beta sum_sites KL(q || p)`: the beta-VAE, and KL warm-up.

    With `beta >= 1` the objective is a lower bound on log p(x), below the ELBO; with `beta < 1` it bounds nothing.
    Warm-up from 0 keeps latents from collapsing at the start; above 1 they are pressed to use fewer nats.

    Attributes:
        beta: not negative; a number, or a schedule `step -> beta` as optax has them, such as
            `optax.linear_schedule(0.0, 1.0, 10_000)` for warm-up, or `elbax.Cyclic`. The steps are those of
            `elbax.fit`; elsewhere, as on validation data, the schedule is at its end.

    References:
        Higgins et al., beta-VAE, ICLR 2017. Bowman et al., Generating Sentences from a Continuous Space, CoNLL 2016,
        and Sonderby et al., Ladder Variational Autoencoders, NeurIPS 2016 (warm-up).
    """

    beta: float | Schedule = eqx.field(converter=_plain)

    def __check_init__(self) -> None:
        _check_number("BetaKL", "beta", self.beta)

    @property
    def of_batch(self) -> bool:
        """It is a sum."""
        return False

    @property
    def has_schedule(self) -> bool:
        """If a schedule was given."""
        return callable(self.beta)

    def costs(self, sites: dict[str, SiteKL], step: Any) -> dict[str, jax.Array]:
        """Every part, times beta."""
        beta = _at(self.beta, step)
        return {f"beta {part}": beta * value for site in sites.values() for part, value in site.parts.items()}


class FreeBits(KLTerm):
    """`sum_j max(nats, mean over the batch of KL_j)`: the first nats of every latent unit are free.

    The maximum goes over the mean of the batch, not datum by datum, so that a unit may spend its nats where it needs
    them. A unit below the threshold has no gradient that would press it to the prior. The objective is a lower bound on
    log p(x) in the mean of the batch, below the ELBO.

    Attributes:
        nats: free for each unit, per datum.
        group: whether the units of a site share one threshold.

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, NeurIPS 2016, appendix C.8.
    """

    nats: float = eqx.field(converter=_plain)
    group: bool = False

    def __check_init__(self) -> None:
        _check_number("FreeBits", "nats", self.nats, schedules=False)

    def costs(self, sites: dict[str, SiteKL], step: Any) -> dict[str, jax.Array]:
        """For each site, the larger of the two, times the number of data."""
        costs = {}
        for site in sites.values():
            ((name, value),) = site.parts.items()
            mean, num_data = _mean_over_data(value, site.data_axis)
            costs[f"free bits {name}"] = num_data * jnp.maximum(jnp.sum(mean) if self.group else mean, self.nats)
        return costs


class Capacity(KLTerm):
    """`weight |KL - nats|`, with KL the sum over sites of the mean over the batch: holds the KL at a target.

    With a target that rises during training, latents are taken into use one after the other. The objective is a lower
    bound on log p(x) only where `weight |KL - nats| >= KL`.

    Attributes:
        nats: the target, per datum; a number, or a schedule `step -> nats` (see `BetaKL`).
        weight: of the distance; large enough to hold it (the paper: 100 to 1000).

    References:
        Burgess et al., Understanding Disentangling in beta-VAE, 2018, equation 8.
    """

    nats: float | Schedule = eqx.field(converter=_plain)
    weight: float = eqx.field(converter=_plain, default=100.0)

    def __check_init__(self) -> None:
        _check_number("Capacity", "nats", self.nats)
        _check_number("Capacity", "weight", self.weight, schedules=False)

    @property
    def has_schedule(self) -> bool:
        """If a schedule was given."""
        return callable(self.nats)

    def costs(self, sites: dict[str, SiteKL], step: Any) -> dict[str, jax.Array]:
        """One cost, times the number of data."""
        means = [_mean_over_data(kl, site.data_axis) for site in sites.values() for kl in site.parts.values()]
        total = sum(jnp.sum(mean) for mean, _ in means)
        num_data = max((num for _, num in means), default=1)
        return {"capacity": num_data * self.weight * jnp.abs(total - _at(self.nats, step))}


class Cyclic(eqx.Module):
    """A schedule from 0 to 1 that starts again: `num_cycles` ramps in `num_steps` steps, then 1.

    Each cycle rises linearly during a share `ramp` of it and stays at 1 for the rest.

    References:
        Fu et al., Cyclical Annealing Schedule, NAACL 2019, equation 6.
    """

    num_steps: int
    num_cycles: int = 4
    ramp: float = 0.5

    def __check_init__(self) -> None:
        if not 0 < self.ramp <= 1 or self.num_cycles < 1 or self.num_steps < self.num_cycles:
            raise ConfigError(f"{self!r}: needs a step or more per cycle, and a ramp above 0 and at most 1.")

    def __call__(self, step: Any) -> jax.Array:
        """The value at a step."""
        length = self.num_steps / self.num_cycles
        place = jnp.mod(jnp.asarray(step, float), length) / length
        return jnp.where(jnp.asarray(step) >= self.num_steps, 1.0, jnp.minimum(place / self.ramp, 1.0))


def _at(value: Any, step: Any) -> Any:
    return value(step) if callable(value) else value


def _mean_over_data(value: jax.Array, axis: int | None) -> tuple[jax.Array, int]:
    return (value, 1) if axis is None else (jnp.mean(value, axis=axis), value.shape[axis])


def _check_number(owner: str, name: str, value: Any, *, schedules: bool = True) -> None:
    if schedules and callable(value):
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
        either = " or a schedule `step -> number`" if schedules else ""
        raise ConfigError(f"{owner}({name}={value!r}): must be a number of at least 0{either}.")
