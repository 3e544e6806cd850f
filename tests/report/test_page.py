"""The page as a whole: well formed, alone, and readable without seeing it."""

import re

from elbax.graph.drawing.svg import STYLE
from elbax.report.markup import Html, tag
from elbax.report.page import page
from elbax.report.picture import Picture
from elbax.report.sections.base import Section, pictures_of
from elbax.report.style import STYLE_SHEET
from tests.report.reader import read_page

DRAWING = '<svg viewBox="0 0 1 1"><path id="a" d="M0 0"/></svg>'


def drawing(name):
    return Picture(name, DRAWING, None, f"alt of {name}", tag("b", name))


def test_parts_in_a_row_and_below_each_other():
    section = Section("one", "First", (tag("p", "text"), (drawing("left"), drawing("right")), drawing("alone")))
    text = page("T", tag("h1", "T"), [section], Html("foot"))
    found = read_page(text)
    assert found.problems == []
    assert [a["id"] for a in found.named("figure")] == ["figure-left", "figure-right", "figure-alone"]
    assert text.count('<div class="row">') == 1
    assert [p.name for p in pictures_of((section,))] == ["left", "right", "alone"]


def test_contents_lead_to_the_sections():
    sections = [Section("a", "First <b>", (tag("p", "x"),)), Section("b", "Second", (tag("p", "y"),))]
    found = read_page(page("T", Html(), sections, Html()))
    assert found.problems == []
    assert [a["href"] for a in found.named("a")] == ["#a", "#b"]
    assert [a["id"] for a in found.named("section")] == ["a", "b"]


def test_head():
    text = page("a <title>", Html(), [], Html())
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>a &lt;title&gt;</title>" in text
    metas = read_page(text).named("meta")
    assert {"charset": "utf-8"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    policies = [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert metas.index({"charset": "utf-8"}) == 0


def test_the_style_sheet_is_whole():
    assert STYLE_SHEET.count("{") == STYLE_SHEET.count("}")
    assert "<" not in STYLE_SHEET
    assert "url(" not in STYLE_SHEET
    declared = set(re.findall(r"(--[a-z-]+):", STYLE_SHEET))
    assert set(re.findall(r"var\((--[a-z-]+)\)", STYLE_SHEET)) <= declared
    for rule in ("@media print", "prefers-color-scheme:dark", "max-width:38rem", "break-inside:avoid"):
        assert rule in STYLE_SHEET


def test_classes_that_are_used_have_a_rule(elbo_report):
    used = {c for a in read_page((elbo_report / "report.html").read_text()).attributes("class") for c in a.split()}
    drawing_classes = {"e", *re.findall(r"\.e \.([a-z]+)", STYLE)}
    assert {c for c in used - drawing_classes if f".{c}" not in STYLE_SHEET} == set()
