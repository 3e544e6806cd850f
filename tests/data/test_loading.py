"""`load`: names and paths, and the data sets they give."""

import numpy as np
import pytest

from elbax.data import FileOrder, Shuffled, load
from elbax.data.catalogue import CATALOGUE
from elbax.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (100, 4, 3), np.uint8)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "faces.npy", IMAGES)
    return tmp_path / "faces.npy"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "no data set or file 'mnits'. Did you mean 'mnist'"),
        ("MNIST", "Did you mean 'mnist'"),
        ("fashion-mnist", "Did you mean 'fashion_mnist'"),
        ("xyzzy", "Did you mean 'digits' or 'mnist' or"),
        ("", "no data set or file ''"),
        ("./mnits", "does not exist"),
        ("faces.npy", "does not exist"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(DataError, match=message):
        load(name)


def test_a_name_wins_over_a_file_unless_a_path_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    np.save(tmp_path / "digits" / "x.npy", IMAGES)
    assert load("digits").num_pixels == 64
    assert load("./digits").num_pixels == load(tmp_path / "digits").num_pixels == 12


def test_own_file(path):
    data = load(str(path))
    assert (data.name, data.image_shape, data.num_levels) == ("faces", (4, 3), 255)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [80, 10, 10]
    rows = np.concatenate([data.train, data.valid, data.test])
    np.testing.assert_array_equal(rows, IMAGES.reshape(100, 12)[np.random.default_rng(0).permutation(100)])
    assert data.split.endswith("permuted with seed 0")
    assert data.files[0].path == path


def test_own_file_in_file_order_stays_mapped(path):
    data = load(path, order=FileOrder(), num_valid=5, num_test=7)
    assert all(isinstance(split, np.memmap) for split in (data.train, data.valid, data.test))
    np.testing.assert_array_equal(data.valid, IMAGES.reshape(100, 12)[88:93])
    assert data.intensity(data.train[:2]).max() <= 1


def test_a_large_map_is_cut_in_file_order(path, monkeypatch):
    monkeypatch.setattr("elbax.data.loading.MAX_SHUFFLED_BYTES", 1000)
    data = load(path)
    assert isinstance(data.train, np.memmap)
    assert data.split.endswith("in file order")
    with pytest.raises(DataError, match=r"GiB, more than is copied into memory to be permuted: leave order"):
        load(path, order=Shuffled(0))


def test_a_map_larger_than_a_gibibyte_is_neither_read_nor_copied(tmp_path):
    # A sparse file: 1.5 GiB that occupy nothing on the disk, beginning with something bright.
    rows = 2048
    big = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (rows, 1024, 768))
    big[0] = 255
    del big
    data = load(tmp_path / "big.npy")
    assert isinstance(data.train, np.memmap)
    assert sum(map(len, (data.train, data.valid, data.test))) == rows
    assert data.files[0].sha256 is None
    assert "sha256 not computed" in data.description()


def test_own_file_with_splits(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=np.arange(100), x_test=IMAGES[:9], y_test=np.arange(9))
    data = load(tmp_path / "x.npz", num_valid=20)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [80, 20, 9]
    assert data.labels is not None
    np.testing.assert_array_equal(data.train, IMAGES.reshape(100, 12)[data.labels.train])


def test_booleans_are_levels(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES > 128)
    data = load(tmp_path / "x.npy")
    assert (data.train.dtype, data.num_levels) == (np.uint8, 1)


def test_num_levels_and_image_shape_of_own_files(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(17, dtype=np.uint8).repeat(12).reshape(17, 12))
    data = load(tmp_path / "x.npy", num_levels=16, image_shape=(3, 4))
    assert (data.num_levels, data.image_shape) == (16, (3, 4))
    assert data.intensity(np.array([16], np.uint8)) == 1


def test_different_pixels_in_the_splits(tmp_path):
    np.savez(tmp_path / "x.npz", train=IMAGES, test=IMAGES[:, :2])
    with pytest.raises(DataError, match=r"different sizes \(train 4 x 3, test 2 x 3\)"):
        load(tmp_path / "x.npz")


def test_options_that_a_named_set_does_not_take():
    with pytest.raises(DataError, match="digits states its own num_levels and image_shape"):
        load("digits", num_levels=255)
    with pytest.raises(DataError, match="digits states its own num_levels and image_shape"):
        load("digits", image_shape=(8, 8))


def test_other_sizes_and_order_of_a_named_set():
    data = load("digits", order=Shuffled(1), num_valid=100)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [1397, 100, 300]


def test_without_download_a_missing_set_says_how_to_get_it():
    with pytest.raises(DataError, match=r"mnist: 'train-images-idx3-ubyte.gz' is not on this machine.*get\('mnist'\)"):
        load("mnist", download=False)


def test_a_damaged_file_of_the_user_is_named(user_dir):
    (user_dir / "freyfaces").mkdir()
    (user_dir / "freyfaces" / "frey_rawface.mat").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"freyfaces/frey_rawface.mat' is a truncated or damaged MATLAB file"):
        load("freyfaces")


def test_every_named_set_loads_or_says_why_not():
    for name in CATALOGUE.keys() - {"digits"}:
        with pytest.raises(DataError, match="is not on this machine"):
            load(name, download=False)
