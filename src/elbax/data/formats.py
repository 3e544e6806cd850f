"""Readers of the usual container formats: idx, amat, npy, npz, mat; idx and amat also gzipped.

A reader returns what the file holds and checks what the container promises (magic number, lengths, a complete stream);
whether the values are images is the question of `elbax.data.arrays`. Nothing is ever unpickled: a pickle runs code.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.io
from jaxtyping import Shaped

from elbax.errors import DataError

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def uncompressed(path: Path, max_bytes: int | None = None) -> bytes:
    """Content of a file, gunzipped if the file is gzipped, whatever its name says.

    Args:
        path: the file.
        max_bytes: reading stops one byte after this many, so that a wrong file cannot fill the memory.

    Raises:
        DataError: if the file cannot be opened, or its gzip stream is cut short or damaged.
    """
    limit = -1 if max_bytes is None else max_bytes + 1
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(0)
                return file.read(limit)
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as stream:
                return stream.read(limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"'{path}' is a truncated or damaged gzip file ({error}). Delete this file and fetch it again."
        ) from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}. Check its permissions.") from error


def parse_idx(content: bytes, where: str) -> np.ndarray:
    """An array in idx format: two zero bytes, type, number of axes, big-endian lengths, values.

    Args:
        content: the uncompressed bytes.
        where: the file, as a message shall name it.

    Returns:
        A read-only array in the byte order of this machine.

    Raises:
        DataError: for another magic number, or a number of values that is not the one of the header.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise DataError(
            f"{where} is no idx file: it begins with {content[:4].hex(' ') or 'nothing'}, where 00 00, a type (08 for "
            "unsigned bytes) and the number of axes are expected. Delete it and fetch it again, or correct its name."
        )
    num_axes, dtype = content[3], np.dtype(_IDX_TYPES[content[2]])
    start = 4 + 4 * num_axes
    if len(content) < start:
        raise DataError(f"{where} ends inside its idx header: delete it and fetch it again.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", num_axes, 4))
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - start
    if expected != found:
        raise DataError(
            f"{where} is not complete: its idx header promises shape {shape}, that is {expected:,} bytes, but "
            f"{found:,} follow. Delete it and fetch it again."
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def parse_amat(content: bytes, where: str) -> Shaped[np.ndarray, "rows columns"]:
    """A table of numbers as text, one row a line. Whole numbers from 0 to 255 come back as unsigned bytes.

    Args:
        content: the uncompressed text.
        where: the file, as a message shall name it.

    Raises:
        DataError: if the text is no table of numbers.
    """
    if (digits := _single_digits(content)) is not None:
        return digits
    if not content.strip():
        raise DataError(f"{where} is empty: an amat file holds one row of numbers a line.")
    try:
        table = np.loadtxt(io.BytesIO(content), np.float64, ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{where} is no table of numbers ({_one_line(error)}): an amat file holds one row of numbers a line."
        ) from error
    whole = np.isfinite(table).all() and (table == np.floor(table)).all() and table.min() >= 0 and table.max() <= 255
    # Zeros and ones written as 0.0 and 1.0 are levels, too; nothing is lost.
    return table.astype(np.uint8) if whole else table


def _single_digits(content: bytes) -> np.ndarray | None:
    """The table, if every value is one digit followed by one blank or line end: a hundred times faster than parsing."""
    columns, odd = divmod(content.find(b"\n") + 1, 2)
    if odd or columns == 0 or len(content) % (2 * columns):
        return None
    pairs = np.frombuffer(content, np.uint8).reshape(-1, columns, 2)
    digits, blanks = pairs[..., 0] - np.uint8(ord("0")), pairs[..., 1]
    regular = (blanks[:, :-1] == ord(" ")).all() and (blanks[:, -1] == ord("\n")).all() and digits.max() <= 9
    return digits if regular else None


def read_npy(path: Path) -> np.ndarray:
    """An array of an npy file, memory-mapped and read-only.

    Raises:
        DataError: if the file is cut short, is no npy file, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            if (start := file.read(6)) != b"\x93NUMPY":
                raise DataError(
                    f"'{path}' is no npy file: it begins with {start.hex(' ') or 'nothing'}. Save it with `np.save`."
                )
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except DataError:
        raise
    except (ValueError, EOFError, OSError) as error:
        raise _npy_error(f"'{path}'", error) from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, by key.

    Raises:
        DataError: if the file is damaged, is no npz file, or holds Python objects.
    """
    key = None
    try:
        with zipfile.ZipFile(path):
            pass
        with np.load(path, allow_pickle=False) as archive:
            arrays = {}
            for key in archive.files:
                arrays[key] = archive[key]
            return arrays
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"'{path}' is a truncated or damaged npz file ({error}). Save it again with `np.savez_compressed`."
        ) from error
    except (ValueError, EOFError, OSError) as error:
        raise _npy_error(f"'{path}'" if key is None else f"'{path}' (key {key!r})", error) from error


def _npy_error(where: str, error: Exception) -> DataError:
    if isinstance(error, OSError):
        return DataError(f"{where} cannot be read: {error.strerror or error}. Check its permissions.")
    if "Python objects" in str(error) or "Object arrays" in str(error):
        return DataError(
            f"{where} holds Python objects, which are stored as a pickle; unpickling runs code, so elbax never does. "
            "Save an array of one shape and one numeric type, for instance `np.save(path, np.stack(images))`."
        )
    return DataError(f"{where} is truncated or damaged ({error}). Save it again with `np.save`.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def read_mat(path: Path, variables: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """The numeric arrays of a MATLAB file (version 4 to 7.2), by name, with MATLAB's axes.

    Args:
        path: the file.
        variables: names that must be there; all numeric variables if `None`.

    Raises:
        DataError: if the file is damaged, has version 7.3 (HDF5), or a variable is missing.
    """
    try:
        loaded = scipy.io.loadmat(path, variable_names=variables, appendmat=False)
    except NotImplementedError as error:
        raise DataError(f"'{path}' has MATLAB version 7.3 (HDF5): save it with `save(..., '-v7')`.") from error
    except Exception as error:  # scipy raises many types on damaged files
        raise DataError(
            f"'{path}' is a truncated or damaged MATLAB file ({_one_line(error)}). Delete it and fetch it again."
        ) from error
    arrays = {k: v for k, v in loaded.items() if isinstance(v, np.ndarray) and v.dtype.kind in "buif"}
    for name in variables or ():
        if name not in arrays:
            raise DataError(f"'{path}' has no numeric variable {name!r}: delete it and fetch it again.")
    return arrays
