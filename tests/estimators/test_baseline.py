"""Stated baselines: where they are allowed, that they add no bias, and that they take variance away."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import NoBaseline, ProgramError, Score
from tests.graph.lines import at
from tests.oracles.enumeration import assert_unbiased
from tests.oracles.programs import THETA

pytestmark = pytest.mark.usefixtures("x64")


def bernoulli(name, logits):
    return 1.0 * elbax.sample(name, dist.Bernoulli(logits=logits))


def constant(theta):
    elbax.baseline("b", 0.25 * theta[1])
    b = bernoulli("b", theta[0])
    return (b - 0.45) ** 2 * theta[1]


def per_element(theta):
    x = jnp.linspace(-1.0, 2.0, 4)
    b = bernoulli("b", theta[0] * x)
    elbax.baseline("b", ((0.5 - 0.45 * x) ** 2 + 0.25) * (1 + theta[1] ** 2))
    return (b - 0.45 * x) ** 2 * (1 + theta[1] ** 2)


def of_the_state(theta):
    def body(c, t):
        elbax.baseline("s", 0.1 + 0.65 * (3 - t))
        b = bernoulli("s", theta[0] * c + theta[1])
        return b, (b - 0.3 * t) ** 2 * theta[2] + c + 1.0

    return lax.scan(body, 1.0, jnp.arange(4.0))[1]


def of_an_earlier_node(theta):
    a = bernoulli("a", theta[0])
    elbax.baseline("b", 2 * a + 1.0)
    b = bernoulli("b", theta[1] + a)
    return (a + b) * theta[2] + 2 * a + 1.0


def of_other_lanes(theta):
    """Of the elements before one's own: an exclusive running sum."""
    x = jnp.linspace(-1.0, 2.0, 5)
    b = bernoulli("b", theta[0] * x)
    before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(b)[:-1]])
    elbax.baseline("b", before)
    return (b * theta[1] + b.sum() * theta[2]).sum()


def outside_the_loop(theta):
    elbax.baseline("s", jnp.full(2, 1.5))

    def body(c, t):
        b = bernoulli("s", theta[0] * c + theta[1] * jnp.ones(2))
        return b, (b * theta[2]).sum() + 1.0

    return lax.scan(body, jnp.ones(2), None, length=2)[1]


ALLOWED = [constant, per_element, of_the_state, of_an_earlier_node, of_other_lanes, outside_the_loop]


@pytest.mark.parametrize("program", ALLOWED, ids=lambda p: p.__name__)
def test_a_baseline_adds_no_bias(program):
    assert_unbiased(program, jnp.asarray(THETA), estimators=Score())


@pytest.mark.parametrize("program", [constant, per_element, of_the_state], ids=lambda p: p.__name__)
def test_a_good_baseline_takes_variance_away(program):
    with_it = assert_unbiased(program, jnp.asarray(THETA), estimators=Score())
    without = assert_unbiased(program, jnp.asarray(THETA), estimators=Score(baseline=NoBaseline()))
    assert with_it < 0.6 * without


def depends_on_itself(theta):
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0]))  # <- node
    elbax.baseline("b", b * 0.5)  # <- baseline
    return 1.0 * b


def depends_on_itself_through_another(theta):
    b = bernoulli("b", theta[0])
    c = bernoulli("c", theta[1] + b)
    elbax.baseline("b", c)
    return b


def depends_on_itself_through_a_branch(theta):
    b = bernoulli("b", theta[0])
    lax.cond(b > 0.5, lambda: elbax.baseline("b", 1.0), lambda: None)
    return b


def leave_one_out_by_subtraction(theta):
    """Right in exact arithmetic, but nobody can see that from the operations."""
    b = bernoulli("b", theta[0] * jnp.ones(4))
    elbax.baseline("b", (b.sum() - b) / 3)
    return b


def aligned_with_the_other_axis(theta):
    """Element [i, k] depends on w[:, l] for l < i only; but it is subtracted from w[i, k]."""
    w = bernoulli("b", theta[0] * jnp.ones((3, 3)))
    before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(w.sum(0))[:-1]])
    elbax.baseline("b", before[:, None] * jnp.ones((1, 3)))
    return w


def of_the_same_step(theta):
    def body(c, t):
        b = bernoulli("b", theta[0] * c)
        elbax.baseline("b", b)
        return b, b

    return lax.scan(body, 1.0, None, length=3)[1]


FORBIDDEN = [
    depends_on_itself,
    depends_on_itself_through_another,
    depends_on_itself_through_a_branch,
    leave_one_out_by_subtraction,
    aligned_with_the_other_axis,
    of_the_same_step,
]


@pytest.mark.parametrize("program", FORBIDDEN, ids=lambda p: p.__name__)
def test_a_baseline_that_depends_on_its_node_is_refused(program):
    message = r"the baseline of 'b' \(test_baseline.py:\d+\) depends on 'b' itself \(test_baseline.py:\d+\)"
    with pytest.raises(ProgramError, match=message):
        elbax.trace(program, jnp.asarray(THETA))


def test_the_message_names_both_lines():
    message = rf"\({at(__file__, 'baseline')}\) depends on 'b' itself \({at(__file__, 'node')}\)"
    with pytest.raises(ProgramError, match=message):
        elbax.trace(depends_on_itself, jnp.asarray(THETA))


def test_a_baseline_for_no_node_names_the_nearest():
    def program(theta):
        elbax.baseline("s_0", 1.0)
        return bernoulli("s0", theta[0])

    message = r"baseline 's_0' \(test_baseline.py:\d+\) is for a sample site that does not exist. Did you mean 's0'\?"
    with pytest.raises(ProgramError, match=message):
        elbax.trace(program, jnp.asarray(THETA))


@pytest.mark.parametrize("shape", [(2,), (5, 1), (1, 5), (4, 4)])
def test_a_baseline_of_the_wrong_shape_is_refused_when_traced(shape):
    def program(theta):
        elbax.baseline("b", jnp.zeros(shape))
        return bernoulli("b", theta[0] * jnp.ones(4))

    message = (
        r"baseline of 'b' \(test_baseline.py:\d+\) has shape .* which does not broadcast to the node's shape \(4,\)"
    )
    with pytest.raises(ProgramError, match=message):
        elbax.trace(program, jnp.asarray(THETA))


def test_a_baseline_in_another_loop_is_refused():
    def program(theta):
        lax.scan(lambda c, _: (elbax.baseline("b", 1.0), None)[1] or (c, None), 0.0, None, length=3)
        return bernoulli("b", theta[0] * jnp.ones(3))

    with pytest.raises(
        ProgramError, match=r"in loops of \(3,\) steps, which does not broadcast .* in loops of no steps"
    ):
        elbax.trace(program, jnp.asarray(THETA))


def test_a_baseline_outside_the_loop_is_repeated_in_it():
    def value(shape):
        def program(theta):
            elbax.baseline("s", jnp.full(shape, 1.5))

            def body(c, t):
                b = bernoulli("s", theta[0] * c + theta[1] * jnp.ones(3))
                return b, (b * theta[2]).sum()

            return lax.scan(body, jnp.ones(3), None, length=3)[1]

        return elbax.value_and_grad(program, Score())(jax.random.key(0), jnp.asarray(THETA))[1]

    np.testing.assert_allclose(value(()), value((3,)))  # three lanes in three steps: easily mixed up


def test_the_cost_of_a_learned_baseline_trains_it():
    def program(theta, b0):
        elbax.baseline("b", b0)
        b = bernoulli("b", theta[0])
        cost = (b - 0.3) ** 2 * theta[1]
        elbax.cost("regression", (lax.stop_gradient(cost) - b0) ** 2)
        return cost

    key = jax.random.key(0)
    _, grad = elbax.value_and_grad(program, argnums=1)(key, jnp.asarray(THETA), jnp.asarray(0.7))
    assert float(grad) != 0.0
