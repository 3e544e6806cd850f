"""A guide whose distributions have free parameters for each datum.

What a guide says of one datum are the parameters of its distributions: locations, scales. Adding an offset to each of
them, in unconstrained coordinates, spans all that the family can say of that datum; zero is what the guide says now.
In a guide with several layers, the offsets of a layer are added to what its network makes of the layers before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as numpyro_dist
from numpyro.distributions.transforms import biject_to

from elbax.bounds.densities import Densities
from elbax.bounds.elbo import ELBO
from elbax.errors import ConfigError
from elbax.graph import ir
from elbax.graph.distributions import Lifted, Structure
from elbax.graph.evaluate import site_keys
from elbax.graph.graph import abstract_distribution

__all__ = ["FreeGuide", "Offsets"]

# By site, one array for each parameter of its distribution that is free.
Offsets = dict[str, dict[int, jax.Array]]


@dataclass(frozen=True, eq=False)
class FreeGuide:
    """A pair at one datum, with free parameters for the guide's distributions.

    Attributes:
        densities: of the pair.
        transforms: by site and number of the parameter, from the real numbers to its values.
    """

    densities: Densities
    transforms: dict[str, dict[int, Any]]

    @classmethod
    def of(cls, densities: Densities) -> FreeGuide:
        """Finds what can be set free.

        Raises:
            ConfigError: for sites whose draws are not differentiable in their parameters.
        """
        transforms = {}
        for name, fact in densities.facts.samples.items():
            dist = abstract_distribution(fact.equation)
            if dist.name == "Delta":
                continue
            if not dist.has_rsample:
                raise ConfigError(
                    f"site '{name}' ({fact.equation.source}) is {dist.name}, whose draws have no derivative: its "
                    "parameters cannot be refined for each datum. Refine guides of continuous latents."
                )
            transforms[name] = free_parameters(fact.equation.structure, dist.leaves)
        if not any(transforms.values()):
            raise ConfigError("the guide's distributions have no parameters of known range that could be refined.")
        return cls(densities, transforms)

    def offsets(self, bound: ELBO, datum: tuple) -> Offsets:
        """Zeros, for one datum."""

        def on_sample(eq: ir.Sample, dist: Lifted, key: Any) -> tuple[Any, Any, Any]:
            value = dist.sample(key)
            free = self.transforms.get(eq.name, {})
            return value, dist.log_prob(value), {i: t.inv(dist.leaves[i]) for i, t in free.items()}

        found = jax.eval_shape(lambda k: self._run(on_sample, self._keys(k), bound, datum).samples, jax.random.key(0))
        return {name: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), found[name]) for name in self.transforms}

    def log_weight(self, key: jax.Array, offsets: Offsets, bound: ELBO, datum: tuple) -> jax.Array:
        """`log p(x, z) - log q(z | x)` of a draw, a scalar; its derivative sticks the landing."""

        def on_sample(eq: ir.Sample, dist: Lifted, feed: Any) -> tuple[Any, Any, Any]:
            key, offsets = feed
            leaves = list(dist.leaves)
            for i, offset in offsets.items():
                transform = self.transforms[eq.name][i]
                leaves[i] = transform(transform.inv(leaves[i]) + offset)
            q = Lifted(dist.structure, tuple(leaves))
            value = q.rsample(key) if q.has_rsample else q.sample(key)
            return value, q.stopped().log_prob(value), ()

        keys = self._keys(key)
        feeds = {name: (keys[name], offsets.get(name, {})) for name in keys}
        return self.densities.log_weight(self._run(on_sample, feeds, bound, datum))

    def _keys(self, key: jax.Array) -> dict[str, jax.Array]:
        return site_keys(key, {name: fact.loops for name, fact in self.densities.facts.samples.items()})

    def _run(self, on_sample: Callable, feeds: dict[str, Any], bound: ELBO, datum: tuple) -> Any:
        return self.densities.evaluate(on_sample, feeds, bound, datum)


class _Place:
    """Stands for a leaf, to be found again in a distribution's attributes."""

    def __init__(self, index: int) -> None:
        self.index = index


def free_parameters(structure: Structure, leaves: tuple[Any, ...]) -> dict[int, Any]:
    """The parameters with a known range, as transforms from the real numbers; by the number of the leaf."""
    found: dict[int, Any] = {}

    def look(d: Any) -> None:
        for name, constraint in getattr(d, "arg_constraints", {}).items():
            place = vars(d).get(name)
            if isinstance(place, _Place) and jnp.issubdtype(leaves[place.index].dtype, jnp.inexact):
                try:
                    found[place.index] = biject_to(constraint)
                except NotImplementedError:  # a range that depends on other parameters
                    continue
        for part in vars(d).values():
            if isinstance(part, numpyro_dist.Distribution):
                look(part)

    look(jax.tree.unflatten(structure.treedef, [_Place(i) for i in range(len(leaves))]))
    return found
