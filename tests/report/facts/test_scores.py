"""The final figures, as the result has them."""

import copy

import pytest

from elbax.diagnose.estimate import Estimate
from elbax.errors import RunError
from elbax.models.recipes import VAERecipe
from elbax.report.facts.reading import Reading
from elbax.report.facts.scores import scores
from elbax.runs.folder import RunFolder


def figure(value, error=0.1, unit="nats per datum"):
    return {"value": value, "std_error": error, "unit": unit}


RESULT = {
    "steps": 60,
    "best_step": 40,
    "training": {"bound": -3.5, "std_error": 0.25, "step": 60},
    "validation": {"bound": -4.5},
    "test": {
        "elbo": figure(-5.0),
        "iwae": figure(-4.0),
        "gap": figure(1.0, 0.01),
        "elbo_bits": figure(0.5, 0.01, "bits per dimension"),
        "iwae_bits": figure(0.4, 0.01, "bits per dimension"),
        "num_particles": 100,
        "num_data": 300,
        "effective_particles": {"median": 40.0, "min": 9.5},
    },
}


def found(change=lambda result: None):
    result = copy.deepcopy(RESULT)
    change(result)
    return scores(Reading(RunFolder("run"), {}, VAERecipe(), (), result, None))


def test_all_figures():
    s = found()
    assert s is not None
    assert s.elbo == Estimate(-5.0, 0.1)
    assert s.iwae == Estimate(-4.0, 0.1)
    assert s.gap == Estimate(1.0, 0.01)
    assert s.iwae_bits == Estimate(0.4, 0.01, "bits per dimension")
    assert (s.num_particles, s.num_data, s.step) == (100, 300, 40)
    assert s.training == Estimate(-3.5, 0.25)
    assert s.validation == -4.5


@pytest.mark.parametrize(("smallest", "few"), [(9.5, True), (10.0, False), (1.0, True)])
def test_few_particles(smallest, few):
    s = found(lambda r: r["test"]["effective_particles"].update(min=smallest))
    assert s is not None
    assert s.few_particles is few


def test_few_of_few_are_not_few():
    s = found(lambda r: r["test"].update(num_particles=5, effective_particles={"median": 4.0, "min": 1.2}))
    assert s is not None
    assert not s.few_particles


def test_what_may_be_missing():
    def change(result):
        del result["best_step"], result["training"], result["test"]["elbo_bits"], result["test"]["iwae_bits"]
        result["validation"] = None

    s = found(change)
    assert s is not None
    assert (s.step, s.training, s.validation, s.elbo_bits, s.iwae_bits) == (None,) * 5


@pytest.mark.parametrize("change", [{"num_data": "many"}, {"elbo": figure(None)}, {"gap": figure(True)}])
def test_what_is_no_number(change):
    with pytest.raises(RunError, match=r"result\.json' is damaged \('.*' is no number: "):
        found(lambda r: r["test"].update(change))


def test_a_run_that_was_not_evaluated():
    assert found(lambda r: r.pop("test")) is None


@pytest.mark.parametrize("name", ["elbo", "gap", "num_particles", "effective_particles"])
def test_what_must_not_be_missing(name):
    with pytest.raises(RunError, match=rf"result\.json' is damaged \(it has no '{name}"):
        found(lambda r: r["test"].pop(name))
