"""How good a fitted pair is on data: the ELBO and the tighter bound of many particles, each with its error.

    ELBO  <=  IWAE-K  <=  log p(x)      (in expectation)

Both come from the same draws, so the distance between them is known much better than either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.bounds.elbo import ELBO
from elbax.bounds.weights import log_weight_function
from elbax.diagnose.estimate import Estimate, bits_per_dim, mean_of
from elbax.errors import ConfigError
from elbax.fit.checks import check_finite, check_observed
from elbax.fit.feed import check_rows
from elbax.fit.training import as_arguments

__all__ = ["Evaluation", "evaluate"]

# Rows times particles held at once.
AT_ONCE = 4096


@dataclass(frozen=True)
class Evaluation:
    """Bounds on log p(x) over a data set.

    Attributes:
        elbo: mean ELBO, nats per datum.
        iwae: mean bound of `num_particles` particles, nats per datum.
        gap: mean of their difference over data, nats per datum: what the ELBO is at least short of.
        num_particles: `K`.
        num_data: data evaluated.
        num_dims: numbers per datum, for bits per dimension; `None` if data are not arrays of one row per datum.
        elbo_per_datum, iwae_per_datum: the bounds of each datum, nats. Shape `[num_data]`.
        ess_per_datum: effective number of particles of each datum. Shape `[num_data]`.
    """

    elbo: Estimate
    iwae: Estimate
    gap: Estimate
    num_particles: int
    num_data: int
    num_dims: int | None
    elbo_per_datum: np.ndarray
    iwae_per_datum: np.ndarray
    ess_per_datum: np.ndarray

    @property
    def elbo_bits(self) -> Estimate | None:
        """The ELBO in bits per dimension (lower is better)."""
        return None if self.num_dims is None else bits_per_dim(self.elbo, self.num_dims)

    @property
    def iwae_bits(self) -> Estimate | None:
        """The many-particle bound in bits per dimension (lower is better)."""
        return None if self.num_dims is None else bits_per_dim(self.iwae, self.num_dims)

    def as_dict(self) -> dict[str, Any]:
        """Figures only, for JSON."""
        figures = {"elbo": self.elbo, "iwae": self.iwae, "gap": self.gap}
        figures |= {"elbo_bits": self.elbo_bits, "iwae_bits": self.iwae_bits}
        said = {name: figure.as_dict() for name, figure in figures.items() if figure is not None}
        ess = {"median": float(np.median(self.ess_per_datum)), "min": float(np.min(self.ess_per_datum))}
        return said | {"num_particles": self.num_particles, "num_data": self.num_data, "effective_particles": ess}

    def __str__(self) -> str:
        lines = [
            f"ELBO     {self.elbo}",
            f"IWAE     {self.iwae} ({self.num_particles} particles, effectively {np.median(self.ess_per_datum):.0f})",
            f"distance {self.gap}",
        ]
        if self.iwae_bits is not None:
            lines.append(f"IWAE     {self.iwae_bits}")
        return "\n".join(lines)


def evaluate(
    model: Callable,
    guide: Callable,
    data: Any,
    *,
    key: jax.Array,
    num_particles: int = 100,
    batch_size: int = 100,
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Bounds on log p(x) of each datum, and their means.

    Args:
        model: program with observed sites.
        guide: program with the model's latent sites.
        data: an array or tuple of arrays with one row per datum, as the programs take them.
        key: random key.
        num_particles: draws per datum; the ELBO averages over them, the importance bound takes them into the logarithm.
        batch_size: data evaluated together.
        on_batch: called with the number of data done and the number of all.

    Raises:
        ProgramError: if costs do not belong to single data.
        DataError: for empty, uneven or non-finite data.
    """
    if num_particles < 1:
        raise ConfigError(f"num_particles must be at least 1; got {num_particles}.")
    check_finite(data, "data")
    num_data = check_rows(data)
    check_observed(model, data, "data")
    size = min(batch_size, num_data)
    batch = as_arguments(jax.tree.map(lambda x: jnp.asarray(x[:size]), data))
    bound = ELBO(model, guide, analytic_kl=False)
    run = _compiled(log_weight_function(model, guide, batch), size, num_particles)
    parts = []
    for start in range(0, num_data, size):
        # The last batch is filled up with rows that are dropped afterwards, so that one compilation serves all.
        rows = np.minimum(np.arange(start, start + size), num_data - 1)
        chunk = as_arguments(jax.tree.map(lambda x: jnp.asarray(x[rows]), data))  # noqa: B023
        result = jax.device_get(run(jax.random.fold_in(key, start), eqx.filter(bound, eqx.is_array), bound, chunk))
        parts.append([x[: num_data - start] for x in result])
        if on_batch is not None:
            on_batch(min(start + size, num_data), num_data)
    elbo, iwae, ess = (np.concatenate(column) for column in zip(*parts, strict=True))
    leaves = jax.tree.leaves(data)
    num_dims = int(np.prod(leaves[0].shape[1:])) if len(leaves) == 1 else None
    return Evaluation(
        mean_of(elbo), mean_of(iwae), mean_of(iwae - elbo), num_particles, num_data, num_dims, elbo, iwae, ess
    )


def _compiled(log_weights: Callable, size: int, num_particles: int) -> Callable:
    """`(key, arrays, bound, batch) -> (elbo, iwae, ess)` of each datum, adding up chunks of particles."""
    at_once = max(1, min(num_particles, AT_ONCE // size))
    num_chunks, rest = divmod(num_particles, at_once)

    @eqx.filter_jit
    def run(key: jax.Array, arrays: Any, bound: Any, batch: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
        bound = eqx.combine(arrays, bound)

        def chunk(state: tuple, chunk_key: jax.Array, n: int) -> tuple:
            log_w = jax.vmap(lambda k: log_weights(k, bound, batch))(jax.random.split(chunk_key, n))
            total, log_sum, log_squares = state
            log_sum = jnp.logaddexp(log_sum, jax.nn.logsumexp(log_w, axis=0))
            log_squares = jnp.logaddexp(log_squares, jax.nn.logsumexp(2 * log_w, axis=0))
            return total + log_w.sum(0), log_sum, log_squares

        start = (jnp.zeros(size), jnp.full(size, -jnp.inf), jnp.full(size, -jnp.inf))
        keys = jax.random.split(key, num_chunks + 1)
        state, _ = jax.lax.scan(lambda s, k: (chunk(s, k, at_once), None), start, keys[:-1])
        if rest:
            state = chunk(state, keys[-1], rest)
        total, log_sum, log_squares = state
        return total / num_particles, log_sum - jnp.log(num_particles), jnp.exp(2 * log_sum - log_squares)

    return run
