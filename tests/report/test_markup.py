"""Text cannot become markup, whatever it is and wherever it stands."""

import pytest

from elbax.report.markup import Html, escape, join, table, tag
from tests.report.reader import read_page

EVIL = ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "&lt;b&gt;", "</title><b>", "`$x$`", "--><!--"]


@pytest.mark.parametrize("text", EVIL)
def test_text_comes_back_as_it_was(text):
    page = read_page(tag("p", text, title=text))
    assert page.text == text
    assert page.elements == [("p", {"title": text})]
    assert page.problems == []


def test_markup_stays_as_it_is_and_text_made_of_it_does_not():
    inner = tag("b", "x")
    assert tag("p", inner, " & ", inner) == "<p><b>x</b> &amp; <b>x</b></p>"
    assert tag("p", inner + "") == "<p>&lt;b&gt;x&lt;/b&gt;</p>"
    assert escape(escape("<")) == "&lt;"


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1b", "\x85", "\ud800", "\ufffe"])
def test_characters_that_html_does_not_allow(character):
    text = escape(f"a{character}b")
    assert text == "a\ufffdb"
    text.encode("utf-8")


def test_attributes():
    made = tag("td", 1, class_="a b", data_label='x"y', aria_label=None, **{"xmlns:xlink": "n"})
    assert made == '<td class="a b" data-label="x&quot;y" xmlns:xlink="n">1</td>'


@pytest.mark.parametrize("name", ["a b", "a>", "", "1a", 'a"'])
def test_names_are_never_text(name):
    with pytest.raises(ValueError, match="is no name"):
        tag(name)
    with pytest.raises(ValueError, match="is no name"):
        tag("p", **{name: "x"})


def test_void_elements():
    assert tag("br") == "<br>"
    with pytest.raises(ValueError, match="cannot have children"):
        tag("br", "x")


def test_join_leaves_out_nothing_but_none():
    assert join(["<", None, Html("<br>"), 0], separator="&") == "&lt;&amp;<br>&amp;0"


def test_table_names_its_rows_and_columns():
    page = read_page(table([("a<", 1, "x"), ("b", 2, "y")], head=("name", "number", "letter"), class_="stack"))
    assert page.problems == []
    assert [cell["scope"] for cell in page.named("th")] == ["col"] * 3 + ["row"] * 2
    assert [cell["data-label"] for cell in page.named("td")] == ["number", "letter"] * 2
    assert page.text == "namenumberlettera<1xb2y"


def test_a_row_of_the_wrong_length_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        table([("a", 1)], head=("name", "number", "letter"))
