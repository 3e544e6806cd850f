"""Double control variates: leave-one-out for binary nodes, with the slopes of the costs as control variates."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Draw, Estimator, LogProb, Site
from elbax.estimators.bernoulli import (
    against_others,
    as_drawn,
    binary_logits,
    centred,
    log_prob_of,
    no_bernoulli,
    over_shared,
    slopes_of_draws,
    with_events,
    without,
)
from elbax.estimators.leave_one_out import at_least_two
from elbax.graph.distributions import Lifted

__all__ = ["DoubleCV", "DoubleCVState"]


class DoubleCVState(NamedTuple):
    """The coefficient of the control variates, and the state of its optimiser."""

    alpha: jax.Array
    opt_state: Any


class DoubleCV(Estimator):
    """Double control variates, for binary nodes and costs that have derivatives at the draws.

        1/K sum_k (f_k + c_k - mean_{j != k}(f_j + c_j)) (b_k - s) - alpha mean_k(f'_k) s (1 - s),
        c_k = alpha G_k . (b_k - s),    G_k = mean_{j != k} f'_j

    where `f_k` are the costs of the `k`-th draw and `f'_k` their derivatives with respect to it: leave-one-out, in
    which a linear model of the costs, made at the other draws, takes the place of what it explains. Unbiased whatever
    the slopes are. With `alpha = -1` linear costs have no variance left; `alpha = 0` is leave-one-out.

    The default choice where the costs are smooth functions of the draws, as those of a decoder are. The draws enter the
    program as floats. Cost: `num_samples` evaluations, each forward and backward through what is below the node.

    Attributes:
        num_samples: draws of the node, two or more.
        alpha: coefficient of the control variates. By default it is learned: it starts at -1 and follows the squared
            gradient down (Adam). The authors start at 0.
        learning_rate: of Adam.

    References:
        Titsias & Shi, Double Control Variates for Gradient Estimation in Discrete Latent Variable Models, AISTATS 2022,
        section 3.
    """

    num_samples: int = 4
    alpha: float | None = None
    learning_rate: float = 1e-3

    probes: ClassVar[bool] = True
    as_float: ClassVar[bool] = True

    def __check_init__(self) -> None:
        at_least_two("DoubleCV", "num_samples", self.num_samples)
        if not self.learning_rate > 0:
            raise ConfigError(f"DoubleCV(learning_rate={self.learning_rate!r}): must be positive.")

    def requires(self, site: Site) -> str | None:
        """Needs a Bernoulli."""
        return no_bernoulli(site)

    def num_evaluations(self, site: Site) -> int:
        """One per draw."""
        return self.num_samples

    def init(self, key: jax.Array, site: Site) -> DoubleCVState | None:
        """The coefficient to start with."""
        if self.alpha is not None:
            return None
        alpha = jnp.full((), -1.0)
        return DoubleCVState(alpha, self._adam.init(alpha))

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """The first of the draws; all of them, and the logits."""
        logits = binary_logits(dist)
        noise = jax.random.logistic(key, (self.num_samples, *logits.shape), logits.dtype)
        values = as_drawn(logits[None] + noise > 0)
        return Draw(values[0], log_prob_of(dist, values[0], log_prob), (values, logits))

    def work(self, context: Context) -> tuple[jax.Array, jax.Array]:
        """The estimate of leave-one-out, and the derivative of the estimate with respect to `alpha`."""
        values, logits = jax.lax.stop_gradient(context.aux)
        score, uncertain = centred(values, logits), jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
        plain, controls = jnp.zeros_like(logits), jnp.zeros_like(logits)
        for credit, slope in slopes_of_draws(context, values):
            c = over_shared(without(slope) * score, credit, context.site)
            plain = plain + against_others(with_events(credit, context.site), score)
            controls = controls + against_others(c, score) - slope.mean(0) * uncertain
        return plain, controls

    def term(self, context: Context) -> jax.Array:
        """The estimate times the logits."""
        plain, controls = context.work
        return jnp.sum(jax.lax.stop_gradient(plain + self._alpha(context) * controls) * context.aux[1])

    def update(self, context: Context) -> DoubleCVState:
        """One step of Adam on the squared estimate."""
        state: DoubleCVState = context.state
        plain, controls = context.work
        slope = 2 * jnp.sum((plain + self._alpha(context) * controls) * controls)
        updates, opt_state = self._adam.update(slope.astype(state.alpha.dtype), state.opt_state)
        return DoubleCVState(optax.apply_updates(state.alpha, updates), opt_state)  # type: ignore[arg-type]

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _alpha(self, context: Context) -> Any:
        return context.state.alpha if self.alpha is None else self.alpha
