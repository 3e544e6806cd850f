"""Checks on arrays: each refusal says what was found and what to do."""

import numpy as np
import pytest

from elbax.data import arrays
from elbax.data.arrays import check_images, check_labels, find_image_shape, find_num_levels, flat, row_chunks
from elbax.errors import DataError


@pytest.mark.parametrize("max_bytes", [1, 24, 100, 10**6])
def test_chunks_cover_every_row_once(max_bytes):
    chunks = list(row_chunks((10, 3), itemsize=8, max_bytes=max_bytes))
    assert [i for rows in chunks for i in range(rows.start, rows.stop)] == list(range(10))
    assert all(rows.stop - rows.start <= max(1, max_bytes // 24) for rows in chunks)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 4), np.uint8),
        np.ones((3, 4, 5), bool),
        np.linspace(0, 1, 12, dtype=np.float16).reshape(3, 4),
        np.linspace(0, 1, 12).reshape(3, 2, 2),
    ],
)
def test_images_are_accepted(images):
    check_images(images, "'x.npy'")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 4), np.int64), r"'x.npy' holds int64: .*astype\('uint8'\)"),
        (np.zeros((3, 4), object), "holds object"),
        (np.zeros((3, 4), "U3"), "holds <U3"),
        (np.zeros((3, 4), complex), "holds complex128"),
        (np.zeros((3, 4), np.dtype(float).newbyteorder()), "byte order"),
        (np.zeros(3, np.uint8), r"shape \(3,\): images are \[num_data, height, width\]"),
        (np.zeros((3, 4, 5, 1), np.uint8), r"shape \(3, 4, 5, 1\).*reshape"),
        (np.zeros((0, 4), np.uint8), r"is empty \(shape \(0, 4\)\)"),
        (np.zeros((4, 0), np.uint8), "at least one image and one pixel"),
        (np.full((3, 4), 255.0), "floats from 255 to 255, .*Divide by the largest level"),
        (np.array([[0.0, -0.5]]), r"floats from -0.5 to 0, but an intensity lies in \[0, 1\]"),
    ],
)
def test_images_are_refused(images, message):
    with pytest.raises(DataError, match=message) as caught:
        check_images(images, "'x.npy'")
    assert "\n" not in str(caught.value)


def test_non_finite_values_are_counted_across_blocks(monkeypatch, tmp_path):
    whole = arrays.row_chunks
    monkeypatch.setattr(arrays, "row_chunks", lambda shape, itemsize: whole(shape, itemsize=itemsize, max_bytes=1))
    images = np.full((50, 3, 4), 0.5, np.float32)
    images[17, 1, 2], images[17, 2, 0], images[40, 0, 0] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(DataError, match=r"3 NaN or infinite values among 600, .*\(nan\) at index \[17, 1, 2\]"):
        check_images(mapped, "'x.npy'")


def test_the_largest_floats_are_out_of_range_not_infinite():
    with pytest.raises(DataError, match=r"floats from 1.5e\+308 to 1.5e\+308"):
        check_images(np.full((2, 2), 1.5e308), "x")


def test_one_infinite_value():
    with pytest.raises(DataError, match=r"1 NaN or infinite value among 4, .*\(inf\) at index \[1, 0\]"):
        check_images(np.array([[0, 0], [np.inf, 0]]), "'x.npy'")


def test_flat_does_not_copy(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 2, 3), bool))
    rows = flat(np.load(tmp_path / "x.npy", mmap_mode="r"), "'x.npy'")
    assert isinstance(rows, np.memmap)
    assert (rows.shape, rows.dtype) == ((5, 6), np.uint8)


def test_flat_reads_column_major_arrays_in_memory_by_rows():
    images = np.arange(30, dtype=np.uint8).reshape(5, 2, 3)
    np.testing.assert_array_equal(flat(np.asfortranarray(images), "x"), images.reshape(5, 6))


def test_flat_keeps_column_major_maps_of_rows(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(np.arange(30, dtype=np.uint8).reshape(5, 6)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(flat(mapped, "'x.npy'"), mapped)
    np.testing.assert_array_equal(flat(mapped, "'x.npy'")[1], np.arange(6, 12))


def test_flat_refuses_column_major_maps(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(np.zeros((5, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"column-major .*ascontiguousarray"):
        flat(np.load(tmp_path / "x.npy", mmap_mode="r"), "'x.npy'")


@pytest.mark.parametrize(
    ("images", "given", "expected"),
    [
        (np.array([[0, 255]], np.uint8), None, 255),
        (np.array([[0, 100]], np.uint8), None, 255),
        (np.array([[0, 1]], np.uint8), None, 1),
        (np.array([[0, 16]], np.uint8), 16, 16),
        (np.array([[0, 9]], np.uint8), 255, 255),
        (np.array([[0.0, 1.0]]), None, 1),
        (np.array([[0.0, 1.0]]), 1, 1),
    ],
)
def test_num_levels(images, given, expected):
    assert find_num_levels({"train": images}, given, "x") == expected


def test_num_levels_is_that_of_all_splits():
    assert (
        find_num_levels({"train": np.zeros((2, 2), np.uint8), "test": np.full((2, 2), 200, np.uint8)}, None, "x") == 255
    )


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        ({"train": np.array([[17]], np.uint8)}, 16, "holds level 17, above num_levels=16"),
        ({"train": np.array([[17]], np.uint8)}, 0, "pass 1 to 255"),
        ({"train": np.array([[17]], np.uint8)}, 256, "pass 1 to 255"),
        ({"train": np.array([[0.5]])}, 255, "leave num_levels=255 out"),
        ({"train": np.array([[0.5]]), "test": np.zeros((1, 1), np.uint8)}, None, "train float64, test uint8"),
    ],
)
def test_num_levels_errors(images, given, message):
    with pytest.raises(DataError, match=message):
        find_num_levels(images, given, "x")


def test_dark_bytes_are_a_warning():
    with pytest.warns(UserWarning, match="no level above 16.*num_levels=16"):
        assert find_num_levels({"train": np.array([[0, 16]], np.uint8)}, None, "x") == 255


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [((5, 3, 4), None, (3, 4)), ((5, 784), None, (28, 28)), ((5, 560), None, (1, 560)), ((5, 560), (28, 20), (28, 20))],
)
def test_image_shape(shape, given, expected):
    assert find_image_shape(np.zeros(shape), given, "x") == expected


def test_image_shape_error():
    with pytest.raises(DataError, match=r"560 pixels per image: image_shape=\(28, 28\) needs 784"):
        find_image_shape(np.zeros((5, 560)), (28, 28), "x")


def test_labels():
    assert check_labels(np.zeros((1, 7)), 7, "y").shape == (7,)
    with pytest.raises(DataError, match=r"y has shape \(7, 10\), but there are 7 images.*argmax"):
        check_labels(np.zeros((7, 10)), 7, "y")
