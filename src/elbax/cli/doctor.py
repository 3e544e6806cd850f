"""`elbax doctor`: versions, devices, folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import jax

from elbax import data as datasets
from elbax.cli.app import app, say

PACKAGES = ("elbax", "jax", "jaxlib", "numpyro", "equinox", "optax", "numpy", "scipy", "matplotlib", "typer", "rich")


@app.command()
def doctor() -> None:
    """Print what a bug report needs: versions, devices, precision, data and cache folders."""
    versions = {name: _version(name) for name in PACKAGES}
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "double_precision": bool(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        "data_folder": str(datasets.data_dir() or "ELBAX_DATA_DIR is not set"),
        "cache_folder": str(datasets.cache_dir()),
        "data_sets_found": [e.name for e in datasets.available() if e.found],
    }
    lines = [f"{name:<18} {value}" for name, value in (versions | facts).items()]
    say("\n".join(lines), versions | facts)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
