"""Parts of the bound over training."""

import numpy as np
import pytest

from elbax.report.facts.curves import Curves, Part
from elbax.report.figures.base import svg
from elbax.report.figures.parts import axis_range, parts

STEPS = np.arange(10, 101, 10)
VALID = np.array([50, 100])


def made(*items):
    return Curves(STEPS, -STEPS.astype(float), np.ones(10), tuple(items), VALID, np.array([-2.0, -1.0]), 100)


FALLING = Part("first", np.linspace(100.0, 10.0, 10), np.array([60.0, 8.0]))
RISING = Part("second <b> $x$", np.linspace(0.0, 9.0, 10), None)


def test_one_panel_per_part():
    figure = parts(made(FALLING, RISING))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second <b> $x$"]
    first, second = figure.axes
    np.testing.assert_array_equal(first.lines[0].get_ydata(), FALLING.training)
    np.testing.assert_array_equal(first.lines[1].get_xdata(), VALID)
    np.testing.assert_array_equal(first.lines[1].get_ydata(), [60.0, 8.0])
    assert len(second.lines) == 1
    assert "second &lt;b&gt; $x$" in svg(figure)


def test_the_axis_shows_what_follows_the_transient():
    # Block 10 lies in the first tenth. After it: 90 to 10 in training, 60 and 8 in validation; a tenth of 82 around.
    assert axis_range(made(FALLING), FALLING) == pytest.approx((-0.2, 98.2))
    assert parts(made(FALLING)).axes[0].get_ylim() == pytest.approx((-0.2, 98.2))


def test_values_that_are_not_finite_leave_gaps():
    broken = Part("a", np.full(10, np.nan), np.array([np.inf, -np.inf]))
    assert axis_range(made(broken), broken) is None
    assert svg(parts(made(broken, FALLING)))
