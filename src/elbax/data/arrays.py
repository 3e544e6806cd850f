"""Checks on arrays of images before anything is computed with them; one block of rows at a time.

What is accepted: `[num_data, height, width]` or `[num_data, num_pixels]`; unsigned bytes (levels), booleans, or floats
in [0, 1]. What is not accepted is refused with what was found and the way out, because a NaN or a byte that was taken
for an intensity shows itself only as a bound that is wrong.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Shaped

from elbax.errors import DataError


def row_chunks(shape: tuple[int, ...], *, itemsize: int, max_bytes: int = 2**24) -> Iterator[slice]:
    """Slices of rows that cover an array of this shape, each of at most `max_bytes` (but of one row at least)."""
    row_bytes = itemsize * math.prod(shape[1:])
    step = max(1, max_bytes // max(1, row_bytes))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def check_images(images: np.ndarray, where: str) -> None:
    """Refuses what cannot be a set of images; floats are read through, a block at a time.

    Args:
        images: any array, also a memory map.
        where: the file, and the key in it, as the message shall name it.

    Raises:
        DataError: for objects or another type, a number of axes other than 2 or 3, no rows or pixels, NaN or infinity,
            floats outside [0, 1].
    """
    _check_dtype(images, where)
    if images.ndim not in (2, 3):
        raise DataError(
            f"{where} has shape {images.shape}: images are [num_data, height, width] or [num_data, num_pixels]. "
            "Reshape it before saving, for instance with `array.reshape(len(array), -1)`."
        )
    if images.size == 0:
        raise DataError(
            f"{where} is empty (shape {images.shape}): save an array with at least one image and one pixel."
        )
    if np.issubdtype(images.dtype, np.floating):
        low, high = _extremes(images)
        if not (math.isfinite(low) and math.isfinite(high)):
            _refuse_non_finite(images, where)
        if low < 0 or high > 1:
            raise DataError(
                f"{where} holds floats from {low:g} to {high:g}, but an intensity lies in [0, 1]. Divide by the "
                "largest level (often 255) before saving, or save levels as unsigned bytes, `array.astype('uint8')`."
            )


def _check_dtype(images: np.ndarray, where: str) -> None:
    accepted = images.dtype in (np.uint8, np.bool_) or np.issubdtype(images.dtype, np.floating)
    if not accepted:
        raise DataError(
            f"{where} holds {images.dtype}: images are unsigned bytes (levels), booleans, or floats in [0, 1]. Save "
            "whole numbers from 0 to 255 with `array.astype('uint8')`."
        )
    if not images.dtype.isnative:
        raise DataError(
            f"{where} holds {images.dtype}, whose byte order is not that of this machine: save it with "
            "`array.astype(array.dtype.newbyteorder('='))`."
        )


def _extremes(images: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value; NaN if there is one."""
    blocks = (images[rows] for rows in row_chunks(images.shape, itemsize=images.itemsize))
    pairs = np.array([(block.min(), block.max()) for block in blocks], np.float64)
    return float(pairs[:, 0].min()), float(pairs[:, 1].max())


def _refuse_non_finite(images: np.ndarray, where: str) -> None:
    count, first = 0, ()
    for rows in row_chunks(images.shape, itemsize=images.itemsize):
        bad = ~np.isfinite(images[rows])
        if bad.any():
            count += int(bad.sum())
            offset, *rest = (int(i) for i in np.argwhere(bad)[0])
            first = first or (rows.start + offset, *rest)
    raise DataError(
        f"{where} holds {count:,} NaN or infinite value{'s' * (count > 1)} among {images.size:,}, the first one "
        f"({images[first]}) at index {list(first)}. Remove these images or fill in the values before saving."
    )


def flat(images: np.ndarray, where: str) -> Shaped[np.ndarray, "num_data num_pixels"]:
    """One row per image, without a copy; booleans become the levels 0 and 1.

    Raises:
        DataError: if a memory map of three axes is in column-major order, where a row view does not exist.
    """
    if images.dtype == np.bool_:
        images = images.view(np.uint8)
    if images.ndim == 3 and isinstance(images, np.memmap) and not images.flags.c_contiguous:
        raise DataError(
            f"{where} is stored in column-major (Fortran) order, so that no image is contiguous in the file. Save it "
            "again with `np.save(path, np.ascontiguousarray(array))`."
        )
    return images.reshape(len(images), -1)


def find_num_levels(images: Mapping[str, np.ndarray], given: int | None, where: str) -> int:
    """The level that means intensity 1: 1 for floats and binary levels, else 255 unless it is given.

    Args:
        images: arrays of one type, by split.
        given: what the user says, or `None`.
        where: the file, as a message shall name it.

    Raises:
        DataError: if a level exceeds the one given, that one is not in 1..255, or the splits mix floats and levels.
    """
    floats = {split: np.issubdtype(array.dtype, np.floating) for split, array in images.items()}
    if len(set(floats.values())) > 1:
        types = ", ".join(f"{split} {array.dtype}" for split, array in images.items())
        raise DataError(f"{where} mixes floats and levels ({types}): save all splits in one type.")
    if any(floats.values()):
        if given not in (None, 1):
            raise DataError(f"{where} holds floats, whose intensity is the value itself: leave num_levels={given} out.")
        return 1
    if given is not None and not 1 <= given <= 255:
        raise DataError(f"{where}: num_levels={given} cannot be; levels are unsigned bytes, so pass 1 to 255.")
    # Reading stops where nothing more can be learnt: a photograph is recognised in its first block.
    limit = 255 if given is None else given
    enough = 64 if given is None else given + 1
    highest = max(_highest(array, enough) for array in images.values())
    if highest > limit:
        raise DataError(
            f"{where} holds level {highest}, above num_levels={given}: pass the largest level that can occur."
        )
    if given is not None:
        return given
    if highest <= 1:
        return 1
    if highest < enough:
        warnings.warn(
            f"{where} holds no level above {highest}, and 255 is taken as white: the images are dark. Pass "
            f"num_levels={highest} if that is white, or num_levels=255 if this is meant.",
            stacklevel=4,
        )
    return 255


def _highest(levels: np.ndarray, enough: int) -> int:
    """The largest level, or the largest so far once it is `enough`."""
    highest = 0
    for rows in row_chunks(levels.shape, itemsize=levels.itemsize):
        highest = max(highest, int(levels[rows].max()))
        if highest >= enough:
            break
    return highest


def find_image_shape(images: np.ndarray, given: tuple[int, int] | None, where: str) -> tuple[int, int]:
    """Height and width: those of the array, those given, a square where that fits, else one row of pixels.

    Raises:
        DataError: if the shape given has another number of pixels.
    """
    num_pixels = math.prod(images.shape[1:])
    if given is not None and math.prod(given) != num_pixels:
        raise DataError(f"{where} has {num_pixels} pixels per image: image_shape={given} needs {math.prod(given)}.")
    if given is not None:
        return given
    if images.ndim == 3:
        return images.shape[1], images.shape[2]
    side = math.isqrt(num_pixels)
    return (side, side) if side * side == num_pixels else (1, num_pixels)


def check_labels(labels: np.ndarray, num_data: int, where: str) -> Shaped[np.ndarray, " num_data"]:
    """One label per image, as a vector.

    Raises:
        DataError: if there are not as many labels as images.
    """
    if labels.size != num_data:
        raise DataError(
            f"{where} has shape {labels.shape}, but there are {num_data:,} images: save one label per image (for "
            "one-hot labels, `labels.argmax(1)`)."
        )
    return labels.reshape(-1)
