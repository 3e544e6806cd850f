"""Recipes are many."""

from pathlib import Path

from tests.first_cases import only_first_cases


def pytest_collection_modifyitems(items):
    only_first_cases(items, Path(__file__).parent, ["recipes_train"])
