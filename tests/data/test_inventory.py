"""`available`, `check`, `get`; with a small set of two files on a server of this machine."""

import dataclasses

import numpy as np
import pytest

from elbax.data import available, check, get, load
from elbax.data.catalogue import CATALOGUE, DIGITS
from elbax.data.locate import BUNDLED
from elbax.errors import DataError


@pytest.fixture
def online(server, monkeypatch):
    """`digits` as if it had to be fetched, under the name `online`."""
    server.content |= {path.name: path.read_bytes() for path in BUNDLED.glob("*.gz")}
    files = tuple(dataclasses.replace(file, addresses=(server.base + file.name,)) for file in DIGITS.files)
    monkeypatch.setitem(CATALOGUE, "online", dataclasses.replace(DIGITS, name="online", files=files))
    return server


def entry(name):
    return next(e for e in available() if e.name == name)


def wrong_with(report):
    assert report.problem is not None
    return report.problem


def test_available_lists_every_set():
    entries = available()
    assert [e.name for e in entries] == list(CATALOGUE)
    digits, mnist = entries[:2]
    assert (digits.found, digits.folder, digits.missing, digits.sizes) == (True, BUNDLED, (), (1297, 200, 300))
    assert (mnist.found, mnist.folder, len(mnist.missing)) == (False, None, 4)


@pytest.mark.usefixtures("real")
def test_available_finds_the_benchmark_files(real):
    assert all(e.found for e in available())
    assert entry("mnist").folder == real / "mnist"


def test_files_of_another_set_are_not_mistaken(real, tmp_path, monkeypatch):
    # Fashion-MNIST has the file names of MNIST: without a folder per set only the content tells them apart.
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (real / "fashion_mnist").glob("*.gz"):
        (flat / path.name).symlink_to(path)
    monkeypatch.setenv("ELBAX_DATA_DIR", str(flat))
    assert entry("fashion_mnist").found
    assert not entry("mnist").found
    assert len(load("fashion_mnist", download=False).test) == 10_000


def test_load_fetches_what_is_missing(online, cache):
    calls = []
    data = load("online", on_progress=lambda *call: calls.append(call))
    np.testing.assert_array_equal(data.train, load("digits").train)
    assert {name for name, _, _ in calls} == {file.name for file in DIGITS.files}
    assert entry("online").folder == cache / "data" / "online"
    online.asked.clear()
    load("online")
    assert online.asked == []


def test_get_fetches_only_what_is_missing(online, cache):
    paths = get("online")
    assert [path.name for path in paths] == [file.name for file in DIGITS.files]
    online.asked.clear()
    paths[1].unlink()
    get("online")
    assert online.asked == [paths[1].name]


def test_get_replaces_a_damaged_file_of_the_cache(online):
    path = get("online")[0]
    whole = path.read_bytes()
    for damaged in (whole[:-20], b"other"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"Delete this file"):
            load("online")
        assert not check("online")[0].ok
        get("online")
        assert path.read_bytes() == whole
        assert all(report.ok for report in check("online"))


def test_get_leaves_the_files_of_the_user_alone(online, user_dir):
    (user_dir / "online").mkdir()
    mine = user_dir / "online" / DIGITS.files[0].name
    mine.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"is not the published file: .*Delete this file"):
        get("online")
    assert mine.read_bytes() == b"damaged"
    mine.write_bytes((BUNDLED / mine.name).read_bytes())
    assert get("online")[0] == mine


def test_get_of_bundled_and_unknown_sets():
    assert [path.parent for path in get("digits")] == [BUNDLED, BUNDLED]
    with pytest.raises(DataError, match="Did you mean 'mnist'"):
        get("mnits")
    with pytest.raises(DataError, match=r"'./mine.npy' is a path"):
        get("./mine.npy")


def test_a_bundled_file_that_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr("elbax.data.locate.BUNDLED", tmp_path)
    with pytest.raises(DataError, match="is part of the package, but not there: install elbax again"):
        load("digits")


def test_check_reports_each_file(user_dir):
    assert [(report.ok, report.num_bytes) for report in check("digits")] == [(True, 115_024), (True, 1_805)]
    (missing,) = check("freyfaces")
    assert (missing.ok, missing.path, missing.sha256) == (False, None, None)
    assert "is not on this machine" in wrong_with(missing)
    (user_dir / "frey_rawface.mat").write_bytes(b"damaged")
    (damaged,) = check("freyfaces")
    assert damaged.path == user_dir / "frey_rawface.mat"
    assert "truncated or damaged" in wrong_with(damaged)


def test_check_of_a_wrong_file_says_what_to_delete(user_dir):
    labels = user_dir / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.parent.mkdir()
    labels.write_bytes(b"wrong")
    report = check("mnist")[3]
    assert (report.num_bytes, report.ok) == (5, False)
    assert f"'{labels}' is not the published file" in wrong_with(report)
    assert "Delete this file" in wrong_with(report)


def test_check_of_own_files(tmp_path):
    np.save(tmp_path / "x.npy", np.full((10, 4), 0.5))
    (report,) = check(tmp_path / "x.npy")
    assert report.ok
    assert report.sha256 is not None
    np.save(tmp_path / "x.npy", np.full((10, 4), 255.0))
    (report,) = check(tmp_path / "x.npy")
    assert "Divide by the largest level" in wrong_with(report)


def test_check_of_an_unknown_name():
    with pytest.raises(DataError, match="no data set or file 'mnits'"):
        check("mnits")
