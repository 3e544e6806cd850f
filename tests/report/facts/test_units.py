"""Units of latent sites, ordered and counted."""

import numpy as np

from elbax.diagnose.latents import LatentSummary
from elbax.report.facts.units import ordered, units


def test_units_by_decreasing_kl():
    summary = LatentSummary("z", np.array([0.5, 2.0, 0.0, 1.0]), np.array([0.2, 1.0, 0.001, 0.01]), exact=True)
    found = ordered(summary, 120)
    assert found.names == ("1", "3", "0", "2")
    assert found.kl.tolist() == [2.0, 1.0, 0.5, 0.0]
    assert found.mean_variance.tolist() == [1.0, 0.01, 0.2, 0.001]
    assert found.active.tolist() == [True, False, True, False]  # exactly at the threshold is not above it
    assert (found.num_active, found.total, found.num_data) == (2, 3.5, 120)


def test_units_of_several_axes_have_several_indices():
    found = ordered(LatentSummary("z", np.array([[0.0, 1.0], [3.0, 2.0]]), np.ones((2, 2)), exact=False), 10)
    assert found.names == ("1, 0", "1, 1", "0, 1", "0, 0")


def test_a_kl_that_does_not_fall_into_units():
    found = ordered(LatentSummary("z", np.array(1.5), np.array([0.001, 0.5]), exact=True), 10)
    assert (found.names, found.kl.tolist(), found.num_active) == (("all",), [1.5], 1)


def test_a_unit_that_is_not_a_number_stands_last():
    found = ordered(LatentSummary("z", np.array([np.nan, 1.0, np.inf]), np.ones(3), exact=True), 10)
    assert found.names == ("2", "1", "0")


def test_they_are_those_of_the_result(elbo_run):
    (found,) = units(elbo_run)
    recorded = elbo_run.result["latents"]["z"]
    assert (found.site, len(found.kl), found.num_active) == ("z", recorded["units"], recorded["active_units"])
    np.testing.assert_allclose(found.total, recorded["kl"], rtol=1e-5)
    assert found.num_data == 120


def test_the_closed_form(elbo_run):
    (found,) = units(elbo_run)
    seen = elbo_run.recipe.seen(elbo_run.data, "test", 120)
    loc, scale = map(np.asarray, elbo_run.bound.guide.encode(seen))
    kl = (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).mean(0)
    order = [int(name) for name in found.names]
    np.testing.assert_allclose(found.kl, kl[order], rtol=1e-4)
    np.testing.assert_allclose(found.mean_variance, loc.var(0)[order], rtol=1e-4)
