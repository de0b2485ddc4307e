"""What is kept of a photograph to find it again: a small grey picture and descriptors of its windows.

The picture has the same square shape for every photograph (its own aspect is kept as a number), so that all later work
is done on whole arrays at once. Positions are in unit coordinates: x, y from 0 to 1 over the photograph without its
plain frame.

A descriptor says how one window looks, whatever its colours and contrast: brightness is freed of shading and divided
by its local contrast, dark corners count as nothing, and the lowest cosine frequencies of the result are kept. A
cropped copy looks like some window of the original; turning or mirroring a window only swaps frequencies and changes
their signs, so one descriptor serves for all eight orientations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermask.records import ByteArray, FloatArray

SIDE = 240
"""Decode photographs at least this large (`images.read_image(path, target_side=SIDE)`); more is not used."""

THUMBNAIL_SIDE = 120
"""Height and width of the picture that is kept. Texture of this size survives JPEG quality 30."""

DESCRIPTOR_SCALE = 127.0
"""Descriptors are unit vectors times this, rounded to 8 bits."""

_WINDOW_SIZES = (1.0, 0.93, 0.86, 0.79, 0.72, 0.66)
"""Sides of the square windows in short sides of the photograph: crops down to 0.66 ^ 2 = 44 % of the area."""
_INNER_SIZE = 0.66
"""Side of the inner square in short sides: free of dark corners, frames and most rulers and letters."""
_STEP = 0.12
"""Distance of neighbouring windows in window sides; what lies between is found with a lower score."""
_MAX_STEPS = 8
"""Windows along one axis at most, for long photographs."""
_MAP_SIDE = 48
_FREQUENCIES = tuple((u, v) for u in range(8) for v in range(8) if 2 <= u + v <= 7)
"""(vertical, horizontal) half waves in a window; lower ones are shading, higher ones do not survive a small shift."""
_CONTRAST_RADIUS = 0.1
"""Spread of the neighbourhood that brightness is compared with, in window sides."""
_CONTRAST_FLOOR = 4.0
"""Grey levels of contrast under which texture counts as noise; the picture is stretched to 256 levels before."""
_DARK = 28
"""Grey levels of the stretched picture up to this are the black outside of the dermatoscope's circle."""
_NEAR_THE_MIDDLE = 0.42
"""Distance from the middle, in unit coordinates, within which nothing is the outside of a circle."""
_MIN_RANGE = 8.0
"""Grey levels between dark and light under which a picture is not stretched further: it would be noise."""
_FRAME_NOISE = 2.0
"""Spread in grey levels up to which a border row is part of a plain frame."""
_MAX_FRAME = 0.2
"""A frame is at most this share of the photograph on each side."""


@dataclass(frozen=True, eq=False)
class Signature:
    """What is kept of a photograph: 17 kB for a square one, up to 24 kB for a long one.

    Attributes:
        thumbnail: (120, 120) uint8, grey, stretched to the full range, without a plain frame.
        descriptors: (2 + W, 33) int8: of the whole photograph squeezed to a square, of the inner square, then of W
            square windows, the largest centred one first: see `windows_of`. All 0 for a window without texture.
        aspect: Width by height, without the frame.
        colour: Mean red, green and blue, 0 to 255.
    """

    thumbnail: ByteArray
    descriptors: NDArray[np.int8]
    aspect: float
    colour: tuple[float, float, float]


WHOLE, INNER, CENTRE = 0, 1, 2
FIRST_WINDOW = 2


class Window(NamedTuple):
    """A rectangle of a photograph in unit coordinates: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float


def signature(image: ByteArray) -> Signature:
    """What is kept of a photograph to find it again.

    Args:
        image: (H, W, 3) uint8 RGB, H and W at least 1; decoded with `target_side=SIDE` or larger.

    Returns:
        The signature. Photographs of one colour, of one pixel, or black ones have one too.
    """
    colour = image.reshape(-1, 3).mean(axis=0, dtype=np.float64)
    grey = Image.fromarray(image).convert("L")
    grey = grey.crop(_without_frame(np.asarray(grey)))
    side = THUMBNAIL_SIDE
    # A box filter averages whole pixels when shrinking, but would leave steps when enlarging.
    method = Image.Resampling.BOX if min(grey.size) >= 2 * side else Image.Resampling.BILINEAR
    pixels = np.asarray(grey.resize((side, side), method), dtype=np.float32)
    low, high = np.percentile(pixels, (0.5, 99.5))
    stretched = np.clip((pixels - low) * (255 / max(float(high - low), _MIN_RANGE)), 0, 255)
    thumbnail = np.round(stretched).astype(np.uint8)
    aspect = grey.width / grey.height
    return Signature(
        thumbnail=thumbnail,
        descriptors=_describe(thumbnail, aspect),
        aspect=aspect,
        colour=(float(colour[0]), float(colour[1]), float(colour[2])),
    )


def windows_of(aspect: float) -> tuple[Window, ...]:
    """Where the windows of a photograph are that its descriptors tell of, in their order.

    The whole photograph is `WHOLE`, the inner square `INNER`, the largest centred square `CENTRE`, and `FIRST_WINDOW`
    the first of all squares, large and small, that a cropped copy may look like.
    """
    return _layout(_rounded(aspect)).windows


def orientations(descriptors: FloatArray) -> FloatArray:
    """Descriptors of the eight turned and mirrored windows.

    Args:
        descriptors: (N, 33).

    Returns:
        (8, N, 33). Orientation o swaps x and y if o & 4, then mirrors x if o & 2, then mirrors y if o & 1.
    """
    place = {pair: index for index, pair in enumerate(_FREQUENCIES)}
    turned = []
    for orientation in range(8):
        swap, mirror_x, mirror_y = orientation & 4, orientation & 2, orientation & 1
        order = [place[(v, u) if swap else (u, v)] for u, v in _FREQUENCIES]
        signs = [(-1.0) ** ((v if mirror_x else 0) + (u if mirror_y else 0)) for u, v in _FREQUENCIES]
        turned.append(descriptors[:, order] * np.asarray(signs, dtype=np.float32))
    return np.stack(turned)


def visible(thumbnails: ByteArray) -> FloatArray:
    """1 where skin is seen and 0 in and beside the black outside of the dermatoscope's circle.

    Args:
        thumbnails: (..., 120, 120) uint8.

    Returns:
        (..., 120, 120) float32.
    """
    blur = blur_matrix(THUMBNAIL_SIDE, THUMBNAIL_SIDE, 2.5)
    centres = (np.arange(THUMBNAIL_SIDE) + 0.5) / THUMBNAIL_SIDE - 0.5
    # Black near the middle is a dark lesion: without it, lesions would be told apart by their outlines alone.
    near = np.hypot(centres[:, None], centres) < _NEAR_THE_MIDDLE
    share: FloatArray = blur @ ((thumbnails > _DARK) | near).astype(np.float32) @ blur.T
    return (share > 0.97).astype(np.float32)


def local_contrast(pixels: FloatArray, weights: FloatArray, radius: float, floor: float) -> FloatArray:
    """Brightness freed of shading and divided by its local contrast; 0 where `weights` is 0.

    Args:
        pixels: (..., S, S) float32, grey levels.
        weights: (..., S, S) float32, 0 to 1: what counts.
        radius: Spread of the neighbourhood in pixels.
        floor: Grey levels of contrast under which texture is damped.

    Returns:
        (..., S, S) float32, mostly within -3 to 3.
    """
    side = pixels.shape[-1]
    blur = blur_matrix(side, side, radius)
    total = np.maximum(blur @ weights @ blur.T, 1e-3)
    detail = pixels - blur @ (pixels * weights) @ blur.T / total
    variance = blur @ (detail * detail * weights) @ blur.T / total
    return np.asarray(weights * detail / np.sqrt(variance + floor * floor), dtype=np.float32)


def shrink(pixels: FloatArray, weights: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Pixels and weights at `side` by `side`, pixels averaged by their weights."""
    matrix = blur_matrix(side, pixels.shape[-1], max(0.5 * pixels.shape[-1] / side, 0.5))
    shrunk = matrix @ weights @ matrix.T
    values = matrix @ (pixels * weights) @ matrix.T / np.maximum(shrunk, 1e-3)
    return np.asarray(values, dtype=np.float32), np.where(shrunk > 0.5, shrunk, 0).astype(np.float32)


@lru_cache(maxsize=64)
def blur_matrix(rows: int, columns: int, spread: float) -> FloatArray:
    """(rows, columns) matrix that resamples `columns` values to `rows` with a Gaussian of `spread` input pixels."""
    centres = (np.arange(rows) + 0.5) * columns / rows - 0.5
    weights = np.exp(-0.5 * ((np.arange(columns)[None] - centres[:, None]) / spread) ** 2)
    matrix: FloatArray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def _without_frame(grey: ByteArray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what lies inside a plain frame; the whole picture where there is none."""
    height, width = grey.shape
    top, bottom = _plain(grey), _plain(grey[::-1])
    left, right = _plain(grey.T), _plain(grey.T[::-1])
    return left, top, width - right, height - bottom


def _plain(grey: ByteArray) -> int:
    """Rows from the first on that have one grey level; 0 where they are too many for a frame."""
    limit = int(len(grey) * _MAX_FRAME)
    for index, row in enumerate(grey[: limit + 1]):
        if row.std() > _FRAME_NOISE or abs(float(row.mean()) - float(grey[0].mean())) > 2 * _FRAME_NOISE:
            return min(index + 1, limit) if index else 0  # the row where the frame ends is a mixture
    return 0


class _Layout(NamedTuple):
    """The windows of one aspect, and for each window size the matrices that describe them all at once."""

    windows: tuple[Window, ...]
    bases: tuple[tuple[float, FloatArray, FloatArray], ...]


def _describe(thumbnail: ByteArray, aspect: float) -> NDArray[np.int8]:
    pixels, weights = shrink(thumbnail.astype(np.float32), visible(thumbnail), _MAP_SIDE)
    found = np.concatenate(list(_rows(pixels, weights, _layout(_rounded(aspect)).bases)))
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit = np.where(norms > 1e-3, found / np.maximum(norms, 1e-3), 0)
    return np.round(unit * DESCRIPTOR_SCALE).astype(np.int8)


def _rows(
    pixels: FloatArray, weights: FloatArray, bases: tuple[tuple[float, FloatArray, FloatArray], ...]
) -> Iterator[FloatArray]:
    """Descriptors of the windows of each size."""
    vertical, horizontal = zip(*_FREQUENCIES, strict=True)
    waves = max(vertical) + 1
    for size, across, down in bases:
        contrast = local_contrast(pixels, weights, _CONTRAST_RADIUS * size * _MAP_SIDE, _CONTRAST_FLOOR)
        products = np.asarray(down @ contrast @ across.T, dtype=np.float32).reshape(
            len(down) // waves, waves, len(across) // waves, waves
        )
        yield products.transpose(0, 2, 1, 3).reshape(-1, waves, waves)[:, vertical, horizontal]


def _rounded(aspect: float) -> float:
    """Aspects that share their windows; photographs longer than 2 to 1 have theirs stretched a little."""
    return min(max(round(aspect * 16) / 16, 0.5), 2.0)


@lru_cache(maxsize=64)
def _layout(aspect: float) -> _Layout:
    width, height = max(aspect, 1.0), max(1 / aspect, 1.0)  # in short sides
    inner = Window(
        (1 - _INNER_SIZE / width) / 2, (1 - _INNER_SIZE / height) / 2, _INNER_SIZE / width, _INNER_SIZE / height
    )
    windows = [Window(0, 0, 1, 1), inner]
    bases = [
        (size, _waves(one.x, one.width), _waves(one.y, one.height))
        for size, one in zip((1.0, _INNER_SIZE), windows, strict=True)
    ]
    for size in _WINDOW_SIZES:
        lefts, tops = _starts(width, size), _starts(height, size)
        windows += [Window(x / width, y / height, size / width, size / height) for y in tops for x in lefts]
        across = np.concatenate([_waves(x / width, size / width) for x in lefts])
        down = np.concatenate([_waves(y / height, size / height) for y in tops])
        bases.append((size, across, down))
    return _Layout(tuple(windows), tuple(bases))


def _starts(length: float, size: float) -> list[float]:
    """Where windows start along an axis of `length`, all in short sides, the centre one first."""
    room = length - size
    if room < 1e-6:
        return [0.0]
    steps = min(max(round(room / (_STEP * size)), 1), _MAX_STEPS - 1)
    if size == 1.0:
        steps += steps % 2  # an even number of steps has a window in the middle
    starts = [room * step / steps for step in range(steps + 1)]
    return sorted(starts, key=lambda start: abs(start - room / 2))


def _waves(start: float, size: float) -> FloatArray:
    """(8, 48): cosine waves over a window, 0 outside, that give its frequencies when multiplied with a map."""
    edges = np.arange(_MAP_SIDE + 1) / _MAP_SIDE
    inside = np.clip(np.minimum(edges[1:], start + size) - np.maximum(edges[:-1], start), 0, None) / size
    phase = ((edges[1:] + edges[:-1]) / 2 - start) / size
    orders = np.arange(max(max(pair) for pair in _FREQUENCIES) + 1)[:, None]
    waves: FloatArray = (np.cos(np.pi * orders * phase) * np.sqrt(np.where(orders, 2, 1)) * inside).astype(np.float32)
    return waves
