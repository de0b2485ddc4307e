"""A real browser for pages: the system's Chromium without its user interface, without network.

Without one the tests skip, unless `DERMASK_REQUIRE_BROWSER=1` says that it must be there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Opener = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if executable is None:
        reason = f"no browser: none of {', '.join(_NAMES)} is installed"
        if os.environ.get("DERMASK_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=list(_FLAGS))
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens a file as a fresh visitor does; afterwards nothing may have gone wrong in it, or been asked of the network.

    Keyword arguments are those of Playwright's `new_context`, such as `viewport` and `color_scheme`.
    """
    contexts, complaints = [], []

    def requested(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            complaints.append(f"asked for {request.url}")

    def open_file(path: Path, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type in _WORRYING else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", requested)
        context.set_offline(True)
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert complaints == []


_WORRYING = ("error", "warning")
