"""Skin of drawn scenes, as amounts of what colours it.

Light enters skin, is scattered back, and loses on its way what melanin and blood absorb; so each colour is the pale
dermis darkened by the amounts above it (Beer and Lambert's law). Skin tones and the browns of lesions on them then
match by themselves, from very light skin to very dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dermask.data.scene_texture import Stencil, cell_net, fractal_noise, smooth_noise, soften
from dermask.records import BoolArray, FloatArray, ImageSize

# Absorption in red, green and blue, per unit of pigment; chosen by eye against dermoscopy photographs.
_MELANIN = np.array([0.36, 0.68, 1.05], dtype=np.float32)
_BLOOD = np.array([0.06, 0.52, 0.42], dtype=np.float32)
_DERMIS = np.array([0.99, 0.90, 0.86], dtype=np.float32)
# Melanin deep down looks blue, because what lies above scatters blue light back; scars are whitish.
_VEIL = np.array([0.40, 0.46, 0.58], dtype=np.float32)
_SCAR = np.array([0.93, 0.84, 0.83], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Pigments:
    """What colours the skin at each pixel; (H, W) float32 each, changed in place while the scene is built.

    Attributes:
        tone: Melanin of the bare skin, 0 for the lightest to about 1.6 for the darkest.
        melanin: Brown, from 0 upwards; a light-brown lesion has about 1.
        blood: Red, from 0 upwards.
        black: Absorbs all colours alike, from 0 upwards.
        veil: Share of blue-grey, 0 to 1.
        scar: Share of white, 0 to 1.
    """

    tone: float
    melanin: FloatArray
    blood: FloatArray
    black: FloatArray
    veil: FloatArray
    scar: FloatArray

    @property
    def size(self) -> ImageSize:
        """Height and width."""
        return ImageSize(*self.melanin.shape)

    def render(self) -> FloatArray:
        """(H, W, 3) float32 RGB, 0 black to 1 white."""
        image = np.empty((*self.size, 3), dtype=np.float32)
        shade = np.exp(-0.35 * self.melanin - self.black)  # veil and scar lie among the pigment, not on top of it
        layers = [(share, colour) for share, colour in ((self.veil, _VEIL), (self.scar, _SCAR)) if share.any()]
        for channel in range(3):
            absorbed = self.melanin * _MELANIN[channel] + self.blood * _BLOOD[channel] + self.black
            plane = _DERMIS[channel] * np.exp(-absorbed)
            for share, colour in layers:
                plane += share * (shade * colour[channel] - plane)
            image[..., channel] = plane
        return image


def bare_skin(rng: np.random.Generator, size: ImageSize, tone: float) -> Pigments:
    """Skin without lesions: mottled, finely lined, a little ruddy.

    Args:
        rng: Source of everything random.
        size: Height and width.
        tone: Melanin, 0 (very light) to about 1.6 (very dark).
    """
    side = min(size)
    melanin = np.full(size, 0.02 + 0.72 * tone, dtype=np.float32)
    melanin += np.float32(0.022 + 0.03 * tone) * fractal_noise(rng, size, side / rng.uniform(3, 9), octaves=4)
    melanin += np.float32(rng.uniform(0.01, 0.035)) * smooth_noise(rng, size, max(1.5, side * 0.009))
    lines = cell_net(rng, size, max(3.0, side * rng.uniform(0.015, 0.03)))
    melanin += np.float32(rng.uniform(0.0, 0.03) + 0.09 * tone) * (lines - 0.3)
    blood = np.full(size, rng.uniform(0.0, 0.34), dtype=np.float32)
    blood += np.float32(rng.uniform(0.015, 0.05)) * fractal_noise(rng, size, side / rng.uniform(4, 16), octaves=4)
    blood += np.float32(rng.uniform(0.01, 0.03)) * smooth_noise(rng, size, max(1.5, side * 0.006), stretch=2.5)
    np.maximum(melanin, 0.0, out=melanin)
    np.maximum(blood, 0.0, out=blood)
    black, veil, scar = np.zeros((3, *size), dtype=np.float32)
    black += np.float32(0.22 * tone)  # dark skin is less orange than melanin alone would make it
    return Pigments(tone, melanin, blood, black, veil, scar)


def add_freckles(rng: np.random.Generator, pigments: Pigments) -> None:
    """Pale brown spots, far smaller than any lesion."""
    size, side = pigments.size, min(pigments.size)
    spots = scatter_discs(rng, size, int(rng.integers(10, 70)), side * rng.uniform(0.004, 0.009), blur=side * 0.006)
    pigments.melanin[...] += np.float32(rng.uniform(0.15, 0.45)) * spots


def add_pores(rng: np.random.Generator, pigments: Pigments) -> None:
    """Hair follicles: small dots, darker or paler than the skin."""
    size, side = pigments.size, min(pigments.size)
    pores = scatter_discs(rng, size, int(rng.integers(40, 160)), side * rng.uniform(0.004, 0.008), blur=side * 0.005)
    amount = rng.uniform(0.08, 0.22) if rng.random() < 0.6 else -rng.uniform(0.08, 0.2)
    pigments.melanin[...] = np.maximum(pigments.melanin + np.float32(amount) * pores, 0.0)


def add_vessels(rng: np.random.Generator, pigments: Pigments) -> None:
    """Fine red vessels in the skin."""
    reds = scatter_vessels(rng, pigments.size, int(rng.integers(6, 30)), length=0.22 * min(pigments.size))
    pigments.blood[...] += np.float32(rng.uniform(0.25, 0.6)) * reds


def scatter_discs(
    rng: np.random.Generator,
    size: ImageSize,
    number: int,
    radius: float,
    where: BoolArray | None = None,
    *,
    blur: float = 0.0,
) -> FloatArray:
    """Roundish spots of about one radius in random places.

    Args:
        rng: Source of places, sizes and strengths.
        size: Height and width.
        number: How many to try; those outside `where` are left out.
        radius: Mean radius, pixels.
        where: (H, W) bool, where a spot's centre may lie; None is everywhere.
        blur: Softness of the rims, pixels.

    Returns:
        (H, W) float32 in [0, 1].
    """
    x, y = rng.random((2, number)) * np.array([[size.width], [size.height]])
    radii = radius * np.exp(rng.normal(0.0, 0.35, (number, 1))) * np.exp(rng.normal(0.0, 0.15, (number, 2)))
    values = rng.integers(110, 256, number)
    kept = np.ones(number, dtype=np.bool_) if where is None else where[y.astype(int), x.astype(int)]
    stencil = Stencil(size)
    for index in np.flatnonzero(kept):
        stencil.disc((x[index], y[index]), (radii[index, 0], radii[index, 1]), value=int(values[index]))
    return soften(stencil.field(), max(blur, 0.25 * radius))


def scatter_vessels(rng: np.random.Generator, size: ImageSize, number: int, *, length: float) -> FloatArray:
    """Winding thin lines of about one length, pixels; (H, W) float32 in [0, 1]."""
    side = min(size)
    stencil = Stencil(size)
    for _ in range(number):
        points = 14
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.4, points))
        steps = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (length * rng.uniform(0.4, 1.3) / points)
        path = rng.random(2) * (size.width, size.height) + np.cumsum(steps, axis=0)
        stencil.stroke(path, max(0.7, side * rng.uniform(0.002, 0.005)), value=int(rng.integers(90, 255)))
    return soften(stencil.field(), side * 0.002)
