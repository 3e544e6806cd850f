"""Of a parametrised test of many like cases, `make test` runs the first case and `make test-all` all of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["only_first_cases"]


def only_first_cases(items, folder: Path, names: Sequence[str]) -> None:
    """Marks all but the first case of each test in some files of a folder as slow."""
    seen = set()
    for item in items:
        if item.path.parent != folder or item.path.stem.removeprefix("test_") not in names:
            continue
        test = (item.path, item.originalname)
        if test in seen:
            item.add_marker(pytest.mark.slow)
        if not item.get_closest_marker("slow"):
            seen.add(test)
