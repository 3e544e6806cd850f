"""Methods have many cases in common."""

from pathlib import Path

from tests.first_cases import only_first_cases

METHODS = (
    "antithetic baselines categorical couplings double_cv fini gumbel higher_order implicit measure_valued rebar "
    "rebar_one_hot rodeo straight_through"
).split()


def pytest_collection_modifyitems(items):
    only_first_cases(items, Path(__file__).parent, METHODS)
