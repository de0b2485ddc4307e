"""Which detection finds which labelled lesion of a photograph, by COCO's rules.

Within a class, the best score chooses first. It takes the label of its class that it overlaps most among those not yet
taken, if their IoU reaches the threshold. What finds no label but lies in a crowd region is ignored: it counts neither
for nor against. So each label is found at most once, a second outline of the same lesion is a false alarm, and a match
depends on no detection of a lower score: what holds at a high score threshold still holds at a lower one.

Shapes: D detections that count, M labels of one photograph; either may be 0. T IoU thresholds, K classes.
Source: Lin et al. 2014, arXiv:1405.0312; rules of ties as in pycocotools' `COCOeval.evaluateImg`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from faster_coco_eval.core import mask as mask_api
from numpy.typing import NDArray

from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, as_coco, check_same_size
from dermask.records import BoolArray, IntArray

MAX_DETECTIONS = 100
"""Detections per class and photograph that count, COCO's own number."""
IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.50, 0.95, 10)
"""(10,) float64, COCO's thresholds 0.50, 0.55, ..., 0.95 to the last bit."""
IOU_THRESHOLDS.flags.writeable = False

_SURELY_REACHED = 1 - 1e-10  # COCO's: a threshold of 1 is reached by outlines that are equal but for rounding


@dataclass(frozen=True, slots=True, eq=False)
class PhotoMatches:
    """The detections of one photograph, best score first, each with its fate at every IoU threshold.

    A detection that is neither `matched` nor `ignored` is a false alarm.

    Attributes:
        scores: (D,) float64, descending; the values that the detections had in float32.
        labels: (D,) int64 from 1.
        matched: (T, D) bool, it found a label.
        ignored: (T, D) bool, it found none, but lies in a crowd region of its class.
        num_truths: (K,) int64, labels to find of each class; crowd regions are none.
        best_iou: (D,) float64 in [0, 1], highest IoU with any label to find of its class, taken or not; 0 for none.
        iou_thresholds: (T,) float64 in (0, 1], ascending.
    """

    scores: NDArray[np.float64]
    labels: IntArray
    matched: BoolArray
    ignored: BoolArray
    num_truths: IntArray
    best_iou: NDArray[np.float64]
    iou_thresholds: NDArray[np.float64] = field(default_factory=lambda: IOU_THRESHOLDS)


def match_photo(
    truth: TruthMasks,
    prediction: PredictedMasks,
    *,
    kind: Literal["box", "mask"] = "mask",
    num_classes: int,
    iou_thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    max_detections: int = MAX_DETECTIONS,
) -> PhotoMatches:
    """Match the detections of one photograph to its labels.

    Args:
        truth: The labels.
        prediction: The detections, of any score.
        kind: Overlap of masks, or of boxes; a label's box is the tight one around its mask.
        num_classes: Labels run from 1 to this; others do not count.
        iou_thresholds: (T,) in (0, 1], ascending.
        max_detections: Detections of a class that count, best first, at least 1.

    Raises:
        InputError: The prediction is for a photograph of another size.
    """
    check_same_size(truth, prediction)
    order = _that_count(prediction, num_classes, max_detections)
    labels = prediction.labels[order].astype(np.int64)
    matched = np.zeros((len(iou_thresholds), len(order)), np.bool_)
    ignored = np.zeros_like(matched)
    best_iou = np.zeros(len(order))
    for label in np.intersect1d(labels, truth.labels):
        columns, rows = np.flatnonzero(labels == label), np.flatnonzero(truth.labels == label)
        is_crowd = truth.is_crowd[rows]
        iou = _overlaps(truth, rows, prediction, order[columns], kind)
        matched[:, columns], ignored[:, columns] = match_overlaps(iou, is_crowd, iou_thresholds)
        best_iou[columns] = iou[:, ~is_crowd].max(axis=1, initial=0)
    return PhotoMatches(
        scores=prediction.scores[order].astype(np.float64),
        labels=labels,
        matched=matched,
        ignored=ignored,
        num_truths=np.bincount(truth.labels[~truth.is_crowd], minlength=num_classes + 1)[1 : num_classes + 1],
        best_iou=best_iou,
        iou_thresholds=iou_thresholds,
    )


def match_overlaps(
    iou: NDArray[np.float64], is_crowd: BoolArray, iou_thresholds: NDArray[np.float64]
) -> tuple[BoolArray, BoolArray]:
    """Match the detections of one class and photograph, given their overlaps.

    Args:
        iou: (D, M) in [0, 1], best score first; with a crowd region, the share of the detection that lies in it.
        is_crowd: (M,).
        iou_thresholds: (T,).

    Returns:
        `matched` and `ignored`, both (T, D), as in `PhotoMatches`. Of labels with the same overlap the last is taken.
    """
    least = np.minimum(iou_thresholds, _SURELY_REACHED)[:, None]  # (T, 1)
    matched = np.zeros((len(iou_thresholds), len(iou)), np.bool_)
    ignored = np.zeros_like(matched)
    in_crowd = iou[:, is_crowd].max(axis=1, initial=0)
    to_find = iou[:, ~is_crowd][:, ::-1]  # argmax takes the first of equals, COCO the last
    free = np.ones((len(iou_thresholds), to_find.shape[1]), np.bool_)
    every = np.arange(len(iou_thresholds))
    # Only those that reach some label: most detections of a low score overlap none.
    for column in np.flatnonzero(to_find.max(axis=1, initial=0) >= least.min(initial=1)):
        overlaps = np.where(free, to_find[column], -1)  # (T, M)
        choice = overlaps.argmax(axis=1)
        reached = overlaps[every, choice] >= least[:, 0]
        matched[:, column] = reached
        free[every[reached], choice[reached]] = False
    np.logical_and(in_crowd >= least, ~matched, out=ignored)
    return matched, ignored


def _that_count(prediction: PredictedMasks, num_classes: int, max_detections: int) -> IntArray:
    """(D,) int64, the places in `prediction` of the detections that count, best score first, equals as they come."""
    order = np.argsort(-prediction.scores, kind="stable")
    labels = prediction.labels[order]
    kept = (labels >= 1) & (labels <= num_classes)
    if len(order) > max_detections:
        for label in np.unique(labels):
            kept[np.flatnonzero(labels == label)[max_detections:]] = False
    return order[kept]


def _overlaps(
    truth: TruthMasks, rows: IntArray, prediction: PredictedMasks, columns: IntArray, kind: Literal["box", "mask"]
) -> NDArray[np.float64]:
    """(D, M) float64 of the detections at `columns` and the labels at `rows`, neither of them none."""
    labelled = [as_coco(truth.masks[row]) for row in rows]
    is_crowd = [int(truth.is_crowd[row]) for row in rows]
    if kind == "mask":
        found = [as_coco(prediction.masks[column]) for column in columns]
        return np.asarray(mask_api.iou(found, labelled, is_crowd), np.float64)
    xywh = prediction.boxes[columns].astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    return np.asarray(mask_api.iou(xywh, mask_api.toBbox(labelled), is_crowd), np.float64)
