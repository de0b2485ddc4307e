"""One ring for an outline of several parts or with holes, and back: for formats that keep one ring an object.

Rings are joined by bridges of no width, a line walked there and back. By the even-odd rule, and by COCO's
rasterisation, such a bridge holds no pixel, so the joined ring is the same object. Ultralytics' `merge_multi_segment`
joins the parts of COCO's outlines in the same way.

Rings are (K, 2) float64 xy in pixels, the first point not repeated at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dermask import masks
from dermask.contours import Ring
from dermask.data.tracing import TOLERANCES, iou, outer_and_inner
from dermask.records import BoolArray, ImageSize, Outline, Polygons

_MAX_BRIDGED_POINTS = 20_000
"""Rings with more points are joined at their first ones rather than where they are closest, which takes K^2 steps."""
_SMOOTH_IOU = 0.995
"""A traced outline is simplified where that gives back at least this much of it, and else keeps every pixel edge."""


def join_rings(rings: Sequence[Ring]) -> Ring:
    """One ring that walks all of `rings`, each reached over a bridge from what was walked before, nearest first.

    `split_ring` gives them back. Holes are given as rings like any other.
    """
    joined = rings[0]
    for ring in rings[1:]:
        here, there = _closest(joined, ring)
        turned = np.roll(ring, -there, axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return joined


def split_ring(ring: Ring) -> list[Ring]:
    """The rings that bridges of no width join; the ring itself where it has none.

    A bridge is an edge P to Q that is walked back later, Q to P; what lies between is a ring of its own. What has
    fewer than three points, such as a spike, holds no pixel and is dropped.
    """
    parts: list[Ring] = []
    stack: list[tuple[float, float]] = []
    places: dict[tuple[tuple[float, float], tuple[float, float]], int] = {}
    for point in [*map(tuple, ring.tolist()), tuple(ring[0].tolist())]:
        if stack and stack[-1] == point:
            continue
        if stack and (place := places.get((point, stack[-1]))) is not None:
            # stack[place] is P, where this walk returns to; stack[place + 1] to stack[-1], both Q, is the inner ring.
            _forget_edges(stack, places, place)
            parts.append(np.array(stack[place + 1 : -1], np.float64).reshape(-1, 2))
            del stack[place + 1 :]
            continue
        if stack:
            places[stack[-1], point] = len(stack) - 1
        stack.append(point)
    if len(stack) > 1 and stack[0] == stack[-1]:
        stack.pop()
    parts.insert(0, np.array(stack, np.float64).reshape(-1, 2))
    return [part for part in parts if len(part) >= 3]


def _forget_edges(
    stack: list[tuple[float, float]], places: dict[tuple[tuple[float, float], tuple[float, float]], int], place: int
) -> None:
    for index in range(place, len(stack) - 1):
        places.pop((stack[index], stack[index + 1]), None)


def _closest(one: Ring, other: Ring) -> tuple[int, int]:
    """Indices of the points at which two rings are closest."""
    if len(one) * len(other) > _MAX_BRIDGED_POINTS**2 // 40:
        step_one, step_other = max(1, len(one) // 1000), max(1, len(other) // 1000)
        here, there = _closest(one[::step_one], other[::step_other])
        return here * step_one, there * step_other
    distances = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    return divmod(int(distances.argmin()), len(other))


def outline_rings(outline: Outline, mask: BoolArray) -> list[Ring]:
    """The rings of an outline, holes among them: its own where it is polygons, else traced from its mask.

    Args:
        outline: Any.
        mask: (H, W) bool, what it decodes to.

    Returns:
        Parts first, then holes, which lie inside parts; none for an empty mask.
    """
    if isinstance(outline, Polygons):
        return list(outline.parts)
    size = ImageSize(*mask.shape)
    for tolerance in TOLERANCES:
        outer, inner = outer_and_inner(mask, tolerance)
        rings = [*outer, *inner]
        if mask.any() and iou(masks.outline_bitmask(rings_outline(rings, size), size), mask) >= _SMOOTH_IOU:
            break
    return rings


def rings_outline(rings: Sequence[Ring], size: ImageSize) -> Outline:
    """The object that rings from `split_ring` draw together: polygons, or run lengths where one is a hole.

    By the even-odd rule a pixel belongs to the object if an odd number of rings surround it.
    """
    polygons = Polygons(tuple(rings))
    if len(rings) == 1:
        return polygons
    parity = np.zeros(size, np.bool_)
    union = np.zeros(size, np.bool_)
    for ring in rings:
        mask = masks.outline_bitmask(Polygons((ring,)), size)
        parity ^= mask
        union |= mask
    return polygons if np.array_equal(parity, union) else masks.bitmask_to_rle(parity)
