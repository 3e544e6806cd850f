"""What every bound is: a model and a guide that together make a program."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from elbax.errors import ConfigError

__all__ = ["Bound", "positive_integer"]


class Bound(eqx.Module):
    """Base of all bounds on log p(x).

    A bound is a program: called on data inside elbax (`elbax.trace(bound, x)`, `elbax.value_and_grad`, `elbax.fit`)
    it states or returns its costs, whose sum is minus the bound of the whole batch in nats. It is also a pytree; the
    arrays of floats in its model and guide are the parameters.

    Attributes:
        model: program with sample sites for latent variables and observed sites for data; called with the data.
        guide: program whose sample sites are the model's latent ones; called with the data.
    """

    model: Callable
    guide: Callable

    @property
    def __signature__(self) -> inspect.Signature:
        """The arguments are those of the guide, so that graphs show the names of the data."""
        if isinstance(self.guide, (eqx.Partial, jax.tree_util.Partial)):
            bound = functools.partial(self.guide.func, *self.guide.args, **self.guide.keywords)
            return inspect.signature(bound)
        return inspect.signature(self.guide)

    def at_step(self, step: jax.Array) -> Bound:
        """The bound as it is at a step of training; itself, unless it follows a schedule."""
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, jax.Array] | None:
        """The costs of one run; to be called inside a traced program."""
        raise NotImplementedError


def positive_integer(name: str, value: Any) -> int:
    """Checks an option that counts something."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1; got {value!r}.")
    return value
