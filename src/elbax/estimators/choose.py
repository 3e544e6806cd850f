"""Which estimator each node gets: the user's choice where there is one, else a rule.

The rule (`Auto`): a node is pathwise if its draws are differentiable in its parameters and reach every cost only
through differentiable operations; otherwise it is a score node. A node for which the program states a baseline is a
score node. Each estimator differentiates its own node's parameters; one graph may hold both.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from elbax.errors import EstimatorError
from elbax.estimators.base import Estimator
from elbax.estimators.fixed import Fixed
from elbax.estimators.pathwise import Pathwise
from elbax.estimators.score import Score
from elbax.graph.analysis import Facts
from elbax.graph.graph import abstract_distribution

__all__ = ["Choice", "Estimators", "choose", "credit_nodes"]

Estimators = Estimator | Mapping[str, Estimator] | None


@dataclass(frozen=True)
class Choice:
    """The estimator of a node and why it was chosen."""

    estimator: Estimator
    reason: str

    def __str__(self) -> str:
        return f"{describe(self.estimator)} ({self.reason})"


def describe(estimator: Estimator) -> str:
    """An estimator as the user would write it, without options that have their default."""
    cls = type(estimator)
    default = cls()
    options = [
        f"{name}={describe(value) if hasattr(value, '__dataclass_fields__') else value!r}"
        for name, value in vars(estimator).items()
        if value != getattr(default, name)
    ]
    return f"{cls.__name__}({', '.join(options)})"


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
    chosen: dict[str, Choice] = {}
    # Later nodes first: whether a pathwise node is covered depends on the estimators of the nodes below it.
    for name in sorted(facts.samples, key=lambda n: -facts.samples[n].index):
        if name in given:
            chosen[name] = Choice(_checked(facts, name, given[name], chosen), "chosen by you")
        else:
            chosen[name] = _by_rule(facts, name, chosen, portable=portable)
    return {name: chosen[name] for name in sorted(chosen, key=lambda n: facts.samples[n].index)}


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


def _by_rule(facts: Facts, name: str, chosen: Mapping[str, Choice], *, portable: bool) -> Choice:
    if portable and not facts.samples[name].parameters.nodes:
        return Choice(Fixed(), "its distribution depends on nothing")
    if name in facts.baselines:
        return Choice(Score(), "the program states a baseline for it")
    fact = facts.samples[name]
    obstacle = Pathwise().requires(abstract_distribution(fact.equation))
    if obstacle is not None:
        return Choice(Score(), obstacle)
    if jump := _jump(facts, fact.index):
        return Choice(Score(), jump)
    if missed := _not_covered(facts, fact.index, chosen):
        return Choice(Score(), f"it reaches {missed} without a derivative")
    return Choice(Pathwise(), "reparameterised, and all its costs are differentiable")


def _checked(facts: Facts, name: str, estimator: Estimator, chosen: Mapping[str, Choice]) -> Estimator:
    fact = facts.samples[name]
    source = fact.equation.source
    obstacle = estimator.requires(abstract_distribution(fact.equation))
    if obstacle is not None:
        raise EstimatorError(
            f"site '{name}' ({source}) cannot use {describe(estimator)}: {obstacle}. Use `elbax.Score()`, or leave "
            "the choice to elbax by not naming the site."
        )
    if isinstance(estimator, Fixed) and fact.parameters.nodes:
        raise EstimatorError(
            f"site '{name}' ({source}) has parameters that depend on the arguments of the program; Fixed() would leave "
            "their gradient out. Use `elbax.Score()` or `elbax.Pathwise()`."
        )
    if estimator.pathwise and (missed := _not_covered(facts, fact.index, chosen)):
        where = _jump(facts, fact.index) or "a stop_gradient lies on every path"
        raise EstimatorError(
            f"site '{name}' ({source}) is Pathwise(), but it reaches {missed} only without a derivative ({where}), so "
            "its gradient would silently be zero there. Use `elbax.Score()` for this site."
        )
    return estimator


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


def _not_covered(facts: Facts, node: int, chosen: Mapping[str, Choice]) -> str | None:
    """A cost that a pathwise node influences without any derivative reaching it, quoted; `None` if there is none.

    A derivative reaches a cost along differentiable operations, or by way of a later score node whose parameters it
    reaches: that node's own term then accounts for all costs below it.
    """
    covered = _covered(facts, node, chosen, set())
    for i, fact in enumerate(facts.costs.values()):
        if fact.dep.nodes >> node & 1 and not covered >> i & 1:
            return f"cost '{fact.equation.name}' ({fact.equation.source})"
    return None


def _covered(facts: Facts, node: int, chosen: Mapping[str, Choice], visited: set[int]) -> int:
    visited.add(node)
    bit, mask = 1 << node, 0
    for i, fact in enumerate(facts.costs.values()):
        if fact.dep.smooth & bit:
            mask |= 1 << i
    for name, sample in facts.samples.items():
        if not sample.parameters.smooth & bit or sample.index in visited:
            continue
        if name in chosen and chosen[name].estimator.pathwise:
            mask |= _covered(facts, sample.index, chosen, visited)
        elif name in chosen:
            below = 1 << sample.index
            for i, fact in enumerate(facts.costs.values()):
                if fact.dep.nodes & below:
                    mask |= 1 << i
    return mask


def credit_nodes(facts: Facts, chosen: Mapping[str, Choice]) -> int:
    """The nodes whose estimators need to know what they are credited with, as a bit mask."""
    mask = 0
    for name, choice in chosen.items():
        if choice.estimator.needs_credit:
            mask |= 1 << facts.samples[name].index
    return mask
