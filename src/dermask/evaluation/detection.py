"""How well lesions are found, over all photographs of a data set: average precision, operating points, curves.

Photographs are matched one by one (`matching.match_photo`) and their detections ranked once, best score first. All
figures are then sums over that ranking, so a bootstrap gives weights to photographs and matches nothing again.

A score threshold keeps the detections of at least that score, so equal scores are kept or dropped together. Scores are
compared in float32, in which a detector gives them: 0.9 keeps a score of 0.9.

Shapes: N photographs, D detections of all of them, T IoU thresholds, K classes, P points of a curve; D and P may be 0.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermask.errors import InputError
from dermask.evaluation.matching import PhotoMatches
from dermask.records import BoolArray, IntArray

CURVE_POINTS = 400
"""Points that a curve keeps at most; far more than a page can show."""

_RECALLS: NDArray[np.float64] = np.linspace(
    0.0, 1.0, 101
)  # COCO's, to the last bit: found / lesions is compared to them


class Precision(NamedTuple):
    """COCO's figures; each in [0, 1], NaN where no photograph has a label to find.

    Attributes:
        ap: Area under the precision-recall curve, mean over classes with labels and over all IoU thresholds.
        ap50: At IoU 0.50; NaN also where photographs were not matched at it.
        ap75: At IoU 0.75; as `ap50`.
        ar: Recall of all detections, mean over the same.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float


class OperatingPoint(NamedTuple):
    """What a score threshold means in use. Classes are counted together, but a detection finds only its own.

    Attributes:
        score_thresh: Detections of at least this score count; NaN where none was chosen and none counts.
        iou_thresh: Overlap that makes a match.
        precision: found / (found + false_alarms); NaN where nothing was found, rightly or wrongly.
        recall: found / (found + missed), the share of lesions found; NaN where there are none.
        f1: 2 found / (2 found + missed + false_alarms), the harmonic mean of both; NaN where all three are 0.
        found: Lesions with a detection.
        missed: Lesions without.
        false_alarms: Detections without a lesion, second outlines of a lesion among them; crowd regions excuse theirs.
        false_alarms_per_photo: Their mean number.
        photos_with_false_alarm: Photographs with at least one.
    """

    score_thresh: float
    iou_thresh: float
    precision: float
    recall: float
    f1: float
    found: int
    missed: int
    false_alarms: int
    false_alarms_per_photo: float
    photos_with_false_alarm: int


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What every score threshold gives, from the best score down; thinned to what can be seen.

    Attributes:
        x: (P,) float64, recall of a precision-recall curve, false alarms per photograph of an FROC curve.
        y: (P,) float64, precision of the one, recall of the other.
        score_thresh: (P,) float64, descending; the score from which detections count at that point.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    score_thresh: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DetectionFigures:
    """How well lesions are found at one overlap.

    Attributes:
        curve: Precision (y) against recall (x).
        froc: Recall (y) against false alarms per photograph (x).
        chosen: At the score threshold in use.
        best: At the threshold with the highest F1 on these photographs.
        iou_thresh: Overlap that makes a match.
    """

    curve: Curve
    froc: Curve
    chosen: OperatingPoint
    best: OperatingPoint
    iou_thresh: float


@dataclass(frozen=True, slots=True, eq=False)
class _RankedClass:
    """The detections of one class, best score first, with what average precision asks of them."""

    photo: IntArray  # (D,) which photograph
    matched_at: tuple[IntArray, ...]  # T times the places of those that found a label
    ignored: BoolArray | None  # (T, D), None where nothing is
    truths: NDArray[np.float64]  # (N,) labels to find

    @classmethod
    def of(cls, photo: IntArray, matched: BoolArray, ignored: BoolArray, truths: IntArray) -> _RankedClass:
        matched_at = tuple(np.flatnonzero(row) for row in matched)
        return cls(photo, matched_at, ignored if ignored.any() else None, truths.astype(np.float64))

    def precision_and_recall(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(T,) average precision and (T,) recall; NaN where there is nothing to find.

        Equal to COCO's: the interpolated precision at a recall is the highest one at any place from there on, and
        precision is highest at a match, so places between matches need not be looked at.
        """
        average, reached = np.zeros(len(self.matched_at)), np.zeros(len(self.matched_at))
        total = weights @ self.truths
        if not total > 0:
            return average + math.nan, reached + math.nan
        weight = weights[self.photo]
        counted = np.cumsum(weight)
        for index, places in enumerate(self.matched_at):
            if self.ignored is not None:
                counted = np.cumsum(weight * ~self.ignored[index])
            found = weight[places].cumsum()
            precision = np.zeros(len(places) + 1)  # one more: beyond the last match, precision is 0
            np.divide(found, counted[places], out=precision[:-1], where=found > 0)
            highest = np.maximum.accumulate(precision[::-1])[::-1]
            recall = found / total
            average[index] = highest[recall.searchsorted(_RECALLS)].sum() / len(_RECALLS)
            reached[index] = recall[-1] if len(places) else 0
        return average, reached


@dataclass(frozen=True, slots=True, eq=False)
class RankedMatches:
    """The detections of all photographs, best score first, equals in the order of photographs.

    Attributes:
        scores: (D,) float64, descending.
        photo: (D,) int64, index of the photograph.
        matched: (T, D) bool, as in `PhotoMatches`.
        ignored: (T, D) bool, as in `PhotoMatches`.
        num_truths: (N,) int64, labels to find in each photograph.
        iou_thresholds: (T,) float64.
    """

    scores: NDArray[np.float64]
    photo: IntArray
    matched: BoolArray
    ignored: BoolArray
    num_truths: IntArray
    iou_thresholds: NDArray[np.float64]
    _classes: tuple[_RankedClass, ...]

    @classmethod
    def from_photos(cls, photos: Sequence[PhotoMatches]) -> RankedMatches:
        """Rank the detections of photographs that were all matched at the same thresholds for the same classes.

        Raises:
            InputError: There are no photographs, or they were matched differently.
        """
        if not photos:
            raise InputError("photographs", "there are none to count lesions in", "give at least one")
        thresholds, num_classes = photos[0].iou_thresholds, len(photos[0].num_truths)
        for photo in photos:
            if len(photo.num_truths) != num_classes or not np.array_equal(photo.iou_thresholds, thresholds):
                raise InputError(
                    "photographs", "were matched for different classes or IoU thresholds", "match them all alike"
                )
        scores = np.concatenate([photo.scores for photo in photos]).astype(np.float32).astype(np.float64)
        order = np.argsort(-scores, kind="stable")
        labels = np.concatenate([photo.labels for photo in photos])[order]
        which = np.repeat(np.arange(len(photos)), [len(photo.scores) for photo in photos])[order]
        matched = np.concatenate([photo.matched for photo in photos], axis=1)[:, order]
        ignored = np.concatenate([photo.ignored for photo in photos], axis=1)[:, order]
        truths = np.stack([photo.num_truths for photo in photos])  # (N, K)
        classes = []
        for label in range(1, num_classes + 1):
            own = labels == label
            classes.append(_RankedClass.of(which[own], matched[:, own], ignored[:, own], truths[:, label - 1]))
        return cls(scores[order], which, matched, ignored, truths.sum(axis=1), thresholds, tuple(classes))

    def average_precision(self, weights: NDArray[np.float64] | None = None) -> Precision:
        """COCO's figures, equal to `coco_ap.coco_ap`'s.

        Args:
            weights: (N,) how often each photograph counts, whole numbers of at least 0; None for once each. A
                photograph that counts twice has each of its detections twice in a row, and its labels twice.
        """
        weights = self._weights(weights)
        per_class = [ranked.precision_and_recall(weights) for ranked in self._classes]
        average, recall = (np.array(values) for values in zip(*per_class, strict=True))  # (K, T)
        defined = ~np.isnan(average[:, 0])
        if not defined.any():
            return Precision(math.nan, math.nan, math.nan, math.nan)
        by_thresh = average[defined].mean(axis=0)
        at = {thresh: by_thresh[np.abs(self.iou_thresholds - thresh) < 1e-6] for thresh in (0.50, 0.75)}
        return Precision(
            ap=float(by_thresh.mean()),
            ap50=float(at[0.50][0]) if at[0.50].size else math.nan,
            ap75=float(at[0.75][0]) if at[0.75].size else math.nan,
            ar=float(recall[defined].mean()),
        )

    def operating_point(
        self, score_thresh: float, *, iou_thresh: float = 0.5, weights: NDArray[np.float64] | None = None
    ) -> OperatingPoint:
        """What is found and what is wrong at a score threshold.

        Args:
            score_thresh: Detections of at least this score count.
            iou_thresh: Overlap that makes a match, one of `iou_thresholds`.
            weights: (N,) how often each photograph counts, whole numbers of at least 0; None for once each.

        Raises:
            InputError: Photographs were not matched at `iou_thresh`.
        """
        kept = int(np.searchsorted(-self.scores, -float(np.float32(score_thresh)), side="right"))
        return self._point(kept, score_thresh, self._row(iou_thresh), self._weights(weights))

    def best_threshold(self, *, iou_thresh: float = 0.5) -> OperatingPoint:
        """The score threshold with the highest F1, as an operating point.

        Any threshold between the lowest score kept and the next one gives the same; it is the middle, rounded to two
        digits or as many as it takes to lie between. Where nothing lies below, it is the lowest score itself. Of
        several with the same F1 the highest is taken, which has the fewest false alarms. Where no detection finds a
        lesion no threshold is better than another: `score_thresh` is NaN, and the counts are those of keeping nothing.

        Raises:
            InputError: Photographs were not matched at `iou_thresh`.
        """
        row = self._row(iou_thresh)
        last, found, wrong = self._sweep(row)
        weights = self._weights(None)
        if not found.any():
            return self._point(0, math.nan, row, weights)
        best = int(np.argmax(2 * found / (found + wrong + self.num_truths.sum())))  # the first: the highest threshold
        lowest = self.scores[last[best]]
        below = self.scores[last[best + 1]] if best + 1 < len(last) else None
        return self._point(int(last[best]) + 1, _between(lowest, below), row, weights)

    def precision_recall(self, *, iou_thresh: float = 0.5, max_points: int = CURVE_POINTS) -> Curve:
        """Precision (y) against recall (x), a point for each score; no points without lesions or detections.

        Raises:
            InputError: Photographs were not matched at `iou_thresh`.
        """
        last, found, wrong = self._sweep(self._row(iou_thresh))
        said = found + wrong > 0  # a crowd region's detections alone give no precision
        recall, precision = found[said] / max(self.num_truths.sum(), 1), found[said] / (found + wrong)[said]
        return self._curve(recall, precision, last[said], max_points)

    def froc(self, *, iou_thresh: float = 0.5, max_points: int = CURVE_POINTS) -> Curve:
        """Share of lesions found (y) against false alarms per photograph (x), the free-response ROC curve.

        A point for each score; no points without lesions or detections. A threshold above all scores is the point
        (0, 0), which is not stored.

        Raises:
            InputError: Photographs were not matched at `iou_thresh`.
        """
        last, found, wrong = self._sweep(self._row(iou_thresh))
        return self._curve(wrong / len(self.num_truths), found / max(self.num_truths.sum(), 1), last, max_points)

    def _curve(self, x: NDArray[np.float64], y: NDArray[np.float64], last: IntArray, max_points: int) -> Curve:
        if not self.num_truths.any():
            return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
        kept = _most_telling(x, y, max_points)
        return Curve(x[kept], y[kept], self.scores[last[kept]])

    def _sweep(self, row: int) -> tuple[IntArray, IntArray, IntArray]:
        """For each distinct score, best first: place of its last detection, labels found and false alarms so far."""
        last = np.flatnonzero(np.diff(self.scores, append=-math.inf))
        found, wrong = self.matched[row], ~(self.matched[row] | self.ignored[row])
        return last, np.cumsum(found)[last], np.cumsum(wrong)[last]

    def _point(self, kept: int, score_thresh: float, row: int, weights: NDArray[np.float64]) -> OperatingPoint:
        photo, matched = self.photo[:kept], self.matched[row, :kept]
        is_wrong = ~(matched | self.ignored[row, :kept])
        wrong_in = np.bincount(photo[is_wrong], minlength=len(weights))
        found, wrong, total = (
            round(float(count))
            for count in (weights[photo[matched]].sum(), weights @ wrong_in, weights @ self.num_truths)
        )
        return OperatingPoint(
            score_thresh=float(score_thresh),
            iou_thresh=float(self.iou_thresholds[row]),
            precision=_share(found, found + wrong),
            recall=_share(found, total),
            f1=_share(2 * found, found + wrong + total),
            found=found,
            missed=total - found,
            false_alarms=wrong,
            false_alarms_per_photo=_share(wrong, weights.sum()),
            photos_with_false_alarm=round(float(weights[wrong_in > 0].sum())),
        )

    def _row(self, iou_thresh: float) -> int:
        rows = np.flatnonzero(np.isclose(self.iou_thresholds, iou_thresh))
        if not len(rows):
            known = ", ".join(f"{thresh:g}" for thresh in self.iou_thresholds)
            raise InputError(f"iou_thresh {iou_thresh:g}", "photographs were not matched at it", f"use one of {known}")
        return int(rows[0])

    def _weights(self, weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        if weights is None:
            return np.ones(len(self.num_truths))
        if weights.shape != self.num_truths.shape:
            raise InputError("weights", f"have shape {weights.shape} for {len(self.num_truths)} photographs")
        return weights.astype(np.float64, copy=False)


def detection_figures(ranked: RankedMatches, score_thresh: float, *, iou_thresh: float = 0.5) -> DetectionFigures:
    """Curves and operating points of a data set at one overlap.

    Args:
        ranked: All photographs.
        score_thresh: The threshold in use.
        iou_thresh: Overlap that makes a match.

    Raises:
        InputError: Photographs were not matched at `iou_thresh`.
    """
    return DetectionFigures(
        curve=ranked.precision_recall(iou_thresh=iou_thresh),
        froc=ranked.froc(iou_thresh=iou_thresh),
        chosen=ranked.operating_point(score_thresh, iou_thresh=iou_thresh),
        best=ranked.best_threshold(iou_thresh=iou_thresh),
        iou_thresh=iou_thresh,
    )


def _share(part: int, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _between(lowest: float, below: float | None) -> float:
    """A short number in (below, lowest], near the middle, that stays there in float32."""
    if below is not None:
        for digits in range(2, 8):
            short = round((lowest + below) / 2, digits)
            if below < float(np.float32(short)) <= lowest:
                return short
    return float(str(np.float32(lowest)))  # its shortest form: 0.3, not 0.30000001192092896


def _most_telling(x: NDArray[np.float64], y: NDArray[np.float64], max_points: int) -> IntArray:
    """Places of at most that many points, ascending, whose polyline stays closest to that of all.

    Douglas and Peucker's way: from the ends, the point farthest from the line so far joins next, so corners come first
    and points on straight lines never.
    """
    if len(x) <= 2:
        return np.arange(len(x))
    points = np.stack([x, y], axis=1) / np.maximum([np.ptp(x), np.ptp(y)], 1e-12)
    pieces = [_farthest(points, 0, len(x) - 1)]  # a heap: the piece with the farthest point on top
    kept = {0, len(x) - 1}
    while len(kept) < max_points and pieces:
        distance, first, middle, last = heapq.heappop(pieces)
        if -distance < 1e-9:
            break
        kept.add(middle)
        for ends in ((first, middle), (middle, last)):
            if ends[1] - ends[0] > 1:
                heapq.heappush(pieces, _farthest(points, *ends))
    return np.array(sorted(kept))


def _farthest(points: NDArray[np.float64], first: int, last: int) -> tuple[float, int, int, int]:
    """Minus the distance to the line between two places of the point between them that is farthest, and all three."""
    along = points[last] - points[first]
    length = math.hypot(*along)
    offsets = points[first + 1 : last] - points[first]
    if length > 0:
        distances = np.abs(offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / length
    else:
        distances = np.hypot(offsets[:, 0], offsets[:, 1])
    place = int(distances.argmax())
    return -float(distances[place]), first, first + 1 + place, last
