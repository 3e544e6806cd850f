"""Gumbel noise on logits: its argmax is a draw, and a softmax in place of the argmax is differentiable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from elbax.errors import ConfigError
from elbax.estimators.base import Context, Estimator, Site
from elbax.estimators.relaxed import Relaxed, along, check_positive, one_hot_draw
from elbax.graph.distributions import Lifted

__all__ = ["GumbelRao", "GumbelSoftmax"]

Schedule = Callable[[Any], Any]  # of a step


class Tempered(Relaxed):
    """Base of relaxations whose temperature may follow a schedule; the state is the number of steps taken."""

    temperature: eqx.AbstractVar[float | Schedule]

    def init(self, key: jax.Array, site: Site) -> Any:
        """No step taken yet; `None` if the temperature does not depend on it."""
        return jnp.zeros((), int) if callable(self.temperature) else None

    def with_state(self, state: Any) -> Estimator:
        """The estimator at its present temperature."""
        return dataclasses.replace(self, temperature=at_step(self.temperature, state))

    def update(self, context: Context) -> Any:
        """One step more."""
        return None if context.state is None else context.state + 1

    def present(self, dtype: Any) -> jax.Array:
        """The temperature; that of the first step where no state is kept."""
        return jnp.asarray(at_step(self.temperature, 0), dtype)


class GumbelSoftmax(Tempered):
    """Gumbel-softmax, or concrete, relaxation: `softmax((logits + Gumbel noise) / temperature)`.

    The program computes with vectors between the corners of the simplex (with numbers between 0 and 1 for a Bernoulli)
    and is differentiated through them. The value of the loss is then that of the relaxed program: a bound made of it
    is none, and its log-densities are those of the discrete distributions, interpolated linearly. With `hard`, values
    are draws, and only the derivative is relaxed (straight-through Gumbel-softmax). Biased either way; less so at low
    temperatures, where the variance is high. One forward and backward pass. Costs must be differentiable functions of
    the value.

    Attributes:
        temperature: above 0; a number, or a schedule `step -> temperature`, as optax has them. Steps are counted in the
            estimator's state.
        hard: whether values are discrete.

    References:
        Jang, Gu & Poole, Categorical Reparameterization with Gumbel-Softmax, ICLR 2017. Maddison, Mnih & Teh, The
        Concrete Distribution, ICLR 2017.
    """

    temperature: float | Schedule = 0.5
    hard: bool = False

    def __check_init__(self) -> None:
        check_temperature("GumbelSoftmax", self.temperature)

    @property
    def discrete(self) -> bool:
        """Whether values are corners of the simplex."""
        return self.hard

    def relax(self, key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
        """The softmax; with `hard`, the argmax with the derivative of the softmax."""
        temperature = self.present(logits.dtype)
        noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
        soft = jax.nn.softmax(noisy / temperature, axis=-1)
        if not self.hard:
            return soft
        drawn = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), logits.shape[-1], dtype=logits.dtype)
        return drawn + along(soft, logits) / temperature


class GumbelRao(Tempered):
    """Gumbel-Rao: straight-through Gumbel-softmax with the noise averaged out, as far as the draw leaves it open.

    `dD = 1/K sum_k J(softmax((logits + G_k) / temperature)) d logits / temperature`, where the `G_k` are Gumbel noise
    given that its argmax is the draw `D`. Same expectation and bias as `GumbelSoftmax(temperature, hard=True)`, less
    variance; good at the low temperatures that make the bias small. One forward and backward pass of the program;
    only the node itself is computed `num_samples` times.

    Attributes:
        temperature: above 0; a number, or a schedule `step -> temperature`.
        num_samples: noises to average over.

    References:
        Paulus, Maddison & Krause, Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator, ICLR 2021.
    """

    temperature: float | Schedule = 0.5
    num_samples: int = 10

    def __check_init__(self) -> None:
        check_temperature("GumbelRao", self.temperature)
        if not isinstance(self.num_samples, int) or isinstance(self.num_samples, bool) or self.num_samples < 1:
            raise ConfigError(f"GumbelRao(num_samples={self.num_samples!r}): must be a whole number of at least 1.")

    def relax(self, key: jax.Array, dist: Lifted, logits: jax.Array) -> jax.Array:
        """A draw with the averaged derivative."""
        draw_key, noise_key = jax.random.split(key)
        drawn = one_hot_draw(draw_key, dist, logits)
        temperature = self.present(logits.dtype)
        log_p = jax.lax.stop_gradient(jax.nn.log_softmax(logits, axis=-1))

        def once(key: jax.Array) -> jax.Array:
            noisy = conditional_gumbels(key, log_p, drawn)
            return along(jax.nn.softmax(noisy / temperature, axis=-1), logits)

        each = jax.vmap(once)(jax.random.split(noise_key, self.num_samples))
        return drawn + jnp.mean(each, axis=0) / temperature


def conditional_gumbels(key: jax.Array, log_p: jax.Array, drawn: jax.Array) -> jax.Array:
    """`log_p` plus Gumbel noise, given that the largest entry is where `drawn` is 1."""
    return given_largest(-jax.random.gumbel(key, log_p.shape, log_p.dtype), log_p, drawn)


def given_largest(log_e: jax.Array, log_p: jax.Array, drawn: jax.Array) -> jax.Array:
    """`log_p` plus Gumbel noise, given where the largest entry is, from logarithms of exponential noise `E`.

    The largest is `-log E_k`, as if nothing were given; another one is `-log(E_j / p_j + E_k)`.
    """
    largest = jnp.sum(jnp.where(drawn > 0, log_e, 0.0), axis=-1, keepdims=True)
    return -jnp.where(drawn > 0, log_e, jnp.logaddexp(log_e - log_p, largest))


def at_step(temperature: Any, step: Any) -> Any:
    """The temperature at a step."""
    return temperature(step) if callable(temperature) else temperature


def check_temperature(owner: str, temperature: Any) -> None:
    """Refuses a number that is not above zero; a schedule cannot be checked."""
    if not callable(temperature):
        check_positive(owner, "temperature", temperature)
