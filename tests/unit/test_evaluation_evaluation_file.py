"""What is written of an evaluation, and what is taken from it again."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.evaluation.evaluation_file import chosen_threshold, read_summary, save, to_json
from dermask.evaluation.record import Evaluation
from dermask.records import Bitmask, Detections, ImageSize, Instance, PhotoInfo, Sample

SIZE = ImageSize(24, 32)


def judged(num_photos: int, terms: Terms | None = None) -> Evaluation:
    """Squares found a pixel off in all photographs but every fifth; every tenth holds none."""
    samples, found = [], []
    generator = np.random.default_rng(0)
    for index in range(num_photos):
        mask = np.zeros(SIZE, np.bool_)
        mask[4:16, 6:20] = index % 10 != 0
        instances = (Instance(1, Bitmask(mask)),) if mask.any() else ()
        samples.append(Sample(f"photo_{index}", np.full((*SIZE, 3), 180, np.uint8), None, instances))
        score = np.array([generator.uniform(0.3, 1)], np.float32)
        box = np.array([[7, 4, 21, 16]], np.float32)
        one = Detections(box, score, np.ones(1, np.int64), np.full((1, 8, 8), 0.9, np.float32), SIZE)
        found.append(Detections.empty(SIZE) if index % 5 == 0 else one)
    return evaluate(found, Dataset(samples, ("lesion",), "squares"), terms=terms or Terms(num_resamples=200))


def test_enough_photographs_give_every_figure_an_interval(tmp_path: Path) -> None:
    evaluation = judged(40)
    summary, _ = save(evaluation, tmp_path)
    content = read_summary(summary)
    assert content == read_summary(tmp_path)
    figures = evaluation.by_name()
    without_spread = {"detection.precision", "detection.false_alarms_per_photo", "calibration.masks_brier"}
    assert (figures["detection.precision"], figures["detection.false_alarms_per_photo"]) == (1, 0)
    defined = {name for name, value in figures.items() if not math.isnan(value)}
    assert set(content["intervals"]) == defined - without_spread
    for name, (low, high) in content["intervals"].items():
        assert low <= figures[name] <= high, name
    [large] = [group for group in content["subgroups"] if not group["is_small"]]
    assert large["value"] == "medium"
    low, high = large["intervals"]["isic.jaccard"]
    assert low <= large["figures"]["isic.jaccard"] <= high
    assert content["resampling"] == {
        "unit": "photograph", "num_units": 40, "num_resamples": 200, "seed": 0, "level": 0.95
    }  # fmt: skip


def test_photographs_of_one_patient_count_as_one() -> None:
    known = {f"photo_{index}": PhotoInfo(patient_id=f"patient_{index // 2}") for index in range(40)}
    evaluation = judged(40, Terms(metadata=known, num_resamples=200))
    assert (evaluation.resampling.unit, evaluation.resampling.num_units) == ("patient", 20)
    assert evaluation.intervals == {}  # twenty patients are too few, forty photographs of them or not
    assert evaluation.rows[3].unit == "patient patient_1"


def test_lesions_are_units_where_no_patient_is_known() -> None:
    known = {"photo_1": PhotoInfo(lesion_id="mole"), "photo_2": PhotoInfo(lesion_id="mole")}
    evaluation = judged(40, Terms(metadata=known, num_resamples=200))
    assert (evaluation.resampling.unit, evaluation.resampling.num_units) == ("lesion or photograph", 39)


def test_the_scale_gives_millimetres(tmp_path: Path) -> None:
    evaluation = judged(4, Terms(mm_per_pixel={"photo_1": 0.5}))
    assert evaluation.boundary.num_with_scale == 1
    distance = evaluation.rows[1].boundary.average_distance
    assert evaluation.boundary.average_distance_mm == pytest.approx(0.5 * distance)
    assert evaluation.by_name()["boundary.average_distance_mm"] == evaluation.boundary.average_distance_mm
    _, table = save(evaluation, tmp_path)
    with table.open(newline="") as file:
        assert [row["mm_per_pixel"] for row in csv.DictReader(file)] == ["", "0.5", "", ""]


def test_pooled_figures_stand_there_when_asked_for() -> None:
    assert json.loads(to_json(judged(4)))["pooled_not_comparable"] is None
    pooled = json.loads(to_json(judged(4, Terms(pooled=True))))["pooled_not_comparable"]
    assert 0 < pooled["jaccard"] < 1


def test_the_threshold_that_validation_chose_is_found_again(tmp_path: Path) -> None:
    evaluation = judged(40)
    save(evaluation, tmp_path)
    threshold = chosen_threshold(tmp_path)
    assert threshold.score_thresh == evaluation.detection.best.score_thresh
    assert threshold.origin == f"highest F1 in {tmp_path.parent.name}/{tmp_path.name}"
    again = judged(40, Terms(threshold=threshold, num_resamples=200))
    assert again.detection.chosen.f1 == evaluation.detection.best.f1


def test_photographs_without_a_lesion_choose_no_threshold(tmp_path: Path) -> None:
    save(judged(1), tmp_path)
    with pytest.raises(InputError, match="chose no score threshold; evaluate again on photographs with lesions"):
        chosen_threshold(tmp_path / "evaluation.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not the summary of an evaluation; give an evaluation.json of dermask evaluate -o, or its folder"),
        ('{"dataset": {}}', "is not the summary of an evaluation"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_evaluation_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "evaluation.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_summary(path)


@pytest.mark.parametrize("best", [None, {}, {"score_thresh": None}, {"score_thresh": True}, {"score_thresh": 2}])
def test_a_threshold_that_is_none_is_told(tmp_path: Path, best: object) -> None:
    content = {"dataset": {}, "rules": {}, "isic": {}, "coco": {}, "detection": {"best": best}}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="chose no score threshold"):
        chosen_threshold(path)


def test_an_evaluation_of_an_older_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"dataset": {}, "rules": {}, "isic": {}, "coco": {}}')
    with pytest.raises(InputError, match="is of a version that chose no score threshold; evaluate again"):
        chosen_threshold(tmp_path)
