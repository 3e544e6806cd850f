"""The sections of a report, in the order of the page: each is a function of the content and says whether it applies.

A new section is a module with such a function and a line in `SECTIONS`.
"""

from __future__ import annotations

from elbax.report.content import Content
from elbax.report.sections.base import Build, Section
from elbax.report.sections.data import data_section
from elbax.report.sections.gradient import gradient_section
from elbax.report.sections.images import images_section
from elbax.report.sections.latents import latents_section
from elbax.report.sections.missing import missing_section
from elbax.report.sections.result import result_section
from elbax.report.sections.setup import repeat_section, setup_section
from elbax.report.sections.training import training_section

__all__ = ["SECTIONS", "sections_of"]

SECTIONS: tuple[Build, ...] = (
    result_section,
    training_section,
    images_section,
    latents_section,
    gradient_section,
    data_section,
    repeat_section,
    setup_section,
    missing_section,
)


def sections_of(content: Content) -> tuple[Section, ...]:
    """The sections that apply to a run."""
    return tuple(section for build in SECTIONS if (section := build(content)) is not None)
