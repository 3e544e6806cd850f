"""Which estimator each node gets: the user's choice where there is one, else a rule.

The rule is `Auto`'s. It is applied in two steps. Whether a node is pathwise is decided on the program as written; for
the others, how elements share costs is known once the costs are split (`settle`). Each estimator differentiates its own
node's parameters; one graph may hold many kinds.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx

from elbax.errors import EstimatorError
from elbax.estimators.auto import Auto, score_like
from elbax.estimators.base import Estimator, LogProb, Site
from elbax.estimators.credits import aligned_axes, credit_shapes
from elbax.estimators.fixed import Fixed
from elbax.estimators.implicit import wraps_around
from elbax.estimators.pathwise import Pathwise
from elbax.estimators.score import Score
from elbax.graph.analysis import Facts, SampleFact
from elbax.graph.graph import abstract_distribution
from elbax.graph.relations import bits
from elbax.graph.sites import Derivative

__all__ = ["Choice", "Estimators", "choose", "credit_nodes", "describe", "settle", "site_of"]

MAX_PROBING = 16  # nodes that probe by rule

Estimators = Estimator | Mapping[str, Estimator] | None


@dataclass(frozen=True)
class Choice:
    """The estimator of a node and why it was chosen; `rule` is set while a score-like node has yet to get its kind."""

    estimator: Estimator
    reason: str
    rule: Auto | None = None

    def __str__(self) -> str:
        return f"{describe(self.estimator)} ({self.reason})"


def describe(estimator: Any) -> str:
    """An estimator as the user would write it, without options that have their default."""
    options = []
    for f in dataclasses.fields(estimator):
        value = getattr(estimator, f.name)
        if not bool(eqx.tree_equal(value, f.default)):
            shown = describe(value) if dataclasses.is_dataclass(value) else repr(value)
            options.append(f"{f.name}={shown}")
    return f"{type(estimator).__name__}({', '.join(options)})"


def choose(facts: Facts, spec: Estimators, program: str, *, portable: bool = False) -> dict[str, Choice]:
    """The estimator of every sample node.

    Args:
        facts: the analysis of the program as written. (Terms of a split cost would not do: `logsumexp` is a sum with
            one summand that has no derivative, and yet is differentiable.)
        spec: one estimator for all nodes, or estimators by node name (the others by rule), or `None` (all by rule).
        program: name of the program, for errors.
        portable: whether the program holds no values of an outer transformation, whose derivatives could be wanted.

    Raises:
        EstimatorError: for a name that is no node, or an estimator that is not valid for its node.
    """
    given = _given(facts, spec, program)
    names = sorted(facts.samples, key=lambda n: facts.samples[n].index)
    rules = {name: rule for name, rule in given.items() if isinstance(rule, Auto)}
    given = {name: estimator for name, estimator in given.items() if name not in rules}
    chosen = {
        name: Choice(given[name], "chosen by you")
        if name in given
        else _by_rule(facts, name, rules.get(name, Auto()), portable=portable)
        for name in names
    }
    for name in given:
        _check(facts, name, given[name])
    return _covered_everywhere(facts, chosen, given)


def _given(facts: Facts, spec: Estimators, program: str) -> dict[str, Estimator]:
    if spec is None:
        return {}
    if isinstance(spec, Estimator):
        return dict.fromkeys(facts.samples, spec)
    if not isinstance(spec, Mapping):
        raise EstimatorError(
            f"estimators must be an estimator, such as `elbax.Score()`, or a dict from site names to estimators; got "
            f"{spec!r}."
        )
    for name, estimator in spec.items():
        if name not in facts.samples:
            near = difflib.get_close_matches(name, facts.samples, n=3, cutoff=0.4) or list(facts.samples)[:5]
            raise EstimatorError(
                f"estimators names '{name}', but program `{program}` has no such sample site. Did you mean "
                f"{' or '.join(repr(n) for n in near) or 'to sample something first'}?"
            )
        if not isinstance(estimator, Estimator):
            raise EstimatorError(
                f"the estimator given for site '{name}' is {estimator!r}, which is not an estimator object. Use for "
                "example `elbax.Score()` or `elbax.Pathwise()` (with parentheses)."
            )
    return dict(spec)


def _by_rule(facts: Facts, name: str, rule: Auto, *, portable: bool) -> Choice:
    fact = facts.samples[name]
    if fact.equation.options.derivative is Derivative.BY_DENSITY:
        return Choice(Fixed(), "the bound differentiates its log-density")
    if portable and not fact.parameters.nodes:
        return Choice(Fixed(), "its distribution depends on nothing")
    if name in facts.baselines:
        return Choice(Score(), "the program states a baseline for it")
    site = site_of(facts, name)
    obstacle = Pathwise().requires(site) or _jump(facts, fact.index) or wraps_around(site.dist)
    if obstacle is not None:
        _check_by_draw(fact, obstacle)
        return Choice(Score(), obstacle, rule)
    return Choice(Pathwise(), "reparameterised, and all its costs are differentiable", rule)


def _check(facts: Facts, name: str, estimator: Estimator) -> None:
    """Refuses an estimator that the user has chosen and that is not valid for its node, whatever the others are."""
    fact = facts.samples[name]
    source = fact.equation.source
    derivative = fact.equation.options.derivative
    if derivative is Derivative.BY_DENSITY and not isinstance(estimator, Fixed):
        raise EstimatorError(
            f"site '{name}' ({source}) is {describe(estimator)}, but the bound differentiates the log-density of this "
            "site itself; an estimator would count it twice. Leave the choice to elbax by not naming the site, or give "
            "the bound another `gradient`."
        )
    if derivative is Derivative.BY_DENSITY:
        return
    if not isinstance(estimator, (Pathwise, Fixed)):
        _check_by_draw(fact, f"it is {describe(estimator)}")
    if estimator.pathwise:  # of the others, what they require is only known once costs are split
        _refuse(site_of(facts, name), estimator)
    if isinstance(estimator, Fixed) and fact.parameters.nodes:
        raise EstimatorError(
            f"site '{name}' ({source}) has parameters that depend on the arguments of the program; Fixed() would leave "
            "their gradient out. Use `elbax.Score()` or `elbax.Pathwise()`."
        )


def _check_by_draw(fact: SampleFact, obstacle: str) -> None:
    """Refuses a node whose draws have to be reparameterised for its bound, and are not."""
    if fact.equation.options.derivative is Derivative.BY_DRAW:
        raise EstimatorError(
            f"site '{fact.equation.name}' ({fact.equation.source}) cannot be doubly reparameterised, as the bound's "
            f"`gradient=elbax.DReG()` asks for: {obstacle}. Use `elbax.Pathwise()` for it where that is possible, or "
            "another gradient, such as `gradient=elbax.VIMCO()` of `elbax.IWAE`, which leaves other sites pathwise."
        )


def _refuse(site: Site, estimator: Estimator) -> None:
    obstacle = estimator.requires(site)
    if obstacle is None and estimator.probes and site.loops:
        obstacle = (
            f"it stands in a loop of {site.loops[0]} steps, and what the costs would be with another value at one step "
            "could only be found by running the rest of the loop again at every step"
        )
    if obstacle is not None:
        raise EstimatorError(
            f"site '{site.name}' ({site.source}) cannot use {describe(estimator)}: {obstacle}. Use `elbax.Score()`, or "
            "leave the choice to elbax by not naming the site."
        )


def site_of(facts: Facts, name: str) -> Site:
    """What estimators may ask about a node, as far as an analysis knows it."""
    fact = facts.samples[name]
    return Site(
        name,
        fact.equation.source,
        abstract_distribution(fact.equation),
        fact.loops,
        fact.shape,
        credit_shapes(facts, name),
        aligned_axes(facts, name),
        LogProb.of(fact.equation),
        _jump(facts, fact.index),
    )


def settle(
    facts: Facts, sites: dict[str, Site], chosen: Mapping[str, Choice]
) -> tuple[dict[str, Choice], dict[str, Site]]:
    """Completes choices by rule and checks all of them against what is known once the costs are split.

    Raises:
        EstimatorError: for an estimator whose requirements a node does not meet.
    """
    chosen = _settled(chosen, sites)
    drawn = {name: facts.samples[name].index for name, c in chosen.items() if not c.estimator.pathwise}
    after = {}
    for name, site in sites.items():
        bit = 1 << facts.samples[name].index
        jumps = next((n for n in drawn if n != name and facts.samples[n].parameters.nodes & bit), None)
        if site.smooth is None and jumps is not None:
            site = site._replace(smooth=f"'{jumps}', which it influences, is drawn without derivative")
        after[name] = site
        _refuse(site, chosen[name].estimator)
    return chosen, after


def _settled(chosen: Mapping[str, Choice], sites: Mapping[str, Site]) -> dict[str, Choice]:
    open_nodes = {n: c.rule for n, c in chosen.items() if c.rule is not None and not c.estimator.pathwise}
    kinds = {name: score_like(rule, sites[name]) for name, rule in open_nodes.items()}
    # Each probe runs what is below its node: in a long chain of nodes that would be quadratic in their number.
    probing = [name for name, (estimator, _) in kinds.items() if estimator.probes]
    if len(probing) > MAX_PROBING:
        why = f"one of {len(probing)} nodes like it, too many to probe each"
        kinds |= {name: (Score(), why) for name in probing}
    settled = {}
    for name, choice in chosen.items():
        estimator, why = kinds.get(name, (choice.estimator, ""))
        settled[name] = Choice(estimator, f"{choice.reason}; {why}" if why else choice.reason)
    return settled


def _jump(facts: Facts, node: int) -> str | None:
    """Where the value of a node first goes through an operation with jumps on its way to a cost."""
    bit = 1 << node
    reached = [f.dep.cut for f in facts.costs.values()] + [f.parameters.cut for f in facts.samples.values()]
    if not any(cut & bit for cut in reached):
        return None
    for nodes, primitive, source in facts.cuts:
        if nodes & bit:
            return f"it goes through `{primitive}` ({source}), which jumps"
    return "it decides between branches"


# ------------------------------------------------------------------------------------------ where derivatives arrive


def _covered_everywhere(facts: Facts, chosen: dict[str, Choice], given: Mapping[str, Estimator]) -> dict[str, Choice]:
    """The choice in which every pathwise node reaches with a derivative each cost that it influences.

    A derivative reaches a cost along differentiable operations, or by way of a later score node whose parameters it
    reaches: that node's own term accounts for all costs below it. A node that misses a cost becomes a score node, which
    can only help the nodes above it; so the last of them gives way first.
    """
    paths, costs = _Paths(facts), list(facts.costs.values())
    while True:
        covered = paths.covered(chosen)
        missed = {
            name: costs[_first(left)]
            for name, choice in chosen.items()
            if choice.estimator.pathwise and (left := paths.below[name] & ~covered[name])
        }
        give_way = [name for name in missed if name not in given]
        if not give_way:
            break
        cost = missed[give_way[-1]].equation
        reason = f"it reaches cost '{cost.name}' ({cost.source}) without a derivative"
        _check_by_draw(facts.samples[give_way[-1]], reason)
        chosen = {**chosen, give_way[-1]: Choice(Score(), reason, chosen[give_way[-1]].rule)}
    for name, cost in missed.items():
        fact = facts.samples[name]
        where = _jump(facts, fact.index) or "a stop_gradient lies on every path"
        raise EstimatorError(
            f"site '{name}' ({fact.equation.source}) is {describe(given[name])}, but it reaches cost "
            f"'{cost.equation.name}' ({cost.equation.source}) only without a derivative ({where}), so its gradient "
            "would silently be zero there. Use `elbax.Score()` for this site."
        )
    return chosen


class _Paths:
    """How the sample nodes reach costs; sets of costs are bit masks.

    Attributes:
        below: for each node, the costs that it influences.
        smooth: the costs that it reaches along differentiable operations.
        after: the nodes whose parameters it reaches along differentiable operations.
    """

    def __init__(self, facts: Facts) -> None:
        names = {fact.index: name for name, fact in facts.samples.items()}
        self.below, self.smooth = dict.fromkeys(facts.samples, 0), dict.fromkeys(facts.samples, 0)
        self.after: dict[str, list[str]] = {name: [] for name in facts.samples}
        for i, fact in enumerate(facts.costs.values()):
            for table, nodes in ((self.below, fact.dep.nodes), (self.smooth, fact.dep.smooth)):
                for node in bits(nodes):
                    if node in names:
                        table[names[node]] |= 1 << i
        for name, sample in facts.samples.items():
            for node in bits(sample.parameters.smooth):
                if node in names:
                    self.after[names[node]].append(name)
        self.order = sorted(facts.samples, key=lambda n: -facts.samples[n].index)

    def covered(self, chosen: Mapping[str, Choice]) -> dict[str, int]:
        """For each node, the costs that a derivative of its value reaches."""
        covered, changed = dict(self.smooth), True
        while changed:  # once, unless a loop leads from a later node back to an earlier one
            changed = False
            for name in self.order:
                mask = covered[name]
                for later in self.after[name]:
                    mask |= covered[later] if chosen[later].estimator.pathwise else self.below[later]
                changed |= mask != covered[name]
                covered[name] = mask
        return covered


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def credit_nodes(facts: Facts, chosen: Mapping[str, Choice]) -> int:
    """The nodes whose estimators need to know what they are credited with, as a bit mask."""
    mask = 0
    for name, choice in chosen.items():
        if choice.estimator.needs_credit:
            mask |= 1 << facts.samples[name].index
    return mask
