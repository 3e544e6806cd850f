"""A published file, from wherever it can be had: the user's folder, the cache, its official address."""

from __future__ import annotations

from pathlib import Path

from elbax.data import files
from elbax.data.catalogue import AMBIGUOUS, NamedSet
from elbax.data.download import Progress, fetch
from elbax.data.files import Found, PublishedFile
from elbax.data.locate import cache_folder, find
from elbax.errors import DataError


def lookup(named: NamedSet, file: PublishedFile) -> Path | None:
    """Where a copy lies on this machine, or `None`."""
    return find(file, named.name, AMBIGUOUS)


def obtain(named: NamedSet, file: PublishedFile, *, download: bool, on_progress: Progress | None = None) -> Found:
    """The checked content of a file of a named set.

    Raises:
        DataError: if there is no copy and none is to be or can be fetched, or the copy is damaged.
    """
    path = lookup(named, file)
    if path is None and not (download and file.addresses):
        raise DataError(f"{named.name}: {not_found(named, file)}")
    if path is None:
        path = fetch(file, cache_folder(named.name), named.name, on_progress)
    return files.read(file, path, named.name)


def renew(named: NamedSet, file: PublishedFile, on_progress: Progress | None = None) -> Path:
    """A copy with the right content: the one that is there, else a fetched one, in place of a damaged one of the cache.

    Raises:
        DataError: if it cannot be fetched, or a copy outside the cache is damaged: that one is the user's to delete.
    """
    path = lookup(named, file)
    if path is not None and path.parent != cache_folder(named.name):
        return files.read(file, path, named.name).path
    if path is not None and files.is_copy(file, path):
        return path
    return fetch(file, cache_folder(named.name), named.name, on_progress)


def not_found(named: NamedSet, file: PublishedFile) -> str:
    """What to do about a file that is nowhere."""
    if not file.addresses:
        return f"'{file.name}' is part of the package, but not there: install elbax again."
    return (
        f"'{file.name}' is not on this machine. Fetch it with `elbax.data.get({named.name!r})`, or let ELBAX_DATA_DIR "
        f"name a folder that has '{named.name}/{file.name}'."
    )
