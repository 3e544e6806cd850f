"""Time to trace and analyse a program: linear in the number of sites, independent of the length of a scan."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import elbax
from benchmarks.harness import table, write

SITES, LENGTHS = (1, 5, 10, 25, 50, 100, 200), (10, 100, 1000, 10_000)


def layers(n, *, discrete):
    """A chain of `n` sites, each a small layer on the one before; `discrete` makes all of them score nodes."""

    def program(theta):
        h = jnp.ones(8)
        for i in range(n):
            if discrete:
                h = elbax.sample(f"z{i}", dist.Bernoulli(logits=theta @ h)).astype(jnp.float32)
            else:
                h = elbax.sample(f"z{i}", dist.Normal(jnp.tanh(theta @ h), 1.0))
            elbax.cost(f"c{i}", (h**2).sum())

    return program


def loop(length):
    def program(theta):
        def body(h, _):
            h = elbax.sample("z", dist.Bernoulli(logits=theta @ h)).astype(jnp.float32)
            return h, (h**2).sum()

        return jax.lax.scan(body, jnp.ones(8), None, length=length)[1].sum()

    return program


def seconds(make, n, *, repeats=3, estimators=None, **options):
    """Best of a few: trace, analyse, and build the jaxpr of value and gradient."""
    theta = jnp.eye(8)
    times = []
    for _ in range(repeats):
        program = make(n, **options)
        start = time.perf_counter()
        jax.make_jaxpr(elbax.value_and_grad(program, estimators))(jr.key(0), theta)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    seconds(layers, 2, discrete=True)
    rows, data = [], {}
    for n in SITES:
        score = seconds(layers, n, discrete=True, estimators=elbax.Score())
        pathwise, rule = seconds(layers, n, discrete=False), seconds(layers, n, discrete=True)
        cells = (f"{score:.3f}", f"{score / n * 1e3:.1f}", f"{pathwise:.3f}", f"{pathwise / n * 1e3:.1f}")
        rows.append([n, *cells, f"{rule:.3f}"])
        data[n] = [score, pathwise, rule]
    text = table(
        ["sites", "score chain [s]", "per site [ms]", "pathwise chain [s]", "per site [ms]", "by rule [s]"], rows
    )
    lengths = {n: seconds(loop, n) for n in LENGTHS}
    text += "\n\n" + table(["length of a scan", "seconds"], [[n, f"{t:.3f}"] for n, t in lengths.items()])
    slope = np.polyfit(np.log(SITES[2:]), np.log([data[n][0] for n in SITES[2:]]), 1)[0]
    text += f"\n\nGrowth with the number of sites from 10 on: seconds ~ sites^{slope:.2f} (score chain). "
    text += "By rule, up to 16 discrete nodes probe, which traces what is below each of them again; with more they are "
    text += "plain score-function nodes."
    write("trace_time", "Time to trace, analyse and differentiate a program", text, {"sites": data, "lengths": lengths})


if __name__ == "__main__":
    main()
