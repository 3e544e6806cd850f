"""Where data are looked for, and in which order."""

import gzip
import hashlib
from pathlib import Path

import pytest

from elbax.data import cache_dir, data_dir
from elbax.data.files import PublishedFile
from elbax.data.locate import find
from elbax.errors import DataError

CONTENT = b"some levels"
FILE = PublishedFile("x.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), ("http://nowhere/x.gz",))


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_cache_dir(monkeypatch, tmp_path, cache):
    assert cache_dir() == cache
    monkeypatch.delenv("ELBAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "elbax"
    for unset in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_dir() == Path.home() / ".cache" / "elbax"
    monkeypatch.setenv("ELBAX_CACHE_DIR", "~/mine")
    assert cache_dir() == Path.home() / "mine"


def test_data_dir(monkeypatch, user_dir):
    assert data_dir() == user_dir
    monkeypatch.delenv("ELBAX_DATA_DIR")
    assert data_dir() is None


def test_data_dir_that_does_not_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("ELBAX_DATA_DIR", str(tmp_path / "slip"))
    with pytest.raises(DataError, match=r"ELBAX_DATA_DIR is '.*slip', which is no folder"):
        find(FILE, "set")


def test_order_of_places(user_dir, cache):
    assert find(FILE, "set") is None
    places = [cache / "data" / "set" / "x.gz", user_dir / "x.gz", user_dir / "set" / "x", user_dir / "set" / "x.gz"]
    for path in places:
        put(path)
        assert find(FILE, "set") == path


@pytest.mark.parametrize("published", ["x.gz", "x"])
@pytest.mark.parametrize("lies", ["x.gz", "x"])
def test_with_and_without_gz(user_dir, published, lies):
    path = put(user_dir / "set" / lies, gzip.compress(CONTENT))
    assert find(PublishedFile(published, FILE.num_bytes, FILE.sha256, FILE.addresses), "set") == path


def test_a_name_shared_by_sets_is_taken_by_content_where_no_folder_tells(user_dir):
    path = put(user_dir / "x.gz", b"of another set")
    assert find(FILE, "set", ambiguous={"x.gz"}) is None
    assert find(FILE, "set") == path
    put(path)
    assert find(FILE, "set", ambiguous={"x.gz"}) == path
    inside = put(user_dir / "set" / "x.gz", b"damaged")
    assert find(FILE, "set", ambiguous={"x.gz"}) == inside
