"""The page of a comparison and its files: what they say, and that the page is whole in itself."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparison_examples import COUNT, SIZE, dataset, made_up, predictions
from plotly import graph_objects
from report_pages import HOSTILE, check_page

from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.evaluation.compared_figures import FIGURES
from dermask.evaluation.comparison import compare
from dermask.evaluation.comparison_file import ComparisonSet, caveats, save, to_csv, to_json
from dermask.records import Sample
from dermask.report import comparison_charts
from dermask.report.comparison_page import choose_most_different, write_comparison_page


def page_of(compared: ComparisonSet, folder: Path, **options) -> str:
    options = {"command": "dermask compare old new", **options}
    return write_comparison_page(compared, folder / "report.html", **options).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("differences", "gains", "loses"),
    [
        pytest.param((), [], [], id="none"),
        pytest.param((0.0, 0.0), [], [], id="alike"),
        pytest.param((0.1,), [0], [], id="one better"),
        pytest.param((-0.1, 0.3, 0.0, 0.2, -0.5, 0.1), [1, 3], [4, 0], id="furthest first, no ties"),
        pytest.param((-0.1, -0.2, -0.3), [], [2, 1], id="all worse"),
    ],
)
def test_the_most_different_are_chosen(differences: tuple[float, ...], gains: list[int], loses: list[int]) -> None:
    assert choose_most_different(differences, 2) == (gains, loses)


def test_the_page_is_whole_and_reads_without_eyes(tmp_path: Path) -> None:
    text = page_of(made_up(), tmp_path, dataset=dataset(), predictions=predictions())
    page = check_page(text)
    assert page.classes.count("picture") == 24
    assert len(page.labels) == 24 + 4
    assert text.count("plotly.js v") == 1
    found = re.search(r'id="figures-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert set(json.loads(found[1])) <= set(page.ids)
    for words in (
        "Comparison: new against old",
        "44 photographs of drawn",
        "B against A",
        "95 % interval",
        "dermask compare old new",
        "fingerprint3f9a",
        "nothing; 44 photographs in all",
        "Truth: the labelled outline",
        "A: old",
        "B: new",
        "B, run_0 counts from score 0.5, new.json, 3f9a",
        "A single run says nothing about another seed",
        *(FIGURES[name].title for name in FIGURES),
    ):
        assert words in page.text, words
    assert "Each run" not in page.text


def test_pictures_have_three_outlines_and_say_so(tmp_path: Path) -> None:
    text = page_of(made_up(), tmp_path, dataset=dataset(), predictions=predictions(), num_pictures=COUNT)
    page = check_page(text)
    assert page.classes.count("truth-outline") == page.classes.count("b-outline") == page.classes.count("picture")
    assert page.classes.count("a-outline") == page.classes.count("picture") - 1  # in one nothing was found
    assert {"show-truth", "show-a", "show-b"} <= set(page.classes)
    [label] = [label for label in page.labels if label and "photo_00" in label]
    assert re.fullmatch(
        r"Photograph photo_00: labelled border outlined; A found nothing, Jaccard 0\.\d{3}; "
        r"B outlined, Jaccard [01]\.\d{3}",
        label,
    )


def test_differences_are_said_with_sign_interval_and_claim(tmp_path: Path) -> None:
    compared = made_up(shifts=(0.0, 0.04))
    one = compared.members[0].differences[0]
    page = check_page(page_of(compared, tmp_path))
    assert one.interval is not None
    interval = f"95 % interval +{one.interval.low:.3f} to +{one.interval.high:.3f}"
    assert f"Jaccard index +{one.difference:.3f}, {interval}: B is better, p = " in page.text
    assert f"B is better in {one.better_b}, A in {one.better_a} of 44 photographs." in page.text
    assert "\N{MINUS SIGN}" in page_of(made_up(shifts=(0.04, 0.0)), tmp_path)


def test_too_few_photographs_are_said_plainly(tmp_path: Path) -> None:
    page = check_page(page_of(made_up(6), tmp_path, dataset=dataset(6), predictions=predictions(6)))
    assert "6 photographs: too few for a claim about others, which needs at least 30." in page.text
    assert "without a claim" in page.text
    assert "95 % interval" not in page.text
    assert "p = " not in page.text


def test_several_runs_show_their_spread(tmp_path: Path) -> None:
    page = check_page(page_of(made_up(runs=3), tmp_path))
    assert "Each run" in page.text
    assert "Jaccard index, A" in page.text
    assert "Within the spread of seeds" in page.text or "overlap" not in page.text


def test_each_model_has_its_section(tmp_path: Path) -> None:
    compared = made_up(shifts=(0.0, 0.02, -0.02))
    page = check_page(page_of(compared, tmp_path, dataset=dataset(), predictions=predictions(), num_pictures=3))
    assert {"against-b", "against-c", "origin", "chart-scatter-c"} <= set(page.ids)
    assert page.links == ["#against-b", "#against-c", "#origin"]
    assert page.classes.count("picture") == 12


def test_a_model_against_itself_has_a_page(tmp_path: Path) -> None:
    compared = made_up()
    side = compared.members[0].a
    ids = compared.members[0].image_ids
    same = compare(side, side, image_ids=ids, units=ids, num_resamples=100, num_flips=100)
    page = check_page(
        page_of(ComparisonSet((same,), "", "x", "union"), tmp_path, dataset=dataset(), predictions=predictions())
    )
    assert "picture" not in page.classes
    assert "no difference shown, p = 1.000" in page.text
    assert "44 photographs of a labelled data set" in page.text


def test_text_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    compared = made_up(name=HOSTILE)
    text = page_of(compared, tmp_path, command=HOSTILE, dataset=dataset(name=HOSTILE), predictions=predictions())
    check_page(text)
    assert HOSTILE not in text


def test_a_photograph_that_cannot_be_read_keeps_its_outlines(tmp_path: Path) -> None:
    data = dataset()
    gone = Sample("photo_03", tmp_path / "gone.jpg", SIZE, data[3].instances)
    data = Dataset([*data[:3], gone, *data[4:]], ("lesion",), "drawn")
    page = check_page(page_of(made_up(), tmp_path, dataset=data, predictions=predictions(), num_pictures=COUNT))
    assert page.text.count("cannot be read") == 1
    assert page.classes.count("missing") == 1


def test_other_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the comparison is about other photographs"):
        page_of(made_up(5), tmp_path, dataset=dataset(4), predictions=predictions(4))
    with pytest.raises(InputError, match="A has 4 masks for 5 photographs"):
        page_of(made_up(5), tmp_path, dataset=dataset(5), predictions=predictions(4))
    assert not (tmp_path / "report.html").exists()


# Charts


def test_every_chart_is_one_that_plotly_knows_and_says_what_it_shows() -> None:
    member = made_up(shifts=(0.0, 0.04)).members[0]
    everything = (*member.differences, *member.set_differences)
    values = member.photo_values("a")[:, 0], member.photo_values("b")[:, 0]
    drawn = [
        comparison_charts.forest_chart(everything, "B", in_pixels=False),
        comparison_charts.forest_chart(everything, "B", in_pixels=True),
        comparison_charts.scatter_chart(*values, member.image_ids, "B"),
        comparison_charts.difference_histogram(values[1] - values[0], "B"),
    ]
    for chart in drawn:
        assert chart is not None
        graph_objects.Figure(chart.figure)  # refuses a property that does not exist
        json.dumps(chart.figure, allow_nan=False)
        assert chart.summary.endswith(".")
    assert len(drawn[0].figure["data"][0]["x"]) == 11  # type: ignore[union-attr]
    assert drawn[1].figure["data"][0]["y"] == ["Average surface distance", "95th-percentile distance"]  # type: ignore[union-attr]


def test_a_forest_of_nothing_is_no_chart() -> None:
    assert comparison_charts.forest_chart([], "B", in_pixels=True) is None


def test_the_histogram_counts_every_photograph_once_and_ties_in_the_middle() -> None:
    differences = np.array([0.0, 0.0, 0.4, -0.4, 0.1, 1e-12])
    [bars] = comparison_charts.difference_histogram(differences, "B").figure["data"]
    assert sum(bars["y"]) == 6
    middle = len(bars["y"]) // 2
    assert bars["y"][middle] == 3
    assert bars["marker"]["color"][middle] == comparison_charts.GREY
    assert sum(comparison_charts.difference_histogram(np.zeros(3), "B").figure["data"][0]["y"]) == 3


def test_a_scatter_of_very_many_photographs_is_thinned_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_charts, "MAX_POINTS", 10)
    values = np.linspace(0, 1, 25)
    chart = comparison_charts.scatter_chart(values, values[::-1], [f"<b>{one}" for one in range(25)], "C")
    [points] = chart.figure["data"]
    assert len(points["x"]) == 10
    assert all(text.startswith("&lt;b&gt;") for text in points["customdata"])
    assert chart.summary == (
        "Jaccard index of 25 photographs, C against A: 12 lie above the diagonal, where C is better, and 12 below. "
        "10 of them, drawn at random, are shown."
    )


# Files


def test_the_json_holds_every_difference_and_how_it_was_judged() -> None:
    compared = made_up(runs=2)
    record = json.loads(to_json(compared, origin={"command": "dermask compare"}))
    assert record["origin"] == {"command": "dermask compare"}
    assert record["dataset"] == {"name": "drawn", "fingerprint": "fingerprint3f9a", "photographs": 44}
    first, second = record["models"]["B"]["runs"]
    assert first == {"name": "run_0", "score_thresh": 0.5, "file": "new.json", "sha256": "3f9a"}
    assert second["name"] == "run_1"
    assert record["resampling"] == {
        "unit": "photograph", "num_units": 44, "num_resamples": 200, "seed": 0, "level": 0.95, "num_flips": 200,
    }  # fmt: skip
    found = record["comparisons"]["B - A"]
    assert list(found["differences"]) == list(FIGURES)
    one, jaccard = compared.members[0].differences[0], found["differences"]["isic.jaccard"]
    assert (jaccard["A"], jaccard["B"], jaccard["difference"]) == (one.a, one.b, one.difference)
    assert jaccard["p_holm"] == one.p_adjusted
    assert sum(jaccard["better_in"].values()) == 44
    assert found["differences"]["coco.mask.ap"]["p_value"] is None
    assert len(found["seeds"]["A"]["isic.dice"]["runs"]) == 2


def test_the_table_has_all_models_side_by_side(tmp_path: Path) -> None:
    compared = made_up(shifts=(0.0, 0.02, -0.02))
    compared.members[0].b.values[0, 2, 7] = np.nan
    [header, *rows] = list(csv.reader(to_csv(compared).splitlines()))
    assert header[:6] == ["image_id", "unit", "jaccard_A", "jaccard_B", "jaccard_C", "thresholded_jaccard_A"]
    assert len(rows) == 44
    assert float(rows[5][3]) == pytest.approx(compared.values()["B"][5, 0], abs=1e-6)
    assert rows[2][header.index("average_distance_B")] == ""
    summary, table = save(compared, tmp_path)
    assert (summary.name, table.name) == ("comparison.json", "per_photo.csv")
    assert "NaN" not in summary.read_text()


def with_choosers(compared: ComparisonSet, *choosers: str) -> ComparisonSet:
    """Each side's thresholds chosen as told."""
    [member] = compared.members
    sides = [
        replace(side, origins=tuple({**one, "score_thresh_from": chooser} for one in side.origins))
        for side, chooser in zip((member.a, member.b), choosers, strict=True)
    ]
    return replace(compared, members=(replace(member, a=sides[0], b=sides[1]),))


@pytest.mark.parametrize(
    ("choosers", "warned"),
    [
        (("default", "default"), False),
        (("highest F1 in old/evaluation.json", "highest F1 in new/evaluation.json"), False),
        (("default", "highest F1 in new/evaluation.json"), True),
    ],
)
def test_the_scores_behind_f1_are_told_and_whether_they_were_chosen_alike(
    choosers: tuple[str, str], warned: bool, tmp_path: Path
) -> None:
    compared = with_choosers(made_up(), *choosers)
    page = check_page(page_of(compared, tmp_path))
    both = f"A 0.5 ({choosers[0]}); B 0.5 ({choosers[1]})"
    assert f"F1 at the score threshold: {both}" in page.text
    assert f"B, run_0 counts from score 0.5 ({choosers[1]}), new.json, 3f9a" in page.text
    warning = f"F1 counts from scores that were not chosen alike: {both}."
    assert (warning in page.text) is warned
    record = json.loads(to_json(compared))
    assert record["models"]["B"]["runs"][0]["score_thresh_from"] == choosers[1]
    comparison = record["comparisons"]["B - A"]
    assert comparison["f1_counts_from"] == {letter: f"0.5 ({one})" for letter, one in zip("AB", choosers, strict=True)}
    assert any(caveat.startswith(warning) for caveat in comparison["caveats"]) is warned


def test_the_spread_of_seeds_is_held_against_shown_differences_alone() -> None:
    def warned_of(compared: ComparisonSet) -> str:
        return next((one for one in caveats(compared.members[0], "B") if one.startswith("Within the spread")), "")

    assert warned_of(made_up(shifts=(0.0, 0.0), runs=3)) == ""
    [member] = made_up(shifts=(0.0, 0.0), runs=3).members
    assert any(one.startswith("Within the spread") for one in member.caveats())  # their ranges do overlap
    shown = replace(member.differences[2], p_adjusted=0.01)
    differences = (*member.differences[:2], shown, *member.differences[3:])
    compared = replace(made_up(runs=3), members=(replace(member, differences=differences),))
    assert warned_of(compared).startswith(f"Within the spread of seeds: {FIGURES[shown.name].title}. A run")
