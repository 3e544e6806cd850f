"""Leave-one-out: the other samples are the baseline."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.score import Baseline
from elbax.graph.distributions import Lifted

__all__ = ["RLOO", "Replicas"]


class RLOO(Estimator):
    """Score function with several draws of the node, each of which has the others as its baseline.

    `1/(K-1) sum_k (Q_k - mean(Q)) log p(z_k)`, where `Q_k` are the costs below the node had it been drawn as `z_k`. The
    first draw is the one that the rest of the program sees. Valid wherever the score function is, but not in loops.
    Cost: `num_samples - 1` probes.

    Attributes:
        num_samples: draws of the node, two or more.

    References:
        Kool, van Hoof & Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019. Salimans & Knowles, 2014.
    """

    num_samples: int = 2

    by_density: ClassVar[bool] = True
    probes: ClassVar[bool] = True

    def __check_init__(self) -> None:
        at_least_two("RLOO", "num_samples", self.num_samples)

    def num_evaluations(self, site: Site) -> int:
        """One per draw."""
        return self.num_samples

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the draws, with the others and all log-densities."""
        keys = jax.random.split(key, self.num_samples)
        values = jax.lax.stop_gradient(jnp.stack([dist.sample(k) for k in keys]))
        scores = jnp.stack([dist.density(v) for v in values])
        stated = None if log_prob is LogProb.UNUSED else dist.log_prob(values[0])
        if log_prob is LogProb.LINEAR:
            stated = jax.lax.stop_gradient(stated)
        return Draw(values[0], stated, (values[1:], scores))

    def term(self, context: Context) -> jax.Array:
        """`1/(K-1) sum_k log p(z_k) stop_gradient(Q_k - mean(Q))`."""
        assert context.probe is not None
        assert context.credit is not None
        others, scores = context.aux
        q = jnp.concatenate([context.credit[None], jax.vmap(context.probe)(others)])
        q = jax.lax.stop_gradient(q - q.mean(0))
        return jnp.sum(scores * q) / (self.num_samples - 1)


class Replicas(Baseline):
    """The mean credit of the other runs of the whole program, for `Score(baseline=Replicas(K))`.

    The program is run `num` times with independent randomness and everything is averaged; each run has the mean of the
    others as its baseline, for every element and for every step of a loop (reward-to-go against reward-to-go). Works
    in loops, where `RLOO` cannot. Cost: `num` runs, forward and backward, all of which count.

    Attributes:
        num: runs of the program, two or more.

    References:
        Salimans & Knowles, On Using Control Variates with Stochastic Approximation for Variational Bayes, 2014.
        Mnih & Rezende, Variational Inference for Monte Carlo Objectives, ICML 2016 (leave-one-out).
    """

    num: int = 2

    def __check_init__(self) -> None:
        at_least_two("Replicas", "num", self.num)

    @property
    def num_replicas(self) -> int:
        """As many as asked for."""
        return self.num

    def value(self, context: Context) -> jax.Array:
        """The mean credit of the other runs."""
        assert context.others is not None
        return context.others


def at_least_two(owner: str, name: str, value: Any) -> None:
    """Checks the number of samples that leave-one-out needs."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:
        raise ConfigError(f"{owner}({name}={value!r}): leaving one out needs two or more.")
