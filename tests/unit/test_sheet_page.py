"""The contact sheet as a page: photographs, outlines by class, tiles for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_pages import HOSTILE, check_page

from dermask.data.dataset import Dataset
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Sample
from dermask.report import sheet_page
from dermask.report.sheet_page import SheetPhotograph, read_photograph, write_sheet_page

SIZE = ImageSize(60, 80)
RING = Polygons((np.array([[10.0, 10], [60, 10], [60, 50], [10, 50]]),))


def dataset() -> Dataset:
    image = np.full((*SIZE, 3), 180, np.uint8)
    two = (Instance(1, RING), Instance(2, Bitmask(np.ones(SIZE, np.bool_)), is_crowd=True))
    return Dataset(
        [Sample("two", image, SIZE, two), Sample("none", image, SIZE), Sample("gone", Path("gone.jpg"))],
        ("naevus", "wart"),
    )


def page_of(tmp_path: Path, shown: list[SheetPhotograph], **values) -> str:
    values = {"class_names": ("naevus", "wart"), "title": "sheet", **values}
    return write_sheet_page(shown, tmp_path / "sheet.html", **values).read_text(encoding="utf-8")


def read(data: Dataset) -> list[SheetPhotograph]:
    return [read_photograph(data, index, num_photographs=len(data)) for index in range(len(data))]


def test_an_empty_sheet_is_a_page(tmp_path: Path) -> None:
    page = check_page(page_of(tmp_path, []))
    assert "None." in page.text
    assert "dialog" not in page.tags


def test_each_photograph_has_its_outlines_and_its_words(tmp_path: Path) -> None:
    text = page_of(tmp_path, read(dataset()), lead="3 of 9", columns=5, command="dermask data show")
    page = check_page(text)
    assert page.classes.count("tile") == 3
    assert page.classes.count("enlarge") == 2
    assert page.labels == [
        "Photograph two, 1 naevus, 1 wart, 80 x 60",
        "Photograph none, no outline, 80 x 60",
        "Photograph gone cannot be read",
    ]
    assert "cannot be read: no such file" in page.text
    assert "naevus (1)" in page.text
    assert {"class-1", "class-2"} <= set(page.ids)
    assert 'class="outline class-2 crowd"' in text
    assert "repeat(5, minmax(0, 1fr))" in text
    assert "3 of 9" in page.text
    assert "dermask data show" in page.text


def test_one_class_alone_has_the_colour_of_truth(tmp_path: Path) -> None:
    one = Dataset([Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, (Instance(1, RING),))])
    text = page_of(tmp_path, read(one), class_names=("lesion",))
    assert ".class-1 path.line { stroke: rgb(255, 214, 0); }" in text
    assert "1 outline, 80 x 60" in check_page(text).text


def test_notes_stand_below_their_photograph(tmp_path: Path) -> None:
    data = dataset()
    shown = [read_photograph(data, 0, num_photographs=1, note="warning: holes: has 2 holes")]
    assert "warning: holes: has 2 holes" in check_page(page_of(tmp_path, shown)).text


@pytest.mark.parametrize(("number", "side"), [(1, sheet_page.LARGE_SIDE), (sheet_page.FEW + 1, sheet_page.SMALL_SIDE)])
def test_large_sheets_keep_smaller_photographs(number: int, side: int) -> None:
    data = Dataset([Sample("a", np.zeros((1000, 1200, 3), np.uint8))])
    photograph = read_photograph(data, 0, num_photographs=number).photograph
    assert max(photograph.size) == side
    assert photograph.original_size == ImageSize(1000, 1200)


def test_text_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    data = Dataset([Sample(HOSTILE, np.zeros((*SIZE, 3), np.uint8), SIZE, (Instance(1, RING),))], (HOSTILE,))
    shown = [read_photograph(data, 0, num_photographs=1, note=HOSTILE)]
    text = page_of(tmp_path, shown, class_names=(HOSTILE,), title=HOSTILE, lead=HOSTILE, command=HOSTILE)
    check_page(text)
    assert "<img" not in text
