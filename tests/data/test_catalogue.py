"""The named sets as their authors publish them. All but `digits` need the benchmark files."""

import hashlib

import numpy as np
import pytest

from elbax.data import FileOrder, Shuffled, load
from elbax.data.catalogue import AMBIGUOUS, CATALOGUE
from elbax.data.locate import BUNDLED
from elbax.errors import DataError


def counts(labels):
    return np.bincount(np.concatenate(labels)).tolist()


def test_entries_are_complete():
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert entry.licence
        assert entry.citation
        assert entry.address.startswith("http")
        assert all(len(file.sha256) == 64 for file in entry.files)
        assert all(a.endswith(file.name) for file in entry.files for a in file.addresses)
    assert "train-images-idx3-ubyte.gz" in AMBIGUOUS


def test_digits_are_bundled_with_their_licence():
    data = load("digits")
    assert (len(data.train), len(data.valid), len(data.test)) == (1297, 200, 300)
    assert (data.image_shape, data.num_levels, data.train.dtype) == ((8, 8), 16, np.uint8)
    assert data.labels is not None
    assert counts(data.labels) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert max(split.max() for split in (data.train, data.valid, data.test)) == 16
    # The first image of the file, a zero: its first two rows.
    assert data.train[0, :16].tolist() == [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
    licence = (BUNDLED / "LICENCE.txt").read_text()
    assert "CC BY 4.0" in licence
    assert "Alpaydin" in licence


def test_bundled_files_are_reproducible():
    # gzip writes a time into bytes 4..8: zero, so that the file does not change when it is made again.
    for path in BUNDLED.glob("*.gz"):
        assert path.read_bytes()[4:8] == bytes(4)


@pytest.mark.parametrize(
    ("name", "means", "md5"),
    [
        # MD5 sums of the uncompressed contents, as they are published.
        ("mnist", (0.1307, 0.1325), "6bbc9ace898e44ae57da46a324031adb"),
        ("fashion_mnist", (0.2860, 0.2868), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    ],
)
@pytest.mark.usefixtures("real")
def test_mnist_like(name, means, md5):
    data = load(name, download=False)
    assert (len(data.train), len(data.valid), len(data.test)) == (59_600, 400, 10_000)
    assert (data.image_shape, data.num_levels, data.train.dtype) == ((28, 28), 255, np.uint8)
    pool = np.concatenate([data.train, data.valid])
    assert pool.mean() / 255 == pytest.approx(means[0], abs=1e-4)
    assert data.test.mean() / 255 == pytest.approx(means[1], abs=1e-4)
    header = bytes([0, 0, 8, 3]) + np.array([60_000, 28, 28], ">u4").tobytes()
    assert hashlib.md5(header + pool.tobytes()).hexdigest() == md5
    assert data.labels is not None
    assert [len(labels) for labels in data.labels] == [59_600, 400, 10_000]


@pytest.mark.usefixtures("real")
def test_mnist_classes_and_other_sizes():
    data = load("mnist", num_valid=10_000, order=Shuffled(3), download=False)
    assert data.labels is not None
    assert (len(data.train), len(data.valid)) == (50_000, 10_000)
    assert counts(data.labels[:2]) == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts(data.labels[2:]) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.usefixtures("real")
def test_binarized_mnist():
    data = load("binarized_mnist", download=False)
    for split, size, mean in (("train", 50_000, 0.13056), ("valid", 10_000, 0.13113), ("test", 10_000, 0.13251)):
        levels = getattr(data, split)
        assert (levels.shape, levels.dtype, levels.max()) == ((size, 784), np.uint8, 1)
        assert levels.mean() == pytest.approx(mean, abs=1e-5)
    assert (data.labels, data.num_levels) == (None, 1)
    with pytest.raises(DataError, match="comes with its own valid split"):
        load("binarized_mnist", num_valid=400, download=False)


@pytest.mark.usefixtures("real")
def test_caltech101_silhouettes():
    data = load("caltech101_silhouettes", download=False)
    assert (len(data.train), len(data.valid), len(data.test)) == (4100, 2264, 2307)
    everything = np.concatenate([data.train, data.valid, data.test])
    assert everything.mean() == pytest.approx(0.5439, abs=1e-4)
    assert (everything[:, 0] == 1).all()
    assert data.labels is not None
    assert len(counts(data.labels)) == 102
    assert all(len(np.unique(labels)) > 95 for labels in data.labels)
    again, other = (load("caltech101_silhouettes", order=Shuffled(seed), download=False) for seed in (0, 1))
    np.testing.assert_array_equal(again.train, data.train)
    assert (other.train != data.train).any()


@pytest.mark.usefixtures("real")
def test_caltech101_silhouettes_stand_upright():
    # Class 2 is faces, which are taller than wide; the object is 0.
    data = load("caltech101_silhouettes", order=FileOrder(), download=False)
    assert data.labels is not None
    faces = data.train[data.labels.train == 2].reshape(-1, 28, 28) == 0
    height, width = faces.any(2).sum(1).mean(), faces.any(1).sum(1).mean()
    assert height > 1.1 * width


@pytest.mark.usefixtures("real")
def test_freyfaces():
    data = load("freyfaces", download=False)
    assert (len(data.train), len(data.valid), len(data.test)) == (1565, 200, 200)
    assert (data.image_shape, data.num_levels, data.labels) == ((28, 20), 255, None)
    everything = np.concatenate([data.train, data.valid, data.test])
    assert (everything.min(), everything.max()) == (8, 238)
    assert everything.mean() == pytest.approx(154.46, abs=0.01)
    # Neighbours in a column and in a row are alike; under the wrong number of columns those in a column would not be.
    images = everything.reshape(-1, 28, 20).astype(float)
    across, down = (np.abs(np.diff(images, axis=axis)).mean() for axis in (2, 1))
    assert down < 1.5 * across
