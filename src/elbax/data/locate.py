"""Where data lie: the folder of the user, then the cache.

| place                                                    |                                                   |
|----------------------------------------------------------|---------------------------------------------------|
| `$ELBAX_DATA_DIR/<set>/<file>`, `$ELBAX_DATA_DIR/<file>` | the user's; elbax never writes there              |
| `<cache>/data/<set>/<file>`                              | what elbax has fetched; `<cache>` is the first of |
|                                                          | `$ELBAX_CACHE_DIR`, `$XDG_CACHE_HOME/elbax` and   |
|                                                          | `~/.cache/elbax`                                  |
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path

from elbax.data.files import PublishedFile, is_copy
from elbax.errors import DataError

BUNDLED = Path(__file__).parent / "bundled"


def data_dir() -> Path | None:
    """The folder that `ELBAX_DATA_DIR` names, or `None`.

    Raises:
        DataError: if the variable names no folder; looking elsewhere would hide a slip of the pen.
    """
    if not (text := os.environ.get("ELBAX_DATA_DIR")):
        return None
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise DataError(f"ELBAX_DATA_DIR is '{text}', which is no folder: correct or unset the variable.")
    return folder


def cache_dir() -> Path:
    """The folder for what elbax fetches; it need not exist yet."""
    if text := os.environ.get("ELBAX_CACHE_DIR"):
        return Path(text).expanduser()
    # A relative XDG_CACHE_HOME is to be taken as unset, says the XDG base directory specification.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "elbax"


def cache_folder(set_name: str) -> Path:
    """The folder of the cache for one data set."""
    return cache_dir() / "data" / set_name


def find(file: PublishedFile, set_name: str, ambiguous: Container[str] = ()) -> Path | None:
    """The first copy of a published file on this machine, by name; `None` if there is none.

    Args:
        file: what is looked for.
        set_name: the data set it belongs to.
        ambiguous: names that files of several sets have. Such a file lying directly in `ELBAX_DATA_DIR` is taken only
            if its content is the one looked for, since nothing else tells of which set it is.
    """
    for path in _places(file, set_name):
        directly = path.parent == data_dir()
        if path.is_file() and not (directly and file.name in ambiguous and not is_copy(file, path)):
            return path
    return None


def _places(file: PublishedFile, set_name: str) -> Iterator[Path]:
    user = data_dir() if file.addresses else None
    folders = [user / set_name, user] if user else []
    folders.append(cache_folder(set_name) if file.addresses else BUNDLED)
    for folder in folders:
        for name in dict.fromkeys((file.name, file.plain_name, f"{file.plain_name}.gz")):
            yield folder / name
