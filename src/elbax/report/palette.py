"""The colours of a report, once: for figures, for the graph, and for the page in light and in dark.

Blue and orange tell series apart also for colour-blind readers; they are those of the graph's drawing.
"""

from __future__ import annotations

import re

from elbax.report.markup import Html

__all__ = ["LIGHT", "css_variables", "themed"]

# name: (light, dark); figures are drawn in the light colours.
COLOURS = {
    "ink": ("#1b1b1f", "#e7e9ee"),
    "muted": ("#4a4a55", "#a9b0bd"),
    "edge": ("#5b6470", "#8b95a3"),
    "line": ("#d9dce1", "#363c47"),
    "faint": ("#a9b0ba", "#5d6673"),
    "paper": ("#ffffff", "#15171c"),
    "panel": ("#f4f4f6", "#1e2128"),
    "blue": ("#24588f", "#85b8ee"),
    "blue-fill": ("#e6effa", "#1d3047"),
    "orange": ("#b5540f", "#f2a567"),
    "orange-fill": ("#fdf1e3", "#3d2a1a"),
    "green": ("#1b6e50", "#6fcfa8"),
    "red": ("#a3262b", "#f28b8f"),
}

LIGHT = {name: light for name, (light, _) in COLOURS.items()}
_BY_VALUE = {light: f"var(--{name})" for name, light in LIGHT.items()} | {"#fff": "var(--paper)"}
_HEX = re.compile(r"#[0-9a-f]{6}\b|#fff\b", re.IGNORECASE)


def css_variables(*, dark: bool) -> str:
    """Declarations of the colours as custom properties."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in COLOURS.items())


def themed(svg: str) -> Html:
    """A drawing whose colours follow the page: each colour of the palette becomes its custom property."""
    return Html(_HEX.sub(lambda m: _BY_VALUE.get(m[0].lower(), m[0]), svg))
