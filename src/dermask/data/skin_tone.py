"""The tone of the skin around a lesion, as individual typology angle (ITA).

The angle lies between lightness and yellowness of skin in CIELAB: large for light skin, small and negative for dark.
It is a proxy: it follows the light, the camera and its white balance as well as the skin, and it is not the Fitzpatrick
type, which says how skin reacts to sun. Use it to see whether a collection is lopsided, not to say what one person's
skin is.

Which pixels count as skin is decided on a copy of at most `WORKING_SIDE` pixels: not the lesion or its close
surround, nor what is black (the tube's edge, corners), white (glare), grey or of a colour that skin does not have
(rulers, ink, stickers), nor what is thin and darker or lighter than around it (hairs, a ruler's marks, reflections).

Shapes: H, W of the photograph, h, w of the working copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermask import images
from dermask.records import BoolArray, ByteArray, FloatArray, ImageSize

ITA_BINS: tuple[tuple[str, float], ...] = (
    ("dark", 10.0),
    ("tan 1", 19.0),
    ("tan 2", 28.0),
    ("intermediate 1", 34.5),
    ("intermediate 2", 41.0),
    ("light 1", 48.0),
    ("light 2", 55.0),
    ("very light", 90.0),
)
"""Name and largest angle of each bin, degrees, darkest first (Kinyanjui et al. 2020, table 1)."""

WORKING_SIDE = 256
"""Long side that photographs are shrunk to before anything is measured, pixels."""
MIN_SKIN_SHARE = 0.02
"""Least share of the photograph that must be skin: below it there is no angle."""
MIN_YELLOWNESS = 3.0
"""Least mean b* of the skin. Below it the angle is near 90 degrees whatever the skin, or has the wrong sign: such a
photograph tells of its white balance (b* of skin under white light is about 8 to 25)."""

Plane = TypeVar("Plane", BoolArray, ByteArray)

_LESION_MARGIN = 7  # pixels: the halo of a lesion and an outline drawn a little too tight
_BLACK = 45  # largest channel of what no light reaches, 0 to 255
_BLACK_MARGIN = 7  # pixels: a tube's edge is soft
_WHITE = 235  # smallest channel of glare and paper
_GREY_CHROMA = 5.0  # of CIELAB: below it a pixel is grey, as rulers and shadows are
_MAX_CHROMA = 75.0
_SKIN_HUES = (-25.0, 100.0)  # degrees in CIELAB's plane of a* and b*: from pink over red and orange to yellow
_THIN = 9  # pixels: what is narrower than this is a hair, a mark or a reflection
_THIN_CONTRAST = 14  # of 255, between it and the skin beside it


@dataclass(frozen=True, slots=True)
class SkinTone:
    """The tone of one photograph's skin.

    Attributes:
        ita: Individual typology angle, degrees, above -90 and below 90; larger is lighter.
        bin: Name of its bin in `ITA_BINS`.
        skin_pixels: Pixels of the working copy that it was measured on, after trimming.
        colour: Mean sRGB of these pixels, 0 to 255.
    """

    ita: float
    bin: str
    skin_pixels: int
    colour: tuple[int, int, int]


def skin_tone(image: ByteArray, lesions: BoolArray) -> SkinTone | None:
    """The tone of the skin around the lesions of a photograph.

    L* and b* of the skin are trimmed to within one standard deviation of their median, and the angle is
    atan((L* - 50) / b*) of the means of what remains.

    Args:
        image: (H, W, 3) uint8 sRGB.
        lesions: (H, W) bool, all lesions together; all False for a photograph without one.

    Returns:
        None where less than `MIN_SKIN_SHARE` of the photograph is skin, or its mean b* is below `MIN_YELLOWNESS`.

    Source:
        Chardon et al. 1991 for the angle; Kinyanjui et al. 2020, "Fairness of Classifiers Across Skin Tones in
        Dermatology", for the trimming, for taking the skin around lesions of ISIC photographs, and for the bins.
    """
    small, outside = _working_copy(image, lesions)
    lab = srgb_to_lab(small)
    is_skin = outside & skin_pixels(small, lab, outside)
    if np.count_nonzero(is_skin) < MIN_SKIN_SHARE * is_skin.size:
        return None
    lightness, yellowness = lab[..., 0][is_skin], lab[..., 2][is_skin]
    kept = _is_central(lightness) & _is_central(yellowness)
    if not kept.any():
        return None
    mean_l, mean_b = float(lightness[kept].mean()), float(yellowness[kept].mean())
    if mean_b < MIN_YELLOWNESS:
        return None
    ita = math.degrees(math.atan((mean_l - 50) / mean_b))
    red, green, blue = (round(float(value)) for value in small[is_skin][kept].mean(axis=0))
    return SkinTone(ita, ita_bin(ita), int(np.count_nonzero(kept)), (red, green, blue))


def ita_bin(ita: float) -> str:
    """The name of the bin of an angle in degrees; a limit belongs to the darker bin."""
    return next((name for name, largest in ITA_BINS if ita <= largest), ITA_BINS[-1][0])


def skin_pixels(image: ByteArray, lab: FloatArray, outside: BoolArray) -> BoolArray:
    """Which pixels of a working copy look like bare skin.

    Args:
        image: (h, w, 3) uint8 sRGB, long side about `WORKING_SIDE`.
        lab: (h, w, 3) float32, the same in CIELAB.
        outside: (h, w) bool, where no lesion is near; what is found lies in it.

    Returns:
        (h, w) bool; all False where glare hides most of the surround, for what is left is its shade and not the skin.
    """
    red, green, blue = (np.ascontiguousarray(image[..., channel]) for channel in range(3))
    is_black = np.maximum(np.maximum(red, green), blue) < _BLACK
    is_white = np.minimum(np.minimum(red, green), blue) >= _WHITE
    if 2 * np.count_nonzero(is_white & outside) > np.count_nonzero(outside):
        return np.zeros_like(outside)
    is_hidden = is_black | _widen(_large_parts(is_black), _BLACK_MARGIN) | _widen(is_white, 3) | _thin_structures(image)
    bare = outside & ~is_hidden
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    low, high = _SKIN_HUES
    has_skin_hue = (chroma <= _MAX_CHROMA) & (hue >= low) & (hue <= high)
    is_grey = chroma < _GREY_CHROMA
    # Among coloured skin, grey is a ruler or a shadow; where most is grey, the camera made the skin so.
    if 2 * np.count_nonzero(bare & is_grey) > np.count_nonzero(bare):
        return bare & (has_skin_hue | is_grey)
    return bare & has_skin_hue & ~is_grey


def srgb_to_lab(image: ByteArray) -> FloatArray:
    """sRGB as CIELAB for the white of D65.

    Args:
        image: (..., 3) uint8 sRGB.

    Returns:
        (..., 3) float32: L* in [0, 100], a* and b* in about [-108, 99].

    Source:
        IEC 61966-2-1 for sRGB's curve and matrix, CIE 15:2004 for CIELAB; white is what the matrix makes of (1, 1, 1),
        so that greys have a* and b* of 0.
    """
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    linear = _linear_levels()[image]
    xyz = linear @ (matrix / matrix.sum(axis=1, keepdims=True)).T.astype(np.float32)
    delta = 6 / 29
    root = np.where(xyz > delta**3, np.cbrt(xyz), xyz / np.float32(3 * delta**2) + np.float32(4 / 29))
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@cache
def _linear_levels() -> FloatArray:
    """Light of each of sRGB's 256 levels, 0 to 1."""
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _working_copy(image: ByteArray, lesions: BoolArray) -> tuple[ByteArray, BoolArray]:
    """The photograph at working size, and where no lesion is near."""
    height, width = image.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = ImageSize(max(1, round(height * scale)), max(1, round(width * scale)))
    small = images.resize(image, size)
    if lesions.shape != size:
        grey = Image.fromarray(lesions.astype(np.uint8) * np.uint8(255))
        lesions = np.asarray(grey.resize((size.width, size.height), Image.Resampling.BOX)) > 0
    return small, ~_widen(lesions, _LESION_MARGIN)


def _is_central(values: NDArray[np.float32]) -> BoolArray:
    """Which values lie within one standard deviation of their median; all of them where they are the same."""
    spread = max(float(values.std()), 1e-3)
    central: BoolArray = np.abs(values - np.median(values)) <= spread
    return central


def _thin_structures(image: ByteArray) -> BoolArray:
    """Hairs, a ruler's marks, reflections: what closing or opening the photograph by a small square removes."""
    grey = np.asarray(Image.fromarray(image).convert("L"))
    closed = _sliding(_sliding(grey, _THIN, np.maximum), _THIN, np.minimum)
    opened = _sliding(_sliding(grey, _THIN, np.minimum), _THIN, np.maximum)
    is_thin = (closed.astype(np.int16) - grey >= _THIN_CONTRAST) | (grey - opened.astype(np.int16) >= _THIN_CONTRAST)
    return _widen(is_thin, 1)


def _large_parts(mask: BoolArray) -> BoolArray:
    """The parts of a mask that hold a whole square of `_THIN` pixels: a tube's edge, but no hair."""
    return _widen(_sliding(mask, _THIN, np.minimum), _THIN // 2)


def _widen(mask: BoolArray, margin: int) -> BoolArray:
    """A mask grown by `margin` pixels to all sides."""
    return _sliding(mask, 2 * margin + 1, np.maximum) if mask.any() else mask


def _sliding(plane: Plane, window: int, best: np.ufunc) -> Plane:
    """The largest or smallest value in a square window around each pixel, windows cut off at the border.

    Args:
        plane: (h, w).
        window: Side of the square, odd.
        best: `np.maximum` or `np.minimum`.
    """
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (window // 2, window // 2)
        line = np.moveaxis(np.pad(plane, padding, mode="edge"), axis, 0)
        reach = 1  # each pass doubles how far a value is the best of, so that a window costs its logarithm
        while reach < window:
            step = min(reach, window - reach)
            line = best(line[: len(line) - step], line[step:])
            reach += step
        plane = np.moveaxis(line, 0, axis)
    return plane
