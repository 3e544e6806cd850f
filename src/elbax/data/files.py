"""Published files: what their content must be, and whether a copy has it.

Sums are of the content, never of the container: the same images come gzipped by different programs, plain, or in a
`.mat` whose header holds a date. For gzipped and plain files the content is the uncompressed bytes, for `.mat` the
values of the variables that are used, one after the other in row-major order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from elbax.data import formats
from elbax.errors import DataError

Content = bytes | dict[str, np.ndarray]


@dataclass(frozen=True)
class PublishedFile:
    """A file at an official address.

    Attributes:
        name: its name there. A copy may lie gzipped or gunzipped, under the name with or without `.gz`.
        num_bytes: of the content.
        sha256: of the content.
        addresses: where it can be fetched, in order of preference; none for a file of the package.
        variables: of a `.mat` file: those that are used.
    """

    name: str
    num_bytes: int
    sha256: str
    addresses: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def plain_name(self) -> str:
        """The name without `.gz`."""
        return self.name.removesuffix(".gz")


@dataclass(frozen=True)
class Found:
    """The content of a copy, with its sum; `problem` says what is wrong with it, or is `None`."""

    path: Path
    content: Content = field(repr=False)
    num_bytes: int
    sha256: str
    problem: str | None


def inspect(file: PublishedFile, path: Path) -> Found:
    """Reads a copy and compares its content with what was published.

    Raises:
        DataError: if the container itself cannot be read.
    """
    if file.variables:
        content: Content = formats.read_mat(path, file.variables)
        blocks = [_as_bytes(content[name]) for name in file.variables]
    else:
        content = formats.uncompressed(path, max_bytes=file.num_bytes)
        blocks = [content]
    num_bytes, sha256 = sum(map(len, blocks)), _sha256(blocks)
    problem = None
    if num_bytes > file.num_bytes:
        problem = f"its content has more than the expected {file.num_bytes:,} bytes"
    elif sha256 != file.sha256:
        problem = (
            f"its content has sha256 {sha256} ({num_bytes:,} bytes), expected {file.sha256} ({file.num_bytes:,} bytes)"
        )
    return Found(path, content, num_bytes, sha256, problem)


def is_copy(file: PublishedFile, path: Path) -> bool:
    """Whether the content of a file is the published one."""
    try:
        return inspect(file, path).problem is None
    except DataError:
        return False


def read(file: PublishedFile, path: Path, set_name: str) -> Found:
    """The content of a copy that is as published.

    Raises:
        DataError: naming the file to delete, if it is not.
    """
    found = inspect(file, path)
    if found.problem:
        raise DataError(advice(found, set_name))
    return found


def advice(found: Found, set_name: str) -> str:
    """What is wrong with a copy, and what to do about it."""
    return (
        f"{set_name}: '{found.path}' is not the published file: {found.problem}. Delete this file; the next "
        f"`elbax.data.get({set_name!r})` fetches it again."
    )


def parse(file: PublishedFile, found: Found) -> np.ndarray | Mapping[str, np.ndarray]:
    """The array of an idx or amat file, the variables of a `.mat` file."""
    if isinstance(found.content, dict):
        return found.content
    reader = formats.parse_amat if file.plain_name.endswith(".amat") else formats.parse_idx
    return reader(found.content, f"'{found.path}'")


def _sha256(blocks: list[bytes]) -> str:
    sha256 = hashlib.sha256()
    for block in blocks:
        sha256.update(block)
    return sha256.hexdigest()


def _as_bytes(values: np.ndarray) -> bytes:
    # MATLAB writes whole numbers as doubles or as bytes: the levels are the same.
    return np.ascontiguousarray(values.astype(np.uint8)).tobytes()
