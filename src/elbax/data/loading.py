"""`load`: a data set by its name, or from a file of the user.

A named set is looked for in `ELBAX_DATA_DIR`, then in the cache, then at its official address (`elbax.data.locate`,
`elbax.data.download`); each time it is loaded, its content is compared with the published sum.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import numpy as np

from elbax.data import files
from elbax.data.arrays import find_image_shape, find_num_levels, flat
from elbax.data.catalogue import CATALOGUE, NamedSet
from elbax.data.dataset import DataFile, Dataset
from elbax.data.download import Progress
from elbax.data.obtain import obtain
from elbax.data.own import read_own
from elbax.data.split import Cut, FileOrder, Order, Parts, Shuffled, divide
from elbax.errors import DataError

# A larger memory map is not copied for the sake of a permutation.
MAX_SHUFFLED_BYTES = 2**30


def load(
    name_or_path: str | Path,
    *,
    order: Order | None = None,
    num_valid: int | None = None,
    num_test: int | None = None,
    num_levels: int | None = None,
    image_shape: tuple[int, int] | None = None,
    download: bool = True,
    on_progress: Progress | None = None,
) -> Dataset:
    """A data set by its name, or from a file or folder of the user.

    Splits that the files state are kept; missing ones are cut off the end of the training rows. Of a named set the
    order and the sizes are those of `available()`. Of a user's file the rows are permuted with seed 0 and a tenth goes
    to each missing split; a memory map of more than 1 GiB is cut in file order instead, and stays on the disk. What was
    done is in `Dataset.split`.

    Args:
        name_or_path: a name of `available()`, or a path (formats: `elbax.data.own`). A name wins over a file of that
            name in the working folder: for the latter write `./mnist` or pass a `Path`.
        order: `Shuffled(seed)` or `FileOrder()`, of the training rows before splits are cut off.
        num_valid: rows of a validation split that is cut off.
        num_test: rows of a test split that is cut off.
        num_levels: of a user's file of bytes: the level of intensity 1. By default 1 if no level exceeds 1, else 255.
        image_shape: of a user's file with rows of pixels: height and width. By default a square where that fits, else
            one row of pixels.
        download: whether a named set that is not on this machine is fetched.
        on_progress: called as `on_progress(file name, bytes so far, bytes in all or None)` during a download.

    Raises:
        DataError: if the set or file does not exist or cannot be used; the message names the file and the way out.

    Example:
        >>> load("digits")
        Dataset('digits', train=1,297, valid=200, test=300, image_shape=(8, 8), num_levels=16)
    """
    target, cut = resolve(name_or_path), Cut(order, num_valid, num_test)
    if isinstance(target, Path):
        return _load_own(target, cut, num_levels, image_shape)
    if num_levels is not None or image_shape is not None:
        raise DataError(f"{target.name} states its own num_levels and image_shape: leave them out.")
    contents = [obtain(target, file, download=download, on_progress=on_progress) for file in target.files]
    return _load_named(target, contents, cut)


def resolve(name_or_path: str | Path) -> NamedSet | Path:
    """The named set, or the path, that is meant.

    Raises:
        DataError: if it is neither the name of a set nor looks like a path.
    """
    if isinstance(name_or_path, Path):
        return name_or_path.expanduser()
    if name_or_path in CATALOGUE:
        return CATALOGUE[name_or_path]
    path = Path(name_or_path).expanduser()
    if name_or_path and (path.exists() or path.suffix or os.sep in name_or_path or "/" in name_or_path):
        return path
    near = difflib.get_close_matches(name_or_path.lower(), CATALOGUE, n=3, cutoff=0.4) or list(CATALOGUE)
    raise DataError(
        f"There is no data set or file {name_or_path!r}. Did you mean {' or '.join(map(repr, near))}? "
        "`elbax.data.available()` lists the sets; for a file of your own give its path."
    )


def _load_named(named: NamedSet, contents: list[files.Found], cut: Cut) -> Dataset:
    arrays = {file.plain_name: files.parse(file, found) for file, found in zip(named.files, contents, strict=True)}
    parts = named.arrange(arrays)
    images = {split: flat(array, named.name) for split, array in parts.images.items()}
    _, num_valid, num_test = named.sizes
    divided = divide(Parts(images, parts.labels), cut, Cut(named.order, num_valid, num_test), named.name)
    return Dataset(
        name=named.name,
        **divided.images._asdict(),
        labels=divided.labels,
        image_shape=named.image_shape,
        num_levels=named.num_levels,
        licence=named.licence,
        citation=named.citation,
        files=tuple(DataFile(found.path, found.num_bytes, found.sha256) for found in contents),
        split=divided.how,
    )


def _load_own(path: Path, cut: Cut, num_levels: int | None, image_shape: tuple[int, int] | None) -> Dataset:
    parts, sources = read_own(path)
    where = f"'{path}'"
    shapes = {split: find_image_shape(array, image_shape, where) for split, array in parts.images.items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{split} {height} x {width}" for split, (height, width) in shapes.items())
        raise DataError(f"{where} has images of different sizes ({sizes}): save all splits with the same pixels.")
    images = {split: flat(array, where) for split, array in parts.images.items()}
    num_levels = find_num_levels(images, num_levels, where)
    too_large = isinstance(images["train"], np.memmap) and images["train"].nbytes > MAX_SHUFFLED_BYTES
    if too_large and isinstance(cut.order, Shuffled):
        raise DataError(
            f"{where} has {images['train'].nbytes / 2**30:.1f} GiB, more than is copied into memory to be permuted: "
            "leave order=Shuffled(...) out, or save a folder of train.npy, valid.npy and test.npy."
        )
    divided = divide(Parts(images, parts.labels), cut, Cut(FileOrder() if too_large else Shuffled(0)), where)
    return Dataset(
        name=path.name.split(".")[0],
        **divided.images._asdict(),
        labels=divided.labels,
        image_shape=shapes["train"],
        num_levels=num_levels,
        licence="a file of the user",
        citation="none",
        files=sources,
        split=divided.how,
    )
