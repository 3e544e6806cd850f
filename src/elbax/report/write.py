"""Placeholder until the report is written."""

from pathlib import Path


def write_report(run: str | Path, *, overwrite: bool = False) -> Path:
    """Writes the report of a run."""
    return Path(run) / "report.html"
