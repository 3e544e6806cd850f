"""A model and a guide, run together: the guide draws, the model is conditioned on what was drawn.

Both are programs. The guide's sites are the stochastic nodes of the bound; the model's sites of the same names take
their values and contribute `-log p`, the guide's contribute `log q`. This works site by site wherever the sites stand
(in `scan`, under `vmap`, ...), because both programs are data: the model is evaluated with the guide's values as feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

from elbax.errors import SiteMismatchError
from elbax.graph import ir
from elbax.graph.analysis import Facts, SampleFact, analyse
from elbax.graph.compat import UNKNOWN_SOURCE, Source
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Records, cost_key, evaluate
from elbax.graph.graph import abstract_distribution
from elbax.graph.sites import Derivative, bind_sample
from elbax.graph.tracing import Arguments, Captured, capture

__all__ = ["Latent", "Pair", "Run", "Values", "run_pair"]


@dataclass(frozen=True)
class Latent:
    """One latent site of a run; arrays have the axes of the loops around the site first.

    Attributes:
        name: of the site.
        source: the line of the model's site.
        scale: factor of its densities in a bound (a subsample of the data).
        log_q: log-density of the draw under the guide, nats. The node's shape.
        log_p: log-density of the draw under the model, nats. The shape of the model's node.
        q, p: the two distributions, of all steps of the loops around them.
    """

    name: str
    source: Source
    scale: float
    log_q: jax.Array
    log_p: jax.Array
    q: Lifted
    p: Lifted


@dataclass(frozen=True)
class Run:
    """One run of a pair.

    Attributes:
        latents: by site name, in the order of the model.
        auxiliary: log-density of draws of the guide that the model has no sites for.
        observed: `-log p` of each observed site, nats.
        costs: costs that the two programs state or that the guide's `elbax.cost` adds.
        guide, model: the analyses of the two programs.
    """

    latents: dict[str, Latent]
    auxiliary: dict[str, jax.Array]
    observed: dict[str, jax.Array]
    costs: dict[str, jax.Array]
    guide: Facts
    model: Facts

    def line(self, name: str) -> Source:
        """The user's line behind a cost: that of the model's site, else of the guide's, else of the cost itself."""
        site = name[name.index("(") + 1 : -1] if name.endswith(")") and "(" in name else name
        for facts in (self.model, self.guide):
            if site in facts.samples:
                return facts.samples[site].equation.source
            if (site, 0) in facts.costs:
                return facts.costs[site, 0].equation.source
        return UNKNOWN_SOURCE


@dataclass(frozen=True)
class _Program:
    captured: Captured
    arrays: list[Any]
    facts: Facts

    @classmethod
    def of(cls, program: Callable, args: tuple, kwargs: dict[str, Any]) -> _Program:
        arguments = Arguments.of(program, args, kwargs)
        captured = capture(program, arguments)
        captured = replace(captured, block=ir.prune(captured.block))
        return cls(captured, arguments.arrays, analyse(captured.block, arguments.inputs, arguments.owners))

    def stopped(self) -> _Program:
        """The same program without derivatives with respect to anything but the values of its sites."""
        block = ir.map_constants(self.captured.block, _stop)
        return replace(self, captured=replace(self.captured, block=block), arrays=[_stop(x) for x in self.arrays])

    def evaluate(self, on_sample: Any, feeds: Mapping[str, Any]) -> Records:
        return evaluate(self.captured.block, self.arrays, on_sample, feeds)[1]


def _stop(x: Any) -> Any:
    return jax.lax.stop_gradient(x) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x


# the values of all sites, of the guide and of the model
Values = tuple[dict[str, jax.Array], dict[str, jax.Array]]


@dataclass(frozen=True)
class Pair:
    """A model and a guide on the same data, ready to be run; made inside a traced program.

    Attributes:
        guide, model: the two programs.
    """

    guide: _Program
    model: _Program

    @classmethod
    def of(cls, model: Callable, guide: Callable, args: tuple, kwargs: dict[str, Any]) -> Pair:
        """Traces both programs.

        Raises:
            SiteMismatchError: if the sites do not match by name, shape, dtype or support.
        """
        pair = cls(_Program.of(guide, args, kwargs), _Program.of(model, args, kwargs))
        check_sites(pair.guide.captured.name, pair.guide.facts, pair.model.captured.name, pair.model.facts)
        return pair

    def latents(self) -> Iterator[tuple[str, SampleFact]]:
        """The sites of the guide that are random choices of its own."""
        return ((name, fact) for name, fact in self.guide.facts.samples.items() if not is_noise(fact))

    def draw(self, *, linear: bool, derivatives: Mapping[str, Derivative] | None = None) -> tuple[Run, Values]:
        """Runs the guide, then the model on the guide's draws.

        Args:
            linear: whether the log q enter the costs linearly, so that estimators may leave out derivatives of
                expectation zero (true for the ELBO, not for bounds with several particles inside a logarithm).
            derivatives: by site of the guide, what the bound does about the derivative of the draw.
        """
        derivatives = derivatives or {}

        def draw(eq: ir.Sample, dist: Lifted, feed: Any) -> tuple[Any, Any, Any]:
            derivative = derivatives.get(eq.name, Derivative.BY_ESTIMATOR)
            options = replace(eq.options, linear=linear, derivative=derivative)
            value, log_q = bind_sample(eq.name, eq.source, eq.structure, options, dist.leaves)
            return value, log_q, (value, log_q, dist.leaves)

        def condition(eq: ir.Sample, dist: Lifted, value: Any) -> tuple[Any, Any, Any]:
            return draw(eq, dist, None) if value is None else _given(eq, dist, value)  # noise that only one has

        drawn = self.guide.evaluate(draw, dict.fromkeys(self.guide.facts.samples))
        values = {name: drawn.samples[name][0] if name in drawn.samples else None for name in self.model.facts.samples}
        return self._run(drawn, self.model.evaluate(condition, values))

    def at(self, values: Values, *, by_values: bool) -> Run:
        """Runs both on values that were drawn before; draws nothing.

        Args:
            values: of an earlier run.
            by_values: whether the result is differentiated with respect to the values, all else without derivative; or
                with respect to all else, the values without derivative.
        """
        guide, model = (self.guide.stopped(), self.model.stopped()) if by_values else (self.guide, self.model)
        of_guide, of_model = values if by_values else jax.tree.map(_stop, values)
        return self._run(guide.evaluate(_given, of_guide), model.evaluate(_given, of_model))[0]

    def _run(self, drawn: Records, given: Records) -> tuple[Run, Values]:
        guide, model = self.guide.facts, self.model.facts
        latents = {
            name: _latent(name, guide, model, drawn.samples[name], given.samples[name])
            for name, fact in model.samples.items()
            if not is_noise(fact)
        }
        auxiliary = {
            name: fact.equation.options.scale * drawn.samples[name][1]
            for name, fact in guide.samples.items()
            if fact.equation.options.auxiliary
        }
        observed, costs = {}, {}
        for facts, records in ((model, given), (guide, drawn)):
            for (name, part), fact in facts.costs.items():
                is_data = isinstance(fact.equation, ir.Observe)
                (observed if is_data else costs)[name] = records.costs[cost_key(name, part)]
        return Run(latents, auxiliary, observed, costs, guide, model), (_values(drawn), _values(given))


def _values(records: Records) -> dict[str, jax.Array]:
    return {name: record[0] for name, record in records.samples.items()}


def _given(eq: ir.Sample, dist: Lifted, value: Any) -> tuple[Any, Any, Any]:
    log_prob = dist.log_prob(value)
    return value, log_prob, (value, log_prob, dist.leaves)


def run_pair(model: Callable, guide: Callable, args: tuple, kwargs: dict[str, Any], *, linear: bool) -> Run:
    """Runs the guide, then the model on the guide's draws, once; see `Pair`."""
    return Pair.of(model, guide, args, kwargs).draw(linear=linear)[0]


def _latent(name: str, guide: Facts, model: Facts, drawn: tuple, given: tuple) -> Latent:
    fact = model.samples[name]
    q, p = _of_all_steps(guide, name, drawn[2]), _of_all_steps(model, name, given[2])
    return Latent(name, fact.equation.source, fact.equation.options.scale, drawn[1], given[1], q, p)


def is_noise(fact: SampleFact) -> bool:
    """Whether a site is randomness that both programs share and that is no latent variable (rows of a subsample)."""
    return getattr(abstract_distribution(fact.equation).one, "is_noise", False)


def _of_all_steps(facts: Facts, name: str, leaves: tuple) -> Lifted:
    fact = facts.samples[name]
    return Lifted(fact.equation.structure, leaves).in_loops(fact.loops)


# --------------------------------------------------------------------------------------------- matching


def check_sites(guide_name: str, guide: Facts, model_name: str, model: Facts) -> None:
    """Refuses a guide whose sites do not match those of the model."""
    _check_names(guide_name, guide, model_name, model)
    for name, fact in model.samples.items():
        if not is_noise(fact):
            _check_site(name, guide, model)
    for (name, _), fact in guide.costs.items():
        if isinstance(fact.equation, ir.Observe):
            raise SiteMismatchError(
                f"guide `{guide_name}` observes '{name}' ({fact.equation.source}). A guide proposes "
                "latent variables and takes data as arguments; observe data in the model."
            )


def _check_names(guide_name: str, guide: Facts, model_name: str, model: Facts) -> None:
    missing = [n for n, fact in model.samples.items() if n not in guide.samples and not is_noise(fact)]
    surplus = [
        n
        for n, fact in guide.samples.items()
        if n not in model.samples and not fact.equation.options.auxiliary and not is_noise(fact)
    ]
    if not missing and not surplus:
        return

    def listed(names: list[str], facts: Facts) -> str:
        return ", ".join(f"'{n}' ({facts.samples[n].equation.source})" for n in names)

    said = []
    if missing:
        said.append(
            f"latent {listed(missing, model)} of model `{model_name}` has no counterpart in guide `{guide_name}`"
        )
    if surplus:
        where = "is observed in" if any((n, 0) in model.costs for n in surplus) else "does not exist in"
        said.append(f"{listed(surplus, guide)} of guide `{guide_name}` {where} model `{model_name}`")
    raise SiteMismatchError(
        "; ".join(said) + ". The guide must sample exactly the model's latent sites, under the same names; a site that "
        "is data must be stated in the model with `elbax.observe`."
    )


def _check_site(name: str, guide: Facts, model: Facts) -> None:
    g, m = guide.samples[name], model.samples[name]
    q, p = abstract_distribution(g.equation), abstract_distribution(m.equation)
    place = f"site '{name}' (guide {g.equation.source}, model {m.equation.source})"
    q_shape, p_shape = (*g.loops, *q.shape, *q.event_shape), (*m.loops, *p.shape, *p.event_shape)
    if q_shape != p_shape:
        raise SiteMismatchError(
            f"{place} has shape {q_shape} in the guide and {p_shape} in the model. Give both the same shape, for "
            "example with `.expand`."
        )
    if np.issubdtype(g.value_dtype, np.inexact) != np.issubdtype(m.value_dtype, np.inexact):
        raise SiteMismatchError(
            f"{place} is {q.name} with dtype {g.value_dtype} in the guide and {p.name} with dtype {m.value_dtype} in "
            "the model: one is discrete, the other is not."
        )
    if g.equation.options.scale != m.equation.options.scale:
        raise SiteMismatchError(
            f"{place} has scale {g.equation.options.scale:g} in the guide, {m.equation.options.scale:g} in the model. "
            "A subsampled latent must have the same scale, num_data / batch_size, in both."
        )
    if q.name != "Delta" and _leaves_support(q.one.support, p.one.support):
        raise SiteMismatchError(
            f"{place}: the guide's {q.name} covers the real line, but the model's {p.name} has support "
            f"{_support_name(p.one.support)}, so draws would have probability zero. Use a guide with that support, "
            "such as a TransformedDistribution with `numpyro.distributions.biject_to(support)`."
        )


def _innermost(support: Any) -> Any:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def _support_name(support: Any) -> str:
    return type(_innermost(support)).__name__.strip("_")


def _leaves_support(q: Any, p: Any) -> bool:
    """Whether draws on the whole real line may fall outside the support of the model."""
    real = (type(constraints.real), type(constraints.real_vector))
    whole = (*real, type(_innermost(constraints.real_vector)))
    return isinstance(_innermost(q), whole) and not isinstance(_innermost(p), whole)
