"""`elbax report RUN`: one page with everything about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elbax.cli.app import app, say
from elbax.report.write import write_report


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Write report.html and the figures of a run."""
    path = write_report(run, overwrite=overwrite).resolve()
    say(f"report  {path}", {"report": str(path)})
