"""A drawing as a report has it: as files, and inside the page."""

from __future__ import annotations

import re
from dataclasses import dataclass

from matplotlib.figure import Figure

from elbax.report.figures.base import png, svg
from elbax.report.markup import Html, allowed, escape, tag
from elbax.report.palette import themed

__all__ = ["Picture", "inline_svg", "picture"]

_STYLE = re.compile(r'<defs>\s*<style type="text/css">[^<]*</style>\s*</defs>')
_FONT = re.compile(r"font-family: [^;\"]*;? ?")
_ID = re.compile(r'\bid="|\burl\(#|href="#')
_ROOT = re.compile(r"<svg\b[^>]*>")
_VIEW = re.compile(r'viewBox="([^"]*)"')


@dataclass(frozen=True)
class Picture:
    """A drawing with its words.

    Attributes:
        name: of its files, without suffix; unique in a report.
        svg: the drawing.
        png: the same as pixels, or `None` where there is none.
        alt: what it shows, for those who cannot see it.
        caption: what is shown, the statistic and its unit, and how to read it.
        natural_width: CSS pixels to show it at if there is room; `None` for the width of a column.
    """

    name: str
    svg: str
    png: bytes | None
    alt: str
    caption: Html
    natural_width: float | None = None

    def figure(self) -> Html:
        """The drawing and its caption as an element of the page."""
        drawing = inline_svg(self.svg, self.name, self.alt)
        if self.natural_width is not None:
            # Larger than a column: it scrolls sideways rather than shrink until it cannot be read.
            width = f"width:{self.natural_width:.0f}px;min-width:min({self.natural_width:.0f}px,34rem)"
            drawing = tag("div", tag("div", drawing, style=width), class_="wide")
        return tag("figure", drawing, tag("figcaption", self.caption), id=f"figure-{self.name}")


def picture(name: str, figure: Figure, alt: str, caption: Html) -> Picture:
    """A Matplotlib figure as a picture."""
    return Picture(name, allowed(svg(figure)), png(figure), alt, caption)


def inline_svg(drawing: str, prefix: str, alt: str) -> Html:
    """A drawing to stand inside a page.

    Its identifiers get a prefix, so that several drawings do not share any; its rules of style for everything on the
    page go; its fonts and colours become those of the page. The drawing is trusted: it is escaped where it is made.
    """
    root = _ROOT.search(drawing)
    if root is None:
        raise ValueError("this is not an SVG.")
    view = _VIEW.search(root[0])
    start = tag(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        **{"xmlns:xlink": "http://www.w3.org/1999/xlink"},
        viewBox=view[1] if view else None,
        class_=" ".join(["drawing", *re.findall(r'class="([^"]*)"', root[0])]),
        role="img",
        aria_label=alt,
    ).removesuffix("</svg>")
    body = _FONT.sub("", _STYLE.sub("", drawing[root.end() :]))
    body = _ID.sub(lambda m: f"{m[0]}{escape(prefix)}-", body)
    return themed(start + body)
