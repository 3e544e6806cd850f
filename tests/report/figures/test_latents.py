"""Units of a latent site."""

from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from elbax.report.facts.units import Units
from elbax.report.figures.base import svg
from elbax.report.figures.latents import units_figure
from elbax.report.palette import LIGHT


def made(kl, variance):
    names = tuple(str(i) for i in range(len(kl)))
    return Units("z<&$", names, np.asarray(kl, float), np.asarray(variance, float), True, 0.01, 100)


def test_bars_dots_and_threshold():
    figure: Any = units_figure(made([2.0, 1.0, 0.1], [1.0, 0.5, 0.001]))
    upper, lower = figure.axes
    assert [bar.get_height() for bar in upper.patches] == [2.0, 1.0, 0.1]
    assert [to_hex(bar.get_facecolor()) for bar in upper.patches] == [LIGHT["blue"], LIGHT["blue"], LIGHT["faint"]]
    dots = lower.collections[0].get_offsets()
    np.testing.assert_allclose(dots, [[1, 1.0], [2, 0.5], [3, 0.001]])
    assert list(lower.lines[0].get_ydata()) == [0.01, 0.01]
    assert lower.get_yscale() == "log"


def test_labels_are_text():
    text = svg(units_figure(made([2.0, 1.0], [1.0, 0.5])))
    assert "units of z&lt;&amp;$, by decreasing KL" in text
    assert "mathdefault" not in text


def test_units_that_cannot_be_drawn():
    assert svg(units_figure(made([np.inf, np.nan, 1.0], [np.nan, 0.0, np.inf])))
    assert svg(units_figure(made([np.nan], [np.nan])))
    assert svg(units_figure(made([0.0], [0.0])))


def test_many_units():
    assert svg(units_figure(made(np.linspace(3, 0, 500), np.geomspace(1, 1e-6, 500))))
