"""Numbers as people write them."""

import math

import pytest

from elbax.diagnose.estimate import Estimate
from elbax.report.numbers import count, duration, plain, signed, with_error


@pytest.mark.parametrize(
    ("value", "error", "written"),
    [
        (-22.944454, 0.2227, ("\N{MINUS SIGN}22.94", "0.22")),
        (-112.0625, 0.9708, ("\N{MINUS SIGN}112.06", "0.97")),
        (-249.4916, 2.3611, ("\N{MINUS SIGN}249.5", "2.4")),
        (0.5172164, 0.00502, ("0.5172", "0.0050")),
        (-1234.5, 45.0, ("\N{MINUS SIGN}1,234", "45")),
        (0.1, 0.0, ("0.10", "0.00")),
        (-3.14159, math.nan, ("\N{MINUS SIGN}3.14", "not known")),
        (1e-9, 1e-9, ("0.000000", "0.000000")),
    ],
)
def test_as_many_digits_as_the_error_allows(value, error, written):
    assert with_error(Estimate(value, error)) == written


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [(-0.0, 2, "0.00"), (-0.001, 2, "0.00"), (-0.01, 2, "\N{MINUS SIGN}0.01"), (1e6, 0, "1,000,000"),
     (math.inf, 2, "∞"), (-math.inf, 2, "\N{MINUS SIGN}∞"), (math.nan, 1, "not a number")],
)  # fmt: skip
def test_signed(value, digits, written):
    assert signed(value, digits) == written


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [(0.0043217, 3, "0.00432"), (39.139, 2, "39"), (2.3556, 2, "2.4"), (123456.0, 3, "123,456"), (0.0, 4, "0")],
)
def test_plain(value, digits, written):
    assert plain(value, digits) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.04, "0.0 s"), (14.047, "14.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (200.2, "3 min 20 s"),
     (3599.6, "1 h 0 min"), (7500.0, "2 h 5 min"), (86399.0, "1 d 0 h"), (274000.0, "3 d 4 h"), (math.nan, "not known"),
     (-1.0, "not known")],
)  # fmt: skip
def test_duration(seconds, written):
    assert duration(seconds) == written


def test_count():
    assert count(1234567) == "1,234,567"
