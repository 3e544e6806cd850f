"""Time per training step of a VAE: `elbax.fit`, a hand-written fused loop, and NumPyro's `SVI`.

One model, 784-200-200-50 with tanh, batch 128, Adam, images binarised anew at each step; the same data and the same
work in all candidates. Each runs 100 steps in one compiled loop.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, TraceMeanField_ELBO

import elbax
from benchmarks.harness import interleaved, table, write
from elbax.fit.feed import make_feed
from elbax.fit.training import make_trainer

BATCH, PIXELS, HIDDEN, LATENTS, STEPS, ROWS = 128, 784, 200, 50, 100, 6000


def make_params(key):
    glorot = jax.nn.initializers.glorot_uniform()
    shapes = {
        "e1": (PIXELS, HIDDEN), "e2": (HIDDEN, HIDDEN), "em": (HIDDEN, LATENTS), "es": (HIDDEN, LATENTS),
        "d1": (LATENTS, HIDDEN), "d2": (HIDDEN, HIDDEN), "do": (HIDDEN, PIXELS),
    }  # fmt: skip
    keys = dict(zip(shapes, jr.split(key, len(shapes)), strict=True))
    return {k: {"w": glorot(keys[k], s), "b": jnp.zeros(s[1])} for k, s in shapes.items()}


def dense(p, x):
    return x @ p["w"] + p["b"]


def encode(p, x):
    h = jnp.tanh(dense(p["e2"], jnp.tanh(dense(p["e1"], x))))
    return dense(p["em"], h), jnp.exp(dense(p["es"], h))


def decode(p, z):
    return dense(p["do"], jnp.tanh(dense(p["d2"], jnp.tanh(dense(p["d1"], z)))))


def binarise(key, batch):
    return jr.bernoulli(key, batch.astype(jnp.float32) / 255.0).astype(jnp.float32)


def halves(params):
    encoder = {k: v for k, v in params.items() if k.startswith("e")}
    return {k: v for k, v in params.items() if k not in encoder}, encoder


# ------------------------------------------------------------------------------------------ candidates


def hand_written(params, data, order, *, likelihood):
    """What one would write: a fused `lax.scan` loop with Optax."""
    optimizer = optax.adam(1e-3)

    def loss(p, x, key):
        loc, scale = encode(p, x)
        logits = decode(p, loc + scale * jr.normal(key, loc.shape))
        kl = 0.5 * (loc**2 + scale**2 - 1) - jnp.log(scale)
        return (kl.sum() - likelihood(x, logits).sum()) / BATCH

    @jax.jit
    def run(state):
        def step(state, i):
            p, opt, key = state
            key, binarise_key, draw_key = jr.split(key, 3)
            rows = jax.lax.dynamic_slice(order, (i * BATCH % (ROWS - BATCH),), (BATCH,))
            value, grads = jax.value_and_grad(loss)(p, binarise(binarise_key, data[rows]), draw_key)
            updates, opt = optimizer.update(grads, opt, p)
            return (optax.apply_updates(p, updates), opt, key), value

        return jax.lax.scan(step, state, jnp.arange(STEPS))

    state = [(params, optimizer.init(params), jr.key(1))]

    def once():
        state[0], losses = run(state[0])
        return losses

    return once


def softplus_likelihood(x, logits):
    return x * logits - jax.nn.softplus(logits)


def library_likelihood(x, logits):
    return dist.Bernoulli(logits=logits).log_prob(x)


class Model(eqx.Module):
    params: dict

    def __call__(self, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros((x.shape[0], LATENTS)), 1.0).to_event(1))
        elbax.observe("x", dist.Bernoulli(logits=decode(self.params, z)).to_event(1), x)


class Guide(eqx.Module):
    params: dict

    def __call__(self, x):
        loc, scale = encode(self.params, x)
        elbax.sample("z", dist.Normal(loc, scale).to_event(1))


def derived(params, data):
    """A block of `elbax.fit`, with all that `fit` does around it: the copy for the address of a NaN, the summary."""
    decoder, encoder = halves(params)
    bound = elbax.ELBO(Model(decoder), Guide(encoder))
    feed = make_feed(data, BATCH, jr.key(0))
    trainer = make_trainer(bound, optax.adam(1e-3), feed.example(), num_data=ROWS, prepare=binarise)
    block = jax.jit(
        lambda state, source, n: trainer.block(state, lambda s, i: feed.select(source, s, i), n), donate_argnums=0
    )
    state = [trainer.init(bound, jr.key(1)), 0]

    def once():
        source = feed.source(state[1], STEPS)
        jax.tree.map(jnp.copy, state[0])
        state[0], summary = block(state[0], source, jnp.int32(STEPS))
        state[1] += STEPS
        assert bool(summary.finite)
        return summary.loss

    return once


def by_numpyro(params, data, order):
    """`SVI.update` in a compiled loop, which is what `SVI.run` does, on fresh batches."""
    decoder, encoder = halves(params)

    def model(x):
        p = {k: {n: numpyro.param(f"{k}{n}", v) for n, v in layer.items()} for k, layer in decoder.items()}
        with numpyro.plate("n", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENTS), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(p, z)).to_event(1), obs=x)

    def guide(x):
        p = {k: {n: numpyro.param(f"{k}{n}", v) for n, v in layer.items()} for k, layer in encoder.items()}
        loc, scale = encode(p, x)
        with numpyro.plate("n", x.shape[0]):
            numpyro.sample("z", dist.Normal(loc, scale).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), TraceMeanField_ELBO())

    @jax.jit
    def run(state):
        def step(state, i):
            inner, key = state
            key, binarise_key = jr.split(key)
            rows = jax.lax.dynamic_slice(order, (i * BATCH % (ROWS - BATCH),), (BATCH,))
            inner, value = svi.update(inner, binarise(binarise_key, data[rows]))
            return (inner, key), value

        return jax.lax.scan(step, state, jnp.arange(STEPS))

    state = [(svi.init(jr.key(1), jnp.zeros((BATCH, PIXELS))), jr.key(2))]

    def once():
        state[0], losses = run(state[0])
        return losses

    return once


def main(rounds: int = 25) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(ROWS, PIXELS)).astype(np.uint8)
    data, order = jnp.asarray(images), jnp.asarray(rng.permutation(ROWS), jnp.int32)
    params = make_params(jr.key(0))
    candidates = {
        "elbax.fit": derived(params, images),
        "hand-written": hand_written(params, data, order, likelihood=softplus_likelihood),
        "hand-written, library likelihood": hand_written(params, data, order, likelihood=library_likelihood),
        "NumPyro SVI": by_numpyro(params, data, order),
    }
    timing = interleaved(candidates, rounds)
    fastest = min((n for n in candidates if n != "elbax.fit"), key=timing.median)
    rows = []
    for name in candidates:
        ratio, low, high = timing.ratio("elbax.fit", name)
        rows.append([name, f"{timing.median(name) / STEPS * 1e3:.3f}", f"{ratio:.3f} ({low:.3f}-{high:.3f})"])
    text = table(["candidate", "ms per step (median)", "elbax.fit / candidate (quartiles)"], rows)
    ratio = timing.ratio("elbax.fit", fastest)[0]
    text += f"\n\nAgainst the fastest other candidate ({fastest}): {ratio:.3f}."
    data_ = {"names": list(candidates), "seconds": timing.seconds.tolist(), "steps": STEPS}
    write("vae_step", "Time per training step of a VAE (batch 128)", text, data_)


if __name__ == "__main__":
    main()
