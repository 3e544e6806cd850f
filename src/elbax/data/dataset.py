"""`Dataset`: three splits of images, what their numbers mean, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from elbax.data import levels
from elbax.data.split import SPLITS, Splits


@dataclass(frozen=True)
class DataFile:
    """A file that a data set was read from, for the record of a run.

    Attributes:
        path: where it lies.
        num_bytes: of the content that the sum is of.
        sha256: of the uncompressed content; of the values for the `.mat` files of named sets, whose container differs
            between copies; `None` for a user's file of more than 1 GiB, which is not read for it.
    """

    path: Path
    num_bytes: int
    sha256: str | None


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images in three splits, one row per image, as they are stored.

    Attributes:
        name: of the set, or of the user's file.
        train: levels as unsigned bytes, or floats in [0, 1]; may be a `numpy.memmap`. Shape `[num_data, num_pixels]`.
        valid: rows for choices made during training. Same type and pixels.
        test: rows for final figures. Same type and pixels.
        labels: one vector per split, or `None`.
        image_shape: height and width; pixels lie row by row.
        num_levels: the level of intensity 1: 255, 16, 1; it is 1 for floats.
        licence: of the images; `not stated` where their source is silent.
        citation: how to cite them.
        files: what was read.
        split: in words, how the splits were made.
    """

    name: str
    train: Shaped[np.ndarray, "num_train num_pixels"]
    valid: Shaped[np.ndarray, "num_valid num_pixels"]
    test: Shaped[np.ndarray, "num_test num_pixels"]
    labels: Splits | None
    image_shape: tuple[int, int]
    num_levels: int
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    split: str

    @property
    def num_pixels(self) -> int:
        """Pixels per image, `height * width`."""
        return self.train.shape[1]

    def intensity(self, x: Shaped[Any, "*shape"]) -> Float32[Any, "*shape"]:
        """Pixel intensity `x / num_levels`, float32 in [0, 1], of any of its levels; NumPy or JAX, also under jit.

        Of a memory map, pass a batch: the result lies in memory.
        """
        return levels.intensity(x, self.num_levels)

    def prepared(self, choice: levels.Binarisation) -> Dataset:
        """The data set whose levels a training with this choice keeps on the device; see `elbax.data.prepare`.

        For `Fixed` and `Threshold` these are zeros and ones in memory, drawn independently for the three splits;
        otherwise it is the data set itself. For splits larger than memory call `prepare` with `out`.
        """
        if isinstance(choice, levels.Dynamic | levels.AsIs):
            return self
        splits = {
            split: levels.prepare(choice, getattr(self, split), self.num_levels, stream=stream).levels
            for stream, split in enumerate(SPLITS)
        }
        return replace(self, **splits, num_levels=1)

    def description(self) -> str:
        """A few lines for people: sizes, levels, splits, licence, citation, files."""
        height, width = self.image_shape
        kind = "floats in [0, 1]" if np.issubdtype(self.train.dtype, np.floating) else f"levels 0..{self.num_levels}"
        lines = [
            f"{self.name}: images of {height} x {width} pixels, {kind}",
            f"train {len(self.train):,} · valid {len(self.valid):,} · test {len(self.test):,} ({self.split})",
            f"licence: {self.licence}",
            f"citation: {self.citation}",
        ]
        return "\n".join(lines + [f"{file.path}  sha256 {file.sha256 or 'not computed'}" for file in self.files])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}={len(getattr(self, split)):,}" for split in SPLITS)
        return f"Dataset({self.name!r}, {sizes}, image_shape={self.image_shape}, num_levels={self.num_levels})"
