"""What credit by element is worth: variance of the gradient, separated against the total cost for every node."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist

import elbax
from benchmarks.harness import table, write

DRAWS = 50_000
THETA = jnp.array([0.7, -0.4])


def chain(length):
    def program(theta):
        def body(c, _):
            b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1]))
            return 1.0 * b, (b - 0.3) ** 2

        return jax.lax.scan(body, 1.0, None, length=length)[1].sum()

    return program


def plate(lanes):
    x = jnp.linspace(-1.0, 2.0, lanes)

    def program(theta):
        b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * x + theta[1]))
        return ((b - 0.45 * x) ** 2).sum()

    return program


def vmapped(lanes):
    x = jnp.linspace(-1.0, 2.0, lanes)

    def program(theta):
        def lane(x):
            b = elbax.sample("b", dist.Bernoulli(logits=theta[0] * x + theta[1]))
            return (b - 0.45 * x) ** 2

        return jax.vmap(lane)(x).sum()

    return program


def hidden_in_a_product(program):
    """The same program with its loss behind a function that is not a sum: nothing can be separated."""
    return lambda theta: jnp.log(jnp.exp(program(theta)))


def variance(program):
    f = elbax.value_and_grad(program, elbax.Score())
    grads = jax.jit(jax.vmap(lambda k: f(k, THETA)[1]))(jr.split(jr.key(0), DRAWS))
    return float(grads.var(0).sum()), [float(g) for g in grads.mean(0)]


def main() -> None:
    cases = {
        "chain in scan, T = 5": chain(5),
        "chain in scan, T = 50": chain(50),
        "plate written by hand, B = 10": plate(10),
        "plate written by hand, B = 40": plate(40),
        "vmap, B = 10": vmapped(10),
        "vmap, B = 160": vmapped(160),
    }
    rows, data = [], {}
    for name, program in cases.items():
        (separated, mean), (total, mean_total) = variance(program), variance(hidden_in_a_product(program))
        rows.append([name, f"{separated:.3g}", f"{total:.3g}", f"{total / separated:.1f}"])
        data[name] = {"separated": separated, "total": total, "mean": mean, "mean_total": mean_total}
    text = table(["program (one scalar loss)", "variance, separated", "variance, total cost", "ratio"], rows)
    text += (
        f"\n\nSum over parameters of the variance of one gradient estimate, {DRAWS:,} draws, score function without "
        "baseline. Both estimates are unbiased; the total-cost one hides the sum from elbax behind `log(exp(.))`."
    )
    write("separation_variance", "Variance of separated against total-cost gradients", text, data)


if __name__ == "__main__":
    main()
