"""Every rule against what its operation really does.

Each case calls an operation on arrays of floats, all of whose axes are followed. Every element of every input is moved,
from several points and by several amounts, and whatever changes must be what the rule allows; and what the rule claims
along an axis must be no more than what was seen to change, or the rule would promise less than it should. The words
say what is claimed for each axis of each input: `0=` is "output dimension 0, element by element", `0<=` "at or before",
`0[-1, 0]` a window, `0*3:2=` the factor of stride 3 and size 2 of dimension 0, `-` mixed, `none` no dependence.
"""

from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from elbax.graph import ir
from elbax.graph.analysis import Facts, InputNode, _Interpreter
from elbax.graph.compat import UNKNOWN_SOURCE
from elbax.graph.relations import EMPTY, Align, Dep, relation_text
from elbax.graph.rules import MIXED, RULES, mix, transfers
from tests.graph.coverage import without_rule

MOVES = [0.37, -0.61, 2.3, -3.7]
POINTS = 3


# ------------------------------------------------------------------------------------------ claim and truth


def read(fn, shapes):
    return ir.read(jax.make_jaxpr(fn)(*(jnp.ones(s) for s in shapes)))


def claims(fn, shapes):
    """For each input, the relations of the result to its axes; `None` where it does not influence the result."""
    block = read(fn, shapes)
    facts = Facts(tuple(InputNode(str(i)) for i in range(len(shapes))))
    deps = []
    for i, shape in enumerate(shapes):
        rels = tuple(Align(d, 1, n) for d, n in enumerate(shape))
        deps.append(Dep(((rels, 1 << i),), direct=1 << i, smooth=1 << i))
    (result,) = _Interpreter(facts, {}).run(block, deps, EMPTY, ())
    return [result.rels(i) for i in range(len(shapes))], block.outputs[0].shape


def truth(fn, shapes):
    """For each input, which output elements change with which of its elements: `[*output, *input]`."""
    fn = jax.jit(fn)
    found = []
    for i, shape in enumerate(shapes):
        size = int(np.prod(shape))
        changed = None
        for point in range(POINTS):
            rng = np.random.default_rng(100 * i + point)
            args = [jnp.asarray(rng.uniform(0.2, 3.0, size=s)) for s in shapes]
            out = np.asarray(fn(*args))
            changed = np.zeros((size, *out.shape), bool) if changed is None else changed
            for amount in MOVES:
                step = amount * np.eye(size).reshape(size, *shape)
                moved = np.stack([np.asarray(fn(*args[:i], args[i] + m, *args[i + 1 :])) for m in step])
                changed |= ~_same(moved, out[None])
        assert changed is not None
        found.append(np.moveaxis(changed, 0, -1).reshape(*changed.shape[1:], *shape))
    return found


def _same(a, b):
    if np.issubdtype(a.dtype, np.inexact):
        return np.isclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)
    return a == b


def offsets(a, j, i):
    """Node coordinate minus aligned coordinate, for pairs of element indices."""
    return j - (i // a.inner) % a.size


def check(fn, shapes, *, tight=True):
    """The claim in words, after comparing it with the truth."""
    rels, out_shape = claims(fn, shapes)
    words = []
    for rel, depends in zip(rels, truth(fn, shapes), strict=True):
        pairs = np.argwhere(depends)
        if rel is None:
            assert not len(pairs), "a dependence that was not seen"
            words.append("none")
            continue
        said = []
        for axis, a in enumerate(rel):
            if a is None:
                said.append("-")
                continue
            found = offsets(a, pairs[:, len(out_shape) + axis], pairs[:, a.dim])
            assert len(found) == 0 or (found.min() >= a.low and found.max() <= a.high), (
                f"{a} says that axis {axis} is apart, but it is not"
            )
            if tight:
                every = offsets(
                    a, np.arange(depends.shape[len(out_shape) + axis])[:, None], np.arange(out_shape[a.dim])
                )
                allowed = every[(every >= a.low) & (every <= a.high)]
                assert (found.min(), found.max()) == (allowed.min(), allowed.max()), f"{a} is wider than needed"
            said.append(in_words(a, out_shape))
        words.append(" ".join(said))
    return words


def in_words(a, shape):
    place = str(a.dim) if (a.inner, a.size) == (1, shape[a.dim]) else f"{a.dim}*{a.inner}:{a.size}"
    return place + relation_text(a.low, a.high)


# ------------------------------------------------------------------------------------------ the table


def ints(x):
    return jnp.round(x * 4).astype(int)


Case = tuple[Callable, list[tuple[int, ...]], list[str], bool]


def one(fn, *words, shapes=None, tight=True) -> Case:
    """A case: what to call, with which shapes (one per input), and what should be claimed."""
    shapes = shapes or [(2, 3)] * len(words)
    return fn, shapes, list(words), tight


SAME2 = "0= 1="


def elementwise(fn, arguments=1, *, tight=True):
    return [one(fn, *[SAME2] * arguments, tight=tight)]


def integer(fn, arguments=1):
    return elementwise(lambda *xs: fn(*(ints(x) for x in xs)), arguments, tight=False)


UNARY = """
    abs acos acosh asin asinh atan atanh bessel_i0e bessel_i1e cbrt ceil cos cosh digamma erf erf_inv erfc exp exp2
    expm1 floor is_finite lgamma log log1p logistic neg round rsqrt sign sin sinh sqrt square stop_gradient tan tanh
""".split()
BINARY = "atan2 div eq ge gt le lt max min mul ne pow rem sub".split()


def _unary(name):
    unit = {"acos", "asin", "atanh", "erf_inv"}  # defined on (-1, 1)
    flat = {"ceil", "floor", "is_finite", "round", "sign"}
    fn = getattr(lax, name)
    return elementwise((lambda x: fn(x / 30)) if name in unit else fn, tight=name not in flat)


CASES: dict[str, list[Case]] = {name: _unary(name) for name in UNARY}
CASES |= {name: elementwise(getattr(lax, name), 2, tight=name not in ("eq", "ne")) for name in BINARY}
CASES |= {
    "add": [
        *elementwise(lax.add, 2),
        one(lambda x, y: x + y, SAME2, "- 1=", shapes=[(2, 3), (1, 3)]),
        one(lambda x, y: x + y, SAME2, "", shapes=[(2, 3), ()]),
    ],
    "add_any": elementwise(jax.grad(lambda x, y: jnp.sum(x * jnp.sin(x) * y)), 2),
    "nextafter": elementwise(lambda x, y: (lax.nextafter(x, y) - x) * 1e12, 2, tight=False),
    "and": integer(lax.bitwise_and, 2),
    "or": integer(lax.bitwise_or, 2),
    "xor": integer(lax.bitwise_xor, 2),
    "not": integer(lax.bitwise_not),
    "clz": integer(lax.clz),
    "population_count": integer(lax.population_count),
    "shift_left": integer(lax.shift_left, 2),
    "shift_right_arithmetic": integer(lax.shift_right_arithmetic, 2),
    "shift_right_logical": integer(lax.shift_right_logical, 2),
    "mulhi": integer(lambda x, y: getattr(lax, "mulhi", lax.mul)((x << 40) + 1, (y << 40) + 1), 2),
    "bitcast_convert_type": [
        one(lambda x: lax.bitcast_convert_type(x, jnp.int64), SAME2),
        one(lambda x: lax.bitcast_convert_type(x, jnp.int32), "- -", tight=False),  # splits each number in two
    ],
    "clamp": [
        one(lambda x: lax.clamp(-0.5, x, 0.5), SAME2),
        one(lax.clamp, SAME2, SAME2, SAME2, tight=False),
        one(lambda lo, x: lax.clamp(lo, x, 9.0), "", SAME2, shapes=[(), (2, 3)], tight=False),
    ],
    "complex": elementwise(lax.complex, 2),
    "conj": elementwise(lambda x: lax.conj(lax.complex(x, x))),
    "real": elementwise(lambda x: lax.real(lax.complex(x, x))),
    "imag": elementwise(lambda x: lax.imag(lax.complex(x, x))),
    "convert_element_type": elementwise(lambda x: x.astype(jnp.float32)),
    "copy": elementwise(lambda x: jnp.array(x, copy=True)),
    "copy_p": elementwise(lambda x: jnp.array(x, copy=True)),
    "igamma": elementwise(lax.igamma, 2),
    "igammac": elementwise(lax.igammac, 2),
    "igamma_grad_a": elementwise(lax.igamma_grad_a, 2),
    "integer_pow": elementwise(lambda x: lax.integer_pow(x, 3)),
    "polygamma": elementwise(lambda x, y: lax.polygamma(jnp.round(x), y), 2, tight=False),
    "zeta": elementwise(lambda x, y: lax.zeta(x + 1, y), 2),
    "reduce_precision": elementwise(lambda x: lax.reduce_precision(x, 8, 7)),
    "regularized_incomplete_beta": elementwise(lambda a, b, x: lax.betainc(a, b, jax.nn.sigmoid(x)), 3),
    "name": elementwise(lambda x: checkpoint_name(x, "x")),
    "select_n": [
        one(lambda p, x, y: lax.select(p > 1.5, x, y), SAME2, SAME2, SAME2),
        one(lambda p, x, y: lax.select_n(p > 1.5, x, y), "", SAME2, SAME2, shapes=[(), (2, 3), (2, 3)]),
    ],
    # ------------------------------------------------------------------ several operands at once
    "optimization_barrier": [
        one(lambda x, y: lax.optimization_barrier((x, y))[0], SAME2, "none"),
        one(lambda x, y: lax.optimization_barrier((x, y))[1], "none", SAME2),
    ],
    "device_put": [one(lambda x, y: jax.device_put((x, y))[1], "none", SAME2)],
    # ------------------------------------------------------------------ shapes
    **{
        f"reduce_{name}": [one(lambda x, f=fn: f(x, 1), "0= - 1=", shapes=[(2, 3, 2)])]
        for name, fn in (("sum", jnp.sum), ("max", jnp.max), ("min", jnp.min), ("prod", jnp.prod))
    },
    "reduce_and": [one(lambda x: jnp.all(x > 0.5, 0), "- 0=")],
    "reduce_or": [one(lambda x: jnp.any(x > 2.5, 0), "- 0=")],
    "reduce_xor": [one(lambda x: lax.reduce_xor(x > 2.5, (0,)), "- 0=")],
    "argmax": [one(lambda x: jnp.argmax(x, 0), "- 0=")],
    "argmin": [one(lambda x: jnp.argmin(x, 1), "0= -")],
    "reduce": [
        one(
            lambda x, y: lax.reduce((x, y), (0.0, 0.0), lambda a, b: (a[0] + b[0] * b[1], a[1] + b[1]), (1,))[0],
            "0= -",
            "0= -",
        ),
        one(lambda x, i: lax.reduce(x, i, lambda a, b: a + b * a, (0,)), "- 0=", "", shapes=[(2, 3), ()]),
    ],
    "squeeze": [one(lambda x: lax.squeeze(x, (1,)), "0= - 1=", shapes=[(2, 1, 3)])],
    "broadcast_in_dim": [
        one(lambda x: lax.broadcast_in_dim(x, (2, 4, 3), (0, 2)), "0= 2="),
        one(lambda x: lax.broadcast_in_dim(x, (4, 3), (0, 1)), "- 1=", shapes=[(1, 3)]),
        one(lambda x: lax.broadcast_in_dim(x, (3, 3), (1,)), "1=", shapes=[(3,)]),
    ],
    "reshape": [
        one(lambda x: x.reshape(6), "0*3:2= 0*1:3="),
        one(lambda x: x.reshape(3, 2), "- -"),
        one(lambda x: x.reshape(2, 1, 3), "0= 2="),
        one(lambda x: x.reshape(3, 4, 2), "0= 1*2:2= -", shapes=[(3, 2, 4)], tight=False),
        one(lambda x: x.reshape(4, 6), "0*2:2= 0*1:2= 1=", shapes=[(2, 2, 6)], tight=False),
        one(lambda x: x.reshape(2, 3, 4).reshape(6, 4).reshape(2, 3, 4), "0= 1= 2=", shapes=[(2, 3, 4)]),
        one(lambda x: x.reshape(1, 1), "0=", shapes=[(1,)]),
    ],
    "transpose": [one(lambda x: jnp.transpose(x, (2, 0, 1)), "1= 2= 0=", shapes=[(2, 3, 4)])],
    "slice": [
        one(lambda x: x[:, 1:], "0= 1[+1, +1]"),
        one(lambda x: x[:, :2], "0= 1="),
        one(lambda x: lax.slice(x, (0, 1), (2, 4), (1, 2)), "0= -", shapes=[(2, 5)]),
    ],
    "pad": [
        one(lambda x, y: lax.pad(x, y, ((1, 0, 0), (0, 2, 0))), "0[-1, -1] 1=", "", shapes=[(2, 3), ()]),
        one(lambda x: lax.pad(x, 0.0, ((-1, 1, 0),)), "0[+1, +1]", shapes=[(4,)]),
        one(lambda x: lax.pad(x, 0.0, ((0, 0, 1), (0, 0, 0))), "- 1="),
    ],
    "concatenate": [
        one(lambda x, y: jnp.concatenate([x, y], 1), "0= 1=", "0= 1[-3, -3]", shapes=[(2, 3), (2, 2)]),
    ],
    "split": [
        one(lambda x: lax.split(x, (1, 2), 1)[1], "0= 1[+1, +1]"),
        one(lambda x: lax.split(x, (1, 2), 1)[0], "0= 1="),
    ],
    "stack": [one(lambda x, y: jnp.stack([x, y], 1), "0= 2=", "0= 2=")],
    "unstack": [one(lambda x: jnp.unstack(x, axis=1)[2], "0= -")],
    "tile": [one(lambda x: jnp.tile(x, (2, 1)), "0*1:2= 1=")],
    "rev": [one(lambda x: lax.rev(x, (1,)), "0= -")],
    # ------------------------------------------------------------------ along an axis
    **{
        fn.__name__: [
            one(lambda x, f=fn: f(x, 1), "0= 1<="),
            one(lambda x, f=fn: f(x, 0, reverse=True), "0>= 1="),
        ]
        for fn in (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp)
    },
    "sort": [
        one(lambda x: jnp.sort(x, 0), "- 1="),
        one(lambda x, y: lax.sort((x, y), dimension=1, num_keys=1)[1], "0= -", "0= -"),
        one(lambda x, y: lax.sort((x, y), dimension=1, num_keys=2)[0], "0= -", "0= -", tight=False),
    ],
    "top_k": [one(lambda x: lax.top_k(x, 2)[0], "0= -"), one(lambda x: lax.top_k(x, 2)[1], "0= -")],
    "conv_general_dilated": [],
    "fft": [
        one(lambda x: jnp.fft.fft(x), "0= 1= -", shapes=[(2, 2, 3)]),
        one(lambda x: jnp.fft.rfft2(x), "0= - -", shapes=[(2, 2, 3)]),
        one(lambda x: jnp.fft.irfft(x), "0= -", shapes=[(2, 3)]),
    ],
}


def conv(lhs, rhs, stride=1, pad=(0, 0), dilate=1, spread=1, groups=1, batch_groups=1, numbers=("NCH", "OIH", "NCH")):
    return lax.conv_general_dilated(
        lhs,
        rhs,
        (stride,),
        [pad],
        lhs_dilation=(spread,),
        rhs_dilation=(dilate,),
        dimension_numbers=numbers,
        feature_group_count=groups,
        batch_group_count=batch_groups,
    )


LHS, RHS = (2, 2, 5), (3, 2, 2)
CASES["conv_general_dilated"] = [
    one(lambda x, k: conv(x, k), "0= - 2[0, +1]", "1= - -", shapes=[LHS, RHS]),
    one(lambda x, k: conv(x, k, pad=(1, 0)), "0= - 2[-1, 0]", "1= - -", shapes=[LHS, RHS]),
    one(lambda x, k: conv(x, k, pad=(2, 1), dilate=2), "0= - 2[-2, 0]", "1= - -", shapes=[LHS, RHS]),
    one(lambda x, k: conv(x, k, pad=(-1, 0)), "0= - 2[+1, +2]", "1= - -", shapes=[LHS, RHS]),
    one(lambda x, k: conv(x, k, stride=2), "0= - -", "1= - -", shapes=[LHS, RHS]),
    one(lambda x, k: conv(x, k, spread=2), "0= - -", "1= - -", shapes=[LHS, RHS]),
    one(lambda x, k: conv(x, k, groups=2), "0= - 2[0, +1]", "1= - -", shapes=[LHS, (4, 1, 2)]),
    one(lambda x, k: conv(x, k, batch_groups=2), "- - 2[0, +1]", "- - -", shapes=[(4, 2, 5), (4, 2, 2)]),
    one(
        lambda x, k: conv(x, k, numbers=("HNC", "HIO", "CHN")), "1[0, +1] 2= -", "- - 0=", shapes=[(5, 2, 2), (2, 2, 3)]
    ),
    one(lambda x, k: conv(x, k), "0= - 2=", "1= - -", shapes=[LHS, (3, 2, 1)]),
]


def window(x, size=2, stride=1, pad=(0, 0), base=1, dilation=1, init=-jnp.inf, op=lax.max):
    return lax.reduce_window(
        x, init, op, (1, size), (1, stride), [(0, 0), pad], base_dilation=(1, base), window_dilation=(1, dilation)
    )


def _window_cases(**kind):
    cases = [
        ({}, "0= 1[0, +1]"),
        ({"pad": (1, 0)}, "0= 1[-1, 0]"),
        ({"size": 3, "pad": (1, 1)}, "0= 1[-1, +1]"),
        ({"dilation": 2, "pad": (2, 0)}, "0= 1[-2, 0]"),
        ({"stride": 2}, "0= -"),
        ({"base": 2}, "0= -"),
        ({"size": 1, "pad": (1, 2)}, "0= 1[-1, -1]"),
    ]
    return [one(lambda x, o=options: window(x, **o, **kind), words, shapes=[(2, 6)]) for options, words in cases]


CASES["reduce_window_max"] = _window_cases()
CASES["reduce_window_min"] = _window_cases(init=jnp.inf, op=lax.min)
CASES["reduce_window_sum"] = _window_cases(init=0.0, op=lax.add)
CASES["reduce_window"] = [
    *_window_cases(init=1.0, op=lambda a, b: a * b + 0.1 * a),
    one(lambda x, i: window(x, init=i, op=lambda a, b: a * b), "0= 1[0, +1]", "", shapes=[(2, 6), ()]),
]


def pooled_gradient(pad):
    """The derivative of max pooling: windows of size (1, 2) over an array with padding in its first dimension."""

    def fn(x, g):
        pads = [pad, (0, 0)]
        pooled, pull = jax.vjp(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 2), pads), x)
        return pull(g * jnp.ones_like(pooled))[0]

    return fn


CASES["select_and_scatter_add"] = [
    one(pooled_gradient((0, 0)), "0= -", "0= -", shapes=[(2, 4), (2, 2)], tight=False),
    one(pooled_gradient((1, 0)), "- -", "- -", shapes=[(2, 4), (3, 2)], tight=False),
]
CASES["select_and_gather_add"] = [
    one(
        lambda x, t: jax.jvp(lambda x: window(x, stride=2), (x,), (t,))[1],
        "0= -",
        "0= -",
        shapes=[(2, 4), (2, 4)],
        tight=False,
    ),
]
CASES["select_and_scatter"] = []

# ------------------------------------------------------------------------------------------ linear algebra


def spd(x):
    return x @ jnp.swapaxes(x, -1, -2) + 5 * jnp.eye(x.shape[-1])


B, M = (2, 3, 3), (2, 3, 2)
CASES |= {
    "dot_general": [
        one(lambda x, y: x @ y, "0= -", "- 1=", shapes=[(2, 3), (3, 4)]),
        one(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), "0= 1= -", "0= - 2=", shapes=[(2, 3, 4), (2, 4, 5)]),
        one(
            lambda x, y: lax.dot_general(x, y, (((0,), (1,)), ((2,), (0,)))),
            "- 1= 0=",
            "0= - 2=",
            shapes=[(3, 4, 2), (2, 3, 5)],
        ),
        one(lambda x, y: lax.dot_general(x, y, (((), ()), ((), ()))), "0=", "1=", shapes=[(2,), (3,)]),
    ],
    "cholesky": [one(lambda x: lax.linalg.cholesky(x + 9 * jnp.eye(3)), "0= - -", shapes=[B], tight=False)],
    "lu": [one(lambda x, i=i: lax.linalg.lu(x)[i], "0= - -", shapes=[B], tight=False) for i in (0, 1, 2)],
    "qr": [one(lambda x, i=i: lax.linalg.qr(x)[i], "0= - -", shapes=[B], tight=False) for i in (0, 1)],
    "eigh": [one(lambda x, i=i: lax.linalg.eigh(x)[i], "0= - -", shapes=[B], tight=False) for i in (0, 1)],
    "svd": [one(lambda x, i=i: lax.linalg.svd(x)[i], "0= - -", shapes=[B], tight=False) for i in (0, 1, 2)],
    "householder_product": [
        one(lambda a, t: lax.linalg.householder_product(a, t), "0= - -", "0= -", shapes=[B, (2, 3)], tight=False),
    ],
    "triangular_solve": [
        one(
            lambda a, b: lax.linalg.triangular_solve(a + 4 * jnp.eye(3), b, left_side=True, lower=True),
            "0= - -",
            "0= - 2=",
            shapes=[B, M],
            tight=False,
        ),
        one(
            lambda a, b: lax.linalg.triangular_solve(a + 4 * jnp.eye(3), b, left_side=False, lower=True),
            "0= - -",
            "0= 1= -",
            shapes=[B, (2, 2, 3)],
            tight=False,
        ),
    ],
    "tridiagonal_solve": [
        one(
            lambda a, d, u, b: lax.linalg.tridiagonal_solve(a, d + 9, u, b),
            "0= -",
            "0= -",
            "0= -",
            "0= - -",
            shapes=[(2, 3), (2, 3), (2, 3), (2, 3, 2)],
            tight=False,
        ),
    ],
}

# ------------------------------------------------------------------------------------------ indexing


def index(x, n):
    """An index below n that moves with x."""
    return jnp.clip(jnp.floor(jnp.abs(x)), 0, n - 1).astype(int)


CASES |= {
    "dynamic_slice": [
        one(lambda x, i: lax.dynamic_slice(x, (0, index(i, 3)), (2, 1)), "0= -", "", shapes=[(2, 3), ()]),
        one(lambda x: lax.dynamic_slice(x, (0, 1), (2, 2)), "0= 1[+1, +1]"),
        one(lambda x: lax.dynamic_slice(x, (5, 9), (2, 2)), "0= 1[+1, +1]"),  # clamped
        one(lambda x: lax.dynamic_slice(x, (jnp.array(-7), 0), (1, 3)), "- 1="),  # not known any more
        one(lambda x: jax.jit(lambda x, i: lax.dynamic_slice(x, (i,), (2,)))(x, 1), "-", shapes=[(4,)]),
    ],
    "dynamic_update_slice": [
        one(
            lambda x, u, i: lax.dynamic_update_slice(x, u, (0, index(i, 3))),
            "0= 1=",
            "0= -",
            "",
            shapes=[(2, 3), (2, 1), ()],
        ),
        one(lambda x, u: lax.dynamic_update_slice(x, u, (0, 1)), "0= 1=", "0= 1[-1, -1]", shapes=[(2, 3), (2, 2)]),
        one(lambda x, u: lax.dynamic_update_slice(x, u, (0, 9)), "0= 1=", "0= 1[-1, -1]", shapes=[(2, 3), (2, 2)]),
    ],
    "gather": [
        one(lambda x, i: jnp.take(x, index(i, 3), axis=1), "0= -", "1= 2=", shapes=[(2, 3), (2, 4)]),
        one(lambda x, i: jnp.take_along_axis(x, index(i, 3), axis=1), "0= -", "0= 1=", shapes=[(2, 3), (2, 4)]),
        one(lambda x, i: x[index(i, 2)], "- 1=", "0=", shapes=[(2, 3), (4,)]),
        one(lambda x, i: x[:, index(i, 3)], "0= - 2=", "1=", shapes=[(2, 3, 2), (4,)]),
        one(lambda x, i: x[index(i, 2), :, index(i, 2)], "- 1= -", "0=", shapes=[(2, 3, 2), (4,)]),
        one(lambda x, i: jax.vmap(lambda a, k: a[k])(x, index(i, 3)), "0= -", "0=", shapes=[(2, 3), (2,)]),
        one(
            lambda x, i: jax.vmap(lambda a, k: a[k], (1, 0), 1)(x, index(i, 3)),
            "- 1= 0=",
            "1=",
            shapes=[(3, 2, 4), (2,)],
            tight=False,
        ),
        one(
            lambda x, i: jax.vmap(jax.vmap(lambda a, k: a[k]))(x, index(i, 3)),
            "0= 1= -",
            "0= 1=",
            shapes=[(2, 2, 3), (2, 2)],
        ),
        one(
            lambda x, i: jax.vmap(lambda k: lax.dynamic_slice(x, (k, 0), (2, 3)))(index(i, 3)),
            "- 2=",
            "0=",
            shapes=[(4, 3), (2,)],
        ),
        one(lambda x, i: x.at[index(i, 9) - 4].get(mode="fill", fill_value=0.0), "- 1=", "0=", shapes=[(2, 3), (4,)]),
        one(lambda x, i: x.at[index(i, 9)].get(mode="clip"), "- 1=", "0=", shapes=[(2, 3), (4,)]),
        one(lambda x, i: x.at[index(i, 2)].get(mode="promise_in_bounds"), "- 1=", "0=", shapes=[(2, 3), (4,)]),
    ],
}


def scatters(name, call):
    return [
        one(
            lambda x, i, u: call(x.at[index(i, 2)], u), "0= 1=", "-", "- 1=", shapes=[(2, 3), (4,), (4, 3)], tight=False
        ),
        one(
            lambda x, i, u: call(x.at[:, index(i, 3)], u),
            "0= 1=",
            "-",
            "0= -",
            shapes=[(2, 3), (4,), (2, 4)],
            tight=False,
        ),
        one(
            lambda x, i, u: jax.vmap(lambda a, k, v: call(a.at[k], v))(x, index(i, 3), u),
            "0= 1=",
            "0=",
            "0=",
            shapes=[(2, 3), (2,), (2,)],
            tight=False,
        ),
        one(
            lambda x, i, u: jax.vmap(lambda a, k, v: call(a.at[k], v), (1, 0, 0), 1)(x, index(i, 3), u),
            "0= 1=",
            "1= -",
            "1= -",
            shapes=[(3, 2), (2, 2), (2, 2)],
            tight=False,
        ),
        one(
            lambda x, i, u: call(x.at[index(i, 9) - 4], u),
            "0= 1=",
            "-",
            "- 1=",
            shapes=[(2, 3), (4,), (4, 3)],
            tight=False,
        ),
    ]


CASES |= {
    "scatter": scatters("scatter", lambda at, u: at.set(u, mode="drop")),
    "scatter-add": scatters("scatter-add", lambda at, u: at.add(u)),
    "scatter-mul": scatters("scatter-mul", lambda at, u: at.multiply(u)),
    "scatter-min": scatters("scatter-min", lambda at, u: at.min(u, mode="clip")),
    "scatter-max": scatters("scatter-max", lambda at, u: at.max(u, mode="promise_in_bounds")),
    "scatter-sub": scatters("scatter-sub", lambda at, u: at.subtract(u)),
}


# ------------------------------------------------------------------------------------------ marks that change nothing


def _mesh_sharding():
    return jax.sharding.NamedSharding(jax.make_mesh((1,), ("i",)), jax.sharding.PartitionSpec())


def _marks():
    import equinox.internal as eqxi
    from jax.experimental import layout

    return {
        "sharding_constraint": lambda x: lax.with_sharding_constraint(x, _mesh_sharding()),
        "layout_constraint": lambda x: layout.with_layout_constraint(x, layout.Layout((0, 1))),
        "nonbatchable": eqxi.nonbatchable,
        "nontraceable": eqxi.nontraceable,
        "nondifferentiable_backward": eqxi.nondifferentiable_backward,
    }


CASES |= {name: elementwise(fn) for name, fn in _marks().items()}

# Rules without a case, and why.
NO_CASE = {
    **dict.fromkeys(("eq_to", "le_to", "lt_to"), "total order, inside comparators only; element by element like `lt`"),
    **dict.fromkeys(("pvary", "reshard", "with_memory_space_constraint"), "need a mesh of several devices; identities"),
    "geqrf": "no public function makes it; shares the rule of qr",
    "select_and_scatter": "no public function makes it; shares the rule of select_and_scatter_add",
    "scatter_add": "another release's name of scatter-add",
    "copy_p": "another release's name of copy",
}


def primitives(block):
    found = set()
    for eq in ir.walk(block):
        if isinstance(eq, ir.Apply):
            found.add(eq.name)
            found |= {
                name for b in (getattr(eq, "body", None), getattr(eq, "cond", None)) if b for name in primitives(b)
            }
    return found


ALL_CASES = [
    pytest.param(name, case, id=f"{name}-{i}") for name, cases in CASES.items() for i, case in enumerate(cases)
]


@pytest.mark.parametrize("name", sorted(set(RULES) - MIXED))
def test_every_rule_has_a_case(name):
    assert CASES.get(name) or name in NO_CASE


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_rule(name, case):
    fn, shapes, words, tight = case
    if name not in primitives(read(fn, shapes)):
        assert name in LATER, f"the case does not call {name}"
        pytest.skip(f"this release of JAX has no {name}")
    assert check(fn, shapes, tight=tight) == words


# Primitives that the oldest supported release of JAX does not have, or does not make.
LATER = {"stack", "unstack", "mulhi", "tile", "copy_p"}


def operation(name):
    """An operation of this name from two numbers to one."""
    x, y, out = (ir.Var((), np.dtype(float)) for _ in range(3))
    return ir.Apply((x, y), (out,), UNKNOWN_SOURCE, SimpleNamespace(primitive=SimpleNamespace(name=name)))


@pytest.mark.parametrize("name", sorted(MIXED))
def test_operations_that_mix_on_purpose_mix_everything(name):
    assert transfers(operation(name)) == [[mix, mix]]


def test_an_operation_without_a_rule_is_none():
    assert transfers(operation("no such primitive")) is None
    assert without_rule()
