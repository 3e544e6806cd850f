"""Runs a block: equations with sites are built again through public JAX functions, the rest is evaluated as it stands.

A site inside a loop, a branch or a rematerialised call has something to say to the outside: its log-density, the value
of a cost. These *records* leave by the way values leave: stacked as further outputs of `scan`, zero for the branch of
a `cond` that is not taken, as results of a checkpointed call. What a site needs from outside (its key, or a value that
replaces the draw) is its *feed* and enters as a scanned array, so that nothing is derived step by step in a loop.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from elbax.graph import compat, ir
from elbax.graph.distributions import Lifted
from elbax.graph.ir import Atom, Block, Constant, Var

__all__ = ["Env", "OnObserve", "OnSample", "Records", "evaluate", "evaluate_in", "negative_log_prob", "site_keys"]

# The value of every variable of a block
Env = dict[Var, Any]

# (site, its distribution, its feed) -> (value, log-density or None if nobody reads it, what to record)
OnSample = Callable[[ir.Sample, Lifted, Any], tuple[Any, Any, Any]]
# (site, its distribution, the data) -> what to record among the costs
OnObserve = Callable[[ir.Observe, Lifted, Any], Any]


@jax.tree_util.register_dataclass
@dataclass
class Records:
    """What sites said; arrays have the axes of the loops around the site first, outermost first.

    Attributes:
        samples: by site name, what `on_sample` asked to record.
        costs: by name and part.
        baselines: by the name of the sample site that they belong to.
    """

    samples: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, Any] = field(default_factory=dict)

    def update(self, other: Records) -> None:
        """Adds the records of another block."""
        self.samples |= other.samples
        self.costs |= other.costs
        self.baselines |= other.baselines


def cost_key(name: str, part: int) -> str:
    """Key of a term of a cost among records (a string, since records are a pytree)."""
    return f"{name}\n{part}"


def site_keys(key: jax.Array, loops: Mapping[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    """One random key per site and step of the loops around it.

    The key of a site depends on its name and the caller's key only, so that adding a site elsewhere does not change
    its draws.
    """
    keys = {}
    for name, lengths in loops.items():
        site_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
        keys[name] = jax.random.split(site_key, lengths) if lengths else site_key
    return keys


def negative_log_prob(eq: ir.Observe, dist: Lifted, value: Any) -> jax.Array:
    """The cost of an observed site, in nats. Shape of its node."""
    log_prob = dist.log_prob(value)
    return -log_prob if eq.options.scale == 1.0 else -eq.options.scale * log_prob


def evaluate(
    block: Block,
    inputs: Sequence[Any],
    on_sample: OnSample,
    feeds: Mapping[str, Any],
    on_observe: OnObserve = negative_log_prob,
) -> tuple[list[Any], Records]:
    """Runs a block.

    Args:
        block: the program.
        inputs: its arguments, flat.
        on_sample: decides the value of every sample site.
        feeds: by site name, what `on_sample` gets; arrays with the axes of the loops around the site first.
        on_observe: what is recorded for an observed site; its cost by default.

    Returns:
        The outputs of the block and the records of its sites.
    """
    env: Env = dict(zip(block.inputs, inputs, strict=True))
    records = evaluate_in(env, block.equations, on_sample, feeds, on_observe)
    return [read(env, a) for a in block.outputs], records


def read(env: Mapping[Var, Any], atom: Atom) -> Any:
    """The value of an atom."""
    return atom.value if isinstance(atom, Constant) else env[atom]


def evaluate_in(
    env: MutableMapping[Var, Any],
    equations: Sequence[ir.Equation],
    on_sample: OnSample,
    feeds: Mapping[str, Any],
    on_observe: OnObserve = negative_log_prob,
) -> Records:
    """Runs equations, taking values from and adding them to `env`; see `evaluate`."""
    records = Records()
    runner = _Runner(on_sample, feeds, on_observe)
    for eq in equations:
        results = runner.equation(eq, [read(env, a) for a in eq.inputs], records)
        env.update((v, x) for v, x in zip(eq.outputs, results, strict=True) if v is not None)
    return records


@dataclass(frozen=True)
class _Runner:
    on_sample: OnSample
    feeds: Mapping[str, Any]
    on_observe: OnObserve

    def inner(self, block: Block, inputs: Sequence[Any], feeds: Mapping[str, Any]) -> tuple[list[Any], Records]:
        return evaluate(block, inputs, self.on_sample, feeds, self.on_observe)

    def equation(self, eq: ir.Equation, values: list[Any], records: Records) -> Sequence[Any]:
        match eq:
            case ir.Sample():
                with jax.named_scope(eq.name):
                    value, log_prob, record = self.on_sample(
                        eq, Lifted(eq.structure, tuple(values)), self.feeds[eq.name]
                    )
                records.samples[eq.name] = record
                return value, log_prob
            case ir.Cost():
                records.costs[cost_key(eq.name, eq.part)] = jnp.asarray(values[0])
                return ()
            case ir.Observe():
                with jax.named_scope(eq.name):
                    record = self.on_observe(eq, Lifted(eq.structure, tuple(values[1:])), values[0])
                records.costs[cost_key(eq.name, 0)] = record
                return ()
            case ir.Baseline():
                records.baselines[eq.name] = jnp.asarray(values[0])
                return ()
            case ir.Apply():
                return compat.eval_equation(eq.eqn, [values[i] for i in eq.variables])
            case _ if not ir.must_emit(eq):
                return self.original(eq, values)
            case ir.Scan():
                return self.scan(eq, values, records)
            case ir.Cond():
                return self.cond(eq, values, records)
            case ir.Remat():
                return self.remat(eq, values, records)
        raise TypeError(f"cannot evaluate {type(eq).__name__}")

    def original(self, eq: Any, values: list[Any]) -> Sequence[Any]:
        positions = [eq.eqn.invars.index(v) for v in compat.distinct_inputs(eq.eqn)]
        return compat.eval_equation(eq.eqn, [values[i] for i in positions])

    def inner_feeds(self, eq: ir.Equation) -> dict[str, Any]:
        names = {s.name for b in eq.blocks for s in ir.walk(b) if isinstance(s, ir.Sample)}
        return {name: self.feeds[name] for name in sorted(names)}

    def scan(self, eq: ir.Scan, values: list[Any], records: Records) -> Sequence[Any]:
        first = eq.num_consts + eq.num_carry
        consts, init, xs = values[: eq.num_consts], values[eq.num_consts : first], values[first:]
        carried = eq.body.inputs[eq.num_consts : first]

        def step(carry: list[Any], x: tuple[list[Any], dict[str, Any]]) -> Any:
            outs, inner = self.inner(eq.body, [*consts, *carry, *x[0]], x[1])
            return _like(outs[: eq.num_carry], carried), (outs[eq.num_carry :], inner)

        last, (stacked, inner) = jax.lax.scan(
            step,
            _like(init, carried),
            (xs, self.inner_feeds(eq)),
            length=eq.length,
            reverse=eq.reverse,
            unroll=eq.unroll,
        )
        records.update(inner)
        return [*last, *stacked]

    def cond(self, eq: ir.Cond, values: list[Any], records: Records) -> Sequence[Any]:
        index, operands = values[0], values[1:]
        feeds = self.inner_feeds(eq)

        def run(block: Block, arguments: list[Any]) -> tuple[list[Any], Records]:
            outs, inner = self.inner(block, arguments, feeds)
            return _like(outs, eq.outputs), inner

        empty = Records()
        for block in eq.branches:
            _, shapes = jax.eval_shape(lambda *a, b=block: run(b, list(a)), *operands)
            empty.update(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

        def branch(block: Block) -> Callable:
            def taken(*arguments: Any) -> tuple[list[Any], Records]:
                outs, inner = run(block, list(arguments))
                full = Records(dict(empty.samples), dict(empty.costs), dict(empty.baselines))
                full.update(inner)
                return outs, full

            return taken

        outs, inner = jax.lax.switch(index, [branch(b) for b in eq.branches], *operands)
        records.update(inner)
        return outs

    def remat(self, eq: ir.Remat, values: list[Any], records: Records) -> Sequence[Any]:
        run = jax.checkpoint(lambda args, feeds: self.inner(eq.body, args, feeds), **eq.options)
        outs, inner = run(values, self.inner_feeds(eq))
        records.update(inner)
        return outs


def _like(values: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
    """Values with exactly the dtypes that a loop or a branch was traced with (no weak types)."""
    return [
        x if v is None or jnp.issubdtype(v.dtype, jax.dtypes.extended) else jnp.asarray(x, dtype=v.dtype)
        for x, v in zip(values, variables, strict=True)
    ]
