"""Outlines for formats in which an object is one ring without holes: makesense.ai and VGG Image Annotator.

An outline of several parts becomes several objects; specks of a mask, which would become lesions so, are left out. A
hole is joined to the ring around it by a line of no width, walked there and back: filled in, skin would be taught as
lesion, and by the even-odd rule such a line holds no pixel. `unbridged` makes it a hole again on reading. Holes run
against the ring around them, so that a canvas that fills by the non-zero rule, as browsers do, leaves them open too.

Shapes: H, W the photograph's height and width. Rings are (K, 2) float64 xy, the first point not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from dermask import masks
from dermask.contours import Ring
from dermask.data.bridges import join_rings, rings_outline, split_ring
from dermask.data.tracing import LEAST_IOU, TOLERANCES, iou, is_noise, outer_and_inner
from dermask.errors import InputError
from dermask.records import BoolArray, ImageSize, Instance, Outline, Polygons
from dermask.wording import plural

_SPECKS = 0.005
"""Share of a mask that its smallest parts may hold together to be left out: half of what `LEAST_IOU` allows."""


class OneRingWriter:
    """Turns outlines into single rings, and counts what that changes."""

    def __init__(self) -> None:
        self._crowds = 0
        self._divided = 0
        self._filled = 0
        self._specks = 0
        self._bridged = 0

    def rings(self, instance: Instance, size: ImageSize, image_id: str) -> list[Ring]:
        """The rings to write for one object, each as an object of its own.

        Args:
            instance: Any; a crowd region gives none, for formats of one ring know no crowds.
            size: The photograph's.
            image_id: Which photograph, for messages.

        Returns:
            The outline's own rings where it is polygons; else rings that give back at least `LEAST_IOU` of its mask.
            None for an outline without a pixel.

        Raises:
            InputError: As `masks.outline_bitmask`, or the mask is noise.
        """
        if instance.is_crowd:
            self._crowds += 1
            return []
        if isinstance(instance.outline, Polygons):
            rings = list(instance.outline.parts)
        else:
            mask = masks.outline_bitmask(instance.outline, size)
            if is_noise(mask):
                problem = "a mask falls into more pieces than rings can be drawn around"
                raise InputError(f"image {image_id}", problem, "correct the mask, or write COCO, which holds it")
            rings = self._trace(mask) if mask.any() else []
        rings = [ring for ring in rings if masks.outline_bitmask(Polygons((ring,)), size).any()]  # else unreadable
        self._divided += len(rings) > 1
        return rings

    def losses(self, tool: str) -> tuple[str, ...]:
        """One line for each kind of change so far. `tool` is whose format it is, for the message."""
        lines = (
            (self._crowds, "crowd region", f"left out, {tool} has none"),
            (self._divided, "outline", f"of several parts: each part became an object, {tool} has one ring an object"),
            (self._bridged, "outline", f"with holes: joined to the ring by a line of no width, {tool} has no holes"),
            (self._specks, "outline", f"with specks below {_SPECKS:.1%} of it: the specks are left out"),
            (self._filled, "outline", f"with holes below {1 - LEAST_IOU:.0%} of it: filled, {tool} has no holes"),
        )
        return tuple(
            f"{plural(number, noun)}{' ' if noun == 'outline' else ': '}{what}"
            for number, noun, what in lines
            if number
        )

    def _trace(self, mask: BoolArray) -> list[Ring]:
        traced = list(masks.bitmask_to_polygons(mask).parts)
        main = _without_specks(traced)
        for rings in (main, traced) if len(main) < len(traced) else (traced,):
            if _gives_back(rings, mask):
                self._specks += len(rings) < len(traced)
                self._filled += _has_holes(mask)
                return rings
        for tolerance in TOLERANCES:
            outer, inner = outer_and_inner(mask, tolerance)
            rings = _bridge(_without_specks(outer), inner)
            has_specks = len(rings) < len(outer)
            if not _gives_back(rings, mask):
                rings, has_specks = _bridge(outer, inner), False
            if _gives_back(rings, mask):
                break
        self._specks += has_specks
        self._bridged += bool(inner)
        return rings


def unbridged(polygons: Polygons, size: ImageSize) -> Outline:
    """An outline of one ring whose lines of no width are taken out: its holes are holes, its parts are parts.

    Args:
        polygons: As a label file has it.
        size: The photograph's.

    Returns:
        The same pixels, as run lengths where there is a hole; `polygons` itself where there is no such line.
    """
    if len(polygons.parts) != 1 or not _meets_itself(polygons.parts[0]):
        return polygons
    rings = split_ring(polygons.parts[0])
    if len(rings) < 2:
        return polygons
    outline = rings_outline(rings, size)
    is_same = np.array_equal(masks.outline_bitmask(outline, size), masks.outline_bitmask(polygons, size))
    return outline if is_same else polygons


def _gives_back(rings: Sequence[Ring], mask: BoolArray) -> bool:
    return iou(masks.outline_bitmask(Polygons(tuple(rings)), ImageSize(*mask.shape)), mask) >= LEAST_IOU


def _without_specks(rings: Sequence[Ring]) -> list[Ring]:
    """The rings, largest first, without the smallest that together hold next to nothing."""
    areas = np.array([shapely.Polygon(ring).area for ring in rings])
    tail = np.cumsum(areas[::-1])[::-1]  # (K,) the area of a ring and of all smaller ones
    return [ring for ring, rest in zip(rings, tail, strict=True) if rest > _SPECKS * areas.sum()]


def _meets_itself(ring: Ring) -> bool:
    return len(set(map(tuple, ring.tolist()))) < len(ring)


def _has_holes(mask: BoolArray) -> bool:
    exact = masks.bitmask_to_polygons(mask, tolerance=0)
    return not np.array_equal(masks.outline_bitmask(exact, ImageSize(*mask.shape)), mask)


def _bridge(outer: Sequence[Ring], inner: Sequence[Ring]) -> list[Ring]:
    """The outer rings, each with its holes joined to it."""
    shapes = [shapely.Polygon(ring) for ring in outer]
    groups: list[list[Ring]] = [[ring] for ring in outer]
    for ring in inner:
        hole = shapely.Polygon(ring)
        middle = shapely.point_on_surface(hole)
        # An island in the hole may hold that point too, but is smaller than the hole.
        around = [k for k, shape in enumerate(shapes) if shape.area > hole.area and shape.intersects(middle)]
        if around:
            groups[min(around, key=lambda k: shapes[k].area)].append(ring[::-1])
    return [join_rings(group) for group in groups]
