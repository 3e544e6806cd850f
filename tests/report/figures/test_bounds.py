"""Bounds over training: what is drawn where, and what the axis leaves out."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from elbax.report.facts.curves import Curves
from elbax.report.figures.base import svg
from elbax.report.figures.bounds import axis_floor, bounds
from elbax.report.palette import LIGHT

STEPS = np.arange(10, 201, 10)
NONE = np.array([])


def made(bound, std_error=None, valid_steps=NONE, valid_bound=NONE, best_step=200):
    error = np.full(len(STEPS), 0.1) if std_error is None else std_error
    return Curves(STEPS, np.asarray(bound, float), error, (), valid_steps, valid_bound, best_step)


RISING = np.concatenate([[-100.0, -50.0], np.linspace(-10.0, -8.0, 18)])


def lines(figure) -> dict:
    (axes,) = figure.axes
    assert isinstance(axes, Axes)
    return {line.get_label(): line for line in axes.lines}


def test_curves_are_where_the_numbers_are():
    found = lines(bounds(made(RISING, valid_steps=np.array([100, 200]), valid_bound=np.array([-9.5, -8.5]))))
    training = found["training, ± 2 s.e."]
    np.testing.assert_array_equal(training.get_xdata(), STEPS)
    np.testing.assert_array_equal(training.get_ydata(), RISING)
    assert training.get_color() == LIGHT["blue"]
    np.testing.assert_array_equal(found["validation"].get_ydata(), [-9.5, -8.5])
    assert (found["kept parameters"].get_xdata(), found["kept parameters"].get_ydata()) == ([200], [-8.5])


def test_the_band_is_two_standard_errors():
    errors = np.linspace(0.1, 0.3, len(STEPS))
    (band,) = bounds(made(RISING, errors)).axes[0].collections
    edges = np.asarray(band.get_paths()[0].vertices)
    for step, value, error in zip(STEPS, RISING, errors, strict=True):
        ends = sorted({round(y, 9) for x, y in edges if x == step})
        np.testing.assert_allclose([ends[0], ends[-1]], [value - 2 * error, value + 2 * error])


def test_the_transient_is_left_out():
    # After step 20 the lowest is -10 and the highest -8: the axis begins 15% of that range below.
    assert axis_floor(made(RISING)) == pytest.approx(-10.3)
    assert bounds(made(RISING)).axes[0].get_ylim()[0] == pytest.approx(-10.3)


def test_a_flat_curve_is_shown_whole():
    assert axis_floor(made(np.linspace(-10.0, -8.0, 20))) is None


def test_validation_counts_for_the_axis():
    found = axis_floor(made(RISING, valid_steps=np.array([10, 100]), valid_bound=np.array([-90.0, -12.0])))
    assert found == pytest.approx(-12.0 - 0.15 * 4.0)


def test_no_ring_where_nothing_was_kept():
    found = lines(bounds(made(RISING, valid_steps=np.array([100]), valid_bound=np.array([-9.0]), best_step=50)))
    assert "kept parameters" not in found


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_leave_gaps(bad):
    bound = RISING.copy()
    bound[5] = bad
    errors = np.full(20, 0.1)
    errors[7] = bad
    assert svg(bounds(made(bound, errors, np.array([100]), np.array([bad]))))
    assert svg(bounds(made(np.full(20, bad), errors)))
    assert axis_floor(made(np.full(20, bad))) is None


def test_one_block():
    one = Curves(np.array([10]), np.array([-5.0]), np.array([0.0]), (), NONE, NONE, 10)
    assert svg(bounds(one))
