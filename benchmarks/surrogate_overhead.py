"""The derived surrogate against a hand-written one: a layer of 200 Bernoulli units, and a scan of 200 steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist

import elbax
from benchmarks.harness import interleaved, table, write

BATCH, UNITS, PIXELS, STEPS = 128, 200, 784, 200


def layer_params(key):
    a, b = jr.split(key)
    return {"e": 0.05 * jr.normal(a, (PIXELS, UNITS)), "d": 0.05 * jr.normal(b, (UNITS, PIXELS))}


def layer_program(params, x):
    """A VAE with one layer of binary latents; costs are summed by the user."""
    b = elbax.sample("b", dist.Bernoulli(logits=x @ params["e"]))
    logits = b.astype(jnp.float32) @ params["d"]
    return -dist.Bernoulli(logits=logits).log_prob(x).sum()


def layer_by_hand(params, x, key):
    q = dist.Bernoulli(logits=x @ params["e"])
    b = jax.lax.stop_gradient(q.sample(key))
    logits = b.astype(jnp.float32) @ params["d"]
    cost = -dist.Bernoulli(logits=logits).log_prob(x).sum(-1)
    score = q.log_prob(b).sum(-1)
    return cost.sum() + (score * jax.lax.stop_gradient(cost)).sum() - jax.lax.stop_gradient((score * cost).sum())


def chain_program(theta):
    """A binary chain with per-step costs that are accumulated in the carry."""

    def body(carry, _):
        c, loss = carry
        b = elbax.sample("s", dist.Bernoulli(logits=c @ theta)).astype(jnp.float32)
        return (b, loss + ((b - 0.3) ** 2).sum()), None

    (_, loss), _ = jax.lax.scan(body, (jnp.ones((BATCH, 16)), 0.0), None, length=STEPS)
    return loss


def chain_by_hand(theta, key):
    def body(c, k):
        q = dist.Bernoulli(logits=c @ theta)
        b = jax.lax.stop_gradient(q.sample(k))
        value = b.astype(jnp.float32)
        return value, ((value - 0.3) ** 2, q.log_prob(b))

    _, (costs, scores) = jax.lax.scan(body, jnp.ones((BATCH, 16)), jr.split(key, STEPS))
    per_row = costs.sum(-1)
    to_go = jax.lax.cumsum(per_row, 0, reverse=True)
    credit = (scores * jax.lax.stop_gradient(to_go)[..., None]).sum()
    return costs.sum() + credit - jax.lax.stop_gradient(credit)


def main(rounds: int = 41) -> None:
    params, theta = layer_params(jr.key(0)), 0.3 * jr.normal(jr.key(1), (16, 16))
    x = jr.bernoulli(jr.key(2), 0.3, (BATCH, PIXELS)).astype(jnp.float32)
    layer = jax.jit(elbax.value_and_grad(layer_program, elbax.Score()))
    layer_hand = jax.jit(jax.value_and_grad(layer_by_hand))
    chain = jax.jit(elbax.value_and_grad(chain_program, elbax.Score()))
    chain_hand = jax.jit(jax.value_and_grad(chain_by_hand))
    key = jr.key(3)

    def repeat(fn, n):
        return lambda: [fn() for _ in range(n)]

    pairs = {
        "200 Bernoulli units, batch 128": (
            repeat(lambda: layer(key, params, x), 5),
            repeat(lambda: layer_hand(params, x, key), 5),
        ),
        "scan of 200 steps, 16 units, batch 128": (
            repeat(lambda: chain(key, theta), 3),
            repeat(lambda: chain_hand(theta, key), 3),
        ),
    }
    rows, data = [], {}
    for name, (ours, by_hand) in pairs.items():
        timing = interleaved({"derived": ours, "by hand": by_hand}, rounds)
        ratio, low, high = timing.ratio("derived", "by hand")
        rows.append([name, f"{ratio:.3f} ({low:.3f}-{high:.3f})"])
        data[name] = timing.seconds.tolist()
    text = table(["program", "derived / hand-written (quartiles)"], rows)
    text += "\n\nCompiled value and gradient of one estimate; the same draws, costs and credits on both sides."
    write("surrogate_overhead", "The derived surrogate against a hand-written one", text, data)


if __name__ == "__main__":
    main()
