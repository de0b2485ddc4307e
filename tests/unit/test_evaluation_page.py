"""The page of an evaluation: what it says and leaves unsaid, which photographs it shows, that it is whole in itself."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_examples import SIZE, Evaluated, evaluated, repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from plotly import graph_objects
from report_pages import HOSTILE, check_page

from dermask import contours, masks
from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.evaluation.bootstrap import MIN_UNITS, Interval
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.evaluation.record import Evaluation
from dermask.records import Bitmask, ImageSize, Instance, PhotoInfo, Polygons, Sample
from dermask.report import evaluation_charts, evaluation_tables, thumbnails
from dermask.report.evaluation_page import write_evaluation_page
from dermask.report.evaluation_photographs import choose_random, choose_worst
from dermask.report.page import write_run_report
from dermask.report.tables import NOT_DEFINED, Table


def page_of(tmp_path: Path, given: Evaluated, **values: Any) -> str:
    values = {"command": "dermask evaluate x", "processes": 1, **values}
    page = write_evaluation_page(tmp_path / "page.html", *given, **values)
    return page.read_text(encoding="utf-8")


def json_of(page: str, key: str) -> Any:
    found = re.search(rf'id="{key}-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def forty() -> Evaluated:
    return evaluated(40)


@pytest.fixture(scope="module")
def full_page(forty: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(
        tmp_path_factory.mktemp("page"),
        forty,
        command="dermask evaluate 'a & b' --data labels.json",
        tables=[Table("Model", (), (("SHA-256", "3f9a"),))],
    )


# The whole page


def test_the_page_is_whole_in_itself(full_page: str) -> None:
    page = check_page(full_page)
    assert page.links == ["#result", "#plots", "#subgroups", "#photographs", "#figures", "#origin", "#all"]
    assert full_page.count("plotly.js v") == 1
    assert set(json_of(full_page, "figures")) <= set(page.ids)


def test_the_page_says_what_made_it(full_page: str, forty: Evaluated) -> None:
    page = check_page(full_page)
    for text in (
        "dermask evaluate 'a & b' --data labels.json",
        forty.evaluation.dataset_fingerprint,
        "labels.json",
        "SHA-256 3f9a",
        "the best-scoring lesion of each photograph",
        "95% intervals, the middle of 100 bootstrap samples of 40 photographs (seed 0)",
        "0.5 (default)",
    ):
        assert text in page.text, text


def test_every_figure_stands_with_its_interval(full_page: str, forty: Evaluated) -> None:
    evaluation = forty.evaluation
    low, high, _ = evaluation.intervals["isic.jaccard"]
    assert f'<dd class="value">{evaluation.figures.jaccard:.3f}</dd>' in full_page
    assert f'<dd class="interval">[{low:.3f}, {high:.3f}]</dd>' in full_page
    words = check_page(full_page).text
    for _, text in evaluation_tables.definitions(evaluation):
        assert text in words
    assert "No claim" not in words


def test_text_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    given = evaluated(
        32,
        name=HOSTILE,
        prefix=HOSTILE,
        terms=Terms(
            metadata={f"{HOSTILE}{index:04d}": PhotoInfo(diagnosis=HOSTILE + str(index % 2)) for index in range(32)},
            num_resamples=100,
            look=False,
        ),
    )
    text = page_of(tmp_path, given, command=HOSTILE, tables=[Table(HOSTILE, (), ((HOSTILE, HOSTILE),))])
    page = check_page(text)
    assert HOSTILE not in text
    assert HOSTILE in page.text
    assert f"{HOSTILE}0007" in {photo["id"] for photo in json_of(text, "photographs")["photographs"]}
    shown = json_of(text, "figures")["chart-lesion-size"]["data"][0]["text"]
    assert all("<" not in one for one in shown)  # plotly would read tags


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_photographs_are_shown_once_and_carry_no_claim(count: int, tmp_path: Path) -> None:
    text = page_of(tmp_path, evaluated(count))
    page = check_page(text)
    assert page.classes.count("picture") == count
    assert f"fewer than {MIN_UNITS}: read the figures as examples" in page.text
    assert f"no interval: fewer than {MIN_UNITS} photographs" in page.text
    assert "Every photograph, lowest Jaccard first" in page.text
    assert "A random" not in page.text


def test_a_figure_that_is_not_defined_is_a_dash(tmp_path: Path) -> None:
    given = evaluated(3)
    without = Dataset([replace(sample, instances=()) for sample in given.dataset])
    evaluation = evaluate(given.predictions, without, terms=Terms(num_resamples=100, look=False))
    text = page_of(tmp_path, Evaluated(evaluation, without, given.predictions))
    assert f'<dd class="value">{NOT_DEFINED}</dd>' in text
    assert not re.search(r"\bnan\b|NaN|Infinity", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    json.loads(json.dumps(json_of(text, "photographs")), parse_constant=lambda name: pytest.fail(name))
    assert "chart-lesion-size" not in json_of(text, "figures")


def test_predictions_of_other_photographs_are_refused(tmp_path: Path) -> None:
    given = evaluated(3)
    with pytest.raises(InputError, match="report: the evaluation is about other photographs; give the data set"):
        page_of(tmp_path, Evaluated(given.evaluation, given.dataset[:2], given.predictions[:2]))
    assert not (tmp_path / "page.html").exists()


def test_a_photograph_that_is_gone_leaves_its_outlines(tmp_path: Path) -> None:
    given = evaluated(3)
    ring = Polygons((np.array([[8.0, 8], [20, 8], [20, 20], [8, 20]]),))
    gone = [replace(sample, image=Path("gone.jpg"), instances=(Instance(1, ring),)) for sample in given.dataset]
    text = page_of(tmp_path, Evaluated(given.evaluation, Dataset(gone), given.predictions))
    check_page(text)
    [first, *_] = json_of(text, "photographs")["photographs"]
    assert first["image"] == ""
    assert first["truth"]
    assert text.count('<span class="unreadable">cannot be read</span>') == 3


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("run", "Training run"),
        ("Run", "Training run"),
        ("run_2", "Training run: run_2"),
        ("lr 0.1", "Training run: lr 0.1"),
    ],
)
def test_a_run_is_called_by_its_folder_unless_that_says_nothing(folder: str, title: str, tmp_path: Path) -> None:
    run = tmp_path / folder
    run.mkdir()
    (run / "history.csv").write_text("epoch,loss\n1,0.5\n")
    assert f"<h1>{title}</h1>" in write_run_report(run, command="x").read_text(encoding="utf-8")


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    page_of(tmp_path, evaluated(3), on_progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


# Which photographs


def test_the_worst_come_lowest_first_and_ties_keep_their_order(forty: Evaluated) -> None:
    rows = forty.evaluation.rows
    worst = choose_worst(rows, 24)
    values = [rows[index].figures.jaccard for index in worst]
    assert values == sorted(values)
    assert max(values) <= min(rows[index].figures.jaccard for index in set(range(40)) - set(worst))
    assert choose_worst((rows[0],) * 3, 2) == [0, 1]
    assert choose_worst((), 2) == []


def test_the_random_ones_depend_on_ids_alone(forty: Evaluated) -> None:
    rows = forty.evaluation.rows
    drawn = [rows[index].image_id for index in choose_random(rows, 24)]
    assert len(set(drawn)) == 24
    turned = rows[::-1]
    assert [turned[index].image_id for index in choose_random(turned, 24)] == drawn
    assert [rows[index].image_id for index in choose_random(rows, 24, seed=1)] != drawn
    assert choose_random((), 24) == []


def test_the_galleries_say_how_they_were_chosen(full_page: str) -> None:
    page = check_page(full_page)
    assert page.classes.count("picture") == 48
    assert "The worst 24, lowest Jaccard first" in page.text
    assert "A random 24" in page.text
    assert "with the seed 0" in page.text
    assert "Photograph photo_0002: labelled border outlined, prediction nothing found, Jaccard 0.000" in full_page


def test_a_tile_says_its_score_as_finely_as_thresholds_are(forty: Evaluated, full_page: str) -> None:
    score = forty.evaluation.rows[1].best_score
    assert score is not None
    assert f"1 outlined, score {score:.3f}" in full_page


def test_every_photograph_is_in_the_data(full_page: str, forty: Evaluated) -> None:
    data = json_of(full_page, "photographs")
    assert {photo["id"] for photo in data["photographs"]} == {row.image_id for row in forty.evaluation.rows}
    assert all(photo["listed"] for photo in data["photographs"])
    keys = [figure["key"] for figure in data["figures"]]
    by_id = {photo["id"]: photo for photo in data["photographs"]}
    row = forty.evaluation.rows[7]
    assert by_id[row.image_id]["figures"][keys.index("jaccard")] == pytest.approx(row.figures.jaccard, abs=5e-5)
    share = np.mean(forty.dataset.load(7).masks)
    assert by_id[row.image_id]["figures"][keys.index("lesion_share")] == pytest.approx(share, abs=5e-5)


def test_filters_name_the_values_that_occur(full_page: str, forty: Evaluated) -> None:
    data = json_of(full_page, "photographs")
    traits = {trait["key"]: trait for trait in data["traits"]}
    assert set(traits) == {"lesion_size", "diagnosis", "labels", "outlined"}  # not looked at, and none at the border
    assert traits["diagnosis"]["values"] == ["naevus", "wart"]
    at = list(traits).index("diagnosis")
    counted = sum(photo["traits"][at] == 1 for photo in data["photographs"])
    assert counted == sum(row.traits.diagnosis == "wart" for row in forty.evaluation.rows)
    at = list(traits).index("outlined")
    assert [photo["id"] for photo in data["photographs"] if photo["traits"][at] == 0] == ["photo_0002"]


def test_above_the_limit_the_lowest_get_thumbnails_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "MAX_THUMBNAILS", 10)
    given = evaluated(12)
    text = page_of(tmp_path, given, num_pictures=2)
    assert "The 10 photographs with the lowest Jaccard of 12" in check_page(text).text
    photos = json_of(text, "photographs")["photographs"]
    listed = [photo["id"] for photo in photos if photo["listed"]]
    assert listed == [given.evaluation.rows[index].image_id for index in choose_worst(given.evaluation.rows, 10)]
    drawn = {given.evaluation.rows[index].image_id for index in choose_random(given.evaluation.rows, 2)}
    assert {photo["id"] for photo in photos} == set(listed) | drawn


# Subgroups


def test_a_group_that_is_too_small_is_marked(full_page: str, forty: Evaluated) -> None:
    small = [group for group in forty.evaluation.subgroups if group.is_small]
    assert small
    page = check_page(full_page)
    assert page.classes.count("small-group") == page.classes.count("too-few") == len(small)
    assert f"A group of fewer than {MIN_UNITS} photographs is too small" in page.text
    data = json_of(full_page, "figures")["chart-subgroups"]["data"]
    open_ones = [trace for trace in data if trace["marker"]["symbol"] == "circle-open"]
    assert sum(len(trace["x"]) for trace in open_ones) == len(small)
    assert all("error_x" not in trace for trace in open_ones)


def test_the_forest_plot_has_each_group_below_its_trait() -> None:
    rows = [
        evaluation_charts.ForestRow("hair", "Hair", "no", 90, 0.8, Interval(0.75, 0.85)),
        evaluation_charts.ForestRow("hair", "Hair", "yes", 10, 0.7, None),
        evaluation_charts.ForestRow("tone", "Tone <b>", "tan", 50, math.nan, None),
    ]
    chart = evaluation_charts.forest_chart(rows, 0.78)
    assert chart is not None
    assert chart.figure["layout"]["yaxis"]["ticktext"] == ["<b>Hair</b>", "no (90)", "yes (10)"]
    [sure, unsure] = chart.figure["data"]
    assert (sure["y"], unsure["y"]) == ([-1.0], [-2.0])
    assert sure["error_x"]["array"] == [0.05]
    assert "Hair no 0.800 (90), Hair yes 0.700 (10)" in chart.summary
    assert evaluation_charts.forest_chart(rows[2:], 0.78) is None


# Charts


def test_every_chart_is_one_that_plotly_knows(full_page: str) -> None:
    figures = json_of(full_page, "figures")
    assert set(figures) == {
        "chart-jaccard", "chart-precision-recall", "chart-froc", "chart-calibration-scores", "chart-calibration-masks",
        "chart-lesion-size", "chart-subgroups",
    }  # fmt: skip
    for figure in figures.values():
        graph_objects.Figure(figure)  # refuses a property that does not exist


def test_charts_of_nothing_are_left_out(forty: Evaluated) -> None:
    detection = evaluated(1).evaluation.detection
    empty = replace(detection.curve, x=np.zeros(0), y=np.zeros(0), score_thresh=np.zeros(0))
    detection = replace(detection, curve=empty, froc=empty)
    assert evaluation_charts.precision_recall_chart(detection) is None
    assert evaluation_charts.froc_chart(detection) is None
    calibration = forty.evaluation.score_calibration
    nothing = replace(calibration, counts=np.zeros_like(calibration.counts))
    assert evaluation_charts.reliability_chart("k", "t", "w", nothing) is None
    assert evaluation_charts.lesion_size_chart(["a"], [0.0], [1.0]) is None


def test_a_point_of_lesion_size_leads_to_its_photograph() -> None:
    chart = evaluation_charts.lesion_size_chart(["a", "b<i>", "c"], [0.2, 0.01, 0.0], [0.5, 0.9, 1.0])
    assert chart is not None
    [points] = chart.figure["data"]
    assert points["customdata"] == ["a", "b<i>"]
    assert points["text"] == ["a", "b&lt;i&gt;"]
    assert (points["x"], points["y"]) == ([20, 1], [0.5, 0.9])
    assert chart.summary.startswith("Jaccard index against lesion size of 2 photographs with a labelled lesion")


def test_more_points_than_an_eye_can_tell_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_charts, "MAX_POINTS", 5)
    chart = evaluation_charts.lesion_size_chart([str(i) for i in range(9)], [0.5] * 9, [0.5] * 9)
    assert chart is not None
    assert len(chart.figure["data"][0]["x"]) == 5
    assert chart.summary.endswith("5 of them are drawn, chosen at random.")


def test_thresholds_without_a_place_on_the_curve_are_not_marked(forty: Evaluated) -> None:
    detection = forty.evaluation.detection
    chart = evaluation_charts.froc_chart(detection)
    assert chart is not None
    assert [trace["name"] for trace in chart.figure["data"]] == ["all thresholds", "threshold in use", "highest F1"]
    nowhere = replace(detection, best=detection.best._replace(score_thresh=math.nan))
    chart = evaluation_charts.froc_chart(nowhere)
    assert chart is not None
    assert [trace["name"] for trace in chart.figure["data"]] == ["all thresholds", "threshold in use"]


# Tables


def test_pooled_figures_stand_apart_and_say_that_they_compare_with_nothing(forty: Evaluated) -> None:
    evaluation: Evaluation = replace(forty.evaluation, pooled=forty.evaluation.figures)
    titles = [table.title for table in evaluation_tables.figure_tables(evaluation)]
    assert sum("not comparable" in title for title in titles) == 1
    assert not any("not comparable" in table.title for table in evaluation_tables.figure_tables(forty.evaluation))


def test_every_row_has_a_cell_for_each_column(forty: Evaluated) -> None:
    for table in evaluation_tables.figure_tables(forty.evaluation):
        assert {len(row) for row in table.rows} == {len(table.columns) or 2}, table.title


# Thumbnails


def area_of(path: str, size: ImageSize) -> float:
    """Signed area of compact path data in pixels of the thumbnail, by the shoelace rule, every ring by itself."""
    total = 0.0
    for ring in path.split("z")[:-1]:
        start, steps = re.fullmatch(r"M(-?\d+ -?\d+)l(.*)", ring).groups()  # type: ignore[union-attr]
        numbers = [int(number) for number in re.findall(r"-?\d+", steps)]
        points = np.cumsum(
            [[int(number) for number in start.split()], *zip(numbers[::2], numbers[1::2], strict=True)], 0
        )
        assert (points >= 0).all()
        assert (points <= thumbnails.UNITS * np.array([size.width, size.height])).all()
        x, y = points.T / thumbnails.UNITS
        total += float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return abs(total)


@pytest.mark.parametrize(
    ("bitmask", "num_rings", "expected"),
    [
        pytest.param(np.zeros((20, 30), np.bool_), 0, 0, id="empty"),
        pytest.param(np.ones((20, 30), np.bool_), 1, 600, id="whole photograph"),
        pytest.param(np.pad(np.ones((10, 10), np.bool_), 5), 1, 100, id="square"),
        pytest.param(np.pad(np.pad(np.zeros((6, 6), np.bool_), 4, constant_values=True), 3), 2, 160, id="ring"),
    ],
)
def test_a_compact_path_encloses_the_mask(bitmask: np.ndarray, num_rings: int, expected: float) -> None:
    size = ImageSize(*bitmask.shape)
    path = thumbnails.compact_path(masks.bitmask_to_rle(bitmask), size)
    assert path.count("M") == path.count("z") == num_rings
    assert area_of(path, size) == pytest.approx(expected, abs=2 * num_rings)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.bool_, (24, 32)), st.sampled_from([40, 120, 400]))
def test_a_compact_path_stays_short_and_inside(bitmask: np.ndarray, most: int) -> None:
    size = ImageSize(24, 32)
    path = thumbnails.compact_path(masks.bitmask_to_rle(bitmask), size, max_length=most)
    assert path.count("M") <= 1 or len(path) <= most
    area_of(path, size)


def test_a_large_round_lesion_takes_few_bytes_and_keeps_its_place() -> None:
    y, x = np.mgrid[:1500, :2000] + 0.5
    mask = (y - 700) ** 2 / 500**2 + (x - 1100) ** 2 / 800**2 < 1
    size = ImageSize(150, 200)
    path = thumbnails.compact_path(masks.bitmask_to_rle(mask), size)
    assert len(path) <= thumbnails.MAX_PATH
    assert area_of(path, size) == pytest.approx(mask.sum() / 100, rel=0.01)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(0, 50)), st.floats(0.1, 5))
def test_a_simplified_ring_stays_near_every_point_it_drops(ring: np.ndarray, tolerance: float) -> None:
    kept = contours.simplify_ring(ring, tolerance)
    rows = [tuple(point) for point in ring.tolist()]
    places, last = [], -1
    for point in kept.tolist():
        last = rows.index(tuple(point), last + 1)
        places.append(last)  # points of the ring, in their order
    closed = np.concatenate([ring, ring[:1]])
    for start, stop in zip(places, [*places[1:], len(ring)], strict=True):
        along = closed[stop] - closed[start]
        for point in closed[start:stop]:
            length = np.hypot(*along)
            offset = point - closed[start]
            far = np.hypot(*offset) if length == 0 else abs(along[0] * offset[1] - along[1] * offset[0]) / length
            assert far <= tolerance + 1e-6


@pytest.mark.parametrize(("count", "side"), [(1, 288), (600, 288), (601, 208), (2000, 208), (2001, 128), (9999, 128)])
def test_thumbnails_of_many_photographs_are_smaller(count: int, side: int) -> None:
    assert thumbnails.thumbnail_side(count) == side


def test_a_thumbnail_is_scaled_and_knows_the_lesions_share(tmp_path: Path) -> None:
    mask = np.zeros((300, 600), np.bool_)
    mask[:150] = True
    sample = Sample("a", np.full((300, 600, 3), 90, np.uint8), ImageSize(300, 600), (Instance(1, Bitmask(mask)),))
    task = thumbnails.ThumbnailTask(sample, ImageSize(300, 600), masks.bitmask_to_rle(~mask), 128)
    [one] = thumbnails.make_thumbnails([task])
    assert one.size == (64, 128)
    assert one.lesion_share == 0.5
    assert area_of(one.truth_path, one.size) == pytest.approx(area_of(one.pred_path, one.size), rel=0.02)
    broken = replace(task, sample=replace(sample, image=tmp_path / "gone.png"))
    [one] = thumbnails.make_thumbnails([broken])
    assert (one.image, one.problem) == ("", "no such file")
    assert one.truth_path


@pytest.mark.slow
def test_worker_processes_make_the_same_thumbnails() -> None:
    few = repeated(evaluated(3), 12)
    tasks = [
        thumbnails.ThumbnailTask(sample, SIZE, masks.bitmask_to_rle(np.zeros(SIZE, np.bool_)), 40)
        for sample in few.dataset
    ]
    alone = list(thumbnails.make_thumbnails(tasks, processes=1))
    assert list(thumbnails.make_thumbnails(tasks, processes=2)) == alone


def test_a_threshold_that_nothing_chose_has_no_counts() -> None:
    """False alarms without a lesion choose no threshold, and zeros would say that there are none."""
    shown = evaluated(2)
    terms = Terms(num_resamples=100, look=False)
    only_false = evaluate(shown.predictions[1:], shown.dataset.select([1]), terms=terms)
    [table] = [one for one in evaluation_tables.figure_tables(only_false) if one.title.startswith("Lesions found")]
    assert {row[3] for row in table.rows} == {NOT_DEFINED}
    assert [row[1] for row in table.rows if row[0] == "False alarms"] == ["1"]
