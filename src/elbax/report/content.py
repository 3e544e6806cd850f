"""Everything that a report shows about a run, computed before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from elbax.report.facts.curves import Curves, curves
from elbax.report.facts.data import DataFacts, data_facts
from elbax.report.facts.graphs import GraphFacts, graph_facts
from elbax.report.facts.images import Images, images
from elbax.report.facts.reading import read_run
from elbax.report.facts.scores import Scores, scores
from elbax.report.facts.setup import Setup, setup
from elbax.report.facts.status import Status, status
from elbax.report.facts.told import Told, told
from elbax.report.facts.units import Units, units
from elbax.runs.run import Run, run_keys

__all__ = ["Content", "Trained", "gather"]


@dataclass(frozen=True)
class Trained:
    """What can be said only with a run's parameters.

    Attributes:
        bound: name of the bound that was maximised, such as `ELBO`.
        num_particles: draws inside its logarithm; 1 for the ELBO.
        num_samples: draws that it averages outside the logarithm.
        parameters: how many numbers are trained in the model and in the guide.
        graph: the graph of the bound.
        units: one entry per latent site with one row per datum.
        images: what the model makes of images.
    """

    bound: str
    num_particles: int
    num_samples: int
    parameters: Mapping[str, int]
    graph: GraphFacts
    units: tuple[Units, ...]
    images: Images


@dataclass(frozen=True)
class Content:
    """Everything that a report shows; `None` for what a run does not have (yet)."""

    setup: Setup
    status: Status
    data: DataFacts
    scores: Scores | None
    curves: Curves | None
    told: tuple[Told, ...]
    trained: Trained | None


def gather(run_folder: str | Path) -> Content:
    """Reads a run folder and computes what its report shows.

    Raises:
        RunError: if there is no run, or one of its files is damaged.
        DataError, ConfigError: if its data or its recipe are no longer where they were.
    """
    reading = read_run(run_folder)
    run = reading.run
    return Content(
        setup=setup(reading),
        status=status(reading),
        data=data_facts(reading),
        scores=scores(reading),
        told=told(reading),
        curves=curves(reading.history, None if run is None else run.step),
        trained=None if run is None else trained(run),
    )


def trained(run: Run) -> Trained:
    """What the parameters of a run tell."""
    found = units(run)
    return Trained(
        bound=type(run.bound).__name__,
        num_particles=int(getattr(run.bound, "num_particles", 1)),
        num_samples=int(getattr(run.bound, "num_samples", 1)),
        parameters=num_parameters(run),
        graph=graph_facts(run),
        units=found,
        images=images(run, found),
    )


def num_parameters(run: Run) -> dict[str, int]:
    """How many numbers training moves, in the model and in the guide.

    Arrays that are still what they were before the first step are not counted: they are part of the data (such as a
    mean image that an encoder subtracts), not of the parameters.
    """
    build_key, _ = run_keys(run.recipe)
    start = run.recipe.bound(*run.recipe.build(run.data, build_key))
    return {name: num_moved(getattr(start, name), getattr(run.bound, name)) for name in ("model", "guide")}


def num_moved(before: Any, after: Any) -> int:
    """Size of all arrays of floats that differ between two states of a program; of all, if none does."""
    pairs = zip(*(jax.tree.leaves(eqx.filter(half, eqx.is_inexact_array)) for half in (before, after)), strict=True)
    sizes = [(x.size, bool((x != y).any())) for x, y in pairs]
    anything = any(moved for _, moved in sizes)
    return sum(size for size, moved in sizes if moved or not anything)
