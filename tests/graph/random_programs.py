"""Random programs: nested loops, branches and maps around about fifty kinds of operations, with sites among them.

A program is a list of integers. The generator reads one whenever it has to choose, and zero when the list is used up,
so that any list is a program, and Hypothesis can shrink it. It only looks at shapes, so the program is the same each
time it is traced. Dimensions have sizes two and three on purpose: confusing two dimensions of one size is the mistake
that a relation rule is most likely to make.
"""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax

import elbax


class Generator:
    def __init__(self, choices, max_sites=6):
        self.choices, self.position = choices, 0
        self.sites, self.costs, self.max_sites = 0, 0, max_sites

    def choose(self, n):
        """A number below n."""
        value = self.choices[self.position] if self.position < len(self.choices) else 0
        self.position += 1
        return value % n

    def pick(self, pool):
        return pool[-1 - self.choose(len(pool))]

    # ------------------------------------------------------------------ values

    def site(self, pool):
        """A sample site whose parameter is a value of the program."""
        if self.sites >= self.max_sites:
            return jnp.tanh(self.pick(pool))
        name = f"w{self.sites}"
        self.sites += 1
        x = jnp.tanh(self.pick(pool))
        kind = self.choose(6)
        if kind == 0:
            return elbax.sample(name, dist.Normal(x, 1.0))
        if kind == 1:
            return elbax.sample(name, dist.Bernoulli(logits=2 * x)).astype(float)
        if kind == 2 and x.ndim:
            return elbax.sample(name, dist.Categorical(logits=2 * x)).astype(float)
        if kind == 3 and x.ndim:
            return elbax.sample(name, dist.Normal(x, 1.0).to_event(1))
        if kind == 4 and x.ndim:
            n = x.shape[-1]
            tril = jnp.tril(jnp.full((n, n), 0.3)) + jnp.eye(n)
            return elbax.sample(name, dist.MultivariateNormal(x, scale_tril=tril))
        return elbax.sample(name, dist.Normal(x.sum(0) if x.ndim else x, 0.5))

    def state_cost(self, pool):
        self.costs += 1
        elbax.cost(f"c{self.costs}", self.pick(pool))

    def block(self, pool, depth, length):
        """A straight piece of program; returns the values it made."""
        made = list(pool)
        for _ in range(length):
            kind = self.choose(12)
            if kind < 3:
                made.append(self.site(made))
            elif kind < 5 and depth:
                made += self.control(made, depth)
            elif kind == 5:
                self.state_cost(made)
            else:
                made.append(self.operation(made))
        return made[len(pool) :] or [pool[-1]]

    def operation(self, pool):
        x, y = self.pick(pool), self.pick(pool)
        return bounded(OPERATIONS[self.choose(len(OPERATIONS))](self, x, y))

    # ------------------------------------------------------------------ control flow

    def control(self, pool, depth):
        kind = self.choose(10)
        x, y = self.pick(pool), self.pick(pool)
        if kind <= 1:
            return self.scan(x, y, depth, reverse=kind == 1)
        if kind <= 3 and x.ndim:
            axis = self.choose(x.ndim)
            out = jax.vmap(lambda a: self.block([y, a], depth - 1, 4)[-1], in_axes=axis, out_axes=0)(x)
            return [bounded(out)]
        if kind == 4 and x.ndim:
            return [bounded(lax.map(lambda a: self.block([y, a], depth - 1, 3)[-1], x))]
        if kind == 5:
            return [self.cond(x, y, depth)]
        if kind == 6:
            return [bounded(jax.checkpoint(lambda a, b: self.block([a, b], depth - 1, 4)[-1])(x, y))]
        if kind == 7:
            return [bounded(jax.jit(lambda a, b: self.block([a, b], depth - 1, 4)[-1])(x, y))]
        if kind == 8:
            return [bounded(self.while_loop(x, y))]
        return [bounded(lax.fori_loop(0, 2, lambda i, a: jnp.sin(a + i) + y.mean(), x))]

    def scan(self, x, y, depth, *, reverse):
        xs = x if x.ndim else jnp.stack([x, 2 * x])

        def body(carry, a):
            made = self.block([y, a, carry], depth - 1, 4)
            new = made[-1]
            if new.shape != carry.shape:
                new = jnp.broadcast_to(new.mean(), carry.shape)
            return jnp.tanh(0.5 * carry * self.choose(2) + new), made[self.choose(len(made))]

        last, stacked = lax.scan(body, jnp.tanh(self.pick([x.sum(), y])), xs, reverse=reverse)
        return [bounded(stacked), bounded(last)]

    def cond(self, x, y, depth):
        def branch(a, b):
            out = self.block([a, b], depth - 1, 3)[-1]
            return out if out.shape == b.shape else jnp.broadcast_to(out.mean(), b.shape)

        # Two functions: JAX would trace one that is used twice only once.
        return bounded(lax.cond(x.sum() > 0.1, lambda a, b: branch(a, b), lambda a, b: branch(a, b), x, y))

    def while_loop(self, x, y):
        def go_on(state):
            i, a = state
            return (i < 3) & (a.sum() < 1.0)

        return lax.while_loop(go_on, lambda s: (s[0] + 1, jnp.sin(s[1] + 0.3) + y.mean() * 0.1), (0, x))[1]


def bounded(x):
    """Keeps values moderate and shapes small."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = x.real
    x = x.astype(float)
    while x.ndim > 3:
        x = x.sum(-1)
    return jnp.where(jnp.abs(x) < 3.0, x, 3.0 * jnp.sin(x)) if x.size <= 30 else x.sum(0)


def _axis(g, x):
    return g.choose(x.ndim) if x.ndim else None


def along(fn):
    """An operation along one axis of an array; the array itself if it is a scalar."""

    def op(g, x, y):
        return fn(x, g.choose(x.ndim), g) if x.ndim else jnp.sin(x)

    return op


def matched(fn):
    """An operation on two arrays of one shape."""
    return lambda g, x, y: fn(x, y) if x.shape == y.shape else fn(x, jnp.broadcast_to(y.mean(), x.shape))


def square(x):
    """A positive definite matrix per batch element, from a vector or a matrix."""
    a = x if x.ndim >= 2 else x[..., None]
    return a @ jnp.swapaxes(a, -1, -2) + jnp.eye(a.shape[-2])


def _conv(x, axis, g):
    n = x.shape[axis]
    x = jnp.moveaxis(x, axis, -1).reshape(-1, 1, n)
    pad = [(1, 0), (0, 1), (1, 1)][g.choose(3)]
    kernel = jnp.array([0.5, -0.7, 0.2][: 2 + g.choose(2)]).reshape(1, 1, -1)
    return lax.conv_general_dilated(x, kernel, (1,), [pad])[:, 0]


def _pool(x, axis, g):
    window = [1] * x.ndim
    window[axis] = 2
    return lax.reduce_window(x, -jnp.inf, lax.max, tuple(window), (1,) * x.ndim, ["SAME", "VALID"][g.choose(2)])


def _gather(x, axis, g):
    index = jnp.argsort(x, axis=axis) if g.choose(2) else jnp.clip(jnp.round(jnp.abs(x)), 0, 1).astype(int)
    return jnp.take_along_axis(x, index, axis=axis)


def _indexed(x, axis, g):
    n = x.shape[0]
    k = jnp.clip(jnp.abs(x.reshape(n, -1)[:, 0]).astype(int), 0, 1)
    table = jnp.arange(2.0 * n).reshape(n, 2)
    return table[jnp.arange(n), k]


def _scatter(x, axis, g):
    i = g.choose(x.shape[0])
    return [x.at[i].set(0.5), x.at[i].add(x[0]), x.at[0].multiply(x[i]), x.at[jnp.array([0, 1])].add(1.0)][g.choose(4)]


def _dynamic(x, axis, g):
    start = jnp.clip(jnp.abs(x.sum()).astype(int), 0, 1) if g.choose(2) else g.choose(2)
    if g.choose(2):
        return lax.dynamic_update_slice_in_dim(x, lax.slice_in_dim(jnp.cos(x), 0, 1, axis=axis), start, axis)
    return lax.dynamic_slice_in_dim(x, start, 1, axis)


def _regroup(x, axis, g):
    return [x.reshape(-1), x.reshape(x.shape[0], -1), x.reshape(-1, x.shape[-1]), x.reshape(*x.shape, 1)][g.choose(4)]


def _ungroup(x, axis, g):
    n = x.size
    shapes = [(n,), (2, n // 2) if n % 2 == 0 else (n,), (n // 3, 3) if n % 3 == 0 else (n,), (1, n)]
    return x.reshape(shapes[g.choose(4)])


OPERATIONS = [
    lambda g, x, y: jnp.sin(x) + 0.1 * x,
    lambda g, x, y: jnp.tanh(x) * x,
    lambda g, x, y: jax.nn.softplus(x),
    lambda g, x, y: jax.nn.relu(x) - 0.3 * jax.nn.sigmoid(x),
    matched(lambda x, y: x + y),
    matched(lambda x, y: x * y),
    matched(lambda x, y: jnp.where(x > 0.2, x, y)),
    matched(lambda x, y: jnp.maximum(x, y) - jnp.logaddexp(x, y)),
    matched(lambda x, y: lax.clamp(-0.5, x, 0.5) / (1.5 + jnp.sin(y))),
    lambda g, x, y: (x > 0).astype(float) - jnp.floor(x),
    along(lambda x, a, g: x.sum(a)),
    along(lambda x, a, g: x.mean(a)),
    along(lambda x, a, g: x.max(a)),
    along(lambda x, a, g: jnp.prod(x, a)),
    along(lambda x, a, g: jnp.argmax(x, a)),
    along(lambda x, a, g: jnp.cumsum(x, a)),
    along(lambda x, a, g: lax.cumsum(x, a, reverse=True)),
    along(lambda x, a, g: lax.cummax(x, a)),
    along(lambda x, a, g: jnp.flip(x, a)),
    along(lambda x, a, g: jnp.roll(x, 1, a)),
    along(lambda x, a, g: jnp.sort(x, a)),
    along(lambda x, a, g: lax.top_k(x, 2)[g.choose(2)] if x.shape[-1] >= 2 else x),
    along(lambda x, a, g: jax.nn.softmax(x, a)),
    along(lambda x, a, g: jax.nn.logsumexp(x, a)),
    along(lambda x, a, g: lax.slice_in_dim(x, g.choose(2), x.shape[a], axis=a)),
    along(lambda x, a, g: lax.slice_in_dim(x, 0, x.shape[a], 2, axis=a)),
    along(lambda x, a, g: jnp.pad(x, [((1, 0) if d == a else (0, 0)) for d in range(x.ndim)])),
    along(lambda x, a, g: jnp.diff(x, axis=a)),
    along(lambda x, a, g: jnp.concatenate([x, 2 * x], a)),
    along(lambda x, a, g: jnp.stack([x, jnp.sin(x)], g.choose(x.ndim + 1))),
    along(lambda x, a, g: jnp.split(x, [1], a)[g.choose(2)] if x.shape[a] > 1 else x),
    along(lambda x, a, g: jnp.unstack(x, axis=a)[g.choose(x.shape[a])]),
    along(lambda x, a, g: jnp.tile(x, (2,) + (1,) * (x.ndim - 1))),
    along(lambda x, a, g: jnp.repeat(x, 2, a)),
    along(lambda x, a, g: jnp.moveaxis(x, a, 0)),
    along(lambda x, a, g: jnp.expand_dims(x, a)),
    along(lambda x, a, g: x[g.choose(x.shape[0])]),
    along(lambda x, a, g: jnp.take(x, jnp.array([1, 0]), axis=a) if x.shape[a] > 1 else x),
    along(_regroup),
    along(_ungroup),
    along(_conv),
    along(_pool),
    along(_gather),
    along(_indexed),
    along(_scatter),
    along(_dynamic),
    lambda g, x, y: x.T,
    lambda g, x, y: jnp.broadcast_to(x, (2, *x.shape)),
    lambda g, x, y: jnp.outer(x, y),
    lambda g, x, y: x @ jnp.swapaxes(x, -1, -2) if x.ndim >= 2 else x * x,
    lambda g, x, y: jnp.einsum("...i,j->...ij", x, jnp.array([1.0, -0.5])) if x.ndim else x,
    lambda g, x, y: jnp.einsum("i...,i...->i", x, jnp.cos(x)) if x.ndim else x,
    lambda g, x, y: jnp.linalg.cholesky(square(x)) if x.ndim else jnp.exp(-x * x),
    lambda g, x, y: jax.scipy.linalg.solve_triangular(square(x), x, lower=True) if 1 <= x.ndim <= 2 else x,
    lambda g, x, y: jnp.linalg.eigvalsh(square(x)) if x.ndim else x,
    lambda g, x, y: jnp.fft.rfft(x).real if x.ndim else x,
    lambda g, x, y: jnp.convolve(x.reshape(-1), jnp.array([1.0, -0.5]), mode="same") if x.ndim else x,
    lambda g, x, y: jax.nn.one_hot(jnp.clip(x, 0, 2).astype(int), 3),
    lambda g, x, y: lax.stop_gradient(x) * jnp.cos(x),
]


def make_program(choices, depth=3, length=10):
    """The program that a list of integers stands for."""

    def program(x):
        g = Generator(choices)
        made = g.block([x[0, 0], x[0], x], depth, length)
        return {"last": made[-1], "total": sum(m.sum() for m in made)}

    return program


def start():
    return jnp.array([[0.3, -0.8, 0.5], [1.1, 0.2, -0.4]])
