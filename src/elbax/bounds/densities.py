"""Densities of a model and a guide as functions of one datum's latents.

Annealing moves latents between guide and posterior, so it needs `log q(z | x)` and `log w = log p(x, z) - log q(z | x)`
at values of its own. Both programs are data here: the pair is evaluated with the values in place of the draws. Values
are unconstrained, one array per site; what the support of the guide's distribution makes of them is the latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro.distributions.transforms import biject_to

from elbax.bounds.elbo import ELBO
from elbax.errors import ProgramError
from elbax.estimators.ghost import sum_of
from elbax.estimators.support import support_of
from elbax.graph import ir
from elbax.graph.analysis import Facts
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Records, cost_key, evaluate, site_keys
from elbax.graph.graph import abstract_distribution, build
from elbax.graph.ir import Block
from elbax.graph.tracing import Arguments

__all__ = ["Densities", "Point"]

# By site name; arrays with the axes of the loops around the site first.
Latents = dict[str, jax.Array]


class Point(NamedTuple):
    """Log-densities at some latents, in nats; scalars.

    Attributes:
        log_q: of the guide, as a density of the unconstrained latents.
        log_w: `log p(x, z) - log q(z | x)`, whatever the parameterisation.
    """

    log_q: jax.Array
    log_w: jax.Array


@dataclass(frozen=True, eq=False)
class Densities:
    """A model and a guide at one datum.

    Attributes:
        block: the program of the ELBO, with everything sampled.
        facts: about its sites.
        outcomes: of every site with a finite support, its elements' outcomes; the joint number of outcomes of all
            sites, if all are finite, is `num_outcomes`.
    """

    block: Block
    facts: Facts
    outcomes: dict[str, Any]

    @classmethod
    def of(cls, bound: ELBO, datum: tuple) -> Densities:
        """Traces a pair on a batch of one datum.

        Args:
            bound: `ELBO(model, guide, analytic_kl=False)`.
            datum: its arguments, arrays with one row.

        Raises:
            ProgramError: for latents of a subsample, whose density is not that of the data.
        """
        graph, _ = build(_call, (bound, *datum), {}, batch_axes=tuple(range(1, 1 + len(datum))))
        outcomes = {}
        for name, fact in graph.raw_facts.samples.items():
            options = fact.equation.options
            if options.scale != 1.0:
                raise ProgramError(
                    f"site '{name}' ({fact.equation.source}) stands for a subsample (scale {options.scale:g}); log p "
                    "of the data needs all of them. Evaluate the model on the whole data set."
                )
            outcomes[name] = support_of(abstract_distribution(fact.equation))
        return cls(graph.program, graph.raw_facts, outcomes)

    @property
    def discrete(self) -> list[str]:
        """Sites whose values are no real numbers, or corners of a simplex."""
        sites = self.facts.samples.items()
        return [n for n, f in sites if self.outcomes[n] is not None or not jnp.issubdtype(f.value_dtype, jnp.inexact)]

    @property
    def bent(self) -> dict[str, str]:
        """Names of the supports of the sites that no unconstrained coordinates cover, such as a sphere."""
        found = {}
        for name in set(self._free()) - set(self.discrete):
            support = abstract_distribution(self.facts.samples[name].equation).one.support
            try:
                biject_to(support)
            except NotImplementedError:
                while hasattr(support, "base_constraint"):
                    support = support.base_constraint
                found[name] = type(support).__name__.strip("_").lower()
        return found

    @property
    def num_outcomes(self) -> int | None:
        """Of all sites together; `None` if a site has infinitely many."""
        count = 1
        for name, outcomes in self.outcomes.items():
            if outcomes is None:
                return None
            count *= len(outcomes) ** math.prod(self.facts.samples[name].shape)
        return count

    def draw(self, key: jax.Array, bound: ELBO, datum: tuple) -> Latents:
        """Unconstrained latents, drawn from the guide."""

        def on_sample(eq: ir.Sample, dist: Lifted, key: Any) -> tuple[Any, Any, Any]:
            value = jax.lax.stop_gradient(dist.sample(key))
            return value, dist.log_prob(value), dist.over(_unconstrained, value)

        keys = site_keys(key, {name: fact.loops for name, fact in self.facts.samples.items()})
        records = self.evaluate(on_sample, keys, bound, datum)
        return {name: records.samples[name] for name in self._free()}

    def at(self, latents: Latents, bound: ELBO, datum: tuple) -> Point:
        """The log-densities at unconstrained latents."""

        def on_sample(eq: ir.Sample, dist: Lifted, given: Any) -> tuple[Any, Any, Any]:
            if given is None:
                value = dist.sample(jax.random.key(0))  # a point mass
                return value, dist.log_prob(value), jnp.zeros(())
            value, stretch = dist.over(_constrained, given)
            return value, dist.log_prob(value), jnp.sum(stretch)

        feeds = {name: latents.get(name) for name in self.facts.samples}
        records = self.evaluate(on_sample, feeds, bound, datum)
        log_w, log_q = self._densities(records)
        return Point(log_q + sum_of([jnp.sum(x) for x in records.samples.values()]), log_w)

    def constrained(self, latents: Latents, bound: ELBO, datum: tuple) -> Latents:
        """What the programs see of unconstrained latents."""

        def on_sample(eq: ir.Sample, dist: Lifted, given: Any) -> tuple[Any, Any, Any]:
            value = dist.sample(jax.random.key(0)) if given is None else dist.over(_constrained, given)[0]
            return value, dist.log_prob(value), value

        feeds = {name: latents.get(name) for name in self.facts.samples}
        return self.evaluate(on_sample, feeds, bound, datum).samples

    def log_weight(self, records: Records) -> jax.Array:
        """`log p(x, z) - log q(z | x)` of a run; a scalar."""
        return self._densities(records)[0]

    def joint(self, values: Latents, bound: ELBO, datum: tuple) -> jax.Array:
        """`log p(x, z)` at values in their supports; a scalar."""

        def on_sample(eq: ir.Sample, dist: Lifted, value: Any) -> tuple[Any, Any, Any]:
            return value, jnp.zeros(dist.shape), ()

        records = self.evaluate(on_sample, values, bound, datum)
        return self._densities(records)[0]

    # ------------------------------------------------------------------------------------------ inside

    def _free(self) -> list[str]:
        """All sites but point masses, whose values their parents determine."""
        sites = self.facts.samples.items()
        return [name for name, fact in sites if abstract_distribution(fact.equation).name != "Delta"]

    def evaluate(self, on_sample: Callable, feeds: dict[str, Any], bound: ELBO, datum: tuple) -> Records:
        """Runs the pair with sites as `on_sample` says, see `elbax.graph.evaluate`."""
        arrays = Arguments.of(_call, (bound, *datum), {}).arrays
        return evaluate(self.block, arrays, on_sample, feeds)[1]

    def _densities(self, records: Records) -> tuple[jax.Array, jax.Array]:
        """Minus the sum of all costs, and the sum of those that are log q."""
        total, log_q = [], []
        for name, part in self.facts.costs:
            value = jnp.sum(records.costs[cost_key(name, part)])
            total.append(value)
            if name.startswith("log q("):
                log_q.append(value)
        return -sum_of(total), sum_of(log_q) if log_q else jnp.zeros(())


def _constrained(d: Any, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    if getattr(d, "is_discrete", False):
        return u, jnp.zeros(())
    transform = biject_to(d.support)
    value = transform(u)
    return value, jnp.sum(transform.log_abs_det_jacobian(u, value))


def _unconstrained(d: Any, value: jax.Array) -> jax.Array:
    return value if getattr(d, "is_discrete", False) else biject_to(d.support).inv(value)


def _call(bound: ELBO, *datum: Any) -> None:
    bound(*datum)
