"""The optics of drawn scenes: light, what hides the skin at the frame's edge, and the camera's softness.

Stickers, dark corners and JPEG befall real photographs too: in training, and to see how much they disturb.

H, W are the photograph's height and width; the shorter side sets the scale of everything.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermask.data.scene_texture import Stencil, smooth_noise, smooth_step
from dermask.records import BoolArray, ByteArray, FloatArray, ImageSize

# White balance as gains of red, green and blue: neutral, daylight (bluish), violet, warm lamp, greenish.
_TINTS = np.array(
    [(1.0, 1.0, 1.0), (0.88, 0.98, 1.12), (0.97, 0.92, 1.10), (1.07, 0.97, 0.84), (0.98, 1.03, 0.95)], dtype=np.float32
)
_TINT_SHARES = (0.45, 0.16, 0.14, 0.15, 0.10)
# Stickers that calibrate colour: blue, teal, green, yellow, orange, red, white.
_PATCH_COLOURS = (
    (30, 120, 200), (60, 180, 175), (90, 150, 70), (235, 200, 60), (240, 150, 30), (200, 60, 60), (215, 213, 210)
)  # fmt: skip

_STICKER_TRIES = 5
_CORNER_GREY = 8.0  # what a camera sees of a tube's inside


@dataclass(frozen=True, slots=True, eq=False)
class Surround:
    """What hides skin at the edge of the frame.

    Attributes:
        light: (H, W) float32 in [0, 1], share of light that the tube and corner shadows let through.
        patch: The sticker's mask, mode L at the photograph's size; None without one.
        patch_colour: Its RGB.
        visible: (H, W) bool, where skin can be seen.
    """

    light: FloatArray
    patch: Image.Image | None
    patch_colour: tuple[int, int, int]
    visible: BoolArray

    def cover(self, image: ByteArray) -> ByteArray:
        """The photograph, (H, W, 3) uint8, behind its surround."""
        if self.patch is not None:
            cloth = Image.new("RGB", self.patch.size, self.patch_colour)
            image = np.asarray(_stick(Image.fromarray(image), self.patch, cloth, shadow=2.0))
        return np.asarray(image * self.light[..., None], dtype=np.uint8)


def draw_surround(rng: np.random.Generator, size: ImageSize, *, aperture: bool, corners: bool, patch: bool) -> Surround:
    """The frame's edge.

    Args:
        rng: Source of everything random.
        size: Of the photograph.
        aperture: Black outside a round opening, as photographs through a tube have it.
        corners: Soft shadows in the corners.
        patch: A round coloured sticker that reaches in from one side.
    """
    y = (np.arange(size.height, dtype=np.float32)[:, None] + 0.5) / size.height - 0.5
    x = (np.arange(size.width, dtype=np.float32)[None, :] + 0.5) / size.width - 0.5
    aspect = np.float32(size.width / size.height)
    off_y, off_x = rng.uniform(-0.06, 0.06, 2)
    reach = np.hypot((x - off_x) * max(aspect, 1), (y - off_y) * max(1 / aspect, 1))
    light = np.ones(size, dtype=np.float32)
    if corners:
        light *= smooth_step(reach, rng.uniform(0.8, 1.0), rng.uniform(0.42, 0.6)) * 0.95 + 0.05
    hidden = np.zeros(size, dtype=np.bool_)
    if aperture:
        radius = rng.uniform(0.44, 0.6) * np.sqrt(max(aspect, 1 / aspect))
        edge = rng.uniform(0.006, 0.05)
        light *= smooth_step(reach, radius + edge, radius - edge) * 0.99 + 0.01
        hidden = reach > radius
    mask, colour = None, _PATCH_COLOURS[int(rng.integers(len(_PATCH_COLOURS)))]
    if patch:
        mask = _sticker(rng, size)
        hidden = hidden | (np.asarray(mask) > 127)
    return Surround(light, mask, colour, ~hidden)


def _sticker(rng: np.random.Generator, size: ImageSize) -> Image.Image:
    radius = min(size) * rng.uniform(0.12, 0.3)
    out = _towards_border(rng)
    return _disc(size, _beyond_border(size, out, radius * rng.uniform(0.25, 0.75)), radius)


def lay_sticker(image: ByteArray, keep_off: BoolArray, rng: np.random.Generator) -> ByteArray:
    """Stick a woven, coloured disc on the skin, at times with a smaller one of another colour within.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        keep_off: (H, W) bool, what must stay in sight. Where nothing must, the sticker may fill the frame.
        rng: Source of everything random.

    Returns:
        (H, W, 3) uint8, a new array; the photograph as it is where no place was found.
    """
    size = ImageSize(*image.shape[:2])
    side, nothing_to_hide = min(size), not keep_off.any()
    for _ in range(_STICKER_TRIES):
        radius = side * rng.uniform(0.15, 0.8 if nothing_to_hide else 0.45)
        out = _towards_border(rng)
        centre = _beyond_border(size, out, radius * rng.uniform(-1.0 if nothing_to_hide else -0.3, 0.85))
        disc = _disc(size, centre, radius)
        if (np.asarray(disc)[keep_off] > 0).any():
            continue
        picture = _stick(Image.fromarray(image), disc, _woven(rng, size), shadow=0.012 * side)
        if rng.random() < 0.3:
            inner = _disc(size, centre - out * radius * rng.uniform(0.0, 0.3), radius * rng.uniform(0.4, 0.7))
            picture = Image.composite(_woven(rng, size), picture, inner)
        return np.array(picture)
    return image


def _towards_border(rng: np.random.Generator) -> NDArray[np.float64]:
    """A direction (x, y) that ends on the border of the square from -1 to 1."""
    turn = rng.uniform(0, 2 * np.pi)
    out = np.array([np.cos(turn), np.sin(turn)])
    out /= np.abs(out).max()
    return out


def _beyond_border(size: ImageSize, out: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """The pixel (x, y) that far beyond the frame's border in a direction; below 0 it lies within."""
    return (0.5 + 0.5 * out) * (size.width, size.height) + out * distance


def _stick(picture: Image.Image, disc: Image.Image, cloth: Image.Image, *, shadow: float) -> Image.Image:
    """The photograph with cloth where the disc is, and a shadow around it that many pixels soft."""
    shade = disc.filter(ImageFilter.GaussianBlur(shadow)).point([level // 3 for level in range(256)])
    picture = Image.composite(Image.new("RGB", picture.size, (40, 30, 30)), picture, shade)
    return Image.composite(cloth, picture, disc)


def _disc(size: ImageSize, centre: NDArray[np.float64], radius: float) -> Image.Image:
    stencil = Stencil(size)
    stencil.disc((float(centre[0]), float(centre[1])), (radius, radius))
    return stencil.finish()


def _woven(rng: np.random.Generator, size: ImageSize) -> Image.Image:
    """Coloured cloth that fills the frame."""
    colour = np.array(_PATCH_COLOURS[int(rng.integers(len(_PATCH_COLOURS)))]) + rng.uniform(-20, 20, 3)
    weave = smooth_noise(rng, size, max(1.5, min(size) * rng.uniform(0.006, 0.02)), stretch=rng.uniform(1.0, 2.5))
    cloth = colour.astype(np.float32) * (1 + np.float32(rng.uniform(0.02, 0.12)) * weave[..., None])
    return Image.fromarray(np.clip(cloth, 0, 255).astype(np.uint8))


def darken_corners(
    image: ByteArray, share: float, *, edge: float = 0.03, off_centre: tuple[float, float] = (0.0, 0.0)
) -> ByteArray:
    """Dark beyond a circle, as a photograph through a tube has it.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        share: The circle's radius as a share of half the diagonal.
        edge: Over which light fades within it, as such a share too; above 0.
        off_centre: (y, x) of its centre from the frame's, likewise.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    height, width = image.shape[:2]
    half = np.hypot(height, width) / 2
    y, x = np.mgrid[:height, :width] + 0.5
    reach = np.hypot(y - height / 2 - off_centre[0] * half, x - width / 2 - off_centre[1] * half) / half
    light = np.clip((share - reach) / edge + 1, 0, 1)[..., None]
    return np.asarray(np.clip(np.round(image * light + _CORNER_GREY * (1 - light)), 0, 255), dtype=np.uint8)


def draw_light(rng: np.random.Generator, size: ImageSize) -> FloatArray:
    """Uneven light in the tint of some lamp: gains, (H, W, 3) float32 around 0.9."""
    y = np.linspace(-0.5, 0.5, size.height, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, size.width, dtype=np.float32)[None, :]
    turn, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.22)
    gain = rng.uniform(0.78, 1.16) * (1.0 + np.float32(slope) * (np.cos(turn) * x + np.sin(turn) * y))
    gain -= np.float32(rng.uniform(0.0, 0.35)) * (x * x + y * y)
    gain += np.float32(0.02) * smooth_noise(rng, size, min(size) / 3)
    tint = _TINTS[int(rng.choice(len(_TINTS), p=_TINT_SHARES))]
    strength = np.float32(rng.uniform(0.3, 1.0))
    return np.stack([gain * (1.0 + strength * (channel - 1.0)) for channel in tint], axis=-1)


def through_jpeg(image: ByteArray, quality: int) -> ByteArray:
    """What a JPEG file of that quality keeps of a photograph; (H, W, 3) uint8, a new array."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def through_camera(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """A little blur, coarser colour than brightness as JPEG keeps it, and grain; (H, W, 3) uint8, a new array."""
    size = ImageSize(*image.shape[:2])
    picture = Image.fromarray(image)
    picture = picture.filter(ImageFilter.GaussianBlur(min(size) / 320 * float(rng.uniform(0.25, 0.8))))
    luma, *chroma = picture.convert("YCbCr").split()
    half = (max(1, size.width // 2), max(1, size.height // 2))
    box, smooth = Image.Resampling.BOX, Image.Resampling.BILINEAR
    chroma = [channel.resize(half, box).resize(picture.size, smooth) for channel in chroma]
    pixels = np.asarray(Image.merge("YCbCr", [luma, *chroma]).convert("RGB")).astype(np.float32)
    pixels += (np.float32(rng.uniform(0.8, 3.0)) * smooth_noise(rng, size, 1.5))[..., None]
    return np.asarray(np.clip(pixels + 0.5, 0, 255), dtype=np.uint8)
