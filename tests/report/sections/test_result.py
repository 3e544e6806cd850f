"""The figures with what they were computed on, and how far to trust them."""

import dataclasses

import pytest

from elbax.report.sections.result import caveats, evaluated_data, figures_table, result_section
from tests.report.reader import read_page


def said(content, **scores):
    found = dataclasses.replace(content.scores, **scores)
    return " ".join(caveats(dataclasses.replace(content, scores=found), found))


def test_all_three_splits(elbo_content):
    page = read_page(figures_table(elbo_content, elbo_content.scores))
    for words in ("last 20 steps", "200 validation data", "first 120 of 300 test data, 8 draws each"):
        assert words in page.text
    assert page.text.count("nats") == 0  # the unit stands in the head of the column only, with a capital
    assert "Nats per datum" in page.text


def test_no_scores(elbo_content):
    assert result_section(dataclasses.replace(elbo_content, scores=None)) is None


@pytest.mark.parametrize(("num_data", "words"), [(120, "first 120 of 300 test data"), (300, "all 300 test data")])
def test_which_test_data(elbo_content, num_data, words):
    assert evaluated_data(elbo_content, dataclasses.replace(elbo_content.scores, num_data=num_data)) == words


def test_particles_that_are_too_few_are_named_with_a_remedy(elbo_content):
    assert "--particles" not in said(elbo_content, num_particles=100, ess_min=50.0)
    text = said(elbo_content, num_particles=100, ess_min=1.2)
    assert "For some data that is little" in text
    assert "<code>elbax evaluate small --particles 5000</code>" in text


def test_what_the_error_is(elbo_content):
    text = said(elbo_content)
    assert "one standard error of the mean over test data" in text
    assert "What another seed would change is not in it" in text
    assert "chose the parameters and is therefore slightly optimistic" in text
    assert "Compare with figures of the same binarisation only" in text


def test_without_validation(elbo_content):
    assert "validation" not in said(elbo_content, validation=None)


def test_figures_that_training_has_overtaken(elbo_content):
    status = dataclasses.replace(elbo_content.status, stale=True)
    content = dataclasses.replace(elbo_content, status=status)
    assert "These figures are of step" in said(content)
