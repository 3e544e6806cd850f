"""Of a parametrised test of a method, `make test` runs the first case and `make test-all` all of them."""

from pathlib import Path

import pytest

METHODS = (
    "antithetic baselines categorical couplings double_cv fini gumbel higher_order implicit measure_valued rebar "
    "rebar_one_hot rodeo straight_through"
).split()


def pytest_collection_modifyitems(items):
    here, seen = Path(__file__).parent, set()
    for item in items:
        if item.path.parent != here or item.path.stem.removeprefix("test_") not in METHODS:
            continue
        test = (item.path, item.originalname)
        if test in seen:
            item.add_marker(pytest.mark.slow)
        if not item.get_closest_marker("slow"):
            seen.add(test)
