"""`elbax evaluate RUN`: bounds on held-out data, with errors, and what the latents tell of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from elbax.cli.app import app, say
from elbax.runs.run import collapse_of_run, evaluate_run, open_run


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    particles: Annotated[int, typer.Option(help="Particles of the importance bound.", min=1)] = 1000,
    num_data: Annotated[int, typer.Option(help="How many of the split's data, from the first.", min=1)] = 1000,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
) -> None:
    """Evaluate a run: ELBO and importance-weighted bound with standard errors, and which latents are used."""
    opened = open_run(run)
    show = sys.stderr.isatty()

    def on_batch(done: int, total: int) -> None:
        if show:
            sys.stderr.write(f"\r{done} of {total} data" + ("\n" if done == total else ""))

    result = evaluate_run(opened, num_particles=particles, num_data=num_data, split=split, on_batch=on_batch)
    latents = collapse_of_run(opened, num_data=num_data, split=split) if result.num_data > 1 else None
    about = f"{opened.recipe.name} in {run}, step {opened.step}; {result.num_data} {split} data"
    bits = f"\nELBO     {result.elbo_bits}" if result.elbo_bits is not None else ""
    text = f"{about}\n{result}{bits}" + (f"\n\n{latents}" if latents is not None else "")
    figures = {"run": str(run), "split": split, "step": opened.step, **result.as_dict()}
    say(text, figures | {"latents": None if latents is None else latents.as_dict()})
