"""Readers of containers: what they return, and what they say of damaged files."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import scipy.io

from elbax.data.formats import parse_amat, parse_idx, read_mat, read_npy, read_npz, uncompressed
from elbax.errors import DataError


def idx(array, code=0x08):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_uncompressed_looks_at_the_content_not_at_the_name(tmp_path):
    for name, stored in (("a.gz", b"plain"), ("b", gzip.compress(b"plain")), ("c.gz", gzip.compress(b"plain"))):
        (tmp_path / name).write_bytes(stored)
        assert uncompressed(tmp_path / name) == b"plain"


def test_uncompressed_stops_after_the_limit(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"0" * 10**6))
    assert len(uncompressed(tmp_path / "a.gz", max_bytes=10)) == 11


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:30], lambda b: b[:40] + b"!!!!" + b[44:]])
def test_damaged_gzip(tmp_path, damage):
    random = np.random.default_rng(0).integers(0, 256, 1000, np.uint8).tobytes()
    (tmp_path / "a.gz").write_bytes(damage(gzip.compress(random)))
    with pytest.raises(DataError, match=r"a.gz' is a truncated or damaged gzip file .* Delete this file"):
        uncompressed(tmp_path / "a.gz")


def test_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        uncompressed(tmp_path)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, np.uint8), (0x09, np.int8), (0x0B, np.int16), (0x0C, np.int32), (0x0D, np.float32), (0x0E, np.float64)],
)
def test_idx_types(code, dtype):
    array = np.arange(24).reshape(4, 3, 2).astype(dtype)
    result = parse_idx(idx(array, code), "x")
    assert result.dtype == dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


IMAGES = idx(np.zeros((4, 3, 2), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x is no idx file: it begins with nothing"),
        (b"\x00\x00", "begins with 00 00,"),
        (b"PNG!" + IMAGES, "begins with 50 4e 47 21, .*unsigned bytes"),
        (b"\0\0\x07\x03" + IMAGES[4:], "begins with 00 00 07 03"),
        (IMAGES[:10], "ends inside its idx header"),
        (IMAGES[:-1], r"promises shape \(4, 3, 2\), that is 24 bytes, but 23 follow"),
        (IMAGES + b"\0", "24 bytes, but 25 follow"),
    ],
)
def test_idx_errors(content, message):
    with pytest.raises(DataError, match=message):
        parse_idx(content, "x")


@pytest.mark.parametrize("text", [b"0 1 1\n1 0 9\n", b"0 1 1\r\n1 0 9\r\n", b"0 1 1\n1 0 9", b" 0  1 1.0\n1 0 9\n"])
def test_amat_levels(text):
    table = parse_amat(text, "x")
    assert table.dtype == np.uint8
    np.testing.assert_array_equal(table, [[0, 1, 1], [1, 0, 9]])


def test_amat_wide_levels_and_floats():
    np.testing.assert_array_equal(parse_amat(b"0 255\n17 3\n", "x"), np.array([[0, 255], [17, 3]], np.uint8))
    np.testing.assert_array_equal(parse_amat(b"0.5 nan\n1 -1\n", "x"), [[0.5, np.nan], [1, -1]])
    assert parse_amat(b"5\n", "x").shape == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "x is empty"),
        (b" \n\n", "x is empty"),
        (b"0 1\n1\n", "no table of numbers"),
        (b"a b\n", "no table of numbers"),
    ],
)
def test_amat_errors(text, message):
    with pytest.raises(DataError, match=message):
        parse_amat(text, "x")


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6))
    array = read_npy(tmp_path / "x.npy")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


class Bomb:
    """Unpickling this would raise AssertionError, not DataError."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_npy_errors(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"Python objects, .*unpickling runs code"):
        read_npy(path)
    np.save(path, np.zeros((10, 10)))
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_npy(path)
    path.write_bytes(whole[:50])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_npy(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="is no npy file: it begins with 80"):
        read_npy(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="it begins with nothing"):
        read_npy(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_npy(path)


def test_npz(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.arange(3), b=np.eye(2))
    arrays = read_npz(tmp_path / "x.npz")
    np.testing.assert_array_equal(arrays["a"], np.arange(3))
    np.testing.assert_array_equal(arrays["b"], np.eye(2))


def test_npz_errors(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, good=np.arange(100), bad=np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"\(key 'bad'\) holds Python objects"):
        read_npz(path)
    np.savez_compressed(path, a=np.random.default_rng(0).random(1000))
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(DataError, match="truncated or damaged npz"):
        read_npz(path)
    path.write_bytes(whole[:2000] + bytes(20) + whole[2020:])
    with pytest.raises(DataError, match="truncated or damaged npz"):
        read_npz(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="truncated or damaged npz"):
        read_npz(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_npz(path)


def test_mat_numeric_variables(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"X": np.eye(3), "names": np.array(["a", "bc"], object), "Y": [[1, 2, 3]]})
    arrays = read_mat(tmp_path / "x.mat")
    assert set(arrays) == {"X", "Y"}
    assert set(read_mat(tmp_path / "x.mat", ("X",))) == {"X"}


def test_mat_errors(tmp_path):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"X": np.random.default_rng(0).random((30, 30))}, do_compression=True)
    with pytest.raises(DataError, match="no numeric variable 'ff'"):
        read_mat(path, ("ff",))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="truncated or damaged MATLAB"):
        read_mat(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="truncated or damaged MATLAB"):
        read_mat(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    with pytest.raises(DataError, match=r"version 7.3"):
        read_mat(path)
