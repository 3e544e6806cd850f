"""Choices of binarisation: their text, their distributions, host and device alike."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import binomtest

from elbax.data import AsIs, Dynamic, Fixed, Threshold, binarisation, binarise, prepare
from elbax.errors import DataError

# 17 levels, asymmetric on purpose: each level in its own column.
NUM_ROWS = 20_000
LEVELS = np.tile(np.arange(17, dtype=np.uint8), (NUM_ROWS, 1))


@pytest.mark.parametrize("text", ["dynamic", "fixed", "fixed:7", "threshold", "threshold:0.3", "none"])
def test_text_round_trip(text):
    assert str(binarisation(text)) == text
    assert binarisation(str(binarisation(text))) == binarisation(text)


def test_text_gives_the_choice():
    assert binarisation("fixed:7") == Fixed(7)
    assert binarisation(" Threshold:0.25 ") == Threshold(0.25)
    assert binarisation("fixed:0") == binarisation("fixed") == Fixed()
    assert (binarisation("dynamic"), binarisation("none")) == (Dynamic(), AsIs())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dinamic", "does not exist. Did you mean 'dynamic'"),
        ("treshold:0.2", "Did you mean 'threshold'"),
        ("zzz", "Did you mean 'dynamic' or 'fixed' or 'threshold' or 'none'"),
        ("", "does not exist"),
        ("dynamic:3", "takes no value"),
        ("fixed:x", "'x' is no number; write for example 'fixed:7'"),
        ("fixed:", "'' is no number"),
        ("fixed:-1", "whole number from 0 up"),
        ("threshold:much", "write for example 'threshold:0.3'"),
        ("threshold:1", "from 0 up to below 1"),
        ("threshold:nan", "from 0 up to below 1"),
    ],
)
def test_text_errors(text, message):
    with pytest.raises(DataError, match=message):
        binarisation(text)


def check_bernoulli(draws):
    """Each column against Bernoulli(level / 16), by exact binomial tests.

    False failure: below 1e-6 in all (1e-6 / 17 per column). Power: an error of one level in `num_levels` moves the mean
    of level 15 by 0.055, more than 15 standard errors beyond the limit: it passes with probability below 1e-20.
    """
    assert set(np.unique(draws)) == {0.0, 1.0}
    for level, ones in enumerate(draws.sum(0)):
        assert binomtest(int(ones), NUM_ROWS, level / 16).pvalue > 1e-6 / 17, level


def test_dynamic_has_the_mean_of_the_intensity():
    draws = jax.jit(lambda key, x: binarise(Dynamic(), key, x, 16))(jr.key(0), LEVELS)
    assert draws.dtype == jnp.float32
    check_bernoulli(np.asarray(draws))


def test_dynamic_draws_anew_for_each_key_and_pixel():
    # Correlations of 20,000 fair pairs have standard error 0.0071; 0.04 is 5.6 of them (false failure 2e-8 each), and
    # draws shared between keys or pixels would have correlation 1.
    half = np.full((NUM_ROWS, 2), 8, np.uint8)
    first, second = (np.asarray(binarise(Dynamic(), key, half, 16)) for key in jr.split(jr.key(0)))
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.04
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.04


def test_dynamic_is_the_same_for_the_same_key_under_jit_and_vmap():
    keys = jr.split(jr.key(1), 4)
    plain = jnp.stack([binarise(Dynamic(), key, LEVELS[0], 16) for key in keys])
    mapped = jax.jit(jax.vmap(lambda key: binarise(Dynamic(), key, LEVELS[0], 16)))(keys)
    np.testing.assert_array_equal(plain, mapped)


def test_choices_pass_through_jit_as_arguments():
    threshold = jax.jit(lambda choice, x: binarise(choice, None, x, 16))(Threshold(), LEVELS[0])
    np.testing.assert_array_equal(threshold, LEVELS[0] > 8)


def test_fixed_has_the_mean_of_the_intensity():
    levels, num_levels = prepare(Fixed(seed=3), LEVELS, 16)
    assert (levels.dtype, num_levels) == (np.uint8, 1)
    check_bernoulli(levels)


def test_fixed_is_one_draw_per_seed_and_stream():
    draw = prepare(Fixed(1), LEVELS, 16).levels
    np.testing.assert_array_equal(draw, prepare(Fixed(1), LEVELS, 16).levels)
    assert (draw != prepare(Fixed(2), LEVELS, 16).levels).any()
    assert (draw != prepare(Fixed(1), LEVELS, 16, stream=1).levels).any()


@pytest.mark.parametrize("choice", [Fixed(5), Threshold(0.4)])
@pytest.mark.parametrize("max_bytes", [1, 17 * 8 * 7, 2**12])
def test_blocks_do_not_change_the_result(choice, max_bytes):
    rows = LEVELS[:200]
    np.testing.assert_array_equal(
        prepare(choice, rows, 16, max_bytes=max_bytes).levels, prepare(choice, rows, 16).levels
    )


def test_prepare_from_a_map_into_a_map(tmp_path):
    np.save(tmp_path / "x.npy", LEVELS)
    source = np.load(tmp_path / "x.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "b.npy", "w+", np.uint8, LEVELS.shape)
    result = prepare(Fixed(5), source, 16, out=out).levels
    assert result is out
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), prepare(Fixed(5), LEVELS, 16).levels)


def test_fixed_then_binarise_is_the_draw():
    levels, num_levels = prepare(Fixed(), LEVELS, 16)
    np.testing.assert_array_equal(binarise(Fixed(), None, levels, num_levels), levels.astype(np.float32))


@pytest.mark.parametrize("at", [0.0, 0.2, 0.5, 0.6, 0.7])
@pytest.mark.parametrize(("num_levels", "dtype"), [(255, np.uint8), (16, np.uint8), (1, np.uint8), (1, np.float32)])
def test_threshold_agrees_on_host_and_device_for_every_level(at, num_levels, dtype):
    levels = np.linspace(0, 1, 511, dtype=dtype) if dtype is np.float32 else np.arange(num_levels + 1, dtype=dtype)
    host = prepare(Threshold(at), levels[None], num_levels)
    device = jax.jit(lambda x: binarise(Threshold(at), None, x, num_levels))(levels[None])
    again = binarise(Threshold(at), None, *host)
    np.testing.assert_array_equal(host.levels, device)
    np.testing.assert_array_equal(device, again)
    np.testing.assert_array_equal(
        host.levels[0],
        levels > levels.dtype.type(at)
        if dtype is np.float32
        else [level > at * num_levels for level in levels.tolist()],
    )


def test_threshold_keeps_binary_data_and_excludes_the_tie():
    np.testing.assert_array_equal(binarise(Threshold(0.9), None, np.array([0, 1], np.uint8), 1), [0, 1])
    np.testing.assert_array_equal(binarise(Threshold(), None, np.array([7, 8, 9], np.uint8), 16), [0, 0, 1])


def test_as_is_is_the_intensity():
    np.testing.assert_allclose(binarise(AsIs(), None, LEVELS[0], 16), np.arange(17) / 16)
    assert prepare(AsIs(), LEVELS, 16).levels is LEVELS
    assert prepare(Dynamic(), LEVELS, 16).levels is LEVELS


def test_floats_in_the_unit_interval_are_intensities():
    x = np.full((NUM_ROWS, 1), 0.25)
    assert set(np.unique(prepare(Fixed(), x, 1).levels)) == {0, 1}
    assert binarise(AsIs(), None, x, 1).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binarise(Dynamic(), None, LEVELS, 16), "pass a key"),
        (lambda: binarise(Fixed(), None, LEVELS, 16), "data.prepared"),
        (lambda: binarise(Fixed(), None, np.ones((2, 2), np.float32), 1), "data.prepared"),
        (lambda: prepare(Fixed(), LEVELS, 16, out=np.zeros((2, 2), np.uint8)), "cannot hold the result"),
        (lambda: prepare(Fixed(), LEVELS, 16, out=np.zeros(LEVELS.shape)), "float64 of shape"),
        (lambda: Fixed(-1), "whole number from 0 up"),
        (lambda: Threshold(1.0), "from 0 up to below 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("use", [lambda choice: binarise(choice, None, LEVELS, 16), lambda c: prepare(c, LEVELS, 16)])
def test_a_text_is_no_choice(use):
    # Where annotations are checked at run time, that check comes first and says the same.
    with pytest.raises((DataError, TypeError), match=r"'dynamic' is no binarisation|type-?check"):
        use("dynamic")
