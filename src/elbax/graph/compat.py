"""Everything of JAX that moves between releases, in one place.

elbax runs programs as data: it traces them to jaxprs and evaluates those jaxprs again. What it needs for that beyond
`jax.make_jaxpr` is collected here (primitive names, parameter layouts, the effect that keeps an equation alive, source
lines), so that a new JAX release is a change to this file. `tests/graph/test_compat.py` states what each name must do.

Three rules keep the surface small. A primitive is recognised by its name, never by an imported object. A foreign
primitive is never bound by hand: a site-free equation is evaluated with `jax.core.eval_jaxpr` on a jaxpr that holds
just it, and loops and branches are emitted again through the public `jax.lax` functions. Every jaxpr is opened with
`open_jaxpr`, which accepts closed and open ones alike.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import equinox
import jax
import jax.core
import jax.numpy as jnp
import jaxtyping
import numpyro
from jax.experimental import io_callback
from jax.extend import source_info_util
from jax.extend.core import Literal, Primitive
from jax.interpreters import ad, batching, mlir, partial_eval

ShapedArray = jax.core.ShapedArray
Tracer = jax.core.Tracer

__all__ = [
    "CALLS",
    "CUSTOM_RULES",
    "IO_EFFECT",
    "REMATS",
    "Literal",
    "Primitive",
    "ShapedArray",
    "Source",
    "Tracer",
    "cached",
    "call_jaxpr",
    "caller",
    "cond_params",
    "eval_equation",
    "is_mutable",
    "is_of_library",
    "keep_user_line",
    "make_primitive",
    "open_jaxpr",
    "raises_error",
    "remat_params",
    "scan_params",
    "source_of",
    "sub_jaxprs",
    "while_params",
]

CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "call", "core_closed_call"})
REMATS = frozenset({"remat", "remat2", "checkpoint"})
CUSTOM_RULES = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_jvp_call_jaxpr"})

# An unordered IO effect: JAX keeps an equation that has it, and refuses to turn a `cond` that has it into a `select`.
(IO_EFFECT,) = jax.make_jaxpr(lambda: io_callback(lambda: None, None))().effects

_LIBRARY = str(Path(__file__).resolve().parents[1])


def _folder(module: Any) -> str:
    """The folder of a package, with a separator at its end: `.../jax/`, not `.../jaxlike`."""
    return str(Path(module.__file__).resolve().parent) + os.sep


_JAX = _folder(jax)


def _skipped_folders() -> tuple[str, ...]:
    # Models that come with elbax are clients of it: their lines are shown like a user's.
    own = [str(p) + os.sep for p in Path(_LIBRARY).iterdir() if p.is_dir() and p.name != "models"]
    return (*own, _folder(numpyro), _folder(equinox), _folder(jaxtyping), _JAX, contextlib.__file__)


_SKIPPED = _skipped_folders()
_OWN_FUNCTIONS = (_JAX, _folder(numpyro))
for _path in _SKIPPED:
    source_info_util.register_exclusion(_path)


class Source(NamedTuple):
    """A line of the user's program.

    Attributes:
        file: path of the file, as Python knows it.
        line: line number, from 1.
        function: name of the function that holds the line.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}" if self.line else "an unknown line"


UNKNOWN_SOURCE = Source("unknown", 0, "")


def is_user_file(path: str) -> bool:
    """Whether a file belongs neither to elbax nor to the libraries below it."""
    return not path.startswith(_SKIPPED) and not path.startswith("<")


def caller() -> Source:
    """The innermost line of the Python stack that belongs neither to elbax nor to the libraries below it."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if is_user_file(name):
            return Source(name, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return UNKNOWN_SOURCE


def source_of(eqn: Any) -> Source:
    """The user's line that an equation of a jaxpr comes from."""
    text = source_info_util.summarize(eqn.source_info)
    place, _, function = text.partition(" (")
    parts = place.rsplit(":", 2) if place.count(":") >= 2 else place.rsplit(":", 1)
    if len(parts) < 2 or not parts[1].isdigit():
        return UNKNOWN_SOURCE
    return Source(parts[0], int(parts[1]), function.rstrip(")"))


def keep_user_line(eqn: Any) -> Any:
    """A context in which errors raised by JAX point to the user's line of `eqn`."""
    return source_info_util.user_context(eqn.source_info.traceback)


# Functions of JAX's `api.py` below which a program is differentiated.
_DIFFERENTIATES = frozenset({"grad_f", "value_and_grad_f", "jacfun", "vjp", "_vjp", "linearize", "jvp", "_jvp"})


def _leaves_loop() -> bool:
    """Whether JAX is about to evaluate an equation of a loop's body outside the loop.

    When JAX differentiates a loop in reverse it moves what does not depend on the loop out of it, without a word. It
    does so while it evaluates the body, so a frame of the loops' own rules is found on the stack before any frame of
    the derivative around them. (A derivative inside a loop is harmless: there the order is the other way round.)
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_JAX):
            file = Path(code.co_filename).name
            if file == "loops.py":
                return True
            if file == "api.py" and code.co_name in _DIFFERENTIATES:
                return False
        frame = frame.f_back
    return False


P = ParamSpec("P")
R = TypeVar("R")


def cached(fn: Callable[P, R]) -> Callable[P, R]:
    """Keeps results by arguments, which are shapes and structures, and by whether JAX computes in double precision."""
    kept = functools.lru_cache(maxsize=4096)(lambda x64, *args, **kwargs: fn(*args, **kwargs))  # type: ignore

    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return kept(jax.config.jax_enable_x64, *args, **kwargs)  # type: ignore[attr-defined]

    return wrapper


def open_jaxpr(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """The open jaxpr and its constants, of a closed or an open jaxpr."""
    if hasattr(jaxpr, "jaxpr"):
        return jaxpr.jaxpr, jaxpr.consts
    return jaxpr, ()


def is_of_library(jaxpr: Any) -> bool:
    """Whether a jaxpr is that of a function of JAX's or NumPyro's own."""
    place = getattr(getattr(jaxpr, "debug_info", None), "func_src_info", None) or ""
    return any(f" at {folder}" in place for folder in _OWN_FUNCTIONS)


def sub_jaxprs(eqn: Any) -> list[Any]:
    """All jaxprs among the parameters of an equation."""
    found = []
    for value in eqn.params.values():
        items = value if isinstance(value, (tuple, list)) else (value,)
        found += [item for item in items if hasattr(item, "eqns") or hasattr(getattr(item, "jaxpr", None), "eqns")]
    return found


def is_mutable(eqn: Any) -> bool:
    """Whether an equation makes, reads or writes a mutable array (`jax.new_ref`), whose changes no variable shows."""
    return any(type(v.aval).__name__ == "AbstractRef" for v in (*eqn.invars, *eqn.outvars)) or any(
        "InputEffect" in {t.__name__ for t in type(e).__mro__} for e in eqn.effects
    )


def raises_error(eqn: Any) -> bool:
    """Whether an equation is the callback by which `equinox.error_if` raises."""
    callback = getattr(eqn.params.get("callback"), "callback_func", None)
    return eqn.primitive.name == "pure_callback" and getattr(callback, "__module__", "") == "equinox._errors"


def eval_equation(eqn: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """Evaluates one equation that holds no site; `arguments` are the values of its non-literal inputs, each once."""
    jaxpr, variables = _single_equation(eqn)
    if len(variables) != len(arguments):
        raise ValueError(f"{eqn.primitive.name} takes {len(variables)} distinct inputs, got {len(arguments)}")
    return jax.core.eval_jaxpr(jaxpr, (), *arguments)


def distinct_inputs(eqn: Any) -> list[Any]:
    """The variables that an equation reads, each once, in order."""
    return list(dict.fromkeys(v for v in eqn.invars if not isinstance(v, Literal)))


_TEMPLATE, _ = open_jaxpr(jax.make_jaxpr(lambda: 0)())


def _single_equation(eqn: Any) -> tuple[Any, list[Any]]:
    variables = distinct_inputs(eqn)
    jaxpr = _TEMPLATE.replace(
        constvars=[], invars=variables, outvars=list(eqn.outvars), eqns=[eqn], effects=eqn.effects
    )
    return jaxpr, variables


class ScanParams(NamedTuple):
    """Parameters of a `scan` equation; its inputs are constants, then carries, then scanned arrays."""

    body: Any
    length: int
    reverse: bool
    unroll: int | bool
    num_consts: int
    num_carry: int


def scan_params(eqn: Any) -> ScanParams:
    """The layout of a `scan` equation."""
    p = eqn.params
    return ScanParams(p["jaxpr"], int(p["length"]), p["reverse"], p["unroll"], p["num_consts"], p["num_carry"])


def cond_params(eqn: Any) -> Sequence[Any]:
    """The branches of a `cond` equation; its inputs are the index, then the operands."""
    return eqn.params["branches"]


class WhileParams(NamedTuple):
    """Parameters of a `while` equation; its inputs are both sets of constants, then carries."""

    cond: Any
    body: Any
    num_cond_consts: int
    num_body_consts: int


def while_params(eqn: Any) -> WhileParams:
    """The layout of a `while` equation."""
    p = eqn.params
    return WhileParams(p["cond_jaxpr"], p["body_jaxpr"], p["cond_nconsts"], p["body_nconsts"])


def remat_params(eqn: Any) -> tuple[Any, dict[str, Any]]:
    """The body of a rematerialised call and the arguments of `jax.checkpoint` that make it again."""
    p = eqn.params
    return p["jaxpr"], {"policy": p["policy"], "prevent_cse": p["prevent_cse"]}


def call_jaxpr(eqn: Any) -> Any | None:
    """The jaxpr that a call, or an operation with a derivative rule of its own, evaluates; `None` if it shows none."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in eqn.params:
            return eqn.params[name]
    return None


def make_primitive(
    name: str,
    *,
    abstract: Callable,
    batch: Callable,
    differentiate: Callable,
    hoist: Callable,
    evaluate: Callable,
    effects: frozenset = frozenset(),
) -> Primitive:
    """A primitive with several results whose batching rule also runs when no operand is batched.

    Args:
        name: shown in jaxprs.
        abstract: `(*avals, **params) -> [avals of the results]`.
        batch: `(size, values, dims, **params) -> (results, dims)`; called for every `vmap` around the equation.
        differentiate: called instead of a derivative rule.
        hoist: `(**params)`; called before JAX moves the equation out of a loop.
        evaluate: called when the equation is run outside an elbax program.
        effects: effects of the equation.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_effectful_abstract_eval(lambda *avals, **params: (abstract(*avals, **params), effects))
    primitive.def_impl(evaluate)
    batching.fancy_primitive_batchers[primitive] = lambda axis_data, values, dims, **params: batch(
        axis_data.size, values, dims, **params
    )
    ad.primitive_jvps[primitive] = differentiate

    def partial_evaluation(trace: Any, *tracers: Any, **params: Any) -> Any:
        if all(t.is_known() for t in tracers) and _leaves_loop():
            hoist(**params)
        return trace.default_process_primitive(primitive, tracers, params)

    partial_eval.custom_partial_eval_rules[primitive] = partial_evaluation
    mlir.register_lowering(primitive, lambda ctx, *args, **params: evaluate(*args, **params))
    return primitive


def move_axis_to_front(x: Any, dim: int | None, size: int) -> Any:
    """`x` with its batch dimension first; an unbatched array is repeated."""
    return jnp.broadcast_to(x, (size, *jnp.shape(x))) if dim is None else jnp.moveaxis(x, dim, 0)
