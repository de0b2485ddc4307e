"""Drawn lesions and what was found of them, for tests of evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks
from dermask.masks import bitmask_to_rle, mask_boxes
from dermask.records import ImageSize


def ellipse(size: ImageSize, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    rows, columns = np.mgrid[: size.height, : size.width] + 0.5
    inside: np.ndarray = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    return inside


def predicted(bitmasks: np.ndarray, scores: Any, labels: Any, *, size: ImageSize) -> PredictedMasks:
    return PredictedMasks(
        masks=tuple(bitmask_to_rle(bitmask) for bitmask in bitmasks),
        boxes=mask_boxes(bitmasks),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
        size=size,
    )


def random_scene(rng: np.random.Generator, *, scale: int = 1) -> tuple[TruthMasks, PredictedMasks]:
    """Up to three lesions of two classes, at times a crowd region; detections near them, elsewhere, or none.

    With `scale` 7 lesions are of all of COCO's three sizes.
    """
    size = ImageSize(*(int(side) for side in rng.integers(20, 50, 2) * scale))
    outlines = [
        (rng.uniform(5, np.array(size) - 5), rng.uniform(4, 12, 2) * rng.uniform(0.3, 1) ** (scale > 1) * scale,
         int(rng.integers(1, 3)))
        for _ in range(rng.integers(0, 4))
    ]  # fmt: skip
    bitmasks = [ellipse(size, tuple(centre), tuple(radii)) for centre, radii, _ in outlines]
    labels = np.array([label for *_, label in outlines], np.int64)
    is_crowd = rng.random(len(outlines)) < 0.2
    truth = TruthMasks(tuple(bitmask_to_rle(mask) for mask in bitmasks), labels, is_crowd, size)
    found, found_labels = [], []
    for centre, radii, label in outlines:
        for _ in range(rng.integers(0, 3)):
            found.append(
                ellipse(size, tuple(centre + radii * rng.normal(0, 0.15, 2)), tuple(radii * rng.uniform(0.8, 1.2, 2)))
            )
            found_labels.append(label if rng.random() < 0.9 else 3 - label)
    for _ in range(rng.integers(0, 2)):
        found.append(ellipse(size, tuple(rng.uniform(5, 20, 2)), (5, 5)))
        found_labels.append(1)
    scores = -np.sort(-rng.random(len(found)).round(1))  # rounded, so that equal scores occur
    stacked = np.stack(found) if found else np.zeros((0, *size), np.bool_)
    return truth, predicted(stacked, scores, found_labels, size=size)
