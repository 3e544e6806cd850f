"""A program with a continuous latent, a binary chain in a loop, and data: its graph, and a fit.

Run it with `python examples/chain.py`; it draws `graph.svg` next to where it is run, unless that exists.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import optax

import elbax


def program(theta, x):
    """A weather of hidden dry and wet days (a binary chain) under a climate `z`; `x` is what a gauge shows."""
    z = elbax.sample("z", dist.Normal(theta["loc"], jnp.exp(theta["log_scale"])))

    def day(wet, x_t):
        b = elbax.sample("wet", dist.Bernoulli(logits=z + theta["stay"] * wet))
        elbax.observe("x", dist.Normal(2.0 * b, 1.0), x_t)
        return 1.0 * b, None

    jax.lax.scan(day, 0.0, x)
    elbax.cost(
        "prior", dist.kl_divergence(dist.Normal(theta["loc"], jnp.exp(theta["log_scale"])), dist.Normal(0.0, 1.0))
    )


def main():
    theta = {"loc": jnp.array(0.0), "log_scale": jnp.array(-1.0), "stay": jnp.array(0.5)}
    x = jnp.array([0.1, 1.8, 2.2, 2.1, -0.3, 0.4, 1.9])
    graph = elbax.trace(program, theta, x)
    print(graph)
    if not Path("graph.svg").exists():
        graph.draw("graph.svg")

    optimizer = optax.adam(0.02)
    gradient = jax.vmap(elbax.value_and_grad(program), in_axes=(0, None, None))

    @jax.jit
    def run(theta):
        def step(carry, key):
            theta, state = carry
            values, grads = gradient(jax.random.split(key, 16), theta, x)  # 16 estimates per step
            updates, state = optimizer.update(jax.tree.map(lambda g: g.mean(0), grads), state)
            return (optax.apply_updates(theta, updates), state), values.mean()

        (theta, _), values = jax.lax.scan(
            step, (theta, optimizer.init(theta)), jax.random.split(jax.random.key(0), 1000)
        )
        return theta, values

    theta, values = run(theta)
    print(f"expected cost: {values[:50].mean():.3f} at first, {values[-200:].mean():.3f} at the end")
    print({name: round(float(value), 3) for name, value in theta.items()})


if __name__ == "__main__":
    main()
