"""The evaluation's page in a real browser: filters, outlines, the enlarged view, keyboard, phone, print, speed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_examples import Evaluated, evaluated, repeated
from page_checks import NAMELESS, TOO_SMALL, WORST_CONTRAST
from playwright.sync_api import Page, expect

from dermask.report.evaluation_page import write_evaluation_page

Opener = Callable[..., Page]
pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True}


def write(folder: Path, given: Evaluated) -> Path:
    return write_evaluation_page(folder / "page.html", *given, command="dermask evaluate x", processes=1)


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("forty"), evaluated(40))


@pytest.fixture(scope="module")
def two_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("many"), repeated(evaluated(40), 2000))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("alone"), evaluated(1))


def says(page: Page, text: str | re.Pattern[str]) -> None:
    """Wait until the line about the filter reads so."""
    expect(page.locator("#tally")).to_have_text(text)


def tiles(page: Page) -> int:
    return page.locator("#grid .tile").count()


def go_to(page: Page, selector: str) -> None:
    """Bring a place of the page to the window's top, and what comes near it into the page."""
    page.evaluate("(selector) => document.querySelector(selector).scrollIntoView({behavior: 'instant'})", selector)
    page.wait_for_timeout(100)


def emit(page: Page, plot: str, customdata: str) -> None:
    """A click on the point or bar of a plot that carries this."""
    page.evaluate(
        "([plot, customdata]) => document.getElementById(plot).emit('plotly_click', {points: [{customdata}]})",
        [plot, customdata],
    )


def drawn(page: Page) -> None:
    """Until every chart is there."""
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.data)")


def is_inside(page: Page, selector: str) -> bool:
    """Whether all of it is in the window."""
    box, window = page.locator(selector).first.bounding_box(), page.viewport_size
    assert box is not None
    assert window is not None
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    return min(box["x"], box["y"]) >= 0 and right <= window["width"] and bottom <= window["height"]


def test_every_chart_is_drawn_and_everything_shown_has_a_name(forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    drawn(page)
    assert page.locator(".plot .main-svg").count() > 0
    go_to(page, "#all")
    nameless = page.evaluate(NAMELESS)
    assert nameless == []
    assert page.evaluate("document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')]"
                         ".map((one) => one.id)).size")  # fmt: skip


def test_filters_change_what_is_shown_and_say_so(forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    go_to(page, "#all")
    says(page, re.compile(r"^40 of 40 photographs, mean Jaccard 0\.\d{3}$"))
    page.select_option("select[name=diagnosis]", label="wart")
    says(page, "4 of 40 photographs")  # too few to say a mean
    assert tiles(page) == 4
    page.click("#filters button[type=reset]")
    says(page, re.compile("^40 of 40"))
    page.fill("input[name=text]", "PHOTO_000")
    says(page, "10 of 40 photographs")
    page.fill("input[name=text]", "nothing like it")
    says(page, "0 of 40 photographs")
    assert tiles(page) == 0
    page.fill("input[name=text]", "")
    page.fill("input[name=high]", "0.01")
    says(page, "2 of 40 photographs")  # one without a lesion, one in which nothing was found
    page.fill("input[name=high]", "1")
    page.select_option("select[name=order]", "best")
    expect(page.locator("#grid .tile b").first).to_have_text(re.compile(r"^0\.[89]|^1"))
    shown = [float(text) for text in page.locator("#grid .tile b").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)


def test_one_photograph_is_counted_as_one(alone: Path, open_page: Opener) -> None:
    says(open_page(alone), "1 of 1 photograph")


def test_a_subgroup_of_the_table_leads_to_its_photographs(forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    page.click("button[data-trait=diagnosis][data-value=wart]")
    says(page, "4 of 40 photographs")
    assert page.evaluate("document.activeElement.name") == "text"


def test_a_bar_and_a_point_of_a_plot_lead_to_photographs(forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    drawn(page)
    emit(page, "chart-jaccard", "0.00 to 0.05")
    says(page, "2 of 40 photographs")
    emit(page, "chart-lesion-size", "photo_0007")
    assert page.inner_text("#large-name") == "photo_0007"


def test_the_plot_of_lesion_size_works_by_keyboard(forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    drawn(page)
    page.focus("#chart-lesion-size")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    told = page.inner_text(".plot-status")
    page.keyboard.press("Enter")
    assert told.startswith(page.inner_text("#large-name") + ": Jaccard")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.id === 'chart-lesion-size'")


@pytest.mark.parametrize(
    ("mode", "truth", "pred"),
    [("both", True, True), ("truth", True, False), ("pred", False, True), ("none", False, False)],
)
def test_outlines_can_be_hidden_everywhere(mode: str, truth: bool, pred: bool, forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    page.locator(f"input[name=outlines-gallery][value={mode}]").check(force=True)
    go_to(page, "#all")
    for place in (".gallery", "#grid"):
        assert page.locator(f"{place} .truth-outline").first.is_visible() == truth
        assert page.locator(f"{place} .pred-outline").nth(1).is_visible() == pred
    assert page.locator(f"input[name=outlines-all][value={mode}]").is_checked()


@pytest.mark.parametrize("place", [".gallery .open", "#grid button"])
def test_a_photograph_opens_by_keyboard_and_gives_the_focus_back(place: str, forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    go_to(page, "#all")
    opener = page.locator(place).nth(3)
    name = opener.get_attribute("data-photo")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.count() == 1
    assert page.inner_text("#large-name") == name
    assert "Boundary IoU" in dialog.inner_text()
    assert dialog.locator(".stage image").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#large-place").startswith("5 of ")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#large-name") == name
    page.keyboard.press("2")
    assert dialog.locator(".truth-outline").first.is_visible()
    assert not dialog.locator(".pred-outline").first.is_visible()
    page.keyboard.press("Escape")
    page.wait_for_function("name => document.activeElement.dataset.photo === name", arg=name)
    assert page.locator("dialog[open]").count() == 0


def test_the_wipe_divides_truth_from_prediction(forty: Path, open_page: Opener) -> None:
    page = open_page(forty)
    page.locator(".gallery .open").nth(5).click()
    page.keyboard.press("5")
    assert page.locator("#wipe").is_visible()
    page.locator("#wipe").fill("25")
    left, right = (
        [float(page.locator(f"#clip-{side} rect").get_attribute(name) or 0) for name in ("x", "width")]
        for side in ("left", "right")
    )
    width = page.evaluate("document.querySelector('.stage svg').viewBox.baseVal.width")
    assert left == [0, width / 4]
    assert right == [width / 4, width * 3 / 4]
    page.keyboard.press("Escape")
    page.wait_for_function("document.body.dataset.outlines === 'both'")  # a dialog tells of its closing later


def test_the_page_fits_a_phone(forty: Path, open_page: Opener) -> None:
    page = open_page(forty, **PHONE)
    drawn(page)
    for place in ("#result", "#subgroups", "#photographs", "#all"):
        go_to(page, place)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator("#grid button").first.click()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 375
    assert page.locator("dialog [data-close]").is_visible()
    page.click("dialog [data-close]")
    assert page.evaluate(TOO_SMALL) == []


def test_a_phone_shows_a_photograph_far_larger_enlarged(forty: Path, open_page: Opener) -> None:
    page = open_page(forty, **PHONE)
    go_to(page, "#all")
    thumbnail = page.locator("#grid svg").first.bounding_box()
    page.locator("#grid button").first.click()
    page.keyboard.press("5")
    stage = page.locator(".stage").bounding_box()
    assert thumbnail is not None
    assert stage is not None
    assert stage["width"] > 2 * thumbnail["width"]
    assert stage["height"] >= 0.74 * stage["width"]  # a photograph of 4 : 3 takes the whole width
    assert is_inside(page, "#wipe")
    page.evaluate("document.querySelector('dialog').scrollTo(0, 9999)")
    assert is_inside(page, ".stage")  # it stays while what belongs to it is read


@pytest.mark.parametrize("size", [(740, 375), (568, 320), (932, 430)])
def test_a_phone_on_its_side_shows_photograph_and_wipe_together(
    size: tuple[int, int], forty: Path, open_page: Opener
) -> None:
    page = open_page(forty, viewport={"width": size[0], "height": size[1]}, has_touch=True)
    page.locator(".gallery .open").nth(5).click()
    page.locator("input[name=outlines-large][value=wipe]").check(force=True)
    for place in (".stage", "#wipe", "dialog [data-close]", "dialog .choice label >> nth=4"):
        assert is_inside(page, place), place


def test_the_plots_of_a_phone_have_names_and_numbers_that_can_be_read(forty: Path, open_page: Opener) -> None:
    page = open_page(forty, **PHONE)
    drawn(page)
    names = page.locator("#chart-subgroups .annotation-text").all_text_contents()
    assert names[0] == "Lesion size"
    assert "wart (4)" in names
    assert page.locator("#chart-subgroups .ytick").count() == 0
    outside = page.evaluate(_OUTSIDE)
    assert outside == []
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_function("document.querySelectorAll('#chart-subgroups .ytick').length > 0")
    assert page.locator("#chart-subgroups .annotation-text").count() == 0


def test_the_choice_of_outlines_stays_in_one_row_on_a_phone(forty: Path, open_page: Opener) -> None:
    page = open_page(forty, **PHONE)
    tops = (
        "(name) => [...document.querySelectorAll(`input[name=${name}]`)].map((one) => one.getBoundingClientRect().top)"
    )
    for name in ("outlines-gallery", "outlines-all"):
        assert len(set(page.evaluate(tops, name))) == 1, name


@pytest.mark.parametrize("width", [800, 1000, 1100, 1200])
def test_tables_of_subgroups_fit_a_window_of_middling_width(width: int, forty: Path, open_page: Opener) -> None:
    page = open_page(forty, viewport={"width": width, "height": 800})
    cut = page.evaluate(
        "[...document.querySelectorAll('.table-scroll:has(.subgroups)')]"
        ".filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)"
    )
    assert cut == []


def test_without_scripts_nothing_promises_what_it_cannot_do(forty: Path, open_page: Opener) -> None:
    page = open_page(forty, java_script_enabled=False)
    links = page.locator("nav a:visible").all_inner_texts()
    assert links[-1] == "How this was made"
    told = page.locator("noscript p")
    assert [text for text in told.all_inner_texts() if "Plots need JavaScript" in text] == [told.first.inner_text()]
    plot = page.locator("#chart-jaccard").bounding_box()
    assert plot is not None
    assert plot["height"] == 0
    summary = page.locator(".chart:has(#chart-jaccard) noscript p")
    expect(summary).to_be_visible()
    assert summary.inner_text().startswith("Jaccard index of 40 photographs: median")
    for place, style, value in ((".link", "text-decoration-line", "none"), (".picture .open", "cursor", "auto")):
        expect(page.locator(place).first).to_have_css(style, value)


def test_print_has_the_figures_and_the_worst_without_controls(forty: Path, open_page: Opener) -> None:
    page = open_page(forty, color_scheme="dark")
    drawn(page)
    page.emulate_media(media="print")
    for hidden in ("nav", "#filters", "#grid", "dialog", ".outline-choice >> nth=0", ".gallery >> nth=1"):
        assert not page.locator(hidden).is_visible(), hidden
    for shown in (
        ".cards",
        "#chart-jaccard",
        "#chart-subgroups",
        ".subgroups >> nth=0",
        ".gallery >> nth=0",
        ".command",
    ):
        assert page.locator(shown).is_visible(), shown
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = (
        "[...document.querySelectorAll('.plot')].map((one) => [one.clientWidth, one.querySelector('svg').clientWidth])"
    )
    assert all(room == width for room, width in page.evaluate(widths))  # at once: a browser does not wait
    for table in page.locator(".together").all():
        expect(table).to_have_css("break-inside", "avoid")
        assert table.locator("h3").count() == table.locator("table").count() == 1
    ink = page.evaluate("getComputedStyle(document.querySelector('#chart-jaccard .xtick text')).fill")
    assert max(int(part) for part in re.findall(r"\d+", ink)[:3]) < 100  # dark ink, though the screen is dark
    page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_dark_is_dark_and_text_can_be_read(forty: Path, open_page: Opener) -> None:
    for scheme in ("light", "dark"):
        page = open_page(forty, color_scheme=scheme)
        assert page.evaluate(WORST_CONTRAST) >= 4.5, scheme


def test_two_thousand_photographs_open_fast_and_only_those_near_are_in_the_page(
    two_thousand: Path, open_page: Opener
) -> None:
    assert two_thousand.stat().st_size < 25e6
    page = open_page(two_thousand)
    times: dict[str, Any] = page.evaluate(
        "({ready: performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd,"
        " paint: performance.getEntriesByName('first-contentful-paint')[0].startTime})"
    )
    assert times["ready"] < 6000, times  # about 0.5 s on a quiet machine
    says(page, re.compile("^2,000 of 2,000"))
    assert tiles(page) == 0  # the grid is screens away
    go_to(page, "#all")
    page.wait_for_function("document.querySelectorAll('#grid .tile').length > 10")
    first = page.locator("#grid button").first.get_attribute("data-photo")
    at_first = tiles(page)
    assert at_first < 200
    page.evaluate("scrollTo({top: document.documentElement.scrollHeight / 2, behavior: 'instant'})")
    page.wait_for_function(f"document.querySelector('#grid button').dataset.photo !== '{first}'")
    assert 0 < tiles(page) < 300
    page.evaluate("scrollTo({top: document.documentElement.scrollHeight, behavior: 'instant'})")
    page.wait_for_function("[...document.querySelectorAll('#grid .tile')].some((one) => one.ariaPosInSet === '2000')")
    assert tiles(page) < 300


# Titles and numbers of axes that are turned or stand outside their plot.
_OUTSIDE = """
() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
  const frame = plot.getBoundingClientRect();
  return [...plot.querySelectorAll(".xtitle, .xtick text, .annotation-text")].filter((one) => {
    const box = one.getBoundingClientRect();
    const turned = /rotate\\((?!0)/.test(one.getAttribute("transform") || "") && !one.matches(".annotation-text");
    return turned || box.left < frame.left - 1 || box.right > frame.right + 1;
  }).map((one) => `${plot.id}: ${one.textContent}`);
})
"""
