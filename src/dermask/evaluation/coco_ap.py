"""COCO average precision of boxes and masks, computed by faster-coco-eval, which equals pycocotools.

In short: detections are matched to labels of their class, best score first; AP is the area under the precision-recall
curve at 101 recalls, as the mean over classes and over IoU thresholds 0.50, 0.55, ..., 0.95; AP50 and AP75 use one
threshold; AR is the mean over thresholds of the recall that all detections reach, at most `max_detections` per
photograph. Crowd regions neither need to be found nor count against what is found inside them.

Source: Lin et al. 2014, arXiv:1405.0312, and https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as mask_api
from faster_coco_eval.core.coco import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from numpy.typing import NDArray

from dermask.errors import InputError
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, area, as_coco, check_same_size

MAX_DETECTIONS = 100
"""Detections per photograph that count, COCO's own number."""
_EVERY_AREA = [[0, 1e5**2]]  # COCO's bins by area are made for everyday scenes; lesions fill the frame


class AveragePrecision(NamedTuple):
    """The figures of one kind of overlap; each in [0, 1], NaN where no photograph has a label to find.

    Attributes:
        ap: Mean over IoU 0.50 to 0.95.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ar: Mean recall over IoU 0.50 to 0.95.
        ap_by_label: `ap` of each class, in the order of labels.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    ap_by_label: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CocoFigures:
    """COCO's figures of a data set.

    Attributes:
        box: Overlap of boxes; a label's box is the tight one around its mask.
        mask: Overlap of masks.
        max_detections: Detections per photograph that counted.
    """

    box: AveragePrecision
    mask: AveragePrecision
    max_detections: int


def coco_ap(
    truths: Sequence[TruthMasks],
    predictions: Sequence[PredictedMasks],
    *,
    num_classes: int,
    max_detections: int = MAX_DETECTIONS,
) -> CocoFigures:
    """Box and mask figures.

    Args:
        truths: One per photograph.
        predictions: One per photograph, in the same order.
        num_classes: Labels run from 1 to this.
        max_detections: Detections per photograph that count, at least 1.

    Raises:
        InputError: The lists differ in length, or a prediction is for a photograph of another size.
    """
    box, mask = _evaluate(truths, predictions, ("bbox", "segm"), num_classes, max_detections)
    return CocoFigures(box=box, mask=mask, max_detections=max_detections)


def mask_ap(
    truths: Sequence[TruthMasks],
    predictions: Sequence[PredictedMasks],
    *,
    num_classes: int,
    max_detections: int = MAX_DETECTIONS,
) -> AveragePrecision:
    """The mask figures alone, for those who ask every epoch; arguments and errors as in `coco_ap`."""
    return _evaluate(truths, predictions, ("segm",), num_classes, max_detections)[0]


def _evaluate(
    truths: Sequence[TruthMasks],
    predictions: Sequence[PredictedMasks],
    kinds: Sequence[Literal["bbox", "segm"]],
    num_classes: int,
    max_detections: int,
) -> list[AveragePrecision]:
    if len(truths) != len(predictions):
        raise InputError("predictions", f"there are {len(predictions)} for {len(truths)} photographs")
    for truth, prediction in zip(truths, predictions, strict=True):
        check_same_size(truth, prediction)
    shared = {
        "images": [
            {"id": index, "height": truth.size.height, "width": truth.size.width}
            for index, truth in enumerate(truths, start=1)
        ],
        "categories": [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
    }
    truth_index = COCO(shared | {"annotations": _truth_annotations(truths)})
    prediction_index = COCO(shared | {"annotations": _prediction_annotations(predictions)})
    return [_run(truth_index, prediction_index, kind, num_classes, max_detections) for kind in kinds]


def _run(
    truth_index: COCO,
    prediction_index: COCO,
    kind: Literal["bbox", "segm"],
    num_classes: int,
    max_detections: int,
) -> AveragePrecision:
    evaluator = COCOeval_faster(truth_index, prediction_index, kind, print_function=_say_nothing)
    evaluator.params.maxDets = [max_detections]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = _EVERY_AREA, ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    # Straight from the curves: summarize() wants COCO's area bins.
    precision = evaluator.eval["precision"][..., 0, 0]  # (T, R, K): IoU thresholds, recalls, classes
    recall = evaluator.eval["recall"][..., 0, 0]  # (T, K)
    thresholds = evaluator.params.iouThrs
    return AveragePrecision(
        ap=_mean_defined(precision),
        ap50=_mean_defined(precision[np.isclose(thresholds, 0.50)]),
        ap75=_mean_defined(precision[np.isclose(thresholds, 0.75)]),
        ar=_mean_defined(recall),
        ap_by_label=tuple(_mean_defined(precision[:, :, index]) for index in range(num_classes)),
    )


def _truth_annotations(truths: Sequence[TruthMasks]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image_id, truth in enumerate(truths, start=1):
        for rle, label, is_crowd in zip(truth.masks, truth.labels, truth.is_crowd, strict=True):
            coco_rle = as_coco(rle)
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: the matching marks "no match" with 0
                    "image_id": image_id,
                    "category_id": int(label),
                    "segmentation": coco_rle,
                    "bbox": [float(value) for value in mask_api.toBbox(coco_rle)],
                    "area": float(area(rle)),
                    "iscrowd": int(is_crowd),
                }
            )
    return annotations


def _prediction_annotations(predictions: Sequence[PredictedMasks]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image_id, prediction in enumerate(predictions, start=1):
        rows = zip(prediction.masks, prediction.boxes, prediction.scores, prediction.labels, strict=True)
        for rle, (x1, y1, x2, y2), score, label in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "segmentation": as_coco(rle),
                    "bbox": [float(x1), float(y1), float(x2) - float(x1), float(y2) - float(y1)],
                    "area": float(area(rle)),
                    "score": float(score),
                    "iscrowd": 0,
                }
            )
    return annotations


def _mean_defined(values: NDArray[np.float64]) -> float:
    """The mean of what is defined; the evaluator marks a class without labels by -1."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


def _say_nothing(*_: object, **__: object) -> None:
    pass
