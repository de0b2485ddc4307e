"""COCO average precision of boxes and masks, computed by faster-coco-eval, which equals pycocotools.

In short: detections are matched to labels of their class, best score first; AP is the area under the precision-recall
curve at 101 recalls, as the mean over classes and over IoU thresholds 0.50, 0.55, ..., 0.95; AP50 and AP75 use one
threshold; AR is the mean over thresholds of the recall that all detections reach, at most `max_detections` per class
and photograph. Crowd regions neither need to be found nor count against what is found inside them.

By size, only labels whose mask has its area in the bin are to be found. What finds a label of another bin is ignored,
and so is what finds none and is itself outside the bin. An area of exactly a bin's edge belongs to both bins.

Source: Lin et al. 2014, arXiv:1405.0312, and https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as mask_api
from faster_coco_eval.core.coco import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from numpy.typing import NDArray

from dermask.errors import InputError
from dermask.evaluation.matching import MAX_DETECTIONS as MAX_DETECTIONS  # also found here, where it was first
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, area, as_coco, check_same_size

SMALL_AREA, LARGE_AREA = 32**2, 96**2
"""COCO's bins by area, in pixels of the photograph: small up to the first, large from the second, medium between."""
_LARGEST = 100_000**2  # COCO's own for "no limit"
_AREAS = {  # in the order of the last axis of the evaluator's curves
    "all": [0, _LARGEST],
    "small": [0, SMALL_AREA],
    "medium": [SMALL_AREA, LARGE_AREA],
    "large": [LARGE_AREA, _LARGEST],
}


class AveragePrecision(NamedTuple):
    """The figures of one kind of overlap; each in [0, 1], NaN where no photograph has a label to find.

    Attributes:
        ap: Mean over IoU 0.50 to 0.95.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ar: Mean recall over IoU 0.50 to 0.95.
        ap_by_label: `ap` of each class, in the order of labels.
        ap_small: `ap` of lesions with an area of at most 32 x 32 pixels; NaN where there are none.
        ap_medium: `ap` of those between.
        ap_large: `ap` of those with at least 96 x 96 pixels.
        ar_small: `ar` in the same bins.
        ar_medium: See `ar_small`.
        ar_large: See `ar_small`.
        num_small: Labelled lesions in the same bins, crowd regions not counted: what these figures rest on.
        num_medium: See `num_small`.
        num_large: See `num_small`.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    ap_by_label: tuple[float, ...]
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_small: float
    ar_medium: float
    ar_large: float
    num_small: int
    num_medium: int
    num_large: int


@dataclass(frozen=True, slots=True)
class CocoFigures:
    """COCO's figures of a data set.

    Attributes:
        box: Overlap of boxes; a label's box is the tight one around its mask.
        mask: Overlap of masks.
        max_detections: Detections per class and photograph that counted.
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
        max_detections: Detections per class and photograph that count, at least 1.

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
    return [
        _run(
            truth_index,
            COCO(shared | {"annotations": _prediction_annotations(predictions, kind)}),
            kind,
            num_classes,
            max_detections,
        )
        for kind in kinds
    ]


def _run(
    truth_index: COCO,
    prediction_index: COCO,
    kind: Literal["bbox", "segm"],
    num_classes: int,
    max_detections: int,
) -> AveragePrecision:
    evaluator = COCOeval_faster(truth_index, prediction_index, kind, print_function=_say_nothing)
    evaluator.params.maxDets = [max_detections]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = list(_AREAS.values()), list(_AREAS)
    evaluator.evaluate()
    evaluator.accumulate()
    # Straight from the curves: summarize() wants COCO's three numbers of detections.
    precision = evaluator.eval["precision"][..., 0]  # (T, R, K, A): IoU thresholds, recalls, classes, bins by area
    recall = evaluator.eval["recall"][..., 0]  # (T, K, A)
    of_all, thresholds = precision[..., 0], evaluator.params.iouThrs
    return AveragePrecision(
        ap=_mean_defined(of_all),
        ap50=_mean_defined(of_all[np.isclose(thresholds, 0.50)]),
        ap75=_mean_defined(of_all[np.isclose(thresholds, 0.75)]),
        ar=_mean_defined(recall[..., 0]),
        ap_by_label=tuple(_mean_defined(of_all[:, :, index]) for index in range(num_classes)),
        ap_small=_mean_defined(precision[..., 1]),
        ap_medium=_mean_defined(precision[..., 2]),
        ap_large=_mean_defined(precision[..., 3]),
        ar_small=_mean_defined(recall[..., 1]),
        ar_medium=_mean_defined(recall[..., 2]),
        ar_large=_mean_defined(recall[..., 3]),
        num_small=_count(truth_index, "small"),
        num_medium=_count(truth_index, "medium"),
        num_large=_count(truth_index, "large"),
    )


def _count(truth_index: COCO, size: str) -> int:
    """How many labels are to be found in one bin by area."""
    least, most = _AREAS[size]
    lesions = [one for one in truth_index.anns.values() if not one["iscrowd"]]
    return sum(least <= one["area"] <= most for one in lesions)


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


def _prediction_annotations(
    predictions: Sequence[PredictedMasks], kind: Literal["bbox", "segm"]
) -> list[dict[str, Any]]:
    """Entries of all detections; the size of one is the area of what is compared, as in COCO's own result files."""
    annotations: list[dict[str, Any]] = []
    for image_id, prediction in enumerate(predictions, start=1):
        rows = zip(prediction.masks, prediction.boxes, prediction.scores, prediction.labels, strict=True)
        for rle, box, score, label in rows:
            x1, y1, x2, y2 = (float(edge) for edge in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "segmentation": as_coco(rle),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) if kind == "bbox" else float(area(rle)),
                    "score": float(score),
                    "iscrowd": 0,
                }
            )
    return annotations


def _mean_defined(values: NDArray[np.float64]) -> float:
    """The mean of what is defined; the evaluator marks a class without labels by -1."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else math.nan  # the one NaN object, so that equal figures compare so


def _say_nothing(*_: object, **__: object) -> None:
    pass
