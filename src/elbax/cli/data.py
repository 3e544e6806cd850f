"""`elbax data list|get|check`: the data sets that elbax knows, and where they are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from elbax import data as datasets
from elbax.cli.app import app, say
from elbax.errors import DataError

commands = typer.Typer(no_args_is_help=True, help="Data sets: list them, fetch them, check them.")
app.add_typer(commands, name="data")


@commands.command("list")
def list_() -> None:
    """List the data sets, and where each was found."""
    entries = datasets.available()
    lines = []
    for e in entries:
        where = str(e.folder) if e.found else "not found: " + ("elbax data get " + e.name)
        lines.append(f"{e.name:<24} {e.what}; {e.licence}\n{'':<24} {where}")
    say("\n".join(lines), [{"name": e.name, "found": e.found, "folder": str(e.folder)} for e in entries])


@commands.command()
def get(name: Annotated[str, typer.Argument(help="Name of a data set.")]) -> None:
    """Fetch a data set into the cache, and check it."""
    show = sys.stderr.isatty()

    def on_progress(file: str, done: int, total: int | None) -> None:
        if show:
            share = f"{done / total:4.0%}" if total else f"{done / 2**20:.1f} MiB"
            sys.stderr.write(f"\r{file}  {share}")

    paths = datasets.get(name, on_progress=on_progress)
    if show:
        sys.stderr.write("\n")
    say("\n".join(str(p) for p in paths), {"files": [str(p) for p in paths]})


@commands.command()
def check(name: Annotated[str, typer.Argument(help="Name of a data set, or a path.")]) -> None:
    """Check the files of a data set against their checksums."""
    reports = datasets.check(name)
    lines = [f"{'ok ' if r.ok else 'BAD'} {r.path or r.name}  {r.problem or r.sha256 or ''}" for r in reports]
    rows = [{"name": r.name, "path": str(r.path), "ok": r.ok, "problem": r.problem} for r in reports]
    say("\n".join(lines), rows)
    if not all(r.ok for r in reports):
        bad = ", ".join(r.name for r in reports if not r.ok)
        raise DataError(f"data set '{name}' is not usable as it is: {bad}.")
