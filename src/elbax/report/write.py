"""`write_report`: from a run folder to one page and its figures.

    read the folder -> facts -> sections with figures -> page

Facts are plain data and computed first (`elbax.report.content`); sections draw and describe them
(`elbax.report.sections`); the page is one file without scripts that loads nothing (`elbax.report.page`).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from elbax.errors import RunError
from elbax.fit.checkpoint import write_atomically
from elbax.runs.folder import RunFolder

__all__ = ["write_report"]


def write_report(run_folder: str | Path, *, overwrite: bool = False) -> Path:
    """Writes `report.html` and the files in `figures/` of a run, also of one that has not ended.

    The same run gives the same bytes. All files are written whole or not at all, the page last.

    Args:
        run_folder: the folder of the run.
        overwrite: whether an existing report may be replaced.

    Returns:
        Path of the page.

    Raises:
        RunError: if there is no run, a file of it is damaged, a report exists already, or a file cannot be written.
        DataError, ConfigError: if its data or its recipe are no longer where they were.
    """
    # Matplotlib takes a third of a second to import: the command line imports this module, but rarely needs it.
    from elbax.report.content import gather
    from elbax.report.markup import escape
    from elbax.report.page import page
    from elbax.report.sections import sections_of
    from elbax.report.sections.base import pictures_of
    from elbax.report.sections.header import header, heading

    folder = RunFolder(run_folder)
    folder.read_config()
    if folder.report_path.exists() and not overwrite:
        raise RunError(
            f"'{folder.report_path}' exists already. Replace it with `elbax report {folder.path} --overwrite` "
            "(`overwrite=True` in Python), or move it away first."
        )
    content = gather(run_folder)
    sections = sections_of(content)
    footer = f"Written by elbax {importlib.metadata.version('elbax')}. This page is one file and loads nothing."
    text = page(f"{heading(content)} · elbax", header(content), sections, escape(footer))
    files = {f"{p.name}.svg": p.svg.encode() for p in pictures_of(sections)}
    files |= {f"{p.name}.png": p.png for p in pictures_of(sections) if p.png is not None}
    write_files(folder.figures_path, files)
    write_atomically(folder.report_path, text.encode())
    return folder.report_path


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder, each of them whole or not at all; makes the folder if there is none."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"folder '{folder}' cannot be made ({error.strerror or error}).") from error
    for name, content in files.items():
        write_atomically(folder / name, content)
