"""What a guide says of every datum: draws, their densities under the posterior of any datum, KL terms, means.

The pair is one program, as in a bound. It is run in two ways: every site draws, for a batch at a time; or every site
takes given values, the latents of *one* datum, beside *each* datum of a batch, which gives `log q(z_n | x_m)` without
any assumption on how the guide computes its distributions. What does not depend on the latents (an encoder) is computed
once for the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.bounds.divergence import closed_form_kl
from elbax.bounds.pair import Run, is_noise, run_pair
from elbax.errors import ProgramError
from elbax.fit.feed import check_rows
from elbax.fit.training import as_arguments
from elbax.graph import ir
from elbax.graph.analysis import Facts
from elbax.graph.compat import Source
from elbax.graph.distributions import Lifted
from elbax.graph.evaluate import Records, cost_key, evaluate, site_keys
from elbax.graph.graph import abstract_distribution, build
from elbax.graph.tracing import Arguments

__all__ = ["Drawn", "Points", "Posteriors"]

AT_ONCE = 2**21  # densities held together: pairs of data times units

# By site name.
Values = dict[str, jax.Array]
Logs = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Drawn:
    """One site over data, the data first.

    Attributes:
        z: draws. Shape `[num_data, num_draws, ...]`.
        log_q: their log-densities, nats. Shape `[num_data, num_draws, *units]`.
        kl: KL(q || p) of each datum and unit, nats: in closed form given the draws of earlier sites, or as `log_ratio`.
            Shape `[num_data, num_draws, *units]`; empty for sites that the model does not have.
        log_ratio: `log q - log p` of the draws. The same shape.
        mean: of the posterior, or NaN where there is no closed form. Shape `[num_data, num_draws, ...]`.
    """

    z: np.ndarray
    log_q: np.ndarray
    kl: np.ndarray
    log_ratio: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class Points:
    """Data by their rows, each with draws of some sites.

    Attributes:
        rows: of the data; a row may stand here several times. Shape `[points]`.
        z: by site, draws of that datum. Shape `[points, ...]`.
    """

    rows: np.ndarray
    z: dict[str, np.ndarray]

    def at(self, chosen: np.ndarray) -> Points:
        """Some of them."""
        return Points(self.rows[chosen], {name: z[chosen] for name, z in self.z.items()})


class Posteriors:
    """A model and a guide on data.

    Attributes:
        num_data: rows of the data.
        sites: with one row per datum, in the order in which the guide draws them; also those that only the guide has.
        latents: those of them that the model has.
        order: all latents in the order of the model, with those that each depends on there.
        exact: of each latent, whether its KL is in closed form.
        left_out: latents without one row per datum, with the reason.
    """

    def __init__(self, model: Callable, guide: Callable, data: Any, batch_size: int) -> None:
        self.data, self.num_data = data, check_rows(data)
        self.size = min(batch_size, self.num_data)
        self._arrays, self._static = eqx.partition((model, guide), eqx.is_array)
        self._one = _Traced(self, self._batch(np.zeros(1, int)))
        self._many = _Traced(self, self._batch(np.arange(self.size))) if self.size > 1 else self._one
        self.exact, self.order = self._many.exact, self._many.order
        self._axes = {name: axis for name in self._many.facts.samples if (axis := self._axis(name)) is not None}
        self.sites = tuple(self._axes)
        self.latents = tuple(name for name in self.sites if name in self.exact)
        self.left_out = {
            name: f"site '{name}' ({self.source(name)}) is shared by all data"
            for name in self.order
            if name not in self._axes
        }
        self._shared: Values = {}
        self._run = jax.jit(self._draw)
        self._cross = jax.jit(self._log_sums)

    def source(self, name: str) -> Source:
        """The user's line of a site."""
        return self._many.facts.samples[name].equation.source

    def is_discrete(self, name: str) -> bool:
        """Whether the values of a site are no real numbers."""
        return abstract_distribution(self._many.facts.samples[name].equation).is_discrete

    def is_chain(self, name: str) -> bool:
        """Whether elements of a site depend on other elements of it (steps of a loop)."""
        fact = self._many.facts.samples[name]
        return fact.parameters.rels(fact.index) is not None

    def draw(self, key: jax.Array, num_draws: int) -> Iterator[tuple[np.ndarray, dict[str, Drawn]]]:
        """Draws for all data, a batch at a time: the batch's rows, and what its sites said.

        Sites that all data share are drawn once, with the first batch, and keep that value.

        Raises:
            ProgramError: if the posterior of a datum depends on the other data of its batch.
        """
        for start in range(0, self.num_data, self.size):
            rows = np.arange(start, min(start + self.size, self.num_data))
            keys = jax.random.split(jax.random.fold_in(key, start), num_draws)
            batch = self._batch(self._filled(rows))
            if start == 0 and len(self._axes) < len(self._many.facts.samples):
                self._shared = self._run(keys, self._arrays, {}, batch)[1]
            found, _ = self._run(keys, self._arrays, self._shared, batch)
            drawn = {
                name: Drawn(*(np.moveaxis(np.asarray(x), 1, 0)[: len(rows)] for x in parts))
                for name, parts in found.items()
            }
            if start == 0 and self.size > 1:
                self._check_apart(drawn)
            yield rows, drawn

    def log_sums(self, sites: tuple[str, ...], n: Points, m: Points) -> Logs:
        """Sums over other data m of the densities of draws z_n under the posterior of x_m.

        Args:
            sites: whose draws are looked at, in the order of the guide. Where their distributions in the guide depend
                on further sites, those keep the draw of datum m: they count as part of it.
            n: data with their draws of `sites`.
            m: data with their draws of all sites; the datum of a draw is left out of its own sum.

        Returns:
            For each site, with `a` those of `sites` before it:  `log sum_m q(a, z | m)`, shape `[draws]`, and
            `log sum_m q(a | m) q(z_u | a, m)` of each unit, shape `[draws, *units]`.
        """
        total: Logs | None = None
        for part in _parts(np.arange(len(m.rows)), self.size):
            those = m.at(self._filled(part))
            # Filled up with rows that do not count.
            weights = np.where(np.arange(self.size) < len(part), those.rows, -1)
            batch, found = self._batch(those.rows), []
            for block in _parts(np.arange(len(n.rows)), self.size):
                these = n.at(self._filled(block))
                given = {name: these.z[name] for name in sites}
                sums = self._cross(self._arrays, self._shared | those.z, batch, weights, given, these.rows)
                found.append(jax.tree.map(lambda x: np.asarray(x, np.float64)[: len(block)], sums))  # noqa: B023
            sums = jax.tree.map(lambda *xs: np.concatenate(xs), *found)
            total = sums if total is None else jax.tree.map(np.logaddexp, total, sums)
        assert total is not None
        return total

    # ------------------------------------------------------------------------------------------ inside

    def _batch(self, rows: np.ndarray) -> tuple:
        return as_arguments(jax.tree.map(lambda x: jnp.asarray(x[rows]), self.data))

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a whole batch, so that one compilation serves all."""
        return np.concatenate([rows, np.full(self.size - len(rows), rows[-1])])

    def _axis(self, name: str) -> int | None:
        """The axis of a site that goes along the data: the only one that grows with them."""
        one, many = (t.facts.samples[name] for t in (self._one, self._many))
        if is_noise(many) or len(one.shape) != len(many.shape):
            return None
        grown = [a for a, (n, m) in enumerate(zip(one.shape, many.shape, strict=True)) if (n, m) == (1, self.size)]
        if self.size == 1:
            return grown[0] if grown else None
        return grown[0] if len(grown) == 1 else None

    def _draw(self, keys: jax.Array, arrays: Any, shared: Values, batch: tuple) -> tuple[dict[str, tuple], Values]:
        """What the sites of single data said, and the values of the others; draws first."""

        def one(key: jax.Array) -> tuple[dict[str, tuple], Values]:
            records = self._many.draw(key, arrays, shared, batch)
            found = {name: self._said(name, records) for name in self.sites}
            return found, {n: z for n, z in records.samples.items() if n not in self._axes}

        found, values = jax.vmap(one)(keys)
        return found, {name: x[0] for name, x in values.items()}

    def _said(self, name: str, records: Records) -> tuple:
        """The parts of `Drawn` of a site, data first."""

        def cost(what: str) -> jax.Array | None:
            value = records.costs.get(cost_key(f"{name}\t{what}", 0))
            return None if value is None else jnp.moveaxis(value, self._axes[name], 0)

        z = jnp.moveaxis(records.samples[name], self._axes[name], 0)
        log_q, log_p, kl, mean = cost("log q"), cost("log p"), cost("kl"), cost("mean")
        assert log_q is not None
        ratio = jnp.zeros((len(z), 0))
        if log_p is not None:
            # The two may divide the site into elements in different ways; then it counts as one unit.
            ratio = log_q - log_p if log_q.shape == log_p.shape else _flat(log_q).sum(1) - _flat(log_p).sum(1)
        mean = jnp.full(z.shape, jnp.nan) if mean is None else mean
        return z, log_q, ratio if kl is None else kl, ratio, mean

    def _log_sums(
        self, arrays: Any, others: Values, batch: tuple, rows: jax.Array, given: Values, own: jax.Array
    ) -> Logs:
        in_place = {n: jnp.moveaxis(z, 0, self._axes[n]) if n in self._axes else z for n, z in others.items()}

        def one(pair: tuple[Values, jax.Array]) -> Logs:
            latents, row = pair
            values = {
                name: jnp.moveaxis(jnp.broadcast_to(z, (self.size, *z.shape)), 0, self._axes[name])
                for name, z in latents.items()
            }
            records = self._many.at(in_place | values, arrays, batch)
            before = jnp.where((rows >= 0) & (rows != row), 0.0, -jnp.inf)  # [m]
            sums = {}
            for name in (name for name in self.sites if name in given):
                log_q = jnp.moveaxis(records.costs[cost_key(f"{name}\tlog q", 0)], self._axes[name], 0)  # [m, *units]
                each = before.reshape(-1, *[1] * (log_q.ndim - 1)) + log_q
                before = before + _flat(log_q).sum(1)
                sums[name] = jax.nn.logsumexp(before), jax.nn.logsumexp(each, axis=0)
            return sums

        units = sum(math.prod(self._many.facts.samples[name].shape) for name in given)
        return jax.lax.map(one, (given, own), batch_size=max(1, AT_ONCE // units))

    def _check_apart(self, drawn: dict[str, Drawn]) -> None:
        """Refuses guides in which data influence each other's posteriors."""
        given = {name: jnp.moveaxis(d.z[:1, 0], 0, self._axes[name]) for name, d in drawn.items()}
        records = self._one.at(self._shared | given, self._arrays, self._batch(np.zeros(1, int)))
        for name, d in drawn.items():
            alone = float(jnp.sum(records.costs[cost_key(f"{name}\tlog q", 0)]))
            together = float(d.log_q[0, 0].sum())
            if abs(together - alone) > 1e-3 * (1 + abs(alone)):
                raise ProgramError(
                    f"data influence each other's posteriors (batch normalisation?): log q of the first datum at site "
                    f"'{name}' ({self.source(name)}) is {alone:.6g} alone and {together:.6g} among {self.size}, so "
                    "q(z | x) of one datum is not defined. Evaluate with the statistics of training fixed."
                )


class _Traced:
    """The program of a pair at one batch size: as costs, of each latent `log q`, `log p`, mean and closed-form KL."""

    def __init__(self, owner: Posteriors, batch: tuple) -> None:
        self.exact: dict[str, bool] = {}
        self.order: dict[str, tuple[str, ...]] = {}
        static = owner._static

        def program(arrays: Any, *batch: Any) -> dict[str, jax.Array]:
            model, guide = eqx.combine(arrays, static)
            run = run_pair(model, guide, batch, {}, linear=False)
            if not run.latents:
                raise ProgramError("the model has no latent sites, so there are no posteriors to look at.")
            nodes = {name: run.model.samples[name] for name in run.latents}
            self.order = {
                name: tuple(
                    a for a, fact in nodes.items() if nodes[name].parameters.nodes >> fact.index & 1 and a != name
                )
                for name in nodes
            }
            return self._costs(run)

        self.program = program
        self.graph, _ = build(program, (owner._arrays, *batch), {})
        self.facts: Facts = self.graph.raw_facts

    def draw(self, key: jax.Array, arrays: Any, shared: Values, batch: tuple) -> Records:
        """Every site draws but those whose value is given."""
        keys = site_keys(key, {name: fact.loops for name, fact in self.facts.samples.items()})

        def on_sample(eq: ir.Sample, dist: Lifted, feed: Any) -> tuple[Any, Any, Any]:
            if eq.name in shared:
                return feed, dist.log_prob(feed), feed
            value, log_q = dist.draw_with_log_prob(feed, differentiable=False)
            return value, log_q, value

        return self._evaluate(on_sample, keys | shared, arrays, batch)

    def at(self, values: Values, arrays: Any, batch: tuple) -> Records:
        """Every site takes the value that it is given."""

        def on_sample(eq: ir.Sample, dist: Lifted, value: Any) -> tuple[Any, Any, Any]:
            return value, dist.log_prob(value), ()

        return self._evaluate(on_sample, values, arrays, batch)

    def _evaluate(self, on_sample: Any, feeds: dict[str, Any], arrays: Any, batch: tuple) -> Records:
        inputs = Arguments.of(self.program, (arrays, *batch), {}).arrays
        return evaluate(self.graph.program, inputs, on_sample, feeds)[1]

    def _costs(self, run: Run) -> dict[str, jax.Array]:
        said = {f"{name}\tlog q": value for name, value in run.auxiliary.items()}
        for name, latent in run.latents.items():
            kl, _ = closed_form_kl(run, latent)
            self.exact[name] = kl is not None
            said |= {f"{name}\tlog q": latent.log_q, f"{name}\tlog p": latent.log_p}
            if kl is not None:
                said[f"{name}\tkl"] = kl
            if (mean := _mean(latent.q)) is not None:
                said[f"{name}\tmean"] = mean
        return said


def _mean(q: Lifted) -> jax.Array | None:
    """The mean of a distribution, where it has a closed form."""
    try:
        mean = q.over(lambda d: jnp.asarray(d.mean, jnp.result_type(float)))
    except (NotImplementedError, AttributeError):
        return None
    return jnp.broadcast_to(mean, (*q.shape, *q.event_shape))


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
