"""Calibration: whether what is said with a probability of 0.8 is right eight times in ten.

Of scores, where "right" is a detection that finds a lesion, and of mask probabilities, where it is a pixel of a lesion.
Everything follows from sums in bins of the probability, which add up over photographs and can be weighted, so that
resampled photographs cost no second look at their pixels.

Shapes: B bins of equal width on [0, 1], each with its lower edge and without its upper one, the last with both; R
resamplings or photographs. Sums are (B, 4) float64, by column: how many, sum of their probabilities, how many are
right, sum of the squared differences between probability and 1 (right) or 0 (wrong).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dermask import masks
from dermask.errors import InputError
from dermask.evaluation.photo_masks import TruthMasks
from dermask.records import BoolArray, Detections, FloatArray, ImageSize

NUM_BINS = 10
"""The usual number, as in Guo et al.'s reliability diagrams; fewer hide what more leave to chance."""
_STRIP = 1 << 20  # pixels of a mask worked on at a time: flat memory for large photographs

Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Predicted probability against how often it came true, by bins of the probability.

    Attributes:
        edges: (B + 1,) float64, from 0 to 1.
        counts: (B,) float64, members of each bin; not whole where they are weighted.
        mean_predicted: (B,) float64, their mean probability; NaN for a bin without members.
        share_correct: (B,) float64, the share that is right; NaN for a bin without members.
        expected_calibration_error: Mean over all members of the gap between `mean_predicted` and `share_correct` of
            their bins; in [0, 1], 0 is best, NaN without members.
        maximum_calibration_error: The largest such gap; same range. A bin of few members may decide it.
        brier_score: Mean squared difference between probability and truth; in [0, 1], 0 is best, NaN without members.
            It rewards calibrated probabilities and also decided ones.

    Source:
        Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015; Guo et al. 2017,
        arXiv:1706.04599; Brier 1950, "Verification of forecasts expressed in terms of probability".
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    mean_predicted: NDArray[np.float64]
    share_correct: NDArray[np.float64]
    expected_calibration_error: float
    maximum_calibration_error: float
    brier_score: float

    @classmethod
    def from_sums(cls, sums: Sums) -> Reliability:
        """From the sums of one photograph, or of several added up, each times its weight.

        Args:
            sums: (B, 4) float64, as `score_sums` and `pixel_sums` give.
        """
        counts, predicted, correct, _ = sums.T
        gaps = np.abs(predicted - correct)[counts > 0] / counts[counts > 0]
        return cls(
            edges=np.arange(len(sums) + 1) / len(sums),
            counts=counts.copy(),
            mean_predicted=_share(predicted, counts),
            share_correct=_share(correct, counts),
            expected_calibration_error=float(expected_calibration_error(sums)),
            maximum_calibration_error=float(gaps.max()) if len(gaps) else float("nan"),
            brier_score=float(brier_score(sums)),
        )


def score_reliability(
    scores: FloatArray, correct: BoolArray, *, weights: NDArray[np.float64] | None = None, num_bins: int = NUM_BINS
) -> Reliability:
    """Reliability of the scores of detections, of all photographs together.

    Args:
        scores: (N,) in [0, 1]; N may be 0.
        correct: (N,) bool, whether the detection finds a lesion. Leave out those inside crowd regions.
        weights: (N,) how often each detection counts; None for once.
        num_bins: B.
    """
    return Reliability.from_sums(score_sums(scores, correct, weights=weights, num_bins=num_bins))


def score_sums(
    scores: FloatArray, correct: BoolArray, *, weights: NDArray[np.float64] | None = None, num_bins: int = NUM_BINS
) -> Sums:
    """The sums of some detections, such as those of one photograph.

    Sums of two groups of detections add up to those of both; a weight of 2 equals counting twice.

    Args:
        scores: (N,) in [0, 1]; N may be 0.
        correct: (N,) bool.
        weights: (N,) how often each counts; None for once.
        num_bins: B.

    Returns:
        (B, 4) float64.
    """
    # Records hold float32, where 0.7 is a little less than 0.7: edges are rounded alike, so that it starts its bin.
    single = np.asarray(scores, np.float32)
    edges = (np.arange(1, num_bins) / num_bins).astype(np.float32)
    bins, probs = np.searchsorted(edges, single, side="right"), single.astype(np.float64)
    columns = (None, probs, correct.astype(np.float64), (probs - correct) ** 2)
    sums = np.zeros((num_bins, len(columns)), np.float64)
    for index, column in enumerate(columns):
        members = column if weights is None else weights if column is None else weights * column
        sums[:, index] = np.bincount(bins, weights=members, minlength=num_bins)
    return sums


def pixel_sums(detections: Detections, truth: TruthMasks, *, num_bins: int = NUM_BINS) -> Sums:
    """The sums of one photograph's mask probabilities, at its own size.

    What counts is each pixel whose centre lies in the box of the best-scoring detection, whatever its score, against
    the union of all labelled lesions; pixels of crowd regions are left out. Outside its box a mask says nothing. A
    photograph with nothing found gives zeros, and one without a lesion tells of pixels that are all wrong.

    Args:
        detections: What was found, best first.
        truth: The labels, of a photograph of the same size.
        num_bins: B.

    Returns:
        (B, 4) float64.

    Raises:
        InputError: The detections are for a photograph of another size.
    """
    if detections.size != truth.size:
        raise InputError(
            f"prediction for {truth.image_id or 'a photograph'}",
            f"is {detections.size.width} x {detections.size.height} pixels, "
            f"the photograph {truth.size.width} x {truth.size.height}",
            "predict on the photographs that the labels were drawn on",
        )
    sums = np.zeros((num_bins, 4), np.float64)
    if not len(detections):
        return sums
    rows, columns = _pixels_inside(detections.boxes[0], detections.size)
    lesion, ignored = masks.rle_to_bitmask(truth.union()), truth.ignored()
    height = max(_STRIP // max(columns.stop - columns.start, 1), 1)
    for top in range(rows.start, rows.stop, height):
        strip = slice(top, min(top + height, rows.stop)), columns
        probs = _probabilities(detections, *strip)
        kept = ... if ignored is None else ~ignored[strip]
        sums += score_sums(probs[kept].ravel(), lesion[strip][kept].ravel(), num_bins=num_bins)
    return sums


def expected_calibration_error(sums: Sums) -> NDArray[np.float64]:
    """The expected calibration error of many sums at once, for resampling.

    Args:
        sums: (..., B, 4) float64, or without the last column. For photographs' sums (N, B, 4) and resampled weights
            (R, N) it is `np.tensordot(weights, sums, axes=1)`.

    Returns:
        (...) float64 in [0, 1]; NaN where nothing was predicted.
    """
    counts, predicted, correct = sums[..., 0], sums[..., 1], sums[..., 2]
    return _share(np.abs(predicted - correct).sum(axis=-1), counts.sum(axis=-1))


def brier_score(sums: Sums) -> NDArray[np.float64]:
    """The Brier score of many sums at once, for resampling; as `expected_calibration_error` with all four columns."""
    return _share(sums[..., 3].sum(axis=-1), sums[..., 0].sum(axis=-1))


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """`part` / `whole`, NaN where `whole` is 0."""
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return shares


def _pixels_inside(box: FloatArray, size: ImageSize) -> tuple[slice, slice]:
    """Rows and columns whose pixels have their centre in the box; either may be empty."""
    x1, y1, x2, y2 = np.ceil(box.astype(np.float64) - 0.5).clip(0, [size.width, size.height] * 2).astype(int).tolist()
    return slice(y1, max(y1, y2)), slice(x1, max(x1, x2))


def _probabilities(detections: Detections, rows: slice, columns: slice) -> FloatArray:
    """(h, w) float32 the best detection's mask probabilities on a part of the photograph."""
    # In float64 a box of a large photograph moves by whole pixels and keeps its fractions.
    moved = detections.boxes[:1].astype(np.float64) - [columns.start, rows.start] * 2
    part = ImageSize(rows.stop - rows.start, columns.stop - columns.start)
    probs: FloatArray = masks.paste_masks(cast(FloatArray, moved), detections.mask_probs[:1], part, threshold=None)[0]
    return probs
