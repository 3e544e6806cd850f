"""`available`, `check`, `get`: the named sets, whether they lie on this machine, and whether they are whole."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from elbax.data import files
from elbax.data.catalogue import CATALOGUE, NamedSet
from elbax.data.download import Progress
from elbax.data.files import PublishedFile
from elbax.data.loading import load, resolve
from elbax.data.obtain import lookup, not_found, renew
from elbax.data.split import Order
from elbax.errors import DataError


@dataclass(frozen=True)
class Entry:
    """A named set, and whether it lies on this machine.

    Attributes:
        name: for `load`.
        what: one line for people.
        image_shape: height and width.
        num_levels: the level of intensity 1.
        sizes: train, valid and test, unless others are asked for.
        order: of the rows before splits are cut off; `None` if the files state all splits.
        licence: of the images.
        citation: how to cite them.
        address: the official one.
        folder: where its first file lies, or `None`.
        missing: the files that are not on this machine.
    """

    name: str
    what: str
    image_shape: tuple[int, int]
    num_levels: int
    sizes: tuple[int, int, int]
    order: Order | None
    licence: str
    citation: str
    address: str
    folder: Path | None
    missing: tuple[str, ...]

    @property
    def found(self) -> bool:
        """Whether all of its files are on this machine. Their content is the question of `check`."""
        return not self.missing


def available() -> list[Entry]:
    """The named sets in the order of the catalogue, and where each lies."""
    return [_entry(named) for named in CATALOGUE.values()]


@dataclass(frozen=True)
class FileReport:
    """What `check` found about one file.

    Attributes:
        name: as published, or of the user's file.
        path: where it lies, or `None` if it is nowhere.
        num_bytes: of its content, or `None` if that cannot be read.
        sha256: of its content; see `DataFile`.
        problem: what is wrong and what to do, or `None`.
    """

    name: str
    path: Path | None
    num_bytes: int | None
    sha256: str | None
    problem: str | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


def check(name_or_path: str | Path) -> tuple[FileReport, ...]:
    """Looks at each file of a named set, or at a user's file or folder, and reports instead of raising.

    Raises:
        DataError: if there is no set of this name.
    """
    target = resolve(name_or_path)
    if isinstance(target, NamedSet):
        return tuple(_report(target, file) for file in target.files)
    try:
        sources = load(target).files
    except DataError as error:
        return (FileReport(target.name, target, None, None, str(error)),)
    return tuple(FileReport(file.path.name, file.path, file.num_bytes, file.sha256, None) for file in sources)


def get(name: str, on_progress: Progress | None = None) -> tuple[Path, ...]:
    """Fetches into the cache what is missing of a named set, and replaces what is damaged there.

    Args:
        name: of `available()`.
        on_progress: called as `on_progress(file name, bytes so far, bytes in all or None)`.

    Returns:
        The path of each file; their content has been checked.

    Raises:
        DataError: if there is no such set, a file cannot be fetched, or one in `ELBAX_DATA_DIR` is damaged (elbax never
            writes there).
    """
    named = resolve(name)
    if isinstance(named, Path):
        raise DataError(f"'{name}' is a path: only the sets of `elbax.data.available()` can be fetched.")
    return tuple(renew(named, file, on_progress) for file in named.files)


def _entry(named: NamedSet) -> Entry:
    paths = {file.name: lookup(named, file) for file in named.files}
    shared = {f.name: getattr(named, f.name) for f in fields(Entry) if hasattr(named, f.name)}
    folder = next((path.parent for path in paths.values() if path is not None), None)
    return Entry(**shared, folder=folder, missing=tuple(name for name, path in paths.items() if path is None))


def _report(named: NamedSet, file: PublishedFile) -> FileReport:
    path = lookup(named, file)
    if path is None:
        return FileReport(file.name, None, None, None, not_found(named, file))
    try:
        found = files.inspect(file, path)
    except DataError as error:
        return FileReport(file.name, path, None, None, str(error))
    problem = files.advice(found, named.name) if found.problem else None
    return FileReport(file.name, path, found.num_bytes, found.sha256, problem)
