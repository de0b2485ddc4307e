"""A picture of a page for the docs: what a reader sees first, in the system's Chromium.

    python tools/page_picture.py judged/test/report.html -o docs/images/evaluation_page.webp --height 1500
    python tools/page_picture.py judged/test/report.html -o phone.png --width 375 --dark --at "#photographs"

Charts get three seconds to be drawn.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the picture: 0 done, 1 no browser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG or WebP")
    parser.add_argument("--width", type=int, default=1200, help="of the window, CSS pixels")
    parser.add_argument("--height", type=int, default=1400, help="of the window, CSS pixels")
    parser.add_argument("--shrink", type=float, default=1.0, help="the picture's share of that")
    parser.add_argument("--dark", action="store_true", help="as a reader with dark settings sees it")
    parser.add_argument("--at", help="selector of what to scroll to")
    options = parser.parse_args(arguments)
    browser = shutil.which("chromium")
    if browser is None:
        print("no chromium on this system", file=sys.stderr)
        return 1
    with sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=browser, args=list(_FLAGS))
        page = window.new_page(
            viewport={"width": options.width, "height": options.height},
            color_scheme="dark" if options.dark else "light",
        )
        page.goto(options.page.resolve().as_uri())
        if options.at:
            page.locator(options.at).evaluate("element => element.scrollIntoView({behavior: 'instant'})")
        page.wait_for_timeout(3000)  # charts are drawn one after the other
        picture = Image.open(io.BytesIO(page.screenshot()))
        window.close()
    size = tuple(round(side * options.shrink) for side in picture.size)
    picture.resize(size, Image.Resampling.LANCZOS).convert("RGB").save(options.output, quality=80, method=6)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
