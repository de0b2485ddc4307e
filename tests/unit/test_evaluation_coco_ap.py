"""Average precision: equal to pycocotools on random scenes, and defined at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dermask.errors import InputError
from dermask.evaluation.coco_ap import CocoFigures, coco_ap, mask_ap
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, as_coco
from dermask.masks import bitmask_to_rle, mask_boxes, rle_to_bitmask
from dermask.records import ImageSize


def ellipse(size: ImageSize, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    rows, columns = np.mgrid[: size.height, : size.width] + 0.5
    inside: np.ndarray = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    return inside


def predicted(bitmasks: np.ndarray, scores: Any, labels: Any, *, size: ImageSize) -> PredictedMasks:
    return PredictedMasks(
        masks=tuple(bitmask_to_rle(bitmask) for bitmask in bitmasks),
        boxes=mask_boxes(bitmasks),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
        size=size,
    )


def random_scene(rng: np.random.Generator) -> tuple[TruthMasks, PredictedMasks]:
    """Up to three lesions of two classes, at times a crowd region; detections near them, elsewhere, or none."""
    size = ImageSize(int(rng.integers(20, 50)), int(rng.integers(20, 50)))
    outlines = [
        (rng.uniform(5, np.array(size) - 5), rng.uniform(4, 12, 2), int(rng.integers(1, 3)))
        for _ in range(rng.integers(0, 4))
    ]
    bitmasks = [ellipse(size, tuple(centre), tuple(radii)) for centre, radii, _ in outlines]
    labels = np.array([label for *_, label in outlines], np.int64)
    is_crowd = rng.random(len(outlines)) < 0.2
    truth = TruthMasks(tuple(bitmask_to_rle(mask) for mask in bitmasks), labels, is_crowd, size)
    found, found_labels = [], []
    for centre, radii, label in outlines:
        for _ in range(rng.integers(0, 3)):
            found.append(ellipse(size, tuple(centre + rng.normal(0, 1.5, 2)), tuple(radii * rng.uniform(0.8, 1.2, 2))))
            found_labels.append(label if rng.random() < 0.9 else 3 - label)
    for _ in range(rng.integers(0, 2)):
        found.append(ellipse(size, tuple(rng.uniform(5, 20, 2)), (5, 5)))
        found_labels.append(1)
    scores = -np.sort(-rng.random(len(found)).round(1))  # rounded, so that equal scores occur
    stacked = np.stack(found) if found else np.zeros((0, *size), np.bool_)
    return truth, predicted(stacked, scores, found_labels, size=size)


def oracle(
    truths: list[TruthMasks], predictions: list[PredictedMasks], num_classes: int, max_detections: int
) -> dict[str, tuple[float, ...]]:
    """The same through pycocotools' own front door."""
    truth_index, results = COCO(), []
    truth_index.dataset = {
        "images": [{"id": i, "height": t.size.height, "width": t.size.width} for i, t in enumerate(truths, 1)],
        "categories": [{"id": label} for label in range(1, num_classes + 1)],
        "annotations": [],
    }
    annotations = truth_index.dataset["annotations"]
    for image_id, (truth, prediction) in enumerate(zip(truths, predictions, strict=True), 1):
        for rle, label, crowd in zip(truth.masks, truth.labels, truth.is_crowd, strict=True):
            bitmask = rle_to_bitmask(rle)
            x1, y1, x2, y2 = (float(value) for value in mask_boxes(bitmask[None])[0])
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(label), "iscrowd": int(crowd),
                 "segmentation": as_coco(rle), "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(bitmask.sum())}
            )  # fmt: skip
        for rle, box, score, label in zip(
            prediction.masks, prediction.boxes.astype(float), prediction.scores, prediction.labels, strict=True
        ):
            results.append(
                {"image_id": image_id, "category_id": int(label), "score": float(score), "segmentation": as_coco(rle),
                 "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
            )  # fmt: skip
    truth_index.createIndex()
    found_index = truth_index.loadRes(results)
    figures = {}
    for kind in ("bbox", "segm"):
        evaluator = COCOeval(truth_index, found_index, kind)
        evaluator.params.maxDets = [max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
        precision, recall = evaluator.eval["precision"][:, :, :, 0, -1], evaluator.eval["recall"][:, :, 0, -1]
        figures[kind] = (
            precision[precision > -1].mean(),
            precision[0][precision[0] > -1].mean(),
            precision[5][precision[5] > -1].mean(),
            recall[recall > -1].mean(),
        )
    return figures


@pytest.mark.parametrize(("seed", "max_detections"), [(0, 100), (1, 100), (2, 2)])
def test_figures_equal_pycocotools(seed: int, max_detections: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(40)]
    truths, predictions = [truth for truth, _ in scenes], [found for _, found in scenes]
    figures = coco_ap(truths, predictions, num_classes=2, max_detections=max_detections)
    expected = oracle(truths, predictions, 2, max_detections)
    assert 0.05 < figures.mask.ap < 0.95
    assert figures.box[:4] == pytest.approx(expected["bbox"], abs=1e-12)
    assert figures.mask[:4] == pytest.approx(expected["segm"], abs=1e-12)
    assert figures.mask.ap == pytest.approx(np.mean(figures.mask.ap_by_label), abs=1e-12)
    assert mask_ap(truths, predictions, num_classes=2, max_detections=max_detections) == figures.mask


SIZE = ImageSize(24, 30)
LESION = ellipse(SIZE, (12, 14), (6, 8))
ELSEWHERE = ellipse(SIZE, (3, 3), (2, 2))


def evaluate_one(truth_masks: list[np.ndarray], pred_masks: list[np.ndarray], **truth: Any) -> CocoFigures:
    truths = TruthMasks.from_bitmasks(stack(truth_masks), np.ones(len(truth_masks), np.int64), **truth)
    scores = np.linspace(0.9, 0.5, len(pred_masks))
    found = predicted(stack(pred_masks), scores, np.ones(len(pred_masks)), size=SIZE)
    return coco_ap([truths], [found], num_classes=1)


def stack(bitmasks: list[np.ndarray]) -> np.ndarray:
    return np.stack(bitmasks) if bitmasks else np.zeros((0, *SIZE), np.bool_)


@pytest.mark.parametrize(
    ("truth_masks", "pred_masks", "expected"),
    [
        pytest.param([], [], math.nan, id="nothing to find, nothing found"),
        pytest.param([], [LESION], math.nan, id="nothing to find, something found"),
        pytest.param([LESION], [], 0.0, id="nothing found"),
        pytest.param([LESION], [LESION], 1.0, id="found exactly"),
        pytest.param([LESION], [LESION, ELSEWHERE], 1.0, id="found, and a weaker mistake"),
        pytest.param([LESION], [ELSEWHERE, LESION], 0.5, id="found, and a stronger mistake"),
        pytest.param([LESION], [np.zeros(SIZE, np.bool_)], 0.0, id="an empty mask found"),
    ],
)
def test_average_precision_at_the_edges(
    truth_masks: list[np.ndarray], pred_masks: list[np.ndarray], expected: float
) -> None:
    figures = evaluate_one(truth_masks, pred_masks)
    assert figures.mask.ap == pytest.approx(expected, nan_ok=True)
    assert figures.mask.ap50 == pytest.approx(expected, nan_ok=True)
    assert figures.mask.ap_by_label == pytest.approx((expected,), nan_ok=True)


def test_no_photographs_give_no_figures() -> None:
    figures = coco_ap([], [], num_classes=1)
    assert all(math.isnan(value) for value in figures.mask[:4])


def test_what_is_found_in_an_ignored_region_does_not_count_against() -> None:
    assert evaluate_one([LESION], [ELSEWHERE, LESION], ignored=ELSEWHERE).mask.ap == pytest.approx(1.0)


def test_a_class_without_labels_leaves_the_mean_to_the_others() -> None:
    truth = TruthMasks.from_bitmasks(LESION[None], np.array([2]))
    figures = coco_ap([truth], [predicted(LESION[None], [0.9], [2], size=SIZE)], num_classes=3)
    assert figures.mask.ap == 1.0
    assert [math.isnan(value) for value in figures.mask.ap_by_label] == [True, False, True]


def test_nothing_is_printed_and_no_file_written(
    capfd: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate_one([LESION], [LESION])
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_predictions_that_do_not_fit_are_refused() -> None:
    truth = TruthMasks.from_bitmasks(LESION[None], np.array([1]), image_id="ISIC_7")
    with pytest.raises(InputError, match="there are 0 for 1 photographs"):
        coco_ap([truth], [], num_classes=1)
    turned = predicted(LESION.T[None], [0.9], [1], size=ImageSize(30, 24))
    with pytest.raises(InputError, match="prediction for ISIC_7: is 24 x 30 pixels, the photograph 30 x 24"):
        coco_ap([truth], [turned], num_classes=1)
