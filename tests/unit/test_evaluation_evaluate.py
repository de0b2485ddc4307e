"""Whole evaluations: of a detector, of predictions in memory, and what is written."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from dermask import masks
from dermask.data.dataset import Dataset
from dermask.errors import ImageError, InputError, SettingError
from dermask.evaluation.boundary import boundary_figures
from dermask.evaluation.coco_ap import coco_ap
from dermask.evaluation.evaluate import Terms, as_masks, cases, conclude, evaluate, judge_all, summarise, tell_of_death
from dermask.evaluation.evaluation_file import save, to_csv, to_json
from dermask.evaluation.isic_challenge import mean_figures, photo_figures
from dermask.evaluation.photo_masks import TruthMasks
from dermask.evaluation.record import Evaluation, Threshold
from dermask.records import Bitmask, ByteArray, Detections, ImageSize, Instance, Sample

SIZE = ImageSize(40, 48)
SECOND_LESION = np.zeros(SIZE, np.bool_)
SECOND_LESION[32:38, 38:46] = True


def lesion_mask(index: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[5 + index : 25 + index, 10 : 30 + index] = True
    return mask


def make_dataset(lesions: Sequence[int] = (1, 0, 2, 1), class_names: tuple[str, ...] = ("lesion",)) -> Dataset:
    samples = []
    for index, count in enumerate(lesions):
        image = np.full((*SIZE, 3), index, np.uint8)  # its number, so that the detector below knows it again
        bitmasks = [lesion_mask(index), SECOND_LESION][:count]
        instances = tuple(Instance(1, Bitmask(mask)) for mask in bitmasks)
        samples.append(Sample(f"photo_{index}", image, None, instances))
    return Dataset(samples, class_names, "drawn")


def detection(index: int, image_id: str = "", score: float = 0.9) -> Detections:
    """One box and a full mask in it, two pixels off."""
    box = np.array([[12, 5 + index, 30 + index, 25 + index]], np.float32)
    return Detections(
        box, np.array([score], np.float32), np.ones(1, np.int64), np.ones((1, 14, 14), np.float32), SIZE,
        image_id=image_id,
    )  # fmt: skip


def everything(evaluation: Evaluation) -> tuple[str, str]:
    """All that an evaluation says, to compare two."""
    return to_json(evaluation), to_csv(evaluation)


class FakeDetector:
    """Finds the same lesion in every photograph but in those of value 3, where it finds nothing."""

    class_names = ("naevus",)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, images: Sequence[ByteArray | Path]) -> list[Detections]:
        self.batches.append(len(images))
        values = [int(np.asarray(image)[0, 0, 0]) for image in images]
        return [Detections.empty(SIZE) if value == 3 else detection(value) for value in values]


def test_an_evaluation_is_what_its_parts_give() -> None:
    dataset = make_dataset()
    done: list[tuple[int, int]] = []
    evaluation = evaluate(FakeDetector(), dataset, progress=lambda *counts: done.append(counts))
    predictions = [detection(0), detection(1), detection(2), Detections.empty(SIZE)]
    slow = []
    for index, prediction in enumerate(predictions):
        sample = dataset.load(index)
        slow.append(photo_figures(sample.masks.any(axis=0), masks.detections_bitmask(prediction, "primary")))
    assert [row.figures for row in evaluation.rows] == slow
    assert evaluation.figures == mean_figures(slow)
    for index, prediction in enumerate(predictions):
        masks_of_both = dataset.load(index).masks.any(axis=0), masks.detections_bitmask(prediction, "primary")
        expected = boundary_figures(*masks_of_both)  # a mean of the same distances in another order
        assert astuple(evaluation.rows[index].boundary) == pytest.approx(astuple(expected), rel=1e-12)
    truths = [TruthMasks.from_sample(sample, SIZE) for sample in dataset]
    assert evaluation.coco == coco_ap(truths, [as_masks(prediction) for prediction in predictions], num_classes=1)
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    counts = evaluation.counts
    assert (counts.photographs, counts.without_lesion, counts.without_detection) == (4, 1, 1)
    assert (counts.lesions, counts.crowd_regions, counts.detections) == (4, 0, 3)
    assert [row.best_score for row in evaluation.rows] == [pytest.approx(0.9)] * 3 + [None]


def test_a_photograph_without_a_lesion_in_which_nothing_is_found_scores_1() -> None:
    evaluation = evaluate([Detections.empty(SIZE)], make_dataset([0]))
    assert evaluation.figures.jaccard == 1
    assert math.isnan(evaluation.coco.mask.ap)
    assert json.loads(to_json(evaluation))["coco"]["mask"]["ap"] is None


def test_many_photographs_reach_the_detector_in_batches() -> None:
    detector = FakeDetector()
    assert len(evaluate(detector, make_dataset([1] * 19)).rows) == 19
    assert sum(detector.batches) == 19
    assert max(detector.batches) > 1


def test_predictions_with_ids_may_come_in_any_order() -> None:
    dataset = make_dataset()
    ordered = [detection(index, f"photo_{index}") for index in range(4)]
    shuffled = [ordered[index] for index in (2, 0, 3, 1)]
    expected = evaluate(ordered, dataset)
    assert everything(evaluate(shuffled, dataset)) == everything(expected)
    pasted = evaluate([as_masks(found) for found in shuffled], dataset)
    assert pasted.mask_calibration is None  # exact masks no longer know their probabilities
    assert everything(pasted) == everything(replace(expected, mask_calibration=None))


def test_predictions_may_come_one_by_one() -> None:
    dataset = make_dataset()
    found = [detection(index, f"photo_{index}") for index in range(4)]
    verdicts = judge_all(iter(found), dataset, Terms())
    assert everything(conclude(verdicts, dataset, Terms())) == everything(evaluate(found, dataset))
    with pytest.raises(InputError, match="predictions: there are 3 for 4 photographs"):
        judge_all(iter(found[:3]), dataset, Terms())
    with pytest.raises(InputError, match="predictions: there are more than the 4 photographs"):
        judge_all(iter([*found, found[0]]), dataset, Terms())


def test_worker_processes_find_the_same() -> None:
    dataset = make_dataset()
    found = [detection(index) for index in range(4)]
    shared = conclude(judge_all(found, dataset, Terms(), processes=2), dataset, Terms())
    assert everything(shared) == everything(evaluate(found, dataset))


def test_a_photograph_that_ends_its_worker_is_named() -> None:
    [case] = cases([detection(0)], make_dataset([1]), Terms())
    with pytest.raises(ImageError, match="photo_0: the process that looked at it died, perhaps for want of memory"):
        tell_of_death(case)


def test_the_threshold_decides_what_is_found_but_not_the_order_of_scores() -> None:
    dataset, found = make_dataset([1]), [detection(0, score=0.4)]
    strict = evaluate(found, dataset, score_thresh=0.5)
    loose = evaluate(found, dataset, terms=Terms(threshold=Threshold(0.4, "given")))
    assert (strict.detection.chosen.found, loose.detection.chosen.found) == (0, 1)
    assert strict.coco == loose.coco


def test_the_union_takes_what_scores_enough() -> None:
    dataset = make_dataset([1])
    assert evaluate([detection(0, score=0.4)], dataset, rule="union").figures.jaccard == 0
    assert evaluate([detection(0, score=0.4)], dataset, rule="union", score_thresh=0.4).figures.jaccard > 0.8
    assert evaluate([detection(0, score=0.4)], dataset, rule="primary").figures.jaccard > 0.8


def test_the_summary_of_an_epoch_is_that_of_the_evaluation() -> None:
    dataset = make_dataset()
    predictions = [detection(index) for index in range(4)]
    evaluation = evaluate(predictions, dataset)
    truths = []
    for index in range(4):
        sample = dataset.load(index)
        truths.append(TruthMasks.from_bitmasks(sample.masks, sample.labels, ignored=sample.ignored))
    summary = summarise(truths, predictions, num_classes=1)
    assert summary.val_jaccard == evaluation.figures.jaccard
    assert summary.val_mask_ap == evaluation.coco.mask.ap


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], "photograph photo_0: has no prediction, and 1 more have none"),
        ([detection(0)] * 3, "there are 3 for the 2 photographs of drawn"),
        ([detection(0, "photo_0")], "photograph photo_1: has no prediction; predict on all 2 photographs of drawn"),
        ([detection(0, "elsewhere")], "photograph photo_0: has no prediction, and 1 more have none"),
        ([detection(0, "photo_0"), detection(1, "photo_0")], "prediction for photo_0: appears twice"),
        (
            [Detections.empty(ImageSize(48, 40))] * 2,
            "prediction for photo_0: is 40 x 48 pixels, the photograph 48 x 40",
        ),
    ],
)
def test_predictions_for_other_photographs_are_refused(predictions: list[Detections], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(predictions, make_dataset([1, 1]))


@pytest.mark.parametrize("score_thresh", [-0.1, 1.1])
def test_a_threshold_that_no_score_has_is_refused(score_thresh: float) -> None:
    with pytest.raises(SettingError, match=r"score_thresh -?\d\.1: must be between 0 and 1"):
        evaluate(FakeDetector(), make_dataset(), rule="union", score_thresh=score_thresh)


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="drawn: has no photographs to evaluate on"):
        evaluate([], make_dataset([]))


def test_a_model_of_other_classes_is_refused() -> None:
    with pytest.raises(InputError, match="model: finds the classes naevus; drawn has labels for naevus, wart"):
        evaluate(FakeDetector(), make_dataset([1], class_names=("naevus", "wart")))


def test_the_files_hold_every_figure(tmp_path: Path) -> None:
    evaluation: Evaluation = evaluate(FakeDetector(), make_dataset(), rule="union", score_thresh=0.3)
    summary, table = save(evaluation, tmp_path / "new" / "folder", origin={"command": "dermask evaluate"})
    content = json.loads(summary.read_text())
    assert content["isic"]["jaccard"] == evaluation.figures.jaccard
    assert content["coco"]["box"]["ap50"] == evaluation.coco.box.ap50
    assert content["coco"]["mask"]["ap_by_class"] == {"lesion": evaluation.coco.mask.ap}
    assert content["rules"] == {
        "mask_of_a_photograph": "union",
        "score_thresh": 0.3,
        "score_thresh_from": "given",
        "mask_thresh": 0.5,
        "jaccard_thresh": 0.65,
        "max_detections": 100,
    }
    assert content["origin"] == {"command": "dermask evaluate"}
    assert content["boundary"]["figures"]["boundary_iou"] == evaluation.boundary.figures.boundary_iou
    assert content["detection"]["chosen"]["found"] == evaluation.detection.chosen.found
    assert content["intervals"] == {}  # four photographs carry no claim
    assert content["resampling"]["unit"] == "photograph"
    assert content["pooled_not_comparable"] is None
    assert content["dataset"]["name"] == "drawn"
    assert content["dataset"]["photographs"] == 4
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == [f"photo_{index}" for index in range(4)]
    assert (rows[0]["width"], rows[0]["height"]) == ("48", "40")
    assert float(rows[2]["jaccard"]) == pytest.approx(evaluation.rows[2].figures.jaccard, abs=1e-6)
    assert rows[3]["best_score"] == ""
