"""Outer outlines of bitmasks as polygons.

Frame: pixel i covers [i, i + 1), so a mask that fills the photograph has the photograph's border as its outline.
"""

from __future__ import annotations

import contourpy
import numpy as np
from numpy.typing import NDArray

from dermask.records import BoolArray, Polygons

Ring = NDArray[np.float64]  # (K, 2) xy, the first point not repeated at the end

# Largest deviation as a share of the square root of the object's area: keeps the area of a compact object to about
# 1 %, so that the outline of a small lesion is not rounded away by a tolerance meant for large ones.
_MAX_RELATIVE_DEVIATION = 0.003


def bitmask_to_polygons(bitmask: BoolArray, *, tolerance: float = 0.5) -> Polygons:
    """The outer rings of a mask, one per connected part; holes are filled, as polygons have none.

    Args:
        bitmask: (H, W) bool.
        tolerance: Largest distance in pixels between the outline and its simplification, at least 0; small objects are
            kept more closely than that. 0 keeps every pixel edge: rasterised, it is the mask (holes filled) exactly.

    Returns:
        Rings in pixel-edge coordinates within [0, W] x [0, H], largest first; no part for an empty mask. Stairs of
        single pixels become slopes, while corners with straight sides of two pixels and more stay corners.

    Source:
        Marching squares at level 0.5 (contourpy), then Douglas and Peucker 1973.
    """
    columns = np.flatnonzero(bitmask.any(axis=0))
    if not len(columns):
        return Polygons(())
    rows = np.flatnonzero(bitmask.any(axis=1))
    # Only the object's own rectangle is traced, with a frame of background so that rings close at the border.
    crop = np.pad(bitmask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float64)
    lines = contourpy.contour_generator(z=crop, name="serial", line_type="Separate").lines(0.5)
    # Sample (i, j) of the padded crop is the centre of a pixel: j - 1 + 0.5 columns from the crop's left edge.
    offset = np.array([columns[0], rows[0]]) - 0.5
    rings = [np.asarray(line, np.float64)[:-1] + offset for line in lines]
    areas = [signed_area(ring) for ring in rings]
    outer = sorted((k for k in range(len(rings)) if areas[k] > 0), key=lambda k: -areas[k])
    return Polygons(tuple(_tidy(rings[k], areas[k], tolerance) for k in outer))


def _tidy(ring: Ring, area: float, tolerance: float) -> Ring:
    if tolerance <= 0:
        return _drop_collinear(_restore_corners(ring, everywhere=True))
    ring = _drop_collinear(_restore_corners(ring, everywhere=False))
    start = int(np.argmax(((ring - ring.mean(axis=0)) ** 2).sum(axis=1)))  # an extreme point, so surely a corner
    return simplify_ring(np.roll(ring, -start, axis=0), min(tolerance, _MAX_RELATIVE_DEVIATION * area**0.5))


def signed_area(ring: Ring) -> float:
    """The area in a ring (K, 2) by the shoelace formula.

    Its sign is the direction of the ring: positive for the outer rings of contourpy, which keeps the object on the left
    of its lines.
    """
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _restore_corners(ring: Ring, *, everywhere: bool) -> Ring:
    """Put back the pixel corners that marching squares cuts off.

    The ring's points are midpoints of pixel edges. Where two neighbours lie on edges of different direction, the line
    between them cuts off the corner in which the edges meet: everywhere, or only where both sides are straight for a
    pixel more, so that a rectangle keeps its corners and a slope stays smooth.
    """
    following = np.roll(ring, -1, axis=0)
    step = following - ring
    is_cut = (step != 0).all(axis=1)
    if not everywhere:
        before, after = np.roll(step, 1, axis=0), np.roll(step, -1, axis=0)
        is_straight_before, is_straight_after = (before == 0).any(axis=1), (after == 0).any(axis=1)
        turns = (before * after).sum(axis=1) == 0
        is_cut &= is_straight_before & is_straight_after & turns
    # A midpoint has one whole coordinate, that of the line its edge lies on; the corner has both lines' coordinates.
    corners = np.where(ring == np.round(ring), ring, following)
    return np.insert(ring, np.flatnonzero(is_cut) + 1, corners[is_cut], axis=0)


def _drop_collinear(ring: Ring) -> Ring:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(ring[turns], np.float64)


def simplify_ring(ring: Ring, tolerance: float) -> Ring:
    """A closed ring with fewer points, none of the old ones further than `tolerance` from the new line.

    Args:
        ring: (K, 2) xy, the first point not repeated at the end.
        tolerance: In the units of `ring`.

    Returns:
        (L, 2) points of `ring` in their order, the first one first, L <= K.

    Source:
        Douglas and Peucker 1973, on the two halves between the first point and the one furthest from it.
    """
    if len(ring) <= 3:
        return ring
    closed = np.concatenate([ring, ring[:1]])
    opposite = int(np.argmax(((closed - closed[0]) ** 2).sum(axis=1)))
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, opposite]] = True
    stack = [(0, opposite), (opposite, len(closed) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        distances = _distance_to_segment(closed[first + 1 : last], closed[first], closed[last])
        farthest = int(np.argmax(distances))
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            stack += [(first, middle), (middle, last)]
    return ring[keep[:-1]]


def _distance_to_segment(points: Ring, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    direction = end - start
    length_squared = direction @ direction
    if length_squared > 0:
        share = np.minimum(np.maximum((points - start) @ direction / length_squared, 0), 1)
        start = start + share[:, None] * direction
    offset = points - start
    return np.asarray(np.hypot(offset[:, 0], offset[:, 1]), np.float64)
