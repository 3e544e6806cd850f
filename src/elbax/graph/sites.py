"""The words of a program: `sample`, `observe`, `cost`, `baseline`, `scope`.

Each binds a JAX primitive, so that a site is an equation of the traced program, with indices, not only a name. That
is what makes sites inside `jit`, `scan`, `cond`, `vmap` and `remat` possible, and their dependencies exact.

The primitives carry no key and compute nothing: drawing is the estimator's business, long after tracing
(`elbax.graph.evaluate`). A sample equation has two results, the value and its log-density; the second is there for
bounds, whose log q(z) must follow the estimator of the node (stopped for a score node, parameter-stopped when
sticking the landing).
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import ProgramError
from elbax.graph import compat
from elbax.graph.compat import Source
from elbax.graph.distributions import Structure, distribution_name, take_apart, value_and_log_prob_avals

__all__ = ["Derivative", "baseline", "cost", "observe", "sample", "sample_with_log_prob", "scope"]


class Derivative(enum.Enum):
    """By what the expected costs of a bound are differentiated with respect to the parameters of a draw.

    `BY_ESTIMATOR`: whatever the node's estimator does. `BY_DRAW`: the bound weighs derivatives of the value, which must
    be reparameterised. `BY_DENSITY`: the bound weighs derivatives of the log-density, and the value has none.
    """

    BY_ESTIMATOR = "by its estimator"
    BY_DRAW = "by the draw"
    BY_DENSITY = "by the log-density"


@dataclass(frozen=True)
class SiteOptions:
    """What a bound has to know about a site.

    Attributes:
        scale: factor of its log-densities.
        auxiliary: whether the guide's site has no counterpart in the model on purpose.
        linear: whether the log-density of the draw enters the costs as a summand, so that derivatives of expectation
            zero may be left out of it.
        as_float: whether the values of a discrete site enter the program as floats, which an estimator needs that
            relaxes them or differentiates costs at them.
        derivative: what the bound does about the derivative of the draw.
    """

    scale: float = 1.0
    auxiliary: bool = False
    linear: bool = True
    as_float: bool = False
    derivative: Derivative = Derivative.BY_ESTIMATOR


def check_scale(name: str, source: Source, scale: Any) -> float:
    """A scale as a plain number."""
    known = isinstance(scale, (int, float, np.generic, np.ndarray, jax.Array)) and not isinstance(scale, compat.Tracer)
    if not known or jnp.ndim(scale) != 0 or not 0 < float(scale) < float("inf"):
        raise ProgramError(
            f"site '{name}' ({source}) has scale {scale!r}; it must be a number above zero that is known while "
            "tracing, such as num_data / batch_size."
        )
    return float(scale)


@dataclass
class Recorder:
    """What the Python calls of one trace have said; compared with the jaxpr, so that no site is lost unnoticed."""

    calls: list[tuple[str, str, Source]] = field(default_factory=list)  # kind, full name, line
    scopes: list[str] = field(default_factory=list)

    def record(self, kind: str, name: Any, source: Source) -> str:
        """Checks and notes a call; returns the name within the scopes entered so far."""
        if not isinstance(name, str) or not name:
            raise ProgramError(f"{kind} at {source} needs a name: a non-empty string, got {name!r}.")
        self.calls.append((kind, "/".join([*self.scopes, name]), source))
        return name


_RECORDER: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar("elbax_recorder", default=None)
_AS_FLOAT: contextvars.ContextVar[Callable[[str], bool]] = contextvars.ContextVar(
    "elbax_as_float", default=lambda name: False
)


@contextlib.contextmanager
def as_floats(wanted: Callable[[str], bool]) -> Iterator[None]:
    """Traces the sites whose names are `wanted` with floats for values."""
    token = _AS_FLOAT.set(wanted)
    try:
        yield
    finally:
        _AS_FLOAT.reset(token)


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Marks the calls made inside as part of one traced program."""
    recorder = Recorder()
    token = _RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        _RECORDER.reset(token)


def _enter(kind: str, name: Any, source: Source | None = None) -> tuple[str, Source]:
    source = compat.caller() if source is None else source
    recorder = _RECORDER.get()
    if recorder is None:
        raise ProgramError(
            f"elbax.{kind}({name!r}) at {source} was called outside a traced program. Sites only mean something "
            "inside a function that elbax traces: pass the function, or the bound that it is part of, to "
            "`elbax.trace`, `elbax.value_and_grad` or `elbax.fit`."
        )
    return recorder.record(kind, name, source), source


def _array(what: str, value: Any) -> jax.Array:
    """A value that is stated, as an array."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ProgramError(f"{what} is {value!r}, which is not a number or an array: state one.") from error


def sample(name: str, dist: Any, *, scale: float = 1.0, auxiliary: bool = False) -> jax.Array:
    """Draws a latent variable: a stochastic node.

    Args:
        name: name of the node, unique in the program (see `scope`).
        dist: a numpyro distribution of any batch and event shape.
        scale: factor of the site's log-densities in a bound, for latents of a subsample of the data.
        auxiliary: for a guide: the model has no such site, since others are invertible functions of this one.

    Returns:
        The value, shape `dist.batch_shape + dist.event_shape`. Inside `jax.vmap` every lane draws independently,
        also when the parameters of `dist` are not mapped.

    Raises:
        ProgramError: outside a traced program, for an object that is not a distribution, or in a loop that the
            program differentiates itself.
    """
    return sample_with_log_prob(name, dist, scale=scale, auxiliary=auxiliary)[0]


def sample_with_log_prob(
    name: str, dist: Any, *, scale: float = 1.0, auxiliary: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Like `sample`, with the log-density of the draw as the node's estimator differentiates it.

    For bounds: the log-density has no derivative for a score node (its expectation is zero), and none with respect to
    the parameters when the node sticks the landing. Shape: that of the node (`to_event` dimensions not summed).
    """
    name, source = _enter("sample", name)
    structure, leaves = take_apart(dist, f"sample site '{name}' ({source})")
    recorder = _RECORDER.get()
    assert recorder is not None
    # An index stays an integer: as a float it could not index, and there is nothing between two indices.
    as_float = _AS_FLOAT.get()("/".join([*recorder.scopes, name])) and distribution_name(dist) != "Categorical"
    options = SiteOptions(check_scale(name, source, scale), auxiliary, as_float=as_float)
    value, log_prob = SAMPLE.bind(*leaves, name=name, source=source, structure=structure, options=options)
    return value, log_prob


def bind_sample(
    name: str, source: Source, structure: Structure, options: SiteOptions, leaves: tuple
) -> tuple[jax.Array, jax.Array]:
    """Binds a sample site again that comes from another trace, keeping its line."""
    _enter("sample", name, source)
    value, log_prob = SAMPLE.bind(*leaves, name=name, source=source, structure=structure, options=options)
    return value, log_prob


def cost(name: str, value: Any) -> None:
    """States a cost: the program's loss is the sum of all elements of all costs.

    Args:
        name: name of the cost, unique in the program.
        value: real array of any shape; its elements are separate costs. Inside `vmap` or a loop, every lane and every
            step states its own.

    Raises:
        ProgramError: outside a traced program, or for values that are not real.
    """
    name, source = _enter("cost", name)
    value = _array(f"cost '{name}' ({source})", value)
    is_real = jnp.issubdtype(value.dtype, jnp.number) and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    if not is_real and value.dtype != jnp.bool_:
        raise ProgramError(
            f"cost '{name}' ({source}) has dtype {value.dtype}; state a real number, such as its `.real`."
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        value = value.astype(jnp.result_type(float))
    COST.bind(value, name=name, source=source)


def bind_cost(name: str, source: Source, value: jax.Array) -> None:
    """States a cost that comes from another trace, keeping its line."""
    _enter("cost", name, source)
    COST.bind(value, name=name, source=source)


def observe(name: str, dist: Any, value: Any, *, scale: float = 1.0) -> None:
    """Conditions on data: the cost `-log p(value)`, one element for each independent element of the data.

    Args:
        name: name of the site, unique in the program.
        dist: a numpyro distribution.
        value: the data; its shape is that of a draw, or a batch of draws.
        scale: factor of the cost, for a subsample of the data. `elbax.fit` scales batches by itself.

    Raises:
        ProgramError: if the shapes of `value` and `dist` would broadcast against each other into a larger array than
            either (the usual sign of a missing or surplus dimension).
    """
    name, source = _enter("observe", name)
    place = f"observed site '{name}' ({source})"
    structure, leaves = take_apart(dist, place)
    value = _array(f"the data of {place}", value)
    shape = observed_shape(place, dist, value.shape)
    # Every element of the data is a cost of its own, also within an event of independent components.
    one = jax.tree.unflatten(structure.treedef, leaves)
    batch = shape[: len(shape) - len(one.event_shape)]
    if batch != tuple(one.batch_shape):
        structure, leaves = take_apart(one.expand(batch), place)
    options = SiteOptions(check_scale(name, source, scale))
    OBSERVE.bind(
        jnp.broadcast_to(value, shape), *leaves, name=name, source=source, structure=structure, options=options
    )


def observed_shape(place: str, dist: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The joint shape of data and distribution, refusing those that only fit by growing against each other."""
    expected = tuple(dist.batch_shape) + tuple(dist.event_shape)
    try:
        joint = jnp.broadcast_shapes(shape, expected)
    except ValueError:
        joint = None
    event = len(dist.event_shape)
    same_event = shape[len(shape) - event :] == expected[len(expected) - event :] if event else True
    if joint is None or joint not in (shape, expected) or not same_event:
        raise ProgramError(
            f"{place}: the data have shape {shape}, but a draw of the {distribution_name(dist)} has shape {expected} "
            f"(batch {tuple(dist.batch_shape)}, event {tuple(dist.event_shape)}). Reshape the data, or use `.to_event` "
            "or `.expand` on the distribution."
        )
    return joint


def baseline(name: str, value: Any) -> None:
    """Gives the baseline of a score-function node: subtracted from its cost-to-go, it lowers variance, adds no bias.

    Args:
        name: the name of the sample site that the baseline is for.
        value: array that broadcasts to the node's shape. The node itself must not influence it (checked when the
            graph is made). Its own parameters are trained by a cost that the program states, such as the squared
            distance to the loss.
    """
    name, source = _enter("baseline", name)
    BASELINE.bind(_array(f"the baseline of '{name}' ({source})", value), name=name, source=source)


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Puts the names of all sites stated inside under `name/`, so that one function can be used several times.

    ```python
    for i, layer in enumerate(layers):
        with elbax.scope(f"layer{i}"):
            z = layer(z)          # its site "z" becomes "layer0/z", "layer1/z", ...
    ```
    """
    recorder = _RECORDER.get()
    if recorder is None:
        yield
        return
    if not isinstance(name, str) or not name:
        raise ProgramError(f"scope at {compat.caller()} needs a name: a non-empty string, got {name!r}.")
    # The marks go into the jaxpr, because JAX traces a function that is used twice only once.
    recorder.scopes.append(name)
    SCOPE.bind(name=name, enters=True)
    try:
        yield
    finally:
        SCOPE.bind(name=name, enters=False)
        recorder.scopes.pop()


def _sample_abstract(*avals: Any, name: str, source: Source, structure: Structure, options: SiteOptions) -> list[Any]:
    shapes = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals)
    try:
        results = value_and_log_prob_avals(structure, shapes, as_float=options.as_float)
    except Exception as error:
        error.add_note(f"while finding the shape of sample site '{name}' ({source})")
        raise
    return [compat.ShapedArray(r.shape, r.dtype) for r in results]


def _sample_batch(size: int, values: Any, dims: Any, *, structure: Structure, **params: Any) -> Any:
    return SAMPLE.bind(*values, structure=structure.mapped(size, dims), **params), [0, 0]


def _value_batch(primitive: Any) -> Any:
    def batch(size: int, values: Any, dims: Any, **params: Any) -> Any:
        return primitive().bind(compat.move_axis_to_front(values[0], dims[0], size), **params), []

    return batch


def _observe_batch(size: int, values: Any, dims: Any, *, structure: Structure, **params: Any) -> Any:
    value = compat.move_axis_to_front(values[0], dims[0], size)
    return OBSERVE.bind(value, *values[1:], structure=structure.mapped(size, dims[1:]), **params), []


def _no_derivative(kind: str) -> Any:
    why = (
        "The derivative of a random choice is what elbax estimates, from outside"
        if kind == "sample site"
        else "It would count once in the loss and once in its derivative"
    )

    def rule(primals: Any, tangents: Any, *, name: str, source: Source, **params: Any) -> Any:
        raise ProgramError(
            f"{kind} '{name}' ({source}) is differentiated by a jax.grad (or jvp, vjp, jacobian, hessian) inside the "
            f"program. {why}: differentiate the whole program with `elbax.value_and_grad`, or keep the site out of the "
            "inner function and pass its value in."
        )

    return rule


def _no_hoisting(kind: str) -> Any:
    def rule(*, name: str, source: Source | None = None, **params: Any) -> None:
        line = f" ({source})" if source else ""
        raise ProgramError(
            f"{kind} '{name}'{line} stands in a loop that the program itself differentiates with jax.grad or a "
            "relative. JAX moves what does not depend on the loop out of such a loop, so all its steps would share "
            "one. Move it out of the differentiated function and pass its value in."
        )

    return rule


def _outside(kind: str) -> Any:
    def rule(*args: Any, name: str, source: Source | None = None, **params: Any) -> Any:
        raise ProgramError(
            f"{kind} '{name}'{f' ({source})' if source else ''} was run as plain JAX. Run the program through elbax "
            "(`elbax.trace`, `elbax.value_and_grad`, `elbax.fit`), not through jax.jit or eagerly."
        )

    return rule


SAMPLE = compat.make_primitive(
    "elbax_sample",
    abstract=_sample_abstract,
    batch=_sample_batch,
    differentiate=_no_derivative("sample site"),
    hoist=_no_hoisting("sample site"),
    evaluate=_outside("sample site"),
)
COST = compat.make_primitive(
    "elbax_cost",
    abstract=lambda *avals, **params: [],
    batch=_value_batch(lambda: COST),
    differentiate=_no_derivative("cost"),
    hoist=_no_hoisting("cost"),
    evaluate=_outside("cost"),
    effects=frozenset({compat.IO_EFFECT}),
)
OBSERVE = compat.make_primitive(
    "elbax_observe",
    abstract=lambda *avals, **params: [],
    batch=_observe_batch,
    differentiate=_no_derivative("observed site"),
    hoist=_no_hoisting("observed site"),
    evaluate=_outside("observed site"),
    effects=frozenset({compat.IO_EFFECT}),
)
BASELINE = compat.make_primitive(
    "elbax_baseline",
    abstract=lambda *avals, **params: [],
    batch=_value_batch(lambda: BASELINE),
    differentiate=_no_derivative("baseline"),
    hoist=_no_hoisting("baseline"),
    evaluate=_outside("baseline"),
    effects=frozenset({compat.IO_EFFECT}),
)
SCOPE = compat.make_primitive(
    "elbax_scope",
    abstract=lambda *avals, **params: [],
    batch=lambda size, values, dims, **params: (SCOPE.bind(**params), []),
    differentiate=lambda primals, tangents, **params: (SCOPE.bind(**params), []),
    hoist=_no_hoisting("scope"),
    evaluate=_outside("scope"),
)
