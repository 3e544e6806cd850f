import errno
import os

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from elbax.errors import RunError
from elbax.fit.checkpoint import Checkpoints, read_checkpoint, write_atomically, write_checkpoint

TREE = {
    "w": jnp.arange(6.0).reshape(2, 3),
    "key": jr.key(3),
    "n": jnp.int32(4),
    "half": jnp.ones(2, jnp.bfloat16),
    "none": None,
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, TREE, {"step": 7, "note": "é"})
    return path


def test_round_trip(path):
    tree, about = read_checkpoint(path, TREE)
    assert about == {"step": 7, "note": "é"}
    np.testing.assert_array_equal(tree["w"], TREE["w"])
    assert tree["w"].dtype == TREE["w"].dtype
    assert tree["half"].dtype == jnp.bfloat16
    assert jr.key_data(tree["key"]).tolist() == jr.key_data(TREE["key"]).tolist()
    assert tree["none"] is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-5], "is truncated"),
        (lambda b: b[: len(b) // 4], "is truncated|not an elbax checkpoint"),
        (lambda b: b[:-5] + b"xxxxx", "is corrupt: its checksum"),
        (lambda b: b"", "not an elbax checkpoint"),
        (lambda b: b"garbage" + b, "not an elbax checkpoint"),
        (lambda b: b.replace(b'"version": 1', b'"version": 9'), "written by a later version"),
    ],
    ids=["truncated", "header", "flipped", "empty", "foreign", "future"],
)
def test_damaged_files(path, damage, message):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=message) as caught:
        read_checkpoint(path, TREE)
    assert str(path) in str(caught.value)


def test_damage_names_the_other_checkpoints(path):
    write_checkpoint(path.with_name("b.ckpt"), TREE, {})
    path.write_bytes(b"")
    with pytest.raises(RunError, match=r"resume from an earlier one \(b.ckpt\)"):
        read_checkpoint(path, TREE)


def test_missing(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_checkpoint(tmp_path / "no.ckpt", TREE)
    with pytest.raises(RunError, match="there is no checkpoint"):
        Checkpoints(tmp_path).load(TREE)


def test_other_shapes(path):
    with pytest.raises(RunError, match=r"the first difference is between \['w'\]: \(3, 2\)"):
        read_checkpoint(path, TREE | {"w": jnp.zeros((3, 2))})


def test_pickle_is_never_loaded(path):
    header, _, _ = path.read_bytes().partition(b"\n")
    assert b"pickle" not in header
    array = np.array([object()], dtype=object)
    with pytest.raises(ValueError, match="pickle"):
        np.save(path.with_name("x.npy"), array, allow_pickle=False)


class TestFullDisk:
    def test_nothing_is_lost(self, tmp_path, monkeypatch):
        path = tmp_path / "a.ckpt"
        write_checkpoint(path, TREE, {"step": 1})
        before = path.read_bytes()

        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"No space left on device.*Nothing that was saved before is lost"):
            write_checkpoint(path, TREE, {"step": 2})
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]

    def test_unwritable_folder(self, tmp_path):
        blocked = tmp_path / "file"
        blocked.write_text("")
        with pytest.raises(RunError, match="cannot be made"):
            Checkpoints(blocked / "inside").save(1, TREE, {})


def test_atomic_write_leaves_no_parts(tmp_path):
    write_atomically(tmp_path / "a.txt", b"one")
    write_atomically(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 1
