"""Which figures of an evaluation get an interval: those that enough units carry, and that spread."""

from __future__ import annotations

import numpy as np
import pytest

from dermask.cli.figures_text import figures_table
from dermask.data.dataset import Dataset
from dermask.evaluation.bootstrap import MIN_UNITS
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.evaluation.record import Evaluation
from dermask.records import Bitmask, Detections, ImageSize, Instance, Sample
from dermask.report.evaluation_tables import figure_tables, headline

SIZE = ImageSize(24, 32)


def judged(lesions: int, found: int, *, count: int = 60, scale: int = 0) -> Evaluation:
    """`count` photographs: `lesions` of them, from the first, hold a lesion, and in the last `found` one is found.

    Scores, and how far an outline is off, vary. Of the first `scale` photographs the scale is known.
    """
    rng = np.random.default_rng(0)
    samples, predictions = [], []
    for index in range(count):
        mask = np.zeros(SIZE, np.bool_)
        mask[4:16, 6:20] = True
        instances = (Instance(1, Bitmask(mask)),) if index < lesions else ()
        samples.append(Sample(f"photo_{index}", np.full((*SIZE, 3), 180, np.uint8), None, instances))
        box = np.array([[6 + index % 7, 4, 20, 16]], np.float32)
        score = np.array([rng.uniform(0.5, 1)], np.float32)
        one = Detections(box, score, np.ones(1, np.int64), np.full((1, 8, 8), 0.9, np.float32), SIZE)
        predictions.append(one if index >= count - found else Detections.empty(SIZE))
    terms = Terms(num_resamples=100, look=False, mm_per_pixel={f"photo_{index}": 0.1 for index in range(scale)})
    return evaluate(predictions, Dataset(samples, ("lesion",), "squares"), terms=terms)


@pytest.mark.parametrize(
    ("lesions", "found", "without"),
    [
        pytest.param(50, 50, set(), id="enough of all"),
        pytest.param(MIN_UNITS - 1, 50, {"coco.mask.ap", "coco.box.ar", "detection.recall"}, id="few lesions"),
        pytest.param(
            50,
            MIN_UNITS - 1,
            {"detection.precision", "calibration.scores_brier", "calibration.masks_brier"},
            id="few detections",
        ),
    ],
)
def test_a_figure_that_too_few_units_carry_has_no_interval(lesions: int, found: int, without: set[str]) -> None:
    evaluation = judged(lesions, found)
    asked = {
        "isic.jaccard", "coco.mask.ap", "coco.box.ar", "detection.precision", "detection.recall", "detection.f1",
        "detection.false_alarms_per_photo", "calibration.scores_brier", "calibration.masks_brier",
    }  # fmt: skip
    assert asked - evaluation.intervals.keys() == without
    for name, interval in evaluation.intervals.items():
        assert interval.low < interval.high, name
        assert interval.low <= evaluation.by_name()[name] <= interval.high, name


def test_few_detections_and_few_lesions_may_carry_an_f1_together() -> None:
    evaluation = judged(20, 20)
    assert "detection.f1" not in evaluation.intervals  # nothing is right: no spread
    assert evaluation.detection.chosen.f1 == 0
    assert "detection.f1" in judged(25, 45).intervals


def test_the_expected_calibration_error_has_no_interval() -> None:
    evaluation = judged(50, 50)
    assert [name for name in evaluation.intervals if name.startswith("calibration")] == [
        "calibration.scores_brier", "calibration.masks_brier"
    ]  # fmt: skip
    assert evaluation.by_name()["calibration.scores_brier"] == evaluation.score_calibration.brier_score


@pytest.mark.parametrize(("scale", "has_interval"), [(0, False), (MIN_UNITS - 1, False), (MIN_UNITS, True)])
def test_millimetres_have_an_interval_where_enough_scales_are_known(scale: int, has_interval: bool) -> None:
    evaluation = judged(60, 60, scale=scale)
    assert ("boundary.distance_95_mm" in evaluation.intervals) == has_interval
    if has_interval:
        low, high, _ = evaluation.intervals["boundary.distance_95_mm"]
        assert low <= evaluation.by_name()["boundary.distance_95_mm"] <= high
        assert "95 % distance, mm" in figures_table(evaluation)


def test_a_perfect_result_says_that_nothing_spreads() -> None:
    evaluation = judged(0, 0)
    assert evaluation.figures.jaccard == 1
    assert evaluation.intervals == {}
    cards = {card.title: card.interval for card in headline(evaluation)}
    assert cards["Jaccard index"] == "no spread in this sample"
    assert cards["Mask AP"] == "no interval"
    text = figures_table(evaluation)
    assert "nan" not in text
    assert "  mask                       -       -       -       -    -  -  -\n" in text
    assert "no spread in this sample" in text


@pytest.mark.parametrize(("lesions", "mark"), [(1, "too few for a claim"), (MIN_UNITS, "none")])
def test_figures_by_size_say_how_many_lesions_they_rest_on(lesions: int, mark: str) -> None:
    evaluation = judged(lesions, 60)
    [coco] = [table for table in figure_tables(evaluation) if table.title.startswith("COCO")]
    [row] = [row for row in coco.rows if row[0] == f"AP, small lesions ({lesions})"]
    assert row[2] == row[4] == mark
    told = f"lesions by size: {lesions} small" + (" (too few for a claim)" if lesions == 1 else "")
    assert f"{told}, 0 medium, 0 large" in figures_table(evaluation)
