"""`Dataset`: intensities, preparation, description."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elbax.data import AsIs, Dynamic, Fixed, Threshold, load


@pytest.fixture
def digits():
    return load("digits")


def test_intensity_of_numpy_and_jax(digits):
    expected = digits.train[:5] / 16
    host = digits.intensity(digits.train[:5])
    device = jax.jit(digits.intensity)(jnp.asarray(digits.train[:5]))
    assert isinstance(host, np.ndarray)
    assert host.dtype == device.dtype == np.float32
    np.testing.assert_allclose(host, expected)
    np.testing.assert_allclose(device, expected)


def test_prepared_fixed_is_binary_and_independent_between_splits(digits):
    fixed = digits.prepared(Fixed(2))
    assert fixed.num_levels == 1
    assert fixed.labels is digits.labels
    for split in ("train", "valid", "test"):
        levels, before = getattr(fixed, split), getattr(digits, split)
        assert levels.dtype == np.uint8
        assert (levels[before == 0] == 0).all()
        assert (levels[before == 16] == 1).all()
    # Where both splits have intensity 1/2, shared random numbers would give the same pixel every time.
    both = (digits.train[:200] == 8) & (digits.valid == 8)
    same = fixed.train[:200][both] == fixed.valid[both]
    assert 0 < same.sum() < both.sum()


def test_prepared_threshold(digits):
    np.testing.assert_array_equal(digits.prepared(Threshold(0.25)).test, digits.test > 4)


@pytest.mark.parametrize("choice", [Dynamic(), AsIs()])
def test_prepared_without_work_is_the_set_itself(digits, choice):
    assert digits.prepared(choice) is digits


def test_description_names_sizes_licence_and_sums(digits):
    text = digits.description()
    assert "8 x 8 pixels, levels 0..16" in text
    assert "train 1,297 · valid 200 · test 300" in text
    assert "CC BY 4.0" in text
    assert "10.24432/C50P49" in text
    assert all(file.sha256 in text for file in digits.files)
    assert repr(digits) == ("Dataset('digits', train=1,297, valid=200, test=300, image_shape=(8, 8), num_levels=16)")


def test_description_of_floats(tmp_path):
    np.save(tmp_path / "x.npy", np.full((10, 4), 0.5))
    assert "floats in [0, 1]" in load(tmp_path / "x.npy").description()
    assert load(tmp_path / "x.npy").num_pixels == 4
