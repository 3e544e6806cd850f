"""REBAR and RELAX: the score function of a discrete node with a relaxation of its costs as control variate.

The draw is `D = H(z)`: the sign of `z = a + Logistic noise` for a Bernoulli, the largest entry of `z = log p + Gumbel
noise` for a one-hot node with logits `a`. `zt` is drawn anew from `z` given `D`. For every smooth `c`

    grad E c(z) = E[c(zt) grad log p(D) + grad c(zt)],

so that, with `c` close to the costs, hardly anything is left for the score function to do.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import log_prob_of, with_events
from elbax.estimators.logits import stated_logits
from elbax.estimators.relaxed import no_relaxation
from elbax.estimators.relaxed_noise import RELAXATIONS, finite
from elbax.graph.distributions import Lifted

__all__ = ["REBAR", "RELAX", "RelaxedState"]


class RelaxedState(NamedTuple):
    """What is learned of the control variate.

    Attributes:
        params: `log_temperature` and `scale`; of RELAX also the arrays of its network.
        opt_state: of Adam.
    """

    params: dict[str, jax.Array]
    opt_state: Any


class REBAR(Estimator):
    """REBAR, for binary and one-hot nodes whose costs are smooth functions of the draws.

        (f(D) - eta f(S(zt))) (D - p) + eta d/da [f(S(z)) - f(S(zt))],

    with `S(z) = sigmoid(z / temperature)` for a Bernoulli and `softmax(z / temperature)` for a one-hot node.
    Temperature and scale `eta` are learned: they follow the squared gradient down (Adam). Unbiased at all values of
    them.

    Use it where a smooth function, such as a decoder, sees the draws. They enter the program as floats. Refused where
    the costs, or the parameters of a node that is drawn without derivative, jump in the draws. Cost: three evaluations,
    two of them forward and backward, and their second derivatives for learning.

    Attributes:
        temperature: to start with.
        scale: of the control variate, to start with.
        learning_rate: of Adam; zero to hold both.

    References:
        Tucker et al., REBAR: Low-variance, Unbiased Gradient Estimates for Discrete Latent Variable Models, NeurIPS
        2017, equation 6, section 3.2 and, for categories, the appendix.
    """

    temperature: float = 0.5
    scale: float = 1.0
    learning_rate: float = 1e-3

    probes: ClassVar[bool] = True
    as_float: ClassVar[bool] = True

    def __check_init__(self) -> None:
        _check_options("REBAR", self.temperature, self.learning_rate)

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli or one-hot node, and costs that are smooth in its draws."""
        return no_relaxation(site) or site.smooth

    def num_evaluations(self, site: Site) -> int:
        """The draw and two relaxed values."""
        return 3

    def init(self, key: jax.Array, site: Site) -> RelaxedState:
        """Temperature and scale to start with."""
        return _first_state(_relaxation(self.temperature, self.scale), self.learning_rate)

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw, with the noise of the relaxed variables before and after it is known."""
        return _draw(key, dist, log_prob)

    def work(self, context: Context) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The estimate, and the derivative of its square with respect to what is learned."""
        return _work(context, lambda params, z, logits: jnp.zeros((1,) * z.ndim, z.dtype))

    def term(self, context: Context) -> jax.Array:
        """The estimate times the logits."""
        return jnp.sum(context.work[0] * context.aux[0])

    def update(self, context: Context) -> RelaxedState:
        """One step of Adam on the squared estimate."""
        return _updated(context, self.learning_rate)


class RELAX(Estimator):
    """RELAX, for nodes whose costs are smooth functions of the draws: REBAR with a learned function beside it.

        (f(D) - c(zt)) (D - p) + d/da [c(z) - c(zt)],     c(z) = eta f(S(z)) + r(z)

    The network `r` has one layer of `tanh` units; it sees the elements that share costs and their logits, and starts
    at zero. All of it follows the squared gradient down (Adam). Unbiased at all values. Otherwise like `REBAR`, also
    in cost.

    Attributes:
        temperature: to start with.
        scale: of the relaxed costs, to start with.
        hidden: units of the network.
        learning_rate: of Adam; zero to hold everything.

    References:
        Grathwohl et al., Backpropagation through the Void: Optimizing Control Variates for Black-Box Gradient
        Estimation, ICLR 2018, equations 8 and 9, and appendix B for categories.
    """

    temperature: float = 0.5
    scale: float = 1.0
    hidden: int = 100
    learning_rate: float = 1e-3

    probes: ClassVar[bool] = True
    as_float: ClassVar[bool] = True

    def __check_init__(self) -> None:
        _check_options("RELAX", self.temperature, self.learning_rate)
        if not isinstance(self.hidden, int) or self.hidden < 1:
            raise ConfigError(f"RELAX(hidden={self.hidden!r}): the network needs at least one unit.")

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli or one-hot node, and costs that are smooth in its draws."""
        return no_relaxation(site) or site.smooth

    def num_evaluations(self, site: Site) -> int:
        """The draw and two relaxed values."""
        return 3

    def init(self, key: jax.Array, site: Site) -> RelaxedState:
        """Temperature and scale to start with, and a network whose output is zero."""
        num = _rows(jnp.zeros((*site.shape, *site.dist.event_shape)), site).shape[-1]
        z_key, logits_key = jax.random.split(key)
        params = {
            "z": jax.random.normal(z_key, (num, self.hidden)) / max(num, 1) ** 0.5,
            "logits": jax.random.normal(logits_key, (num, self.hidden)) / max(num, 1) ** 0.5,
            "biases": jnp.zeros((1, self.hidden)),
            "out": jnp.zeros(self.hidden),
        }
        return _first_state(_relaxation(self.temperature, self.scale) | params, self.learning_rate)

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw, with the noise of the relaxed variables before and after it is known."""
        return _draw(key, dist, log_prob)

    def work(self, context: Context) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The estimate, and the derivative of its square with respect to what is learned."""
        return _work(context, lambda params, z, logits: _network(params, z, logits, context.site))

    def term(self, context: Context) -> jax.Array:
        """The estimate times the logits."""
        return jnp.sum(context.work[0] * context.aux[0])

    def update(self, context: Context) -> RelaxedState:
        """One step of Adam on the squared estimate."""
        return _updated(context, self.learning_rate)


def _check_options(owner: str, temperature: float, learning_rate: float) -> None:
    if not temperature > 0:
        raise ConfigError(f"{owner}(temperature={temperature!r}): must be positive.")
    if not learning_rate >= 0:
        raise ConfigError(f"{owner}(learning_rate={learning_rate!r}): must be positive, or zero to learn nothing.")


# ------------------------------------------------------------------------------------------ the estimate


def _draw(key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
    """The draw; `aux` are the logits, with derivative, the noise of `z` and `zt`, and the draw."""
    logits, kind = finite(stated_logits(dist)), RELAXATIONS[dist.name]
    noise = kind.noise(key, (2, *logits.shape), logits.dtype)
    value = kind.draw(kind.before(jax.lax.stop_gradient(logits), noise[0]))
    return Draw(value, log_prob_of(dist, value, log_prob), (logits, noise, value))


def _work(context: Context, surrogate: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    def squared(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        found = _estimate(params, context, surrogate)
        return jnp.sum(found**2), found

    slopes, found = jax.grad(squared, has_aux=True)(context.state.params)
    return jax.lax.stop_gradient((found, slopes))


def _estimate(params: dict[str, jax.Array], context: Context, surrogate: Any) -> jax.Array:
    """The gradient with respect to the logits, as a function of what is learned."""
    assert context.slopes is not None
    assert context.credit is not None
    site, (logits, noise, drawn) = context.site, jax.lax.stop_gradient(context.aux)
    kind, dtype = RELAXATIONS[site.dist.name], logits.dtype
    temperature, scale = jnp.exp(params["log_temperature"]).astype(dtype), params["scale"].astype(dtype)

    def variables(a: jax.Array) -> jax.Array:
        return jnp.stack([kind.before(a, noise[0]), kind.after(a, noise[1], drawn)])

    def own(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = surrogate(params, v, logits)
        return jnp.sum(r), r

    both, to_logits = jax.vjp(variables, logits)  # z and zt
    relaxed, to_variables = jax.vjp(lambda v: kind.relax(v / temperature), both)
    slope, r = jax.vmap(jax.grad(own, has_aux=True))(both)
    control = r[1]
    for credit, derivative in jax.vmap(context.slopes)(relaxed):
        control = control + scale * with_events(credit[1], site).astype(dtype)
        slope = slope + scale * to_variables(derivative.astype(dtype))[0]
    (moved,) = to_logits(jnp.stack([slope[0], -slope[1]]))
    return (with_events(context.credit, site).astype(dtype) - control) * kind.score(drawn, logits) + moved


# ------------------------------------------------------------------------------------------ the network of RELAX


def _network(params: dict[str, jax.Array], z: jax.Array, logits: jax.Array, site: Site) -> jax.Array:
    """`r(z)`, with the node's axes, of size one where elements share costs."""
    x, a = (_rows(jnp.tanh(v / 2), site).astype(params["z"].dtype) for v in (z, logits))
    hidden = x @ params["z"] + a @ params["logits"]
    out = jnp.tanh(hidden + jnp.broadcast_to(params["biases"], hidden.shape)) @ params["out"]
    aligned = [n if is_aligned else 1 for n, is_aligned in zip(site.shape, site.aligned, strict=True)]
    return out.astype(z.dtype).reshape(*aligned, *[1] * len(site.dist.event_shape))


def _rows(x: jax.Array, site: Site) -> jax.Array:
    """An array of the node as a matrix: a row for each group of elements that share costs."""
    aligned = [i for i, is_aligned in enumerate(site.aligned) if is_aligned]
    x = jnp.moveaxis(x, aligned, range(len(aligned)))
    rows = 1
    for n in x.shape[: len(aligned)]:
        rows *= n
    return x.reshape(rows, -1) if rows else jnp.zeros((0, 1), x.dtype)


# ------------------------------------------------------------------------------------------ learning


def _relaxation(temperature: float, scale: float) -> dict[str, jax.Array]:
    return {"log_temperature": jnp.log(jnp.full((), temperature)), "scale": jnp.full((), scale)}


def _first_state(params: dict[str, jax.Array], learning_rate: float) -> RelaxedState:
    return RelaxedState(params, optax.adam(learning_rate).init(params))


def _updated(context: Context, learning_rate: float) -> RelaxedState:
    state: RelaxedState = context.state
    updates, opt_state = optax.adam(learning_rate).update(context.work[1], state.opt_state)
    return RelaxedState(optax.apply_updates(state.params, updates), opt_state)  # type: ignore[arg-type]
