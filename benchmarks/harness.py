"""How things are timed here: all candidates in one process, in the order A B C A B C ..., medians and ratios.

Interleaving makes slow drifts of a machine (other processes, its clock) hit all candidates alike. The ratio of two
candidates is the median of the ratios of neighbouring measurements, with the quartiles of those ratios as its spread.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds per run of each candidate, one row per round."""

    names: tuple[str, ...]
    seconds: np.ndarray  # [rounds, candidates]

    def median(self, name: str) -> float:
        """Median seconds of a candidate."""
        return float(np.median(self.seconds[:, self.names.index(name)]))

    def ratio(self, name: str, reference: str) -> tuple[float, float, float]:
        """Median and quartiles of the time of a candidate over that of another in the same round."""
        r = self.seconds[:, self.names.index(name)] / self.seconds[:, self.names.index(reference)]
        low, middle, high = np.percentile(r, [25, 50, 75])
        return float(middle), float(low), float(high)


def interleaved(candidates: Mapping[str, Callable[[], Any]], rounds: int = 15, warm_up: int = 2) -> Timing:
    """Times the candidates in turns. Each is a function that runs once and returns arrays to wait for."""
    for _ in range(warm_up):
        for run in candidates.values():
            jax.block_until_ready(run())
    table = []
    for _ in range(rounds):
        row = []
        for run in candidates.values():
            start = time.perf_counter()
            jax.block_until_ready(run())
            row.append(time.perf_counter() - start)
        table.append(row)
    return Timing(tuple(candidates), np.array(table))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("elbax", "jax", "jaxlib", "numpyro", "optax", "equinox", "numpy")
    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write(name: str, title: str, text: str, data: Any) -> None:
    """Writes a result as Markdown for people and JSON for machines."""
    RESULTS.mkdir(exist_ok=True)
    about = machine()
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    footer = f"Measured on {about['cores']} cores ({about['device']}), Python {about['python']}; {versions}."
    (RESULTS / f"{name}.md").write_text(f"# {title}\n\n{text}\n\n{footer}\n", encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"machine": about, "data": data}, indent=2) + "\n", encoding="utf-8"
    )
    print(f"\n{title}\n\n{text}\n")
