"""What can befall a photograph between the skin and a model, in steps: to see how much an outline depends on it.

Each change takes pixels and masks to pixels and masks: those that move the photograph move the masks alike, the others
leave them alone. A strength of `identity` changes nothing. What is random depends on the seed alone.

Shapes: image (H, W, 3) uint8 RGB, masks (M, H, W) bool.

Source: the kinds follow Hendrycks and Dietterich 2019, arXiv:1903.12261, with those of dermoscopy (white balance, hair,
framing) in place of weather.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from dermask.data.scene_artifacts import draw_hair
from dermask.data.scene_camera import darken_corners, through_jpeg
from dermask.records import BoolArray, ByteArray

Changed = tuple[ByteArray, BoolArray]
_Change = Callable[[ByteArray, BoolArray, float, np.random.Generator], Changed]
_FILL = (124, 116, 104)  # where a turned photograph has no pixels: the mean colour of photographs


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of change and the strengths at which to try it.

    Attributes:
        key: Short name.
        title: For tables and plots, with the unit of the strength.
        strengths: In order.
        identity: The strength that changes nothing; it may lie outside `strengths`.
        change: What is done.
    """

    key: str
    title: str
    strengths: tuple[float, ...]
    identity: float
    change: _Change

    def apply(self, image: ByteArray, masks: BoolArray, strength: float, *, seed: int = 0) -> Changed:
        """The changed photograph and its masks; a mask that lies outside the frame now is empty.

        Args:
            image: (H, W, 3) uint8 RGB.
            masks: (M, H, W) bool.
            strength: In the unit that `title` names.
            seed: Of everything random.
        """
        if strength == self.identity:
            return image, masks
        return self.change(image, masks, strength, np.random.default_rng(seed))


def _jpeg(image: ByteArray, masks: BoolArray, quality: float, _: np.random.Generator) -> Changed:
    return through_jpeg(image, int(quality)), masks


def _blur(image: ByteArray, masks: BoolArray, share: float, _: np.random.Generator) -> Changed:
    radius = share / 100 * min(image.shape[:2])
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))), masks


def _noise(image: ByteArray, masks: BoolArray, deviation: float, rng: np.random.Generator) -> Changed:
    return _to_bytes(image + rng.normal(0, deviation, image.shape)), masks


def _exposure(image: ByteArray, masks: BoolArray, stops: float, _: np.random.Generator) -> Changed:
    # In linear light, where a stop doubles; sRGB's curve is near enough to a power of 2.2.
    return _to_bytes(255 * ((image / 255) ** 2.2 * 2**stops) ** (1 / 2.2)), masks


def _white_balance(image: ByteArray, masks: BoolArray, shift: float, _: np.random.Generator) -> Changed:
    """Warmer above 0, red up and blue down by that many per cent; cooler below."""
    return _to_bytes(image * np.array([1 + shift / 100, 1.0, 1 - shift / 100])), masks


def _rotation(image: ByteArray, masks: BoolArray, degrees: float, _: np.random.Generator) -> Changed:
    turned = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=_FILL)
    return np.asarray(turned), _each(masks, lambda mask: mask.rotate(degrees, Image.Resampling.BILINEAR))


def _crop(image: ByteArray, masks: BoolArray, share: float, rng: np.random.Generator) -> Changed:
    """A part of the frame, that share of its sides, somewhere within it."""
    height, width = (max(16, round(side * share)) for side in image.shape[:2])
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    window = np.s_[top : top + height, left : left + width]
    return image[window], np.ascontiguousarray(masks[:, *window])


def _scale(image: ByteArray, masks: BoolArray, factor: float, _: np.random.Generator) -> Changed:
    size = tuple(max(16, round(side * factor)) for side in image.shape[1::-1])
    scaled = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(scaled), _each(masks, lambda mask: mask.resize(size, Image.Resampling.BILINEAR), size[::-1])


def _hair(image: ByteArray, masks: BoolArray, count: float, rng: np.random.Generator) -> Changed:
    return draw_hair(image, rng, count=int(count)), masks


def _corners(image: ByteArray, masks: BoolArray, share: float, _: np.random.Generator) -> Changed:
    """Masks go on behind the tube's edge, as people outline them."""
    return darken_corners(image, share), masks


def _each(masks: BoolArray, move: Callable[[Image.Image], Image.Image], size: Sequence[int] | None = None) -> BoolArray:
    moved = np.zeros((len(masks), *(size or masks.shape[1:])), np.bool_)
    for target, mask in zip(moved, masks, strict=True):
        target[:] = np.asarray(move(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)))) > 127
    return moved


def _to_bytes(values: np.ndarray) -> ByteArray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("jpeg", "JPEG quality", (20, 35, 50, 70, 85, 95), 101, _jpeg),
    Perturbation("blur", "Gaussian blur, % of the short side", (0, 0.25, 0.5, 1, 2, 4), 0, _blur),
    Perturbation("noise", "noise, standard deviation in grey levels", (0, 5, 10, 20, 40), 0, _noise),
    Perturbation("exposure", "exposure, stops", (-2, -1, -0.5, 0, 0.5, 1, 1.5), 0, _exposure),
    Perturbation("white_balance", "white balance, % towards red", (-30, -20, -10, 0, 10, 20, 30), 0, _white_balance),
    Perturbation("rotation", "rotation, degrees", (0, 15, 30, 45, 60, 90), 0, _rotation),
    Perturbation("crop", "crop, share of the sides", (0.5, 0.6, 0.7, 0.8, 0.9, 1), 1, _crop),
    Perturbation("scale", "scale of the file", (0.25, 0.5, 1, 2, 4), 1, _scale),
    Perturbation("corners", "dark beyond a share of the half diagonal", (0.6, 0.7, 0.8, 0.9, 1), 1, _corners),
    Perturbation("hair", "drawn hairs", (0, 5, 15, 30, 60), 0, _hair),
)
"""Every kind, in the order in which to show them."""
