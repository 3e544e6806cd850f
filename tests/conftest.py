"""Settings shared by all tests."""

import os
from pathlib import Path

import jax
import jax.random as jr
import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if "ELBAX_DATA_DIR" not in os.environ and DATA.is_dir():
    os.environ["ELBAX_DATA_DIR"] = str(DATA)


@pytest.fixture
def x64():
    """Double precision, for oracles that are exact to rounding."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jr.key(0)
