"""Images of a trained model: reconstructions, prior samples, interpolations, traversals.

They apply to any run whose data are images, whose model has `decode` (`Decoder`) and exactly one latent site, with one
row per datum; all but the prior samples also ask for a guide with `encode` (`Encoder`) and for real-valued latents.
Everything random comes from a key derived from the run's seed, so that a report can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from elbax.estimators.plan import make_plan
from elbax.graph.evaluate import evaluate, site_keys
from elbax.report.facts.units import Units
from elbax.runs.run import Run

__all__ = ["Decoder", "Encoder", "Images", "Interpolations", "PriorSamples", "Reconstructions", "Traversals", "images"]

NUM_RECONSTRUCTIONS, NUM_SAMPLES, NUM_INTERPOLATIONS, MAX_TRAVERSALS = 30, 60, 8, 8
WEIGHTS = np.linspace(0.0, 1.0, 9)
DEVIATIONS = np.linspace(-3.0, 3.0, 9)


@runtime_checkable
class Decoder(Protocol):
    """A model that turns codes into images."""

    def decode(self, z: Any) -> Any:
        """Mean image of each code, in [0, 1]. Shape `[..., units]`, or what a code is, to `[..., pixels]`."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """A guide that turns images into codes."""

    def encode(self, x: Any) -> Any:
        """Mean and standard deviation of q(z | x). Shape `[..., pixels]` to twice `[..., units]`."""
        ...


@dataclass(frozen=True)
class Reconstructions:
    """Test data and what the model makes of them. Shapes `[n, height, width]`.

    Attributes:
        originals: intensities as stored, or `None` where the model saw just these.
        data: as the model saw them.
        means: mean of p(x | z) at the mean of q(z | x).
    """

    originals: np.ndarray | None
    data: np.ndarray
    means: np.ndarray


@dataclass(frozen=True)
class PriorSamples:
    """The mean of p(x | z) for draws of z from the prior. Shape `[n, height, width]`."""

    means: np.ndarray


@dataclass(frozen=True)
class Interpolations:
    """Means of p(x | z) along straight lines between the posterior means of two data.

    Attributes:
        ends: the two data of each line. Shape `[lines, 2, height, width]`.
        means: along each line. Shape `[lines, weights, height, width]`.
        weights: share of the second datum, from 0 to 1.
    """

    ends: np.ndarray
    means: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Traversals:
    """Means of p(x | z) when one unit of a datum's code is moved and the others stay.

    Attributes:
        units: names of the units moved, by decreasing KL.
        kl: of each unit, nats per datum.
        own: the value of each unit at the datum's own code, in the prior's standard deviations from its mean.
        deviations: where the unit is moved to, in the same measure.
        means: Shape `[units, deviations, height, width]`.
    """

    units: tuple[str, ...]
    kl: np.ndarray
    own: np.ndarray
    deviations: np.ndarray
    means: np.ndarray


@dataclass(frozen=True)
class Images:
    """The images of a report; `None` for what does not apply to the model."""

    prior_samples: PriorSamples | None
    reconstructions: Reconstructions | None
    interpolations: Interpolations | None
    traversals: Traversals | None


def images(run: Run, units: tuple[Units, ...]) -> Images:
    """All images of a run that apply to it."""
    site, data_key, prior_key = image_site(run), *jr.split(jr.fold_in(jr.key(run.recipe.seed), 3))
    if site is None:
        return Images(None, None, None, None)
    prior = prior_of(run, site, prior_key)
    means = PriorSamples(decoded(run, prior["draws"][:NUM_SAMPLES]))
    guide = run.bound.guide
    if not isinstance(guide, Encoder) or not jnp.issubdtype(prior["draws"].dtype, jnp.floating):
        return Images(means, None, None, None)
    chosen = chosen_data(run, data_key)
    data = seen(run, run.recipe.eval_data)[chosen]
    codes = encoded(guide, data)
    of_site = next((u for u in units if u.site == site), None)
    return Images(
        prior_samples=means,
        reconstructions=reconstructions(run, chosen, data, codes),
        interpolations=interpolations(run, data, codes),
        traversals=None if of_site is None else traversals(run, codes[0], of_site, prior),
    )


def image_site(run: Run) -> str | None:
    """The latent site whose values `decode` takes, or `None` if the run shows no images."""
    model, shape = run.bound.model, getattr(run.data, "image_shape", None)
    if shape is None or not isinstance(model, Decoder):
        return None
    plan = make_plan(run.bound.model, None, (seen(run, 2),), {})
    facts = list(plan.facts.samples.values())
    return facts[0].equation.name if len(facts) == 1 else None


def seen(run: Run, count: int) -> jax.Array:
    """The first test data as the model sees them."""
    return jnp.asarray(run.recipe.seen(run.data, "test", count))


def chosen_data(run: Run, key: jax.Array) -> np.ndarray:
    """Rows of test data, drawn without replacement among those that were evaluated."""
    count = min(run.recipe.eval_data, len(run.data.test))
    return np.asarray(jr.permutation(key, count)[:NUM_RECONSTRUCTIONS])


def prior_of(run: Run, site: str, key: jax.Array) -> Mapping[str, jax.Array]:
    """Draws, mean and standard deviation of the prior of a latent site, as the model's program states it."""
    count = min(NUM_SAMPLES, len(run.data.test))
    plan = make_plan(run.bound.model, None, (seen(run, count),), {})

    def on_sample(eq: Any, dist: Any, site_key: jax.Array) -> tuple[Any, Any, Any]:
        value = dist.sample(site_key)
        moments = dist.over(lambda d: d.mean), dist.over(lambda d: d.variance)
        return value, dist.log_prob(value), (value, *moments)

    loops = {name: fact.loops for name, fact in plan.facts.samples.items()}

    @jax.jit
    def run_prior(key: jax.Array, arrays: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        return evaluate(plan.block, arrays, on_sample, site_keys(key, loops))[1].samples[site]

    draws, mean, variance = run_prior(key, plan.graph.arguments.arrays)
    first = [jnp.broadcast_to(moment, draws.shape)[0] for moment in (mean, variance)]
    return {"draws": draws, "mean": first[0], "sd": jnp.sqrt(first[1])}


def encoded(guide: Encoder, data: jax.Array) -> jax.Array:
    """Means of q(z | x). Shape `[n, units]`."""
    return eqx.filter_jit(lambda g, x: g.encode(x)[0])(guide, data)


def decoded(run: Run, codes: jax.Array) -> np.ndarray:
    """Means of p(x | z). Shape `[..., *code]` to `[..., height, width]`."""
    model: Any = run.bound.model
    flat = eqx.filter_jit(lambda m, z: m.decode(z))(model, codes)
    return np.asarray(flat).reshape(*flat.shape[:-1], *run.data.image_shape)


def reconstructions(run: Run, rows: np.ndarray, data: jax.Array, codes: jax.Array) -> Reconstructions:
    """Test data and the decoder's mean at their posterior means."""
    shape = (-1, *run.data.image_shape)
    shown, stored = np.asarray(data), np.asarray(run.data.intensity(run.data.test[rows]))
    same = np.allclose(shown, stored, atol=1e-6)
    return Reconstructions(None if same else stored.reshape(shape), shown.reshape(shape), decoded(run, codes))


def interpolations(run: Run, data: jax.Array, codes: jax.Array) -> Interpolations:
    """Lines between pairs of data: the first with the second, the third with the fourth, and so on."""
    num = min(NUM_INTERPOLATIONS, len(data) // 2)
    first, second = codes[0 : 2 * num : 2, None], codes[1 : 2 * num : 2, None]
    t = jnp.asarray(WEIGHTS, codes.dtype)[None, :, None]
    ends = np.asarray(data[: 2 * num]).reshape(num, 2, *run.data.image_shape)
    return Interpolations(ends, decoded(run, (1 - t) * first + t * second), WEIGHTS)


def traversals(run: Run, code: jax.Array, units: Units, prior: Mapping[str, jax.Array]) -> Traversals | None:
    """One row for each of the most active units; `None` if no unit is active."""
    chosen = [i for i in range(len(units.kl)) if units.active[i]][:MAX_TRAVERSALS]
    if not chosen or len(units.kl) != code.shape[-1]:
        return None
    index = np.array([int(units.names[i]) for i in chosen])
    values = prior["mean"][index, None] + prior["sd"][index, None] * jnp.asarray(DEVIATIONS, code.dtype)
    moved = jnp.broadcast_to(code, (len(index), len(DEVIATIONS), code.shape[-1]))
    moved = moved.at[jnp.arange(len(index))[:, None], jnp.arange(len(DEVIATIONS)), index[:, None]].set(values)
    own = (code[index] - prior["mean"][index]) / prior["sd"][index]
    names = tuple(units.names[i] for i in chosen)
    return Traversals(names, units.kl[chosen], np.asarray(own), DEVIATIONS, decoded(run, moved))
