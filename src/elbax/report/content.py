"""Everything that a report shows about a run, computed before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax

from elbax.bounds.base import Bound
from elbax.report.facts.curves import Curves, curves
from elbax.report.facts.data import DataFacts, data_facts
from elbax.report.facts.graphs import GraphFacts, graph_facts
from elbax.report.facts.images import Images, images
from elbax.report.facts.reading import read_run
from elbax.report.facts.scores import Scores, scores
from elbax.report.facts.setup import Setup, setup
from elbax.report.facts.status import Status, status
from elbax.report.facts.units import Units, units
from elbax.runs.run import Run

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
        parameters=num_parameters(run.bound),
        graph=graph_facts(run),
        units=found,
        images=images(run, found),
    )


def num_parameters(bound: Bound) -> dict[str, int]:
    """Trained numbers of the model and of the guide."""
    halves = {"model": bound.model, "guide": bound.guide}
    return {
        name: sum(x.size for x in jax.tree.leaves(eqx.filter(half, eqx.is_inexact_array)))
        for name, half in halves.items()
    }
