"""Programs, one for each construct that a site may stand in; every program takes `theta` of shape [3].

`FINITE` have discrete nodes only, `MIXED` have Normal ones too.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax

import elbax

THETA = np.array([0.7, -0.4, 0.3])


def single(theta):
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0]))
    return (b - 0.45) ** 2 * theta[1]


def chain(theta, length=5):
    """A binary chain in `scan` with per-step costs and a final one."""

    def body(c, t):
        b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1]))
        elbax.cost("before", theta[2] * c)
        elbax.cost("step", (b - 0.3) ** 2 * theta[0] + jnp.sin(t * b))
        return 1.0 * b, None

    last, _ = lax.scan(body, 1.0, jnp.arange(1.0 * length))
    elbax.cost("final", last * theta[1] ** 2)


def accumulated_chain(theta):
    """The same kind of chain whose costs are added up in the carry, and returned."""

    def body(carry, t):
        c, loss = carry
        b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1]))
        return (1.0 * b, loss + (b - 0.3) ** 2 * theta[0] + jnp.sin(t * b)), None

    (last, loss), _ = lax.scan(body, (1.0, theta[2]), jnp.arange(5.0))
    return loss + last * theta[1] ** 2


def reversed_chain(theta):
    def body(c, t):
        b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c - theta[1] * t))
        return 1.0 * b, (b - 0.3 * t) ** 2 * theta[2] + c * b

    _, costs = lax.scan(body, 1.0, jnp.arange(4.0), reverse=True)
    return costs


def vmapped(theta, lanes=10):
    def lane(x):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * x))
        return (b - 0.45 * x) ** 2 * (1 + theta[1] ** 2)

    return jnp.mean(jax.vmap(lane)(jnp.linspace(-1.0, 2.0, lanes)))


def plate(theta, lanes=10):
    """A hand-batched plate whose costs were averaged by the user."""
    x = jnp.linspace(-1.0, 2.0, lanes)
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * x))
    return jnp.mean((b - 0.45 * x) ** 2 + theta[2] * b) * (1 + theta[1] ** 2)


def vmapped_chain(theta):
    """A chain in `scan` under `vmap`."""

    def lane(x):
        def body(c, _):
            b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1] * x))
            return 1.0 * b, (b - 0.3 * x) ** 2 * theta[2]

        _, costs = lax.scan(body, 1.0, None, length=3)
        return costs.sum()

    return jax.vmap(lane)(jnp.array([-1.0, 0.5, 2.0])).sum()


def scanned_plate(theta):
    """A plate in `scan`."""
    x = jnp.array([-1.0, 0.5, 2.0])

    def body(c, _):
        b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1] * x))
        return 1.0 * b, (b - 0.3 * x) ** 2 * theta[2] + 0.1 * c

    _, costs = lax.scan(body, jnp.ones(3), None, length=3)
    return costs.sum()


def branches(theta):
    """Sites in both branches of a `cond`, chosen by a sample."""
    a = elbax.sample("a", dist.Bernoulli(logits=theta[0]))

    def left(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[1] * jnp.ones(2)))
        elbax.cost("left", (b - 0.3) ** 2 * theta[2])
        return b.sum() * theta[0]

    def right(theta):
        c = elbax.sample("c", dist.Categorical(logits=theta))
        elbax.cost("right", theta[c] * theta[1])
        return 1.0 * c

    y = lax.cond(a == 1, left, right, theta)
    return y**2


def nested(theta):
    """A scan in a scan, with draws in both."""

    def outer(c, _):
        a = elbax.sample("a", dist.Bernoulli(logits=theta[0] + c))

        def inner(d, t):
            b = elbax.sample("b", dist.Bernoulli(logits=theta[1] * a + theta[2] * d))
            return 0.5 * b, (b - 0.2 * t) * theta[0]

        d, costs = lax.scan(inner, c, jnp.arange(2.0))
        return d, costs.sum() + a * theta[1]

    last, costs = lax.scan(outer, 0.1, None, length=3)
    return costs.sum() + last * theta[2]


def two_layers(theta):
    """A Bernoulli network with two layers."""
    h = elbax.sample("h", dist.Bernoulli(logits=theta))
    w = jnp.outer(theta, theta[::-1]) + 0.5
    v = elbax.sample("v", dist.Bernoulli(logits=w @ h))
    return jnp.sin(jnp.dot(v, theta)) + 0.1 * h.sum() * v[0]


def categorical_chain(theta):
    a = elbax.sample("a", dist.Categorical(logits=theta))
    table = jnp.stack([theta, -theta, theta**2])
    b = elbax.sample("b", dist.Categorical(logits=table[a]))
    return {"first": theta[a] ** 2, "second": table[a, b]}


def rematerialised(theta):
    @jax.checkpoint
    def layer(x):
        b = elbax.sample("b", dist.Bernoulli(logits=theta * x))
        elbax.cost("inner", (b - 0.4) ** 2 * theta)
        return b.sum() * theta[0]

    return jnp.sin(layer(0.7))


def jitted(theta):
    @jax.jit
    def layer(x):
        b = elbax.sample("b", dist.Bernoulli(logits=theta * x))
        return ((b - 0.4) ** 2 * theta).sum()

    return layer(0.7) ** 2 + layer_cost(theta)


@jax.jit
def layer_cost(theta):
    c = elbax.sample("c", dist.Bernoulli(logits=theta[1]))
    return c * theta[2]


def mapped(theta):
    """`lax.map`: a loop without a carry is a plate."""

    def one(x):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * x))
        return (b - 0.45 * x) ** 2 * theta[1] + theta[2] * b

    return lax.map(one, jnp.linspace(-1.0, 2.0, 6)).sum()


def counted(theta):
    """`fori_loop` with constant bounds is a scan."""

    def body(i, carry):
        c, loss = carry
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * c + theta[1] * i))
        return 1.0 * b, loss + (b - 0.3) ** 2 * theta[2]

    _, loss = lax.fori_loop(0, 4, body, (0.5, 0.0))
    return loss


def windowed(theta):
    """Differences of neighbours of a vector of draws: a band of relations."""
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * jnp.linspace(-1.0, 1.0, 6)))
    x = 1.0 * b
    return ((x[1:] - theta[1] * x[:-1]) ** 2).sum() + theta[2] * jnp.cumsum(x)[-1]


def merged(theta):
    """Axes merged by a reshape and taken apart again."""
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)))
    x = jnp.sin(theta[1] * b.reshape(6) + 0.2).reshape(2, 3)
    return (x * theta).sum()


def mapped_in_a_loop(theta):
    """`vmap` in `scan`."""

    def body(c, t):
        b = jax.vmap(lambda x, w: elbax.sample("b", dist.Bernoulli(logits=w * x)))(c, theta)
        return 0.5 * b, (b - 0.2 * t) ** 2 * theta

    last, costs = lax.scan(body, jnp.array([-1.0, 0.5, 2.0]), jnp.arange(3.0))
    return costs.sum() + last[0] * last[1]


def branch_in_a_loop(theta):
    """A `cond` in `scan`: which site is drawn depends on the step before."""

    def body(c, t):
        def draw_more(c):
            b = elbax.sample("b", dist.Bernoulli(logits=theta[0] + t))
            return b * (1.0 + c)

        def stop(c):
            d = elbax.sample("d", dist.Bernoulli(logits=theta[1] * c))
            return -0.5 * d

        c = lax.cond(c > 0.4, draw_more, stop, c)
        return c, c**2 * theta[2]

    last, costs = lax.scan(body, 1.0, jnp.arange(3.0))
    return {"steps": costs, "last": last * theta[0]}


def loop_in_a_branch(theta):
    """A `scan` in a `cond`."""
    a = elbax.sample("a", dist.Bernoulli(logits=theta[0]))

    def walk(x):
        def body(c, _):
            b = elbax.sample("b", dist.Bernoulli(logits=theta[1] - c))
            return c + b, b * theta[2]

        last, costs = lax.scan(body, x, None, length=3)
        return last**2 + costs.sum()

    return lax.cond(a == 1, walk, lambda x: x * theta[1], 0.3)


def recursive(theta):
    """A function that calls itself: a tree of draws, each in the scope of its parent."""

    def grow(state, depth):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * state + theta[1] * depth))
        value = b * theta[2] + 0.3 * depth * b
        if depth == 0:
            return value
        with elbax.scope("left"):
            left = grow(1.0 * b, depth - 1)
        with elbax.scope("right"):
            right = grow(1.0 - 2 * b, depth - 1)
        return value + left - right * b

    return grow(1.0, 2)


def observed_mixture(theta):
    """Data observed given discrete draws, one for each datum."""
    x = jnp.array([0.3, -1.2, 0.8])
    k = elbax.sample("k", dist.Categorical(logits=theta * x[:, None]))
    elbax.observe("x", dist.Normal(theta[k], 0.7), x)


FINITE = [
    single,
    chain,
    accumulated_chain,
    reversed_chain,
    vmapped,
    plate,
    vmapped_chain,
    scanned_plate,
    branches,
    nested,
    two_layers,
    categorical_chain,
    rematerialised,
    jitted,
    mapped,
    counted,
    windowed,
    merged,
    mapped_in_a_loop,
    branch_in_a_loop,
    loop_in_a_branch,
    recursive,
    observed_mixture,
]


# ------------------------------------------------------------------------------------------ continuous and discrete


def continuous(theta):
    z = elbax.sample("z", dist.Normal(theta[0], 1 + theta[1] ** 2))
    return z**3 * theta[2] + z


def discrete_then_continuous(theta):
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0]))
    z = elbax.sample("z", dist.Normal(theta[1] * b - 0.2, 0.8))
    return {"square": z**2 * theta[2], "product": b * z}


def continuous_then_discrete(theta):
    """The derivative of a pathwise node's value arrives at the parameters of a score node."""
    z = elbax.sample("z", dist.Normal(theta[0], 0.8))
    b = elbax.sample("b", dist.Bernoulli(logits=0.5 * z + theta[1]))
    return (b - 0.3) ** 2 * theta[2] + b * z + 0.1 * z**2


def switching_chain(theta):
    """A chain of a discrete and a continuous state in `scan`."""

    def body(z, t):
        s = elbax.sample("s", dist.Bernoulli(logits=0.4 * z + theta[0]))
        z = elbax.sample("z", dist.Normal(theta[1] * s + 0.5 * z, 0.7))
        return z, (z - 0.3 * t) ** 2 * theta[2] + s * z

    return lax.scan(body, 0.3, jnp.arange(2.0))[1]


def mixed_lanes(theta):
    """A discrete and a continuous node in every lane of `vmap`."""

    def lane(x):
        s = elbax.sample("s", dist.Bernoulli(logits=theta[0] * x))
        z = elbax.sample("z", dist.Normal(theta[1] * s + x, 0.7))
        return (z - theta[2]) ** 2 * (1 + s)

    return jax.vmap(lane)(jnp.array([-1.0, 0.6])).mean()


def mixed_branches(theta):
    """A Normal in one branch of a `cond`, a Categorical in the other."""
    a = elbax.sample("a", dist.Bernoulli(logits=theta[0]))
    left = lambda: elbax.sample("z", dist.Normal(theta[1], 0.6)) ** 2 * theta[2]  # noqa: E731
    right = lambda: theta[elbax.sample("c", dist.Categorical(logits=theta))]  # noqa: E731
    return lax.cond(a == 1, left, right) + theta[1] * a


def _mixture_model(x):
    k = elbax.sample("k", dist.Bernoulli(0.3))
    z = elbax.sample("z", dist.Normal(1.0 * k, 0.9))
    elbax.observe("x", dist.Normal(z, 0.8), x)


def _mixture_guide(theta, x):
    k = elbax.sample("k", dist.Bernoulli(logits=theta[0]))
    elbax.sample("z", dist.Normal(theta[1] * x + k, jnp.exp(theta[2])))


def elbo(theta):
    """A bound with log q of a discrete and a continuous node among its summands."""
    return elbax.ELBO(_mixture_model, eqx.Partial(_mixture_guide, theta), analytic_kl=False)(jnp.array(0.7))


def elbo_in_closed_form(theta):
    return elbax.ELBO(_mixture_model, eqx.Partial(_mixture_guide, theta))(jnp.array(0.7))


def iwae(theta):
    """A bound with two draws of log q inside a logarithm."""
    bound = elbax.IWAE(_mixture_model, eqx.Partial(_mixture_guide, theta), num_particles=2)
    return bound(jnp.array(0.7))


MIXED = [
    continuous,
    discrete_then_continuous,
    continuous_then_discrete,
    switching_chain,
    mixed_lanes,
    mixed_branches,
    elbo,
    elbo_in_closed_form,
    iwae,
]


def pathwise_and_score(program):
    """The rule's choice, with plain score functions where it would probe."""
    chosen = elbax.surrogate(program).plan((jnp.asarray(THETA),), {})[0].chosen
    return {name: elbax.Score() if choice.estimator.probes else choice.estimator for name, choice in chosen.items()}
