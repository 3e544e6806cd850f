"""JAX primitives without a rule: `make rules` lists them.

An operation without a rule is sound (everything is mixed) but costs variance, so those that programs are likely to use
should have one. What programs are likely to use is found by tracing: all of `jax.numpy`, `jax.nn`, `jax.scipy`, and
the densities and draws of all NumPyro distributions.
"""

import inspect
import warnings
from collections import defaultdict
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import jax.scipy
import jax.scipy.special

from elbax.graph import compat, ir
from elbax.graph.analysis import InputNode, analyse
from tests.oracles.distributions import INSTANCES

X = jnp.array([[0.3, 0.8, 0.5, 0.2], [1.1, 0.2, 0.4, 0.9], [0.6, 0.7, 1.3, 0.1], [0.2, 0.5, 0.8, 1.4]])
INDEX = jnp.array([2, 0, 1, 3])

# How functions are called: the first of these that works.
CALLS = [
    lambda f: (lambda x: f(x), X),
    lambda f: (lambda x: f(x, x + 1), X),
    lambda f: (lambda x: f(x[0], x[1]), X),
    lambda f: (lambda x: f(x[0]), X),
    lambda f: (lambda x: f(x[0, 0]), X),
    lambda f: (lambda x: f(x, x + 1, x + 2), X),
    lambda f: (lambda x: f([x, x + 1]), X),
    lambda f: (lambda x: f(x, 1), X),
    lambda f: (lambda x: f(x, 1, 2), X),
    lambda f: (lambda x: f(x, INDEX), X),
    lambda f: (lambda x: f((x * 5).astype(int)), X),
    lambda f: (lambda x: f((x * 5).astype(int), 2), X),
    lambda f: (lambda x: f(x > 0.5), X),
    lambda f: (lambda x: f(x > 0.5, x, x + 1), X),
    lambda f: (lambda x: f(2, x), X),
    lambda f: (lambda x: f(x, 2.0, 3.0), X),
    lambda f: (lambda x: f(x, (2, 8)), X),
    lambda f: (lambda x: f(x[0], x[1], x[2], x[3]), X),
    lambda f: (lambda x: f(x[0], x[1], (x[2] * 3).astype(int)), X),
]

# What needs more than a guess, and what JAX offers but no program computes with.
BY_HAND = {
    "jax.numpy.einsum": lambda x: jnp.einsum("ij,jk->ik", x, x),
    "jax.numpy.pad": lambda x: jnp.pad(x, 1, mode="reflect"),
    "jax.numpy.take_along_axis": lambda x: jnp.take_along_axis(x, INDEX[:, None], 1),
    "jax.numpy.convolve": lambda x: jnp.convolve(x[0], x[1], mode="same"),
    "jax.numpy.interp": lambda x: jnp.interp(x, jnp.arange(4.0), x[0]),
    "jax.numpy.select": lambda x: jnp.select([x > 0, x > 1], [x, 2 * x]),
    "jax.numpy.piecewise": lambda x: jnp.piecewise(x, [x > 0.5], [jnp.sin, jnp.cos]),
    "jax.numpy.linalg.solve": lambda x: jnp.linalg.solve(x, x[0]),
    "jax.nn.one_hot": lambda x: jax.nn.one_hot((x * 2).astype(int), 3),
    "jax.nn.dot_product_attention": lambda x: jax.nn.dot_product_attention(
        x.reshape(1, 4, 2, 2), x.reshape(1, 4, 2, 2), x.reshape(1, 4, 2, 2)
    ),
    "jax.lax.conv": lambda x: jax.lax.conv(x[None, None], x[None, None, :2, :2], (1, 1), "SAME"),
    "jax.lax.associative_scan": lambda x: jax.lax.associative_scan(jnp.add, x),
    "jax.lax.map": lambda x: jax.lax.map(jnp.sin, x),
    "jax.lax.while_loop": lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x),
    "jax.lax.scatter": lambda x: x.at[INDEX].add(x) + x.at[:, INDEX].max(x) + x.at[1, INDEX].multiply(2.0),
    "jax.ops.segment_sum": lambda x: jax.ops.segment_sum(x, INDEX, 4) + jax.ops.segment_max(x, INDEX, 4),
    "jax.numpy.apply_along_axis": lambda x: jnp.apply_along_axis(jnp.cumsum, 0, x),
    "jax.numpy.bincount": lambda x: jnp.bincount((x[0] * 3).astype(int), x[1], length=5),
    "jax.numpy.broadcast_to": lambda x: jnp.broadcast_to(x, (2, 4, 4)),
    "jax.numpy.choose": lambda x: jnp.choose((x * 2).astype(int), [x, x + 1, x + 2], mode="clip"),
    "jax.numpy.compress": lambda x: jnp.compress(x[0] > 0.4, x, axis=0, size=2),
    "jax.numpy.cross": lambda x: jnp.cross(x[:, :3], x[:, 1:]),
    "jax.numpy.extract": lambda x: jnp.extract(x > 0.5, x, size=3),
    "jax.numpy.fill_diagonal": lambda x: jnp.fill_diagonal(x, 1.0, inplace=False),
    "jax.numpy.nonzero": lambda x: jnp.nonzero(x > 0.5, size=3)[0],
    "jax.numpy.moveaxis": lambda x: jnp.moveaxis(x, 0, 1) + jnp.swapaxes(x, 0, 1) + jnp.permute_dims(x, (1, 0)),
    "jax.numpy.put_along_axis": lambda x: jnp.put_along_axis(x, INDEX[None], 2.0, axis=0, inplace=False),
    "jax.numpy.polyfit": lambda x: jnp.polyfit(x[0], x[1], 2),
    "jax.numpy.unique": lambda x: jnp.unique(x, size=3),
    "jax.numpy.vectorize": lambda x: jnp.vectorize(lambda a: a.sum(), signature="(n)->()")(x),
    "jax.scipy.linalg.cho_solve": lambda x: jax.scipy.linalg.cho_solve((x, True), x[0]),
    "jax.scipy.linalg.lu_solve": lambda x: jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(x), x[0]),
    "jax.scipy.special.sph_harm_y": lambda x: jax.scipy.special.sph_harm_y(INDEX, 0 * INDEX, x[0], x[1], n_max=3).real,
    "jax.scipy.stats": lambda x: jax.scipy.stats.norm.logcdf(x) + jax.scipy.stats.gamma.logpdf(x, 1.3),
    "jax.grad": jax.grad(lambda x: jnp.sum(jax.nn.relu(x @ x) ** 2 + jnp.cumsum(x, 0) + jnp.sort(x, 0))),
    "jax.random": lambda x: jax.random.normal(jax.random.key(0), (4,)) + x,
}

# No useful alignment is lost: eigenvectors and the like mix their whole matrix anyway.
EXPECTED = {"eig", "schur", "geqp3", "ormqr"}


def modules():
    import jax.nn
    import jax.numpy.fft
    import jax.numpy.linalg
    import jax.scipy.linalg

    return [jnp, jax.nn, jax.scipy.special, jnp.fft, jnp.linalg, jax.scipy.linalg]


def functions():
    """Public functions by full name."""
    found = dict(BY_HAND)
    for module in modules():
        for name, value in vars(module).items():
            full = f"{module.__name__}.{name}"
            if not name.startswith("_") and callable(value) and not inspect.isclass(value) and full not in found:
                found[full] = value
    for name, make in INSTANCES.items():
        found[f"{name}.sample"] = lambda x, make=make: make().sample(jax.random.key(0)) + x.sum()
        found[f"{name}.log_prob"] = lambda x, make=make: _log_prob(make(), x)
    return found


def _log_prob(d, x):
    """The log-density of a draw that depends on `x`."""
    draw = jax.eval_shape(d.sample, jax.random.key(0))
    return d.log_prob(jnp.zeros(draw.shape, draw.dtype) + x[0, 0].astype(draw.dtype))


def traced(name, fn):
    """The jaxpr of a function of an array, or `None` if no way to call it was found."""
    ways = [lambda f: (f, X)] if name in BY_HAND or "." not in name or not name.startswith("jax") else CALLS
    for way in ways:
        call, x = way(fn)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return jax.make_jaxpr(call)(x)
        except Exception:
            continue
    return None


def used():
    """For each primitive without a rule that an input passes through, who uses it; and functions not called."""
    unknown, failed = defaultdict(list), []
    with quick_errors():
        jaxprs = {name: traced(name, fn) for name, fn in functions().items()}
    for name, jaxpr in jaxprs.items():
        if jaxpr is None:
            failed.append(name)
            continue
        facts = analyse(ir.read(jaxpr), [InputNode("x")], [0])
        for primitive in facts.unknown:
            unknown[primitive].append(name)
    return dict(unknown), failed


@contextmanager
def quick_errors():
    """Without JAX's work on tracebacks, which takes half of the time when most calls are meant to fail."""
    before = jax.config.values["jax_traceback_filtering"]
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


def without_rule():
    """All primitives that JAX names publicly and that have neither a rule nor a treatment of their own."""
    import jax.extend.core.primitives as public
    from jax.interpreters import ad, batching

    from elbax.graph.rules import RULES

    names = {v.name for v in vars(public).values() if isinstance(v, compat.Primitive)}
    names |= {p.name for p in batching.fancy_primitive_batchers} | {p.name for p in ad.primitive_jvps}
    treated = compat.CALLS | compat.REMATS | compat.CUSTOM_RULES | {"scan", "while", "cond"}
    return sorted(n for n in names - set(RULES) - treated if not n.startswith("elbax_"))


if __name__ == "__main__":
    found, uncalled = used()
    print("used by jax.numpy, jax.nn, jax.scipy or NumPyro, but without a rule:")
    for primitive, names in sorted(found.items()):
        print(f"  {primitive}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
    print("all that JAX has without a rule:", ", ".join(without_rule()))
    print("functions that were not called:", ", ".join(uncalled))
    if missing := sorted(set(found) - EXPECTED):
        raise SystemExit(f"without a rule, and likely to be used: {', '.join(missing)}; add rules to graph/rules.py")
