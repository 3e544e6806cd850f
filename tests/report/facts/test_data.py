"""The data of a run in words."""

import dataclasses

import pytest

from elbax.report.facts.data import binarisation_text, data_facts
from elbax.report.facts.reading import read_run


def test_a_named_set(elbo_content):
    d = elbo_content.data
    assert (d.name, d.image_shape, d.num_levels) == ("digits", (8, 8), 16)
    assert d.sizes == {"train": 1297, "valid": 200, "test": 300}
    assert d.licence == "CC BY 4.0"
    assert "Alpaydin" in d.citation
    assert all(len(sum_) == 64 for sum_ in d.files.values())
    assert d.binarisation.startswith("dynamic: a pixel is 1")


def test_what_is_known_without_the_data(elbo_folder):
    d = data_facts(dataclasses.replace(read_run(elbo_folder), run=None))
    assert (d.name, d.sizes, d.image_shape) == ("digits", {}, None)
    assert "Alpaydin" in d.citation


@pytest.mark.parametrize(
    ("choice", "begins"),
    [("dynamic", "dynamic: a pixel"), ("fixed:7", "fixed:7: a pixel"), ("threshold:0.3", "threshold:0.3: a pixel"),
     ("none", "none: grey levels"), ("", ""), ("other", "other")],
)  # fmt: skip
def test_binarisation(choice, begins):
    assert binarisation_text({"binarisation": choice} if choice else {}).startswith(begins)


def test_grey_levels_are_no_density():
    assert "not a normalised density" in binarisation_text({"binarisation": "none"})
