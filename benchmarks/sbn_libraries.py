"""A sigmoid belief network 784-200-200 in four libraries: time per step, variance of the gradient, and their product.

    python -m pip install --group bench    # PyTorch, Pyro, Storchastic
    python -m benchmarks sbn_libraries

One batch, the same parameters everywhere (those after some steps of training); each library takes a step of Adam on its
gradient estimate of the ELBO per datum. Its gradient at fixed parameters must agree on average with that of the others.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as ndist
import optax
import pyro
import pyro.distributions as pdist
import storch
import torch
from torch.distributions import Bernoulli

import elbax
from benchmarks.harness import table, write
from elbax.data import Dynamic, binarise, load
from elbax.fit.training import make_trainer

BATCH, PIXELS, UNITS = 128, 784, 200
TRAINED = 3_000
ROUNDS = int(os.environ.get("ROUNDS", "40"))
STEPS = 5
DRAWS = 200
LAYERS = {"q1": (PIXELS, UNITS), "q2": (UNITS, UNITS), "p1": (UNITS, UNITS), "p0": (UNITS, PIXELS), "prior": (UNITS,)}

# A step of a library: `step()` moves its parameters; `grad()` is a flat gradient estimate at fixed parameters.
Params = dict[str, np.ndarray]


@dataclass
class Candidate:
    """A library with one of its estimators."""

    library: str
    about: str
    step: Callable[[], object]
    grad: Callable[[], np.ndarray]
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.library}: {self.about}"


def start(key) -> Params:
    """Glorot's weights and zero biases; a weight matrix and a bias for each layer."""
    glorot = jax.nn.initializers.glorot_uniform()
    params = {}
    for k, (name, shape) in zip(jr.split(key, len(LAYERS)), LAYERS.items(), strict=True):
        if len(shape) == 2:
            params[f"{name}.w"] = glorot(k, shape)
        params[f"{name}.b"] = jnp.zeros(shape[-1])
    return params


def dense(p, name, x):
    return x @ p[f"{name}.w"] + p[f"{name}.b"]


# ------------------------------------------------------------------------------------------ elbax


class Model(eqx.Module):
    p: dict

    def __call__(self, x):
        h2 = elbax.sample("h2", ndist.Bernoulli(logits=self.p["prior.b"]).expand([len(x), UNITS]).to_event(1))
        h1 = elbax.sample("h1", ndist.Bernoulli(logits=dense(self.p, "p1", jnp.asarray(h2, float))).to_event(1))
        elbax.observe("x", ndist.Bernoulli(logits=dense(self.p, "p0", jnp.asarray(h1, float))).to_event(1), x)


class Guide(eqx.Module):
    p: dict

    def __call__(self, x):
        h1 = elbax.sample("h1", ndist.Bernoulli(logits=dense(self.p, "q1", x)).to_event(1))
        elbax.sample("h2", ndist.Bernoulli(logits=dense(self.p, "q2", jnp.asarray(h1, float))).to_event(1))


def elbo(params: Params, num_samples=1):
    model = Model({k: jnp.asarray(v) for k, v in params.items() if k[0] == "p"})
    guide = Guide({k: jnp.asarray(v) for k, v in params.items() if k[0] == "q"})
    return elbax.ELBO(model, guide, num_samples=num_samples)


def flat_numpy(tree: dict) -> np.ndarray:
    return np.concatenate([tree[k].ravel() for k in sorted(tree)])


def flat(tree: dict) -> jax.Array:
    return jnp.concatenate([jnp.ravel(tree[k]) for k in sorted(tree)])


def by_elbax(params, x, estimators, about, *, num_samples=1) -> Candidate:
    bound = elbo(params, num_samples)
    trainer = make_trainer(bound, optax.adam(1e-3), x, num_data=BATCH, estimators=estimators)
    update = jax.jit(trainer.update)
    state = [trainer.init(bound, jr.key(1))]

    # What an estimator learns is let settle at the parameters at which its variance is measured.
    def settled(states, key):
        return trainer.loss_and_grad(trained._replace(estimators=states), x, key)[0][1].states, None

    trained = trainer.init(bound, jr.key(1))
    states = jax.jit(lambda s: jax.lax.scan(settled, s, jr.split(jr.key(2), 500))[0])(trained.estimators)
    keys = keys_from(jr.key(3))

    @jax.jit
    def grad(states, key):
        _, grads = trainer.loss_and_grad(trained._replace(estimators=states), x, key)
        return flat(grads.model.p | grads.guide.p)

    def step():
        state[0], info = update(state[0], x)
        jax.block_until_ready(info.loss)

    return Candidate("elbax", about, step, lambda: np.asarray(grad(states, next(keys))))


def keys_from(key) -> Iterator[jax.Array]:
    while True:
        key, one = jr.split(key)
        yield one


# ------------------------------------------------------------------------------------------ NumPyro


def by_numpyro(params, x, *, num_particles) -> Candidate:
    def param(name):
        return {k: numpyro.param(k, jnp.asarray(v)) for k, v in params.items() if k.startswith(name)}

    def model(x):
        p = param("p")
        with numpyro.plate("data", BATCH):
            h2 = numpyro.sample("h2", ndist.Bernoulli(logits=p["prior.b"]).to_event(1))
            h1 = numpyro.sample("h1", ndist.Bernoulli(logits=dense(p, "p1", h2.astype(float))).to_event(1))
            numpyro.sample("x", ndist.Bernoulli(logits=dense(p, "p0", h1.astype(float))).to_event(1), obs=x)

    def guide(x):
        p = param("q")
        with numpyro.plate("data", BATCH):
            h1 = numpyro.sample("h1", ndist.Bernoulli(logits=dense(p, "q1", x)).to_event(1))
            numpyro.sample("h2", ndist.Bernoulli(logits=dense(p, "q2", h1.astype(float))).to_event(1))

    loss = numpyro.infer.TraceGraph_ELBO(num_particles=num_particles)
    svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(1e-3), loss)
    state = [svi.init(jr.key(1), x)]
    update, keys = jax.jit(svi.update), keys_from(jr.key(3))

    @jax.jit
    def grad(key):
        return flat(jax.grad(lambda p: loss.loss(key, p, model, guide, x))(as_jax(params))) / BATCH

    def step():
        state[0], value = update(state[0], x)
        jax.block_until_ready(value)

    return Candidate(
        "NumPyro", f"TraceGraph_ELBO, {num_particles} particles", step, lambda: np.asarray(grad(next(keys)))
    )


def as_jax(params):
    return {k: jnp.asarray(v) for k, v in params.items()}


# ------------------------------------------------------------------------------------------ Pyro


def by_pyro(params, x, *, num_particles) -> Candidate:
    data = torch.tensor(np.asarray(x))
    own = f"{num_particles}."  # Pyro's parameters and baselines are global: names of one's own keep candidates apart
    baseline = {"baseline": {"use_decaying_avg_baseline": True}}

    def param(name):
        return {k: pyro.param(own + k, torch.tensor(np.asarray(v))) for k, v in params.items() if k.startswith(name)}

    def model(x):
        p = param("p")
        with pyro.plate("data", BATCH):
            h2 = pyro.sample(own + "h2", pdist.Bernoulli(logits=p["prior.b"]).to_event(1))
            h1 = pyro.sample(own + "h1", pdist.Bernoulli(logits=dense(p, "p1", h2)).to_event(1))
            pyro.sample("x", pdist.Bernoulli(logits=dense(p, "p0", h1)).to_event(1), obs=x)

    def guide(x):
        p = param("q")
        with pyro.plate("data", BATCH):
            h1 = pyro.sample(own + "h1", pdist.Bernoulli(logits=dense(p, "q1", x)).to_event(1), infer=baseline)
            pyro.sample(own + "h2", pdist.Bernoulli(logits=dense(p, "q2", h1)).to_event(1), infer=baseline)

    pyro.set_rng_seed(1)
    loss = pyro.infer.TraceGraph_ELBO(num_particles=num_particles, vectorize_particles=num_particles > 1)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss)

    def grad():
        """At the parameters to start with; the averages of the baselines settle as they go."""
        for k, v in params.items():
            with torch.no_grad():
                pyro.param(own + k, torch.tensor(np.asarray(v))).unconstrained().copy_(torch.tensor(np.asarray(v)))
            pyro.param(own + k).unconstrained().grad = None
        loss.loss_and_grads(model, guide, data)
        found = {k: pyro.param(own + k).unconstrained().grad.numpy().copy() for k in params}
        for k in params:
            pyro.param(own + k).unconstrained().grad = None
        return flat_numpy(found) / BATCH

    for _ in range(100):
        grad()
    about = f"TraceGraph_ELBO, decaying averages, {num_particles} particle{'s' * (num_particles > 1)}"
    return Candidate("Pyro", about, lambda: svi.step(data), grad)


def as_torch(params):
    return {k: torch.tensor(np.asarray(v)) for k, v in params.items()}


# ------------------------------------------------------------------------------------------ Storchastic


def by_storchastic(params, x, methods, about) -> Candidate:
    data = torch.tensor(np.asarray(x))
    owned = {k: v.requires_grad_() for k, v in as_torch(params).items()}
    optimizer = torch.optim.Adam(list(owned.values()), lr=1e-3)
    h1_method, h2_method = methods()
    torch.manual_seed(1)

    @storch.deterministic
    def log_density(logits, value):
        return Bernoulli(logits=logits).log_prob(value).sum(-1)

    def backward():
        optimizer.zero_grad()
        rows = storch.denote_independent(data, 0, "data")
        q1 = dense(owned, "q1", rows)
        h1 = h1_method(Bernoulli(logits=q1))
        q2 = dense(owned, "q2", h1)
        h2 = h2_method(Bernoulli(logits=q2))
        storch.add_cost(-log_density(dense(owned, "p0", h1), rows), "x")
        storch.add_cost(log_density(q1, h1) - log_density(dense(owned, "p1", h2), h1), "h1")
        storch.add_cost(log_density(q2, h2) - log_density(owned["prior.b"], h2), "h2")
        storch.backward()

    def step():
        backward()
        optimizer.step()

    def grad():
        with torch.no_grad():
            for k, v in owned.items():
                v.copy_(torch.tensor(np.asarray(params[k])))
        backward()
        return flat_numpy({k: v.grad.numpy() for k, v in owned.items()})

    return Candidate("Storchastic", about, step, grad)


def leave_one_out(num):
    return lambda: (
        storch.method.ScoreFunction("h1", n_samples=num, baseline_factory="batch_average"),
        storch.method.ScoreFunction("h2", n_samples=num, baseline_factory="batch_average"),
    )


# ------------------------------------------------------------------------------------------ the comparison


def trained(images) -> Params:
    """Parameters after some steps, so that the comparison is not one of the first step alone."""
    bound = elbo(start(jr.key(0)))
    prepare = lambda key, batch: binarise(Dynamic(), key, batch, 255)  # noqa: E731
    fit = elbax.fit(
        bound.model, bound.guide, images, key=jr.key(5), batch_size=BATCH, max_steps=TRAINED, prepare=prepare,
        estimators=elbax.DisARM(), stopping=elbax.Stopping(stationary=None),
    )  # fmt: skip
    return jax.device_get(fit.model.p | fit.guide.p)


def measure(candidate: Candidate) -> np.ndarray:
    """Gradient estimates, one row per draw."""
    return np.stack([candidate.grad() for _ in range(DRAWS)])


def total_variance(grads: np.ndarray) -> float:
    return float(grads.astype(np.float64).var(0, ddof=1).sum())


def distance(grads: np.ndarray, reference: np.ndarray, direction: np.ndarray) -> float:
    """How far two mean gradients are apart along a direction, in standard errors."""
    a, b = grads @ direction, reference @ direction
    return float((a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))


def compare(params: Params, x: jax.Array) -> tuple[str, dict]:
    """The table at some parameters."""
    candidates = [
        by_elbax(params, x, None, "by rule"),
        by_elbax(params, x, elbax.RLOO(16), "RLOO(16)"),
        by_elbax(params, x, elbax.DisARM(), "DisARM()"),
        by_elbax(params, x, elbax.DoubleCV(4), "DoubleCV(4)"),
        by_elbax(params, x, elbax.DoubleCV(8), "DoubleCV(8)"),
        by_elbax(params, x, elbax.DoubleCV(16), "DoubleCV(16)"),
        by_numpyro(params, x, num_particles=1),
        by_numpyro(params, x, num_particles=4),
        by_pyro(params, x, num_particles=1),
        by_pyro(params, x, num_particles=4),
        by_pyro(params, x, num_particles=16),
        by_storchastic(params, x, leave_one_out(2), "leave-one-out, 2 x 2 samples"),
        by_storchastic(params, x, leave_one_out(4), "leave-one-out, 4 x 4 samples"),
        by_storchastic(params, x, leave_one_out(6), "leave-one-out, 6 x 6 samples"),
    ]
    for _ in range(3):
        for c in candidates:
            c.step()
    for _ in range(ROUNDS):
        for c in candidates:
            begin = time.perf_counter()
            for _ in range(STEPS):
                c.step()
            c.seconds.append((time.perf_counter() - begin) / STEPS)
    reference = measure(candidates[0])
    direction = reference[: DRAWS // 2].mean(0)
    reference = reference[DRAWS // 2 :]
    rows, costs, variances = [], {}, {}
    for c in candidates:
        grads = measure(c)
        variances[c.name], ms = total_variance(grads), float(np.median(c.seconds)) * 1e3
        costs[c.name] = variances[c.name] * ms
        z = distance(grads, reference, direction)
        rows.append([c.library, c.about, f"{variances[c.name]:.4g}", f"{ms:.2f}", f"{costs[c.name]:.4g}", f"{z:+.1f}"])
    ours = min((c for c in candidates if c.library == "elbax"), key=lambda c: costs[c.name])
    theirs = min((c for c in candidates if c.library != "elbax"), key=lambda c: costs[c.name])
    text = table(["library", "estimator", "variance", "ms per step", "variance x ms", "z of the mean"], rows)
    text += (
        f"\n\nSmallest variance x time: {ours.name}. The best of the other libraries is {theirs.name}, with "
        f"{costs[theirs.name] / costs[ours.name]:.1f} times as much."
    )
    seconds = {c.name: c.seconds for c in candidates}
    return text, {"variance_times_ms": costs, "variance": variances, "seconds": seconds}


def main() -> None:
    """Compares at the start and after some training."""
    images = load("mnist").train
    x = binarise(Dynamic(), jr.key(9), jnp.asarray(images[:BATCH]), 255)
    text, data = "", {}
    for title, params in (
        ("At the start", jax.device_get(start(jr.key(0)))),
        (f"After {TRAINED:,} steps of training", trained(images)),
    ):
        found, data[title] = compare(params, x)
        text += f"## {title}\n\n{found}\n\n"
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "pyro-ppl", "storchastic"))
    text += (
        f"One binarised batch of {BATCH} images of MNIST. Variance: of the whole gradient of the ELBO per datum (all "
        f"parameters, of model and guide), {DRAWS} draws at fixed parameters. Time: gradient and a step of Adam, the "
        "median of interleaved rounds. z: distance of the mean gradient from that of the first line, along that "
        f"gradient, in standard errors: within 3, both estimate the same. {versions}."
    )
    write("sbn_libraries", "A sigmoid belief network 784-200-200 in four libraries", text, data)


if __name__ == "__main__":
    main()
