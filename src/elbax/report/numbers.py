"""Numbers as people write them: as many digits as the standard error allows."""

from __future__ import annotations

import math

from elbax.diagnose.estimate import Estimate

__all__ = ["count", "duration", "plain", "signed", "with_error"]

MINUS = "\N{MINUS SIGN}"


def decimals(std_error: float) -> int:
    """Decimals that leave two digits of a standard error; 2 if it is zero or not known."""
    if not math.isfinite(std_error) or std_error <= 0:
        return 2
    return min(max(1 - math.floor(math.log10(std_error)), 0), 6)


def signed(value: float, digits: int) -> str:
    """A number with a given number of decimals and a true minus sign."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: f"{MINUS}∞"}.get(value, "not a number")
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(value) and any(c in "123456789" for c in text) else text.lstrip("-")


def with_error(figure: Estimate) -> tuple[str, str]:
    """Value and standard error, to the same decimal; the error is `not known` where there is none (one datum)."""
    digits = decimals(figure.std_error)
    known = math.isfinite(figure.std_error)
    return signed(figure.value, digits), signed(figure.std_error, digits) if known else "not known"


def plain(value: float, digits: int = 4) -> str:
    """A number that has no standard error, to some significant digits; all digits before the point are written."""
    if value == 0 or not math.isfinite(value):
        return signed(value, 0)
    return signed(value, min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 8))


def count(value: int) -> str:
    """A whole number, in groups of three digits."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """A time in the largest units that matter: `14.0 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "not known"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    for unit, name, smaller, small_name in ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86400, "d", 3600, "h")):
        whole, rest = divmod(round(seconds / smaller) * smaller, unit)
        if whole < {60: 60, 3600: 24}.get(unit, math.inf):
            return f"{whole} {name} {rest // smaller} {small_name}"
    raise AssertionError
