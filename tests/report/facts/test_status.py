"""How a run ended, in words."""

import pytest

from elbax.fit.result import Row
from elbax.fit.stopping import Outcome
from elbax.models.recipes import VAERecipe
from elbax.report.facts.reading import Reading
from elbax.report.facts.status import SAID, status
from elbax.runs.folder import RunFolder


def reading(result, *, last=100, tmp_path="."):
    history = (Row(last, -1.0, 0.1, {}),) if last else ()
    return Reading(RunFolder(tmp_path), {}, VAERecipe(), history, result, None)


def test_every_outcome_has_words():
    assert set(SAID) == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome(outcome):
    found = status(reading({"outcome": outcome.value, "advice": "Do this.", "steps": 100, "seconds": 3}))
    assert found.headline == SAID[outcome][0]
    assert found.advice == "Do this."
    assert found.seconds == 3.0
    assert not found.stale


def test_an_outcome_of_a_later_version():
    found = status(reading({"outcome": "bored", "steps": 100}))
    assert (found.headline, found.tone) == ("Ended: bored", "notice")


def test_a_run_without_a_result():
    found = status(reading({}))
    assert found.headline == "Not finished"
    assert "still going on, or it was interrupted or killed" in found.advice
    assert "No checkpoint" in found.advice
    assert (found.steps, found.described_step, found.seconds) == (100, None, None)


def test_a_result_that_training_has_overtaken():
    found = status(reading({"outcome": "max_steps", "advice": "Old.", "steps": 100}, last=2300))
    assert found.headline == "Resumed and not finished"
    assert found.stale
    assert "those of step 100; training has since gone on to step 2,300" in found.advice


def test_a_run_that_has_not_begun():
    assert status(reading({}, last=0)).steps == 0
