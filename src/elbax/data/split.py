"""Train, valid and test: which rows go where.

Splits that a file states are kept. Those it does not state are cut off the end of `train`, which leaves train, valid,
test, after the rows have been put in an order: that of the file, or a permutation with a seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from elbax.errors import DataError

SPLITS = ("train", "valid", "test")

# Of a file that states no sizes: a tenth each.
_DEFAULT_FRACTION = 0.1


@dataclass(frozen=True)
class FileOrder:
    """Rows stay in the order of the file: `train` is its beginning. Nothing is copied, memory maps stay lazy."""

    def __str__(self) -> str:
        return "in file order"


@dataclass(frozen=True)
class Shuffled:
    """Rows are permuted by `numpy.random.default_rng(seed).permutation` before they are cut, in memory."""

    seed: int = 0

    def __str__(self) -> str:
        return f"permuted with seed {self.seed}"


Order = FileOrder | Shuffled


@dataclass(frozen=True)
class Parts:
    """Images and labels as a file states them, by split; `train` is always there."""

    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)


class Splits(NamedTuple):
    """One array per split."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Cut:
    """How splits that are not stated are cut off the training rows; `None` leaves it to the default."""

    order: Order | None = None
    num_valid: int | None = None
    num_test: int | None = None


class Divided(NamedTuple):
    """Three splits, and in words where they come from."""

    images: Splits
    labels: Splits | None
    how: str


def divide(parts: Parts, asked: Cut, default: Cut, where: str) -> Divided:
    """Cuts the splits that `parts` does not state off its `train`.

    Args:
        parts: images, and labels for all of their splits or for none.
        asked: what the user wants.
        default: what is done where nothing is asked; without a size a tenth of the rows, without an order the file's.
        where: the data set, as a message shall name it.

    Raises:
        DataError: if a split would have no rows, or something is asked of splits that the files state.
    """
    num_rows = len(parts.images["train"])
    sizes = _sizes(parts, asked, default, where)
    order = asked.order or default.order or FileOrder()
    rows = np.random.default_rng(order.seed).permutation(num_rows) if isinstance(order, Shuffled) and sizes else None
    start = num_rows - sum(sizes.values())
    pieces = {"train": slice(0, start)}
    for split, size in sizes.items():
        pieces[split], start = slice(start, start + size), start + size

    def pick(arrays: Mapping[str, np.ndarray]) -> Splits:
        pool = arrays["train"]
        cut = {split: pool[piece] if rows is None else pool[rows[piece]] for split, piece in pieces.items()}
        return Splits(**{**arrays, **cut})

    return Divided(pick(parts.images), pick(parts.labels) if parts.labels else None, _in_words(sizes, order))


def _sizes(parts: Parts, asked: Cut, default: Cut, where: str) -> dict[str, int]:
    """Rows to cut off, by split; nothing for the splits that are stated."""
    num_rows, sizes = len(parts.images["train"]), {}
    for split, wanted, usual in (
        ("valid", asked.num_valid, default.num_valid),
        ("test", asked.num_test, default.num_test),
    ):
        if split not in parts.images:
            sizes[split] = _size(wanted if wanted is not None else usual, num_rows, f"{where}: num_{split}")
        elif wanted is not None:
            raise DataError(f"{where} comes with its own {split} split: leave num_{split}={wanted} out.")
    if asked.order is not None and not sizes:
        raise DataError(
            f"{where} comes with all of its splits: there is nothing to cut off, leave order={asked.order!r} out."
        )
    if sum(sizes.values()) >= num_rows:
        cut = " and ".join(f"{size:,} for {split}" for split, size in sizes.items())
        raise DataError(f"{where} has {num_rows:,} rows to train on: taking {cut} leaves none. Ask for fewer rows.")
    return sizes


def _size(wanted: int | None, num_rows: int, what: str) -> int:
    if wanted is None:
        return max(1, round(_DEFAULT_FRACTION * num_rows))
    if wanted < 1:
        raise DataError(f"{what}={wanted}, but every split needs at least one row.")
    return wanted


def _in_words(sizes: Mapping[str, int], order: Order) -> str:
    if not sizes:
        return "train, valid and test as the files state them"
    cut = " and ".join(f"{size:,} {split}" for split, size in sizes.items())
    return f"the last {cut} rows were cut off train, with its rows {order}"
