"""The surrogate loss: a function whose value is the cost of one run and whose gradient estimates that of the mean.

    L = sum_c c + sum_w log p(w | DEPS_w) * stop_gradient(Q_w) - its value + ...

is assembled in four steps: trace and analyse the program (once per shapes), run it with every node drawn by its
estimator, collect what each node is credited with, add the nodes' terms. Compiled, it is what one would have written
by hand for this program.

Source: Schulman et al., Gradient Estimation Using Stochastic Computation Graphs, NeurIPS 2015, corollary 1.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from elbax.errors import EstimatorError, ProgramError
from elbax.estimators.base import Context, Estimator, LogProb
from elbax.estimators.choose import Choice, Estimators, choose, credit_nodes
from elbax.graph import ir
from elbax.graph.analysis import Facts, SampleFact, analyse
from elbax.graph.distributions import Lifted, distribution_name
from elbax.graph.draws import unseen_by_density
from elbax.graph.evaluate import Records, cost_key, evaluate, site_keys
from elbax.graph.graph import Graph, abstract_distribution, baseline_axes, build
from elbax.graph.influence import credit
from elbax.graph.ir import Block
from elbax.graph.split import split_costs
from elbax.graph.tracing import Arguments, program_name

__all__ = ["Plan", "make_plan", "surrogate", "trace", "value_and_grad"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A program made ready to be run and differentiated.

    Attributes:
        graph: of the program.
        block: the program, its costs split as far as the chosen estimators need it.
        facts: the analysis of `block`.
        chosen: the estimator of every node.
    """

    graph: Graph
    block: Block
    facts: Facts
    chosen: dict[str, Choice]

    def run(self, key: jax.Array, arrays: Sequence[Any]) -> Records:
        """One run: every node drawn by its estimator, all costs and terms' ingredients recorded."""

        def on_sample(eq: ir.Sample, dist: Lifted, site_key: jax.Array) -> tuple[Any, Any, Any]:
            estimator = self.chosen[eq.name].estimator
            draw = estimator.draw(site_key, dist, LogProb.of(eq))
            value = _fenced(eq, draw.value, unseen_by_density(dist)) if estimator.by_density else draw.value
            return value, draw.log_prob, draw.aux

        keys = site_keys(key, {name: fact.loops for name, fact in self.facts.samples.items()})
        _, records = evaluate(self.block, arrays, on_sample, keys)
        return records

    def loss(self, key: jax.Array, arrays: Sequence[Any]) -> jax.Array:
        """The surrogate loss of one run."""
        return self.weighted(key, arrays, {})[0]

    def weighted(
        self, key: jax.Array, arrays: Sequence[Any], weights: Mapping[str, float]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The surrogate of a weighted sum of the costs, and the weighted sum of each cost.

        Args:
            key: random key of the run.
            arrays: the arguments of the program, flat.
            weights: by name of the cost; 1 where none is given.
        """
        records = self.run(key, arrays)
        sums: dict[str, jax.Array] = {}
        for name, part in self.facts.costs:
            share = jnp.sum(records.costs[cost_key(name, part)])
            share = share * weights[name] if name in weights else share
            sums[name] = sums[name] + share if name in sums else share
        total = sum_of(list(sums.values()))
        with_terms = [name for name, c in self.chosen.items() if type(c.estimator).term is not Estimator.term]
        if not with_terms:
            return total, sums
        nodes = ", ".join(f"'{name}' ({self.facts.samples[name].equation.source})" for name in with_terms)
        return ghost(total, self.terms(_weigh(records, self.facts, weights)), nodes), sums

    def terms(self, records: Records) -> jax.Array:
        """The sum of the terms of all nodes."""
        credits = collect_credits(self.facts, records, credit_nodes(self.facts, self.chosen))
        terms = []
        for name, choice in self.chosen.items():
            fact = self.facts.samples[name]
            baseline = records.baselines.get(name)
            context = Context(
                name,
                fact.shape,
                records.samples[name],
                credits.get(name),
                None if baseline is None else _fit_baseline(baseline, fact, self.facts),
            )
            terms.append(choice.estimator.term(context))
        return sum_of(terms)


def _fenced(eq: ir.Sample, value: jax.Array, unseen: list[jax.Array]) -> jax.Array:
    """The value, behind a fence that refuses derivatives with respect to what the log-density does not show."""
    if not unseen:
        return value

    @jax.custom_jvp
    def fence(value: jax.Array, unseen: list[jax.Array]) -> jax.Array:
        return value

    def refuse(primals: Any, tangents: Any) -> Any:
        moves = [t for t in tangents[1] if not isinstance(t, SymbolicZero)]
        if moves:
            name = distribution_name(abstract_distribution(eq).one)
            raise EstimatorError(
                f"site '{eq.name}' ({eq.source}) has a Score() estimator, but the support of its {name} moves with a "
                "parameter that is differentiated, which the derivative of its log-density does not show: the gradient "
                "would be biased. Draw from a fixed support and move the draw, as in `low + (high - low) * "
                "elbax.sample(name, Uniform(0, 1))`, or stop the gradient of that parameter."
            )
        return primals[0], jnp.zeros_like(value) if isinstance(tangents[0], SymbolicZero) else tangents[0]

    fence.defjvp(refuse, symbolic_zeros=True)
    return fence(value, unseen)


def _weigh(records: Records, facts: Facts, weights: Mapping[str, float]) -> Records:
    costs = {
        cost_key(name, part): records.costs[cost_key(name, part)] * weights.get(name, 1.0) for name, part in facts.costs
    }
    return Records(records.samples, costs if weights else records.costs, records.baselines)


def sum_of(values: Sequence[jax.Array]) -> jax.Array:
    """The sum of scalars, zero if there are none."""
    return sum(values[1:], values[0]) if values else jnp.zeros(())


def _fit_baseline(value: jax.Array, fact: SampleFact, facts: Facts) -> jax.Array:
    """A baseline with its dimensions where those of the node are, and size one elsewhere."""
    axes = baseline_axes(facts.baselines[fact.equation.name], fact)
    shape = [1] * len(fact.shape)
    for axis, n in zip(axes, value.shape, strict=True):
        shape[axis] = n
    return jax.lax.stop_gradient(value).reshape(shape)


def collect_credits(facts: Facts, records: Records, nodes: int) -> dict[str, jax.Array]:
    """Q̂ of each of `nodes`: the costs that each of its elements influences, summed; without derivative.

    Nodes often share most of their costs (in a chain, each has those of the next and a few more). Sums are built on
    the largest one already made, so that the work is linear in the number of sites for nested influences.
    """
    wanted = {name: fact for name, fact in facts.samples.items() if nodes >> fact.index & 1}
    pieces: dict[Any, int] = {}
    arrays: list[jax.Array] = []
    sets: dict[str, dict[tuple[int, ...], int]] = {name: {} for name in wanted}
    for (cost, part), cost_fact in facts.costs.items():
        for rels, members in cost_fact.dep.groups:
            for name, fact in wanted.items():
                if not members >> fact.index & 1:
                    continue
                where = (cost, part, rels, fact.shape)
                if where not in pieces:
                    pieces[where] = len(arrays)
                    c = jax.lax.stop_gradient(records.costs[cost_key(cost, part)])
                    arrays.append(credit(c, rels, fact.shape))
                shape = arrays[pieces[where]].shape
                sets[name][shape] = sets[name].get(shape, 0) | 1 << pieces[where]
    sums = _shared_sums({mask for by_shape in sets.values() for mask in by_shape.values()}, arrays)
    return {name: sum_of([sums[mask] for mask in by_shape.values()]) for name, by_shape in sets.items()}


def _shared_sums(masks: set[int], arrays: Sequence[jax.Array]) -> dict[int, jax.Array]:
    sums: dict[int, jax.Array] = {}
    for mask in sorted(masks, key=lambda m: (m.bit_count(), m)):
        base = max((m for m in sums if m & ~mask == 0), key=int.bit_count, default=0)
        rest = [arrays[i] for i in range(mask.bit_length()) if (mask & ~base) >> i & 1]
        sums[mask] = sum_of([sums[base], *rest] if base else rest)
    return sums


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def ghost(total: jax.Array, terms: jax.Array, nodes: str) -> jax.Array:
    """`total`, with the derivative of `total + terms`: the terms, of `nodes`, cost nothing in the forward pass."""
    return total


@ghost.defjvp
def _ghost_jvp(nodes: str, primals: Any, tangents: Any) -> Any:
    (total, terms), (d_total, d_terms) = primals, tangents
    return total, d_total + d_terms * _once(terms, nodes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _once(terms: jax.Array, nodes: str) -> jax.Array:
    return jnp.ones_like(terms)


@_once.defjvp
def _once_jvp(nodes: str, primals: Any, tangents: Any) -> Any:
    raise ProgramError(
        f"the surrogate loss of a program with score-function nodes, {nodes}, was differentiated twice. Its first "
        "derivative estimates the gradient; its second does not estimate the Hessian. Only programs whose nodes are "
        "all pathwise may be differentiated again."
    )


def make_plan(
    program: Callable, estimators: Estimators, args: tuple, kwargs: dict[str, Any], batch_axes: tuple[int, ...] = ()
) -> Plan:
    """Traces and analyses a program, chooses its estimators, and splits its costs as far as they need."""
    graph, _ = build(program, args, kwargs, batch_axes=batch_axes)
    chosen = choose(graph.raw_facts, estimators, graph.name, portable=graph.portable)
    graph = replace(graph, plan={name: str(choice) for name, choice in chosen.items()})
    block, facts = graph.program, graph.raw_facts
    nodes = credit_nodes(facts, chosen)
    if nodes:
        block = ir.prune(split_costs(block, facts, nodes))
        facts = analyse(block, graph.arguments.inputs, graph.arguments.owners)
    return Plan(graph, block, facts, chosen)


def check_key(key: Any) -> None:
    """Refuses what is not one random key."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if (typed and shape == ()) or (dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        return
    if typed or (dtype == jnp.uint32 and shape):
        raise ProgramError(
            f"the first argument must be one random key; got keys of shape {shape}. To run several times, use "
            "`jax.vmap(fn, in_axes=(0, None))(jax.random.split(key, n), ...)`."
        )
    raise ProgramError(f"the first argument must be a random key, such as `jax.random.key(0)`; got {key!r}.")


def trace(program: Callable, *args: Any, **kwargs: Any) -> Graph:
    """The stochastic computation graph of a program.

    The program is an ordinary JAX function without a key, in which `elbax.sample`, `observe`, `cost` and `baseline`
    may stand anywhere: inside `jit`, `vmap`, `scan`, `cond`, `checkpoint`, nested as needed. It states its costs or
    returns them (a scalar, an array, or a dict of named arrays); the loss is the sum of all elements of all costs.

    Args:
        program: the function, or a module (such as a bound) whose arrays of floats are then shown as `parameters`.
        *args: example arguments; pytrees. Arrays and floats are traced, everything else is static.
        **kwargs: likewise.

    Returns:
        The graph. Print it, draw it, ask it for `deps`, `influences`, `relation` and what was `lost`.

    Raises:
        ProgramError: if the program cannot be turned into a graph; the message names the site and its line.

    References:
        Schulman et al., Gradient Estimation Using Stochastic Computation Graphs, NeurIPS 2015.
    """
    if jax.tree.leaves(eqx.filter(program, eqx.is_inexact_array)):
        program, args = _parameters_first(program), (program, *args)
    return with_plan(build(program, args, kwargs)[0], None)


def _parameters_first(module: Callable) -> Callable:
    """A module as a function of its own parameters, so that the graph shows what depends on them."""

    def program(parameters: Callable, *args: Any, **kwargs: Any) -> Any:
        return parameters(*args, **kwargs)

    first = inspect.Parameter("parameters", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    program.__signature__ = inspect.Signature([first, *inspect.signature(module).parameters.values()])  # type: ignore
    program.__qualname__ = program_name(module)
    return program


def with_plan(graph: Graph, estimators: Estimators) -> Graph:
    """The graph with its gradient plan filled in."""
    chosen = choose(graph.raw_facts, estimators, graph.name, portable=graph.portable)
    return replace(graph, plan={name: str(choice) for name, choice in chosen.items()})


def surrogate(program: Callable, estimators: Estimators = None) -> Callable[..., jax.Array]:
    """The surrogate loss of a program.

    Args:
        program: an ordinary JAX function with sites in it (see `elbax.trace`).
        estimators: an estimator for all stochastic nodes, or a dict from site names to estimators; nodes without one
            are pathwise where that is valid and score-function nodes otherwise.

    Returns:
        `loss(key, *args) -> scalar`. Its value is the total cost of one run; its gradient with respect to any of
        `args` is an unbiased estimate of the gradient of the expected cost (if all estimators are). It may be
        compiled, differentiated once, and mapped. The program is traced once for each set of argument shapes.

    Raises:
        ProgramError: if the program cannot be turned into a graph.
        EstimatorError: if an estimator is not valid for its node.
    """
    plans: dict[Any, Plan] = {}

    def loss(key: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        check_key(key)
        arguments = Arguments.of(program, args, kwargs)
        signature = arguments.signature()
        plan = plans.get(signature) if signature is not None else None
        if plan is None:
            plan = make_plan(program, estimators, args, kwargs)
            if signature is not None and plan.graph.portable:
                plans[signature] = replace(plan, graph=replace(plan.graph, arguments=arguments.without_arrays()))
        return plan.loss(key, arguments.arrays)

    return loss


def _is_differentiable(x: Any) -> bool:
    """Whether a leaf is an array of floats or a float. Equinox's own test fails on some tracers."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, (float, complex)) if dtype is None else jnp.issubdtype(dtype, jnp.inexact)


def value_and_grad(
    program: Callable, estimators: Estimators = None, *, argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[jax.Array, Any]]:
    """The cost of one run of a program, and an estimate of the gradient of the expected cost.

    Args:
        program: an ordinary JAX function with sites in it (see `elbax.trace`).
        estimators: see `elbax.surrogate`.
        argnums: which arguments of the program to differentiate, as in `jax.grad` (the key does not count).

    Returns:
        `(key, *args) -> (value, grads)`. `grads` has the structure of the arguments; leaves that are not arrays of
        floats have gradient `None`.
    """
    loss = surrogate(program, estimators)
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def value_and_grads(key: jax.Array, *args: Any, **kwargs: Any) -> tuple[jax.Array, Any]:
        for i in wanted:
            if not -len(args) <= i < len(args):
                raise ProgramError(
                    f"argnums={argnums}, but `{program_name(program)}` was called with {len(args)} positional "
                    "arguments (the key does not count)."
                )
        positions = [i % len(args) for i in wanted]
        if len(set(positions)) < len(positions):
            raise ProgramError(f"argnums={argnums} names an argument twice.")
        chosen = tuple(args[i] for i in positions)
        differentiable, rest = eqx.partition(chosen, _is_differentiable)

        def of_chosen(differentiable: Any) -> jax.Array:
            full = list(args)
            for i, value in zip(positions, eqx.combine(differentiable, rest), strict=True):
                full[i] = value
            return loss(key, *full, **kwargs)

        value, grads = jax.value_and_grad(of_chosen)(differentiable)
        return value, grads[0] if isinstance(argnums, int) else grads

    return value_and_grads
