"""The laboratory's tables for five typical graphs, as the guide to estimators shows them."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist

import elbax
from benchmarks.harness import table, write

KEY = jr.key(0)
SHOWN = 6  # unbiased candidates per node in the tables; the file beside them has all


def gates(theta):
    """A plate of binary gates, each with costs of its own."""
    x = jnp.linspace(-1.0, 2.0, 50)
    b = elbax.sample("gate", dist.Bernoulli(logits=theta[0] * x + theta[1]))
    return ((theta[2] * b - 0.45 * x) ** 2).sum()


def chain(theta):
    """A binary chain in a loop, with a cost at each step."""

    def body(c, x):
        b = elbax.sample("s", dist.Bernoulli(logits=theta[0] * c + theta[1] + x))
        return 1.0 * b, (b - 0.3 * x) ** 2

    return jax.lax.scan(body, 1.0, jnp.linspace(-1.0, 1.0, 20))[1].sum()


def mixture(theta):
    """Clusters of data: a categorical node per datum above a Normal."""
    x = jnp.linspace(-2.0, 2.0, 30)
    k = elbax.sample("k", dist.Categorical(logits=theta * x[:, None]))
    z = elbax.sample("z", dist.Normal(theta[k], 0.7))
    return (z - x) ** 2


class Decoder(eqx.Module):
    """32 binary latents, 64 pixels."""

    layer: eqx.nn.Linear

    def __call__(self, x):
        b = elbax.sample("b", dist.Bernoulli(probs=0.5).expand([len(x), 32]).to_event(1))
        elbax.observe("x", dist.Bernoulli(logits=jax.vmap(self.layer)(jnp.asarray(b, float))).to_event(1), x)


class Encoder(eqx.Module):
    """Logits of the latents of each datum."""

    layer: eqx.nn.Linear

    def __call__(self, x):
        elbax.sample("b", dist.Bernoulli(logits=jax.vmap(self.layer)(x)).to_event(1))


def counts(theta):
    """Poisson counts under a smooth cost."""
    n = elbax.sample("n", dist.Poisson(jnp.exp(theta[:2])))
    return ((1.0 * n - 2.0) ** 2).sum() + theta[2] * n.prod()


def summary(found) -> str:
    """The best candidates of each node, and the best of the biased ones."""
    parts = [f"Reference: {found.reference.about}. Sum of variances and milliseconds of one gradient."]
    for site in found.sites:
        ranked, tied = found.of(site), found.tied(site)
        usable = [r for r in ranked if r.unbiased and not r.bias_seen]
        biased = [r for r in ranked if not r.unbiased]
        rows = []
        for r in usable[:SHOWN] + biased[:1]:
            total = r.groups["all"]
            verdict = "tied for best" if r in tied and len(tied) > 1 else "best" if r in tied else ""
            if not r.unbiased:
                verdict = f"biased (z = {r.z:.0f})" if r.bias_seen else "biased, not seen"
            bias = f"{100 * total.bias:+.1f} ± {196 * total.bias_error:.1f} %"
            variance = f"{total.variance:.3g} ± {1.96 * total.variance_error:.1g}"
            time = f"{1e3 * r.seconds:.3f}"
            rows.append([f"`{r.label}`", bias, variance, time, f"{1e3 * r.work:.3g}", verdict])
        parts.append(table([f"at `{site}`", "bias", "variance", "ms", "variance x ms", ""], rows))
    return "\n\n".join(parts)


def main() -> None:
    """Measures and writes the tables."""
    theta = jnp.array([0.7, -0.4, 0.3])
    x = jr.bernoulli(jr.key(1), 0.3, (20, 64)).astype(float)
    vae = elbax.ELBO(Decoder(eqx.nn.Linear(32, 64, key=jr.key(2))), Encoder(eqx.nn.Linear(64, 32, key=jr.key(3))))
    graphs = {
        "A plate: fifty binary gates with costs of their own": (gates, (theta,)),
        "A loop: a binary chain of twenty steps": (chain, (theta,)),
        "Clusters: a categorical node above a Normal, per datum": (mixture, (theta,)),
        "A discrete autoencoder: 32 binary latents per datum": (vae, (x,)),
        "Counts under a smooth cost": (counts, (theta,)),
    }
    lines, figures = [], {}
    for title, (program, args) in graphs.items():
        print(title, flush=True)
        found = elbax.compare_estimators(program, args, key=KEY, num_draws=2000)
        lines += [f"### {title}", "", summary(found), ""]
        figures[title] = found.as_dict()
    write("estimator_guide", "Gradient estimators on five typical graphs", "\n".join(lines), figures)


if __name__ == "__main__":
    main()
