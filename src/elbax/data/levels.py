"""From stored levels to what a model sees: how a grey image becomes a binary one, and when.

A pixel is stored as an integer level `0..num_levels` (255 for bytes, 16 for `digits`, 1 for binary images), or as a
float in [0, 1] with `num_levels = 1`; its intensity is `level / num_levels`. A choice says what the model is given:

| text            | choice          | value                                   | drawn                                  |
|-----------------|-----------------|-----------------------------------------|----------------------------------------|
| `dynamic`       | `Dynamic()`     | x ~ Bernoulli(intensity)                | anew for each key, on the device       |
| `fixed:7`       | `Fixed(seed=7)` | x ~ Bernoulli(intensity)                | once, on the host, before the training |
| `threshold:0.3` | `Threshold(0.3)`| x = 1 if intensity > 0.3, else 0        | never                                  |
| `none`          | `AsIs()`        | x = intensity                           | never                                  |

`prepare` runs once on the host, `binarise` inside the compiled training step: between the two the data stay bytes.
Numbers of two choices must not be compared: they are likelihoods of different data.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float32, Key, Shaped

from elbax.data.arrays import row_chunks
from elbax.errors import DataError

ArrayT = TypeVar("ArrayT", np.ndarray, Array)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Dynamic:
    """A fresh draw `x ~ Bernoulli(intensity)` for each key: the binarisation of Burda et al. (2016)."""

    def __str__(self) -> str:
        return "dynamic"


@jax.tree_util.register_static
@dataclass(frozen=True)
class Fixed:
    """One draw `x ~ Bernoulli(intensity)`, the same in every epoch and every run with this seed."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise DataError(f"Fixed(seed={self.seed}): a seed is a whole number from 0 up.")

    def __str__(self) -> str:
        return f"fixed:{self.seed}" if self.seed else "fixed"


@jax.tree_util.register_static
@dataclass(frozen=True)
class Threshold:
    """One where the intensity exceeds `at`, zero elsewhere. Binary data stay as they are."""

    at: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.at < 1:
            raise DataError(f"Threshold(at={self.at}): intensities lie in [0, 1]; take `at` from 0 up to below 1.")

    def __str__(self) -> str:
        return "threshold" if self.at == 0.5 else f"threshold:{self.at!r}"


@jax.tree_util.register_static
@dataclass(frozen=True)
class AsIs:
    """The intensity itself, in [0, 1]."""

    def __str__(self) -> str:
        return "none"


Binarisation = Dynamic | Fixed | Threshold | AsIs

_PARSERS = {
    "dynamic": (Dynamic, None),
    "fixed": (Fixed, int),
    "threshold": (Threshold, float),
    "none": (AsIs, None),
}


def binarisation(text: str) -> Binarisation:
    """The choice that a text names; `str(choice)` gives the text back.

    Args:
        text: `dynamic`, `fixed`, `fixed:SEED`, `threshold`, `threshold:AT` or `none`.

    Raises:
        DataError: if the text names no choice, or its value is missing, superfluous or out of range.

    Example:
        >>> binarisation("threshold:0.3")
        Threshold(at=0.3)
        >>> str(binarisation("fixed:7"))
        'fixed:7'
    """
    name, colon, value = text.strip().lower().partition(":")
    if name not in _PARSERS:
        near = difflib.get_close_matches(name, _PARSERS, n=1, cutoff=0.3) or list(_PARSERS)
        raise DataError(
            f"Binarisation {text!r} does not exist. Did you mean {' or '.join(map(repr, near))}? "
            "The choices are 'dynamic', 'fixed', 'fixed:SEED', 'threshold', 'threshold:AT' and 'none'."
        )
    choice, parse = _PARSERS[name]
    if not colon:
        return choice()
    if parse is None:
        raise DataError(f"Binarisation {text!r}: {name!r} takes no value; write {name!r}.")
    try:
        parsed = parse(value)
    except ValueError:
        example = "'fixed:7'" if parse is int else "'threshold:0.3'"
        raise DataError(f"Binarisation {text!r}: {value!r} is no number; write for example {example}.") from None
    return choice(parsed)


def intensity(levels: ArrayT, num_levels: int) -> ArrayT:
    """Pixel intensity `level / num_levels`, float32 in [0, 1], of a NumPy or a JAX array of any shape."""
    return levels.astype("float32") / np.float32(num_levels)


def binarise(
    choice: Binarisation, key: Key[Array, ""] | None, levels: Shaped[Any, "*shape"], num_levels: int
) -> Float32[Array, "*shape"]:
    """What the model sees: pure, and meant to run inside the compiled training step.

    `Dynamic` is a Bernoulli draw whose mean is the intensity, independent for each pixel and each key. `Threshold` may
    be applied to raw or to prepared levels: the result is the same.

    Args:
        choice: how, a static argument.
        key: consumed by `Dynamic`; the others take no notice of it, and `None` will do.
        levels: raw levels; for `Fixed`, those that `prepare` has returned. Shape `[...]`.
        num_levels: the level of intensity 1, a static argument.

    Returns:
        Values in {0, 1}, or in [0, 1] for `AsIs`. Shape of `levels`.

    Raises:
        DataError: if `Fixed` is given levels that are not prepared, or `Dynamic` no key, or the choice is none.
    """
    _check(choice)
    levels = jnp.asarray(levels)
    match choice:
        case Dynamic():
            if key is None:
                raise DataError("binarise(Dynamic(), key=None, ...): a dynamic binarisation draws anew; pass a key.")
            return jr.bernoulli(key, intensity(levels, num_levels)).astype("float32")
        case Fixed():
            if num_levels != 1 or jnp.issubdtype(levels.dtype, jnp.floating):
                raise DataError(
                    f"binarise({choice!r}, ...) was given {levels.dtype} levels up to {num_levels}, not one fixed draw "
                    "of zeros and ones. Call `data = data.prepared(choice)` once before the training; pass its levels."
                )
            return levels.astype("float32")
        case Threshold(at):
            return (levels > _cut(at, levels.dtype, num_levels)).astype("float32")
        case AsIs():
            return intensity(levels, num_levels)


class Prepared(NamedTuple):
    """Levels to keep on the device during a training, and the level that means intensity 1."""

    levels: np.ndarray
    num_levels: int


def prepare(
    choice: Binarisation,
    levels: Shaped[np.ndarray, "num_data num_pixels"],
    num_levels: int,
    *,
    stream: int = 0,
    out: np.ndarray | None = None,
    max_bytes: int = 2**24,
) -> Prepared:
    """Does on the host what is done once: the draw of `Fixed`, the comparison of `Threshold`.

    `Dynamic` and `AsIs` have nothing to prepare: their levels come back as they are, not copied. Rows are treated a
    block at a time, so that `levels` may be a memory map; the result does not depend on the size of the blocks.

    Args:
        choice: how.
        levels: raw levels. Shape `[num_data, num_pixels]`.
        num_levels: the level of intensity 1.
        stream: tells the splits of a data set apart, so that they share no random numbers under one seed.
        out: where the zeros and ones go, uint8, for instance a writable memory map; a new array in memory if `None`.
        max_bytes: working memory for one block.

    Returns:
        `(levels, num_levels)`: zeros and ones as uint8 with `num_levels = 1`, or the arguments unchanged.

    Raises:
        DataError: if `out` has another shape or is not uint8, or the choice is none.
    """
    _check(choice)
    if isinstance(choice, Dynamic | AsIs):
        return Prepared(levels, num_levels)
    if out is None:
        out = np.empty(levels.shape, np.uint8)
    if out.shape != levels.shape or out.dtype != np.uint8:
        raise DataError(
            f"prepare(out=...): {out.dtype} of shape {out.shape} cannot hold the result; it takes uint8 of shape "
            f"{levels.shape}."
        )
    rng = np.random.default_rng([choice.seed, stream]) if isinstance(choice, Fixed) else None
    for rows in row_chunks(levels.shape, itemsize=8, max_bytes=max_bytes):
        block = levels[rows]
        if rng is not None:
            out[rows] = rng.random(block.shape) < block / num_levels
        elif isinstance(choice, Threshold):
            out[rows] = block > _cut(choice.at, levels.dtype, num_levels)
    return Prepared(out, 1)


def _check(choice: Any) -> None:
    if not isinstance(choice, Binarisation):
        raise DataError(
            f"{choice!r} is no binarisation: pass Dynamic(), Fixed(), Threshold() or AsIs(), or `binarisation(text)`."
        )


def _cut(at: float, dtype: np.dtype, num_levels: int) -> float | int:
    """The level that must be exceeded; whole for whole levels, so that host and device agree on ties."""
    cut = at * num_levels
    return cut if jnp.issubdtype(dtype, jnp.floating) else math.floor(cut)
