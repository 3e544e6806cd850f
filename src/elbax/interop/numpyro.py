"""Programs from NumPyro models and guides.

    model = elbax.from_numpyro(numpyro_model, x, key=key)
    guide = elbax.from_numpyro(AutoNormal(numpyro_model), x, key=key)
    fitted = elbax.fit(model, guide, x, key=key)

The NumPyro function runs as it is; its `sample` statements become elbax sites, with plates, masks and scales as NumPyro
applies them, its `param` statements become arrays of the program, unconstrained. NumPyro's `scan` and `cond` become
JAX's. Autoguides work: the joint draw that the continuous ones transform is an auxiliary site.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.primitives import Messenger

from elbax.errors import ProgramError
from elbax.graph import sites

__all__ = ["NumPyroProgram", "from_numpyro"]


class NumPyroProgram(eqx.Module):
    """A NumPyro model or guide as an elbax program.

    Attributes:
        params: the values of its `param` statements, by name, in unconstrained space; trained by `elbax.fit`.
        fn: the NumPyro function.
    """

    params: dict[str, Any]
    fn: Callable = eqx.field(static=True)
    _constraints: dict[str, Any] = eqx.field(static=True, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Runs the function with its statements as elbax sites; what it returns is no cost and is left out."""
        with _ToElbax(self.constrained()):
            self.fn(*args, **kwargs)

    def constrained(self) -> dict[str, Any]:
        """The parameters in their own space, for `numpyro.infer.Predictive` and the like."""
        return {
            name: jax.tree.map(biject_to(self._constraints[name]), value) if name in self._constraints else value
            for name, value in self.params.items()
        }

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function."""
        return inspect.signature(self.fn)

    @property
    def program_name(self) -> str:
        """Name of the function, for messages."""
        return getattr(self.fn, "__name__", type(self.fn).__name__)


def from_numpyro(fn: Callable, *args: Any, key: jax.Array, **kwargs: Any) -> NumPyroProgram:
    """Makes a program of a NumPyro model or guide.

    Args:
        fn: the model or guide.
        *args: example arguments; the function is run on them once, for the initial values of its parameters.
        key: random key for that run.
        **kwargs: likewise.

    Returns:
        A program whose parameters are the function's `param` statements.

    Raises:
        ProgramError: for statements that have no counterpart.
    """
    seeded = handlers.seed(fn, key)
    found = handlers.trace(seeded).get_trace(*args, **kwargs)
    params, constraint_of = {}, {}
    for name, site in found.items():
        if site["type"] != "param":
            continue
        constraint = site["kwargs"].get("constraint", constraints.real)
        if constraint is constraints.real:
            params[name] = jax.tree.map(jnp.asarray, site["value"])
        else:
            params[name] = biject_to(constraint).inv(jnp.asarray(site["value"]))
            constraint_of[name] = constraint
    return NumPyroProgram(params, fn, constraint_of)


class Rows(dist.Distribution):
    """Which rows a subsampled plate takes: a uniform choice without replacement, the same for model and guide."""

    support = constraints.nonnegative_integer  # pyright: ignore
    is_noise = True
    pytree_aux_fields = ("size", "subsample_size")

    def __init__(self, size: int, subsample_size: int) -> None:
        self.size, self.subsample_size = size, subsample_size
        super().__init__(batch_shape=(), event_shape=(subsample_size,))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Row numbers. Shape `sample_shape + (subsample_size,)`."""
        assert not sample_shape
        return jax.random.choice(key, self.size, (self.subsample_size,), replace=False)

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Zero: the choice is no part of the model."""
        return jnp.zeros(())


class _ToElbax(Messenger):
    """The outermost handler: what arrives here has passed plates, masks and scales, and gets its value from elbax."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        self.params = params

    def process_message(self, msg: Any) -> None:
        """Called by NumPyro for every statement."""
        kind = msg["type"]
        if kind == "sample":
            _state_site(msg)
        elif kind == "param" and msg["name"] in self.params:
            msg["value"] = self.params[msg["name"]]
        elif kind == "param":
            raise ProgramError(
                f"numpyro.param '{msg['name']}' was not there when the program was made. Statements must not depend on "
                "the data given; make the program again with `elbax.from_numpyro` on data like these."
            )
        elif kind == "plate" and msg["value"] is None:
            msg["value"] = sites.sample(f"{msg['name']}:rows", Rows(*msg["args"]))
        elif kind == "control_flow":
            msg["value"] = _control_flow(msg)
        elif kind == "prng_key" and msg["value"] is None:
            raise ProgramError(
                "the NumPyro program asks for a random key (numpyro.prng_key). Draw with numpyro.sample instead, so "
                "that the randomness is a site."
            )


def _state_site(msg: Any) -> None:
    name, fn = msg["name"], msg["fn"]
    scale = 1.0 if msg["scale"] is None else msg["scale"]
    if msg["is_observed"]:
        sites.observe(name, fn, msg["value"], scale=scale)
    elif msg["value"] is None:
        shape = tuple(msg["kwargs"].get("sample_shape", ()))
        fn = fn.expand(shape + tuple(fn.batch_shape)) if shape else fn
        if not msg["infer"].get("is_auxiliary", False):
            msg["value"] = sites.sample(name, fn, scale=scale)
        elif isinstance(fn, dist.TransformedDistribution):
            msg["value"] = _flow(name, fn)
        else:
            msg["value"] = sites.sample(name, fn, scale=scale, auxiliary=True)


def _flow(name: str, fn: dist.TransformedDistribution) -> jax.Array:
    """A draw of a normalising flow: its base draw is the site, its transforms are part of the program.

    NumPyro's flows hold their networks as closures, not as arrays of the distribution, so that they cannot be taken
    apart; and some cannot be inverted. Neither is needed when the transforms run here.
    """
    x = sites.sample(name, fn.base_dist, auxiliary=True)
    log_det = jnp.zeros(())
    for transform in fn.transforms:
        y, *rest = transform.call_with_intermediates(x)
        step = transform.log_abs_det_jacobian(x, y, *rest)
        log_det = log_det + jnp.sum(step, axis=tuple(range(len(fn.batch_shape), jnp.ndim(step))))
        x = y
    point = dist.Delta(x, log_density=-log_det, event_dim=len(fn.event_shape))
    return sites.sample(f"{name}:transformed", point, auxiliary=True)


def _control_flow(msg: Any) -> Any:
    """NumPyro's `scan` and `cond` as JAX's own: sites inside need no help from handlers."""
    nothing = SimpleNamespace(trace={})
    if "scan" in msg["fn"].__name__:
        fn, init, xs, length, reverse = msg["args"]
        if msg["kwargs"].get("history", 1) != 1:
            raise ProgramError("numpyro's scan with history other than 1 is for enumeration, which elbax does itself.")
        carry, ys = jax.lax.scan(fn, init, xs, length=length, reverse=reverse)
        return (length, None, carry), (nothing, ys)
    predicate, true_fn, false_fn, operand = msg["args"]
    return jax.lax.cond(predicate, true_fn, false_fn, operand), nothing
