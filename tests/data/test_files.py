"""Published files: the sum is of the content, not of the container."""

import gzip
import hashlib

import numpy as np
import pytest
import scipy.io

from elbax.data.files import PublishedFile, inspect, is_copy, read
from elbax.errors import DataError

CONTENT = bytes(range(200))
FILE = PublishedFile("x.bin.gz", 200, hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("stored", [CONTENT, gzip.compress(CONTENT, 1), gzip.compress(CONTENT, 9, mtime=0)])
def test_any_container_of_the_content_is_a_copy(tmp_path, stored):
    (tmp_path / "x").write_bytes(stored)
    found = inspect(FILE, tmp_path / "x")
    assert found.problem is None
    assert (found.num_bytes, found.sha256) == (200, FILE.sha256)


def test_other_content_is_refused_with_both_sums(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT[:-1])
    sha256 = hashlib.sha256(CONTENT[:-1]).hexdigest()
    message = rf"set: '.*x' is not the published file: .* {sha256} \(199 bytes\), expected {FILE.sha256} \(200 bytes\)"
    with pytest.raises(DataError, match=message + r"\. Delete this file"):
        read(FILE, tmp_path / "x", "set")


def test_longer_content_is_refused_without_reading_it_all(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(bytes(10**7)))
    found = inspect(FILE, tmp_path / "x")
    assert found.num_bytes == 201
    with pytest.raises(DataError, match="more than the expected 200 bytes"):
        read(FILE, tmp_path / "x", "set")


def test_mat_is_compared_by_values(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    file = PublishedFile("x.mat", 12, hashlib.sha256(values.tobytes()).hexdigest(), variables=("X",))
    for name, array in (("a.mat", values), ("b.mat", values.astype(float))):
        scipy.io.savemat(tmp_path / name, {"X": array, "other": name}, do_compression=name == "a.mat")
        assert is_copy(file, tmp_path / name)
    scipy.io.savemat(tmp_path / "c.mat", {"X": values.T})
    assert not is_copy(file, tmp_path / "c.mat")


def test_an_unreadable_file_is_no_copy(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(CONTENT)[:-9])
    assert not is_copy(FILE, tmp_path / "x")
