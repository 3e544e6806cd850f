import jax.numpy as jnp
import pytest

from elbax import Score
from tests.oracles import programs
from tests.oracles.enumeration import assert_unbiased


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("program", programs.FINITE, ids=lambda p: p.__name__)
def test_score_gradient_is_the_exact_gradient(program):
    assert_unbiased(program, jnp.asarray(programs.THETA), estimators=Score())
