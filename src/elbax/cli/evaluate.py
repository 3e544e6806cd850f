"""`elbax evaluate RUN`: bounds on held-out data, with errors, and what the latents tell of them."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from elbax.cli.app import app, say
from elbax.errors import ConfigError, ProgramError
from elbax.runs.run import Run, bracket_bound, collapse_of_run, evaluate_run, open_run


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    particles: Annotated[int, typer.Option(help="Particles of the importance bound.", min=1)] = 1000,
    num_data: Annotated[int, typer.Option(help="How many of the split's data, from the first.", min=1)] = 1000,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    bracket: Annotated[int, typer.Option(help="How many data to bracket log p(x) of, from both sides; 0: none.")] = 64,
) -> None:
    """Evaluate a run: bounds with their errors, log p(x) from both sides, and which latents are used."""
    opened = open_run(run)
    show = sys.stderr.isatty()

    def on_batch(done: int, total: int) -> None:
        if show:
            sys.stderr.write(f"\r{done} of {total} data" + ("\n" if done == total else ""))

    result = evaluate_run(opened, num_particles=particles, num_data=num_data, split=split, on_batch=on_batch)
    latents = collapse_of_run(opened, num_data=num_data, split=split) if result.num_data > 1 else None
    about = f"{opened.recipe.name} in {run}, step {opened.step}; {result.num_data} {split} data"
    bits = f"\nELBO     {result.elbo_bits}" if result.elbo_bits is not None else ""
    figures = {"run": str(run), "split": split, "step": opened.step, **result.as_dict()}
    figures["latents"] = None if latents is None else latents.as_dict()
    text, figures["bracket"] = bracketed(opened, bracket, split)
    say(f"{about}\n{result}{bits}{text}" + (f"\n\n{latents}" if latents is not None else ""), figures)


def bracketed(run: Run, num_data: int, split: str) -> tuple[str, dict | None]:
    """Log p(x) from both sides, for people and for machines; or why not."""
    if num_data == 0:
        return "", None
    console = Console(stderr=True)
    try:
        with console.status("bracketing log p(x)") as shown:
            say_stage = partial(_update, shown)
            found = bracket_bound(run.recipe, run.data, run.bound, num_data, split, say_stage)
    except (ConfigError, ProgramError) as error:
        return f"\nno bracket on log p(x): {error}", {"none": str(error)}
    return f"\n{found}", found.as_dict()


def _update(shown: Status, stage: str) -> None:
    shown.update(f"bracketing log p(x): {stage}")
