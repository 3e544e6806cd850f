"""One training step, and a compiled block of many.

`Trainer` turns a bound, an optimiser and the shapes of a batch into a pair of pure functions,

    init(key) -> State,      update(state, batch) -> (State, Info),

and into `block`, which runs a number of updates in one compiled loop without coming back to the host. The loss is minus
the bound per datum: costs that belong to the data are divided by the batch size, costs shared by all data (latents of
the whole data set) by the size of the data set, so that the gradient is that of the full bound, scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from elbax.bounds.base import Bound
from elbax.bounds.per_datum import local_costs
from elbax.errors import ConfigError
from elbax.estimators.choose import Estimators
from elbax.estimators.plan import Outcome, Plan, make_plan
from elbax.graph.tracing import Arguments

__all__ = ["Info", "State", "Summary", "Trainer", "make_trainer"]

# (key, batch as stored) -> batch as the model sees it
Prepare = Callable[[jax.Array, Any], Any]


class State(NamedTuple):
    """Everything that a training run carries from step to step.

    Attributes:
        params: the arrays of floats of the bound's model and guide.
        opt_state: of the optimiser.
        step: steps done so far.
        key: random key of the run; each step uses `fold_in(key, step)`.
        estimators: states of the estimators that have one, by site.
    """

    params: Any
    opt_state: Any
    step: jax.Array
    key: jax.Array
    estimators: dict[str, Any]


class Info(NamedTuple):
    """What one step reports, per datum and in nats: the loss, and the share of each cost in it."""

    loss: jax.Array
    costs: dict[str, jax.Array]


class Summary(NamedTuple):
    """A block of steps: means over its steps, per datum and in nats.

    Attributes:
        steps: how many were run; fewer than asked if the loss became NaN or infinite.
        finite: whether all losses were finite.
        loss: mean.
        loss_variance: of the single steps.
        costs: mean share of each cost.
    """

    steps: jax.Array
    finite: jax.Array
    loss: jax.Array
    loss_variance: jax.Array
    costs: dict[str, jax.Array]


@dataclass(frozen=True, eq=False)
class Trainer:
    """A bound made ready for training; see the module's text.

    Attributes:
        plan: the traced bound, with the estimator of each node.
        static: everything of the bound that is not a parameter.
        optimizer: an Optax transformation.
        weights: factor of each cost in the loss.
        prepare: what is done to a batch before the model sees it, inside the compiled step.
    """

    plan: Plan
    static: Bound
    optimizer: optax.GradientTransformation
    weights: Mapping[str, float]
    prepare: Prepare | None

    def init(self, bound: Bound, key: jax.Array) -> State:
        """The state before the first step."""
        params = eqx.filter(bound, eqx.is_inexact_array)
        params = jax.tree.map(jnp.array, params)  # copies: the blocks donate their state
        estimators = self.plan.init(jax.random.fold_in(key, 2**32 - 1))
        return State(params, self.optimizer.init(params), jnp.zeros((), jnp.int32), key, estimators)

    def update(self, state: State, batch: Any) -> tuple[State, Info]:
        """One step: draw, differentiate, move the parameters."""
        batch, key = self.see(state, batch)
        (loss, outcome), grads = self.loss_and_grad(state, batch, key)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state, state.step + 1, state.key, outcome.states), Info(loss, outcome.costs)

    def see(self, state: State, batch: Any) -> tuple[Any, jax.Array]:
        """The batch as the model sees it at the next step, and the key of that step's draws."""
        prepare_key, key = jax.random.split(jax.random.fold_in(state.key, state.step))
        return (batch if self.prepare is None else self.prepare(prepare_key, batch)), key

    def loss_and_grad(self, state: State, batch: Any, key: jax.Array) -> tuple[tuple[jax.Array, Outcome], Any]:
        """The loss with the share of each cost, and the gradient estimate."""

        def loss(params: Any) -> tuple[jax.Array, Outcome]:
            return self.loss(params, batch, key, state.estimators, state.step)

        return jax.value_and_grad(loss, has_aux=True)(state.params)

    def loss(
        self,
        params: Any,
        batch: Any,
        key: jax.Array,
        estimators: Mapping[str, Any] | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array, Outcome]:
        """Minus the bound per datum, in nats, as a surrogate; and the share of each cost.

        A bound with a schedule is taken at a step of training, or as it is at the end.
        """
        bound = self.bound(params) if step is None else self.bound(params).at_step(step)
        arguments = Arguments.of(call, (bound, *as_arguments(batch)), {})
        return self.plan.estimate(key, arguments.arrays, self.weights, estimators)

    def bound(self, params: Any) -> Bound:
        """The bound with given parameters."""
        return eqx.combine(params, self.static)

    def block(
        self, state: State, select: Callable[[jax.Array, jax.Array], Any], num_steps: jax.Array
    ) -> tuple[State, Summary]:
        """Runs up to `num_steps` updates in one loop; stops after a step whose loss is not finite.

        Args:
            state: to start from.
            select: `(step, position in the block) -> batch`.
            num_steps: a traced number, so that blocks of all lengths share one compilation.
        """

        def go_on(carry: tuple) -> jax.Array:
            i, _, finite, *_ = carry
            return (i < num_steps) & finite

        def body(carry: tuple) -> tuple:
            i, state, _, total, squares, sums = carry
            new, info = self.update(state, select(state.step, i))
            loss = jnp.asarray(info.loss, total.dtype)
            sums = jax.tree.map(lambda a, b: a + b, sums, info.costs)
            return i + 1, new, jnp.isfinite(loss), total + loss, squares + loss**2, sums

        shapes = jax.eval_shape(lambda s: self.update(s, select(s.step, jnp.int32(0)))[1], state)
        zero = jnp.zeros((), shapes.loss.dtype)
        start = (
            jnp.int32(0),
            state,
            jnp.ones((), bool),
            zero,
            zero,
            {k: jnp.zeros((), v.dtype) for k, v in shapes.costs.items()},
        )
        steps, state, finite, total, squares, sums = jax.lax.while_loop(go_on, body, start)
        n = jnp.maximum(steps, 1).astype(zero.dtype)
        mean = total / n
        variance = jnp.maximum(squares / n - mean**2, 0.0)
        return state, Summary(steps, finite, mean, variance, jax.tree.map(lambda s: s / n, sums))


def call(bound: Bound, *data: Any) -> dict[str, jax.Array] | None:
    """The program that is trained: the bound's costs on a batch, with the bound's arrays as an argument."""
    return bound(*data)


def as_arguments(batch: Any) -> tuple:
    """A batch as positional arguments of model and guide: a tuple as it is, anything else as the only one."""
    if batch is None:
        return ()
    return batch if isinstance(batch, tuple) else (batch,)


def make_trainer(
    bound: Bound,
    optimizer: optax.GradientTransformation,
    batch: Any,
    *,
    num_data: int | None,
    estimators: Estimators = None,
    prepare: Prepare | None = None,
) -> Trainer:
    """Traces a bound on the shapes of a batch and makes it ready for training.

    Args:
        bound: what is maximised.
        optimizer: an Optax transformation.
        batch: an example batch as stored: an array, a tuple of arrays with a common leading axis, or `None`.
        num_data: size of the data set; `None` if it is not known (a stream).
        estimators: see `elbax.surrogate`.
        prepare: `(key, batch) -> batch`, run inside the compiled step.

    Raises:
        ProgramError: if the bound cannot be traced.
        ConfigError: if nothing can be trained, or a latent is shared by all data and `num_data` is not known.
    """
    params, static = eqx.partition(bound, eqx.is_inexact_array)
    if not jax.tree.leaves(params):
        raise ConfigError(
            "there is nothing to train: model and guide hold no arrays of floats. Make them Equinox modules, or bind "
            "parameters to a function with `equinox.Partial(function, parameters)`."
        )
    if prepare is not None:
        seen = jax.eval_shape(prepare, jax.eval_shape(lambda: jax.random.key(0)), batch)
        batch = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), seen)
    data = as_arguments(batch)
    plan = make_plan(call, estimators, (bound, *data), {}, batch_axes=tuple(range(1, 1 + len(data))))
    return Trainer(plan, static, optimizer, cost_weights(plan, data, num_data), prepare)


def cost_weights(plan: Plan, data: tuple, num_data: int | None) -> dict[str, float]:
    """The factor of each cost in the loss per datum."""
    leaves = jax.tree.leaves(data)
    if not leaves:
        return {}
    batch_size = leaves[0].shape[0]
    local = local_costs(plan.facts)
    shared = [name for name, is_local in local.items() if not is_local]
    if shared and num_data is None:
        raise ConfigError(
            f"cost {', '.join(map(repr, shared))} is shared by all data, but the size of the data set is not known. "
            "Pass num_data."
        )
    return {name: 1.0 / (batch_size if is_local else (num_data or batch_size)) for name, is_local in local.items()}
