"""From a Python function to a block: one run of the function on abstract values.

Everything that can be wrong with a program and be seen without numbers is found here or in the analysis: names used
twice, sites lost between Python and JAX, Python `if` on a sample, costs in a `cond` that `vmap` turns into a `select`,
results that are not costs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.errors import ElbaxError, ProgramError
from elbax.graph import compat, ir
from elbax.graph.analysis import InputNode, check_unique_names
from elbax.graph.compat import Source, is_user_file
from elbax.graph.ir import Block, Constant
from elbax.graph.sites import Recorder, recording

__all__ = ["Arguments", "Captured", "capture", "program_name", "returned_costs"]


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call, taken apart.

    Attributes:
        arrays: leaves that are traced: arrays and Python floats.
        static: everything else, with the structure of the call; equal for calls that trace alike.
        inputs: one node per argument.
        owners: for each array, the index of its argument.
    """

    arrays: list[Any]
    static: Any
    inputs: tuple[InputNode, ...]
    owners: tuple[int, ...]

    @classmethod
    def of(cls, program: Callable, args: tuple, kwargs: dict[str, Any], batch_axes: tuple[int, ...] = ()) -> Arguments:
        """Takes a call apart; the leading axis of the arguments in `batch_axes` is followed through the program."""
        names = _parameter_names(program, args, kwargs)
        values = [*args, *kwargs.values()]
        arrays, inputs, owners, statics = [], [], [], []
        for i, (name, value) in enumerate(zip(names, values, strict=True)):
            dynamic, static = eqx.partition(value, _is_traced)
            leaves = jax.tree.leaves(dynamic)
            arrays += leaves
            owners += [i] * len(leaves)
            statics.append((jax.tree.structure(dynamic), static))
            inputs.append(InputNode(name, _leading_size(leaves) if i in batch_axes else None))
        return cls(arrays, (tuple(statics), len(args), tuple(kwargs)), tuple(inputs), tuple(owners))

    def without_arrays(self) -> Arguments:
        """The same arguments with shapes in place of arrays, to be kept."""
        shapes = [
            jax.ShapeDtypeStruct(jnp.shape(x), getattr(x, "dtype", None) or jnp.result_type(x)) for x in self.arrays
        ]
        return replace(self, arrays=shapes)

    def rebuild(self, arrays: list[Any]) -> tuple[tuple, dict[str, Any]]:
        """The positional and keyword arguments, with other arrays."""
        statics, num_args, keywords = self.static
        values, start = [], 0
        for treedef, static in statics:
            leaves = arrays[start : start + treedef.num_leaves]
            start += treedef.num_leaves
            values.append(eqx.combine(jax.tree.unflatten(treedef, leaves), static))
        return tuple(values[:num_args]), dict(zip(keywords, values[num_args:], strict=True))

    def signature(self) -> Any:
        """A key that is equal for calls that trace alike; `None` if there is no such key."""
        statics, num_args, keywords = self.static
        flat = tuple((treedef, *_flat_static(static)) for treedef, static in statics)
        avals = tuple((jnp.shape(x), jnp.result_type(x), getattr(x, "weak_type", False)) for x in self.arrays)
        key = (flat, num_args, keywords, avals, jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        try:
            hash(key)
        except TypeError:
            return None
        return key


def _flat_static(static: Any) -> tuple[Any, ...]:
    leaves, treedef = jax.tree.flatten(static)
    return (treedef, *leaves)


def _is_traced(x: Any) -> bool:
    return eqx.is_array_like(x) and not isinstance(x, (bool, int))


def _leading_size(leaves: list[Any]) -> int | None:
    sizes = {x.shape[0] for x in leaves if getattr(x, "shape", ())}
    return sizes.pop() if len(sizes) == 1 else None


def _parameter_names(program: Callable, args: tuple, kwargs: dict[str, Any]) -> list[str]:
    try:
        parameters = list(inspect.signature(program).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "arg")
    names = [positional[i] if i < len(positional) else f"{rest}{i}" for i in range(len(args))]
    return [*names, *kwargs]


def program_name(program: Callable) -> str:
    """What to call a program in messages."""
    own = getattr(program, "program_name", None) or getattr(program, "__qualname__", None)
    return own or type(program).__name__


def program_place(program: Callable) -> str:
    """What to call a program in messages, with its line where that is the user's."""
    plain = inspect.unwrap(program if hasattr(program, "__code__") else getattr(program, "__wrapped__", program))
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    name = f"program `{program_name(program)}`"
    if code is None or not is_user_file(code.co_filename):
        return name
    return f"{name} ({Source(code.co_filename, code.co_firstlineno, code.co_name)})"


@dataclass(frozen=True)
class Captured:
    """A program as data.

    Attributes:
        name: what to call it.
        place: what to call it in messages.
        block: its equations; the outputs of the block are the leaves of what the program returned.
        result: what the program returned, with abstract values in place of arrays.
        portable: whether the block may be kept for later calls (it holds no tracer of an outer transformation).
    """

    name: str
    place: str
    block: Block
    result: Any
    portable: bool


def _run_program(program: Callable, arguments: Arguments, arrays: list[Any]) -> Any:
    args, kwargs = arguments.rebuild(arrays)
    return program(*args, **kwargs)


def capture(program: Callable, arguments: Arguments) -> Captured:
    """Runs a program on abstract values and reads the block that it leaves.

    Raises:
        ProgramError: for whatever cannot be turned into a graph.
    """
    place = program_place(program)
    statics: list[Any] = []

    def run(*arrays: Any) -> Any:
        dynamic, static = eqx.partition(_run_program(program, arguments, list(arrays)), eqx.is_array_like)
        statics.append(static)
        return dynamic

    with recording() as recorder, _explained(place, recorder):
        jaxpr, shapes = jax.make_jaxpr(run, return_shape=True)(*arguments.arrays)
    block = ir.read(jaxpr)
    check_unique_names(block)
    _check_nothing_lost(place, recorder, block)
    portable = not any(isinstance(a.value, compat.Tracer) for a in ir.atoms(block) if isinstance(a, Constant))
    return Captured(program_name(program), place, block, eqx.combine(shapes, statics[0]), portable)


def _check_nothing_lost(place: str, recorder: Recorder, block: Block) -> None:
    found = {eq.name for eq in ir.walk(block) if isinstance(eq, ir.SITES)}
    lost = [(site, source) for _, site, source in recorder.calls if site not in found]
    if lost:
        listing = ", ".join(f"'{site}' ({source})" for site, source in lost)
        raise ProgramError(
            f"{place}: {listing} was stated but is not in the traced program. JAX removes computations whose "
            "results are unused when it differentiates or rematerialises inside a program. Return the cost from the "
            "program, or keep the site out of functions that the program differentiates itself."
        )


_NEEDS_NUMBER = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerArrayConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


@contextmanager
def _explained(place: str, recorder: Recorder) -> Iterator[None]:
    """Turns JAX's own tracing errors into errors that name the sites."""
    try:
        yield
    except ElbaxError:
        raise
    except _NEEDS_NUMBER as error:
        raise ProgramError(_python_control_flow(place, recorder, error)) from error
    except TypeError as error:
        if "concrete values" not in str(error):
            raise
        raise ProgramError(_python_control_flow(place, recorder, error)) from error
    except NotImplementedError as error:
        costs = _listed(recorder, "cost", "observe", "baseline")
        if "ffect" not in str(error) or not costs:
            raise
        if "vmap" not in str(error):
            raise ProgramError(
                f"{place}: JAX cannot carry a statement that acts, such as `elbax.cost` or `elbax.observe`, "
                f"through what stands{_innermost_user_line(error)} ({error}). Return the cost from there and state it "
                f"outside (costs stated so far: {costs})."
            ) from error
        raise ProgramError(
            f"{place}: a cost is stated inside a `cond` or `switch`{_innermost_user_line(error)} whose index "
            "differs between the lanes of a `vmap`. JAX then runs all branches for all lanes, and would count the "
            "costs of branches not taken. Return the cost from the branches, and state it outside (costs stated so "
            f"far: {costs})."
        ) from error
    except ValueError as error:
        if "out_axes" not in str(error) or not any(kind == "sample" for kind, _, _ in recorder.calls):
            raise
        raise ProgramError(
            f"{place}: a result that differs between the lanes of a `vmap`{_innermost_user_line(error)} is "
            f"declared to be the same in all of them ({error}). A site draws anew in every lane, also in the `vmap` "
            "that jax.jacfwd and jax.hessian use: move it out of there and pass its value in, or use out_axes=0 "
            f"(values drawn so far: {_listed(recorder, 'sample')})."
        ) from error


def _listed(recorder: Recorder, *kinds: str) -> str:
    return ", ".join(f"'{site}' ({source})" for kind, site, source in recorder.calls if kind in kinds)


def _python_control_flow(place: str, recorder: Recorder, error: Exception) -> str:
    sites = _listed(recorder, "sample")
    drawn = f"Values drawn before that line: {sites}. " if sites else ""
    return (
        f"{place} needs the number behind a traced value{_innermost_user_line(error)} (Python `if`, `while`, "
        f"`int()`, `range`, NumPy, an index into a list, or a shape). {drawn}Programs are traced once for all draws: "
        "choose with `jnp.where` or `jax.lax.cond`, index with `jnp` arrays, and loop with `jax.lax.scan`."
    )


def _innermost_user_line(error: Exception) -> str:
    trace, line = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if is_user_file(code.co_filename):
            line = f" at {Source(code.co_filename, trace.tb_lineno, code.co_name)}"
        trace = trace.tb_next
    return line


def returned_costs(captured: Captured) -> Block:
    """The block in which what the program returned has become costs: a scalar, an array, or a dict of them.

    Raises:
        ProgramError: if the program returned something else, or neither returned nor stated a cost.
    """
    block, result = captured.block, captured.result
    named = _named_costs(captured.place, result)
    stated = {eq.name: eq.source for eq in ir.walk(block) if isinstance(eq, (ir.Cost, ir.Observe, ir.Sample))}
    costs: list[ir.Equation] = []
    for (name, aval), atom in zip(named.items(), block.outputs, strict=True):
        if name in stated:
            raise ProgramError(
                f"{captured.place} returns a cost called '{name}', which is also the name of the site at "
                f"{stated[name]}. Names must be unique: rename one of them."
            )
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            raise ProgramError(
                f"{captured.place} returns '{name}' with dtype {aval.dtype}; a cost must be a real float. "
                "Return only costs, as floats."
            )
        costs.append(ir.Cost((atom,), (), Source("return", 0, captured.name), name))
    if not named and not any(isinstance(eq, (ir.Cost, ir.Observe)) for eq in ir.walk(block)):
        raise ProgramError(
            f"{captured.place} has no cost: it neither returns one nor states one with `elbax.cost` or "
            "`elbax.observe`. Return the loss."
        )
    return replace(block, equations=(*block.equations, *costs), outputs=())


def _named_costs(place: str, result: Any) -> dict[str, Any]:
    if result is None:
        return {}
    if hasattr(result, "shape"):
        return {"loss": result}
    if isinstance(result, dict) and all(isinstance(k, str) and hasattr(v, "shape") for k, v in result.items()):
        return {k: result[k] for k in sorted(result)}  # the order of a dict's leaves
    kind = f"{type(result).__name__}"
    raise ProgramError(
        f"{place} returned a {kind}. A program returns its costs: a scalar or array, or a dict of named "
        "arrays, or nothing if it states them with `elbax.cost` and `elbax.observe`."
    )
