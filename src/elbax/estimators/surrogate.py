"""The surrogate loss: a function whose value is the cost of one run and whose gradient estimates that of the mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.errors import ConfigError, ProgramError
from elbax.estimators.choose import Estimators
from elbax.estimators.higher_order import check_higher_order, higher_order_loss
from elbax.estimators.plan import Plan, make_plan
from elbax.graph.graph import Graph
from elbax.graph.tracing import Arguments, program_name

__all__ = [
    "Surrogate",
    "check_key",
    "graph_of",
    "is_differentiable",
    "surrogate",
    "trace",
    "value_and_grad",
    "with_parameters",
]


def check_key(key: Any) -> None:
    """Refuses what is not one random key."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if (typed and shape == ()) or (dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        return
    if typed or (dtype == jnp.uint32 and shape):
        raise ProgramError(
            f"the first argument must be one random key; got keys of shape {shape}. To run several times, use "
            "`jax.vmap(fn, in_axes=(0, None))(jax.random.split(key, n), ...)`."
        )
    raise ProgramError(f"the first argument must be a random key, such as `jax.random.key(0)`; got {key!r}.")


def trace(program: Callable, *args: Any, **kwargs: Any) -> Graph:
    """The stochastic computation graph of a program.

    The program is an ordinary JAX function without a key, in which `elbax.sample`, `observe`, `cost` and `baseline`
    may stand anywhere: inside `jit`, `vmap`, `scan`, `cond`, `checkpoint`, nested as needed. It states its costs or
    returns them (a scalar, an array, or a dict of named arrays); the loss is the sum of all elements of all costs.

    Args:
        program: the function, or a module (such as a bound) whose arrays of floats are then shown as `parameters`.
        *args: example arguments; pytrees. Arrays and floats are traced, everything else is static.
        **kwargs: likewise.

    Returns:
        The graph. Print it, draw it, ask it for `deps`, `influences`, `relation` and what was `lost`.

    Raises:
        ProgramError: if the program cannot be turned into a graph; the message names the site and its line.

    References:
        Schulman et al., Gradient Estimation Using Stochastic Computation Graphs, NeurIPS 2015.
    """
    return graph_of(program, None, args, kwargs)


def graph_of(program: Callable, estimators: Estimators, args: tuple, kwargs: dict[str, Any]) -> Graph:
    """The graph of a program, with its gradient plan for given estimators; see `trace`."""
    program, args = with_parameters(program, args)
    return make_plan(program, estimators, args, kwargs).graph


def with_parameters(program: Callable, args: tuple) -> tuple[Callable, tuple]:
    """A module with arrays of floats becomes a function of them, its first argument; a function stays as it is."""
    if jax.tree.leaves(eqx.filter(program, eqx.is_inexact_array)):
        return _parameters_first(program), (program, *args)
    return program, args


def _parameters_first(module: Callable) -> Callable:
    """A module as a function of its own parameters, so that the graph shows what depends on them."""

    def program(parameters: Callable, *args: Any, **kwargs: Any) -> Any:
        return parameters(*args, **kwargs)

    first = inspect.Parameter("parameters", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    program.__signature__ = inspect.Signature([first, *inspect.signature(module).parameters.values()])  # type: ignore
    program.__qualname__ = program_name(module)
    return program


class Surrogate:
    """The surrogate loss of a program: `loss(key, *args) -> scalar`; made by `elbax.surrogate`.

    Estimators with a state (learned baselines, control variates) start anew at every call; to train them, carry the
    state: `state = loss.init(key, *args)`, then `value, state = loss.step(state, key, *args)`, which is differentiated
    with `jax.value_and_grad(..., has_aux=True)`.
    """

    def __init__(self, program: Callable, estimators: Estimators, order: int) -> None:
        self.program, self.estimators, self.order = program, estimators, order
        self.plans: dict[Any, Plan] = {}

    def __call__(self, key: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        """The cost of one run, with the derivative of the surrogate."""
        check_key(key)
        plan, arrays = self.plan(args, kwargs)
        return plan.loss(key, arrays) if self.order == 1 else higher_order_loss(plan, key, arrays)

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """States of the estimators that have one, by site."""
        return self.plan(args, kwargs)[0].init(key)

    def step(
        self, state: dict[str, Any], key: jax.Array, *args: Any, **kwargs: Any
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The surrogate loss with given states, and the states after the step."""
        check_key(key)
        plan, arrays = self.plan(args, kwargs)
        loss, outcome = plan.estimate(key, arrays, {}, state)
        return loss, outcome.states

    def plan(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Plan, list[Any]]:
        """The plan for arguments of these shapes, kept for later calls, and the arguments' arrays."""
        arguments = Arguments.of(self.program, args, kwargs)
        signature = arguments.signature()
        plan = self.plans.get(signature) if signature is not None else None
        if plan is None:
            plan = make_plan(self.program, self.estimators, args, kwargs)
            if self.order > 1:
                check_higher_order(plan)
            if signature is not None and plan.graph.portable:
                self.plans[signature] = replace(plan, graph=replace(plan.graph, arguments=arguments.without_arrays()))
        return plan, arguments.arrays


def surrogate(program: Callable, estimators: Estimators = None, *, order: int = 1) -> Surrogate:
    """The surrogate loss of a program.

    Args:
        program: an ordinary JAX function with sites in it (see `elbax.trace`).
        estimators: an estimator for all stochastic nodes, or a dict from site names to estimators; nodes without one
            get theirs by rule (see `elbax.Auto`).
        order: how often the loss may be differentiated. For 2 and more it has the form of DiCE, whose derivatives of
            every order are unbiased (score-function and pathwise nodes only).

    Returns:
        `loss(key, *args) -> scalar`. Its value is the total cost of one run (their mean, if the estimators run the
        program several times); its gradient with respect to any of `args` is an unbiased estimate of the gradient of
        the expected cost (if all estimators are). It may be compiled, differentiated, and mapped. The program is
        traced once for each set of argument shapes.

    Raises:
        ProgramError: if the program cannot be turned into a graph.
        EstimatorError: if an estimator is not valid for its node.
    """
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise ConfigError(f"order must be a whole number of at least 1; got {order!r}.")
    return Surrogate(program, estimators, order)


def is_differentiable(x: Any) -> bool:
    """Whether a leaf is an array of floats or a float. Equinox's own test fails on some tracers."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, (float, complex)) if dtype is None else jnp.issubdtype(dtype, jnp.inexact)


def value_and_grad(
    program: Callable, estimators: Estimators = None, *, argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[jax.Array, Any]]:
    """The cost of one run of a program, and an estimate of the gradient of the expected cost.

    Args:
        program: an ordinary JAX function with sites in it (see `elbax.trace`).
        estimators: see `elbax.surrogate`.
        argnums: which arguments of the program to differentiate, as in `jax.grad` (the key does not count).

    Returns:
        `(key, *args) -> (value, grads)`. `grads` has the structure of the arguments; leaves that are not arrays of
        floats have gradient `None`.
    """
    loss = surrogate(program, estimators)
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def value_and_grads(key: jax.Array, *args: Any, **kwargs: Any) -> tuple[jax.Array, Any]:
        for i in wanted:
            if not -len(args) <= i < len(args):
                raise ProgramError(
                    f"argnums={argnums}, but `{program_name(program)}` was called with {len(args)} positional "
                    "arguments (the key does not count)."
                )
        positions = [i % len(args) for i in wanted]
        if len(set(positions)) < len(positions):
            raise ProgramError(f"argnums={argnums} names an argument twice.")
        chosen = tuple(args[i] for i in positions)
        differentiable, rest = eqx.partition(chosen, is_differentiable)

        def of_chosen(differentiable: Any) -> jax.Array:
            full = list(args)
            for i, value in zip(positions, eqx.combine(differentiable, rest), strict=True):
                full[i] = value
            return loss(key, *full, **kwargs)

        value, grads = jax.value_and_grad(of_chosen)(differentiable)
        return value, grads[0] if isinstance(argnums, int) else grads

    return value_and_grads
