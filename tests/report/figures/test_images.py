"""Sheets of images: every pixel in its place."""

import numpy as np
import pytest

from elbax.report.facts.images import Interpolations, PriorSamples, Reconstructions, Traversals
from elbax.report.figures import images as draw
from elbax.report.figures.base import POINTS, WIDTH, png, svg

RNG = np.random.default_rng(0)
H, W = 4, 3


def tiles(*shape):
    return RNG.random((*shape, H, W))


def canvas(figure):
    return np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)


def blocks(figure):
    """The images of a sheet, row by row, cut out at their gaps."""
    full = canvas(figure)
    rows, columns = (~np.isnan(full)).any(1), (~np.isnan(full)).any(0)
    starts = [np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int)])) == 1) for line in (rows, columns)]
    return [[full[y : y + H, x : x + W] for x in starts[1]] for y in starts[0]]


def labels(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def marks(figure):
    """Where the marks of a sheet of traversals point, from top to bottom."""
    return [text.xy[0] for text in figure.axes[0].texts if text.get_text() == "▲"]


def test_reconstructions_stand_below_their_data():
    found = blocks(draw.reconstructions(Reconstructions(None, data := tiles(30), means := tiles(30))))
    assert (len(found), len(found[0])) == (6, 10)
    for i in range(30):
        np.testing.assert_array_equal(found[2 * (i // 10)][i % 10], data[i])
        np.testing.assert_array_equal(found[2 * (i // 10) + 1][i % 10], means[i])


def test_stored_data_stand_above():
    images = Reconstructions(tiles(30), tiles(30), tiles(30))
    figure = draw.reconstructions(images)
    found = blocks(figure)
    assert len(found) == 6
    for row, rows in enumerate((images.originals, images.data, images.means)):
        assert rows is not None
        np.testing.assert_array_equal(found[row + 3][4], rows[14])
    assert labels(figure) == ["stored", "seen", "recon."] * 2


@pytest.mark.parametrize("number", [1, 9, 10, 11])
def test_few_reconstructions(number):
    figure = draw.reconstructions(Reconstructions(None, tiles(number), tiles(number)))
    assert labels(figure) == ["data", "recon."] * (1 if number <= 10 else 2)
    assert np.isfinite(canvas(figure)).sum() == 2 * number * H * W


def test_prior_samples():
    found = blocks(draw.prior_samples(PriorSamples(means := tiles(60))))
    np.testing.assert_array_equal(found[3][7], means[37])


def test_interpolations_lie_between_their_ends():
    images = Interpolations(tiles(5, 2), tiles(5, 9), np.linspace(0, 1, 9))
    figure = draw.interpolations(images)
    found = blocks(figure)
    assert (len(found), len(found[0])) == (5, 11)
    np.testing.assert_array_equal(found[2][0], images.ends[2, 0])
    np.testing.assert_array_equal(found[2][5], images.means[2, 4])
    np.testing.assert_array_equal(found[2][10], images.ends[2, 1])
    assert [label for label in labels(figure) if label] == ["data", "0%", "50%", "100%", "data"]


def traversals(own, kl=(2.5, 0.25)):
    return Traversals(("7", "12"), np.asarray(kl), np.asarray(own), np.linspace(-3, 3, 9), tiles(2, 9))


def test_traversals_have_a_mark_at_the_own_value():
    images = traversals([0.0, 3.0])
    figure = draw.traversals(images)
    found = labels(figure)
    assert found[:9] == ["\N{MINUS SIGN}3", "", "\N{MINUS SIGN}1.5", "", "0", "", "+1.5", "", "+3"]
    assert found[9:11] == ["unit 7\n2.50 nats", "unit 12\n0.25 nats"]
    centres = [np.nanmean(np.flatnonzero(~np.isnan(canvas(figure)[0]))[k * W : (k + 1) * W]) for k in (4, 8)]
    np.testing.assert_allclose(marks(figure), centres)
    np.testing.assert_array_equal(blocks(figure)[1][6], images.means[1, 6])


def test_own_values_beyond_the_ends_stay_on_the_sheet():
    figure = draw.traversals(traversals([-40.0, np.nan]))
    assert marks(figure) == [1.0]


def test_values_beyond_black_and_white_are_clipped_and_nan_leaves_gaps():
    means = np.array([[[-1.0, 2.0, np.nan]]])
    np.testing.assert_array_equal(canvas(draw.prior_samples(PriorSamples(means)))[0, :3], [0.0, 1.0, np.nan])
    assert svg(draw.traversals(traversals([np.inf, 0.0], kl=(np.inf, np.nan))))


@pytest.mark.parametrize("shape", [(28, 28), (28, 20), (3, 40), (40, 3)])
def test_pixels_are_square(shape):
    figure = draw.prior_samples(PriorSamples(RNG.random((20, *shape))))
    width, height = figure.get_size_inches()
    assert width == WIDTH
    box = figure.axes[0].get_position()
    rows, columns = canvas(figure).shape
    assert box.width * width * POINTS / columns == pytest.approx(box.height * height * POINTS / rows, rel=1e-6)


def test_a_file_holds_each_pixel_once():
    images = PriorSamples(RNG.random((60, 28, 28)))
    text = svg(draw.prior_samples(images))
    assert text.count("data:image/png;base64,") == 1
    assert len(text) < 6 * 60 * 28 * 28  # noise hardly compresses: four bytes a pixel, in base 64
    assert len(png(draw.prior_samples(images))) > 1000
