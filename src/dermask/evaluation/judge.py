"""One photograph judged: truth and prediction in, everything that an evaluation keeps of it out.

A photograph is judged once and by itself, so that thousands of them can be shared among worker processes; what is kept
is small: figures, sums, and masks as run lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermask.evaluation.boundary import boundary_of_rles
from dermask.evaluation.calibration import pixel_sums, score_sums
from dermask.evaluation.isic_challenge import PixelCounts, figures_from_counts
from dermask.evaluation.matching import MAX_DETECTIONS, PhotoMatches, match_photo
from dermask.evaluation.photo_masks import (
    SCORE_THRESH,
    PredictedMasks,
    Rule,
    TruthMasks,
    check_same_size,
    pixel_counts,
)
from dermask.evaluation.record import PhotoRow
from dermask.evaluation.traits import traits_of
from dermask.records import Detections, ImageSize, PhotoInfo, Sample

Prediction = Detections | PredictedMasks


@dataclass(frozen=True, slots=True)
class JudgingRules:
    """What is the same for all photographs of an evaluation.

    Attributes:
        num_classes: Labels run from 1 to this.
        rule: Which detections make the one mask of a photograph.
        score_thresh: From which score, for the rule `union`.
        max_detections: Per photograph and class, for the separate lesions.
        look: Whether the photograph itself is read, for the traits that need it.
    """

    num_classes: int
    rule: Rule = "primary"
    score_thresh: float = SCORE_THRESH
    max_detections: int = MAX_DETECTIONS
    look: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One photograph to judge.

    Attributes:
        sample: The photograph with its labels.
        size: Its size.
        prediction: What was found in it.
        rules: How to judge.
        info: What a table beside the photographs says of it.
        unit: What it is drawn together with, as `units.photo_units` names it; empty for nothing but itself.
        mm_per_pixel: Its scale, where known.
    """

    sample: Sample
    size: ImageSize
    prediction: Prediction
    rules: JudgingRules
    info: PhotoInfo | None = None
    unit: str = ""
    mm_per_pixel: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is kept of one photograph.

    Attributes:
        row: Its figures.
        truth: Its labels.
        prediction: What was found, as exact masks.
        pixels: Its pixels by truth and prediction.
        mask_matches: Detections matched to labels by the overlap of masks.
        box_matches: The same by boxes.
        score_sums: (B, 4) float64, for the calibration of scores.
        pixel_sums: (B, 4) float64, for that of mask probabilities; None where the prediction holds none.
    """

    row: PhotoRow
    truth: TruthMasks
    prediction: PredictedMasks
    pixels: PixelCounts
    mask_matches: PhotoMatches
    box_matches: PhotoMatches
    score_sums: NDArray[np.float64]
    pixel_sums: NDArray[np.float64] | None


def judge(case: Case) -> Verdict:
    """Judge one photograph.

    Raises:
        InputError: The prediction is for a photograph of another size; an outline or mask image cannot be used.
    """
    truth = TruthMasks.from_sample(case.sample, case.size)
    prediction = as_masks(case.prediction)
    check_same_size(truth, prediction)
    rules = case.rules
    union, merged = truth.union(), prediction.merged(rules.rule, score_thresh=rules.score_thresh)
    ignored = truth.ignored()
    pixels = pixel_counts(union, merged, ignored=ignored)
    mask_matches, box_matches = (
        match_photo(truth, prediction, kind=kind, num_classes=rules.num_classes, max_detections=rules.max_detections)
        for kind in ("mask", "box")
    )
    row = PhotoRow(
        image_id=truth.image_id,
        size=truth.size,
        num_lesions=int((~truth.is_crowd).sum()),
        num_detections=_count_used(prediction, rules),
        best_score=float(prediction.scores[0]) if len(prediction) else None,
        figures=figures_from_counts(pixels),
        boundary=boundary_of_rles(union, merged, ignored=ignored),
        traits=traits_of(case.sample, truth, info=case.info, look=rules.look),
        unit=case.unit or case.sample.image_id,
        mm_per_pixel=case.mm_per_pixel,
    )
    counted = ~mask_matches.ignored[0]
    return Verdict(
        row=row,
        truth=truth,
        prediction=prediction,
        pixels=pixels,
        mask_matches=mask_matches,
        box_matches=box_matches,
        score_sums=score_sums(mask_matches.scores[counted], mask_matches.matched[0][counted]),
        pixel_sums=pixel_sums(case.prediction, truth) if isinstance(case.prediction, Detections) else None,
    )


def as_masks(prediction: Prediction) -> PredictedMasks:
    """Exact masks at the photograph's size, pasted if they are not yet."""
    return PredictedMasks.from_detections(prediction) if isinstance(prediction, Detections) else prediction


def _count_used(prediction: PredictedMasks, rules: JudgingRules) -> int:
    if rules.rule == "primary":
        return min(len(prediction), 1)
    return int((prediction.scores >= rules.score_thresh).sum())
