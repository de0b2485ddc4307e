"""Found masks tidied, where that is asked for: the largest part alone, holes filled, smoother outlines.

All of it happens in the frame of the box, on probabilities, before a mask is pasted: it costs the same for a photograph
of any size, and overlays, masks, run lengths and tables all follow from the same tidied mask.

Shapes: N detections, S cells a side.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from dermask.errors import SettingError
from dermask.records import BoolArray, Detections, FloatArray
from dermask.regions import label_regions

TidyStep = Literal["smooth", "largest", "holes"]

TIDY_STEPS: tuple[TidyStep, ...] = get_args(TidyStep)
"""Every step, in the order in which they are taken."""

_KERNEL = (0.25, 0.5, 0.25)  # binomial: as smooth as a Gaussian with a deviation of 0.7 cells


def tidy(detections: Detections, steps: Collection[TidyStep], *, threshold: float = 0.5) -> Detections:
    """Detections with tidied masks; boxes and scores stay.

    Args:
        detections: What was found in one photograph.
        steps: Any of `TIDY_STEPS`; their order does not matter, none changes nothing.
            `smooth` takes each cell's mean with its neighbours, so that an outline follows no single cell;
            `largest` leaves the largest of the parts that do not touch;
            `holes` fills what a mask shuts in.
        threshold: Probability from which a cell belongs to the mask, in (0, 1]; `holes` and `largest` are about this
            mask.

    Returns:
        mask_probs (N, S, S) float32 in [0, 1]. Cells cut off become 0, holes 1.

    Raises:
        SettingError: There is no such step.
    """
    if unknown := sorted(set(steps) - set(TIDY_STEPS)):
        raise SettingError(f"tidy step {unknown[0]}", "does not exist", f"choose from {', '.join(TIDY_STEPS)}")
    if not steps or not len(detections):
        return detections
    probs = detections.mask_probs.copy()
    if "smooth" in steps:
        probs = _smooth(probs)
    for one in probs:
        if "largest" in steps:
            one[(one >= threshold) & ~_largest_part(one >= threshold)] = 0
        if "holes" in steps:
            one[_holes(one >= threshold)] = 1
    return replace(detections, mask_probs=probs)


def _smooth(probs: FloatArray) -> FloatArray:
    """The border counts as continued, for a lesion that leaves the photograph ends there too."""
    before, here, after = _KERNEL
    for axis in (1, 2):
        width = [(0, 0), (0, 0), (0, 0)]
        width[axis] = (1, 1)
        padded = np.moveaxis(np.pad(probs, width, mode="edge"), axis, 0)
        probs = np.moveaxis(before * padded[:-2] + here * padded[1:-1] + after * padded[2:], 0, axis)
    return np.ascontiguousarray(probs, np.float32)


def _largest_part(mask: BoolArray) -> BoolArray:
    labels, count = label_regions(mask)
    if not count:
        return mask
    largest: BoolArray = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest


def _holes(mask: BoolArray) -> BoolArray:
    labels, _ = label_regions(~mask, diagonal=False)  # as `regions.hole_areas` counts them
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    holes: BoolArray = (labels > 0) & ~np.isin(labels, outside)
    return holes
