"""HTML that cannot be built wrongly by accident: text is escaped unless it is already markup.

    tag("p", "the run ", tag("code", path), " has ended", class_="lead")

Children and attributes that are not `Html` are escaped, so that nothing a user wrote (paths, command lines, names of
sites, descriptions of data) can become markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Html", "allowed", "escape", "join", "table", "tag"]

VOID = frozenset({"meta", "br", "hr", "img", "link", "wbr", "col"})
# Characters that HTML and XML do not allow, and halves of surrogate pairs, which cannot be encoded.
NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
NAME = re.compile("[A-Za-z][A-Za-z0-9:-]*")


class Html(str):
    """Markup. Whatever is put together with `+` becomes text again, and is escaped when it is used."""

    __slots__ = ()


def escape(value: Any) -> Html:
    """Text as markup, for content and for attributes in double quotes; markup stays as it is."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(allowed(str(value)), quote=True))


def allowed(text: str) -> str:
    """Text without the characters that neither HTML nor XML can hold."""
    return NOT_ALLOWED.sub("\ufffd", text)


def join(children: Iterable[Any], separator: str = "") -> Html:
    """Markup of several pieces; `None` is left out."""
    return Html(escape(separator).join(escape(child) for child in children if child is not None))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element.

    Args:
        name: of the element.
        *children: text, markup, or `None` for nothing.
        **attributes: `class_` stands for `class`, `aria_label` for `aria-label`; `None` leaves one out.

    Raises:
        ValueError: for a name that is none, or children of an element that cannot have any.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{_checked(key.rstrip("_").replace("_", "-"))}="{escape(value)}"')
    start = Html(f"<{_checked(name)}{''.join(' ' + w for w in words[1:])}>")
    if name in VOID:
        if children:
            raise ValueError(f"<{name}> cannot have children.")
        return start
    return Html(f"{start}{join(children)}</{name}>")


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an element or attribute.")
    return name


def table(rows: Sequence[Sequence[Any]], *, head: Sequence[Any], class_: str | None = None) -> Html:
    """A table whose first column names the rows.

    It scrolls sideways where the screen is too narrow; with the class `stack`, its cells then stand below each other,
    each with the name of its column.
    """
    cells = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, data_label=name) for cell, name in zip(row[1:], head[1:], strict=True)),
        )
        for row in rows
    ]
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return tag("div", tag("table", header, tag("tbody", *cells), class_=class_), class_="wide")
