"""The page of a comparison in a real browser: it draws, its toggles hide outlines, and it fits a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from comparison_examples import dataset, made_up, predictions
from playwright.sync_api import Page

from dermask.report.comparison_page import write_comparison_page

Opener = Callable[..., Page]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compared = made_up(shifts=(0.0, 0.03, -0.01), runs=2)
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_comparison_page(
        compared, path, command="dermask compare", dataset=dataset(), predictions=predictions()
    )


def drawn(page: Page) -> Page:
    """Until every chart is there."""
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.data)")
    return page


def test_all_charts_are_drawn_without_a_complaint_or_a_request(open_page: Opener, report: Path) -> None:
    page = drawn(open_page(report))
    assert page.locator(".plot").count() == 8
    assert page.locator("#chart-scatter-b .point").count() == 44
    assert page.locator("#chart-forest-shares-c .point").count() == 11


def test_a_point_says_its_photograph(open_page: Opener, report: Path) -> None:
    page = drawn(open_page(report))
    page.evaluate("Plotly.Fx.hover('chart-scatter-b', [{curveNumber: 0, pointNumber: 5}])")
    assert "photo_05" in page.locator("#chart-scatter-b .hoverlayer").text_content()


def test_a_toggle_hides_its_outlines_of_that_model_alone(open_page: Opener, report: Path) -> None:
    page = drawn(open_page(report))
    first, second = page.locator(".viewer").nth(0), page.locator(".viewer").nth(1)
    for kind in ("truth", "a", "b"):
        own = first.locator(f".{kind}-outline").first
        assert own.is_visible()
        first.locator(f".show-{kind}").focus()
        page.keyboard.press("Space")
        assert not own.is_visible()
        assert second.locator(f".{kind}-outline").first.is_visible()
        page.keyboard.press("Space")
        assert own.is_visible()


@pytest.mark.parametrize("width", [1000, 1200])
def test_the_table_fits_a_window_of_middling_width(width: int, open_page: Opener, report: Path) -> None:
    page = open_page(report, viewport={"width": width, "height": 800})
    cut = "[...document.querySelectorAll('.table-scroll')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(cut) == 0


def test_paper_has_room_for_every_column(open_page: Opener, report: Path) -> None:
    page = open_page(report, viewport={"width": 700, "height": 900})  # A4 between its margins
    page.emulate_media(media="print")
    page.evaluate("document.documentElement.classList.add('printing')")
    room = "[...document.querySelectorAll('.table-scroll')].map((one) => one.scrollWidth - one.clientWidth)"
    assert set(page.evaluate(room)) == {0}


def test_a_phone_gives_three_outlines_its_whole_width(open_page: Opener, report: Path) -> None:
    page = open_page(report, viewport={"width": 375, "height": 740}, has_touch=True)
    picture = page.locator(".viewer .picture").first.bounding_box()
    assert picture is not None
    assert picture["width"] > 330
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
