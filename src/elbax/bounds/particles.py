"""What bounds with several particles share: a function of the log-weights of each datum, and ways to differentiate it.

    F(log_w_1, .., log_w_K),      log_w_k = log p(x, z_k) - log q(z_k | x),      z_k ~ q(. | x)

A bound is the function `F` (`elbax.bounds.log_weights`); a gradient (`elbax.bounds.gradients`) says how its expectation
is differentiated. The particles and the costs of each datum are found here, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.bounds.base import Bound
from elbax.bounds.elbo import ELBO, elbo_costs
from elbax.bounds.pair import Pair, Run, Values
from elbax.bounds.per_datum import data_relations, sum_per_datum
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators.ghost import ghost
from elbax.graph.analysis import SampleFact
from elbax.graph.graph import abstract_distribution
from elbax.graph.sites import Derivative

__all__ = ["Gradient", "ParticleBound", "Particles", "Total"]


@dataclass(frozen=True)
class Particles:
    """The particles of all data, as a gradient sees them.

    Attributes:
        log_w: log-weights, differentiable in the ways of the nodes' estimators. Shape `[num_particles, num_data]`.
        log_q: summed log-densities of the sites that the gradient differentiates `BY_DENSITY`. Same shape.
        of_model: the log-weights without log q, as functions of everything but the values. Same shape.
        of_values: the log-weights as functions of the values alone. Same shape.
    """

    log_w: jax.Array
    log_q: jax.Array
    of_model: Callable[[], jax.Array]
    of_values: Callable[[], jax.Array]


class Gradient(eqx.Module):
    """Base of the ways to differentiate the expectation of a bound with several particles."""

    def requires(self, bound: Any) -> str | None:
        """Why a bound cannot be differentiated in this way, or `None`."""
        return None

    def derivative(self, site: SampleFact) -> Derivative:
        """What is done about the derivative of a site's draws."""
        return Derivative.BY_ESTIMATOR

    def surrogate(self, bound: Any, particles: Particles) -> jax.Array | None:
        """A function whose derivative estimates that of the expected bound, `[num_data]`; `None` for the bound itself.

        Where draws are the estimators' business, they add what is missing.
        """
        raise NotImplementedError


class Total(Gradient):
    """The derivative of the bound as it stands, whatever the estimators of the nodes are.

    For pathwise nodes `sum_k dF/dlog_w_k (d log_w_k / dz_k dz_k/dphi + d log_w_k / dphi)`. Unbiased for every bound.
    Its signal-to-noise ratio for the guide falls as `K^(-1/2)` for importance-weighted bounds: see `DReG`.

    References:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, ICML 2018.
    """

    def surrogate(self, bound: Any, particles: Particles) -> jax.Array | None:
        """None is needed."""
        return None


_TWICE = (
    "{bound} with gradient={gradient} was differentiated twice. Its first derivative estimates the gradient; its "
    "second does not estimate the Hessian. Leave out `gradient`, and make all sites pathwise."
)


class ParticleBound(Bound):
    """Base of bounds that are a function of the log-weights of each datum's particles.

    One cost, with one element per datum: the log-weights of a datum are those of its own latents, found by following
    the leading axis of the data through model and guide.

    Attributes:
        num_particles: `K`, of which the bound is a function. With one particle all of these are the sampled ELBO.
        num_samples: independent bounds that are averaged.
        gradient: how the expectation of the bound is differentiated.
    """

    num_particles: eqx.AbstractVar[int]
    num_samples: eqx.AbstractVar[int]
    gradient: eqx.AbstractVar[Gradient]

    gradients: ClassVar[tuple[type[Gradient], ...]] = (Total,)
    is_upper: ClassVar[bool] = False

    def __check_init__(self) -> None:
        if not isinstance(self.gradient, self.gradients):
            valid = " or ".join(f"`elbax.{g.__name__}()`" for g in self.gradients)
            raise ConfigError(
                f"{type(self).__name__}(gradient={self.gradient!r}): this bound can be differentiated by {valid}."
            )
        if (obstacle := self.gradient.requires(self)) is not None:
            raise ConfigError(f"{type(self).__name__}(gradient={self.gradient!r}): {obstacle}.")

    def of(self, log_w: jax.Array) -> jax.Array:
        """The bound of each datum. `log_w` has shape `[num_particles, num_data]`, the result `[num_data]`."""
        raise NotImplementedError

    def model_weights(self, log_w: jax.Array) -> jax.Array:
        """Weights `v_k = dF/dlog_w_k` of the derivatives of the model. Shape `[num_particles, num_data]`."""
        return jax.grad(lambda w: jnp.sum(self.of(w)))(log_w)

    def path_weights(self, log_w: jax.Array) -> jax.Array:
        """Weights `v_k - dv_k/dlog_w_k` of the derivatives of the draws, for `DReG`. Same shape."""

        def own_curvature(k: jax.Array) -> jax.Array:
            direction = jnp.zeros_like(log_w).at[k].set(1.0)
            return jax.jvp(self.model_weights, (log_w,), (direction,))[1][k]

        return self.model_weights(log_w) - jax.vmap(own_curvature)(jnp.arange(log_w.shape[0]))

    def density_weights(self, log_w: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Weights of the derivatives of log p(x, z) and of log q(z), for `ByDensity`. Same shape."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, jax.Array]:
        """The cost of one run, in nats per datum: minus a lower bound, or an upper bound."""
        name = type(self).__name__
        relations = data_relations(ELBO(self.model, self.guide, analytic_kl=False), args, kwargs, name)
        pair = Pair.of(self.model, self.guide, args, kwargs)
        derivatives = {site: self._derivative(fact) for site, fact in pair.latents()}
        by_density = {f"log q({site})" for site, d in derivatives.items() if d is Derivative.BY_DENSITY}

        def sum_of(run: Run, wanted: Callable[[str], bool]) -> jax.Array:
            costs = {c: value for c, value in elbo_costs(run, analytic_kl=False).items() if wanted(c)}
            return sum_per_datum(costs, relations) if costs else jnp.zeros(relations.num_data)

        def particle() -> tuple[jax.Array, jax.Array, Values]:
            run, values = pair.draw(linear=False, derivatives=derivatives)
            return -sum_of(run, lambda c: True), sum_of(run, by_density.__contains__), values

        def once() -> jax.Array:
            log_w, log_q, values = jax.vmap(particle, axis_size=self.num_particles)()

            def of_model(one: Values) -> jax.Array:
                return -sum_of(pair.at(one, by_values=False), lambda c: not c.startswith("log q("))

            def of_values(one: Values) -> jax.Array:
                return -sum_of(pair.at(one, by_values=True), lambda c: True)

            particles = Particles(log_w, log_q, lambda: jax.vmap(of_model)(values), lambda: jax.vmap(of_values)(values))
            surrogate = self.gradient.surrogate(self, particles)
            value = self.of(log_w)
            if surrogate is None:
                return value
            refusal = _TWICE.format(bound=name, gradient=f"{type(self.gradient).__name__}()")
            return ghost(jax.lax.stop_gradient(value), surrogate, refusal)

        bounds = jax.vmap(once, axis_size=self.num_samples)()
        return {name if self.is_upper else f"-{name}": (1 if self.is_upper else -1) * jnp.mean(bounds, axis=0)}

    def _derivative(self, fact: SampleFact) -> Derivative:
        derivative, eq = self.gradient.derivative(fact), fact.equation
        if derivative is not Derivative.BY_ESTIMATOR:
            dist = abstract_distribution(eq)
            obstacle = "a mask" if dist.is_masked else f"scale={eq.options.scale:g}" if eq.options.scale != 1 else None
            if obstacle is not None:
                raise EstimatorError(
                    f"site '{eq.name}' ({eq.source}) has {obstacle}, so its log q in the bound is not the log-density "
                    f"of its draw, which gradient=elbax.{type(self.gradient).__name__}() differentiates. Leave out "
                    "`gradient`."
                )
        return derivative
