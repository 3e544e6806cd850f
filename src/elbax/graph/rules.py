"""How each JAX operation moves alignments: one entry per primitive.

A rule gets an equation and returns a table `[output][input]` of transfers: where an alignment with a dimension of the
input ends up in the output, or nowhere (`mix`). Rules see shapes and parameters, never values, and know nothing of
nodes. An operation without a rule mixes everything, which is sound; `graph.unknown` lists it.

A wrong rule would be silent bias. Three things guard the table: `tests/graph/test_rules.py` perturbs every element of
the input of every rule, `tests/graph/test_soundness.py` does so for random programs, and `tests/graph/coverage.py`
lists primitives without a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from elbax.graph import compat
from elbax.graph.ir import Apply, Atom, Constant
from elbax.graph.relations import INF, Align, Transfer, moves

__all__ = ["FLAT", "MIXED", "RULES", "SAME_POSITION", "keep", "mix", "transfers"]

Table = Sequence[Sequence[Transfer]]
Rule = Callable[[Apply], Table]


def keep(a: Align) -> Align | None:
    """The alignment as it is."""
    return a


def mix(a: Align) -> Align | None:
    """No alignment is left."""
    return None


def transfers(eq: Apply) -> Table | None:
    """The table of an equation; `None` for an operation without a rule."""
    rule = RULES.get(eq.name)
    return None if rule is None else rule(eq)


def everything_mixed(eq: Apply) -> Table:
    """Every output depends on every element of every input."""
    return [[mix] * len(eq.inputs)] * len(eq.outputs)


# ------------------------------------------------------------------------------------------ element by element

ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type cbrt ceil
    clamp clz complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2
    expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt
    lt_to max min mul mulhi ne neg nextafter not or polygamma population_count pow real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin
    sinh sqrt square stop_gradient sub tan tanh xor zeta name
    """.split()
)

# Results stand in the position of the operand they come from.
SAME_POSITION = frozenset(
    """
    optimization_barrier device_put sharding_constraint layout_constraint pvary reshard with_memory_space_constraint
    nonbatchable nontraceable nondifferentiable_backward
    """.split()
)

# Operations whose derivative is zero where it exists, and which jump in between.
FLAT = frozenset({"floor", "ceil", "round", "sign", "nextafter"})

# No useful alignment: everything is mixed on purpose.
MIXED = frozenset(
    """
    random_bits random_fold_in random_gamma random_seed random_split random_wrap random_unwrap random_clone
    rng_bit_generator rng_uniform threefry2x32 custom_linear_solve linear_call pure_callback io_callback debug_callback
    debug_print ffi_call iota empty empty2 create_token after_all iota_2x32_shape ragged_dot_general scaled_dot
    approx_top_k reduce_scatter shard_map custom_vmap_call custom_partitioning hessenberg tridiagonal eig schur
    lu_pivots_to_permutation cholesky_update symmetric_product dot_product_attention_fwd unvmap_any unvmap_all
    unvmap_max
    """.split()
)


def elementwise(eq: Apply) -> Table:
    """Inputs keep their place; what is repeated (scalars, dimensions of size one) has none."""
    return [[_broadcasting(x.shape, eq.outputs[0].shape) for x in eq.inputs]]


def _broadcasting(source: tuple[int, ...], target: tuple[int, ...]) -> Transfer:
    if source == target:
        return keep
    if len(source) != len(target):
        return mix
    return moves({d: d for d, (n, m) in enumerate(zip(source, target, strict=True)) if n == m})


def same_position(eq: Apply) -> Table:
    """Output `k` is input `k`."""
    return [[keep if i == o else nothing for i in range(len(eq.inputs))] for o in range(len(eq.outputs))]


# `nothing` marks an input that an output does not depend on at all.
def nothing(a: Align) -> Align | None:
    """The output does not depend on this input."""
    raise AssertionError("never applied")


# ------------------------------------------------------------------------------------------ shapes


def _renumber(ndim: int, removed: Sequence[int]) -> dict[int, int]:
    gone = {int(r) for r in removed}
    left = [d for d in range(ndim) if d not in gone]
    return {d: i for i, d in enumerate(left)}


def reduction(eq: Apply) -> Table:
    """Dimensions that are not reduced stay."""
    axes = eq.eqn.params["axes"]
    return [[moves(_renumber(len(eq.inputs[0].shape), axes))]]


def general_reduce(eq: Apply) -> Table:
    """`reduce`: operands, then initial values."""
    n = len(eq.inputs) // 2
    move = moves(_renumber(len(eq.inputs[0].shape), eq.eqn.params["dimensions"]))
    return [[move] * n + [mix] * n for _ in eq.outputs]


def squeeze(eq: Apply) -> Table:
    """Removes dimensions of size one."""
    return [[moves(_renumber(len(eq.inputs[0].shape), eq.eqn.params["dimensions"]))]]


def broadcast_in_dim(eq: Apply) -> Table:
    """Dimensions that are repeated lose their alignment."""
    source, target = eq.inputs[0].shape, eq.outputs[0].shape
    dims = [int(d) for d in eq.eqn.params["broadcast_dimensions"]]
    table = {i: d for i, d in enumerate(dims) if source[i] == target[d]}
    return [[moves(table), *([mix] * (len(eq.inputs) - 1))]]


def reshape(eq: Apply) -> Table:
    """Row-major re-factoring: the coordinate with a given stride is found again in the new shape."""
    old, new = eq.inputs[0].shape, eq.outputs[0].shape
    return [[reshape_transfer(old, new), *([mix] * (len(eq.inputs) - 1))]]


def reshape_transfer(old: tuple[int, ...], new: tuple[int, ...]) -> Transfer:
    """Where an alignment goes when `old` is reshaped to `new`.

    The aligned coordinate of linear index `l` is `(l // stride) % size`. It lies in new dimension `d` when the stride
    is a multiple of that dimension's stride and the dimension's size holds whole periods of it.
    """

    def transfer(a: Align) -> Align | None:
        stride = a.inner * math.prod(old[a.dim + 1 :])
        for d, n in enumerate(new):
            below = math.prod(new[d + 1 :])
            if below and stride % below == 0:
                inner = stride // below
                if inner and a.size and n % (inner * a.size) == 0 and n >= a.size:
                    return a._replace(dim=d, inner=inner)
        return None

    return transfer


def transpose(eq: Apply) -> Table:
    """Dimensions change places."""
    return [[moves({int(d): i for i, d in enumerate(eq.eqn.params["permutation"])})]]


def shifted(a: Align, old: int, new: int, low: float, high: float, dim: int | None = None) -> Align | None:
    """An alignment with a plain dimension of size `old` that becomes one of size `new`, its band moved."""
    if a.inner != 1 or a.size != old:
        return None
    moved = a.shifted(low, high)
    return None if moved is None else moved._replace(size=new, dim=a.dim if dim is None else dim)


def _window(
    old: Sequence[int],
    new: Sequence[int],
    offsets: Sequence[tuple[float, float] | None],
    to: Sequence[int] | None = None,
) -> Transfer:
    """Output element `i` reads input elements `i + low .. i + high` along each dimension; `None` mixes it."""

    def transfer(a: Align) -> Align | None:
        offset = offsets[a.dim]
        if offset is None:
            return None
        target = a.dim if to is None else to[a.dim]
        if offset == (0, 0) and old[a.dim] == new[target]:
            return a._replace(dim=target)
        return shifted(a, old[a.dim], new[target], *offset, dim=target)

    return transfer


def slicing(eq: Apply) -> Table:
    """Output `i` is input `i + start`; strides mix, unless the dimension is untouched."""
    old, new = eq.inputs[0].shape, eq.outputs[0].shape
    p = eq.eqn.params
    strides = p["strides"] or (1,) * len(old)
    offsets = [(int(s), int(s)) if int(t) == 1 else None for s, t in zip(p["start_indices"], strides, strict=True)]
    return [[_window(old, new, offsets)]]


def pad(eq: Apply) -> Table:
    """Output `i` is input `i - low`; interior padding mixes."""
    old, new = eq.inputs[0].shape, eq.outputs[0].shape
    offsets = [(-int(lo), -int(lo)) if int(mid) == 0 else None for lo, _, mid in eq.eqn.params["padding_config"]]
    return [[_window(old, new, offsets), mix]]


def concatenate(eq: Apply) -> Table:
    """Piece by piece: output `i` is input `i - offset`."""
    axis, new, start, row = int(eq.eqn.params["dimension"]), eq.outputs[0].shape, 0, []
    for x in eq.inputs:
        offsets = [(-start, -start) if d == axis else (0, 0) for d in range(len(new))]
        row.append(_window(x.shape, new, offsets))
        start += x.shape[axis]
    return [row]


def split(eq: Apply) -> Table:
    """Each output is a slice."""
    axis, old, start, table = int(eq.eqn.params["axis"]), eq.inputs[0].shape, 0, []
    for out in eq.outputs:
        offsets = [(start, start) if d == axis else (0, 0) for d in range(len(old))]
        table.append([_window(old, out.shape, offsets)])
        start += out.shape[axis]
    return table


def stack(eq: Apply) -> Table:
    """Adds a dimension."""
    axis, ndim = int(eq.eqn.params["axis"]), len(eq.inputs[0].shape)
    return [[moves({d: d + (d >= axis) for d in range(ndim)})] * len(eq.inputs)]


def unstack(eq: Apply) -> Table:
    """Removes a dimension."""
    axis, ndim = int(eq.eqn.params["axis"]), len(eq.inputs[0].shape)
    return [[moves(_renumber(ndim, [axis]))] for _ in eq.outputs]


def tile(eq: Apply) -> Table:
    """Repeats a dimension as a whole, so that a coordinate is found again as a factor of it."""
    return [[keep]]


def rev(eq: Apply) -> Table:
    """A reversed dimension runs against its node."""
    turned = {int(d) for d in eq.eqn.params["dimensions"]}
    return [[moves({d: d for d in range(len(eq.inputs[0].shape)) if d not in turned})]]


# ------------------------------------------------------------------------------------------ along an axis


def cumulative(eq: Apply) -> Table:
    """Output `i` has seen inputs up to `i`, or from `i` on when reversed."""
    axis, shape = int(eq.eqn.params["axis"]), eq.inputs[0].shape
    band = (0, INF) if eq.eqn.params["reverse"] else (-INF, 0)
    return [[_window(shape, shape, [band if d == axis else (0, 0) for d in range(len(shape))])]]


def sort(eq: Apply) -> Table:
    """Mixes the sorted dimension; every output depends on every operand."""
    axis = int(eq.eqn.params["dimension"])
    ndim = len(eq.inputs[0].shape)
    row = [moves({d: d for d in range(ndim) if d != axis})] * len(eq.inputs)
    return [row] * len(eq.outputs)


def top_k(eq: Apply) -> Table:
    """Mixes the dimension along which it selects."""
    ndim = len(eq.inputs[0].shape)
    axis = int(eq.eqn.params.get("operand_axis", eq.eqn.params.get("axis", -1))) % ndim
    return [[moves({d: d for d in range(ndim) if d != axis})]] * len(eq.outputs)


def convolution(eq: Apply) -> Table:
    """Keeps the batch dimension; a window of stride one widens the band of a spatial dimension."""
    p, (lhs, rhs), out = eq.eqn.params, (eq.inputs[0].shape, eq.inputs[1].shape), eq.outputs[0].shape
    numbers = p["dimension_numbers"]
    to = [0] * len(lhs)
    offsets: list[tuple[float, float] | None] = [None] * len(lhs)
    if int(p["batch_group_count"]) == 1:
        to[numbers.lhs_spec[0]], offsets[numbers.lhs_spec[0]] = numbers.out_spec[0], (0, 0)
    spatial = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    for k, (d, r, o) in enumerate(spatial):
        low = -int(p["padding"][k][0])
        high = low + (rhs[r] - 1) * int(p["rhs_dilation"][k])
        to[d] = o
        offsets[d] = (low, high) if int(p["window_strides"][k]) == int(p["lhs_dilation"][k]) == 1 else None
    kernel = {numbers.rhs_spec[0]: numbers.out_spec[1]} if int(p["batch_group_count"]) == 1 else {}
    return [[_window(lhs, out, offsets, to), moves(kernel)]]


def _windows(p: dict, old: Sequence[int], new: Sequence[int]) -> Transfer:
    offsets = []
    ones = (1,) * len(old)
    dilation, base = p.get("window_dilation") or ones, p.get("base_dilation") or ones
    for k, size in enumerate(p["window_dimensions"]):
        low = -int(p["padding"][k][0])
        high = low + (int(size) - 1) * int(dilation[k])
        offsets.append((low, high) if int(p["window_strides"][k]) == int(base[k]) == 1 else None)
    return _window(old, new, offsets)


def reduce_window(eq: Apply) -> Table:
    """A sliding reduction; scalars after the operands are initial values."""
    old, new = eq.inputs[0].shape, eq.outputs[0].shape
    row = [_windows(eq.eqn.params, old, new) if x.shape == old else mix for x in eq.inputs]
    return [row] * len(eq.outputs)


def untouched_windows(eq: Apply) -> Table:
    """Pooling gradients: only dimensions that the window leaves alone keep their alignment."""
    p, ones = eq.eqn.params, (1,) * len(eq.inputs[0].shape)
    sizes = zip(
        p["window_dimensions"],
        p["window_strides"],
        p.get("base_dilation") or ones,
        p.get("window_dilation") or ones,
        p["padding"],
        strict=True,
    )
    single = [all(int(n) == 1 for n in numbers) and not any(padding) for *numbers, padding in sizes]
    move = moves({d: d for d, one in enumerate(single) if one})
    return [[move if len(x.shape) == len(single) else mix for x in eq.inputs]] * len(eq.outputs)


def fft(eq: Apply) -> Table:
    """Mixes the transformed dimensions, the last ones."""
    ndim = len(eq.inputs[0].shape)
    return [[moves({d: d for d in range(ndim - len(eq.eqn.params["fft_lengths"]))})]]


# ------------------------------------------------------------------------------------------ linear algebra


def dot_general(eq: Apply) -> Table:
    """Result dimensions: batch, then the left operand's free ones, then the right operand's."""
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = eq.eqn.params["dimension_numbers"]
    lhs_ndim, rhs_ndim = len(eq.inputs[0].shape), len(eq.inputs[1].shape)
    used_lhs, used_rhs = {int(d) for d in (*lhs_sum, *lhs_batch)}, {int(d) for d in (*rhs_sum, *rhs_batch)}
    left = [d for d in range(lhs_ndim) if d not in used_lhs]
    right = [d for d in range(rhs_ndim) if d not in used_rhs]
    batch = len(lhs_batch)
    to_left = {int(d): i for i, d in enumerate(lhs_batch)} | {d: batch + i for i, d in enumerate(left)}
    to_right = {int(d): i for i, d in enumerate(rhs_batch)}
    to_right |= {d: batch + len(left) + i for i, d in enumerate(right)}
    return [[moves(to_left), moves(to_right), *([mix] * (len(eq.inputs) - 2))]]


def matrices(eq: Apply) -> Table:
    """Factorisations of the last two dimensions: those before them are a batch."""
    batch = moves({d: d for d in range(len(eq.inputs[0].shape) - 2)})
    return [[batch if len(x.shape) >= 2 else mix for x in eq.inputs]] * len(eq.outputs)


def batched_vectors(eq: Apply) -> Table:
    """Operations over the last two dimensions of the last input and the last one of the others."""
    batch = min(len(x.shape) for x in eq.inputs) - 1
    return [[moves({d: d for d in range(batch)})] * len(eq.inputs)] * len(eq.outputs)


def triangular_solve(eq: Apply) -> Table:
    """Batch dimensions; of the right-hand side also the one of its independent systems."""
    ndim = len(eq.inputs[1].shape)
    free = ndim - 1 if eq.eqn.params["left_side"] else ndim - 2
    batch = {d: d for d in range(ndim - 2)}
    return [[moves(batch), moves({**batch, free: free})]]


# ------------------------------------------------------------------------------------------ indexing


def _known_index(atom: Atom) -> int | None:
    return int(atom.value) if isinstance(atom, Constant) and not isinstance(atom.value, compat.Tracer) else None


def dynamic_slice(eq: Apply) -> Table:
    """A whole dimension is kept, a start known while tracing is a slice."""
    old, new = eq.inputs[0].shape, eq.outputs[0].shape
    offsets: list[tuple[float, float] | None] = []
    for d, index in enumerate(eq.inputs[1 : 1 + len(old)]):
        start = 0 if old[d] == new[d] else _known_index(index)
        offsets.append(None if start is None else _both(_clamp(start, old[d] - new[d])))
    return [[_window(old, new, offsets), *([mix] * (len(eq.inputs) - 1))]]


def _both(offset: float) -> tuple[float, float]:
    return offset, offset


def _clamp(start: int, most: int) -> int:
    return min(max(start, 0), most)


def dynamic_update_slice(eq: Apply) -> Table:
    """The operand keeps its place; an update that starts at a known index is shifted into it."""
    old, update = eq.inputs[0].shape, eq.inputs[1].shape
    offsets: list[tuple[float, float] | None] = []
    for d, index in enumerate(eq.inputs[2 : 2 + len(old)]):
        start = 0 if old[d] == update[d] else _known_index(index)
        offsets.append(None if start is None else _both(-_clamp(start, old[d] - update[d])))
    return [[keep, _window(update, old, offsets), *([mix] * (len(eq.inputs) - 2))]]


def gather(eq: Apply) -> Table:
    """Batch dimensions of the indices stay; of the operand, those that are taken whole."""
    p, (operand, indices), out = eq.eqn.params, (eq.inputs[0].shape, eq.inputs[1].shape), eq.outputs[0].shape
    numbers, sizes = p["dimension_numbers"], p["slice_sizes"]
    offset_dims = [int(d) for d in numbers.offset_dims]
    batch_dims = [d for d in range(len(out)) if d not in offset_dims]
    from_indices = dict(enumerate(batch_dims[: len(indices) - 1]))
    gone = {int(d) for d in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)}
    kept = [d for d in range(len(operand)) if d not in gone]
    from_operand = {d: o for d, o in zip(kept, offset_dims, strict=True) if int(sizes[d]) == operand[d]}
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    from_operand |= {int(d): batch_dims[int(i)] for d, i in pairs}
    return [[moves(from_operand), moves(from_indices)]]


def scatter(eq: Apply) -> Table:
    """The operand keeps its place; of updates and indices, the batched and the whole dimensions do."""
    operand, _, updates = (x.shape for x in eq.inputs[:3])
    numbers = eq.eqn.params["dimension_numbers"]
    window = [int(d) for d in numbers.update_window_dims]
    gone = {int(d) for d in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)}
    kept = [d for d in range(len(operand)) if d not in gone]
    from_updates = {u: d for u, d in zip(window, kept, strict=True) if updates[u] == operand[d]}
    scattered = [d for d in range(len(updates)) if d not in window]
    pairs = list(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True))
    from_updates |= {scattered[int(i)]: int(d) for d, i in pairs}
    from_indices = {int(i): int(d) for d, i in pairs}
    return [[keep, moves(from_indices), moves(from_updates)]]


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(SAME_POSITION, same_position),
    **dict.fromkeys(MIXED, everything_mixed),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor"), reduction
    ),
    **dict.fromkeys(("argmax", "argmin"), reduction),
    "reduce": general_reduce,
    "squeeze": squeeze,
    "broadcast_in_dim": broadcast_in_dim,
    "reshape": reshape,
    "transpose": transpose,
    "slice": slicing,
    "pad": pad,
    "concatenate": concatenate,
    "split": split,
    "stack": stack,
    "unstack": unstack,
    "tile": tile,
    "rev": rev,
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), cumulative),
    "sort": sort,
    "top_k": top_k,
    "conv_general_dilated": convolution,
    **dict.fromkeys(("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"), reduce_window),
    **dict.fromkeys(("select_and_scatter", "select_and_scatter_add", "select_and_gather_add"), untouched_windows),
    "fft": fft,
    "dot_general": dot_general,
    **dict.fromkeys(("cholesky", "lu", "qr", "eigh", "svd", "geqrf"), matrices),
    **dict.fromkeys(("householder_product", "tridiagonal_solve"), batched_vectors),
    "triangular_solve": triangular_solve,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max", "scatter_add"), scatter
    ),
}
