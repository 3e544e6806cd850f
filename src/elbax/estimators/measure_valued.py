"""Measure-valued derivatives: the derivative of a distribution is a difference of two distributions.

    d p(z; theta) / d theta = c(theta) (p+(z; theta) - p-(z; theta))
    d E f(z) / d theta      = c(theta) (E f(z+) - E f(z-))

Every rule gives alternatives `z_m` to a draw `z`, each with a weight `w_m(theta)`, such that

    d E f(z) / d theta = sum_m (d w_m / d theta) E (f(z_m) - f(z)).

Source: Mohamed, Rosca, Figurnov & Mnih, Monte Carlo Gradient Estimation in Machine Learning, JMLR 2020, section 6 and
table 1; couplings: section 6.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.enumerate import one_at_a_time
from elbax.estimators.fence import fence
from elbax.estimators.support import log_probs_of, mixed_size, support_of
from elbax.graph.distributions import Lifted, innermost

__all__ = ["MeasureValued"]


class MeasureValued(Estimator):
    """Measure-valued derivatives: costs at two other draws, one from each part of the derivative of the density.

    `grad E f(z) = c (E f(z+) - E f(z-)) grad theta`, for each parameter `theta` of the distribution:

    - Normal, location: `c = 1 / (sqrt(2 pi) scale)`, `z+- = loc +- scale * Rayleigh`, the same one;
      scale: `c = 1 / scale`, `z+ = loc + scale * m`, `z- = loc + scale * m * u`, `m` a two-sided Maxwell, `u` uniform;
    - Poisson, rate: `c = 1`, `z+ = z + 1`, `z- = z`;
    - Gamma, rate: `c = concentration / rate`, `z+ = z`, `z- = z + e`, `e` exponential (the concentration has no rule);
    - Exponential, rate: `c = 1 / rate`, `z+ = z`, `z- = z + e`;
    - Bernoulli, probability: `c = 1`, `z+ = 1`, `z- = 0`; Categorical: the sum over all outcomes (as `Enumerate`).

    The pairs are coupled as above, which lowers the variance for costs that vary little. Needs nothing of the costs,
    not even that they are continuous, and the variance of one element's gradient does not grow with the number of
    elements: use it where pathwise gradients do not exist and costs are cheap to probe. Elements that share costs are
    probed one at a time, at 2 evaluations per parameter for a Normal and 1 for the others, next to that of the draw.
    Not in loops.

    Attributes:
        batch_size: how many elements that share costs are probed at a time; all by default.

    References:
        Mohamed, Rosca, Figurnov & Mnih, Monte Carlo Gradient Estimation in Machine Learning, JMLR 2020, section 6.
        Pflug, Sampling derivatives of probability measures, 1989. Rosca et al., Measure-Valued Derivatives for
        Approximate Bayesian Inference, 2019.
    """

    batch_size: int | None = None

    probes: ClassVar[bool] = True

    def requires(self, site: Site) -> str | None:
        """Needs a distribution with a rule."""
        if _rule(site.dist) is not None:
            return None
        return (
            f"its distribution {site.dist.name} has no rule: there are rules for {', '.join(RULES)} and for "
            "distributions with a finite support that is known when the program is traced"
        )

    def num_evaluations(self, site: Site) -> int:
        """One for the draw and one per alternative."""
        support = support_of(site.dist)
        num = {"Normal": 4}.get(site.dist.name, 1)
        if site.dist.name not in RULES and support is not None:
            num = len(support)
        return 1 + num * mixed_size(site)

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw, with alternatives and their weights."""
        rule = _rule(dist)
        assert rule is not None
        draw_key, other_key = jax.random.split(key)
        value = jax.lax.stop_gradient(dist.sample(draw_key))
        stated = None if log_prob is LogProb.UNUSED else dist.log_prob(value)
        if log_prob is LogProb.LINEAR:
            stated = jax.lax.stop_gradient(stated)
        return Draw(value, stated, (value, rule(other_key, dist, value)))

    def term(self, context: Context) -> jax.Array:
        """`sum_m w_m stop_gradient(Q(z_m) - Q(z))`, element by element."""
        value, others = context.aux
        probe, credit = context.probe, context.credit
        assert probe is not None
        assert credit is not None

        def probed(where: jax.Array, point: jax.Array) -> jax.Array:
            where = where.reshape(where.shape + (1,) * (value.ndim - where.ndim))
            return probe(jnp.where(where, point, value)) - credit

        def element(where: jax.Array) -> jax.Array:
            change = jax.lax.stop_gradient(jax.vmap(lambda z: probed(where, z))(others.points))
            return jnp.sum(jnp.where(where, others.weights * change, 0.0))

        masks = one_at_a_time(context.site)
        if len(masks) == 1:
            return element(masks[0])
        return jnp.sum(jax.lax.map(element, masks, batch_size=self.batch_size or len(masks)))


class Alternatives(NamedTuple):
    """Other values of a node.

    Attributes:
        points: shape `[alternatives, *dist.shape, *dist.event_shape]`.
        weights: with derivatives with respect to the parameters. Shape `[alternatives, *dist.shape]`.
    """

    points: jax.Array
    weights: jax.Array


# (key, distribution, draw) -> alternatives to the draw
Rule = Callable[[jax.Array, Lifted, jax.Array], Alternatives]


def _normal(key: jax.Array, dist: Lifted, value: jax.Array) -> Alternatives:
    loc, scale = _parameters(dist, "loc", "scale")
    at, by = jax.lax.stop_gradient((loc, scale))
    rayleigh_key, maxwell_key, sign_key, uniform_key = jax.random.split(key, 4)
    rayleigh = by * jnp.sqrt(2 * jax.random.exponential(rayleigh_key, loc.shape, loc.dtype))
    maxwell = jnp.sqrt(jnp.sum(jax.random.normal(maxwell_key, (3, *loc.shape), loc.dtype) ** 2, 0))
    maxwell = by * maxwell * jax.random.rademacher(sign_key, loc.shape, loc.dtype)
    uniform = jax.random.uniform(uniform_key, loc.shape, loc.dtype)
    points = jnp.stack([at + rayleigh, at - rayleigh, at + maxwell, at + maxwell * uniform])
    of_loc, of_scale = loc / (math.sqrt(2 * math.pi) * by), scale / by
    return Alternatives(points, jnp.stack([of_loc, -of_loc, of_scale, -of_scale]))


def _poisson(key: jax.Array, dist: Lifted, value: jax.Array) -> Alternatives:
    (rate,) = _parameters(dist, "rate")
    return Alternatives((value + 1)[None], rate[None])


def _gamma(key: jax.Array, dist: Lifted, value: jax.Array) -> Alternatives:
    concentration, rate = _parameters(dist, "concentration", "rate")
    found = _longer(key, rate, value, jax.lax.stop_gradient(concentration))
    message = (
        "MeasureValued() was chosen for a Gamma whose concentration is differentiated, for which it has no rule. Use "
        "`elbax.Pathwise()` or `elbax.Score()`, or stop the gradient of the concentration."
    )
    return found._replace(weights=fence(found.weights, [concentration], message))


def _exponential(key: jax.Array, dist: Lifted, value: jax.Array) -> Alternatives:
    (rate,) = _parameters(dist, "rate")
    return _longer(key, rate, value, jnp.ones_like(rate))


def _longer(key: jax.Array, rate: jax.Array, value: jax.Array, concentration: jax.Array) -> Alternatives:
    """The draw with one more exponential added, which is a draw of concentration one higher."""
    fixed = jax.lax.stop_gradient(rate)
    more = value + jax.random.exponential(key, rate.shape, rate.dtype) / fixed
    return Alternatives(more[None], -(concentration * rate / fixed)[None])


def _bernoulli(key: jax.Array, dist: Lifted, value: jax.Array) -> Alternatives:
    p = jnp.exp(dist.density(jnp.ones_like(value)))
    return Alternatives((1 - value)[None], (jnp.asarray(1 - 2 * value, p.dtype) * p)[None])


def _finite(key: jax.Array, dist: Lifted, value: jax.Array) -> Alternatives:
    support = support_of(dist)
    assert support is not None
    points = jnp.asarray(support, value.dtype).reshape(len(support), *[1] * len(dist.shape), *dist.event_shape)
    return Alternatives(jnp.broadcast_to(points, (len(support), *value.shape)), jnp.exp(log_probs_of(dist, support)))


RULES: dict[str, Rule] = {
    "Bernoulli": _bernoulli,
    "Exponential": _exponential,
    "Gamma": _gamma,
    "Normal": _normal,
    "Poisson": _poisson,
}


def _rule(dist: Lifted) -> Rule | None:
    if dist.name in RULES:
        return RULES[dist.name]
    return None if support_of(dist) is None else _finite


def _parameters(dist: Lifted, *names: str) -> tuple[jax.Array, ...]:
    """Parameters of the distribution, in the shape of the node."""

    def of_lane(d: Any) -> tuple[jax.Array, ...]:
        return tuple(jnp.broadcast_to(getattr(innermost(d), name), d.batch_shape) for name in names)

    return dist.over(of_lane)
