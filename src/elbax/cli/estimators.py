"""`elbax estimators TARGET`: which gradient estimator is best for each node, by measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import jax.random as jr
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from elbax.cli.app import app, console, say
from elbax.cli.targets import DataName, Overwrite, Settings, Target, target_program
from elbax.estimators.lab.compare import compare_estimators


@app.command()
def estimators(
    target: Target,
    out: Annotated[Path | None, typer.Option(help="Where to draw the comparison: .png or .svg.")] = None,
    draws: Annotated[int, typer.Option(min=32, help="Gradients drawn for each candidate.")] = 1000,
    reference: Annotated[str, typer.Option(help="auto, exact (enumeration) or long_run.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    data: DataName = "digits",
    settings: Settings = None,
    *,
    overwrite: Overwrite = False,
) -> None:
    """Measure gradient estimators node by node: bias, variance, time, and which is best.

    A program in a file needs example arguments: the file defines `PROGRAM_arguments`, a tuple, next to `PROGRAM`.
    """
    program, arguments = target_program(target, data, settings or [])
    columns = SpinnerColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reference")
        found = compare_estimators(
            program,
            arguments,
            key=jr.key(seed),
            reference=reference,
            num_draws=draws,
            on_tried=lambda site, name: progress.update(task, description=f"{site}: {name} measured"),
        )
    drawn = "" if out is None else f"\ndrawn in {found.plot(out, overwrite=overwrite)}"
    say(f"{found}{drawn}", found.as_dict())
