"""What a graph says of programs whose graphs are known: the examples of Schulman et al., and those of this library."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import Relation
from elbax.graph.rules import RULES
from tests.graph.lines import at
from tests.oracles import programs
from tests.oracles.programs import THETA


def normal(name, loc):
    return elbax.sample(name, dist.Normal(loc, 1.0))


def traced(program):
    return elbax.trace(program, jnp.asarray(THETA))


# ---------------------------------------------------- Schulman et al. 2015, figure 1: five graphs of theta, x, y, f


def parameter_before_the_draw(theta):
    """theta -> y -> (x) -> f."""
    x = normal("x", jnp.sin(theta))
    return {"f": x**2}


def parameter_after_the_draw(theta):
    """(x) -> y(theta) -> f."""
    x = normal("x", 0.0)
    return {"f": jnp.sin(theta * x)}


def both_ways(theta):
    """theta -> (x) -> f <- theta."""
    x = normal("x", theta)
    return {"f": theta * x}


def fork(theta):
    """theta -> (x), theta -> (y), both -> f."""
    return {"f": normal("x", theta) * normal("y", 2 * theta)}


def chain_of_two(theta):
    """theta -> (x1) -> (x2) -> f2, with theta -> (x2) and (x1) -> f1."""
    x1 = normal("x1", theta)
    x2 = normal("x2", theta * x1)
    return {"f1": x1**2, "f2": x2**2}


@pytest.mark.parametrize(
    ("program", "deps", "influences"),
    [
        (parameter_before_the_draw, {"x": "theta", "f": "x"}, {"f": "theta x"}),
        (parameter_after_the_draw, {"x": "", "f": "theta x"}, {"f": "theta x"}),
        (both_ways, {"x": "theta", "f": "theta x"}, {"f": "theta x"}),
        (fork, {"x": "theta", "y": "theta", "f": "x y"}, {"f": "theta x y"}),
        (
            chain_of_two,
            {"x1": "theta", "x2": "theta x1", "f1": "x1", "f2": "x2"},
            {"x2": "theta x1", "f1": "theta x1", "f2": "theta x1 x2"},
        ),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_graphs_of_the_paper(program, deps, influences):
    graph = elbax.trace(program, 0.3)
    for node, expected in deps.items():
        assert set(graph.deps(node)) == set(expected.split()), node
    for node, expected in influences.items():
        assert set(graph.ancestors(node)) == set(expected.split()), node
        for other in graph.nodes:
            if graph.nodes[other].kind != "cost":
                assert graph.influences(other, node) == (other in expected.split())
                assert graph.influences(other, node, direct=True) == (other in deps[node].split())


def test_a_cost_does_not_influence_what_comes_after_it():
    graph = elbax.trace(chain_of_two, 0.3)
    assert not graph.influences("x2", "f1")
    assert graph.relation("x2", "f1") is None
    assert graph.relation("x1", "f1") == Relation(())


# ------------------------------------------------------------------------------------------ element by element

RELATIONS = {
    programs.single: {("b", "loss"): ()},
    programs.chain: {("s", "before"): ("<",), ("s", "step"): ("<=",), ("s", "final"): ("mixed",), ("s", "s"): ("<",)},
    programs.accumulated_chain: {("s", "loss"): ("mixed",)},  # one number; told apart below
    programs.reversed_chain: {("s", "loss"): (">=",), ("s", "s"): (">",)},
    programs.vmapped: {("b", "loss"): ("=",)},
    programs.plate: {("b", "loss"): ("=",)},
    programs.vmapped_chain: {("s", "loss"): ("<=", "="), ("s", "s"): ("<", "=")},
    programs.scanned_plate: {("s", "loss"): ("<=", "=")},
    programs.branches: {("a", "left"): (), ("b", "left"): ("=",), ("b", "right"): None, ("b", "loss"): ("mixed",)},
    programs.two_layers: {("h", "v"): ("mixed",), ("h", "loss"): ("mixed",)},
    programs.mapped: {("b", "loss"): ("=",), ("b", "b"): None},
    programs.counted: {("b", "b"): ("<",)},
    programs.merged: {("b", "loss"): ("=", "=")},
    programs.loop_in_a_branch: {("a", "b"): (), ("a", "loss"): (), ("b", "b"): ("<",)},
    programs.branch_in_a_loop: {
        ("b", "steps"): ("<=",),
        ("d", "steps"): ("<=",),
        ("d", "b"): ("<",),
        ("b", "d"): ("<",),
    },
    programs.mapped_in_a_loop: {("b", "b"): ("<", "=")},
    programs.recursive: {("b", "left/b"): (), ("left/b", "right/b"): None, ("right/b", "right/right/b"): ()},
    programs.switching_chain: {("s", "z"): ("<=",), ("z", "s"): ("<",), ("z", "loss"): ("<=",)},
    programs.mixed_lanes: {("s", "z"): ("=",), ("z", "loss"): ("=",), ("z", "s"): None},
}


@pytest.mark.parametrize("program", RELATIONS, ids=lambda p: p.__name__)
def test_relations(program):
    graph = traced(program)
    for (v, w), axes in RELATIONS[program].items():
        assert graph.relation(v, w) == (None if axes is None else Relation(axes)), (v, w)


def terms(graph, node):
    """Relations of all terms that a node influences, after splitting."""
    found = [fact.dep.rels(graph.facts.index(node)) for fact in graph.facts.costs.values()]
    return sorted(str(rels) for rels in found if rels is not None)


def test_a_sum_in_a_carry_is_credited_like_stated_costs():
    assert terms(traced(programs.accumulated_chain), "s") == terms(traced(chain_with_costs_apart), "s")


def chain_with_costs_apart(theta):
    def body(c, t):
        b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1]))
        return 1.0 * b, (b - 0.3) ** 2 * theta[0] + jnp.sin(t * b)

    last, costs = lax.scan(body, 1.0, jnp.arange(5.0))
    return {"steps": costs, "last": last * theta[1] ** 2, "start": theta[2]}


def test_nodes():
    graph = traced(programs.vmapped_chain)
    s = graph.nodes["s"]
    assert (s.kind, s.shape, s.loops, s.about, s.discrete) == ("sample", (3, 3), 1, "Bernoulli", True)
    assert [n.kind for n in graph.nodes.values()] == ["input", "sample", "cost"]
    assert (graph.samples, graph.costs) == (("s",), ("loss",))
    assert s.source is not None
    assert s.source.file == programs.__file__


def test_data_is_told_apart_from_the_site_of_its_name():
    def program(x):
        elbax.observe("x", dist.Normal(normal("z", 0.0), 1.0), x)

    graph = elbax.trace(program, 0.3)
    assert graph.deps("x") == ("x (argument)", "z")
    assert graph.nodes["x"].kind == "cost"


def test_a_module_shows_its_parameters():
    class Model(eqx.Module):
        loc: jax.Array

        def __call__(self, x):
            elbax.observe("x", dist.Normal(normal("z", self.loc), 1.0), x)

    graph = elbax.trace(Model(jnp.array(0.3)), 0.5)
    assert graph.deps("z") == ("parameters",)


# ------------------------------------------------------------------------------------------ what was lost

LOSSES = {
    "sum": lambda b: jnp.sin(b.sum()),  # <- sum
    "reversal": lambda b: b[::-1] * 2,  # <- reversal
    "matrix": lambda b: jnp.sin(jnp.ones((3, 3)) @ b),  # <- matrix
    "sort": lambda b: jnp.sin(jnp.sort(b)),  # <- sort
}


@pytest.mark.parametrize("mark", LOSSES)
def test_what_was_lost_names_the_line(mark):
    primitives = {"sum": "reduce_sum", "reversal": "rev", "matrix": "dot_general", "sort": "sort"}
    graph = elbax.trace(lambda t: LOSSES[mark](normal("b", t * jnp.ones(3))), 0.3)
    (lost,) = graph.lost
    assert str(lost) == f"axis 0 of 'b' becomes mixed in `{primitives[mark]}` ({at(__file__, mark)})"


def test_lines_of_library_functions_are_those_of_the_call():
    """JAX traces `jnp.sort` once for both, so that the equations of the second carry the line of the first."""
    jnp.sort(jnp.ones(3))

    def program(t):
        a, b = normal("a", t * jnp.ones(3)), normal("b", t * jnp.ones(3))
        first = jnp.sort(a)  # <- sort_one
        second = jnp.sort(b)  # <- sort_two
        return jnp.sin(first + second)

    lost = {loss.node: str(loss.source) for loss in elbax.trace(program, 0.3).lost}
    assert lost == {"a": at(__file__, "sort_one"), "b": at(__file__, "sort_two")}


def test_lines_of_densities_are_those_of_the_site():
    def program(t):
        b = normal("b", t * jnp.ones(3))
        z = elbax.sample("z", dist.MultivariateNormal(b, jnp.eye(3)))  # <- density
        return jnp.sin(z.sum())

    (lost,) = elbax.trace(program, 0.3).lost
    assert (lost.node, str(lost.source)) == ("b", at(__file__, "density"))


@pytest.mark.parametrize("program", [*programs.FINITE, *programs.MIXED], ids=lambda p: p.__name__)
def test_every_loss_has_a_line(program):
    assert all(loss.source.line for loss in traced(program).lost)


def test_lines_inside_a_compiled_function_are_its_own():
    @jax.jit
    def layer(x):
        return jnp.sin(x @ x)  # <- in_layer

    (lost,) = elbax.trace(lambda t: layer(normal("z", t * jnp.ones(3))), 0.3).lost
    assert str(lost.source) == at(__file__, "in_layer")


@pytest.mark.parametrize("program", [programs.vmapped_chain, programs.plate, programs.mapped], ids=lambda p: p.__name__)
def test_nothing_is_lost_where_every_credit_is_fine(program):
    graph = traced(program)
    assert graph.lost == ()
    assert graph.unknown == {}


def test_an_axis_that_is_lost_in_one_cost_only():
    graph = traced(programs.chain)
    (lost,) = graph.lost
    assert (lost.node, lost.axis, lost.primitive) == ("s", 0, "scan")


def test_operations_without_a_rule_are_named(monkeypatch):
    monkeypatch.delitem(RULES, "sin")
    graph = elbax.trace(lambda t: jnp.sin(normal("b", t * jnp.ones(3))), 0.3)  # <- unknown
    assert {name: str(source) for name, source in graph.unknown.items()} == {"sin": at(__file__, "unknown")}
    assert graph.relation("b", "loss") == Relation(("mixed",))
    assert f"no rule for `sin` ({at(__file__, 'unknown')}): everything is mixed there" in str(graph)


# ------------------------------------------------------------------------------------------ constructs


def test_error_if_is_no_influence():
    """A check for a bad value raises or does nothing: what follows does not depend on its being made."""

    def program(t):
        x = normal("x", t * jnp.ones(3))
        y = eqx.error_if(normal("y", t * jnp.ones(3)), x > 100, "too large")
        return {"k": y**2}

    graph = elbax.trace(program, 0.3)
    assert graph.relation("y", "k") == Relation(("=",))
    assert not graph.influences("x", "k")


def test_a_branch_chosen_by_lanes_may_sample():
    """`vmap` of `cond` runs both branches: sites may stand there, costs may not."""

    def program(t):
        def lane(x):
            return lax.cond(x > 0, lambda: normal("a", x), lambda: normal("b", 2 * x))

        return jax.vmap(lane)(t * jnp.arange(3.0))

    graph = elbax.trace(program, 0.3)
    assert graph.relation("a", "loss") == graph.relation("b", "loss") == Relation(("=",))


def test_values_of_an_outer_transformation_are_not_arguments():
    """A closure over what is differentiated works, and the graph is not kept for later calls."""

    def outer(theta):
        return elbax.surrogate(lambda x: (normal("z", theta) * x) ** 2)(jax.random.key(0), 1.5)

    value, grad = jax.value_and_grad(outer)(0.3)
    assert abs(grad) == pytest.approx(2 * 1.5 * float(jnp.sqrt(value)), rel=1e-5)


# ------------------------------------------------------------------------------------------ print


def test_print():
    def small(theta):
        a = elbax.sample("a", dist.Bernoulli(logits=theta))  # <- a
        z = elbax.sample("z", dist.Normal(1.0 * a, jnp.ones(4)))  # <- z
        elbax.cost("k", jnp.sin(z))  # <- k
        return z.mean() ** 2  # <- mean

    expected = f"""
stochastic computation graph of `test_print.<locals>.small`
node   kind    shape  distribution  DEPS   estimator, or influenced by  line
-----  ------  -----  ------------  -----  ---------------------------  -----------------
theta  input
a      sample         Bernoulli     theta  Enumerate()                  {at(__file__, "a")}
z      sample  [4]    Normal        a      Pathwise()                   {at(__file__, "z")}
k      cost    [4]                  z      a, z =                       {at(__file__, "k")}
loss   cost                         z      a, z mixed
plan: a: Enumerate() (its distribution Bernoulli is discrete: draws are not differentiable in the parameters; 2 outcomes)
plan: z: Pathwise() (reparameterised, and all its costs are differentiable)
lost: axis 0 of 'z' becomes mixed in `reduce_sum` ({at(__file__, "mean")})
"""  # noqa: E501
    graph = elbax.trace(small, 0.3)
    assert str(graph) == expected.strip()
    assert repr(graph) == str(graph)
