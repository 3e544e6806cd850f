"""The data of a run."""

from __future__ import annotations

from elbax.report.content import Content
from elbax.report.markup import Html, join, table, tag
from elbax.report.numbers import count
from elbax.report.sections.base import Section

__all__ = ["data_section"]


def data_section(content: Content) -> Section | None:
    """What the data are, how they were split, their licence, citation and checksums."""
    data = content.data
    rows: list[tuple[str, Html | str]] = [("Data set", data.name)]
    if data.image_shape is not None:
        height, width = data.image_shape
        rows.append(("Kind", f"images of {height} \N{MULTIPLICATION SIGN} {width} pixels{levels(data.num_levels)}"))
    if data.sizes:
        names = {"train": "training", "valid": "validation", "test": "test"}
        rows.append(("Splits", " · ".join(f"{count(n)} {names[s]}" for s, n in data.sizes.items())))
    said = [("How split", data.split), ("Binarisation", data.binarisation), ("Licence", data.licence)]
    said.append(("Cite as", data.citation))
    rows += [(name, value) for name, value in said if value]
    facts = tag("dl", join(join([tag("dt", name), tag("dd", value)]) for name, value in rows), class_="facts")
    files = [(name, tag("code", sha256)) for name, sha256 in data.files.items()]
    listed = table(files, head=("File", "sha256 of its content, uncompressed"), class_="stack") if files else None
    return Section("data", "Data", tuple(part for part in (facts, listed) if part is not None))


def levels(num_levels: int | None) -> str:
    """How fine the grey levels are."""
    if num_levels is None:
        return ""
    return f", grey levels 0 to {count(num_levels)}" if num_levels > 1 else ", values in [0, 1]"
