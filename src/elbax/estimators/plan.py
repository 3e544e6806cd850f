"""A program made ready to be run and differentiated: traced, analysed, with an estimator for every node.

    L = sum_c c + sum_w term_w

is assembled in four steps: trace and analyse the program (once per shapes), run it with every node drawn by its
estimator, collect what each node is credited with, add the nodes' terms. Compiled, it is what one would have written
by hand for this program.

Source: Schulman et al., Gradient Estimation Using Stochastic Computation Graphs, NeurIPS 2015, corollary 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from elbax.errors import EstimatorError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site, Slope
from elbax.estimators.branches import Branches, Lane
from elbax.estimators.choose import Choice, Estimators, choose, credit_nodes, describe, settle, site_of
from elbax.estimators.credits import collect_credits, collect_parts, part_shapes, weighed
from elbax.estimators.ghost import ghost, sum_of
from elbax.graph import ir
from elbax.graph.analysis import Facts, SampleFact, analyse
from elbax.graph.distributions import Lifted, distribution_name
from elbax.graph.draws import unseen_by_density
from elbax.graph.evaluate import Env, Records, cost_key, evaluate_in, site_keys
from elbax.graph.graph import Graph, abstract_distribution, baseline_axes, build
from elbax.graph.ir import Block
from elbax.graph.replay import Below, below, replay
from elbax.graph.sites import Derivative, as_floats
from elbax.graph.split import split_costs

__all__ = ["Outcome", "Plan", "Run", "make_plan"]

REPLICAS = "elbax_replicas"  # the name of the axis of replicas

_TWICE = (
    "the surrogate loss of a program with score-function nodes, {nodes}, was differentiated twice. Its first "
    "derivative estimates the gradient; its second does not estimate the Hessian. Use `elbax.surrogate(..., order=2)`, "
    "or make all nodes pathwise."
)


class Outcome(NamedTuple):
    """What an estimate says beside the loss.

    Attributes:
        costs: the weighted sum of each cost.
        states: of the estimators that have one, after the step.
    """

    costs: dict[str, jax.Array]
    states: dict[str, Any]


class Run(NamedTuple):
    """One run of the program."""

    records: Records
    env: Env
    feeds: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """A program made ready to be run and differentiated.

    Attributes:
        graph: of the program.
        block: the program, its costs split as far as the chosen estimators need it.
        facts: the analysis of `block`.
        chosen: the estimator of every node.
        sites: what each estimator knows of its node.
        below: for each node whose estimator probes, the part of the program below it.
        num_replicas: how often the program is run for one estimate.
    """

    graph: Graph
    block: Block
    facts: Facts
    chosen: dict[str, Choice]
    sites: dict[str, Site]
    below: dict[str, Below]
    num_replicas: int

    @classmethod
    def forward(cls, graph: Graph, block: Block, facts: Facts) -> Plan:
        """A plan to run, not to differentiate: whatever the credits, a node is drawn alike."""
        chosen = choose(graph.raw_facts, None, graph.name, portable=graph.portable)
        return cls(graph, block, facts, chosen, {}, {}, 1)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """The states of the estimators that have one."""
        states = {}
        for i, (name, choice) in enumerate(self.chosen.items()):
            state = choice.estimator.init(jax.random.fold_in(key, i), self.sites[name])
            if state is not None:
                states[name] = state
        return states

    def with_states(self, states: Mapping[str, Any]) -> Plan:
        """The plan with estimators that know their states, for those whose draws depend on them."""
        chosen = dict(self.chosen)
        for name, state in states.items():
            chosen[name] = replace(chosen[name], estimator=chosen[name].estimator.with_state(state))
        return replace(self, chosen=chosen)

    def run(self, key: jax.Array, arrays: Sequence[Any]) -> Records:
        """One run: every node drawn by its estimator, all costs and terms' ingredients recorded."""
        return self.one_run(key, arrays).records

    def one_run(self, key: jax.Array, arrays: Sequence[Any]) -> Run:
        """One run with the values of all variables."""
        return self._run(self._feeds(key), arrays, None)

    def baseline(self, name: str, records: Records) -> jax.Array | None:
        """The baseline that the program states for a node, with the node's axes; without derivative."""
        stated = records.baselines.get(name)
        return None if stated is None else _fit_baseline(stated, self.facts.samples[name], self.facts)

    def loss(self, key: jax.Array, arrays: Sequence[Any]) -> jax.Array:
        """The surrogate loss of one run."""
        return self.estimate(key, arrays, {})[0]

    def estimate(
        self,
        key: jax.Array,
        arrays: Sequence[Any],
        weights: Mapping[str, float],
        states: Mapping[str, Any] | None = None,
    ) -> tuple[jax.Array, Outcome]:
        """The surrogate of a weighted sum of the costs.

        Args:
            key: random key of the run.
            arrays: the arguments of the program, flat.
            weights: by name of the cost; 1 where none is given.
            states: of the estimators; those of `init` if there are any and none are given.
        """
        if states is None:
            states = jax.lax.stop_gradient(self.init(jax.random.fold_in(key, 0x57A7E)))
        plan = self.with_states(states)

        def replica(feeds: Mapping[str, Any]) -> tuple[jax.Array, jax.Array, Outcome]:
            if not self._branches:
                return plan._one(feeds, arrays, weights, states, None)
            lanes = jax.vmap(lambda i: plan._one(feeds, arrays, weights, states, Lane(self._branches, i)))
            totals, terms, outcome = lanes(jnp.arange(self._branches.size))
            return (
                totals.sum(),
                terms.sum(),
                Outcome(jax.tree.map(lambda x: x.sum(0), outcome.costs), jax.tree.map(_mean, outcome.states)),
            )

        if self.num_replicas == 1:
            total, terms, outcome = replica(self._feeds(key))
        else:
            results = jax.vmap(replica, axis_name=REPLICAS)(self._replicated_feeds(key))
            total, terms, outcome = jax.tree.map(_mean, results)
        with_terms = [name for name, c in self.chosen.items() if type(c.estimator).term is not Estimator.term]
        nodes = ", ".join(f"'{name}' ({self.facts.samples[name].equation.source})" for name in with_terms)
        return (ghost(total, terms, _TWICE.format(nodes=nodes)) if with_terms else total), outcome

    def terms(self, run: Run, weights: Mapping[str, float], states: Mapping[str, Any], lane: Lane | None = None) -> Any:
        """The sum of the terms of all nodes, and the states of their estimators after the step."""
        stopped = jax.tree.map(jax.lax.stop_gradient, self._weigh(run.records, weights, lane))
        credits = collect_credits(self.facts, stopped, credit_nodes(self.facts, self.chosen))
        terms, after = [], {}
        for name, choice in self.chosen.items():
            context = self._context(name, run, credits.get(name), weights, states, lane)
            context = context._replace(work=choice.estimator.work(context))
            terms.append(choice.estimator.term(context))
            if name in states:
                after[name] = jax.lax.stop_gradient(choice.estimator.update(context))
        return sum_of(terms), after

    # ------------------------------------------------------------------------------------------ one run

    def _one(
        self,
        feeds: Mapping[str, Any],
        arrays: Sequence[Any],
        weights: Mapping[str, float],
        states: Mapping[str, Any],
        lane: Lane | None,
    ) -> tuple[jax.Array, jax.Array, Outcome]:
        run = self._run(feeds, arrays, lane)
        costs = self._weigh(run.records, weights, lane)
        sums: dict[str, jax.Array] = {}
        for name, part in self.facts.costs:
            share = jnp.sum(costs[cost_key(name, part)])
            sums[name] = sums[name] + share if name in sums else share
        terms, after = self.terms(run, weights, states, lane)
        return sum_of(list(sums.values())), terms, Outcome(sums, after)

    def _run(self, feeds: Mapping[str, Any], arrays: Sequence[Any], lane: Lane | None) -> Run:
        env: Env = dict(zip(self.block.inputs, arrays, strict=True))

        def on_sample(eq: ir.Sample, dist: Lifted, feed: Any) -> tuple[Any, Any, Any]:
            estimator = self.chosen[eq.name].estimator
            draw = lane.draw(eq.name, dist) if lane is not None and lane.holds(eq.name) else self._draw(eq, dist, feed)
            value = draw.value
            if _rests_on_density(eq, dist, estimator):
                value = _fenced(eq, value, unseen_by_density(dist), describe(estimator))
            return value, draw.log_prob, draw.aux

        return Run(evaluate_in(env, self.block.equations, on_sample, feeds), env, feeds)

    def _draw(self, eq: ir.Sample, dist: Lifted, feed: Any) -> Draw:
        draw = self.chosen[eq.name].estimator.draw(feed, dist, LogProb.of(eq))
        return draw._replace(value=jnp.asarray(draw.value, float)) if eq.options.as_float else draw

    def _weigh(self, records: Records, weights: Mapping[str, float], lane: Lane | None) -> dict[str, jax.Array]:
        costs = weighed(records.costs, self.facts, weights) if weights else dict(records.costs)
        return costs if lane is None else lane.weigh(self.facts, records, costs)

    def _context(
        self,
        name: str,
        run: Run,
        credit: jax.Array | None,
        weights: Mapping[str, float],
        states: Mapping[str, Any],
        lane: Lane | None,
    ) -> Context:
        records = run.records
        others = None
        if self.num_replicas > 1 and credit is not None:
            others = (jax.lax.psum(credit, REPLICAS) - credit) / (self.num_replicas - 1)
        probe, slopes = self._probe(name, run, weights, lane) if name in self.below else (None, None)
        return Context(
            self.sites[name],
            records.samples[name],
            credit,
            self.baseline(name, records),
            others,
            probe,
            states.get(name),
            1.0 if lane is None else lane.share(self.facts, records, name),
            slopes,
        )

    def _probe(
        self, name: str, run: Run, weights: Mapping[str, float], lane: Lane | None
    ) -> tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], list[Slope]]]:
        bit = 1 << self.facts.samples[name].index
        site = next(eq for eq in ir.walk(self.block) if isinstance(eq, ir.Sample) and eq.name == name)
        kept = jax.tree.map(jax.lax.stop_gradient, run.records)

        def on_sample(eq: ir.Sample, dist: Lifted, feed: Any) -> tuple[Any, Any, Any]:
            held = lane is not None and lane.holds(eq.name)
            draw = lane.draw(eq.name, dist) if lane is not None and held else self._draw(eq, dist, feed)
            return draw.value, draw.log_prob, draw.aux if held else ()

        def costs(value: jax.Array) -> dict[str, jax.Array]:
            value = jnp.asarray(value, float) if site.options.as_float else value
            found = replay(self.below[name], run.env, value, on_sample, run.feeds)
            drawn = {} if lane is None else {n: x for n, x in found.samples.items() if lane.holds(n)}
            records = Records({**kept.samples, **drawn}, {**kept.costs, **found.costs}, {})
            return self._weigh(records, weights, lane)

        def probe(value: jax.Array) -> jax.Array:
            return collect_credits(self.facts, costs(value), bit)[name]

        def slopes(value: jax.Array) -> list[Slope]:
            def part(v: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
                credit, total = collect_parts(self.facts, costs(v), name)[shape]
                return total, credit

            value, found = jnp.asarray(value, float), []
            for shape in part_shapes(self.facts, name):  # compiled, the passes share what they have in common
                slope, credit = jax.grad(part, has_aux=True)(value, shape)
                found.append(Slope(credit, slope))
            return found

        return probe, slopes

    # ------------------------------------------------------------------------------------------ random keys

    @property
    def _branches(self) -> Branches:
        return Branches.of(self.chosen, self.sites)

    def _loops(self) -> dict[str, tuple[int, ...]]:
        return {name: fact.loops for name, fact in self.facts.samples.items()}

    def _feeds(self, key: jax.Array) -> dict[str, jax.Array]:
        return site_keys(key, self._loops())

    def _replicated_feeds(self, key: jax.Array) -> dict[str, Any]:
        feeds: dict[str, Any] = jax.vmap(self._feeds)(jax.random.split(key, self.num_replicas))
        for name, one_key in site_keys(key, dict.fromkeys(feeds, ())).items():
            coupled = self.chosen[name].estimator.coupled(one_key, self.num_replicas, self.sites[name])
            if coupled is not None:
                feeds[name] = coupled
        return feeds


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x, axis=0) if jnp.issubdtype(x.dtype, jnp.inexact) else x[0]


def _rests_on_density(eq: ir.Sample, dist: Lifted, estimator: Estimator) -> bool:
    """Whether the gradient is only right if the log-density of a draw shows all that moves it."""
    if eq.options.derivative is not Derivative.BY_ESTIMATOR:
        return True
    point = estimator.pathwise and dist.name == "Delta"  # its log-density is a constant, of which nothing is left out
    return estimator.by_density and not point


def _fenced(eq: ir.Sample, value: jax.Array, unseen: list[jax.Array], estimator: str) -> jax.Array:
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
                f"site '{eq.name}' ({eq.source}) is {estimator}, but the support of its {name} moves with a "
                "parameter that is differentiated, which the derivative of its log-density does not show: the gradient "
                "would be biased. Draw from a fixed support and move the draw, as in `low + (high - low) * "
                "elbax.sample(name, Uniform(0, 1))`, or stop the gradient of that parameter."
            )
        return primals[0], jnp.zeros_like(value) if isinstance(tangents[0], SymbolicZero) else tangents[0]

    fence.defjvp(refuse, symbolic_zeros=True)
    return fence(value, unseen)


def _fit_baseline(value: jax.Array, fact: SampleFact, facts: Facts) -> jax.Array:
    """A baseline with its dimensions where those of the node are, and size one elsewhere."""
    axes = baseline_axes(facts.baselines[fact.equation.name], fact)
    shape = [1] * len(fact.shape)
    for axis, n in zip(axes, value.shape, strict=True):
        shape[axis] = n
    return jax.lax.stop_gradient(value).reshape(shape)


def make_plan(
    program: Callable, estimators: Estimators, args: tuple, kwargs: dict[str, Any], batch_axes: tuple[int, ...] = ()
) -> Plan:
    """Traces and analyses a program, chooses its estimators, and splits its costs as far as they need."""
    with as_floats(wants_float(estimators)):
        graph, _ = build(program, args, kwargs, batch_axes=batch_axes)
    chosen = choose(graph.raw_facts, estimators, graph.name, portable=graph.portable)
    block, facts = graph.program, graph.raw_facts
    nodes = credit_nodes(facts, chosen)
    if nodes:
        block = ir.prune(split_costs(block, facts, nodes))
        facts = analyse(block, graph.arguments.inputs, graph.arguments.owners)
    sites = {name: site_of(facts, name) for name in chosen}
    chosen, sites = settle(facts, sites, chosen)
    graph = replace(graph, plan={name: str(choice) for name, choice in chosen.items()})
    parts = {name: below(block, name) for name, choice in chosen.items() if choice.estimator.probes}
    return Plan(graph, block, facts, chosen, sites, parts, _num_replicas(chosen, sites))


def wants_float(estimators: Estimators) -> Callable[[str], bool]:
    """Which sites have estimators that need discrete values as floats."""
    if isinstance(estimators, Estimator):
        return lambda name: estimators.as_float
    if isinstance(estimators, Mapping):
        return lambda name: getattr(estimators.get(name), "as_float", False)
    return lambda name: False


def _num_replicas(chosen: Mapping[str, Choice], sites: Mapping[str, Site]) -> int:
    wanted = {name: c.estimator.num_replicas for name, c in chosen.items() if c.estimator.num_replicas > 1}
    if len(set(wanted.values())) > 1:
        listed = ", ".join(f"'{name}' ({sites[name].source}) {n}" for name, n in wanted.items())
        raise EstimatorError(
            f"the estimators ask for different numbers of runs of the whole program: {listed}. Give all of them the "
            "same number."
        )
    return next(iter(wanted.values()), 1)
