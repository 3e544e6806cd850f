"""The page of a report: its sections, one after the other, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from elbax.report.markup import Html, join, tag
from elbax.report.picture import Picture
from elbax.report.sections.base import Part, Section
from elbax.report.style import STYLE_SHEET

__all__ = ["page"]

# Whatever a page is made of, a browser may load nothing for it and run nothing in it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, header: Html, sections: Sequence[Section], footer: Html) -> str:
    """The whole page as text."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(STYLE_SHEET)),
    )
    contents = tag("ul", *(tag("li", tag("a", s.title, href=f"#{s.slug}")) for s in sections))
    body = tag(
        "body",
        tag("header", header, tag("nav", contents, aria_label="Contents")),
        tag("main", *(section_element(s) for s in sections)),
        tag("footer", footer),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def section_element(section: Section) -> Html:
    """A section with its heading and its parts."""
    heading = tag("h2", section.title, id=f"{section.slug}-title")
    parts = [row_element(group) if isinstance(group, tuple) else part_element(group) for group in section.parts]
    return tag("section", heading, join(parts), id=section.slug, aria_labelledby=f"{section.slug}-title")


def row_element(row: tuple[Part, ...]) -> Html:
    """Parts that stand side by side where there is room."""
    return tag("div", *(tag("div", part_element(part)) for part in row), class_="row")


def part_element(part: Part) -> Html:
    """A picture with its caption, or markup as it is."""
    return part.figure() if isinstance(part, Picture) else part
