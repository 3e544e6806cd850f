"""Checkpoints: the whole state of a run in one file, written so that a crash at any moment leaves a usable run.

A file is one line of JSON (what it is, which version wrote it, the length and the sha256 of the rest) followed by the
arrays of a pytree as Equinox serialises them (`.npy` format, pickle refused). It is written beside its final name,
flushed to disk, and renamed, so that a file with a final name is complete. The structure of the pytree is not stored:
whoever reads a file passes a pytree of the same structure, and shapes and dtypes are checked against it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import RunError

__all__ = ["Checkpoints", "read_checkpoint", "write_atomically", "write_checkpoint"]

FORMAT = "elbax-checkpoint"
VERSION = 1


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that its name never stands for anything but the whole content.

    Raises:
        RunError: if it cannot be written; what stood there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"'{path}' could not be written ({error.strerror or error}). Nothing that was saved before is lost. Free "
            "some space or choose another folder, then resume."
        ) from error


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _storable(tree: Any) -> Any:
    """Random keys as their words; everything else as it is."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _restored(stored: Any, like: Any) -> Any:
    def one(x: Any, example: Any) -> Any:
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(example)) if _is_key(example) else x

    return jax.tree.map(one, stored, like)


def signature(tree: Any) -> list[str]:
    """Path, shape and dtype of every array of a pytree: what a file must match to be read into it."""
    leaves = jax.tree_util.tree_leaves_with_path(_storable(tree))
    return [f"{jax.tree_util.keystr(path)}: {jnp.shape(x)} {jnp.result_type(x)}" for path, x in leaves]


def write_checkpoint(path: Path, tree: Any, about: Mapping[str, Any]) -> None:
    """Writes a pytree of arrays, with a JSON-able description."""
    payload = io.BytesIO()
    eqx.tree_serialise_leaves(payload, _storable(tree))
    body = payload.getvalue()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "about": dict(about),
        "arrays": signature(tree),
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    write_atomically(path, json.dumps(header).encode() + b"\n" + body)


def read_checkpoint(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a pytree of the structure of `like`, and its description.

    Raises:
        RunError: if the file is missing, truncated, corrupt, of a later version, or of another model.
    """
    header, body = _open(path)
    expected, found = signature(like), header["arrays"]
    if expected != found:
        differs = next((f"{a} (here) and {b} (file)" for a, b in zip(expected, found, strict=False) if a != b), "")
        raise RunError(
            f"checkpoint '{path}' belongs to another model or optimiser: it holds {len(found)} arrays, {len(expected)} "
            f"are expected here{'; the first difference is between ' + differs if differs else ''}. Resume with the "
            "configuration that wrote it."
        )
    stored = eqx.tree_deserialise_leaves(io.BytesIO(body), _storable(like))
    return _restored(stored, like), header["about"]


def _open(path: Path) -> tuple[dict[str, Any], bytes]:
    others = [p.name for p in sorted(path.parent.glob("*.ckpt")) if p != path]
    fix = f"Delete it and resume from an earlier one ({', '.join(others)})." if others else "Delete it and start again."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"checkpoint '{path}' cannot be read ({error.strerror or error}). {fix}") from error
    line, _, body = content.partition(b"\n")
    header = _header(line)
    if header is None:
        raise RunError(f"'{path}' is not an elbax checkpoint, or its beginning is damaged. {fix}")
    if header["version"] > VERSION:
        raise RunError(
            f"checkpoint '{path}' was written by a later version of elbax (format {header['version']}; this one reads "
            f"up to {VERSION}). Upgrade elbax."
        )
    if len(body) != header["length"]:
        raise RunError(f"checkpoint '{path}' is truncated: {len(body)} of {header['length']} bytes are there. {fix}")
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise RunError(f"checkpoint '{path}' is corrupt: its checksum is not the one it was written with. {fix}")
    return header, body


def _header(line: bytes) -> dict[str, Any] | None:
    try:
        header = json.loads(line)
    except ValueError:
        return None
    return header if isinstance(header, dict) and header.get("format") == FORMAT else None


class Checkpoints:
    """The checkpoints of a run: a folder with the last few states.

    Attributes:
        folder: where they lie.
        keep: how many are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep

    def paths(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*.ckpt")) if self.folder.is_dir() else []

    def latest(self) -> Path | None:
        """The newest checkpoint, or `None`."""
        paths = self.paths()
        return paths[-1] if paths else None

    def save(self, step: int, tree: Any, about: Mapping[str, Any]) -> Path:
        """Writes the state after a step, then removes the oldest ones."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"folder '{self.folder}' cannot be made ({error.strerror or error}).") from error
        path = self.folder / f"step-{step:010d}.ckpt"
        write_checkpoint(path, tree, about)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def about(self) -> dict[str, Any] | None:
        """The description in the newest checkpoint, or `None` if there is none."""
        newest = self.latest()
        return None if newest is None else _open(newest)[0]["about"]

    def load(self, like: Any, path: Path | None = None) -> tuple[Any, dict[str, Any]]:
        """The state of the newest checkpoint, or of a given one."""
        chosen = self.latest() if path is None else path
        if chosen is None:
            raise RunError(f"there is no checkpoint in '{self.folder}' to resume from. Start without resume.")
        return read_checkpoint(chosen, like)


def as_numpy(tree: Any) -> Any:
    """Arrays copied to the host, random keys as their words."""
    return jax.tree.map(np.asarray, _storable(tree))
