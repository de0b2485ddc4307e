"""Masks in numpy: outlines to bitmasks and back, boxes of masks, small masks pasted into the photograph.

Shapes: N detections or M objects of one photograph (either may be 0), S the mask head's resolution, H, W height and
width of the photograph. Bitmasks are (H, W) bool; pixel i covers [i, i + 1) and its centre is i + 0.5.
Limits: sizes that come from label files are checked against `images.MAX_PIXELS` before memory is taken for them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from dermask.contours import bitmask_to_polygons
from dermask.errors import InputError
from dermask.images import MAX_PIXELS, decode_mask
from dermask.records import (
    Bitmask,
    BoolArray,
    Detections,
    FloatArray,
    ImageSize,
    IntArray,
    Outline,
    Polygons,
    Rle,
)

__all__ = [
    "bitmask_to_polygons",
    "bitmask_to_rle",
    "detections_bitmask",
    "mask_box",
    "mask_boxes",
    "outline_bitmask",
    "paste_masks",
    "polygons_to_rle",
    "rle_to_bitmask",
]

_MAX_RUN_CHARS = 7  # characters of one run length: 35 bits, more than any photograph has pixels


def outline_bitmask(outline: Outline, size: ImageSize) -> BoolArray:
    """The pixels of an outline of any kind.

    Args:
        outline: Polygons, run lengths, a mask file or a bitmask.
        size: The photograph's size, which an outline that has a size of its own must share.

    Returns:
        (H, W) bool of `size`; a `Bitmask`'s own array, not a copy.

    Raises:
        InputError: The outline's size differs from the photograph's, or it cannot be decoded; an `ImageError` for a
            mask file that cannot be read.
    """
    if isinstance(outline, Polygons):
        return rle_to_bitmask(polygons_to_rle(outline, size))
    if isinstance(outline, Rle):
        _check_same_size("run-length outline", outline.size, size)
        return rle_to_bitmask(outline)
    if isinstance(outline, Bitmask):
        _check_same_size("bitmask outline", outline.array.shape, size)
        return outline.array
    bitmask = decode_mask(outline.path)
    _check_same_size(str(outline.path), bitmask.shape, size)
    return bitmask


def bitmask_to_rle(bitmask: BoolArray) -> Rle:
    """COCO's compressed run lengths of an (H, W) bool mask; `rle_to_bitmask` gives it back bit for bit."""
    height, width = bitmask.shape
    encoded = coco_mask.encode(np.asfortranarray(bitmask, np.uint8))
    return Rle(bytes(encoded["counts"]), ImageSize(height, width))


def rle_to_bitmask(rle: Rle) -> BoolArray:
    """The (H, W) bool mask of COCO's compressed run lengths.

    Decoded here rather than by the library, which trusts its input: every run is checked before memory is taken.

    Raises:
        InputError: The size is not positive or above `images.MAX_PIXELS`, the string is not made of run lengths, or
            they do not add up to the size.
    """
    size = rle.size
    _check_size("run-length outline", size)
    runs = _parse_runs(rle.counts, size.height * size.width)
    inside = np.arange(len(runs)) % 2 == 1  # runs alternate, and the first is background
    return np.repeat(inside, runs).reshape(size.width, size.height).T


def polygons_to_rle(polygons: Polygons, size: ImageSize) -> Rle:
    """The union of the rings as COCO's compressed run lengths, by COCO's own rasterisation.

    Args:
        polygons: Rings in pixels of the photograph; what lies outside it is cut off.
        size: The photograph's size.

    Raises:
        InputError: A ring of fewer than three points, a coordinate that is not finite, or a size that is not positive
            or above `images.MAX_PIXELS`.
    """
    _check_size("polygon outline", size)
    if not polygons.parts:
        return bitmask_to_rle(np.zeros(size, np.bool_))
    flat = [_check_ring(ring, size).ravel().tolist() for ring in polygons.parts]
    merged = coco_mask.merge(coco_mask.frPyObjects(flat, size.height, size.width))
    return Rle(bytes(merged["counts"]), size)


def mask_box(bitmask: BoolArray) -> FloatArray:
    """The tight box of an (H, W) bool mask: (4,) float32 xyxy, x2 the last column + 1; zeros for an empty mask."""
    box: FloatArray = mask_boxes(bitmask[None])[0]
    return box


def mask_boxes(masks: BoolArray) -> FloatArray:
    """The tight box of each mask.

    Args:
        masks: (M, H, W) bool.

    Returns:
        (M, 4) float32 xyxy, x2 the last column + 1, y2 the last row + 1; zeros where a mask is empty.
    """
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns = np.flatnonzero(mask.any(axis=0))
        if len(columns):
            rows = np.flatnonzero(mask[:, columns[0] : columns[-1] + 1].any(axis=1))
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


@overload
def paste_masks(
    boxes: FloatArray, mask_probs: FloatArray, size: ImageSize, *, threshold: float = 0.5, snap: bool = False
) -> BoolArray: ...


@overload
def paste_masks(
    boxes: FloatArray, mask_probs: FloatArray, size: ImageSize, *, threshold: None, snap: bool = False
) -> FloatArray: ...


def paste_masks(
    boxes: FloatArray,
    mask_probs: FloatArray,
    size: ImageSize,
    *,
    threshold: float | None = 0.5,
    snap: bool = False,
) -> BoolArray | FloatArray:
    """Full-size masks from masks in the frame of their boxes. The work per mask follows its box, not the photograph.

    Args:
        boxes: (N, 4) xyxy, pixels of the photograph; may reach past its border. A box without area gives no pixel.
        mask_probs: (N, S, S) in [0, 1].
        size: The photograph's size.
        threshold: Probability in (0, 1] from which a pixel belongs to the mask; None returns the probabilities.
        snap: False samples each mask exactly at the pixels' centres, zero outside it (detectron2's
            `paste_masks_in_image`). True follows torchvision's function of that name number for number: mask padded
            by one cell, box widened to match and cut to whole pixels.

    Returns:
        (N, H, W) bool, or float32 probabilities where `threshold` is None.

    Source:
        Sub-pixel pasting: detectron2's notes on compatibility, "mask pasting"; snapped: torchvision's `roi_heads`.
    """
    shape = (len(boxes), *size)
    pasted: BoolArray | FloatArray = np.zeros(shape, np.float32) if threshold is None else np.zeros(shape, np.bool_)
    for canvas, box, probs in zip(pasted, boxes, mask_probs, strict=True):
        window = _paste_window(box, probs, size, snap=snap)
        if window is not None:
            rows, columns, values = window
            canvas[rows, columns] = values if threshold is None else values >= threshold
    return pasted


def detections_bitmask(
    detections: Detections, rule: Literal["primary", "union"], *, threshold: float = 0.5, score_thresh: float = 0.5
) -> BoolArray:
    """The one binary mask of a photograph, as the ISIC challenges want it.

    Args:
        detections: What was found, best first.
        rule: `primary` takes the best-scoring detection; `union` all that score at least `score_thresh`.
        threshold: Probability in (0, 1] from which a pixel belongs to a mask.
        score_thresh: Least score for `union`; `primary` takes the best whatever its score.

    Returns:
        (H, W) bool; all False where nothing was found.

    Raises:
        InputError: Another rule.
    """
    if rule not in ("primary", "union"):
        raise InputError(f"rule {rule!r}", "does not exist", "choose primary or union")
    chosen = detections.select(np.arange(len(detections))[:1]) if rule == "primary" else detections.above(score_thresh)
    bitmask = np.zeros(detections.size, np.bool_)
    for box, probs in zip(chosen.boxes, chosen.mask_probs, strict=True):
        window = _paste_window(box, probs, detections.size, snap=False)
        if window is not None:
            rows, columns, values = window
            bitmask[rows, columns] |= values >= threshold
    return bitmask


def _check_size(item: str, size: ImageSize) -> None:
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        problem = f"size {height} x {width} (height x width) is not between 1 and {MAX_PIXELS / 1e6:g} million pixels"
        raise InputError(item, problem, "correct the size in the label file")


def _check_same_size(item: str, found: tuple[int, ...], expected: ImageSize) -> None:
    if tuple(found) != tuple(expected):
        sizes = f"is {' x '.join(map(str, found))} where the photograph is {expected.height} x {expected.width}"
        raise InputError(item, f"{sizes} (height x width)", "use the outline that was made for this photograph")


def _parse_runs(counts: bytes, num_pixels: int) -> IntArray:
    """Run lengths from COCO's string: 5 bits a character, from 48, low bits first; from the fourth run on as the
    difference to the run two before.
    """
    item = "run-length outline"
    cure = "export the labels again"
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise InputError(item, f"counts {_shorten(counts)} are not COCO's compressed run lengths", cure)
    starts = np.concatenate([[0], np.flatnonzero(digits < 32)[:-1] + 1])  # a character below 32 ends its run
    lengths = np.diff(starts, append=len(digits))
    if lengths.max() > _MAX_RUN_CHARS:
        raise InputError(item, f"counts {_shorten(counts)} hold a run beyond any photograph", cure)
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 31) << shifts, starts)
    is_negative = digits[starts + lengths - 1] & 16 != 0
    runs -= np.where(is_negative, 1 << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.max() > num_pixels or runs.sum() != num_pixels:
        problem = f"counts {_shorten(counts)} do not add up to the {num_pixels} pixels of its size"
        raise InputError(item, problem, cure)
    return runs


def _shorten(counts: bytes) -> str:
    return repr(counts if len(counts) <= 24 else counts[:24] + b"...")


def _check_ring(ring: NDArray[np.float64], size: ImageSize) -> NDArray[np.float64]:
    """The ring, cut to the neighbourhood of the photograph where it leaves that.

    COCO's rasteriser takes memory and time by the ring's length, so a coordinate of a billion must not reach it.
    """
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise InputError("polygon outline", f"a ring of {len(ring)} points has no inside", "draw at least three points")
    if not np.isfinite(ring).all():
        raise InputError("polygon outline", "a coordinate is not a finite number", "draw the outline again")
    height, width = size
    for axis, side in ((0, width), (1, height)):
        ring = _clip_ring(ring, axis, -float(side), keep_above=True)
        ring = _clip_ring(ring, axis, 2.0 * side, keep_above=False)
    return ring if len(ring) else np.full((3, 2), -1.0)  # nothing near the photograph: a point outside it


def _clip_ring(ring: NDArray[np.float64], axis: int, limit: float, *, keep_above: bool) -> NDArray[np.float64]:
    """The part of a ring on one side of a vertical or horizontal line (Sutherland and Hodgman 1974)."""
    distance = ring[:, axis] - limit if keep_above else limit - ring[:, axis]
    if not len(ring) or (distance >= 0).all():
        return ring
    kept: list[NDArray[np.float64]] = []
    for index in range(len(ring)):
        here, before = distance[index], distance[index - 1]
        if (here >= 0) != (before >= 0):
            crossing = ring[index - 1] + (ring[index] - ring[index - 1]) * (before / (before - here))
            crossing[axis] = limit
            kept.append(crossing)
        if here >= 0:
            kept.append(ring[index])
    return np.array(kept, np.float64).reshape(-1, 2)


class _Taps(NamedTuple):
    """Linear interpolation along one axis: pixel i of `span` is between two cells of the mask.

    Attributes:
        span: The pixels of the photograph.
        low, high: (n,) the two cells.
        weight: (n,) float32 share of the high cell.
    """

    span: slice
    low: IntArray
    high: IntArray
    weight: FloatArray


def _paste_window(
    box: FloatArray, probs: FloatArray, size: ImageSize, *, snap: bool
) -> tuple[slice, slice, FloatArray] | None:
    """Rows and columns that the mask reaches, and its probabilities there; None where it reaches none."""
    if not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
        return None
    padded = np.pad(np.asarray(probs, np.float32), 1)
    cells = padded.shape[0]
    if snap:
        x1, y1, x2, y2 = _expand_box(box, cells / (cells - 2)).astype(np.int64).tolist()
        rows, columns = _snapped_taps(y1, y2, cells, size.height), _snapped_taps(x1, x2, cells, size.width)
    else:
        x1, y1, x2, y2 = box.tolist()
        rows, columns = _exact_taps(y1, y2, cells, size.height), _exact_taps(x1, x2, cells, size.width)
    if not len(rows.low) or not len(columns.low):
        return None
    across = padded[:, columns.low] * (1 - columns.weight) + padded[:, columns.high] * columns.weight  # (S + 2, w)
    weight = rows.weight[:, None]
    values = across[rows.low] * (1 - weight)
    values += across[rows.high] * weight
    return rows.span, columns.span, values  # (h, w)


def _exact_taps(start: float, stop: float, cells: int, side: int) -> _Taps:
    """Taps at pixel centres for a mask of `cells` - 2 cells on [start, stop) with a border of one zero cell."""
    cell = (stop - start) / (cells - 2)
    # The zero border is reached half a cell outside the box.
    first = max(int(np.ceil(start - cell / 2 - 0.5)), 0)
    last = min(int(np.floor(stop + cell / 2 - 0.5)), side - 1)
    centres = np.arange(first, last + 1) + 0.5
    position = np.clip((centres - start) / cell + 0.5, 0, cells - 1)  # + 1 for the border, - 0.5 for cell centres
    low = np.minimum(position.astype(np.int64), cells - 2)
    return _Taps(slice(first, last + 1), low, low + 1, (position - low).astype(np.float32))


def _snapped_taps(start: int, stop: int, cells: int, side: int) -> _Taps:
    """Taps of torchvision's rule: `cells` resized to stop - start + 1 pixels, float32 as there."""
    length = max(stop - start + 1, 1)
    first, last = max(start, 0), min(stop, side - 1)
    scale = np.float32(cells) / np.float32(length)
    centres = np.arange(first - start, last - start + 1).astype(np.float32) + np.float32(0.5)
    position = np.maximum(scale * centres - np.float32(0.5), np.float32(0))
    low = np.minimum(position.astype(np.int64), cells - 1)
    return _Taps(slice(first, last + 1), low, np.minimum(low + 1, cells - 1), (position - low).astype(np.float32))


def _expand_box(box: FloatArray, scale: float) -> FloatArray:
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32(scale)
    centre = (box[2:] + box[:2]) * np.float32(0.5)
    return np.concatenate([centre - half, centre + half])
