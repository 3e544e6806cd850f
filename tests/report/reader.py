"""Reads a page as a strict browser would: what is open, what is loaded, what may run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "wbr", "col", "input"}
LOADING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


@dataclass
class Page:
    """What was found on a page."""

    text: str = ""
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def named(self, name: str) -> list[dict[str, str]]:
        return [attributes for element, attributes in self.elements if element == name]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.page.problems.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style"} & set(self.open):
            self.page.text += data

    def note(self, tag: str, attrs: list) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.page.problems.append(f"<{tag}> has an attribute twice: {names}")
        attributes = {name: value or "" for name, value in attrs}
        self.page.elements.append((tag, attributes))
        for name, value in attributes.items():
            if name in LOADING and not value.startswith(("#", "data:image/png;base64,")):
                self.page.problems.append(f"<{tag}> loads {name}={value!r}")
            if name.startswith("on"):
                self.page.problems.append(f"<{tag}> runs {name}={value!r}")
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
            self.page.problems.append(f"<{tag}> has no place here")


def read_page(text: str) -> Page:
    """Reads a page and lists everything that is wrong with it."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    page = parser.page
    if parser.open:
        page.problems.append(f"never closed: {parser.open}")
    ids = page.attributes("id")
    page.problems += [f"id {i!r} twice" for i in set(ids) if ids.count(i) > 1]
    targets = [v[1:] for name in ("href", "xlink:href") for v in page.attributes(name) if v.startswith("#")]
    targets += re.findall(r"url\(#([^)]*)\)", text)
    page.problems += [f"#{t} leads nowhere" for t in targets if t not in ids]
    page.problems += [f"style loads {u!r}" for u in re.findall(r"url\(([^#)][^)]*)\)|(@import)", text)]
    return page
