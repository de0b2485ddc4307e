"""Labelled photographs for pages: a small copy inside the page, and each outline as it was drawn.

Unlike the masks that training sees, a ring of a label file is shown point by point, so that one that crosses itself
or leaves the photograph looks the way it is. What cannot be read is told, and never stops a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermask import images, masks
from dermask.errors import ImageError, InputError
from dermask.records import ByteArray, ImageSize, MaskFile, Outline, Polygons, Rle, Sample
from dermask.report.pictures import border_path, webp_address

_CLOSE = 0.25  # points nearer to the one before than this, in pixels of the small copy, change nothing one can see


@dataclass(frozen=True, slots=True)
class DrawnOutline:
    """One outline above a small copy.

    Attributes:
        path: SVG path data in pixels of the small copy.
        label: Class from 1.
        is_crowd: Whether it is a region that evaluation ignores.
        annotation_id: As in the label file; None where it has none.
    """

    path: str
    label: int = 1
    is_crowd: bool = False
    annotation_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class OutlinedPhotograph:
    """A photograph as a page shows it.

    Attributes:
        image_id: Which photograph.
        source: The small copy as a ``data:`` address; empty where the photograph cannot be read.
        size: Of the small copy, pixels: the frame of the paths.
        original_size: Of the photograph; None where it cannot be read.
        outlines: Those that could be drawn.
        num_broken: Outlines that could not.
        problem: Why there is no picture; empty where there is one.
    """

    image_id: str
    source: str
    size: ImageSize
    original_size: ImageSize | None = None
    outlines: tuple[DrawnOutline, ...] = ()
    num_broken: int = 0
    problem: str = ""


def outlined_photograph(sample: Sample, *, side: int) -> OutlinedPhotograph:
    """A photograph with its outlines, ready for a page; one that cannot be read says why in `problem`.

    Args:
        sample: The photograph; its pixels are decoded here.
        side: Long side of the small copy, pixels.
    """
    try:
        image, original = _read_small(sample.image, side)
    except ImageError as error:
        return OutlinedPhotograph(sample.image_id, "", ImageSize(side * 3 // 4, side), problem=error.problem)
    size = ImageSize(*image.shape[:2])
    outlines, num_broken = [], 0
    for instance in sample.instances:
        try:
            path = outline_path(instance.outline, original, size)
        except InputError:
            num_broken += 1
            continue
        outlines.append(DrawnOutline(path, instance.label, instance.is_crowd, instance.annotation_id))
    return OutlinedPhotograph(sample.image_id, webp_address(image), size, original, tuple(outlines), num_broken)


def outline_path(outline: Outline, original: ImageSize, size: ImageSize) -> str:
    """An outline as SVG path data.

    Args:
        outline: Rings are drawn point by point; masks by their border, stretched onto the photograph where their size
            is another.
        original: The photograph's size, the frame of rings.
        size: Of the small copy, whose pixels are the path's unit.

    Returns:
        Closed rings; empty for an outline without points or pixels.

    Raises:
        InputError: A mask file or run lengths that cannot be decoded, a coordinate that is not finite.
    """
    if isinstance(outline, Polygons):
        scale = np.array([size.width / original.width, size.height / original.height])
        return "".join(_ring_path(ring * scale, size) for ring in outline.parts)
    if isinstance(outline, MaskFile):
        return border_path(images.decode_mask(outline.path), size)
    if isinstance(outline, Rle):
        return border_path(masks.rle_to_bitmask(outline), size)
    return border_path(outline.array, size)


def _read_small(source: Path | ByteArray, side: int) -> tuple[ByteArray, ImageSize]:
    if isinstance(source, np.ndarray):
        image, original = source, ImageSize(*source.shape[:2])
    else:
        original = images.image_size(source)
        image = images.read_image(source, target_side=side)
    scale = min(1.0, side / max(original))
    return images.resize(image, ImageSize(*(max(1, round(length * scale)) for length in original))), original


def _ring_path(ring: NDArray[np.float64], size: ImageSize) -> str:
    """One ring, without the points that no eye could tell from those before them."""
    if not np.isfinite(ring).all():
        raise InputError("outline", "a coordinate is not a finite number", "draw the outline again")
    if not len(ring):
        return ""
    # A viewer has no use for a point a mile away, and some draw it wrongly.
    ring = np.clip(ring, [-size.width, -size.height], [2 * size.width, 2 * size.height])
    kept = [ring[0]]
    for point in ring[1:]:
        if np.abs(point - kept[-1]).max() >= _CLOSE:
            kept.append(point)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept) + "Z"
