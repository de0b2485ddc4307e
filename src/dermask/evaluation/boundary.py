"""How closely one outline follows the other: boundary IoU, distances between borders, boundary F.

Overlap forgives a loose outline of a large lesion; these figures do not. Truth and prediction are one bitmask each per
photograph, at its own size, as in `isic_challenge`. The reasons for these definitions: docs/evaluation.md, "Borders".

Shapes: H, W height and width of the photograph, h, w those of the part around both masks that is worked on, P border
pixels of one mask. Distances are in pixels between pixel centres.
Border: the pixels of a mask with a background pixel above, below, left or right of them. The photograph's frame is no
background, as a lesion goes on behind it; nor are pixels that are left out. Where that leaves one of the masks without
any border, because it fills the photograph, both have theirs wherever they end, at the frame too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermask import masks
from dermask.errors import InputError
from dermask.records import BoolArray, IntArray, Rle

TOLERANCES = (0.005, 0.01, 0.02)
"""Distances within which two borders count as the same, as shares of the photograph's diagonal.

The largest is the depth of boundary IoU's band. The smallest is 2.7 pixels of a photograph of 384 x 384.
"""
BAND_SHARE = 0.02
"""Depth of the band along the border that boundary IoU compares, as a share of the photograph's diagonal.

Source: Cheng et al. 2021, arXiv:2103.16562, the setting of the authors' code for COCO.
"""
_BLOCK = 1 << 20  # columns looked at in one step, 8 MB of squared distances: flat memory for long borders


@dataclass(frozen=True, slots=True)
class BoundaryFigures:
    """The figures of one photograph, or their means over several.

    Attributes:
        boundary_iou: IoU of the bands along the insides of both borders; in [0, 1], 1 is best.
        average_distance: Mean distance of the border pixels of both masks to the other's border, pixels; 0 is best.
        distance_95: The larger of the two 95th percentiles of these distances, one for each mask, pixels; 0 is best.
        boundary_f_0005: Boundary F at 0.005 of the diagonal: harmonic mean of the shares of each border that lie
            within that distance of the other; in [0, 1], 1 is best.
        boundary_f_001: The same at 0.01.
        boundary_f_002: The same at 0.02.
    """

    boundary_iou: float
    average_distance: float
    distance_95: float
    boundary_f_0005: float
    boundary_f_001: float
    boundary_f_002: float


@dataclass(frozen=True, slots=True)
class MeanBoundary:
    """Means over photographs.

    Attributes:
        figures: The plain mean of each figure, distances in pixels.
        average_distance_mm: Mean of the average distances in millimetres, over the photographs whose scale is known;
            None where no scale is.
        distance_95_mm: The same of `distance_95`.
        num_with_scale: How many photographs these two are about.
    """

    figures: BoundaryFigures
    average_distance_mm: float | None
    distance_95_mm: float | None
    num_with_scale: int


def boundary_figures(truth: BoolArray, pred: BoolArray, *, ignored: BoolArray | None = None) -> BoundaryFigures:
    """The figures of one photograph. Swapping truth and prediction, or mirroring or turning both, changes nothing.

    Two empty masks agree: 1 for the shares, 0 for the distances. One empty mask gets 0 for the shares and the
    photograph's diagonal for the distances, which no other pair exceeds: a missed lesion must not flatter a mean.

    Args:
        truth: (H, W) bool, the union of all labelled lesions.
        pred: (H, W) bool, the one predicted mask.
        ignored: (H, W) bool, pixels of crowd regions; None where there are none. They are left out of both masks, and
            where a mask ends at one of them is no border.

    Raises:
        InputError: The shapes differ.

    Source:
        Boundary IoU: Cheng et al. 2021, arXiv:2103.16562. Average symmetric surface distance, 95th percentile of the
        Hausdorff distance: Maier-Hein et al. 2024, "Metrics reloaded", doi:10.1038/s41592-023-02151-z. Boundary F:
        Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
    """
    _check_same_shape(truth.shape, pred.shape, ignored)
    if ignored is not None:
        truth, pred = truth & ~ignored, pred & ~ignored
    diagonal = math.hypot(*truth.shape)
    if not (truth.any() and pred.any()):
        agrees = not (truth.any() or pred.any())
        share, distance = (1.0, 0.0) if agrees else (0.0, diagonal)
        return BoundaryFigures(share, distance, distance, share, share, share)
    depth = max(round(BAND_SHARE * diagonal), 1)
    window = _window(truth | pred, margin=depth)
    unseen = None if ignored is None else ignored[window]
    distances = _border_distances(truth[window], pred[window], unseen)
    return BoundaryFigures(
        _band_iou(truth[window], pred[window], unseen, depth),
        float(np.concatenate(distances).mean()),
        max(float(np.percentile(distance, 95)) for distance in distances),
        *(_f_score(*distances, tolerance=share * diagonal) for share in TOLERANCES),
    )


def boundary_of_rles(truth: Rle, pred: Rle, *, ignored: BoolArray | None = None) -> BoundaryFigures:
    """`boundary_figures` of two masks kept as run lengths at the photograph's size.

    Args:
        truth: The union of all labelled lesions, `TruthMasks.union`.
        pred: The one predicted mask, `PredictedMasks.merged`.
        ignored: (H, W) bool, `TruthMasks.ignored`.

    Raises:
        InputError: The sizes differ, or run lengths do not add up to their size.
    """
    _check_same_shape(tuple(truth.size), tuple(pred.size), ignored)
    # Run lengths go column by column, so the transposed mask is the one whose rows lie together in memory.
    return boundary_figures(
        masks.rle_to_bitmask(truth).T,
        masks.rle_to_bitmask(pred).T,
        ignored=None if ignored is None else np.ascontiguousarray(ignored.T),
    )


def mean_boundary(
    photos: Sequence[BoundaryFigures], *, mm_per_pixel: Sequence[float | None] | None = None
) -> MeanBoundary:
    """The plain means over photographs, each counting the same whatever its size.

    Args:
        photos: One entry per photograph.
        mm_per_pixel: The scale of each photograph, above 0; None where it is unknown.

    Raises:
        InputError: There are no photographs, so there is no mean.
    """
    if not photos:
        raise InputError("evaluation", "there are no photographs to take the mean of")
    means = np.array([astuple(photo) for photo in photos], np.float64).mean(axis=0)
    figures = BoundaryFigures(
        **{field.name: float(mean) for field, mean in zip(fields(BoundaryFigures), means, strict=True)}
    )
    scales = [None] * len(photos) if mm_per_pixel is None else mm_per_pixel
    scaled = [(photo, scale) for photo, scale in zip(photos, scales, strict=True) if scale is not None]
    if not scaled:
        return MeanBoundary(figures, None, None, 0)
    return MeanBoundary(
        figures,
        float(np.mean([photo.average_distance * scale for photo, scale in scaled])),
        float(np.mean([photo.distance_95 * scale for photo, scale in scaled])),
        len(scaled),
    )


def _check_same_shape(truth: tuple[int, ...], pred: tuple[int, ...], ignored: BoolArray | None) -> None:
    for name, shape in (("prediction", pred), ("ignored region", truth if ignored is None else ignored.shape)):
        if shape != truth:
            problem = f"has shape {shape}, its truth {truth}"
            raise InputError(name, problem, "compare both at the photograph's own size")


def _window(mask: BoolArray, *, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a mask's box, wider by `margin` where the photograph goes on; the mask is not empty."""
    reached = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    # A slice may end behind the photograph, but must not start before it.
    rows, columns = (slice(max(line[0] - margin, 0), line[-1] + 1 + margin) for line in reached)
    return rows, columns


def _band_iou(truth: BoolArray, pred: BoolArray, unseen: BoolArray | None, depth: int) -> float:
    truth_band, pred_band = _band(truth, unseen, depth), _band(pred, unseen, depth)
    return int(np.count_nonzero(truth_band & pred_band)) / int(np.count_nonzero(truth_band | pred_band))


def _band(mask: BoolArray, unseen: BoolArray | None, depth: int) -> BoolArray:
    """(h, w) the pixels of a mask that eroding by a 3 x 3 square `depth` times takes away.

    Outside the array is background, as in the authors' code at the photograph's frame. What is unseen erodes nothing;
    a mask that is all shut in by it is its own band.
    """
    filled = mask if unseen is None else mask | unseen
    band = mask.copy()
    # Eroding n times by 3 x 3 is once by 2 n + 1, and a square is done one axis after the other.
    inner = _all_of_run(_all_of_run(filled, 2 * depth + 1).T, 2 * depth + 1).T
    height, width = mask.shape
    band[depth : height - depth, depth : width - depth] &= ~inner
    return band if band.any() else mask


def _all_of_run(mask: BoolArray, length: int) -> BoolArray:
    """(h - length + 1, w) whether a pixel and those below it, `length` in all, are True; doubling the run each time."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        mask = mask[:-step] & mask[step:]
        covered += step
    return mask


class _Pixels(NamedTuple):
    """Rows and columns, (P,) int64 each, in reading order."""

    rows: IntArray
    columns: IntArray


def _border_distances(
    truth: BoolArray, pred: BoolArray, unseen: BoolArray | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P,) distance of each border pixel of the truth to the prediction's border, and the other way round."""
    truth_border, pred_border = _borders(truth, pred, unseen)
    return (
        _distances(_pixels(truth_border), _vertical_distances(pred_border)),
        _distances(_pixels(pred_border), _vertical_distances(truth_border)),
    )


def _borders(truth: BoolArray, pred: BoolArray, unseen: BoolArray | None) -> list[BoolArray]:
    """(h, w) the border pixels of each mask, at least one each; neither mask is empty."""
    both = (truth, pred)
    borders = [_beside(~mask if unseen is None else ~(mask | unseen)) & mask for mask in both]
    if all(border.any() for border in borders):
        return borders
    # One rule for both: a frame that is the border of one mask alone would be far from the other's.
    closed = [np.pad(mask, 1) for mask in both]
    return [(_beside(~mask) & mask)[1:-1, 1:-1] for mask in closed]


def _beside(mask: BoolArray) -> BoolArray:
    """(h, w) the pixels with a True one above, below, left or right of them."""
    beside = np.zeros_like(mask)
    beside[1:] |= mask[:-1]
    beside[:-1] |= mask[1:]
    beside[:, 1:] |= mask[:, :-1]
    beside[:, :-1] |= mask[:, 1:]
    return beside


def _pixels(mask: BoolArray) -> _Pixels:
    return _Pixels(*np.divmod(np.flatnonzero(mask), mask.shape[1]))  # a tenth of the time of nonzero on two axes


def _vertical_distances(border: BoolArray) -> NDArray[np.signedinteger]:
    """(h, w) distance of each pixel to the nearest border pixel of its column; in a column without any, farther than
    any two pixels are.
    """
    height, width = border.shape
    far = height + width
    # Two bytes are enough for a photograph of 30 megapixels, and halve the memory.
    dtype = np.int16 if height + far <= np.iinfo(np.int16).max else np.int32
    rows = np.arange(height, dtype=dtype)[:, None]
    nearest = np.where(border, rows, dtype(-far))
    for before, here in pairwise(nearest):  # by rows: accumulating along columns jumps through memory
        np.maximum(before, here, out=here)
    distance = np.subtract(rows, nearest, out=nearest)
    nearest = np.where(border, rows, dtype(height + far))
    for after, here in pairwise(nearest[::-1]):
        np.minimum(after, here, out=here)
    nearest -= rows
    return np.minimum(distance, nearest, out=distance)


def _distances(pixels: _Pixels, vertical: NDArray[np.signedinteger]) -> NDArray[np.float64]:
    """(P,) exact distance of each pixel to the nearest border pixel.

    The nearest border pixel of each column is known (`vertical`); columns are tried from the pixel's own outwards,
    until they are farther away than what was found. So the work follows the distances, not the photograph.
    """
    width = vertical.shape[1]
    starts = pixels.rows * width
    best = vertical[pixels].astype(np.int64) ** 2  # squared
    pending = np.flatnonzero(best > 1)
    first, count = 1, 8
    while len(pending) and first < width:
        sideways = np.arange(first, first + count)
        offsets = np.concatenate([-sideways[::-1], sideways])
        for chunk in np.array_split(pending, -(-len(pending) * len(offsets) // _BLOCK)):
            # A column outside the photograph gives way to the last one inside, which is nearer: never too small.
            columns = np.clip(pixels.columns[chunk, None] + offsets, 0, width - 1)
            columns += starts[chunk, None]
            squares = vertical.take(columns).astype(np.int64)
            squares *= squares
            squares += offsets**2
            best[chunk] = np.minimum(best[chunk], squares.min(axis=1))
        first += count
        count = first
        pending = pending[best[pending] > first**2]
    return np.sqrt(best)


def _f_score(to_pred: NDArray[np.float64], to_truth: NDArray[np.float64], *, tolerance: float) -> float:
    recall, precision = float((to_pred <= tolerance).mean()), float((to_truth <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
