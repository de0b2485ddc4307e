"""Average precision: equal to pycocotools on random scenes, and defined at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from evaluation_scenes import ellipse, predicted, random_scene
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dermask.errors import InputError
from dermask.evaluation.coco_ap import AveragePrecision, CocoFigures, coco_ap, mask_ap
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, as_coco
from dermask.masks import mask_boxes, rle_to_bitmask
from dermask.records import ImageSize


def oracle(
    truths: list[TruthMasks], predictions: list[PredictedMasks], num_classes: int, max_detections: int
) -> dict[str, tuple[float, ...]]:
    """The same through pycocotools' own front door."""
    truth_index = COCO()
    results: dict[str, list[Any]] = {"bbox": [], "segm": []}
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
            found = {"image_id": image_id, "category_id": int(label), "score": float(score)}
            results["bbox"].append(found | {"bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]})
            results["segm"].append(found | {"segmentation": as_coco(rle)})
    truth_index.createIndex()
    figures = {}
    for kind in ("bbox", "segm"):  # a file each, as COCO wants it: its sizes are those of what a file holds
        evaluator = COCOeval(truth_index, truth_index.loadRes(results[kind]), kind)
        evaluator.params.maxDets = [max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
        precision, recall = evaluator.eval["precision"][..., -1], evaluator.eval["recall"][..., -1]
        parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], recall[..., 0]]
        parts += [precision[..., size] for size in (1, 2, 3)] + [recall[..., size] for size in (1, 2, 3)]
        figures[kind] = tuple(part[part > -1].mean() if (part > -1).any() else math.nan for part in parts)
    return figures


def as_list(figures: AveragePrecision) -> tuple[float, ...]:
    return (*figures[:4], *figures[5:11])


@pytest.mark.parametrize(("seed", "max_detections", "scale"), [(0, 100, 1), (1, 100, 7), (2, 2, 1), (3, 2, 7)])
def test_figures_equal_pycocotools(seed: int, max_detections: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, scale=scale) for _ in range(40)]
    truths, predictions = [truth for truth, _ in scenes], [found for _, found in scenes]
    figures = coco_ap(truths, predictions, num_classes=2, max_detections=max_detections)
    expected = oracle(truths, predictions, 2, max_detections)
    assert 0.05 < figures.mask.ap < 0.95
    assert as_list(figures.box) == pytest.approx(expected["bbox"], abs=1e-12, nan_ok=True)
    assert as_list(figures.mask) == pytest.approx(expected["segm"], abs=1e-12, nan_ok=True)
    assert math.isnan(figures.mask.ap_large) == (scale == 1)
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


@pytest.mark.parametrize(
    ("radius", "bins"),
    [
        pytest.param(8, "small", id="a small lesion"),
        pytest.param(30, "medium", id="one of medium size"),
        pytest.param(60, "large", id="a large one"),
    ],
)
def test_a_lesion_counts_in_the_bin_of_its_area(radius: int, bins: str) -> None:
    size = ImageSize(140, 150)
    mask = ellipse(size, (70, 70), (radius, radius))[None]
    truth = TruthMasks.from_bitmasks(mask, np.array([1]))
    figures = coco_ap([truth], [predicted(mask, [0.9], [1], size=size)], num_classes=1)
    for of_kind in figures.box, figures.mask:
        values = of_kind._asdict()
        for name in ("small", "medium", "large"):
            expected = 1.0 if name == bins else math.nan
            assert [values[f"ap_{name}"], values[f"ar_{name}"]] == pytest.approx([expected] * 2, nan_ok=True)
            assert values[f"num_{name}"] == (name == bins)


def test_an_area_at_the_edge_of_two_bins_counts_in_both() -> None:
    mask = np.zeros((1, 40, 40), np.bool_)
    mask[:, 4:36, 4:36] = True
    truth = TruthMasks.from_bitmasks(mask, np.array([1]))
    figures = coco_ap([truth], [predicted(mask, [0.9], [1], size=ImageSize(40, 40))], num_classes=1).mask
    assert (figures.ap_small, figures.ap_medium) == (1.0, 1.0)
    assert (figures.num_small, figures.num_medium, figures.num_large) == (1, 1, 0)


def test_crowd_regions_are_not_among_the_lesions_of_a_size() -> None:
    assert evaluate_one([LESION], [], ignored=ELSEWHERE).box.num_small == 1


def test_equal_figures_compare_equal_though_some_are_not_defined() -> None:
    assert evaluate_one([LESION], [LESION]) == evaluate_one([LESION], [LESION])


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
