"""No independence that the graph claims may be violated, whatever the program.

Every element of every stochastic node is moved by hand, all else being drawn with the same keys, and every element of
every cost that then changes must be one that the graph says the moved element influences. Since the check is exact
(a changed cost is a fact), it has no false alarms; a wrong rule is found when a random program exercises it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from elbax.estimators.choose import choose
from elbax.graph.evaluate import cost_key, evaluate, site_keys
from elbax.graph.graph import build
from elbax.graph.influence import spread
from tests.graph.random_programs import make_program, start

MOVE = 0.734


def violations(program, x):
    """Costs that changed although the graph says that they would not, and counts of claimed and actual pairs."""
    graph, _ = build(program, (x,), {})
    choose(graph.raw_facts, None, graph.name, portable=graph.portable)
    facts = graph.facts
    if not facts.samples:
        return [], 0, 0
    loops = {name: fact.loops for name, fact in facts.samples.items()}

    @jax.jit
    def costs(moves):
        def on_sample(eq, dist, feed):
            key, move = feed
            value = dist.sample(key)
            move = move.reshape(move.shape + (1,) * (value.ndim - move.ndim))
            return value + move.astype(value.dtype), dist.log_prob(value), None

        keys = site_keys(jax.random.key(3), loops)
        feeds = {name: (keys[name], moves[name]) for name in moves}
        return evaluate(graph.block, graph.arguments.arrays, on_sample, feeds)[1].costs

    zeros = {name: jnp.zeros(fact.shape) for name, fact in facts.samples.items()}
    wrong, claimed, real = [], 0, 0
    elements = [(name, j) for name, fact in facts.samples.items() for j in np.ndindex(*fact.shape)]
    rows = {name: np.zeros((len(elements) + 1, *fact.shape)) for name, fact in facts.samples.items()}
    for row, (name, j) in enumerate(elements):
        discrete = not jnp.issubdtype(facts.samples[name].value_dtype, jnp.floating)
        rows[name][(row + 1, *j)] = 1.0 if discrete else MOVE
    results = jax.vmap(costs)(rows)
    del zeros
    for row, (name, j) in enumerate(elements):
        fact = facts.samples[name]
        one = jnp.zeros(fact.shape).at[j].set(1.0)
        for (cost, part), cost_fact in facts.costs.items():
            c = np.asarray(results[cost_key(cost, part)])
            changed = ~np.isclose(c[row + 1], c[0], rtol=1e-9, atol=1e-11, equal_nan=True)
            rels = cost_fact.dep.rels(fact.index)
            said = np.zeros(c[0].shape, bool) if rels is None else np.asarray(spread(one, rels, c[0].shape)) > 0
            claimed += said.sum()
            real += changed.sum()
            if (changed & ~said).any():
                wrong.append((name, j, cost, part, rels, np.argwhere(changed & ~said)[:3].tolist()))
    return wrong, claimed, real


@pytest.mark.usefixtures("x64")
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.lists(st.integers(0, 59), min_size=20, max_size=160))
def test_no_claimed_independence_is_violated(choices):
    wrong, _, _ = violations(make_program(choices), start())
    assert not wrong, wrong


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(60))
def test_no_claimed_independence_is_violated_in_thousands_of_programs(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        choices = rng.integers(0, 60 * 12, size=160).tolist()
        wrong, _, _ = violations(make_program(choices), start())
        assert not wrong, (choices, wrong)
    jax.clear_caches()
