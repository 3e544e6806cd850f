"""Score function with leave-one-out, and exact sums: unbiased on every construct."""

import pytest

import elbax
from tests.oracles.cases import BINARY, CATEGORICAL, assert_estimator, ids, inside_grad, over_data

pytestmark = pytest.mark.usefixtures("x64")

ANYWHERE = [elbax.Score(), elbax.Score(baseline=elbax.Replicas(2)), elbax.Score(baseline=elbax.Replicas(3))]
PROBING = [elbax.RLOO(2), elbax.RLOO(3), elbax.Enumerate()]


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ANYWHERE, ids=repr)
@pytest.mark.parametrize("case", [*BINARY, *CATEGORICAL], ids=ids)
def test_unbiased(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", PROBING, ids=repr)
@pytest.mark.parametrize("case", [c for c in [*BINARY, *CATEGORICAL] if not c.loop], ids=ids)
def test_unbiased_by_probing(case, estimator):
    assert_estimator(case, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [over_data, inside_grad])
@pytest.mark.parametrize("estimator", [ANYWHERE[1], *PROBING[1:]], ids=repr)
def test_unbiased_within_other_transformations(estimator, wrap):
    assert_estimator(BINARY[3], estimator, wrap=wrap)


@pytest.mark.parametrize("estimator", [*ANYWHERE[1:2], *PROBING[1:]], ids=repr)
def test_unbiased_on_two_layers(estimator):
    assert_estimator(BINARY[3], estimator, num=40_000, resolution=0.2)
