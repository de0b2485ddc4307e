"""What the tests of dermask's pages ask of a page: it is whole in itself, reads without eyes, and escapes names."""

from __future__ import annotations

import re
from html.parser import HTMLParser

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&{{ 7*7 }}"


class Page(HTMLParser):
    """Headings, ids, texts and everything that a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.labels: list[str | None] = []
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.classes: list[str] = []
        self.words: list[str] = []
        self._is_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self._is_code = tag in {"script", "style"}
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if values.get("role") == "img" or tag == "img":
            self.labels.append(values.get("aria-label") or values.get("alt"))
        if tag in {"a", "use"}:
            self.links.append(str(values.get("href")))
        else:
            self.addresses += [str(values[name]) for name in ("src", "href", "action", "data") if name in values]
        self.classes += str(values.get("class") or "").split()
        self.handlers += [name for name in values if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False

    def handle_data(self, data: str) -> None:
        if not self._is_code:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, white space joined."""
        return " ".join(" ".join(self.words).split())


def check_page(text: str) -> Page:
    """The page, after the checks that hold for all of them."""
    page = Page(text)
    assert all(address.startswith("data:image/webp;base64,") for address in page.addresses)
    assert all(link.startswith("#") for link in page.links)
    styles = text.split("</style>")[0]
    assert "@import" not in styles
    assert "url(" not in styles
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert all(page.labels)
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert not page.handlers
    assert "img" not in page.tags
    assert "Research use only" in page.text
    assert '<html lang="en">' in text
    assert 'name="viewport"' in text
    return page
