"""What all figures share."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from elbax.report.figures.base import POINTS, WIDTH, drawable, finished, new_figure, png, steps_axis, styled, svg


def plot(label="a"):
    with styled():
        figure = new_figure(2.0)
        axes = figure.add_subplot()
        axes.plot([0, 12_000], [-1.0, 2.0], label=label)
        steps_axis(axes)
        figure.legend(loc="outside upper left")
        return finished(figure)


def test_the_same_figure_gives_the_same_bytes():
    assert svg(plot()) == svg(plot())
    assert png(plot()) == png(plot())
    figure = plot()
    assert svg(figure) == svg(figure)


def test_nothing_about_the_writer_is_in_the_files():
    assert "metadata" not in svg(plot())
    assert b"Matplotlib" not in png(plot())
    assert "Matplotlib" not in svg(plot())


def test_the_readers_settings_play_no_part_and_stay():
    plain = svg(plot())
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert svg(plot()) == plain
        assert mpl.rcParams["font.size"] == 30


def test_text_stays_text_and_is_no_formula():
    text = svg(plot(r"$\frac{a}{<b>}$ & co"))
    assert r"$\frac{a}{&lt;b&gt;}$ &amp; co" in text
    assert ">10,000<" in text


def test_size():
    assert f'viewBox="0 0 {WIDTH * POINTS:g} {2.0 * POINTS:g}"' in svg(plot())


def test_only_finite_numbers_are_drawn():
    np.testing.assert_array_equal(drawable([1, np.inf, -np.inf, np.nan]), [1.0, np.nan, np.nan, np.nan])


def test_names_in_any_script():
    text = svg(plot("潜在变量 🎲 \u0301"))
    assert "潜在变量 🎲" in text
    assert png(plot("潜在变量"))


def test_pyplot_is_not_needed():
    code = "import sys; from elbax.report.sections import SECTIONS; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("height", [1.0, 4.0])
def test_pixels(height):
    with styled():
        figure = finished(new_figure(height))
    assert png(figure, dpi=100)[16:24] == int(WIDTH * 100).to_bytes(4, "big") + int(height * 100).to_bytes(4, "big")
