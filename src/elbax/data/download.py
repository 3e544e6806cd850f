"""Fetching a published file: into a part file, checked, and only then under its name.

A part file lies in the folder of the final one, so that the last step is one atomic rename: whoever looks sees no file
or a right one, whatever happens in between. This module prints nothing; progress goes to a callback.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path

from elbax.data.files import PublishedFile, inspect
from elbax.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called as `on_progress(file name, bytes so far, bytes in all or None)`; raising in it stops the download."""

_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 2**16
_MARGIN = 2**20  # gzip, or the other variables of a .mat, add less than this
_STALE = 3600.0  # seconds after which a part file belongs to a process that was killed


def fetch(file: PublishedFile, folder: Path, set_name: str, on_progress: Progress | None = None) -> Path:
    """Fetches a file from the first of its addresses that has it.

    Args:
        file: what to fetch, and what its content must be.
        folder: where it goes; it is made if need be.
        set_name: the data set, as a message shall name it.
        on_progress: told about every block.

    Returns:
        The path of the file, whose content has been checked.

    Raises:
        DataError: if no address has the right file, or the folder cannot be written to. Nothing is left behind.
    """
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder, file.name)
        for address in file.addresses:
            part = folder / f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
            try:
                _receive(file, address, part, on_progress)
                os.replace(part, folder / file.name)
                return folder / file.name
            except _Refused as error:
                failures.append(f"{address} ({error})")
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{set_name}: '{folder}' cannot be written to ({error.strerror or error}). Make room or correct its "
            "permissions, or let ELBAX_CACHE_DIR name another folder."
        ) from error
    raise DataError(
        f"{set_name}: '{file.name}' could not be fetched from {', nor from '.join(failures)}. Fetch it by other means "
        f"and put it into '{folder}', or let ELBAX_DATA_DIR name a folder that has '{set_name}/{file.name}'."
    )


class _Refused(Exception):
    """An address that does not give the file; the next one may."""


def _receive(file: PublishedFile, address: str, part: Path, on_progress: Progress | None) -> None:
    done = 0
    with part.open("xb") as out, contextlib.closing(_blocks(address)) as blocks:
        for block, total in blocks:
            out.write(block)
            done += len(block)
            if done > file.num_bytes + _MARGIN:
                raise _Refused(f"sent more than the expected {file.num_bytes:,} bytes")
            if on_progress is not None:
                on_progress(file.name, done, total)
        out.flush()
        os.fsync(out.fileno())
    try:
        problem = inspect(file, part).problem
    except DataError as error:
        raise _Refused("sent something else, or only a part of it") from error
    if problem:
        raise _Refused(f"sent another file: {problem}")


def _blocks(address: str) -> Generator[tuple[bytes, int | None]]:
    """What an address sends, with the length it announces; its failures become `_Refused`, those of the disk do not."""
    request = urllib.request.Request(address, headers={"User-Agent": "elbax"})
    done = 0
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            announced = response.headers.get("Content-Length", "")
            total = int(announced) if announced.isdecimal() else None
            while block := response.read(_BLOCK):
                done += len(block)
                yield block, total
    except urllib.error.HTTPError as error:
        error.close()
        raise _Refused(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Refused(str(getattr(error, "reason", error)) or type(error).__name__) from error
    if total is not None and done < total:
        raise _Refused(f"ended after {done:,} of {total:,} bytes")


def _remove_stale(folder: Path, name: str) -> None:
    for part in folder.glob(f".{name}.*.part"):
        with contextlib.suppress(FileNotFoundError):  # another process may have just finished it
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()
