"""Which rows go where, with the labels beside them."""

import numpy as np
import pytest

from elbax.data.split import Cut, FileOrder, Parts, Shuffled, divide
from elbax.errors import DataError

ROWS = np.arange(20)[:, None]


def test_file_order_is_train_valid_test_without_a_copy():
    images, labels, how = divide(Parts({"train": ROWS}, {"train": ROWS[:, 0]}), Cut(None, 3, 5), Cut(), "x")
    np.testing.assert_array_equal(np.concatenate(images), ROWS)
    assert [len(split) for split in images] == [12, 3, 5]
    assert all(np.shares_memory(split, ROWS) for split in images)
    assert labels is not None
    np.testing.assert_array_equal(labels.test, ROWS[15:, 0])
    assert how == "the last 3 valid and 5 test rows were cut off train, with its rows in file order"


def test_shuffled_is_a_partition_with_labels_alongside():
    images, labels, how = divide(Parts({"train": ROWS}, {"train": ROWS[:, 0]}), Cut(Shuffled(4), 3, 5), Cut(), "x")
    assert labels is not None
    assert sorted(np.concatenate(images)[:, 0]) == list(range(20))
    for split, of_split in zip(images, labels, strict=True):
        np.testing.assert_array_equal(split[:, 0], of_split)
    np.testing.assert_array_equal(np.concatenate(images)[:, 0], np.random.default_rng(4).permutation(20))
    assert "permuted with seed 4" in how


def test_sizes_and_order_default_to_a_tenth_and_the_default_order():
    images, _, how = divide(Parts({"train": ROWS}), Cut(), Cut(Shuffled(1)), "x")
    assert [len(split) for split in images] == [16, 2, 2]
    assert "seed 1" in how
    assert [len(s) for s in divide(Parts({"train": ROWS[:3]}), Cut(), Cut(), "x").images] == [1, 1, 1]


@pytest.mark.parametrize("stated", [("valid",), ("test",), ("valid", "test")])
def test_stated_splits_are_kept(stated):
    parts = Parts({"train": ROWS} | dict.fromkeys(stated, -ROWS))
    images, _, _ = divide(parts, Cut(), Cut(None, 4, 4), "x")
    for split in stated:
        assert getattr(images, split) is parts.images[split]
    assert len(images.train) == 20 - 4 * (2 - len(stated))


def test_all_stated_are_not_permuted():
    images, _, how = divide(Parts(dict.fromkeys(("train", "valid", "test"), ROWS)), Cut(), Cut(Shuffled(0)), "x")
    np.testing.assert_array_equal(images.train, ROWS)
    assert how == "train, valid and test as the files state them"


ALL = Parts(dict.fromkeys(("train", "valid", "test"), ROWS))


@pytest.mark.parametrize(
    ("parts", "asked", "message"),
    [
        (ALL, Cut(num_valid=3), "x comes with its own valid split: leave num_valid=3 out"),
        (ALL, Cut(num_test=3), "own test split"),
        (ALL, Cut(order=FileOrder()), r"leave order=FileOrder\(\) out"),
        (Parts({"train": ROWS}), Cut(num_valid=0), "num_valid=0, but every split needs at least one row"),
        (Parts({"train": ROWS}), Cut(num_test=-1), "num_test=-1"),
        (
            Parts({"train": ROWS}),
            Cut(None, 10, 10),
            "20 rows to train on: taking 10 for valid and 10 for test leaves none",
        ),
        (Parts({"train": ROWS[:2]}), Cut(), "2 rows to train on"),
    ],
)
def test_errors(parts, asked, message):
    with pytest.raises(DataError, match=message):
        divide(parts, asked, Cut(), "x")
