"""Images of a model whose encoder and decoder are matrices, so that every pixel is known."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.data.dataset import Dataset
from elbax.models.recipe import Recipe
from elbax.report.facts.images import DEVIATIONS, WEIGHTS, image_site, images, prior_of
from elbax.report.facts.units import Units
from elbax.runs.folder import RunFolder
from elbax.runs.run import Run

UNITS, PIXELS, DATA = 3, 6, 40
LOC, SCALE = jnp.array([1.0, -2.0, 0.5]), jnp.array([2.0, 0.5, 1.0])
ENCODER = jr.normal(jr.key(1), (PIXELS, UNITS))
DECODER = jr.normal(jr.key(2), (UNITS, PIXELS))


class Model(eqx.Module):
    matrix: Any

    def __call__(self, x):
        z = elbax.sample("z", dist.Normal(jnp.broadcast_to(LOC, (len(x), UNITS)), SCALE).to_event(1))
        elbax.observe("x", dist.Normal(self.decode(z), 1.0).to_event(1), x)

    def decode(self, z):
        return z @ self.matrix


class Guide(eqx.Module):
    matrix: Any

    def __call__(self, x):
        loc, scale = self.encode(x)
        elbax.sample("z", dist.Normal(loc, scale).to_event(1))

    def encode(self, x):
        return x @ self.matrix, jnp.ones((*x.shape[:-1], UNITS))


class Silent(eqx.Module):
    """A guide that cannot encode."""

    def __call__(self, x):
        elbax.sample("z", dist.Normal(jnp.zeros((len(x), UNITS)), 1.0).to_event(1))


@dataclasses.dataclass(frozen=True)
class Plain(Recipe):
    def seen(self, data, split, count):
        return data.intensity(getattr(data, split)[:count])


def dataset(num_test=DATA):
    levels = np.arange(num_test * PIXELS, dtype=np.uint8).reshape(num_test, PIXELS) % 8
    return Dataset("mine", levels, levels, levels, None, (2, 3), 7, "", "", (), "")


def run_of(model, guide, data=None, **fields) -> Any:
    bound = elbax.ELBO(model, guide)
    return Run(RunFolder("run"), {}, Plain(**fields), data or dataset(), bound, 1, (), {})


@pytest.fixture(scope="module")
def run():
    return run_of(Model(DECODER), Guide(ENCODER))


@pytest.fixture(scope="module")
def found(run):
    return images(run, (UNIT_FACTS,))


UNIT_FACTS = Units(
    "z", ("2", "0", "1"), np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.001]), exact=True, threshold=0.01, num_data=9
)


def flat(image_array):
    return image_array.reshape(*image_array.shape[:-2], PIXELS)


def test_reconstructions(found):
    data = flat(found.reconstructions.data)
    assert found.reconstructions.originals is None  # the model saw the stored intensities
    np.testing.assert_allclose(flat(found.reconstructions.means), data @ ENCODER @ DECODER, rtol=1e-4, atol=1e-4)


def test_data_are_drawn_without_replacement(found):
    rows = {tuple(row) for row in flat(found.reconstructions.data).tolist()}
    stored = {tuple(row) for row in (dataset().test / np.float32(7)).tolist()}
    assert rows <= stored
    assert len(found.reconstructions.data) == 30


def test_interpolations_go_straight_from_code_to_code(found):
    ends = flat(found.interpolations.ends)
    codes = ends @ ENCODER
    t = WEIGHTS[None, :, None]
    expected = ((1 - t) * codes[:, :1] + t * codes[:, 1:]) @ DECODER
    np.testing.assert_allclose(flat(found.interpolations.means), expected, rtol=1e-4, atol=1e-4)
    assert (found.interpolations.weights[0], found.interpolations.weights[-1]) == (0.0, 1.0)


def test_traversals_move_one_unit_in_deviations_of_the_prior(found):
    traversals = found.traversals
    assert traversals.units == ("2", "0")  # the third unit is not active
    assert traversals.kl.tolist() == [3.0, 2.0]
    code = np.asarray(flat(found.reconstructions.data)[0] @ ENCODER)
    for i, unit in enumerate((2, 0)):
        moved = np.tile(code, (len(DEVIATIONS), 1))
        moved[:, unit] = LOC[unit] + DEVIATIONS * SCALE[unit]
        np.testing.assert_allclose(flat(traversals.means)[i], moved @ DECODER, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(traversals.own[i], (code[unit] - LOC[unit]) / SCALE[unit], rtol=1e-4)


def test_the_prior_is_that_of_the_program(run):
    prior = prior_of(run, "z", jr.key(0))
    np.testing.assert_allclose(prior["mean"], LOC)
    np.testing.assert_allclose(prior["sd"], SCALE)
    # 40 draws of 3 units: the largest of 3 standardised means exceeds 5.2 with probability below 1e-6, and a prior
    # of mean 0 and deviation 1 would be off by 25 standard errors in the second unit.
    error = (prior["draws"].mean(0) - LOC) / (SCALE / np.sqrt(len(prior["draws"])))
    assert np.abs(error).max() < 5.2


def test_prior_samples_are_decoded_draws(run, found):
    assert found.prior_samples.means.shape == (DATA, 2, 3)
    _, key = jr.split(jr.fold_in(jr.key(run.recipe.seed), 3))
    draws = prior_of(run, "z", key)["draws"]
    np.testing.assert_allclose(flat(found.prior_samples.means), draws @ DECODER, rtol=1e-4, atol=1e-4)


def test_a_seed_gives_the_same_images_and_another_gives_others(run, found):
    again: Any = images(run, (UNIT_FACTS,))
    assert np.array_equal(again.prior_samples.means, found.prior_samples.means)
    assert np.array_equal(again.reconstructions.data, found.reconstructions.data)
    other: Any = images(run_of(Model(DECODER), Guide(ENCODER), seed=1), (UNIT_FACTS,))
    assert not np.array_equal(other.prior_samples.means, found.prior_samples.means)
    assert not np.array_equal(other.reconstructions.data, found.reconstructions.data)


def test_few_data():
    found = images(run_of(Model(DECODER), Guide(ENCODER), dataset(3)), (UNIT_FACTS,))
    assert found.reconstructions is not None
    assert found.interpolations is not None
    assert (len(found.reconstructions.data), len(found.interpolations.means)) == (3, 1)


def test_stored_intensities_are_shown_where_the_model_saw_others(elbo_content):
    r = elbo_content.trained.images.reconstructions
    assert set(np.unique(r.data)) == {0.0, 1.0}
    assert r.originals is not None
    # A pixel is 1 with the probability of its intensity: zeros stay zero, ones stay one.
    assert not r.data[r.originals == 0].any()
    assert r.data[r.originals == 1].all()


def test_a_model_that_cannot_decode_has_no_images():
    def model(x):
        z = elbax.sample("z", dist.Normal(jnp.zeros((len(x), UNITS)), 1.0).to_event(1))
        elbax.observe("x", dist.Normal(z @ DECODER, 1.0).to_event(1), x)

    run = run_of(model, Guide(ENCODER))
    assert image_site(run) is None
    assert dataclasses.astuple(images(run, (UNIT_FACTS,))) == (None,) * 4


def test_a_model_with_several_sites_has_no_images():
    class Two(Model):
        def __call__(self, x):
            z = elbax.sample("z", dist.Normal(jnp.zeros((len(x), UNITS)), 1.0).to_event(1))
            scale = elbax.sample("scale", dist.LogNormal(jnp.zeros(len(x)), 1.0))
            elbax.observe("x", dist.Normal(self.decode(z), scale[:, None]).to_event(1), x)

    assert image_site(run_of(Two(DECODER), Guide(ENCODER))) is None


def test_a_guide_that_cannot_encode_leaves_prior_samples():
    found = images(run_of(Model(DECODER), Silent()), (UNIT_FACTS,))
    assert found.prior_samples is not None
    assert (found.reconstructions, found.interpolations, found.traversals) == (None, None, None)


def test_discrete_latents_leave_prior_samples():
    class Binary(Model):
        def __call__(self, x):
            z = elbax.sample("z", dist.Bernoulli(probs=jnp.full((len(x), UNITS), 0.25)).to_event(1))
            elbax.observe("x", dist.Normal(self.decode(z), 1.0).to_event(1), x)

    found = images(run_of(Binary(DECODER), Guide(ENCODER)), (UNIT_FACTS,))
    assert found.prior_samples is not None
    assert found.reconstructions is None


def test_no_active_unit_leaves_no_traversals(run):
    idle = dataclasses.replace(UNIT_FACTS, mean_variance=np.zeros(3))
    assert images(run, (idle,)).traversals is None
