"""Parameters that model and guide share.

A pair of programs is trained as one pytree, in which an array that both hold stands twice. `tied` makes an optimiser
move the two copies as the one parameter that they are: its gradient is the sum over the places where it stands, it has
one optimiser state, and the copies stay equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax

__all__ = ["tied"]

# Of the parameters of a bound (`bound.model`, `bound.guide`), a subtree.
Where = Callable[[Any], Any]


def tied(optimizer: optax.GradientTransformation, first: Where, second: Where) -> optax.GradientTransformation:
    """An optimiser for which two equal subtrees of the parameters are one.

    Args:
        optimizer: what moves the parameters; it does not see the second subtree.
        first: finds a subtree in the parameters.
        second: finds its copy, of the same structure, which must start with the same values.
    """

    def once(tree: Any) -> Any:
        nothing = jax.tree.map(lambda _: None, second(tree))
        return eqx.tree_at(second, tree, nothing, is_leaf=lambda x: x is None)

    def init(params: Any) -> Any:
        return optimizer.init(once(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        total = jax.tree.map(lambda a, b: a + b, first(updates), second(updates))
        summed = once(eqx.tree_at(first, updates, total, is_leaf=lambda x: x is None))
        moved, state = optimizer.update(summed, state, None if params is None else once(params))
        return eqx.tree_at(second, moved, first(moved), is_leaf=lambda x: x is None), state

    return optax.GradientTransformation(init, update)
