"""The score-function estimator (REINFORCE, likelihood ratio) with baselines."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.couplings import Coupling, are_uniforms, coupled_sample
from elbax.graph.distributions import Lifted

__all__ = ["Baseline", "NoBaseline", "Score", "Stated"]


class Baseline(eqx.Module):
    """Base of all baselines: what is subtracted from a node's credit to lower the variance of its score."""

    @property
    def num_replicas(self) -> int:
        """How often the whole program is run for one estimate."""
        return 1

    @property
    def unbiased(self) -> bool:
        """Whether the gradient estimate stays one of the gradient."""
        return True

    def observe(self, dist: Lifted) -> Any:
        """What the baseline wants to know of the node's distribution; `value` and `update` find it as `aux`."""
        return None

    def init(self, key: jax.Array, site: Site) -> Any:
        """The state before the first step, or `None`."""
        return None

    def value(self, context: Context) -> jax.Array:
        """The baseline, broadcastable to the node's shape; it may not depend on the node's own draw."""
        raise NotImplementedError

    def scale(self, context: Context) -> jax.Array | None:
        """What the learning signal is divided by, if by anything."""
        return None

    def update(self, context: Context) -> Any:
        """The state after a step, which may depend on the step's credit."""
        return context.state


class NoBaseline(Baseline):
    """Subtracts nothing."""

    def value(self, context: Context) -> jax.Array:
        """Zero."""
        return jnp.zeros(())


class Stated(Baseline):
    """The value that the program states with `elbax.baseline(name, value)`; nothing where it states none."""

    def value(self, context: Context) -> jax.Array:
        """The stated value, with axes of size one in front if it has fewer axes than the node."""
        return jnp.zeros(()) if context.baseline is None else context.baseline


class Score(Estimator):
    """Score function: `grad E f(z) = E (f(z) - b) grad log p(z)`.

    The surrogate term is `sum_j log p(w_j | DEPS) * stop_gradient(Q_j - b_j)`, where `Q_j` holds only the costs that
    element `j` influences: its own datum's under `vmap`, the present and later ones in a loop. Valid for every cost,
    however discontinuous, and for every distribution whose support does not move with its parameters (checked when it
    is differentiated); one evaluation; high variance unless few elements share a cost or the baseline is good.

    Attributes:
        baseline: what is subtracted from the credit.
        draws: how the draws of several runs of the whole program are coupled; one run by default.

    References:
        Glynn, Likelihood ratio gradient estimation, 1990. Williams, REINFORCE, 1992. Schulman et al., Gradient
        Estimation Using Stochastic Computation Graphs, NeurIPS 2015, theorem 1 and equation 6.
    """

    baseline: Baseline = Stated()
    draws: Coupling | None = None

    by_density: ClassVar[bool] = True
    needs_credit: ClassVar[bool] = True

    def __check_init__(self) -> None:
        if self.draws is not None and self.baseline.num_replicas > 1:
            raise ConfigError(
                f"Score(baseline={type(self.baseline).__name__}(..), draws={type(self.draws).__name__}(..)): the mean "
                "of the other runs is a baseline only if they are drawn independently; coupled runs depend on this "
                "run's draw, and the gradient would be biased. Use one of the two."
            )

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Unless the baseline rescales the gradient."""
        return self.baseline.unbiased

    @property
    def num_replicas(self) -> int:
        """Those that the baseline or the coupling asks for."""
        return self.baseline.num_replicas if self.draws is None else self.draws.num

    def requires(self, site: Site) -> str | None:
        """Nothing, unless draws are coupled."""
        return None if self.draws is None else self.draws.requires(site)

    def coupled(self, key: jax.Array, num_replicas: int, site: Site) -> Any:
        """The uniform numbers of a coupling."""
        return None if self.draws is None else self.draws.uniforms(key, site)

    def init(self, key: jax.Array, site: Site) -> Any:
        """The state of the baseline."""
        return self.baseline.init(key, site)

    def update(self, context: Context) -> Any:
        """The state of the baseline after a step."""
        return self.baseline.update(context._replace(aux=self._split(context)[1]))

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A draw without derivative, and its log-density with one."""
        value = jax.lax.stop_gradient(coupled_sample(dist, key) if are_uniforms(self.draws, key) else dist.sample(key))
        stated = dist.log_prob(value)
        score = dist.density(value) if dist.is_masked else stated
        # As a summand of a cost, the log-density of a fresh draw has a gradient of expectation zero: leave it out.
        seen = self.baseline.observe(dist)
        aux = score if seen is None else (score, seen)
        return Draw(value, stated if log_prob is LogProb.FULL else jax.lax.stop_gradient(stated), aux)

    def term(self, context: Context) -> jax.Array:
        """`sum log p(w) * stop_gradient(Q - b)`."""
        assert context.credit is not None
        score, seen = self._split(context)
        known = context._replace(aux=seen)
        weight = context.credit - context.share * self.baseline.value(known)
        scale = self.baseline.scale(known)
        return jnp.sum(score * jax.lax.stop_gradient(weight if scale is None else weight / scale))

    def _split(self, context: Context) -> tuple[jax.Array, Any]:
        """The log-density of the draw, and what the baseline has seen."""
        return context.aux if isinstance(context.aux, tuple) else (context.aux, None)
