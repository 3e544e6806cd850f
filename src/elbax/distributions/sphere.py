"""Distributions on the unit sphere in `m` dimensions: the uniform one, and what those around a mean direction share.

A draw around the direction `mu` is

    z = w mu + sqrt(1 - w^2) t,      w = tanh(s / 2),

where `t` is uniform among the directions orthogonal to `mu`. Numbers are kept as the *logit* `s = log((1+w) / (1-w))`:
near `w = 1`, where concentrated draws are, `1 - w` then stays exact, and derivatives have no pole at either end.

Densities are relative to the area of the sphere. Those of this module are functions of `1 - mu.z = |z - mu|^2 / 2`,
again because it stays exact.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence

from elbax.errors import ConfigError

__all__ = ["AroundDirection", "HypersphericalUniform", "log_area", "uniform_direction"]


class HypersphericalUniform(dist.Distribution):
    """The uniform distribution on the unit sphere in `dim` dimensions, that of vectors of length one.

    Args:
        dim: length of the vectors, at least 2. (Some libraries state the dimension of the surface, `dim - 1`.)
    """

    support = constraints.sphere  # type: ignore[assignment]

    def __init__(self, dim: int, *, validate_args: bool | None = None) -> None:
        if not isinstance(dim, int) or dim < 2:
            raise ConfigError(f"HypersphericalUniform needs vectors of at least two numbers; got dim={dim!r}.")
        super().__init__(batch_shape=(), event_shape=(dim,), validate_args=validate_args)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Vectors of length one. Shape `sample_shape + [dim]`."""
        assert key is not None
        x = jax.random.normal(key, sample_shape + self.event_shape)
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Minus the logarithm of the area of the sphere, in nats."""
        # In form a function of the value, by which graphs see to which datum the density of a draw belongs.
        return 0.0 * jnp.asarray(value)[..., 0] - log_area(self.event_shape[0])

    @property
    def mean(self) -> jax.Array:
        """Zero."""
        return jnp.zeros(self.event_shape)

    @property
    def variance(self) -> jax.Array:
        """`1 / dim`."""
        return jnp.full(self.event_shape, 1 / self.event_shape[0])

    def entropy(self) -> jax.Array:
        """Entropy in nats."""
        return jnp.asarray(log_area(self.event_shape[0]))


class AroundDirection(dist.Distribution):
    """Base of distributions that have a mean direction and are the same on all sides of it."""

    arg_constraints = {  # noqa: RUF012
        "mean_direction": constraints.sphere,
        "concentration": constraints.positive,
    }
    reparametrized_params = ["mean_direction", "concentration"]  # noqa: RUF012
    support = constraints.sphere  # type: ignore[assignment]

    def __init__(self, mean_direction: Any, concentration: Any, *, validate_args: bool | None = None) -> None:
        mu, kappa = jnp.asarray(mean_direction), jnp.asarray(concentration)
        if mu.ndim == 0 or mu.shape[-1] < 2:
            raise ConfigError(
                f"{type(self).__name__} needs mean directions of at least two numbers, on the last axis; got shape "
                f"{mu.shape}."
            )
        try:
            shape = jnp.broadcast_shapes(mu.shape[:-1], kappa.shape)
        except ValueError:
            raise ConfigError(
                f"{type(self).__name__}: mean directions of shape {mu.shape}, of which the last axis is the vector, do "
                f"not fit concentrations of shape {kappa.shape}."
            ) from None
        dtype = jnp.result_type(mu, kappa, 1.0)
        mu = mu.astype(dtype)
        mu = mu / jnp.linalg.norm(mu, axis=-1, keepdims=True)
        self.mean_direction = jnp.broadcast_to(mu, (*shape, mu.shape[-1]))
        self.concentration = jnp.broadcast_to(kappa.astype(dtype), shape)
        super().__init__(batch_shape=shape, event_shape=mu.shape[-1:], validate_args=validate_args)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Vectors of length one, differentiable in both parameters. Shape `sample_shape + batch_shape + [m]`."""
        assert key is not None
        logit, tangent = self._draw(key, sample_shape + self.batch_shape)
        return _point(self.mean_direction, logit, tangent)

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log-density in nats, relative to the area of the sphere."""
        away = jnp.asarray(value) - self.mean_direction
        return self._log_ratio(jnp.sum(away * away, axis=-1) / 2, value) - log_area(self.event_shape[0])

    @property
    def mean(self) -> jax.Array:
        """Mean of the vectors; shorter than one."""
        shortfall, _, _ = self._moments()
        return (1 - shortfall)[..., None] * self.mean_direction

    @property
    def variance(self) -> jax.Array:
        """Variances, number by number."""
        _, along, across = self._moments()
        square = self.mean_direction**2
        return along[..., None] * square + across[..., None] * (1 - square)

    def entropy(self) -> jax.Array:
        """Entropy in nats, relative to the area of the sphere."""
        return log_area(self.event_shape[0]) - self._kl_to_uniform()

    def _draw(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Logits of the cosine with the mean direction `[*shape]`, and uniform directions `[*shape, m - 1]`."""
        raise NotImplementedError

    def _log_ratio(self, gap: jax.Array, value: Any) -> jax.Array:
        """Logarithm of the density's ratio to the uniform one; `gap` is 1 minus the cosine."""
        raise NotImplementedError

    def _moments(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """1 minus the mean cosine, variance of the cosine, and variance along a direction orthogonal to the mean."""
        raise NotImplementedError

    def _kl_to_uniform(self) -> jax.Array:
        """Kullback-Leibler divergence to the uniform distribution, in nats."""
        raise NotImplementedError


def log_area(m: int) -> float:
    """Logarithm of the area of the unit sphere in `m` dimensions, `2 pi^(m/2) / Gamma(m/2)`."""
    return math.log(2) + m / 2 * math.log(math.pi) - math.lgamma(m / 2)


def uniform_direction(key: jax.Array, shape: tuple[int, ...], m: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """A uniform point: the logit of its first number, and the direction of the others, of shape `[*shape, m - 1]`."""
    x = jax.random.normal(key, (*shape, m), dtype)
    radius = jnp.linalg.norm(x[..., 1:], axis=-1)
    return 2 * jnp.arcsinh(x[..., 0] / radius), x[..., 1:] / radius[..., None]


def _point(mu: jax.Array, logit: jax.Array, tangent: jax.Array) -> jax.Array:
    """`tanh(logit / 2) mu + sech(logit / 2) t`, with `t` the tangent turned orthogonal to `mu`.

    The tangent comes orthogonal to the first axis. A Householder reflection takes that axis to `mu` or, if that is the
    farther one, to `-mu`, so that nothing is divided by a small number. A reflection is no smooth function of `mu`
    everywhere, and is held fixed; then follows, at first the identity, the rotation that moves with `mu`.
    """
    fixed = jax.lax.stop_gradient(mu)
    sign = jnp.where(fixed[..., :1] < 0, -1.0, 1.0).astype(mu.dtype)
    first = -sign * jnp.tanh(logit / 2)[..., None]
    x = jnp.concatenate([first, tangent / jnp.cosh(logit / 2)[..., None]], axis=-1)
    normal = jnp.broadcast_to(fixed, x.shape).at[..., :1].add(sign)
    x = x - normal * jnp.sum(normal * x, axis=-1, keepdims=True) / (1 + jnp.abs(fixed[..., :1]))
    return _rotate(x, fixed, mu)


def _rotate(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """`x` turned by the rotation that takes the unit vector `a` to `b` and moves nothing orthogonal to both.

    Its derivative where `b = a` is `dx = (a.x) db - (db.x) a`, never longer than `db`.
    """
    along, both = jnp.sum(a * x, axis=-1, keepdims=True), a + b
    return (
        x - both * jnp.sum(both * x, axis=-1, keepdims=True) / (1 + jnp.sum(a * b, -1, keepdims=True)) + 2 * along * b
    )


def _kl_to_uniform(p: AroundDirection, q: HypersphericalUniform) -> jax.Array:
    return p._kl_to_uniform()


def _kl_of_uniforms(p: HypersphericalUniform, q: HypersphericalUniform) -> jax.Array:
    return jnp.zeros(())


kl_divergence.add((AroundDirection, HypersphericalUniform), _kl_to_uniform)  # type: ignore[attr-defined]
kl_divergence.add((HypersphericalUniform, HypersphericalUniform), _kl_of_uniforms)  # type: ignore[attr-defined]
