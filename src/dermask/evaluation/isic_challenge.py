"""The figures of the ISIC challenge's segmentation task, per photograph, and their mean.

Truth and prediction are one bitmask each per photograph: lesion or not. The rules are those of the official scorer
(isic-challenge-scoring, Apache-2.0): nothing to find and nothing found scores 1; a photograph without lesion
pixels has sensitivity 1, one without background specificity 1; the mean over photographs is a plain one.

Names: TP, FP, FN, TN count pixels: lesion in both, in the prediction only, in the truth only, in neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

import numpy as np

from dermask.errors import InputError
from dermask.records import BoolArray

JACCARD_THRESH = 0.65
"""Below this Jaccard index the challenge counts a photograph as failed, with the value 0.

Source: Codella et al. 2019, arXiv:1902.03368, who set it near the agreement of experts with one another.
"""


class PixelCounts(NamedTuple):
    """Pixels of one photograph by truth and prediction."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


@dataclass(frozen=True, slots=True)
class PhotoFigures:
    """The challenge's six figures of one photograph, or their means over several; each in [0, 1], 1 is best.

    Attributes:
        jaccard: TP / (TP + FP + FN).
        thresholded_jaccard: The Jaccard index, or 0 where it is below `JACCARD_THRESH`.
        dice: 2 TP / (2 TP + FP + FN).
        sensitivity: TP / (TP + FN).
        specificity: TN / (TN + FP).
        accuracy: (TP + TN) / all pixels.
    """

    jaccard: float
    thresholded_jaccard: float
    dice: float
    sensitivity: float
    specificity: float
    accuracy: float


def count_pixels(truth: BoolArray, pred: BoolArray) -> PixelCounts:
    """Count the pixels of one photograph by truth and prediction.

    Args:
        truth: Bool of any shape, (H, W) for a whole photograph.
        pred: Bool of the same shape.

    Raises:
        InputError: The shapes differ; the official scorer never resizes either.
    """
    if truth.shape != pred.shape:
        raise InputError(
            "prediction",
            f"has shape {pred.shape}, its truth {truth.shape}",
            "compare both at the photograph's own size",
        )
    true_positive = int(np.count_nonzero(truth & pred))
    false_positive = int(np.count_nonzero(pred)) - true_positive
    false_negative = int(np.count_nonzero(truth)) - true_positive
    return PixelCounts(
        true_positive, false_positive, false_negative, truth.size - true_positive - false_positive - false_negative
    )


def figures_from_counts(counts: PixelCounts) -> PhotoFigures:
    """The figures of one photograph from its pixel counts; a share of nothing is 1."""
    tp, fp, fn, tn = counts
    jaccard = _share(tp, tp + fp + fn)
    return PhotoFigures(
        jaccard=jaccard,
        thresholded_jaccard=jaccard if jaccard >= JACCARD_THRESH else 0.0,
        dice=_share(2 * tp, 2 * tp + fp + fn),
        sensitivity=_share(tp, tp + fn),
        specificity=_share(tn, tn + fp),
        accuracy=_share(tp + tn, tp + fp + fn + tn),
    )


def photo_figures(truth: BoolArray, pred: BoolArray) -> PhotoFigures:
    """The figures of one photograph.

    Swapping truth and prediction swaps nothing but sensitivity (with precision); inverting both swaps sensitivity
    and specificity; Dice is always 2 J / (1 + J).

    Args:
        truth: (H, W) bool, the union of all labelled lesions.
        pred: (H, W) bool, the one predicted mask.

    Raises:
        InputError: The shapes differ.
    """
    return figures_from_counts(count_pixels(truth, pred))


def mean_figures(photos: Sequence[PhotoFigures]) -> PhotoFigures:
    """The plain mean over photographs, each counting the same whatever its size.

    Raises:
        InputError: There are no photographs, so there is no mean.
    """
    if not photos:
        raise InputError("evaluation", "there are no photographs to take the mean of")
    means = np.array([astuple(photo) for photo in photos], np.float64).mean(axis=0)
    return PhotoFigures(**{field.name: float(mean) for field, mean in zip(fields(PhotoFigures), means, strict=True)})


def pooled_figures(counts: Sequence[PixelCounts]) -> PhotoFigures:
    """The same formulas over the pixels of all photographs at once, as if they were one large photograph.

    Many papers quote these by mistake. They are never comparable with the challenge's figures, which are
    `mean_figures`: here a photograph counts by its pixels, and a large lesion hides a hundred small ones. The
    thresholded Jaccard index has no pooled form: it is the pooled Jaccard index or 0.

    Args:
        counts: The pixels of each photograph.

    Raises:
        InputError: There are no photographs.
    """
    if not counts:
        raise InputError("evaluation", "there are no photographs to pool")
    return figures_from_counts(PixelCounts(*(sum(column) for column in zip(*counts, strict=True))))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
