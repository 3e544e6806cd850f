"""The head of the page."""

import dataclasses

from elbax.report.sections.header import header, heading
from tests.report.reader import read_page


def text_of(content):
    page = read_page(header(content))
    assert page.problems == []
    return page.text


def test_what_to_remember(elbo_content):
    text = text_of(elbo_content)
    assert heading(elbo_content) == "vae on digits"
    assert "200 steps · " in text
    assert f" · {5 * 16 + 17 * 64 + 65 * 16 + 17 * 8:,} parameters · seed 3" in text
    assert "ELBO" in text
    assert "IWAE bound, 8 particles" in text
    assert "bits/dim" in text
    assert f"{elbo_content.trained.units[0].num_active} of 4" in text


def test_neither_bound_stands_without_the_other_and_its_error(elbo_content):
    text = text_of(elbo_content)
    assert text.index("ELBO") < text.index("IWAE bound") < text.index("log p(x)", text.index("draws."))
    assert text.count(" ± ") == 4  # both bounds in both units
    assert "from both sides. The ELBO falls short by" in text


def test_without_a_bracket_the_distance_of_the_bounds_stands_there(elbo_content):
    scores = dataclasses.replace(elbo_content.scores, bracket=None)
    text = text_of(dataclasses.replace(elbo_content, scores=scores))
    assert text.index("IWAE bound") < text.index("Distance of the two")
    assert text.count(" ± ") == 5


def test_parameters_of_an_earlier_step(elbo_content):
    status = dataclasses.replace(elbo_content.status, described_step=120)
    assert "describes the parameters of step 120" in text_of(dataclasses.replace(elbo_content, status=status))


def test_numbers_for_machines_are_whole(elbo_content):
    values = [float(v) for v in read_page(header(elbo_content)).attributes("value")]
    scores = elbo_content.scores
    assert values == [
        scores.elbo.value,
        scores.iwae.value,
        scores.bracket.lower,
        scores.bracket.upper,
        *scores.bracket.short,
    ]


def test_a_run_without_figures(elbo_content):
    text = text_of(dataclasses.replace(elbo_content, scores=None, trained=None, curves=None))
    assert "ELBO" not in text
    assert "parameters" not in text
