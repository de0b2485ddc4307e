"""What evaluation compares: the labelled and the predicted masks of one photograph, as exact run lengths.

A detection keeps its mask small, in the frame of its box; a saved result holds it at the photograph's size. Cutting the
second kind down to the first would lose detail, so both become run lengths at the photograph's own size. These
take kilobytes where a bitmask of a large photograph takes megabytes, and areas and overlaps come straight from them.

Shapes: M labelled objects, N detections; either may be 0. H, W the photograph's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from faster_coco_eval.core import mask as mask_api

from dermask import masks
from dermask.errors import InputError
from dermask.evaluation.isic_challenge import PhotoFigures, PixelCounts, count_pixels, figures_from_counts
from dermask.records import BoolArray, Detections, FloatArray, ImageSize, IntArray, Outline, Polygons, Rle, Sample

Rule = Literal["primary", "union"]

MASK_THRESH = 0.5
"""Mask probability from which a pixel belongs to the detection."""
SCORE_THRESH = 0.5
"""Score from which a detection enters the union."""


@dataclass(frozen=True, slots=True, eq=False)
class TruthMasks:
    """The labels of one photograph.

    Attributes:
        masks: M run lengths at the photograph's size.
        labels: (M,) int64 from 1.
        is_crowd: (M,) bool, regions of many objects: what is found inside them counts neither for nor against.
        size: The photograph's size.
        image_id: Which photograph.
    """

    masks: tuple[Rle, ...]
    labels: IntArray
    is_crowd: BoolArray
    size: ImageSize
    image_id: str = ""

    @classmethod
    def from_bitmasks(
        cls, bitmasks: BoolArray, labels: IntArray, *, ignored: BoolArray | None = None, image_id: str = ""
    ) -> TruthMasks:
        """Labels from full-size bitmasks, as `LoadedSample` holds them.

        Args:
            bitmasks: (M, H, W) bool.
            labels: (M,) int64 from 1.
            ignored: (H, W) bool, pixels of crowd regions, ignored for every class that occurs in the photograph
                or in `labels`; None where there are none.
            image_id: Which photograph.
        """
        size = ImageSize(*(int(side) for side in bitmasks.shape[1:]))
        rles = [masks.bitmask_to_rle(bitmask) for bitmask in bitmasks]
        crowd_labels = np.zeros(0, np.int64)
        if ignored is not None and ignored.any():
            # A loaded sample no longer knows the class of its crowd regions; COCO asks for one, so each gets a copy.
            crowd_labels = np.unique(labels) if len(labels) else np.ones(1, np.int64)
            rles += [masks.bitmask_to_rle(ignored)] * len(crowd_labels)
        return cls(
            masks=tuple(rles),
            labels=np.concatenate([labels, crowd_labels]).astype(np.int64),
            is_crowd=np.arange(len(rles)) >= len(labels),
            size=size,
            image_id=image_id,
        )

    @classmethod
    def from_sample(cls, sample: Sample, size: ImageSize) -> TruthMasks:
        """Labels of a sample whose photograph has that size; an outline without a single pixel is no object.

        Raises:
            InputError: An outline does not fit the photograph, or its mask image is unreadable.
        """
        found = [
            (rle, instance)
            for instance in sample.instances
            if area(rle := _outline_rle(instance.outline, size)) or instance.is_crowd
        ]
        return cls(
            masks=tuple(rle for rle, _ in found),
            labels=np.array([instance.label for _, instance in found], np.int64),
            is_crowd=np.array([instance.is_crowd for _, instance in found], np.bool_),
            size=size,
            image_id=sample.image_id,
        )

    def union(self) -> Rle:
        """The one binary mask of the photograph: every labelled object that is not a crowd region."""
        return union([rle for rle, crowd in zip(self.masks, self.is_crowd, strict=True) if not crowd], self.size)

    def ignored(self) -> BoolArray | None:
        """(H, W) bool, the pixels of crowd regions; None where there are none."""
        if not self.is_crowd.any():
            return None
        crowds = [rle for rle, crowd in zip(self.masks, self.is_crowd, strict=True) if crowd]
        return masks.rle_to_bitmask(union(crowds, self.size))


@dataclass(frozen=True, slots=True, eq=False)
class PredictedMasks:
    """What was found in one photograph, best score first, with exact masks.

    Attributes:
        masks: N run lengths at the photograph's size.
        boxes: (N, 4) float32 xyxy, pixels of the photograph.
        scores: (N,) float32 in [0, 1], descending.
        labels: (N,) int64 from 1.
        size: The photograph's size.
        image_id: Which photograph.
    """

    masks: tuple[Rle, ...]
    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    size: ImageSize
    image_id: str = ""

    @classmethod
    def from_detections(cls, detections: Detections, *, mask_thresh: float = MASK_THRESH) -> PredictedMasks:
        """Paste each mask at the photograph's size; pixels of at least `mask_thresh` belong to it."""
        rles: list[Rle] = []
        for index in range(len(detections)):  # one at a time: N bitmasks of a large photograph would not fit
            one = slice(index, index + 1)
            pasted = masks.paste_masks(
                detections.boxes[one], detections.mask_probs[one], detections.size, threshold=mask_thresh
            )
            rles.append(masks.bitmask_to_rle(pasted[0].astype(np.bool_)))
        return cls(
            masks=tuple(rles),
            boxes=detections.boxes,
            scores=detections.scores,
            labels=detections.labels,
            size=detections.size,
            image_id=detections.image_id,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def merged(self, rule: Rule, *, score_thresh: float = SCORE_THRESH) -> Rle:
        """The one binary mask of the photograph.

        Args:
            rule: `primary` takes the best-scoring detection whatever its score, `union` all that score at least
                `score_thresh`. Nothing found gives an empty mask.
            score_thresh: In [0, 1]; used by `union` alone.
        """
        if rule == "primary":
            return union(self.masks[:1], self.size)
        kept = [rle for rle, score in zip(self.masks, self.scores, strict=True) if score >= score_thresh]
        return union(kept, self.size)


def challenge_figures(
    truth: TruthMasks, prediction: PredictedMasks, *, rule: Rule = "primary", score_thresh: float = SCORE_THRESH
) -> PhotoFigures:
    """The ISIC figures of one photograph, straight from run lengths; pixels of crowd regions are left out.

    Equal to `isic_challenge.photo_figures` on the same masks as bitmasks.

    Raises:
        InputError: The prediction is for a photograph of another size.
    """
    check_same_size(truth, prediction)
    merged = prediction.merged(rule, score_thresh=score_thresh)
    return figures_from_counts(pixel_counts(truth.union(), merged, ignored=truth.ignored()))


def pixel_counts(truth: Rle, pred: Rle, *, ignored: BoolArray | None = None) -> PixelCounts:
    """The pixels of one photograph by truth and prediction, masks of one size; `isic_challenge.count_pixels` of both.

    Args:
        truth: The union of the labelled lesions.
        pred: The one predicted mask.
        ignored: (H, W) bool, pixels that are left out.
    """
    if ignored is not None:
        kept = ~ignored
        return count_pixels(masks.rle_to_bitmask(truth)[kept], masks.rle_to_bitmask(pred)[kept])
    both = area(_merge([truth, pred], intersect=True))
    false_positive, false_negative = area(pred) - both, area(truth) - both
    rest = truth.size.height * truth.size.width - both - false_positive - false_negative
    return PixelCounts(both, false_positive, false_negative, rest)


def check_same_size(truth: TruthMasks, prediction: PredictedMasks) -> None:
    """Raise InputError unless both are about a photograph of one size."""
    if truth.size != prediction.size:
        raise InputError(
            f"prediction for {truth.image_id or 'a photograph'}",
            f"is {prediction.size.width} x {prediction.size.height} pixels, "
            f"the photograph {truth.size.width} x {truth.size.height}",
            "predict on the photographs that the labels were drawn on",
        )


def union(rles: Sequence[Rle], size: ImageSize) -> Rle:
    """The pixels of any of them; an empty mask of that size for none."""
    if not rles:
        return masks.bitmask_to_rle(np.zeros(size, np.bool_))
    return rles[0] if len(rles) == 1 else _merge(rles, intersect=False)


def area(rle: Rle) -> int:
    """Pixels of the mask."""
    return int(mask_api.area(as_coco(rle)))


def as_coco(rle: Rle) -> dict[str, object]:
    """The form that COCO's own functions take: ``{"size": [H, W], "counts": bytes}``."""
    return {"size": [int(side) for side in rle.size], "counts": rle.counts}


def _outline_rle(outline: Outline, size: ImageSize) -> Rle:
    if isinstance(outline, Polygons):
        return masks.polygons_to_rle(outline, size)  # never a bitmask: a large photograph stays cheap
    return masks.bitmask_to_rle(masks.outline_bitmask(outline, size))


def _merge(rles: Sequence[Rle], *, intersect: bool) -> Rle:
    merged = mask_api.merge([as_coco(rle) for rle in rles], int(intersect))
    return Rle(merged["counts"], rles[0].size)
