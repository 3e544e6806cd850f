"""Training ELBO and gradient variance of estimators for 200 binary latents on MNIST.

The protocol of Shi et al. (2022), table 1: 784-200-200-200 with leaky units (slope 0.3), a fixed prior Bernoulli(0.5),
batches of 100, Adam at 1e-3, dynamic binarisation, the sampled one-draw ELBO; every estimator evaluates the decoder
twice per datum (K = 2). They train for a million steps, this for `STEPS`.

    ELBAX_DATA_DIR=... python -m benchmarks mnist_binary

Each run leaves a file in `runs/mnist_binary/` and is not repeated, so that the benchmark can be stopped and taken up
again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import optax

import elbax
from benchmarks.harness import RESULTS, table, write
from elbax.data import Dynamic, binarise, load
from elbax.fit.training import make_trainer
from elbax.models.networks import MLP

STEPS = int(os.environ.get("STEPS", "50_000"))
SEEDS = tuple(range(int(os.environ.get("SEEDS", "3"))))
BLOCK, LAST = 1_000, 5
OUT = Path("runs/mnist_binary")
LATENTS, HIDDEN, BATCH = 200, (200, 200), 100
WARM_UP, DRAWS = 1_000, 500

# In the order that the papers state, from below.
ESTIMATORS = {
    "RLOO": elbax.RLOO(2),
    "DisARM": elbax.DisARM(),
    "Double CV": elbax.DoubleCV(2),
    "RODEO": elbax.RODEO(2),
}
PUBLISHED = {"DisARM": "-102.75 ± 0.08", "Double CV": "-102.14 ± 0.06", "RODEO": "-101.89 ± 0.17"}


class Network(eqx.Module):
    """Dense layers with leaky units of slope 0.3."""

    layers: MLP

    def __call__(self, x):
        *inner, last = zip(self.layers.weights, self.layers.biases, strict=True)
        for w, b in inner:
            x = jax.nn.leaky_relu(x @ w + b, 0.3)
        return x @ last[0] + last[1]


class Model(eqx.Module):
    decoder: Network

    def __call__(self, x):
        z = elbax.sample("z", dist.Bernoulli(probs=0.5).expand([len(x), LATENTS]).to_event(1))
        logits = self.decoder(2.0 * jnp.asarray(z, jnp.float32) - 1.0)
        elbax.observe("x", dist.Bernoulli(logits=logits).to_event(1), x)


class Guide(eqx.Module):
    encoder: Network

    def __call__(self, x):
        elbax.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


def start(key):
    down, up = jr.split(key)
    encoder = MLP([784, *HIDDEN, LATENTS], "leaky_relu", key=down)
    decoder = MLP([LATENTS, *reversed(HIDDEN), 784], "leaky_relu", key=up)
    return Model(Network(decoder)), Guide(Network(encoder))


def elbo(model, guide):
    return elbax.ELBO(model, guide, analytic_kl=False)


def prepare(key, batch):
    return binarise(Dynamic(), key, batch, 255)


def path(name, seed):
    return OUT / f"{name.replace(' ', '')}-{STEPS}-{seed}"


def train(name, seed, images):
    """One run, unless it was done before."""
    where = path(name, seed)
    if where.with_suffix(".json").exists():
        return
    build_key, fit_key = jr.split(jr.key(seed))
    fit = elbax.fit(
        *start(build_key),
        images,
        key=fit_key,
        bound=elbo,
        optimizer=optax.adam(1e-3),
        batch_size=BATCH,
        max_steps=STEPS,
        estimators=ESTIMATORS[name],
        prepare=prepare,
        stopping=elbax.Stopping(stationary=None, patience=None),
        log_every=BLOCK,
        checkpoint=where,
        checkpoint_every=5 * BLOCK,
        resume=True,
    )
    eqx.tree_serialise_leaves(where.with_suffix(".eqx"), fit.bound)
    rows = [{"step": r.step, "bound": r.bound, "std_error": r.std_error} for r in fit.history]
    where.with_suffix(".json").write_text(json.dumps({"seconds": fit.seconds, "history": rows}))
    print(f"{name}, seed {seed}: {rows[-1]['bound']:.2f} nats after {STEPS:,} steps, {fit.seconds:.0f} s", flush=True)


def encoder_variance(name, bound, batch, key):
    """Summed variance of the encoder's gradient (of the bound per datum) over draws of `z`, everything else fixed."""
    trainer = make_trainer(bound, optax.adam(1e-3), batch, num_data=50_000, estimators=ESTIMATORS[name])
    state = trainer.init(bound, key)

    @jax.jit
    def learn(states, key):
        def step(states, key):
            (_, outcome), _ = trainer.loss_and_grad(state._replace(estimators=states), batch, key)
            return outcome.states, None

        return jax.lax.scan(step, states, jr.split(key, WARM_UP))[0]

    @jax.jit
    def gradients(states, key):
        def one(key):
            _, grads = trainer.loss_and_grad(state._replace(estimators=states), batch, key)
            return jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(grads.guide)])

        def step(sums, key):
            g = one(key)
            return (sums[0] + g, sums[1] + g**2), None

        zero = jnp.zeros_like(one(key))
        total, squares = jax.lax.scan(step, (zero, zero), jr.split(key, DRAWS))[0]
        return jnp.sum(squares / DRAWS - (total / DRAWS) ** 2) * DRAWS / (DRAWS - 1)

    learn_key, draw_key = jr.split(key)
    states = learn(state.estimators, learn_key)
    return np.array([float(gradients(states, k)) for k in jr.split(draw_key, 4)])


def variances(seed, images):
    """At the parameters where one run (leave-one-out) ended: the same for all, with what they learn settled."""
    where = path("RLOO", seed).with_suffix(".variance.json")
    if not where.exists():
        bound = eqx.tree_deserialise_leaves(path("RLOO", seed).with_suffix(".eqx"), elbo(*start(jr.key(0))))
        batch = prepare(jr.key(seed), jnp.asarray(images[seed * BATCH : (seed + 1) * BATCH]))
        found = {n: encoder_variance(n, bound, batch, jr.key(100 + seed)).tolist() for n in ESTIMATORS}
        where.write_text(json.dumps(found))
    return json.loads(where.read_text())


def last(history):
    """The mean training ELBO over the last blocks."""
    return float(np.mean([r["bound"] for r in history[-LAST:]]))


def main() -> None:
    """Trains what is missing, measures variances, writes the table and the plot."""
    images = load("mnist").train
    OUT.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for name in ESTIMATORS:
            train(name, seed, images)
    runs = {n: [json.loads(path(n, s).with_suffix(".json").read_text()) for s in SEEDS] for n in ESTIMATORS}
    spread = [variances(s, images) for s in SEEDS]
    ends = {n: np.array([last(r["history"]) for r in runs[n]]) for n in ESTIMATORS}
    rows, before = [], None
    for name, end in ends.items():
        gain = "" if before is None else with_error(end - ends[before])
        variance = np.array([np.mean(s[name]) for s in spread])
        ratio = np.array([np.mean(s["RLOO"]) / np.mean(s[name]) for s in spread])
        seconds = np.median([r["seconds"] for r in runs[name]]) / STEPS * 1e3
        published = PUBLISHED.get(name, "")
        rows.append(
            [name, with_error(end), gain, f"{variance.mean():.3g}", with_error(ratio), f"{seconds:.1f}", published]
        )
        before = name
    header = [
        "estimator (K = 2)",
        f"training ELBO, steps {STEPS - LAST * BLOCK:,}-{STEPS:,}",
        "gain over the line above",
        "variance of the encoder's gradient",
        "RLOO's variance over it",
        "ms per step",
        "published, 10^6 steps",
    ]
    text = table(header, rows)
    text += (
        f"\n\nNats per datum; means over {len(SEEDS)} seeds ± standard errors (of differences: paired by seed, which "
        f"share start, batches and binarisation). The variance is that over draws of the latents for one batch at the "
        f"parameters where the RLOO run of each seed ended, after {WARM_UP:,} steps in which coefficients and networks "
        f"of the estimators learn there. A million steps need {1e6 / STEPS:.0f} times as long: for one seed of all "
        f"four, {sum(float(r[5]) for r in rows) * 1e6 / 1e3 / 3600:.1f} hours at the times shown.\n\n"
        "![Training ELBO and variance](mnist_binary.svg)"
    )
    write("mnist_binary", "200 binary latents on MNIST", text, {"runs": runs, "variances": spread, "steps": STEPS})
    draw(runs, spread)


def with_error(x):
    return f"{x.mean():.2f} ± {x.std(ddof=1) / np.sqrt(len(x)):.2f}" if len(x) > 1 else f"{x[0]:.2f}"


def draw(runs, spread):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    base = np.mean([[r["bound"] for r in run["history"]] for run in runs["RLOO"]], axis=0)
    for i, (name, found) in enumerate(runs.items()):
        bounds = np.array([[r["bound"] for r in run["history"]] for run in found])
        steps = [r["step"] for r in found[0]["history"]]
        gain = np.array([smooth(b - base) for b in bounds])
        left.plot(steps[4:], gain.mean(0), color=f"C{i}", label=name)
        left.fill_between(steps[4:], gain.min(0), gain.max(0), color=f"C{i}", alpha=0.2, linewidth=0)
        values = [np.mean(s[name]) for s in spread]
        right.scatter([i] * len(values), values, color=f"C{i}")
    left.set(xlabel="step", ylabel="training ELBO less that of RLOO, nats", title="five-block means, range over seeds")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(runs), frameon=False)
    right.set(yscale="log", title="variance of the encoder's gradient", xticks=range(len(runs)))
    right.set_xticklabels(list(runs))
    figure.savefig(RESULTS / "mnist_binary.svg")
    plt.close(figure)


def smooth(x):
    return np.convolve(x, np.ones(5) / 5, mode="valid")


if __name__ == "__main__":
    main()
