"""Text in pictures: how wide it gets, how it is shortened, how it is escaped.

A picture is made without knowing the font that will show it. Widths are those of a wide one (DejaVu Sans), so that
text which fits here fits everywhere.
"""

from __future__ import annotations

import html
import re
import unicodedata

__all__ = ["clean", "escape", "shortened", "text_width"]

NARROW, WIDE = frozenset("iIjl.,:;'|!()[]ft/\\- "), frozenset("mwMW@%<>=+~")
# Characters that XML does not allow, halves of surrogate pairs, and those that turn the direction of the text around.
NOT_ALLOWED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def text_width(words: str, size: float) -> float:
    """An upper bound of the width of a text in a font of some size, in pixels."""
    return size * sum(map(_em, words))


def _em(c: str) -> float:
    if c in NARROW:
        return 0.42
    if c in WIDE:
        return 1.0 if c in "mwMW@%" else 0.84
    if c.isascii():
        return 0.78 if c.isupper() else 0.64
    if unicodedata.category(c) in ("Mn", "Me", "Cf"):  # accents, joiners
        return 0.0
    return 1.35 if unicodedata.east_asian_width(c) in "WF" or unicodedata.category(c) == "So" else 0.9


def clean(words: str) -> str:
    """A text without characters that a picture cannot hold: `\N{REPLACEMENT CHARACTER}` takes their places."""
    return NOT_ALLOWED.sub("\ufffd", words)


def shortened(words: str, size: float, room: float) -> str:
    """A text that fits: its middle is left out if it must be, since names of sites differ at their ends."""
    words = clean(words)
    if text_width(words, size) <= room:
        return words
    for kept in range(len(words) - 1, 1, -1):
        short = words[: kept - kept // 2] + "\N{HORIZONTAL ELLIPSIS}" + words[-(kept // 2) :]
        if text_width(short, size) <= room:
            return short
    return "\N{HORIZONTAL ELLIPSIS}"


def escape(words: str) -> str:
    """A text as content or as a quoted attribute of XML."""
    return html.escape(clean(words), quote=True)
