"""A user's own images: a file, or a folder with one file per split.

| file                | what is taken                                                                    |
|---------------------|----------------------------------------------------------------------------------|
| `.npy`              | its array, memory-mapped                                                         |
| `.npz`, `.mat`      | its arrays, by the words in their keys (below)                                   |
| `.amat`, `.amat.gz` | its table                                                                        |
| idx, also `.gz`     | its array (`train-images-idx3-ubyte.gz`, `images.idx3-ubyte`, `images.idx`, ...) |
| folder              | the array of each such file in it, by the words in the name of the file          |

The words: `train`/`training`, `valid`/`val`/`validation`, `test`/`t10k` say the split, and `y`/`label`/`target` (or
their plural) that it holds labels. So `x_train` and `x_test`, `train` and `test`, `data` and `target`, the file names
of MNIST, and a lone array of any name all work.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from elbax.data import formats
from elbax.data.arrays import check_images, check_labels
from elbax.data.dataset import DataFile
from elbax.data.split import Parts
from elbax.errors import DataError

_SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "t10k": "test"}
_SPLIT_WORDS |= {"valid": "valid", "val": "valid", "validation": "valid"}
_LABEL_WORDS = {"y", "label", "labels", "target", "targets"}
_IMAGE_WORDS = {"x", "image", "images", "data"}
_FORMATS = ".npy, .npz, .mat, .amat, .amat.gz and idx (also .gz)"
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".joblib"}

# A larger file is not read through only for the record of a run.
_MAX_HASHED_BYTES = 2**30


def read_own(path: Path) -> tuple[Parts, tuple[DataFile, ...]]:
    """Images and labels of a file or folder, checked, and the files they come from.

    Raises:
        DataError: if there is no such file, its format is not known, or what it holds cannot be used.
    """
    if not path.exists():
        raise _missing(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and _format(file))
        if not files:
            raise DataError(f"Folder '{path}' holds no file that can be read: the formats are {_FORMATS}.")
    arrays = _read(files[0]) if len(files) == 1 else {file.name: _read_one(file) for file in files}
    return _parts(arrays, path), tuple(map(_record, files))


def _missing(path: Path) -> DataError:
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    name = path.absolute().relative_to(folder).parts[0]
    near = difflib.get_close_matches(name, [entry.name for entry in folder.iterdir()], n=3, cutoff=0.4)
    there = f"has {', '.join(map(repr, near))}, but not {name!r}" if near else f"has nothing like {name!r}"
    return DataError(
        f"'{path}' does not exist: the folder '{folder}' {there}. Correct the path, or name a set of "
        "`elbax.data.available()`."
    )


def _format(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    if re.search(r"[.-]idx\d?(-ubyte)?$", name):
        return "idx"
    suffix = Path(name).suffix
    gzipped = path.name.lower().endswith(".gz")
    return suffix[1:] if suffix == ".amat" or (suffix in {".npy", ".npz", ".mat"} and not gzipped) else None


def _read(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of one file, by key; those of a file without keys by the name of the file."""
    match _format(path):
        case "npy":
            return {path.name: formats.read_npy(path)}
        case "npz":
            return formats.read_npz(path)
        case "mat":
            return formats.read_mat(path)
        case "amat":
            return {path.name: formats.parse_amat(formats.uncompressed(path), f"'{path}'")}
        case "idx":
            return {path.name: formats.parse_idx(formats.uncompressed(path), f"'{path}'")}
    if path.suffix.lower() in _PICKLES:
        raise DataError(
            f"'{path}' is a pickle; unpickling runs code, so elbax never does. Save it with `np.save(path, array)`."
        )
    raise DataError(
        f"'{path}' has a format that is not known: elbax reads {_FORMATS}. Save it with `np.save(path, array)`."
    )


def _read_one(path: Path) -> np.ndarray:
    arrays = _read(path)
    if len(arrays) != 1:
        raise DataError(
            f"'{path}' holds {len(arrays)} arrays ({', '.join(map(repr, arrays))}), but in a folder of several files "
            "each holds one. Load this file by its own path, or save one array per file."
        )
    return next(iter(arrays.values()))


def _parts(arrays: Mapping[str, np.ndarray], path: Path) -> Parts:
    """Sorts arrays into splits by the words in their keys, and checks each."""
    if not arrays:
        raise DataError(f"'{path}' holds no array: save one under the key 'train'.")
    images, labels = _sort(arrays, path)
    where = {key: f"'{path}'" if len(arrays) == 1 else f"'{path}' ({key!r})" for key in arrays}
    for key in images.values():
        check_images(arrays[key], where[key])
    if labels and set(labels) != set(images):
        raise DataError(
            f"'{path}' has images for {', '.join(images)} but labels for {', '.join(labels)}: save labels for "
            "all or for none."
        )
    return Parts(
        {split: arrays[key] for split, key in images.items()},
        {split: check_labels(arrays[key], len(arrays[images[split]]), where[key]) for split, key in labels.items()},
    )


def _sort(arrays: Mapping[str, np.ndarray], path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The key of the images, and that of the labels, of each split; a lone array is `train`."""
    if len(arrays) == 1:
        return {"train": next(iter(arrays))}, {}
    images: dict[str | None, list[str]] = {}
    labels: dict[str | None, list[str]] = {}
    for key in arrays:
        words = re.split(r"[^a-z0-9]+", key.lower())
        split = next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)
        (labels if _LABEL_WORDS.intersection(words) else images).setdefault(split, []).append(key)
    if set(images) == {None}:
        images, labels = {"train": _prefer_images(images[None])}, {"train": labels.get(None, [])}
    ambiguous = [k for s, k in (*images.items(), *labels.items()) if s and len(k) > 1]
    if ambiguous or "train" not in images:
        found = ", ".join(f"{key!r} {array.shape}" for key, array in arrays.items())
        what = f"{' and '.join(map(repr, ambiguous[0]))} may be the same" if ambiguous else "no array is for training"
        raise DataError(
            f"'{path}' holds {found}: {what}. Name the arrays 'train', 'valid' and 'test' ('valid' and 'test' may be "
            "left out), their labels 'train_labels' and so on; or keep a single array."
        )
    return {s: k[0] for s, k in images.items() if s}, {s: k[0] for s, k in labels.items() if s and k}


def _prefer_images(keys: list[str]) -> list[str]:
    named = [key for key in keys if key.lower() in _IMAGE_WORDS]
    return named if len(named) == 1 else keys


def _record(path: Path) -> DataFile:
    size = path.stat().st_size
    if size > _MAX_HASHED_BYTES:
        return DataFile(path, size, None)
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return DataFile(path, stream.tell(), sha256)
