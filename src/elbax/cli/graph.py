"""`elbax graph TARGET`: the stochastic computation graph of a recipe's bound, or of a program of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elbax.cli.app import app, say
from elbax.cli.targets import DataName, Overwrite, Settings, Target, target_program
from elbax.estimators.surrogate import trace


@app.command()
def graph(
    target: Target,
    out: Annotated[Path | None, typer.Option(help="Where to draw it: .svg, .mmd (Mermaid) or .txt.")] = None,
    data: DataName = "digits",
    settings: Settings = None,
    *,
    overwrite: Overwrite = False,
) -> None:
    """Show nodes, dependencies and the gradient plan; draw them with --out.

    A program in a file needs example arguments: the file defines `PROGRAM_arguments`, a tuple, next to `PROGRAM`.
    """
    program, arguments = target_program(target, data, settings or [])
    found = trace(program, *arguments)
    if out is not None:
        found.draw(out, overwrite=overwrite)
    nodes = {n.name: {"kind": n.kind, "shape": n.shape, "deps": found.deps(n.name)} for n in found.nodes.values()}
    said = str(found) if out is None else f"{found}\ndrawn in {out}"
    say(said, {"program": found.name, "nodes": nodes, "plan": dict(found.plan)})
