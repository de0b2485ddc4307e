"""Judge a model, or saved predictions, on a labelled data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dermask.evaluation.coco_ap import mask_ap
from dermask.evaluation.isic_challenge import mean_figures
from dermask.evaluation.photo_masks import (
    SCORE_THRESH,
    PredictedMasks,
    Rule,
    TruthMasks,
    challenge_figures,
)
from dermask.records import Detections


class ValidationFigures(NamedTuple):
    """What training looks at after an epoch.

    Attributes:
        val_jaccard: Mean Jaccard index over photographs, [0, 1].
        val_mask_ap: COCO mask AP, [0, 1]; NaN where no photograph has a label to find.
    """

    val_jaccard: float
    val_mask_ap: float


def summarise(
    truths: Sequence[TruthMasks],
    predictions: Sequence[Detections | PredictedMasks],
    *,
    num_classes: int,
    rule: Rule = "primary",
    score_thresh: float = SCORE_THRESH,
) -> ValidationFigures:
    """The two figures of a validation, cheap enough for every epoch; make `truths` once and keep them.

    Args:
        truths: One per photograph.
        predictions: One per photograph, in the same order.
        num_classes: Labels run from 1 to this.
        rule: Which detections make the one mask of a photograph; see `PredictedMasks.merged`.
        score_thresh: For the rule `union`.

    Raises:
        InputError: The lists are empty or differ in length, or a prediction has not its photograph's size.
    """
    pasted = [as_masks(prediction) for prediction in predictions]
    ap = mask_ap(truths, pasted, num_classes=num_classes).ap
    photos = [
        challenge_figures(truth, prediction, rule=rule, score_thresh=score_thresh)
        for truth, prediction in zip(truths, pasted, strict=True)
    ]
    return ValidationFigures(val_jaccard=mean_figures(photos).jaccard, val_mask_ap=ap)


def as_masks(prediction: Detections | PredictedMasks) -> PredictedMasks:
    """Exact masks at the photograph's size, pasted if they are not yet."""
    return PredictedMasks.from_detections(prediction) if isinstance(prediction, Detections) else prediction
