"""Whether a mask lies on a lesion: masks that are inverted, and masks that were drawn on something else.

Both rules compare colours inside a mask with those around it, on a photograph shrunk to `SIDE` pixels: a lesion differs
from the skin around it, a patch of skin does not. Whether another place would fit much better is asked of every shift
of the mask and of its eight turned and mirrored versions at once, by correlation in the frequency domain.

Shapes: h, w the shrunk photograph, the longer of them `SIDE`. All arrays are float64 in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermask.records import BoolArray, ByteArray, ImageSize

SIDE = 64
"""Longer side of the shrunk photograph, pixels: hair and rulers are gone, lesions are not, and a check takes
milliseconds."""

Plane = NDArray[np.float64]

TURNS = {
    "shifted": (0, False),
    "rotated by 90 degrees": (1, False),
    "rotated by 180 degrees": (2, False),
    "rotated by 270 degrees": (3, False),
    "mirrored left to right": (0, True),
    "mirrored and rotated by 90 degrees": (1, True),
    "mirrored top to bottom": (2, True),
    "mirrored and rotated by 270 degrees": (3, True),
}
"""What may have happened to a mask: quarter turns, and whether it was mirrored left to right before."""

_DARK = 0.15
"""Luma below which a pixel that is joined to a corner shows the rim of the dermatoscope, not skin."""
_RING = 0.35
"""Width of the skin that a mask is compared with, as a share of the square root of the mask's area."""
_NOISE = 0.02**2
"""Added to variances, so that drawn scenes without noise do not divide by zero."""
_MIN_INSIDE = 0.8
"""Share of a moved mask that must lie on the photograph."""


class Fit(NamedTuple):
    """How well a mask fits where it is, and where it would fit best.

    Attributes:
        contrast: Squared distance of the mean colours inside and around the mask, in variances; 0 for no difference.
        best: The largest contrast of all places of the mask that are darker inside.
        overlap: Jaccard index of the mask with its best place.
        change: What leads to the best place: a key of `TURNS`.
    """

    contrast: float
    best: float
    overlap: float
    change: str


def shrink(image: ByteArray) -> Plane:
    """(h, w, 3) of a photograph (H, W, 3) uint8."""
    size = _small_size(image.shape[0], image.shape[1])
    small = Image.fromarray(image).resize((size.width, size.height), Image.Resampling.BOX)
    return np.asarray(small, np.float64) / 255


def shrink_mask(mask: BoolArray) -> Plane:
    """(h, w) share of each shrunk pixel that a mask (H, W) covers."""
    size = _small_size(*mask.shape)
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize((size.width, size.height), Image.Resampling.BOX), np.float64) / 255


def _small_size(height: int, width: int) -> ImageSize:
    scale = SIDE / max(height, width)
    return ImageSize(max(round(height * scale), 1), max(round(width * scale), 1))


def skin_and_lesion(image: Plane) -> Plane:
    """(h, w) 1 where a shrunk photograph shows skin or lesion, 0 on a dark rim that reaches a corner."""
    dark = image.mean(axis=2) < _DARK
    rim = np.zeros_like(dark)
    rim[[0, 0, -1, -1], [0, -1, 0, -1]] = dark[[0, 0, -1, -1], [0, -1, 0, -1]]
    while True:
        grown = dilate(rim, 1) & dark
        if (grown == rim).all():
            usable: Plane = 1.0 - rim
            return usable
        rim = grown


def dilate(mask: BoolArray, radius: int) -> BoolArray:
    """(h, w) bool grown by a square of `radius` pixels, at least 1, on each side."""
    for axis in (0, 1):
        before = mask
        for step in range(1, radius + 1):
            low = [slice(None), slice(None)]
            high = [slice(None), slice(None)]
            low[axis], high[axis] = slice(None, -step), slice(step, None)
            mask = mask.copy()
            mask[tuple(low)] |= before[tuple(high)]
            mask[tuple(high)] |= before[tuple(low)]
    return mask


def contrast(image: Plane, mask: Plane, usable: Plane) -> float:
    """How much the colours inside a mask differ from those around it.

    Args:
        image: (h, w, 3).
        mask: (h, w) share of each pixel.
        usable: (h, w) of `skin_and_lesion`.

    Returns:
        Squared distance of the mean colours in variances, 0 where either side has no pixel.
    """
    inside = mask * usable
    ring = _ring(mask) * usable
    if inside.sum() < 1 or ring.sum() < 1:
        return 0.0
    sides = [np.average(image.reshape(-1, 3), axis=0, weights=weight.ravel()) for weight in (inside, ring)]
    squares = [np.average((image**2).sum(axis=2), weights=weight) for weight in (inside, ring)]
    spread = sum(square - (mean**2).sum() for square, mean in zip(squares, sides, strict=True))
    distance = float(((sides[1] - sides[0]) ** 2).sum())
    return distance / (float(spread) + _NOISE)


def inversion(image: Plane, mask: Plane) -> tuple[float, float]:
    """What tells an inverted mask: the share of the photograph's border that it covers, and how much brighter than the
    rest of the skin and lesion it is, -1 to 1. A dark rim in the corners does not count.
    """
    usable = skin_and_lesion(image)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    luma = image.mean(axis=2)
    inside, outside = mask * usable, (1 - mask) * usable
    if inside.sum() < 1 or outside.sum() < 1:
        return float(border.mean()), 0.0
    return float(border.mean()), float(np.average(luma, weights=inside) - np.average(luma, weights=outside))


def _ring(mask: Plane) -> Plane:
    radius = max(round(_RING * float(mask.sum()) ** 0.5), 2)
    ring: Plane = (dilate(mask > 0.5, radius) & (mask == 0)).astype(np.float64)
    return ring


def turn(mask: Plane, change: str) -> Plane:
    """A mask (h, w) turned and mirrored as a key of `TURNS` says; (w, h) for odd quarter turns."""
    quarters, mirrored = TURNS[change]
    return np.rot90(mask[:, ::-1] if mirrored else mask, quarters)


def best_fit(image: Plane, mask: Plane) -> Fit:
    """Where a mask fits best, of all shifts of all its turned and mirrored versions.

    Args:
        image: (h, w, 3).
        mask: (h, w) share of each pixel, not empty.
    """
    usable = skin_and_lesion(image)
    here = contrast(image, mask, usable)
    best = Fit(here, here, 1.0, "shifted")
    spectra = _Spectra(image, usable)
    for change in TURNS:
        turned = turn(mask, change)
        value, shift = spectra.search(turned)
        if value > best.best:
            best = Fit(here, value, _overlap(mask, turned, shift), change)
    return best


class _Spectra:
    """A photograph's Fourier transforms, and the search for the shift of a mask that separates colours best."""

    def __init__(self, image: Plane, usable: Plane) -> None:
        self.height, self.width = image.shape[:2]
        self.side = 2 * SIDE
        planes = [usable, *(image[..., channel] * usable for channel in range(3)), (image**2).sum(axis=2) * usable]
        self.planes = np.fft.rfft2(np.stack(planes), s=(self.side, self.side))
        self.frame = np.fft.rfft2(np.ones((self.height, self.width)), s=(self.side, self.side))

    def search(self, mask: Plane) -> tuple[float, tuple[int, int]]:
        """The largest contrast with a darker inside, and its shift in rows and columns."""
        ring_mask = _ring(np.pad(mask, SIDE // 2))
        inside = self._sums(np.pad(mask, SIDE // 2))
        around = self._sums(ring_mask)
        on_photograph = self._correlate(self.frame, np.pad(mask, SIDE // 2))
        valid = (on_photograph >= _MIN_INSIDE * mask.sum()) & (inside[0] > 0.5 * mask.sum())
        valid &= around[0] > 0.3 * ring_mask.sum()
        mean_in, mean_around = inside[1:4] / np.maximum(inside[0], 1), around[1:4] / np.maximum(around[0], 1)
        spread = inside[4] / np.maximum(inside[0], 1) - (mean_in**2).sum(axis=0)
        spread += around[4] / np.maximum(around[0], 1) - (mean_around**2).sum(axis=0)
        difference = mean_around - mean_in
        values = (difference**2).sum(axis=0) / (np.maximum(spread, 0) + _NOISE)
        values[~valid | (difference.mean(axis=0) <= 0)] = 0
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        return float(values[row, column]), (self._signed(int(row)), self._signed(int(column)))

    def _sums(self, weights: Plane) -> Plane:
        return self._correlate(self.planes, weights)

    def _correlate(self, spectrum: NDArray[np.complex128], weights: Plane) -> Plane:
        """Sums of planes under `weights` at every shift; the weights carry a frame of SIDE / 2, taken off here."""
        kernel = np.fft.rfft2(weights, s=(self.side, self.side))
        sums = np.fft.irfft2(spectrum * np.conj(kernel), s=(self.side, self.side))
        return np.roll(sums, (SIDE // 2, SIDE // 2), axis=(-2, -1))

    def _signed(self, shift: int) -> int:
        return shift - self.side if shift >= self.side // 2 else shift


def _overlap(mask: Plane, turned: Plane, shift: tuple[int, int]) -> float:
    moved = np.zeros_like(mask)
    rows, columns = np.nonzero(turned > 0.5)
    rows, columns = rows + shift[0], columns + shift[1]
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    moved[rows[inside], columns[inside]] = 1
    union = float(((mask > 0.5) | (moved > 0.5)).sum())
    return float(((mask > 0.5) & (moved > 0.5)).sum()) / union if union else 0.0
