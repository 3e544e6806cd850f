"""`elbax graph TARGET`: the stochastic computation graph of a recipe's bound, or of a program of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import jax.random as jr
import typer

from elbax.cli.app import app, say
from elbax.data import load
from elbax.errors import ConfigError
from elbax.estimators.surrogate import trace
from elbax.graph.graph import Graph
from elbax.models.targets import is_file_target, load_object, recipe_of


@app.command()
def graph(
    target: Annotated[str, typer.Argument(help="A recipe, or FILE.py:PROGRAM.")],
    out: Annotated[Path | None, typer.Option(help="Where to draw it: .svg, .mmd (Mermaid) or .txt.")] = None,
    data: Annotated[str, typer.Option(help="For a recipe: the data set.")] = "digits",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="For a recipe: set a field.")
    ] = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing drawing.")] = False,
) -> None:
    """Show nodes, dependencies and the gradient plan; draw them with --out.

    A program in a file needs example arguments: the file defines `PROGRAM_arguments`, a tuple, next to `PROGRAM`.
    """
    found = program_graph(target) if is_file_target(target) else recipe_graph(target, data, settings or [])
    if out is not None:
        found.draw(out, overwrite=overwrite)
    nodes = {n.name: {"kind": n.kind, "shape": n.shape, "deps": found.deps(n.name)} for n in found.nodes.values()}
    said = str(found) if out is None else f"{found}\ndrawn in {out}"
    say(said, {"program": found.name, "nodes": nodes, "plan": dict(found.plan)})


def recipe_graph(name: str, data: str, settings: list[str]) -> Graph:
    """The graph of a recipe's bound on one batch of a data set."""
    recipe = recipe_of(name).from_settings(settings)
    dataset = recipe.prepared(load(data))
    bound = recipe.bound(*recipe.build(dataset, jr.key(recipe.seed)))
    return trace(bound, jnp.asarray(recipe.seen(dataset, "train", recipe.batch_size)))


def program_graph(target: str) -> Graph:
    """The graph of a program in a file, on the example arguments next to it."""
    program: Any = load_object(target)
    if not callable(program):
        raise ConfigError(f"'{target}' is a {type(program).__name__}, not a function.")
    file, _, name = target.partition(":")
    try:
        arguments = load_object(f"{file}:{name}_arguments")
    except ConfigError as error:
        raise ConfigError(
            f"'{file}' has no `{name}_arguments`: define a tuple of example arguments for `{name}` under that name."
        ) from error
    return trace(program, *arguments)
