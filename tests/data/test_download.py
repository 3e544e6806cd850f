"""Downloads from a server on this machine: whole and checked, or nothing at all."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io

from elbax.data import download
from elbax.data.download import fetch
from elbax.data.files import PublishedFile
from elbax.errors import DataError

CONTENT = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
PACKED = gzip.compress(CONTENT)


def published(*addresses):
    return PublishedFile("x.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), addresses)


def test_fetch(server, tmp_path):
    server.content["x.gz"] = PACKED
    seen = []
    folder = tmp_path / "new" / "folder"
    path = fetch(published(server.base + "x.gz"), folder, "set", lambda *call: seen.append(call))
    assert path.read_bytes() == PACKED
    assert list(folder.iterdir()) == [path]
    assert [name for name, _, _ in seen] == ["x.gz"] * len(seen)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert seen[-1][1:] == (len(PACKED), len(PACKED))


def test_nothing_is_printed(server, tmp_path, capfd):
    server.content["x.gz"] = PACKED
    fetch(published(server.base + "x.gz"), tmp_path, "set")
    assert capfd.readouterr() == ("", "")


def test_mat_is_recognised_by_its_values(server, tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    scipy.io.savemat(tmp_path / "made.mat", {"X": values})
    server.content["x.mat"] = (tmp_path / "made.mat").read_bytes()
    sha256 = hashlib.sha256(values.tobytes()).hexdigest()
    file = PublishedFile("x.mat", 12, sha256, (server.base + "x.mat",), variables=("X",))
    assert fetch(file, tmp_path / "cache", "set").name == "x.mat"


@pytest.mark.parametrize("first", ["missing", "wrong", "short", "page"])
def test_the_next_address_is_tried(server, tmp_path, first):
    server.content |= {"x.gz": PACKED, "wrong": gzip.compress(b"other"), "short": PACKED, "page": b"<html>"}
    server.cut["short"] = "end"
    path = fetch(published(server.base + first, server.base + "x.gz"), tmp_path, "set")
    assert server.asked == [first, "x.gz"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", r"'x.gz' could not be fetched from .*missing \(HTTP 404 Not Found\).*ELBAX_DATA_DIR"),
        ("wrong", "sent another file: its content has sha256"),
        ("damaged", "sent something else, or only a part of it"),
        ("short", "ended after 100,0.. of 200,0.. bytes"),
        ("long", "sent more than the expected 200,000 bytes"),
    ],
)
def test_a_bad_file_does_not_stay(server, tmp_path, name, message):
    server.content |= {"wrong": gzip.compress(b"other"), "damaged": PACKED[:-9], "short": PACKED, "long": bytes(2**21)}
    server.cut["short"] = "end"
    with pytest.raises(DataError, match=message) as caught:
        fetch(published(server.base + name), tmp_path, "set")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_server(tmp_path):
    with pytest.raises(DataError, match="Connection refused"):
        fetch(published("http://127.0.0.1:9/x.gz"), tmp_path, "set")


def test_a_server_that_falls_silent(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.2)
    server.content["x.gz"], server.cut["x.gz"] = PACKED, "hang"
    with pytest.raises(DataError, match="timed out"):
        fetch(published(server.base + "x.gz"), tmp_path, "set")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file' cannot be written to .*ELBAX_CACHE_DIR"):
        fetch(published(server.base + "x.gz"), tmp_path / "file", "set")


def test_a_full_disk(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    server.content["x.gz"] = PACKED
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left on device.*Make room"):
        fetch(published(server.base + "x.gz"), tmp_path, "set")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(server, tmp_path):
    def stop(name, done, total):
        raise KeyboardInterrupt

    server.content["x.gz"] = PACKED
    with pytest.raises(KeyboardInterrupt):
        fetch(published(server.base + "x.gz"), tmp_path, "set", stop)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_replaced_only_by_a_good_one(server, tmp_path):
    (tmp_path / "x.gz").write_bytes(b"damaged")
    server.content["wrong"] = b"other"
    with pytest.raises(DataError):
        fetch(published(server.base + "wrong"), tmp_path, "set")
    assert (tmp_path / "x.gz").read_bytes() == b"damaged"
    server.content["x.gz"] = PACKED
    assert fetch(published(server.base + "x.gz"), tmp_path, "set").read_bytes() == PACKED


def test_a_killed_process_leaves_no_file_under_the_name(server, tmp_path):
    server.content["x.gz"], server.cut["x.gz"] = PACKED, "hang"
    code = (
        "import sys; from pathlib import Path; from elbax.data.download import fetch; "
        "from elbax.data.files import PublishedFile; "
        "fetch(PublishedFile('x.gz', int(sys.argv[1]), sys.argv[2], (sys.argv[3],)), Path(sys.argv[4]), 'set')"
    )
    file = published(server.base + "x.gz")
    arguments = [str(file.num_bytes), file.sha256, file.addresses[0], str(tmp_path)]
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as process:
        assert server.sent_half.wait(30)
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (part,) = tmp_path.iterdir()
    assert part.suffix == ".part"
    # Fresh parts may belong to a process that lives; old ones go with the next download.
    os.utime(part, (0, 0))
    server.cut.clear()
    path = fetch(file, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [path]
