"""Drawings inside a page: no shared identifiers, no rules of style, the colours and fonts of the page."""

import re

import pytest

from elbax.report.figures.bounds import bounds
from elbax.report.markup import Html, tag
from elbax.report.palette import COLOURS, css_variables, themed
from elbax.report.picture import Picture, inline_svg, picture
from tests.report.reader import read_page

SVG = (
    '<?xml version="1.0"?><!DOCTYPE svg><svg class="e" width="9" height="9" viewBox="0 0 9 9"><defs>'
    '<style type="text/css">*{stroke-linejoin: round}</style></defs><defs><path id="d" d="M0 0"/></defs>'
    '<use xlink:href="#d"/><g clip-path="url(#d)"><text style="font-size: 9px; font-family: \'X\', y; fill: #1b1b1f">'
    "a</text></g></svg>"
)


def test_identifiers_get_a_prefix():
    made = inline_svg(SVG, "bound", "alt")
    assert '<path id="bound-d" d="M0 0"/>' in made
    assert 'xlink:href="#bound-d"' in made
    assert "url(#bound-d)" in made
    assert read_page(tag("body", made, inline_svg(SVG, "other", "alt"))).problems == []


def test_fonts_colours_and_rules_are_those_of_the_page():
    made = inline_svg(SVG, "p", "alt")
    assert 'style="font-size: 9px; fill: var(--ink)"' in made
    assert "<style" not in made
    assert "font-family" not in made
    assert "<?xml" not in made
    assert "DOCTYPE" not in made


def test_the_words_for_those_who_cannot_see_are_escaped():
    (root,) = read_page(inline_svg(SVG, "p", 'a "quoted" <b>')).named("svg")
    assert root["role"] == "img"
    assert root["aria-label"] == 'a "quoted" <b>'
    assert root["class"] == "drawing e"
    assert root["viewbox"] == "0 0 9 9"
    assert "width" not in root


def test_what_is_no_drawing():
    with pytest.raises(ValueError, match="not an SVG"):
        inline_svg("<p>", "p", "alt")


def test_a_figure_has_a_caption_and_a_place():
    text = Picture("graph", SVG, None, "alt", Html("<b>A</b> graph."), natural_width=700.0).figure()
    page = read_page(text)
    assert page.problems == []
    assert page.named("figure")[0]["id"] == "figure-graph"
    assert page.text == "aA graph."
    assert "width:700px" in text


def test_a_matplotlib_figure(elbo_content):
    made = picture("bound", bounds(elbo_content.curves), "alt", Html("x"))
    assert made.svg.startswith("<?xml")
    assert made.png is not None
    assert made.png.startswith(b"\x89PNG")
    assert read_page(made.figure()).problems == []


def test_every_colour_of_the_drawings_follows_the_page(elbo_content, elbo_report):
    """In the dark, a colour that stays as it was drawn may not be seen."""
    drawings = re.findall(r"<svg.*?</svg>", (elbo_report / "report.html").read_text(), flags=re.S)
    assert len(drawings) == 8
    for drawing in drawings:
        without_pixels = re.sub(r'"data:[^"]*"', "", drawing)
        assert re.findall(r"(?:fill|stroke):? ?[\"']?(#[0-9a-fA-F]{3,6}\b)", without_pixels) == []


def test_colours_have_two_values_and_differ():
    light, dark = css_variables(dark=False), css_variables(dark=True)
    assert light.count("--") == dark.count("--") == len(COLOURS)
    assert all(pair[0] != pair[1] for pair in COLOURS.values())
    assert themed("fill:#FFF;stroke:#24588F;color:#123456") == "fill:var(--paper);stroke:var(--blue);color:#123456"


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["ink", "muted", "blue", "orange", "green", "red"])
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_text_can_be_read(name, ground, dark):
    """At least the contrast of 4.5 that the Web Content Accessibility Guidelines ask of text."""
    first, second = sorted((luminance(COLOURS[name][dark]), luminance(COLOURS[ground][dark])), reverse=True)
    assert (first + 0.05) / (second + 0.05) >= 4.5
