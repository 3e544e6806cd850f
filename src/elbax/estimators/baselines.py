"""Baselines that learn from step to step: a moving average, and a network on what the node was drawn from.

A baseline may not depend on the node's own draw, or the gradient is biased. What is subtracted at a step is therefore
made of credits of earlier steps, and of the distribution that the node is drawn from, which is known before the draw;
the credit of the step itself enters the state afterwards.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Site
from elbax.estimators.score import Baseline
from elbax.graph.distributions import Lifted, innermost

__all__ = ["Learned", "MovingAverage"]


class MovingAverage(Baseline):
    """The exponential average of the node's credits at earlier steps.

    `b = sum_i decay^i Q_(t-i) / sum_i decay^i`, i = 1, 2, ..: debiased, so that it is right from the second step on.
    One number for each step of the loops around the node, averaged over its other axes. Costs nothing, and takes away
    what is constant in the costs; what varies from datum to datum it leaves.

    Attributes:
        decay: of the weight of a credit per step, between 0 and 1.

    References:
        Williams, Simple Statistical Gradient-Following Algorithms, 1992 (reinforcement baseline). Kingma & Ba, Adam,
        ICLR 2015 (debiasing).
    """

    decay: float = 0.9

    def __check_init__(self) -> None:
        between_zero_and_one("MovingAverage", self.decay)

    def init(self, key: jax.Array, site: Site) -> Any:
        """Nothing seen: the sum of credits and of their weights, for each step of the loops."""
        return jnp.zeros((2, *site.loops))

    def value(self, context: Context) -> jax.Array:
        """The average so far, zero before the first step."""
        total, weight = context.state
        return _with_axes(_ratio(total, weight), context.site)

    def update(self, context: Context) -> jax.Array:
        """Adds the credit of this step. A run of one branch among several has its share of the weight."""
        now = jnp.stack([_per_step(context.credit, context.site), _per_step(context.share, context.site)])
        return self.decay * context.state + (1 - self.decay) * now.astype(context.state.dtype)


class LearnedState(NamedTuple):
    """What a learned baseline remembers.

    Attributes:
        params: of the network.
        opt_state: of Adam.
        moments: exponential sums over earlier steps, shape `[4]`: of the weights, of the credit, of its square, of the
            squared difference between credit and baseline.
    """

    params: dict[str, jax.Array]
    opt_state: Any
    moments: jax.Array


class Learned(Baseline):
    """A network that predicts the credit from the parameters of the node's distribution (NVIL).

    `b(x) = m + s * net(x)`, where `x` are the distribution's own parameters (logits, locations, ..), of all elements
    that share their costs; `m` and `s` are the running mean and standard deviation of the credit; the network has one
    layer of `tanh` units and is trained by Adam on `(Q - b)^2`. What the parameters say of the datum, the baseline can
    know, and no more; it is unbiased because they are known before the draw. For a baseline that sees anything else,
    state it in the program with `elbax.baseline`. Use it where there are many data and only one evaluation is
    affordable. Cost: a small network, forward and backward.

    Attributes:
        hidden: units of the network.
        learning_rate: of Adam.
        decay: of the running mean and deviation.
        normalise: whether to divide the learning signal by its running standard deviation, where that is above one.
            This rescales the gradient of the node, which then no longer estimates that of the loss: biased.

    References:
        Mnih & Gregor, Neural Variational Inference and Learning in Belief Networks, ICML 2014, sections 2.3 and 3.
    """

    hidden: int = 100
    learning_rate: float = 1e-3
    decay: float = 0.9
    normalise: bool = False

    def __check_init__(self) -> None:
        between_zero_and_one("Learned", self.decay)
        if not isinstance(self.hidden, int) or self.hidden < 1:
            raise ConfigError(f"Learned(hidden={self.hidden!r}): the network needs at least one unit.")
        if not self.learning_rate > 0:
            raise ConfigError(f"Learned(learning_rate={self.learning_rate!r}): must be positive.")

    @property
    def unbiased(self) -> bool:
        """Unless the learning signal is rescaled."""
        return not self.normalise

    def observe(self, dist: Lifted) -> jax.Array:
        """The distribution's parameters on a logarithmic scale. Shape `[*dist.shape, parameters]`."""
        found = jax.lax.stop_gradient(dist.over(_parameters))
        return jnp.sign(found) * jnp.log1p(jnp.abs(found))

    def init(self, key: jax.Array, site: Site) -> LearnedState:
        """A network whose prediction is zero."""
        features = jax.eval_shape(lambda leaves: self.observe(Lifted(site.dist.structure, leaves)), site.dist.leaves)
        num = features.shape[-1] * math.prod(
            n for n, is_cell in zip(site.shape, _cells(site), strict=True) if not is_cell
        )
        params = {
            "weights": jax.random.normal(key, (num, self.hidden)) / math.sqrt(max(num, 1)),
            "biases": jnp.zeros(self.hidden),
            "out": jnp.zeros(self.hidden),
        }
        return LearnedState(params, optax.adam(self.learning_rate).init(params), jnp.zeros(4))

    def value(self, context: Context) -> jax.Array:
        """The prediction for the parameters of this step, by the network of the steps before."""
        state: LearnedState = context.state
        mean, spread = _mean_and_spread(state.moments)
        return mean + spread * self._predict(state.params, context)

    def scale(self, context: Context) -> jax.Array:
        """One, or the running deviation of the learning signal if that is asked for and larger."""
        if not self.normalise:
            return jnp.ones(())
        weight, _, _, residual = context.state.moments
        return jnp.maximum(jnp.sqrt(_ratio(residual, weight)), 1.0)

    def update(self, context: Context) -> LearnedState:
        """One step of Adam, after the credit of this step has entered mean and deviation."""
        state: LearnedState = context.state
        dtype = state.moments.dtype
        credit, share = jnp.asarray(context.credit, dtype), jnp.asarray(context.share, dtype)
        residual = credit - share * self.value(context)
        now = jnp.stack([share.mean(), credit.mean(), (credit**2).mean(), (residual**2).mean()])
        moments = self.decay * state.moments + (1 - self.decay) * now
        mean, spread = _mean_and_spread(moments)

        def loss(params: Any) -> jax.Array:
            return jnp.mean(((credit - share * mean) / spread - share * self._predict(params, context)) ** 2)

        updates, opt_state = optax.adam(self.learning_rate).update(jax.grad(loss)(state.params), state.opt_state)
        return LearnedState(optax.apply_updates(state.params, updates), opt_state, moments)  # type: ignore[arg-type]

    def _predict(self, params: dict[str, jax.Array], context: Context) -> jax.Array:
        """The network's output, with the node's axes, of size one where elements share costs."""
        site = context.site
        cells = [i for i, is_cell in enumerate(_cells(site)) if is_cell]
        shared = [i for i, is_cell in enumerate(_cells(site)) if not is_cell]
        x = context.aux.transpose(*cells, *shared, len(site.shape))
        x = x.reshape(*(site.shape[i] for i in cells), -1).astype(params["weights"].dtype)
        hidden = x @ params["weights"]
        out = jnp.tanh(hidden + jnp.broadcast_to(params["biases"], hidden.shape)) @ params["out"]
        return out.reshape([n if i in cells else 1 for i, n in enumerate(site.shape)])


def between_zero_and_one(owner: str, decay: float) -> None:
    """Checks the decay of an average."""
    if not 0.0 <= decay < 1.0:
        raise ConfigError(f"{owner}(decay={decay!r}): must be at least 0 and below 1.")


def _ratio(total: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0)


def _mean_and_spread(moments: jax.Array) -> tuple[jax.Array, jax.Array]:
    weight, total, square, _ = moments
    mean = _ratio(total, weight)
    variance = _ratio(square, weight) - mean**2
    return mean, jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 1.0)


def _per_step(x: Any, site: Site) -> jax.Array:
    """The mean of an array with the node's axes (or of a scalar) over all but the axes of loops."""
    x = jnp.asarray(x)
    x = x.mean(axis=tuple(range(len(site.loops), x.ndim))) if x.ndim else x
    return jnp.broadcast_to(x, site.loops)


def _with_axes(x: jax.Array, site: Site) -> jax.Array:
    """An array with the axes of loops, as one with the node's axes."""
    return x.reshape(*site.loops, *[1] * (len(site.shape) - len(site.loops)))


def _cells(site: Site) -> list[bool]:
    """For each axis of a node, whether each element along it has a prediction of its own.

    Steps of a loop always have: the parameters of a later step may depend on the draw of this one.
    """
    return [i < len(site.loops) or n > 1 for i, n in enumerate(site.credit_shape)]


def _parameters(d: Any) -> jax.Array:
    """All arrays of floats of a distribution, `[*batch_shape, parameters]`."""
    base = innermost(d)
    dims = {name: getattr(c, "event_dim", 0) for name, c in base.arg_constraints.items() if name in vars(base)}
    arrays = [(jnp.asarray(vars(base)[name]), n) for name, n in dims.items() if vars(base)[name] is not None]
    if not arrays:  # made of other distributions, such as a mixture
        arrays = [(x, _event_dim(x, d.batch_shape)) for x in map(jnp.asarray, jax.tree.leaves(base))]
    parts = [_placed(x, n, d.batch_shape) for x, n in arrays if jnp.issubdtype(x.dtype, jnp.inexact)]
    dtype = jnp.result_type(float)
    return jnp.concatenate([jnp.zeros((*d.batch_shape, 0), dtype), *(p.astype(dtype) for p in parts)], axis=-1)


def _event_dim(x: jax.Array, batch_shape: tuple[int, ...]) -> int:
    """How many trailing axes of an array do not belong to the batch, by its shape."""
    return next((n for n in range(x.ndim + 1) if _fits(x.shape[: x.ndim - n], batch_shape)), x.ndim)


def _fits(shape: tuple[int, ...], batch_shape: tuple[int, ...]) -> bool:
    tail = batch_shape[len(batch_shape) - len(shape) :]
    return len(shape) <= len(batch_shape) and all(n in (1, m) for n, m in zip(shape, tail, strict=True))


def _placed(x: jax.Array, event_dim: int, batch_shape: tuple[int, ...]) -> jax.Array:
    """An array with its batch axes first, and everything else in one axis."""
    x = x.reshape(*x.shape[: x.ndim - event_dim], -1)
    return jnp.broadcast_to(x, (*batch_shape, x.shape[-1]))
