"""Masks as rings: when that says what they are, and how it is done.

Shapes: H, W the photograph's height and width. Rings are (K, 2) float64 xy, the first point not repeated.
"""

from __future__ import annotations

import numpy as np

from dermask import masks
from dermask.contours import Ring
from dermask.records import BoolArray, ImageSize, Outline, Polygons

LEAST_IOU = 0.99
"""A mask is written as rings where they give back at least this much of it."""

TOLERANCES = (0.5, 0.0)
"""Pixels that a traced ring may leave the mask by; 0 follows every pixel edge, for masks too small to be rounded."""

_MAX_PARTS = 64
"""Masks of more parts are noise rather than drawings, and stay run lengths, which are shorter then."""

_MAX_CROSSINGS = 32
"""Times that a row of pixels enters or leaves an object, on average over all rows: 16 parts side by side everywhere.
No lesion comes near; noise is far above, and would be traced for minutes."""


def as_polygons(outline: Outline, bitmask: BoolArray) -> Polygons | None:
    """The outline as polygons: as it is, or traced where that gives back `LEAST_IOU`; None where it needs pixels.

    Args:
        outline: Of any kind.
        bitmask: Its pixels, (H, W) bool, at least one of them True.
    """
    if isinstance(outline, Polygons):
        return outline
    if is_noise(bitmask):
        return None
    polygons = masks.bitmask_to_polygons(bitmask)
    if len(polygons.parts) > _MAX_PARTS:
        return None
    again = masks.outline_bitmask(polygons, ImageSize(*bitmask.shape))
    return polygons if iou(again, bitmask) >= LEAST_IOU else None


def outer_and_inner(mask: BoolArray, tolerance: float) -> tuple[list[Ring], list[Ring]]:
    """The rings around a mask's parts, and those around its holes.

    Args:
        mask: (H, W) bool.
        tolerance: Pixels that a ring may leave the mask by.
    """
    exact = masks.bitmask_to_polygons(mask, tolerance=0)
    holes = masks.outline_bitmask(exact, ImageSize(*mask.shape)) & ~mask
    outer = masks.bitmask_to_polygons(mask, tolerance=tolerance)
    inner = masks.bitmask_to_polygons(holes, tolerance=tolerance)
    return list(outer.parts), list(inner.parts)


def iou(one: BoolArray, other: BoolArray) -> float:
    """Intersection over union of two (H, W) masks, of which one at least has a pixel."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def is_noise(mask: BoolArray) -> bool:
    """Whether an (H, W) mask is so torn that tracing it makes no sense."""
    return int(np.count_nonzero(mask[:, 1:] != mask[:, :-1])) > _MAX_CROSSINGS * len(mask)
