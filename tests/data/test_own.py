"""A user's own files and folders."""

import gzip
import pickle

import numpy as np
import pytest
import scipy.io

from elbax.data.own import read_own
from elbax.errors import DataError

from .test_formats import idx

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 3), np.uint8)
LABELS = np.arange(10)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["x.npy", "test.npy", "labels.npy"])
def test_npy_of_any_name(tmp_path, name):
    np.save(tmp_path / name, IMAGES)
    parts, (file,) = read_own(tmp_path / name)
    assert isinstance(parts.images["train"], np.memmap)
    np.testing.assert_array_equal(parts.images["train"], IMAGES)
    assert file.num_bytes == (tmp_path / name).stat().st_size


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("images-idx3-ubyte", idx(IMAGES)),
        ("images-idx3-ubyte.gz", gzip.compress(idx(IMAGES))),
        ("images.idx3-ubyte", idx(IMAGES)),
        ("images.idx", idx(IMAGES)),
    ],
)
def test_idx(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    parts, (file,) = read_own(tmp_path / name)
    np.testing.assert_array_equal(parts.images["train"], IMAGES)
    assert file.num_bytes == len(idx(IMAGES))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_amat(tmp_path, pack):
    path = tmp_path / ("x.amat.gz" if pack is gzip.compress else "x.amat")
    path.write_bytes(pack(b"0 1 1\n1 0 0\n1 1 1\n"))
    np.testing.assert_array_equal(read_own(path)[0].images["train"], [[0, 1, 1], [1, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    "keys",
    [("train", "test"), ("x_train", "x_test"), ("train_images", "test_images"), ("images-training", "images-test")],
)
def test_npz_with_splits(tmp_path, keys):
    parts, _ = read_own(save(tmp_path / "x.npz", **{keys[0]: IMAGES, keys[1]: IMAGES[:3]}))
    assert {split: len(array) for split, array in parts.images.items()} == {"train": 10, "test": 3}
    assert parts.labels == {}


def test_npz_with_labels(tmp_path):
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES[:2], "y_val": LABELS[:2], "num_classes": 10}
    parts, _ = read_own(save(tmp_path / "x.npz", **arrays))
    assert set(parts.images) == set(parts.labels) == {"train", "valid"}
    np.testing.assert_array_equal(parts.labels["train"], LABELS)


@pytest.mark.parametrize("keys", [("data", "target"), ("X", "y"), ("pictures", "labels")])
def test_one_array_and_its_labels(tmp_path, keys):
    parts, _ = read_own(save(tmp_path / "x.npz", **dict(zip(keys, (IMAGES, LABELS), strict=True))))
    assert set(parts.images) == set(parts.labels) == {"train"}


def test_mat(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"X": IMAGES, "Y": LABELS, "names": np.array(["a"], object)})
    parts, _ = read_own(tmp_path / "x.mat")
    np.testing.assert_array_equal(parts.images["train"], IMAGES)
    np.testing.assert_array_equal(parts.labels["train"], LABELS)


def test_folder_in_the_layout_of_mnist(tmp_path):
    for split, rows in (("train", IMAGES), ("t10k", IMAGES[:4])):
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(rows)))
        labels = np.arange(len(rows), dtype=np.uint8)
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (tmp_path / "README.md").write_text("not data")
    parts, files = read_own(tmp_path)
    assert {split: len(array) for split, array in parts.images.items()} == {"train": 10, "test": 4}
    assert set(parts.labels) == {"train", "test"}
    assert len(files) == 4


def test_folder_of_maps_stays_mapped(tmp_path):
    for split in ("train", "valid", "test"):
        np.save(tmp_path / f"{split}.npy", IMAGES)
    parts, _ = read_own(tmp_path)
    assert all(isinstance(array, np.memmap) for array in parts.images.values())


def test_folder_with_one_file(tmp_path):
    save(tmp_path / "all.npz", train=IMAGES, test=IMAGES)
    assert set(read_own(tmp_path)[0].images) == {"train", "test"}


def test_a_missing_path_names_what_is_near(tmp_path):
    (tmp_path / "faces.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"face.npy' does not exist: the folder .* has 'faces.npy', but not 'face.npy'"):
        read_own(tmp_path / "face.npy")
    with pytest.raises(DataError, match="has nothing like 'zzzz'"):
        read_own(tmp_path / "zzzz" / "faces.npy")


def test_files_that_are_not_read(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="is a pickle; unpickling runs code"):
        read_own(tmp_path / "x.pkl")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"x.csv' has a format that is not known: elbax reads .npy, .npz"):
        read_own(tmp_path / "x.csv")
    (tmp_path / "x.npy.gz").write_bytes(b"")
    with pytest.raises(DataError, match="format that is not known"):
        read_own(tmp_path / "x.npy.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file that can be read"):
        read_own(tmp_path / "empty")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no array"),
        ({"test": IMAGES, "valid": IMAGES}, "no array is for training. Name the arrays 'train', 'valid' and 'test'"),
        ({"a": IMAGES, "b": IMAGES}, r"'a' \(10, 4, 3\), 'b' \(10, 4, 3\): 'a' and 'b' may be the same"),
        ({"x_train": IMAGES, "train_images": IMAGES}, "'x_train' and 'train_images' may be the same"),
        ({"x": IMAGES, "y": LABELS, "labels": LABELS}, "'y' and 'labels' may be the same"),
        ({"y_train": LABELS, "y_test": LABELS}, "no array is for training"),
        (
            {"train": IMAGES, "test": IMAGES, "y_train": LABELS},
            "images for train, test but labels for train: save labels",
        ),
        (
            {"train": IMAGES, "train_labels": LABELS[:9]},
            r"\('train_labels'\) has shape \(9,\), but there are 10 images",
        ),
        ({"train": IMAGES, "test": IMAGES[:0]}, r"x.npz' \('test'\) is empty"),
        ({"train": IMAGES.astype(int)}, "x.npz' holds int64"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        read_own(save(tmp_path / "x.npz", **arrays))
    assert "\n" not in str(caught.value)


def test_a_folder_wants_one_array_per_file(tmp_path):
    np.save(tmp_path / "test.npy", IMAGES)
    save(tmp_path / "train.npz", a=IMAGES, b=IMAGES)
    with pytest.raises(DataError, match=r"train.npz' holds 2 arrays \('a', 'b'\), .* each holds one"):
        read_own(tmp_path)


def test_very_large_files_are_not_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr("elbax.data.own._MAX_HASHED_BYTES", 100)
    np.save(tmp_path / "x.npy", IMAGES)
    _, (file,) = read_own(tmp_path / "x.npy")
    assert file.sha256 is None
