"""What cannot be turned into a graph: every message names the site, the user's line, what was found, and the fix."""

import re
from collections.abc import Callable
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec

import elbax
from elbax import ConfigError, EstimatorError, Pathwise, ProgramError, Score
from tests.graph.lines import at

NORMAL = dist.Normal(0.3, 1.0)


def says(error, *parts):
    """The message holds all parts, in this order; `<-mark` stands for a marked line of this file."""
    message, position = " ".join(str(error.value).split()), 0
    for part in parts:
        text = re.sub(r"<-(\w+)", lambda m: at(__file__, m.group(1)), part)
        found = message.find(text, position)
        assert found >= 0, f"{text!r} is not said, or too early, in: {message}"
        position = found + len(text)


CASES: dict[str, tuple[Callable, tuple[str, ...]]] = {}


def refused(*parts):
    """A program of `t` that is refused with a message that says `parts`."""

    def register(program):
        CASES[program.__name__] = (program, parts)
        return program

    return register


# ------------------------------------------------------------------------------------------ loops without a length

WHILE = ("inside a `while`", "Use lax.scan, or fori_loop with bounds that are Python numbers")


@refused("sample site 'z' (<-while_body) stands", *WHILE)
def sample_in_while(t):
    return lax.while_loop(lambda c: c < 3, lambda c: c + elbax.sample("z", NORMAL) ** 2 + t, 0.0)  # <- while_body


@refused("sample site 'z' (<-while_test) stands", *WHILE)
def sample_in_the_test_of_while(t):
    return lax.while_loop(lambda c: c < elbax.sample("z", NORMAL), lambda c: c + 1, t)  # <- while_test


@refused("sample site 'z' (<-fori) stands", *WHILE)
def sample_in_fori_loop_with_traced_bounds(t):
    return lax.fori_loop(0, (3 * t).astype(int), lambda i, c: c + elbax.sample("z", NORMAL), t)  # <- fori


@refused("cost 'k' (<-while_cost) stands inside a `while` (<-while_line)", "Use lax.scan")
def cost_in_while(t):
    def body(c):
        elbax.cost("k", c)  # <- while_cost
        return c + 1

    return lax.while_loop(lambda c: c < 3, body, t)  # <- while_line


@refused("observed site 'k' (<-while_observe) stands", *WHILE)
def observe_in_while(t):
    def body(c):
        elbax.observe("k", dist.Normal(c, 1.0), 0.3)  # <- while_observe
        return c + 1

    return lax.while_loop(lambda c: c < 3, body, t)


@refused("baseline 'z' (<-while_baseline) stands", *WHILE)
def baseline_in_while(t):
    def body(c):
        elbax.baseline("z", c)  # <- while_baseline
        return c + 1

    return lax.while_loop(lambda c: c < 3, body, t) + elbax.sample("z", NORMAL)


# ------------------------------------------------------------------------------------------ branches of lanes


def in_branch_of_lanes(state):
    def lane(x):
        def yes():
            state(x)
            return x

        return lax.cond(x > 0, yes, lambda: 0.0)  # <- cond

    return lambda t: jax.vmap(lane)(t * jnp.arange(3.0))


BRANCH = ("a cost is stated inside a `cond` or `switch` at <-cond", "lanes of a `vmap`", "Return the cost from the")


@refused(*BRANCH, "'k' (<-branch_cost)")
def cost_in_a_branch_of_lanes(t):
    return in_branch_of_lanes(lambda x: elbax.cost("k", x))(t)  # <- branch_cost


@refused(*BRANCH, "'k' (<-branch_observe)")
def observe_in_a_branch_of_lanes(t):
    return in_branch_of_lanes(lambda x: elbax.observe("k", NORMAL, x))(t)  # <- branch_observe


@refused(*BRANCH, "'z' (<-branch_baseline)")
def baseline_in_a_branch_of_lanes(t):
    return in_branch_of_lanes(lambda x: elbax.baseline("z", x))(t)  # <- branch_baseline


# ------------------------------------------------------------------------------------------ what JAX runs as a whole

CUSTOM = "Move it out of the function that has the custom derivative and pass its value in"


@refused("sample site 'z' (<-custom_jvp) stands inside a `custom_jvp_call` (<-custom_jvp_use)", CUSTOM)
def sample_in_custom_jvp(t):
    f = jax.custom_jvp(lambda x: elbax.sample("z", dist.Normal(x, 1.0)))  # <- custom_jvp
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f(t)  # <- custom_jvp_use


@refused("cost 'k' (<-custom_jvp_cost) stands inside a `custom_jvp_call`", CUSTOM)
def cost_in_custom_jvp(t):
    f = jax.custom_jvp(lambda x: elbax.cost("k", x) or x)  # <- custom_jvp_cost
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f(t)


@refused("sample site 'z' (<-custom_vjp) stands inside a `custom_vjp_call", CUSTOM)
def sample_in_custom_vjp(t):
    f = jax.custom_vjp(lambda x: elbax.sample("z", dist.Normal(x, 1.0)))  # <- custom_vjp
    f.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return f(t)


@refused("cost 'k' (<-custom_vjp_cost) stands inside a `custom_vjp_call", CUSTOM)
def cost_in_custom_vjp(t):
    f = jax.custom_vjp(lambda x: elbax.cost("k", x) or x)  # <- custom_vjp_cost
    f.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return f(t)


SHARD = "Shard with jax.jit and NamedSharding"


@refused("sample site 'z' (<-shard_map) stands inside a `shard_map`", SHARD)
def sample_in_shard_map(t):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("i")
    f = jax.shard_map(lambda x: x * elbax.sample("z", NORMAL), mesh=mesh, in_specs=spec, out_specs=spec)  # <- shard_map
    return f(t * jnp.ones(2))


@refused("sample site 'z' (<-pmap) stands inside a `", SHARD)
def sample_in_pmap(t):
    return jax.pmap(lambda x: x * elbax.sample("z", NORMAL))(t * jnp.ones(1))  # <- pmap


@refused("sample site 'z' (<-pallas) stands inside a `pallas_call` (<-pallas_use)", "Move it out and pass its value in")
def sample_in_pallas(t):
    def kernel(x, out):
        out[...] = x[...] * elbax.sample("z", NORMAL)  # <- pallas

    x = t * jnp.ones(2)
    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)  # <- pallas_use


@refused("sample site 'z' (<-partitioning) stands inside a `custom_partitioning`", "Move it out and pass its value in")
def sample_in_custom_partitioning(t):
    f = custom_partitioning(lambda x: x * elbax.sample("z", NORMAL))  # <- partitioning
    f.def_partition(
        partition=lambda *args: None, infer_sharding_from_operands=lambda *args: None, sharding_rule="i -> i"
    )
    return f(t * jnp.ones(2))


@refused("sample site 'z' (<-custom_vmap) stands inside a `custom_vmap_call`", "Move it out and pass its value in")
def sample_in_custom_vmap(t):
    f = jax.custom_batching.custom_vmap(lambda x: elbax.sample("z", dist.Normal(x, 1.0)))  # <- custom_vmap
    f.def_vmap(lambda size, batched, x: (x, True))
    return f(t)


@refused("sample site 'z' (<-solve) stands inside a `custom_linear_solve`", "Move it out and pass its value in")
def sample_in_a_linear_solve(t):
    operator = lambda x: 2 * x * elbax.sample("z", NORMAL)  # noqa: E731  # <- solve
    return lax.custom_linear_solve(operator, t, lambda _, b: b / 2, symmetric=True)


@refused("sample site 'z' (<-root) stands inside a `custom_jvp_call`", CUSTOM)
def sample_in_a_root(t):
    equation = lambda x: x - t * elbax.sample("z", NORMAL)  # noqa: E731  # <- root
    return lax.custom_root(equation, t, lambda f, x: f(x), lambda g, y: y)


@refused("sample site 'z' (<-reduce) stands inside a `reduce` (<-reduce)", "Move it out and pass its value in")
def sample_in_a_reduction(t):
    return lax.reduce(t * jnp.ones(3), 0.0, lambda a, b: a + b * elbax.sample("z", NORMAL), (0,))  # <- reduce


@refused("(<-ref) uses a mutable array", "Use the result of `x.at[...].set(...)`")
def mutable_array(t):
    ref = jax.new_ref(t)  # <- ref
    ref[...] = elbax.sample("z", NORMAL)
    return ref[...]


@refused("'z' (<-eval_shape) was stated but is not in the traced program", "keep the site out of functions")
def lost_in_eval_shape(t):
    jax.eval_shape(lambda: elbax.sample("z", NORMAL))  # <- eval_shape
    return t


# ------------------------------------------------------------------------------------------ Python's own control flow

NUMBER = ("Values drawn before that line: 'z' (<-drawn)", "choose with `jnp.where` or `jax.lax.cond`")


def drawn():
    return elbax.sample("z", dist.Bernoulli(0.5))  # <- drawn


@refused("the number behind a traced value at <-py_if", *NUMBER)
def python_if(t):
    return 1.0 if drawn() else t  # <- py_if


@refused("the number behind a traced value at <-py_if_in_scan", *NUMBER)
def python_if_in_a_loop(t):
    def body(c, _):
        b = drawn()
        return (c + 1, b) if b else (c, b)  # <- py_if_in_scan

    return lax.scan(body, t, None, length=3)[0]


@refused("the number behind a traced value at <-py_range", *NUMBER)
def python_range(t):
    return sum(t for _ in range(drawn()))  # <- py_range


@refused("the number behind a traced value at <-py_float", *NUMBER)
def python_float(t):
    return float(drawn()) * t  # <- py_float


@refused("the number behind a traced value at <-py_numpy", *NUMBER)
def numpy_function(t):
    return np.sin(drawn()) * t  # <- py_numpy


@refused("the number behind a traced value at <-py_list", *NUMBER)
def index_of_a_list(t):
    return [1.0, 2.0][drawn()] * t  # <- py_list


@refused("the number behind a traced value at <-py_shape", *NUMBER)
def shape_of_an_array(t):
    return jnp.ones(drawn()).sum() * t  # <- py_shape


@refused("the number behind a traced value at <-py_mask", *NUMBER)
def boolean_mask(t):
    x = jnp.arange(3.0)
    return t * x[x > drawn()].sum()  # <- py_mask


# ------------------------------------------------------------------------------------------ names


@refused("two sites are called 'z': <-first and <-second.", 'elbax.scope("...")')
def two_sites_of_one_name(t):
    z = elbax.sample("z", NORMAL)  # <- first
    return z + elbax.sample("z", dist.Normal(t, 1.0))  # <- second


@refused("two sites are called 'z': <-drawn and <-drawn (one line, so it is run twice", 'elbax.scope("...")')
def helper_used_twice(t):
    return 1.0 * drawn() + drawn()


@refused("two sites are called 'z': <-with_cost", "<-and_cost")
def cost_with_the_name_of_a_sample(t):
    z = elbax.sample("z", NORMAL)  # <- with_cost
    elbax.cost("z", z * t)  # <- and_cost


@refused("returns a cost called 'z', which is also the name of the site at <-drawn", "rename one of them")
def returned_cost_with_the_name_of_a_sample(t):
    return {"z": t * drawn()}


@refused("sample at <-empty needs a name: a non-empty string, got ''")
def empty_name(t):
    return elbax.sample("", NORMAL)  # <- empty


@refused("cost at <-number needs a name: a non-empty string, got 3")
def number_as_name(t):
    elbax.cost(3, t)  # pyright: ignore[reportArgumentType]  # <- number


@refused("scope at <-scope needs a name: a non-empty string, got ''")
def empty_scope(t):
    with elbax.scope(""):  # <- scope
        return t


# ------------------------------------------------------------------------------------------ costs, data, distributions


@refused("program `no_cost` (<-no_cost) has no cost", "Return the loss")  # <- no_cost
def no_cost(t):
    elbax.sample("z", NORMAL)


@refused("program `tuple_of_costs` (<-tuple) returned a tuple", "a dict of named arrays")  # <- tuple
def tuple_of_costs(t):
    return t, t


@refused("program `nested_costs` (test_errors.py:", "returned a dict", "a dict of named arrays")
def nested_costs(t):
    return {"a": {"b": t}}


@refused("program `integers` (<-integers) returns 'loss' with dtype int", "Return only costs, as floats")  # <- integers
def integers(t):
    return jnp.arange(3)


@refused("cost 'k' (<-complex) has dtype complex", "`.real`")
def complex_cost(t):
    elbax.cost("k", t + 1j)  # <- complex


@refused("cost 'k' (<-text) is 'low', which is not a number or an array")
def text_as_cost(t):
    elbax.cost("k", "low")  # <- text


@refused("the baseline of 'z' (<-no_baseline) is None, which is not a number or an array")
def none_as_baseline(t):
    elbax.baseline("z", None)  # <- no_baseline
    return drawn()


@refused("the data of observed site 'x' (<-no_data) is None, which is not a number or an array")
def none_as_data(t):
    elbax.observe("x", NORMAL, None)  # <- no_data


@refused("observed site 'x' (<-too_long): the data have shape (4,), but a draw of the Normal has shape (3,)", "Reshape")
def data_of_another_length(t):
    elbax.observe("x", dist.Normal(jnp.zeros(3), 1.0), jnp.zeros(4))  # <- too_long


@refused("observed site 'x' (<-outer): the data have shape (3, 1)", "Reshape the data, or use `.to_event`")
def data_that_would_make_a_table(t):
    elbax.observe("x", dist.Normal(jnp.zeros(3), 1.0), jnp.zeros((3, 1)))  # <- outer


@refused("observed site 'x' (<-event): the data have shape (1,)", "(batch (), event (3,))", "Reshape")
def data_of_another_event(t):
    elbax.observe("x", dist.Normal(jnp.zeros(3), 1.0).to_event(1), jnp.zeros(1))  # <- event


@refused("sample site 'z' (<-not_one) was given a float, which is not a distribution. Pass a numpyro distribution")
def no_distribution(t):
    return elbax.sample("z", 3.0)  # <- not_one


@refused("sample site 'z' (<-class) was given the class Normal, which is not a distribution")
def class_of_distributions(t):
    return elbax.sample("z", dist.Normal)  # <- class


class NotAPytree(dist.Distribution):
    pytree_data_fields = ("label",)

    def __init__(self):
        self.label = "some text"
        super().__init__((), ())


@refused("sample site 'z' (<-pytree): the distribution NotAPytree holds a str", "registered as a JAX pytree")
def distribution_with_text(t):
    return elbax.sample("z", NotAPytree())  # <- pytree


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "2", jnp.ones(2), None])
def test_scales(scale):
    def program(t):
        elbax.observe("x", dist.Normal(t, 1.0), 0.3, scale=scale)  # <- scale

    with pytest.raises(ProgramError) as error:
        elbax.trace(program, 0.5)
    says(error, "site 'x' (<-scale) has scale", "it must be a number above zero", "num_data / batch_size")


@refused("site 'x' (<-traced_scale) has scale", "known while tracing, such as num_data / batch_size")
def traced_scale(t):
    elbax.observe("x", NORMAL, 0.3, scale=t)  # <- traced_scale


@pytest.mark.parametrize("name", CASES)
def test_refused(name):
    program, parts = CASES[name]
    with pytest.raises(ProgramError) as error:
        elbax.trace(program, jnp.asarray(0.5))
    says(error, *parts)
    assert "\n" not in str(error.value), "one paragraph"


def test_a_distribution_that_fails_says_where():
    class Fails(dist.Distribution):
        def __init__(self):
            super().__init__((), ())

        def sample(self, key, sample_shape=()):
            raise RuntimeError("my own trouble")

        def log_prob(self, value, intermediates=None):
            return 0.0

    def program(t):
        return elbax.sample("z", Fails())  # <- fails

    with pytest.raises(RuntimeError, match="my own trouble") as error:
        elbax.trace(program, 0.5)
    assert f"sample site 'z' ({at(__file__, 'fails')})" in "\n".join(error.value.__notes__)


def test_errors_of_the_program_itself_stay_what_they_are():
    def program(t):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="^mine"):
        elbax.trace(program, 0.5)


# ------------------------------------------------------------------------------------------ outside a program


@pytest.mark.parametrize("word", ["sample", "cost", "observe", "baseline"])
def test_words_outside_a_program(word):
    calls = {
        "sample": lambda: elbax.sample("z", NORMAL),  # <- out_sample
        "cost": lambda: elbax.cost("z", 1.0),  # <- out_cost
        "observe": lambda: elbax.observe("z", NORMAL, 1.0),  # <- out_observe
        "baseline": lambda: elbax.baseline("z", 1.0),  # <- out_baseline
    }
    with pytest.raises(ProgramError) as error:
        calls[word]()
    says(error, f"elbax.{word}('z') at <-out_{word} was called outside a traced program", "`elbax.trace`")


def test_a_bound_called_as_a_function():
    def guide(x):
        elbax.sample("z", dist.Normal(x, 1.0))  # <- guide

    def model(x):
        z = elbax.sample("z", NORMAL)
        elbax.observe("x", dist.Normal(z, 1.0), x)

    with pytest.raises(ProgramError) as error:
        elbax.ELBO(model, guide)(0.5)
    says(error, "elbax.sample('z') at <-guide was called outside a traced program", "the bound that it is part of")


def test_a_program_run_by_jax():
    programs = []

    def program(t):
        f = jax.jit(lambda x: elbax.sample("z", dist.Normal(x, 1.0)))  # <- plain
        programs.append(jax.make_jaxpr(f)(t))
        return f(t)

    elbax.trace(program, 0.5)
    with pytest.raises(ProgramError) as error:
        jax.jit(jaxpr_as_fun(programs[0]))(0.5)
    says(error, "sample site 'z' (<-plain) was run as plain JAX. Run the program through elbax")


# ------------------------------------------------------------------------------------------ questions and calls


@contextmanager
def a_graph():
    def program(theta, x):
        z = elbax.sample("z", dist.Normal(theta, 1.0))
        elbax.cost("k", z * x)

    yield elbax.trace(program, 0.5, 0.3)


@pytest.mark.parametrize("ask", ["deps", "ancestors"])
def test_nodes_that_do_not_exist(ask):
    with a_graph() as graph, pytest.raises(ProgramError) as error:
        getattr(graph, ask)("zz")
    says(error, "there is no node 'zz' in the graph of", "its nodes are 'theta', 'x', 'z', 'k'")


def test_influence_of_a_cost():
    with a_graph() as graph, pytest.raises(ProgramError) as error:
        graph.relation("k", "z")
    says(error, "'k' is a cost: a cost influences nothing")


def test_pictures_of_an_unknown_kind(tmp_path):
    with a_graph() as graph:
        with pytest.raises(ConfigError, match=r"cannot draw a graph to 'g.pdf': use a name that ends in"):
            graph.draw(tmp_path / "g.pdf")
        graph.draw(tmp_path / "g.svg")
        with pytest.raises(ConfigError, match=r"exists; pass overwrite=True"):
            graph.draw(tmp_path / "g.svg")


def bernoulli(t):
    return t * elbax.sample("z", dist.Bernoulli(logits=t))  # <- score_node


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (0, ("must be a random key, such as `jax.random.key(0)`; got 0",)),
        (None, ("must be a random key, such as `jax.random.key(0)`; got None",)),
        (jnp.ones(2), ("must be a random key",)),
        ("keys", ("must be one random key; got keys of shape (3,)", "jax.vmap(fn, in_axes=(0, None))")),
        ("old keys", ("must be one random key; got keys of shape (3, 2)", "jax.vmap")),
    ],
)
def test_what_is_no_key(key, parts):
    makes = {"keys": lambda: jax.random.split(jax.random.key(0), 3), "old keys": lambda: jnp.zeros((3, 2), jnp.uint32)}
    key = makes[key]() if isinstance(key, str) else key
    for run in (elbax.surrogate(bernoulli), elbax.value_and_grad(bernoulli)):
        with pytest.raises(ProgramError) as error:
            run(key, 0.5)
        says(error, "the first argument", *parts)


@pytest.mark.parametrize(
    ("argnums", "parts"),
    [
        (1, ("argnums=1, but `bernoulli` was called with 1 positional arguments (the key does not count)",)),
        (-2, ("argnums=-2",)),
        ((0, -1), ("argnums=(0, -1) names an argument twice",)),
    ],
)
def test_arguments_that_do_not_exist(argnums, parts):
    with pytest.raises(ProgramError) as error:
        elbax.value_and_grad(bernoulli, argnums=argnums)(jax.random.key(0), 0.5)
    says(error, *parts)


@pytest.mark.parametrize("second", [jax.hessian, lambda f: jax.grad(jax.grad(f))])
def test_second_derivative_of_a_score_node(second):
    loss = elbax.surrogate(bernoulli)
    with pytest.raises(ProgramError) as error:
        second(lambda t: loss(jax.random.key(0), t))(0.5)
    says(error, "score-function nodes, 'z' (<-score_node), was differentiated twice", "make all nodes pathwise")


def test_second_derivative_of_a_pathwise_node():
    loss = elbax.surrogate(lambda t: elbax.sample("z", dist.Normal(t, 1.0)) ** 2)
    assert jax.hessian(lambda t: loss(jax.random.key(0), t))(0.5) == pytest.approx(2.0)


# ------------------------------------------------------------------------------------------ estimators


def test_fixed_where_there_is_something_to_differentiate():
    with pytest.raises(EstimatorError) as error:
        elbax.value_and_grad(bernoulli, {"z": elbax.Fixed()})(jax.random.key(0), 0.5)
    says(error, "site 'z' (<-score_node) has parameters that depend on the arguments", "Use `elbax.Score()`")


def test_sticking_the_landing_inside_a_logarithm():
    def guide(x):
        elbax.sample("z", dist.Normal(x, 1.0))  # <- stuck

    def model(x):
        z = elbax.sample("z", dist.Normal(jnp.zeros(3), 1.0))
        elbax.observe("x", dist.Normal(z, 1.0), x)

    bound = elbax.IWAE(model, guide, num_particles=2)
    with pytest.raises(EstimatorError) as error:
        elbax.value_and_grad(bound, Pathwise(stick=True))(jax.random.key(0), jnp.ones(3))
    says(
        error, "site 'z' (<-stuck) cannot use Pathwise(stick=True)", "particles inside the logarithm", "Pathwise()` is"
    )


def test_support_that_moves():
    def program(t):
        return elbax.sample("u", dist.Uniform(0.0, t)) ** 2  # <- moves

    with pytest.raises(EstimatorError) as error:
        elbax.value_and_grad(program, Score())(jax.random.key(0), 0.5)
    says(error, "site 'u' (<-moves) is Score(), but the support of its Uniform moves", "fixed support")
