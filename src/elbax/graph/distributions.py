"""A distribution as it stands at a site: taken apart into arrays, and lifted over the axes that JAX added around it.

`sample(name, dist)` cannot put a distribution object into a jaxpr, so it binds the object's arrays (its leaves) and
keeps the structure. When `jax.vmap` maps over the site, the structure stays that of one lane and the mapped axes are
remembered, outermost first; every method maps over them again. Nothing is ever assumed about how a distribution
stores its batch shape.

Source for the trap this avoids: a numpyro distribution keeps its `batch_shape` as static data, so an object whose
leaves have gained a batch axis contradicts itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from elbax.errors import ProgramError
from elbax.graph.compat import Tracer, cached

__all__ = ["Lifted", "Structure", "take_apart", "unwrap_independent"]


@dataclass(frozen=True)
class Structure:
    """Everything about the distribution of a site but its arrays; hashable, so that it can be a primitive's parameter.

    Attributes:
        treedef: structure of the distribution of one lane.
        lanes: one `(size, in_axes)` per axis mapped around the site, outermost first.
        event_dim: how many trailing dimensions of the value the user declared as one event (`to_event` included).
    """

    treedef: Any
    event_dim: int
    lanes: tuple[tuple[int, tuple[int | None, ...]], ...] = ()

    def mapped(self, size: int, in_axes: Sequence[int | None]) -> Structure:
        """The structure with one more mapped axis around it."""
        return replace(self, lanes=((size, tuple(in_axes)), *self.lanes))


@dataclass(frozen=True, eq=False)
class Lifted:
    """The distribution of a site with its arrays, over all axes mapped around it.

    `shape` is the shape of the node: mapped axes, then the distribution's batch shape. Values have shape
    `shape + event_shape`; log-densities have `shape`.
    """

    structure: Structure
    leaves: tuple[Any, ...]
    _one: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_one", jax.tree.unflatten(self.structure.treedef, _first_lane(self)))

    @property
    def one(self) -> Any:
        """The distribution of one lane, for questions about its type, never for its arrays."""
        return self._one

    @property
    def name(self) -> str:
        """Name of the distribution, through `expand` and `mask`, whatever its parameterisation."""
        return distribution_name(self.one)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the node."""
        return (*(size for size, _ in self.structure.lanes), *self.one.batch_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one element of the node."""
        return tuple(self.one.event_shape)

    @property
    def has_rsample(self) -> bool:
        """Whether draws are differentiable functions of the parameters."""
        return bool(getattr(self.one, "has_rsample", False))

    @property
    def is_discrete(self) -> bool:
        """Whether the support is a set of integers."""
        return bool(getattr(self.one, "is_discrete", False))

    def over(self, fn: Callable, *arrays: Any) -> Any:
        """`fn(distribution, *arrays)` of each lane; `arrays` have the mapped axes first."""

        def one(leaves: tuple, *args: Any) -> Any:
            return fn(jax.tree.unflatten(self.structure.treedef, leaves), *args)

        for size, in_axes in reversed(self.structure.lanes):
            one = jax.vmap(one, in_axes=(in_axes, *(0 for _ in arrays)), axis_size=size)
        return one(self.leaves, *arrays)

    def sample(self, key: jax.Array) -> jax.Array:
        """A draw, independent in every lane. Shape `shape + event_shape`."""
        return self.over(lambda d, k: d.sample(k), self._keys(key))

    def rsample(self, key: jax.Array) -> jax.Array:
        """A draw that is a differentiable function of the parameters. Shape `shape + event_shape`."""
        return self.over(lambda d, k: d.rsample(k), self._keys(key))

    def draw_with_log_prob(self, key: jax.Array, *, differentiable: bool) -> tuple[jax.Array, jax.Array]:
        """A draw and its log-density, by way of the draw's intermediate values where the distribution keeps them.

        A normalising flow knows the density of its own draws without inverting itself; some cannot be inverted.
        """

        def one(d: Any, k: jax.Array) -> tuple[jax.Array, jax.Array]:
            if not differentiable:
                value = jax.lax.stop_gradient(d.sample(k))
            elif getattr(type(d), "log_prob", None) is dist.TransformedDistribution.log_prob:
                value, intermediates = d.sample_with_intermediates(k)
                return jnp.asarray(value), jnp.broadcast_to(d.log_prob(value, intermediates), d.batch_shape)
            else:
                value = d.rsample(k)
            return jnp.asarray(value), _log_prob_of_batch(d, value)

        return self.over(one, self._keys(key))

    def log_prob(self, value: Any) -> jax.Array:
        """Log-density or log-mass of `value`, in nats. Shape `shape`."""
        return self.over(_log_prob_of_batch, value)

    def density(self, value: Any) -> jax.Array:
        """Log-density of `value` as a draw. Shape `shape`.

        This is `log_prob` but for masks: a mask takes an element out of the log-density, not out of what is drawn.
        """
        return self.over(lambda d, v: _log_prob_of_batch(_unmasked(d), v), value)

    def in_support(self, value: Any) -> jax.Array:
        """Which elements of `value` may be observed. Shape `shape`.

        Elements under a mask always may. So may any number of a Bernoulli between 0 and 1, whose log-density is then
        minus the cross-entropy. Supports that depend on parameters are not looked at.
        """
        return self.over(_in_support, value)

    @property
    def is_masked(self) -> bool:
        """Whether a mask takes elements out of the log-density."""
        return _unmasked(self.one) is not self.one

    def stopped(self) -> Lifted:
        """The same distribution without derivatives with respect to its parameters."""
        return Lifted(self.structure, tuple(jax.lax.stop_gradient(x) for x in self.leaves))

    def in_loops(self, lengths: Sequence[int]) -> Lifted:
        """The distribution of all steps of the loops around a site, from leaves stacked over those loops."""
        structure = self.structure
        for size in reversed(lengths):
            structure = structure.mapped(size, [0] * len(self.leaves))
        return Lifted(structure, self.leaves)

    def _keys(self, key: jax.Array) -> jax.Array:
        sizes = tuple(size for size, _ in self.structure.lanes)
        return jax.random.split(key, sizes) if sizes else key


def _log_prob_of_batch(d: Any, value: Any) -> jax.Array:
    # numpyro may return the log-density of a distribution without parameters unbroadcast.
    return jnp.broadcast_to(_off_zero(d).log_prob(value), d.batch_shape)


def _off_zero(d: Any) -> Any:
    """The distribution with logits of exactly zero moved by the smallest number.

    NumPyro writes the log-densities of Bernoulli and binomial logits as `max(l, 0) + log1p(exp(-|l|))`, whose two
    kinks at zero do not cancel when they are differentiated: at `l = 0`, where many parameters start, the derivative
    would be wrong by half (PyTorch had the same error: pytorch/pytorch#2195).
    """
    changed = {}
    if type(d) in (dist.BernoulliLogits, dist.BinomialLogits):
        logits = jnp.asarray(d.logits, jnp.result_type(d.logits, float))
        nudge = jnp.where(logits == 0, jnp.finfo(logits.dtype).tiny, jnp.zeros((), logits.dtype))
        changed["logits"] = logits + jax.lax.stop_gradient(nudge)
    for name, part in vars(d).items():
        if isinstance(part, dist.Distribution) and (moved := _off_zero(part)) is not part:
            changed[name] = moved
    if not changed:
        return d
    d = copy.copy(d)
    vars(d).update(changed)
    return d


def observable(d: Any) -> Any:
    """The constraint on the data of an observed distribution, or `None` if it depends on parameters."""
    base = innermost(d)
    support = getattr(base, "support", None)
    if support is None or any(isinstance(x, (Tracer, jax.ShapeDtypeStruct)) for x in jax.tree.leaves(support)):
        return None
    if isinstance(support, type(dist.constraints.circular)):
        return None  # densities of angles are periodic
    return dist.constraints.unit_interval if distribution_name(base) == "Bernoulli" else support


def support_name(d: Any) -> str:
    """The numbers that may be observed, in words: `integers from 0`."""
    constraint = observable(d)
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    if constraint is None:
        return "a range that depends on parameters"
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(constraint).__name__.strip("_")).lower()
    what = "integers" if "integer" in kind else "numbers"
    low, high = getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)
    if low is None:
        return f"of kind {kind}"
    if high is None:
        return f"{what} {'above' if what == 'numbers' else 'from'} {np.min(low):g}"
    return f"{what} from {np.min(low):g} to {np.max(high):g}"


def _in_support(d: Any, value: jax.Array) -> jax.Array:
    if isinstance(d, dist.MaskedDistribution):
        return _in_support(d.base_dist, value) | ~jnp.asarray(d._mask, bool)
    if isinstance(d, dist.ExpandedDistribution):
        return _in_support(d.base_dist, value)
    if isinstance(d, dist.Independent):
        inner = _in_support(d.base_dist, value)
        return inner.all(axis=tuple(range(inner.ndim - d.reinterpreted_batch_ndims, inner.ndim)))
    constraint = observable(d)
    shape = value.shape[: value.ndim - len(d.event_shape)]  # at least the batch shape: `value` is that of all wrappers
    return jnp.ones(shape, bool) if constraint is None else jnp.broadcast_to(constraint(value), shape)


def _first_lane(lifted: Lifted) -> list[Any]:
    """Stand-ins for the leaves of one lane: right shapes and dtypes, no values."""
    return list(lane_avals(lifted.structure, tuple(_aval(x) for x in lifted.leaves)))


def _aval(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x) if not hasattr(x, "dtype") else x.dtype)


@cached
def lane_avals(structure: Structure, avals: tuple[jax.ShapeDtypeStruct, ...]) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes and dtypes of a distribution's arrays in one lane."""
    shapes = [a.shape for a in avals]
    for _, in_axes in structure.lanes:
        shapes = [s if axis is None else (*s[:axis], *s[axis + 1 :]) for s, axis in zip(shapes, in_axes, strict=True)]
    return tuple(jax.ShapeDtypeStruct(s, a.dtype) for s, a in zip(shapes, avals, strict=True))


@cached
def value_and_log_prob_avals(
    structure: Structure, avals: tuple[jax.ShapeDtypeStruct, ...], *, as_float: bool = False
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a draw and of its log-density; `as_float` for discrete draws that are given as floats."""

    def both(key: jax.Array, leaves: tuple) -> tuple[jax.Array, jax.Array]:
        lifted = Lifted(structure, leaves)
        value, log_prob = lifted.draw_with_log_prob(key, differentiable=lifted.has_rsample)
        return (value.astype(float) if as_float and lifted.is_discrete else value), log_prob

    return jax.eval_shape(both, jax.eval_shape(lambda: jax.random.key(0)), avals)


def distribution_name(d: Any) -> str:
    """Name of a distribution's class below wrappers: `Bernoulli` for a `BernoulliLogits`."""
    name = type(innermost(d)).__name__
    return name.removesuffix("Logits").removesuffix("Probs") or name


def innermost(d: Any) -> Any:
    """The distribution below `expand`, `mask` and `to_event`."""
    while isinstance(d, (dist.ExpandedDistribution, dist.MaskedDistribution, dist.Independent)):
        d = d.base_dist
    return d


def _unmasked(d: Any) -> Any:
    if isinstance(d, dist.MaskedDistribution):
        return _unmasked(d.base_dist)
    if isinstance(d, dist.ExpandedDistribution):
        base = _unmasked(d.base_dist)
        return d if base is d.base_dist else base.expand(d.batch_shape)
    if isinstance(d, dist.Independent):
        base = _unmasked(d.base_dist)
        return d if base is d.base_dist else base.to_event(d.reinterpreted_batch_ndims)
    return d


def unwrap_independent(d: Any) -> tuple[Any, int]:
    """The distribution below all `to_event` wrappers, and the event dimensions that the user saw.

    The elements of a node are its finest independent units: a cost that only one component of a `to_event`
    distribution influences is then credited to that component alone.
    """
    event_dim = len(getattr(d, "event_shape", ()))
    while isinstance(d, dist.Independent):
        d = d.base_dist
    return d, event_dim


def take_apart(d: Any, what: str) -> tuple[Structure, tuple[jax.Array, ...]]:
    """Structure and arrays of a distribution; `what` names the site in errors."""
    missing = [name for name in ("sample", "log_prob", "batch_shape", "event_shape") if not hasattr(d, name)]
    if missing or isinstance(d, type):
        kind = f"the class {d.__name__}" if isinstance(d, type) else f"a {type(d).__name__}"
        raise ProgramError(
            f"{what} was given {kind}, which is not a distribution. Pass a numpyro distribution, such as "
            "`numpyro.distributions.Normal(loc, scale)`."
        )
    d, event_dim = unwrap_independent(d)
    leaves, treedef = jax.tree.flatten(d)
    for leaf in leaves:
        if not (hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex))):
            raise ProgramError(
                f"{what}: the distribution {type(d).__name__} holds a {type(leaf).__name__} where an array is "
                "expected. Its class must be registered as a JAX pytree whose leaves are arrays."
            )
    return Structure(treedef, event_dim), tuple(jnp.asarray(leaf) for leaf in leaves)
