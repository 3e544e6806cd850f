"""What a section of a report is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from elbax.diagnose.estimate import Estimate
from elbax.report.content import Content
from elbax.report.markup import Html, tag
from elbax.report.numbers import with_error
from elbax.report.picture import Picture

__all__ = ["Build", "Part", "Section", "as_row", "figure_with_error", "pictures_of"]


Part = Html | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        slug: its address in the page.
        title: its heading.
        parts: markup and pictures, in order; those in a tuple of their own stand side by side where there is room.
    """

    slug: str
    title: str
    parts: tuple[Part | tuple[Part, ...], ...]


# A section, or `None` for a run that it does not apply to.
Build = Callable[[Content], Section | None]


def pictures_of(sections: tuple[Section, ...]) -> tuple[Picture, ...]:
    """All pictures of some sections, in order."""
    parts = [part for section in sections for group in section.parts for part in as_row(group)]
    return tuple(part for part in parts if isinstance(part, Picture))


def as_row(group: Part | tuple[Part, ...]) -> tuple[Part, ...]:
    """A group of parts as a tuple, also if it is one part only."""
    return group if isinstance(group, tuple) else (group,)


def figure_with_error(figure: Estimate) -> Html:
    """A figure with its standard error, for a line of text or a table; the full number is kept for machines."""
    value, error = with_error(figure)
    return tag("span", tag("data", value, value=repr(figure.value)), f" ± {error}", class_="num")
