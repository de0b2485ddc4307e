"""Whether hair or a ruler lies over a photograph: a simple detector, to compare figures with and without.

Both are dark lines, thinner than anything of the skin that is as long. What is sought, on a copy of at most
`WORKING_SIDE` pixels:

    thin and dark      what closing by a small square fills, in red and in blue: hairs and print are dark in both,
                       blood vessels hardly in red, violet ink hardly in blue
    hair               lines of `_HAIR_LINE` pixels, dark in every pixel, that stand out from how busy it is around:
                       the net of a pigmented lesion and lines of the skin run every way, hairs do not
    ruler              a long straight line with marks at equal steps along one side of it

Light hair on dark skin, fine down and a few short hairs are not counted as hair; a ruler of which only a few marks
without their base line are seen, or with marks wider than `_THIN` pixels, is not found. How often the answer differs
from a person's is measured by `benchmarks/artifacts.py` and stated in docs/subgroups.md.

Shapes: H, W of the photograph, h, w of the working copy. Directions are angles from x towards y, radians.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermask import images
from dermask.records import BoolArray, ByteArray, FloatArray, ImageSize, IntArray

WORKING_SIDE = 384
"""Long side that photographs are shrunk to before anything is measured, pixels; smaller ones stay as they are."""
MIN_HAIR_SHARE = 0.0025
"""Share of the photograph in hairs from which it counts as having hair."""
MIN_RULER_STRENGTH = 1.6
"""Strength of its marks' rhythm from which a line counts as a ruler."""

_THIN = 9  # pixels: what is wider is no hair and no mark
_HAIR_LINE = 17  # pixels: a hair is straight over this length, to within a pixel or so
_HAIR_CONTRAST = 5  # of 255, beyond `_BUSY_FACTOR` times the mean darkness of thin things around
_BUSY_FACTOR = 2.0
_BUSY_SIDE = 25  # pixels
_NUM_DIRECTIONS = 16

_RULER_LINE = 41  # pixels: long enough that few hairs are that straight
_RULER_CONTRAST = 8
_NUM_ANGLES = 180
_MAX_LINES = 4  # straight lines that are looked at for marks
_MIN_VOTES = 60  # pixels of a line
_MIN_LENGTH = 60  # pixels of its longest stretch without a gap
_BAND = 14  # pixels to either side of a line that are looked at
_MARKS = (3, 7)  # pixels from the line: where short marks still reach, and the line itself does not
_STEPS = (4, 40)  # pixels from mark to mark
_SMOOTHING = 25  # pixels: what varies more slowly along a ruler than this is no mark


@dataclass(frozen=True, slots=True)
class Artifacts:
    """What lies over the skin of one photograph.

    Attributes:
        hair: Whether hairs cross it noticeably.
        ruler: Whether a scale with marks is in it.
        hair_share: Pixels of hairs over those of the photograph, in [0, 1].
        ruler_strength: How regular the marks along the best line are, from 0: correlation of the marks with
            themselves one, two and three steps on (the least of it), times the root of the number of steps.
    """

    hair: bool
    ruler: bool
    hair_share: float
    ruler_strength: float


class _Ruler(NamedTuple):
    """A straight line that may be a ruler's: strength, angle, distance from the origin, and from where to where."""

    strength: float
    angle: float
    distance: float
    start: float
    stop: float


def find_artifacts(image: ByteArray) -> Artifacts:
    """Look for hair and for a ruler.

    Args:
        image: (H, W, 3) uint8 RGB, of any size.
    """
    if not image.size:
        return Artifacts(hair=False, ruler=False, hair_share=0.0, ruler_strength=0.0)
    thin = _thin_darkness(_working_copy(image))
    soft = _widen(thin)
    ruler = _find_ruler(thin, soft)
    is_ruler = ruler is not None and ruler.strength >= MIN_RULER_STRENGTH
    hair = _hair_pixels(thin, soft)
    if ruler is not None and is_ruler:
        hair &= ~_ruler_pixels(ruler, ImageSize(*hair.shape))
    share = float(np.count_nonzero(hair)) / hair.size
    return Artifacts(share >= MIN_HAIR_SHARE, is_ruler, share, ruler.strength if ruler is not None else 0.0)


def _working_copy(image: ByteArray) -> ByteArray:
    height, width = image.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    if scale == 1.0:
        return image
    return images.resize(image, ImageSize(max(1, round(height * scale)), max(1, round(width * scale))))


def _thin_darkness(image: ByteArray) -> ByteArray:
    """(h, w) uint8: by how much what is thin is darker than what is around it, the lesser of red's and blue's."""
    return np.minimum(_black_hat(image[..., 0]), _black_hat(image[..., 2]))


def _black_hat(plane: ByteArray) -> ByteArray:
    """Closing by a square of `_THIN` pixels, less the plane; windows are cut off at the border."""
    margin = _THIN // 2
    closed = plane
    for best in (np.maximum, np.minimum):
        closed = np.pad(closed, margin, mode="edge")
        for direction in (0.0, math.pi / 2):
            closed = _sliding(closed, direction, _THIN, best)[0]
    return closed - plane


def _widen(thin: ByteArray) -> ByteArray:
    """The largest value of each pixel and its eight neighbours, so that a line may bend by a pixel."""
    wide = np.pad(thin, 1)
    for direction in (0.0, math.pi / 2):
        wide = _sliding(wide, direction, 3, np.maximum)[0]
    return wide


def _sliding(plane: ByteArray, direction: float, length: int, best: np.ufunc) -> tuple[ByteArray, tuple[int, int]]:
    """The best value along a line of pixels that starts at each pixel.

    Returns:
        The values of all lines that lie whole in the plane, and how far a line goes down and to the right (either may
        be negative): the result is smaller than the plane by as much.
    """
    down, right, reach = 0, 0, 1
    while reach < length:  # each pass doubles what a value is the best of, so that a line costs its logarithm
        take = min(reach, length - reach)
        dy, dx = round(take * math.sin(direction)), round(take * math.cos(direction))
        height, width = plane.shape
        here = plane[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        there = plane[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
        plane = best(here, there)
        down, right, reach = down + dy, right + dx, reach + take
    return plane, (down, right)


def _darkest_lines(soft: ByteArray, length: int) -> Iterator[ByteArray]:
    """(h, w) uint8 for each direction: the least darkness along the line centred on each pixel, 0 beyond the border.

    A line is put together from its two halves, so that it is the same in a turned or mirrored photograph.
    """
    height, width = soft.shape
    margin = length // 2 + 2  # rounding may make a half a little longer
    padded = np.pad(soft, margin)
    for index in range(_NUM_DIRECTIONS):
        half, (down, right) = _sliding(padded, index * math.pi / _NUM_DIRECTIONS, length // 2 + 1, np.minimum)
        top, left = margin + min(0, down), margin + min(0, right)  # where the half of the first pixel lies
        forward = half[top : top + height, left : left + width]
        top, left = top - down, left - right
        yield np.minimum(forward, half[top : top + height, left : left + width])


def _hair_pixels(thin: ByteArray, soft: ByteArray) -> BoolArray:
    best = np.zeros_like(soft)
    for least in _darkest_lines(soft, _HAIR_LINE):
        np.maximum(best, least, out=best)
    hair: BoolArray = best >= _BUSY_FACTOR * _mean_around(thin) + np.float32(_HAIR_CONTRAST)
    return hair


def _mean_around(plane: ByteArray) -> FloatArray:
    """(h, w) float32: the mean of a square of `_BUSY_SIDE` pixels around each, the border repeated outwards."""
    side = _BUSY_SIDE
    sums = np.pad(plane, ((side // 2 + 1, side // 2), (side // 2 + 1, side // 2)), mode="edge").astype(np.int32)
    sums = sums.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return boxes.astype(np.float32) / np.float32(side * side)


def _find_ruler(thin: ByteArray, soft: ByteArray) -> _Ruler | None:
    """The straight line with the most regular marks; None where there is no straight line."""
    by_direction = list(_darkest_lines(soft, _RULER_LINE))
    ys, xs = np.nonzero(
        (np.maximum.reduce(by_direction) >= _RULER_CONTRAST)
        & (thin >= _RULER_CONTRAST)  # lines, no wider than they are
    )
    direction = np.stack([least[ys, xs] for least in by_direction]).argmax(axis=0)
    measured = (_measure_line(thin, *line) for line in _straight_lines(ys, xs, direction, thin.shape))
    return max((ruler for ruler in measured if ruler is not None), default=None)


def _straight_lines(
    ys: IntArray, xs: IntArray, direction: IntArray, shape: tuple[int, ...]
) -> Iterator[tuple[float, float]]:
    """Angle and distance of the lines with the most pixels, best first (Hough's transform).

    The distance is that of the origin: y cos(angle) - x sin(angle). A pixel votes for angles near its own direction.
    """
    far = math.ceil(math.hypot(*shape)) + 1
    width = 2 * far + 1
    first = np.rint(np.arange(_NUM_DIRECTIONS) * (_NUM_ANGLES / _NUM_DIRECTIONS)).astype(np.int64)
    degrees = first[:, None] + np.arange(-6, 7)  # to the next direction, and a little more
    # A line at 180 degrees is the one at 0 with its distance turned.
    sign = np.where((degrees < 0) | (degrees >= _NUM_ANGLES), -1, 1)
    cosines, sines = (sign * wave(degrees * (math.pi / _NUM_ANGLES)) for wave in (np.cos, np.sin))
    starts = degrees % _NUM_ANGLES * width + far  # where the votes for distance 0 are counted
    distances = np.rint(ys[:, None] * cosines[direction] - xs[:, None] * sines[direction]).astype(np.int64)
    places = (starts[direction] + distances).ravel()
    votes = np.bincount(places, minlength=_NUM_ANGLES * width).reshape(_NUM_ANGLES, width)
    votes[:, 1:-1] = votes[:, 1:-1] + votes[:, :-2] + votes[:, 2:]
    for _ in range(_MAX_LINES):
        row, column = divmod(int(votes.argmax()), width)
        if votes[row, column] < _MIN_VOTES:
            return
        yield row * math.pi / _NUM_ANGLES, float(column - far)
        for near in range(row - 6, row + 7):  # what the same line gave to its neighbours
            middle = column if 0 <= near < _NUM_ANGLES else 2 * far - column
            votes[near % _NUM_ANGLES, max(0, middle - _BAND) : middle + _BAND + 1] = 0


def _measure_line(thin: ByteArray, angle: float, distance: float) -> _Ruler | None:
    """How regular the marks along a line's longest stretch are; None where it is too short."""
    band, along = _band(thin, angle, distance)
    line = band[_BAND - 1 : _BAND + 2].max(axis=0) >= _RULER_CONTRAST
    filled = np.convolve(line, np.ones(31) / 31, "same") >= 0.7  # crossing hair and pale print leave gaps
    ends = np.flatnonzero(np.diff(np.concatenate([[False], filled, [False]]).astype(np.int8)))
    start, stop = max(zip(ends[::2], ends[1::2], strict=True), key=lambda part: part[1] - part[0], default=(0, 0))
    if stop - start < _MIN_LENGTH:
        return None
    near, far = _MARKS
    strength = max(
        _rhythm(band[_BAND + near : _BAND + far, start:stop].mean(axis=0)),
        _rhythm(band[_BAND - far + 1 : _BAND - near + 1, start:stop].mean(axis=0)),
    )
    return _Ruler(strength, angle, distance, float(along[start]), float(along[stop - 1]))


def _band(thin: ByteArray, angle: float, distance: float) -> tuple[FloatArray, IntArray]:
    """(2 * _BAND + 1, K) the surround of a line, one row for each distance from it; and (K,) the place along it."""
    height, width = thin.shape
    far = math.ceil(math.hypot(height, width)) + 1
    along, across = np.arange(-far, far + 1), distance + np.arange(-_BAND, _BAND + 1)[:, None]
    xs = np.rint(along * math.cos(angle) - across * math.sin(angle)).astype(np.int64)
    ys = np.rint(along * math.sin(angle) + across * math.cos(angle)).astype(np.int64)
    inside = (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)
    values = np.where(inside, thin[ys.clip(0, height - 1), xs.clip(0, width - 1)], 0).astype(np.float32)
    return values[:, inside[_BAND]], along[inside[_BAND]]


def _rhythm(marks: NDArray[np.float32]) -> float:
    """Strength of the best step, see `Artifacts.ruler_strength`; 0 where nothing repeats."""
    count = len(marks)
    padded = np.pad(marks.astype(np.float64), _SMOOTHING // 2, mode="edge")
    wave = marks - np.convolve(padded, np.full(_SMOOTHING, 1 / _SMOOTHING), "valid")
    wave = wave.clip(-20, 20)  # one crossing hair is no mark
    spectrum = np.fft.rfft(wave, 2 * count)
    overlap = np.fft.irfft(spectrum * spectrum.conj())[:count]
    if overlap[0] < 1e-6:
        return 0.0
    correlation = overlap / overlap[0] * count / (count - np.arange(count))
    best = 0.0
    for step in range(_STEPS[0], min(_STEPS[1], (count - 3) // 3) + 1):
        if correlation[step] < max(correlation[step - 1], correlation[step + 1]):
            continue
        least = min(
            float(correlation[times * step - slack : times * step + slack + 1].max())
            for times, slack in ((1, 0), (2, 1), (3, 2))
        )
        best = max(best, least * math.sqrt(count / step))
    return best


def _ruler_pixels(ruler: _Ruler, size: ImageSize) -> BoolArray:
    """(h, w) bool: the ruler and its marks."""
    ys, xs = np.ogrid[: size.height, : size.width]
    across = ys * math.cos(ruler.angle) - xs * math.sin(ruler.angle) - ruler.distance
    along = xs * math.cos(ruler.angle) + ys * math.sin(ruler.angle)
    pixels: BoolArray = (abs(across) <= _BAND) & (along >= ruler.start - _BAND) & (along <= ruler.stop + _BAND)
    return pixels
