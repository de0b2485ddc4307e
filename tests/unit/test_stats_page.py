"""The page of figures: charts plotly knows, parts side by side, whole in itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from plotly import graph_objects
from report_pages import HOSTILE, check_page

from dermask.data.dataset import Dataset
from dermask.data.skin_tone import ITA_BINS
from dermask.data.statistics import PartStatistics, measure
from dermask.data.statistics_summary import summarize
from dermask.data.synthetic import synthetic_dataset
from dermask.records import Bitmask, ImageSize, Instance, PhotoInfo, Sample
from dermask.report.stats_page import LIMITS, short_table, tone_table, write_stats_page


@pytest.fixture(scope="module")
def parts() -> list[PartStatistics]:
    first = synthetic_dataset(6, seed=1, size=ImageSize(96, 96))
    known = {sample.image_id: PhotoInfo(diagnosis="kind one") for sample in first}
    return [
        measure("train", first, metadata=known),
        measure("test", Dataset([Sample("gone", Path("gone.jpg")), *first[:2]])),
    ]


def figures_of(text: str) -> dict[str, dict]:
    found = re.search(r'id="figures-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_parts_are_laid_side_by_side(parts: list[PartStatistics], tmp_path: Path) -> None:
    text = write_stats_page(parts, tmp_path / "stats.html", command="dermask data stats x").read_text(encoding="utf-8")
    page = check_page(text)
    figures = figures_of(text)
    assert set(figures) <= set(page.ids)
    assert {"chart-tones", "chart-ita", "chart-area", "chart-colours", "chart-position-0", "chart-position-1"} <= set(
        figures
    )
    for figure in figures.values():
        graph_objects.Figure(figure)  # refuses a property that does not exist
    assert [trace["name"] for trace in figures["chart-tones"]["data"]] == ["train", "test"]
    assert figures["chart-tones"]["data"][0]["x"] == [name for name, _ in ITA_BINS]
    for limit in LIMITS:
        assert limit in page.text
    assert "dermask data stats x" in page.text
    assert "test: gone: no such file" in page.text
    assert text.count("plotly.js v") == 1


def test_shares_of_a_part_add_up_to_all_of_it(parts: list[PartStatistics], tmp_path: Path) -> None:
    figures = figures_of(write_stats_page(parts, tmp_path / "stats.html").read_text(encoding="utf-8"))
    for key in ("chart-tones", "chart-outlines", "chart-diagnoses", "chart-area", "chart-ita", "chart-brightness"):
        for trace in figures[key]["data"]:
            assert sum(trace["y"]) == pytest.approx(100 if any(trace["y"]) else 0, abs=0.1), key


@pytest.mark.parametrize(
    "empty",
    [
        pytest.param([], id="no part"),
        pytest.param([PartStatistics("none", ("lesion",), ())], id="a part of nothing"),
    ],
)
def test_nothing_gives_a_page_without_charts(empty: list[PartStatistics], tmp_path: Path) -> None:
    text = write_stats_page(empty, tmp_path / "stats.html").read_text(encoding="utf-8")
    check_page(text)
    assert "plotly" not in text


def test_photographs_without_lesions_have_charts_of_their_own(tmp_path: Path) -> None:
    bare = Dataset([Sample("a", np.full((40, 60, 3), (220, 180, 160), np.uint8))])
    figures = figures_of(write_stats_page([measure("bare", bare)], tmp_path / "x.html").read_text(encoding="utf-8"))
    assert "chart-brightness" in figures
    assert "chart-area" not in figures
    assert "chart-position-0" not in figures


def test_text_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    mask = Bitmask(np.pad(np.ones((10, 10), np.bool_), 10))
    image = np.full((30, 30, 3), (220, 180, 160), np.uint8)
    dataset = Dataset([Sample(HOSTILE, image, None, (Instance(1, mask),))], (HOSTILE, "other"))
    part = measure(HOSTILE, dataset, metadata={HOSTILE: PhotoInfo(diagnosis=HOSTILE)})
    text = write_stats_page([part], tmp_path / "x.html", command=HOSTILE).read_text(encoding="utf-8")
    check_page(text)
    assert "<img src" not in text
    for figure in figures_of(text).values():
        assert "<img" not in json.dumps(figure, ensure_ascii=False)  # plotly reads some tags in names


def test_the_short_table_is_the_same_for_page_and_terminal(parts: list[PartStatistics]) -> None:
    summaries = [summarize(part) for part in parts]
    table = short_table(summaries)
    assert table.columns == ("", "train", "test")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Photographs"] == ("6", "2")
    assert rows["Unreadable photographs"] == ("0", "1")
    assert rows["Diagnoses in the metadata"] == ("kind one 6", "\N{EM DASH}")
    assert re.fullmatch(r"#[0-9a-f]{6}", rows["Mean colour around them"][0])
    assert all(len(row) == 3 for row in table.rows)
    assert [row[0] for row in tone_table(summaries).rows] == [name for name, _ in ITA_BINS]
    assert tone_table(summaries).rows[-1][1] == "above 55"


def test_colours_are_shown_beside_their_names(parts: list[PartStatistics], tmp_path: Path) -> None:
    text = write_stats_page(parts, tmp_path / "x.html").read_text(encoding="utf-8")
    colour = summarize(parts[0])["around_colour"]
    assert f'style="background: #{bytes(colour).hex()}"' in text
