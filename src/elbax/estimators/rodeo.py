"""RODEO: discrete Stein operators make control variates of any function of binary draws.

The Gibbs-Stein operator of a Bernoulli node adds up what happens when one element at a time is drawn anew:

    (A h)(x) = sum_i E_{y_i ~ q}[h(x with y_i)] - h(x) = sum_i q(1 - x_i) (h(x with i flipped) - h(x)),    E_q A h = 0.

For a vector field `h(x) (x - s)`, component `i` of the operator comes out as `(x_i - s_i) ((A h)(x) - h(x with i
flipped))`. Elements that share costs form one `x`; aligned groups of them have control variates of their own.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import (
    against_others,
    as_drawn,
    binary_logits,
    centred,
    log_prob_of,
    no_bernoulli,
    over_groups,
    slopes_of_draws,
    with_events,
    without,
)
from elbax.estimators.leave_one_out import at_least_two
from elbax.graph.distributions import Lifted

__all__ = ["RODEO", "RODEOState"]

CHUNK = 1024


class RODEOState(NamedTuple):
    """What is learned.

    Attributes:
        params: of the network; its two outputs are `H` and `H'`.
        opt_state: of Adam.
        moments: exponential sums over earlier steps, shape `[4]`: of the weights, of the costs of a draw, of their
            square, of the squared linear differences.
    """

    params: dict[str, jax.Array]
    opt_state: Any
    moments: jax.Array


class RODEO(Estimator):
    """RODEO, for binary nodes and costs that have derivatives at the draws.

        1/K sum_k [f_k - mean_{j != k}(f_j + (A h_j)(x_j)) + (A h'_k)(x_k) - h'_k(x_k with i flipped)] (x_k - s)_i,
        h_k(y) = mean_{j != k} H(f_j, f'_j . (y - x_j)),    h'_k likewise with H'

    with the Gibbs-Stein operator `A` and two functions `H, H'` of two numbers: leave-one-out, with control variates
    from what the costs and their derivatives at the other draws say of their neighbourhood. The functions are the
    outputs of a network with one layer of leaky units, plus multiples of their second argument; all follow the squared
    gradient down (Adam). They start at `H(f, v) = v` and `H' = 0`, which makes the baseline of costs that are linear in
    the draws exact (the authors start at leave-one-out, and divide the operator by the number of elements); where
    costs are as curved as those of a decoder, a few hundred steps of learning lower the variance much further. Unbiased
    whatever the functions are.

    The least variance for a number of evaluations where the costs are smooth functions of the draws. The draws enter
    the program as floats. Cost: `num_samples` evaluations, each forward and backward through what is below the node,
    and `K (K - 1)` evaluations of the network per element.

    Attributes:
        num_samples: draws of the node, `K`, two or more.
        hidden: units of the network.
        learning_rate: of Adam; zero to hold everything.

    References:
        Shi, Zhou, Hwang, Titsias & Mackey, Gradient Estimation with Discrete Stein Operators, NeurIPS 2022,
        sections 3 and 4.
    """

    num_samples: int = 2
    hidden: int = 100
    learning_rate: float = 1e-3

    probes: ClassVar[bool] = True
    as_float: ClassVar[bool] = True

    def __check_init__(self) -> None:
        at_least_two("RODEO", "num_samples", self.num_samples)
        if not isinstance(self.hidden, int) or self.hidden < 1:
            raise ConfigError(f"RODEO(hidden={self.hidden!r}): the network needs at least one unit.")
        if not self.learning_rate >= 0:
            raise ConfigError(
                f"RODEO(learning_rate={self.learning_rate!r}): must be positive, or zero to learn nothing."
            )

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli."""
        return no_bernoulli(site)

    def num_evaluations(self, site: Site) -> int:
        """One per draw."""
        return self.num_samples

    def init(self, key: jax.Array, site: Site) -> RODEOState:
        """The second argument for `H`, and zero for `H'`."""
        weights_key, biases_key = jax.random.split(key)
        params = {
            "weights": jax.random.normal(weights_key, (self.hidden, 2)),
            "biases": jax.random.normal(biases_key, (self.hidden, 1)),
            "out": jnp.zeros((2, self.hidden)),
            "linear": jnp.array([1.0, 0.0]),
        }
        return RODEOState(params, self._adam.init(params), jnp.zeros(4))

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the draws; all of them, and the logits."""
        logits = binary_logits(dist)
        noise = jax.random.logistic(key, (self.num_samples, *logits.shape), logits.dtype)
        values = as_drawn(logits[None] + noise > 0)
        return Draw(values[0], log_prob_of(dist, values[0], log_prob), (values, logits))

    def work(self, context: Context) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        """The estimate, the derivative of its square with respect to what is learned, and moments of this step."""
        values, logits = jax.lax.stop_gradient(context.aux)
        site, state, score = context.site, context.state, centred(values, logits)
        plain, costs, slopes = jnp.zeros_like(logits), jnp.zeros_like(over_groups(score, site)), jnp.zeros_like(score)
        for credit, slope in slopes_of_draws(context, values):
            plain = plain + against_others(with_events(credit, site), score)
            costs = costs + over_groups(with_events(credit, site), site)
            slopes = slopes + slope
        at = _arguments(values.astype(score.dtype), costs, slopes, site)

        def squared(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            found = plain + _controls(params, state.moments, at, score, site)
            return jnp.sum(found**2), found

        derivatives, found = jax.grad(squared, has_aux=True)(state.params)
        now = jnp.stack([jnp.ones_like(at.here).mean(), costs.mean(), (costs**2).mean(), (at.here**2).mean()])
        return jax.lax.stop_gradient((found, derivatives, now))

    def term(self, context: Context) -> jax.Array:
        """The estimate times the logits."""
        return jnp.sum(context.work[0] * context.aux[1])

    def update(self, context: Context) -> RODEOState:
        """One step of Adam on the squared estimate."""
        state: RODEOState = context.state
        _, derivatives, now = context.work
        updates, opt_state = self._adam.update(derivatives, state.opt_state)
        params: Any = optax.apply_updates(state.params, updates)  # type: ignore[arg-type]
        return RODEOState(params, opt_state, 0.99 * state.moments + 0.01 * now.astype(state.moments.dtype))

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


class _Arguments(NamedTuple):
    """Arguments of the functions, for every draw `k` and every other draw `j`: axes `[K, K - 1, *node]`.

    Attributes:
        costs: `f_j`, of size one where elements share costs.
        here: `f'_j . (x_k - x_j)`, likewise.
        flipped: the same with one element of `x_k` flipped.
    """

    costs: jax.Array
    here: jax.Array
    flipped: jax.Array


def _arguments(values: jax.Array, costs: jax.Array, slopes: jax.Array, site: Site) -> _Arguments:
    k = len(values)
    others = np.array([[j for j in range(k) if j != i] for i in range(k)])
    here = over_groups(slopes[others] * (values[:, None] - values[others]), site)
    return _Arguments(costs[others], here, here + slopes[others] * (1 - 2 * values[:, None]))


def _controls(
    params: dict[str, jax.Array], moments: jax.Array, at: _Arguments, score: jax.Array, site: Site
) -> jax.Array:
    """What is added to the estimate of leave-one-out."""
    here, flipped = (
        _functions(params, moments, at.costs, x).mean(2).astype(score.dtype) for x in (at.here, at.flipped)
    )
    # the probability that an element, drawn anew, flips is the size of its score
    stein, stein_of_field = over_groups(jnp.abs(score)[None] * (flipped - here), site)
    return jnp.mean((stein_of_field - flipped[1] - without(stein)) * score, axis=0)


def _functions(params: dict[str, jax.Array], moments: jax.Array, costs: jax.Array, x: jax.Array) -> jax.Array:
    """`H` and `H'`. Shape `[2, *x.shape]`."""
    weight, total, square, linear = moments
    known = weight > 0
    mean = jnp.where(known, total / jnp.where(known, weight, 1.0), 0.0)
    spread, scale = (
        _root(square / jnp.where(known, weight, 1.0) - mean**2),
        _root(linear / jnp.where(known, weight, 1.0)),
    )
    dtype = params["out"].dtype
    costs = jnp.broadcast_to((costs.astype(dtype) - mean) / spread, x.shape)
    x = x.astype(dtype) / scale
    net = {name: params[name] for name in ("weights", "biases", "out")}
    arguments = jnp.stack([costs.reshape(-1), x.reshape(-1)])
    # A processor is ten times as fast where all units of some elements fit into its cache.
    out = jax.lax.platform_dependent(net, arguments, cpu=_network_in_chunks, default=_network)
    return scale * (out.reshape(2, *x.shape) + jnp.stack([params["linear"][0] * x, params["linear"][1] * x]))


def _network(net: dict[str, jax.Array], arguments: jax.Array) -> jax.Array:
    """Two functions of two numbers: `arguments` and result have shape `[2, number]`."""
    hidden = jnp.dot(net["weights"], arguments, precision="highest") + net["biases"]
    return net["out"] @ jax.nn.leaky_relu(hidden, 0.3)


def _network_in_chunks(net: dict[str, jax.Array], arguments: jax.Array) -> jax.Array:
    """The same, for some numbers at a time, without keeping the units for the backward pass."""
    num = arguments.shape[1]
    if num <= CHUNK:
        return _network(net, arguments)
    chunks = jnp.pad(arguments, ((0, 0), (0, -num % CHUNK))).reshape(2, -1, CHUNK)
    out = jax.lax.map(jax.checkpoint(lambda chunk: _network(net, chunk)), chunks.swapaxes(0, 1))
    return out.swapaxes(0, 1).reshape(2, -1)[:, :num]


def _root(x: jax.Array) -> jax.Array:
    """The square root of what is positive, and one otherwise."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 1.0)
