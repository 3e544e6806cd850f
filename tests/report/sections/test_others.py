"""Sections: when they apply, and what they say."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from elbax.report.facts.images import Images
from elbax.report.sections import SECTIONS, sections_of
from elbax.report.sections.base import pictures_of
from elbax.report.sections.data import data_section, levels
from elbax.report.sections.gradient import gradient_section, lost
from elbax.report.sections.images import images_section
from elbax.report.sections.latents import latents_section, share
from elbax.report.sections.missing import missing_section
from elbax.report.sections.setup import repeat_section, setup_section
from elbax.report.sections.training import left_out, training_section
from tests.report.reader import read_page


def text_of(section):
    """The words of a section, captions included."""
    parts = []
    for group in section.parts:
        for part in group if isinstance(group, tuple) else (group,):
            parts.append(part if isinstance(part, str) else part.figure())
    page = read_page("".join(parts))
    assert page.problems == []
    return page.text


def trained(content, **changes):
    return dataclasses.replace(content, trained=dataclasses.replace(content.trained, **changes))


@pytest.fixture
def bare(elbo_content):
    """A run of which nothing but the configuration is left."""
    data = dataclasses.replace(elbo_content.data, sizes={}, image_shape=None, num_levels=None, files={})
    return dataclasses.replace(elbo_content, scores=None, curves=None, told=(), trained=None, data=data)


def test_every_section_applies_to_a_whole_run_or_says_what_is_missing(elbo_content, bare):
    assert len(sections_of(elbo_content)) == len(SECTIONS) - 1
    assert missing_section(elbo_content) is None
    assert [s.slug for s in sections_of(bare)] == ["data", "repeat", "setup", "missing"]


def test_names_of_sections_and_pictures_are_unique(elbo_content):
    sections = sections_of(elbo_content)
    assert len({s.slug for s in sections}) == len(sections)
    names = [p.name for p in pictures_of(sections)]
    assert len(set(names)) == len(names)


def test_every_picture_has_words_for_those_who_cannot_see_it_and_for_those_who_can(elbo_content):
    for picture in pictures_of(sections_of(elbo_content)):
        assert len(picture.alt) > 20
        assert picture.caption.startswith("<b>")
        assert len(picture.caption) > 100


def test_training_without_parts(iwae_content):
    section = training_section(iwae_content)
    assert section is not None
    assert [p.name for p in pictures_of((section,))] == ["bound"]
    assert "IWAE with 3 particles, in nats per datum" in text_of(section)


def test_what_the_axis_leaves_out(elbo_content):
    steps = np.arange(10, 201, 10)
    bound = np.concatenate([[-100.0, -50.0], np.linspace(-10.0, -8.0, 18)])
    curves = dataclasses.replace(
        elbo_content.curves, steps=steps, bound=bound, valid_steps=np.array([], int), valid_bound=np.array([])
    )
    assert "leaves out 2 of 20 blocks, the lowest at \N{MINUS SIGN}100.00" in left_out(curves)
    assert left_out(dataclasses.replace(curves, bound=np.linspace(-10, -8, 20))) == "The axis shows every block."


def test_images_that_apply_are_shown(elbo_content):
    found = elbo_content.trained.images
    only = trained(elbo_content, images=Images(found.prior_samples, None, None, None))
    section = images_section(only)
    assert section is not None
    assert [p.name for p in pictures_of((section,))] == ["prior-samples"]
    missing = missing_section(only)
    assert missing is not None
    assert "a method encode and the latent" in text_of(missing).replace("`", "")


@pytest.mark.parametrize(
    ("kept", "said"),
    [((), "a method `decode`"), (("prior_samples", "reconstructions", "interpolations"), "no unit of the latent site")],
)
def test_images_that_do_not_apply_are_explained(elbo_content, kept, said):
    found = {name: getattr(elbo_content.trained.images, name) for name in kept}
    names = ("prior_samples", "reconstructions", "interpolations", "traversals")
    missing = missing_section(trained(elbo_content, images=Images(**{n: found.get(n) for n in names})))
    assert missing is not None
    assert said in text_of(missing)


def test_several_sites_have_a_picture_each(elbo_content):
    (units,) = elbo_content.trained.units
    section = latents_section(trained(elbo_content, units=(units, dataclasses.replace(units, site="y"))))
    assert section is not None
    assert [p.name for p in pictures_of((section,))] == ["units-1", "units-2"]
    assert "units of y are active" in text_of(section)
    assert latents_section(dataclasses.replace(trained(elbo_content, units=()), told=())) is None


def test_the_largest_units_in_numbers(elbo_content):
    (units,) = elbo_content.trained.units
    many = dataclasses.replace(
        units, names=tuple(map(str, range(12))), kl=np.arange(12, 0, -1.0), mean_variance=np.full(12, 0.5)
    )
    section = latents_section(trained(elbo_content, units=(many,)))
    assert section is not None
    assert "The other 2 units have 3.000 nats per datum" in text_of(section)
    assert (share(1.0, 4.0), share(1.0, 0.0), share(1.0, np.inf)) == ("25%", "", "")


def test_the_legend_has_what_is_drawn(elbo_content):
    section = gradient_section(elbo_content)
    assert section is not None
    assert "dashed arrow" not in text_of(section)
    graph = dataclasses.replace(elbo_content.trained.graph, credited=True)
    assert "dashed arrow" in text_of(gradient_section(trained(elbo_content, graph=graph)))


def test_where_elements_mix(elbo_content):
    graph = elbo_content.trained.graph
    assert "All nodes here are pathwise" in "".join(lost(graph))
    assert "which adds variance" in "".join(lost(dataclasses.replace(graph, credited=True)))
    assert "(networks.py:" in "".join(lost(graph))
    assert lost(dataclasses.replace(graph, lost=())) == []


def test_a_wide_drawing_has_the_width_of_the_page(elbo_content):
    graph = elbo_content.trained.graph
    wide = dataclasses.replace(graph, svg=graph.svg.replace('width="', 'width="9', 1))
    section = gradient_section(trained(elbo_content, graph=wide))
    assert section is not None
    assert not any(isinstance(part, tuple) for part in section.parts)


def test_data(elbo_content, bare):
    text = text_of(data_section(elbo_content))
    for words in (
        "8 \N{MULTIPLICATION SIGN} 8 pixels, grey levels 0 to 16",
        "1,297 training · 200 validation · 300 test",
        "CC BY 4.0",
    ):
        assert words in text
    assert "pixels" not in text_of(data_section(bare)).partition("Binarisation")[0]
    assert (levels(None), levels(1)) == ("", ", values in [0, 1]")


def test_configuration(elbo_content):
    text = text_of(setup_section(elbo_content))
    for words in ("Parameters", "(model ", "jax.random.key(3)", "compilation included", "elbax 0.", "python 3."):
        assert words in text
    fields: Any = setup_section(elbo_content).parts[2]
    page = read_page(fields)
    assert sum(a.get("class") == "changed" for a in page.named("code")) == 10


def test_repeating_without_a_recorded_command(elbo_content):
    assert "as it was given" in text_of(repeat_section(elbo_content))
    quiet = dataclasses.replace(elbo_content.setup, command="")
    assert "as it was given" not in text_of(repeat_section(dataclasses.replace(elbo_content, setup=quiet)))
