"""Connected regions of a mask, by its runs: no pixel is visited one by one, so noise costs little more than a lesion.

Shapes: H, W height and width of a mask; R its runs, stretches of True within one row, in reading order; K regions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dermask.records import BoolArray, IntArray


class Regions(NamedTuple):
    """The connected regions of a mask, largest first.

    Attributes:
        areas: (K,) int64 pixels.
        boxes: (K, 4) int64 xyxy, x2 and y2 one past the last pixel.
    """

    areas: IntArray
    boxes: IntArray


def connected_regions(mask: BoolArray, *, diagonal: bool = True) -> Regions:
    """Area and box of each region of a mask.

    Args:
        mask: (H, W) bool, any number of True pixels, also none.
        diagonal: Whether pixels that touch at a corner are of one region. A mask's parts are counted with, its holes
            without, so that a diagonal line of holes does not open a part.

    Returns:
        The regions, largest first; of equal ones that with the first pixel in reading order.
    """
    runs = _runs(mask)
    numbers, count = _number_runs(runs, mask.shape[1], diagonal=diagonal)
    areas = np.bincount(numbers, weights=runs.stops - runs.starts, minlength=count).astype(np.int64)
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = np.iinfo(np.int64).max
    np.minimum.at(boxes[:, 0], numbers, runs.starts)
    np.minimum.at(boxes[:, 1], numbers, runs.rows)
    np.maximum.at(boxes[:, 2], numbers, runs.stops)
    np.maximum.at(boxes[:, 3], numbers, runs.rows + 1)
    order = np.argsort(-areas, kind="stable")
    return Regions(areas[order], boxes[order])


def hole_areas(mask: BoolArray) -> IntArray:
    """(K,) pixels of each hole of a mask (H, W): background that the mask shuts off from the border, largest first."""
    background = connected_regions(~mask, diagonal=False)
    height, width = mask.shape
    x1, y1, x2, y2 = background.boxes.T
    areas: IntArray = background.areas[(x1 > 0) & (y1 > 0) & (x2 < width) & (y2 < height)]
    return areas


def label_regions(mask: BoolArray, *, diagonal: bool = True) -> tuple[IntArray, int]:
    """Number the regions of a mask.

    Args:
        mask: (H, W) bool.
        diagonal: Whether pixels that touch at a corner are of one region.

    Returns:
        (H, W) int64, 0 outside and 1 to K inside, regions numbered by their first pixel in reading order; and K.
    """
    runs = _runs(mask)
    numbers, count = _number_runs(runs, mask.shape[1], diagonal=diagonal)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(numbers + 1, runs.stops - runs.starts)
    return labels, count


class _Runs(NamedTuple):
    """Row, first column and column behind the last of each run, (R,) int64."""

    rows: IntArray
    starts: IntArray
    stops: IntArray


def _runs(mask: BoolArray) -> _Runs:
    height, width = mask.shape
    padded = np.zeros((height, width + 1), np.bool_)  # a column of background ends the runs of each row
    padded[:, :width] = mask
    flat = padded.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]).astype(np.int64) + 1
    if flat[:1].any():
        changes = np.concatenate([np.zeros(1, np.int64), changes])
    rows, starts = np.divmod(changes[::2], width + 1)
    return _Runs(rows, starts, changes[1::2] - rows * (width + 1))


def _number_runs(runs: _Runs, width: int, *, diagonal: bool) -> tuple[IntArray, int]:
    """(R,) the region of each run, from 0 in the order of their first runs; and how many regions there are."""
    first, second = _touching(runs, width, reach=int(diagonal))
    roots, numbers = np.unique(_join(len(runs.rows), first, second), return_inverse=True)
    return numbers, len(roots)


def _touching(runs: _Runs, width: int, *, reach: int) -> tuple[IntArray, IntArray]:
    """Pairs of runs, one below the other, that touch; at a corner too where `reach` is 1."""
    # One long line: each row has its own stretch, with room so that neighbours in different rows never meet.
    stride = width + 3
    begin, end = runs.rows * stride + runs.starts, runs.rows * stride + runs.stops
    low = np.searchsorted(end, begin + stride - reach, side="right")  # first run of the next row that ends after us
    high = np.searchsorted(begin, end + stride + reach, side="left")  # first run of the next row that starts after us
    counts = np.maximum(high - low, 0)
    first = np.repeat(np.arange(len(runs.rows)), counts)
    offsets = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, np.repeat(low, counts) + offsets


def _join(count: int, first: IntArray, second: IntArray) -> IntArray:
    """The smallest member's index of each one's group, for groups joined by pairs."""
    roots = np.arange(count)
    while True:
        here, there = roots[first], roots[second]
        if np.array_equal(here, there):
            return roots
        np.minimum.at(roots, np.maximum(here, there), np.minimum(here, there))
        while not np.array_equal(nearer := roots[roots], roots):
            roots = nearer
