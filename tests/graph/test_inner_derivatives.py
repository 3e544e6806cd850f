"""Programs that differentiate inside: what JAX would get wrong is refused, everything else is allowed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import ProgramError


def free_step(c, _):
    z = elbax.sample("z", dist.Normal(0.0, 1.0))  # nothing of the loop enters: JAX would hoist it
    return c * jnp.cos(z), c * z


def bound_step(c, _):
    z = elbax.sample("z", dist.Normal(lax.stop_gradient(c), 1.0))
    return c * jnp.cos(z), c * z


def loop(x, step=free_step):
    return lax.scan(step, x, None, length=3)[1].sum()


def bound_loop(x):
    return loop(x, bound_step)


def stated_cost(x):
    def step(c, _):
        elbax.cost("k", 1.0)
        return 2 * c, c

    return lax.scan(step, x, None, length=3)[1].sum()


def stated_data(x):
    def step(c, _):
        elbax.observe("k", dist.Normal(0.0, 1.0), 0.3)
        return 2 * c, c

    return lax.scan(step, x, None, length=3)[1].sum()


def mapped(x):
    return lax.map(lambda a: elbax.sample("z", dist.Normal(0.0, 1.0)) * a, x * jnp.ones(3)).sum()


def counted(x):
    return lax.fori_loop(0, 3, lambda i, c: c * elbax.sample("z", dist.Normal(0.0, 1.0)), x)


def site(x):
    return elbax.sample("z", dist.Normal(0.0, 1.0)) * x**2


def in_tree_map(x):
    return jax.tree.map(lambda a: elbax.sample("z", dist.Normal(0.0, 1.0)) * a**2, [x])[0]


REVERSE = {
    "grad": jax.grad,
    "value_and_grad": lambda f: lambda x: jax.value_and_grad(f)(x)[1],
    "vjp": lambda f: lambda x: jax.vjp(f, x)[1](1.0)[0],
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](1.0),
    "jacrev": jax.jacrev,
    "equinox": eqx.filter_grad,
    "of a jitted function": lambda f: jax.grad(jax.jit(f)),
    "of a checkpointed function": lambda f: jax.grad(jax.checkpoint(f)),
    "of a mapped function": lambda f: lambda x: jax.grad(lambda x: jax.vmap(f)(x * jnp.ones(4)).sum())(x),
    "in a map": lambda f: lambda x: jax.vmap(jax.grad(f))(x * jnp.ones(4)).sum(),
    "of a branch": lambda f: jax.grad(lambda x: lax.cond(x > 0, f, lambda x: x, x)),
}


_REFUSED = r"'[zk]' \(test_inner_derivatives.py:\d+\) stands in a loop|a statement that acts.*'k' \(test_inner"


@pytest.mark.parametrize("fn", [loop, stated_cost, stated_data, mapped, counted], ids=lambda f: f.__name__)
@pytest.mark.parametrize("derivative", REVERSE)
def test_reverse_derivative_of_a_loop_with_a_free_site_is_refused(derivative, fn):
    with pytest.raises(ProgramError, match=_REFUSED):
        elbax.trace(REVERSE[derivative](fn), 0.5)


def test_it_is_refused_when_jax_has_traced_the_function_before():
    jitted = jax.jit(loop)
    assert elbax.trace(jitted, 0.5).nodes["z"].shape == (3,)
    with pytest.raises(ProgramError, match="stands in a loop"):
        elbax.trace(jax.grad(jitted), 0.5)


@pytest.mark.parametrize(
    ("program", "shape"),
    [
        (jax.grad(bound_loop), (3,)),  # draws that depend on the loop stay in it
        (jax.grad(jax.jit(bound_loop)), (3,)),
        (lambda x: jax.jvp(loop, (x,), (1.0,))[1], (3,)),  # forward derivatives hoist nothing
        (jax.grad(site), ()),
        (jax.grad(jax.jit(site)), ()),
        (eqx.filter_grad(site), ()),
        (jax.grad(in_tree_map), ()),
        (lambda x: lax.scan(lambda c, _: (c + jax.grad(site)(c), c), x, None, length=3)[0], (3,)),
        (lambda x: lax.scan(lambda c, _: (c + jax.grad(jax.jit(site))(c), c), x, None, length=3)[0], (3,)),
        (lambda x: jax.vmap(jax.grad(site))(x * jnp.ones(4)).sum(), (4,)),
    ],
)
def test_harmless_derivatives_are_allowed(program, shape):
    assert elbax.trace(program, 0.5).nodes["z"].shape == shape
    assert elbax.value_and_grad(program)(jax.random.key(0), 0.5)[0].shape == ()


def test_derivative_inside_is_that_of_the_same_draw():
    def program(x):
        return jax.grad(site)(x)  # 2 x z

    value, grad = elbax.value_and_grad(program)(jax.random.key(0), 0.5)
    assert value == pytest.approx(float(grad) * 0.5)


@pytest.mark.parametrize("outer", [jax.grad, jax.jit, lambda f: lambda x: lax.map(f, x * jnp.ones(2)).sum()])
def test_elbax_itself_is_not_an_inner_derivative(outer):
    loss = elbax.surrogate(loop)
    assert jnp.isfinite(outer(lambda x: loss(jax.random.key(0), x))(0.5))
    grad = elbax.value_and_grad(loop)
    assert jnp.isfinite(outer(lambda x: grad(jax.random.key(0), x)[0])(0.5))


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.hessian])
def test_forward_jacobian_of_a_site_is_refused(derivative):
    with pytest.raises(
        ProgramError, match=r"(?s)A site draws anew in every lane.*'z' \(test_inner_derivatives.py:\d+\)"
    ):
        elbax.trace(derivative(site), 0.5)


@pytest.mark.parametrize("derivative", [jax.grad, jax.jacfwd, jax.hessian, eqx.filter_grad])
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (lambda x: elbax.sample("z", dist.Normal(x, 1.0)), "sample site"),
        (lambda x: elbax.cost("z", x) or x, "cost"),
        (lambda x: elbax.observe("z", dist.Normal(x, 1.0), 0.3) or x, "observed site"),
        (lambda x: elbax.baseline("z", x) or x, "baseline"),
    ],
)
def test_derivative_through_a_site_is_refused(derivative, state, kind):
    with pytest.raises(ProgramError, match=rf"{kind} 'z' \(test_inner_derivatives.py:\d+\) is differentiated by"):
        elbax.trace(derivative(state), 0.5)
