"""`elbax evaluate RUN`: bounds on held-out data, with errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from elbax.cli.app import app, say
from elbax.runs.run import evaluate_run, open_run


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    particles: Annotated[int, typer.Option(help="Particles of the importance bound.", min=1)] = 1000,
    num_data: Annotated[int, typer.Option(help="How many of the split's data, from the first.", min=1)] = 1000,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
) -> None:
    """Evaluate a run: ELBO and importance-weighted bound, in nats and bits per dimension, with standard errors."""
    opened = open_run(run)
    show = sys.stderr.isatty()

    def on_batch(done: int, total: int) -> None:
        if show:
            sys.stderr.write(f"\r{done} of {total} data" + ("\n" if done == total else ""))

    result = evaluate_run(opened, num_particles=particles, num_data=num_data, split=split, on_batch=on_batch)
    about = f"{opened.recipe.name} in {run}, step {opened.step}; {result.num_data} {split} data"
    bits = f"\nELBO     {result.elbo_bits}" if result.elbo_bits is not None else ""
    say(f"{about}\n{result}{bits}", {"run": str(run), "split": split, "step": opened.step, **result.as_dict()})
