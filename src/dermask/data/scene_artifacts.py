"""Draw what lies between camera and skin: hair, rulers, gel bubbles and ink.

All functions take a photograph of any size and give a new one. Training uses hair and rulers as augmentation, the drawn
scenes of `dermask.data.synthetic` carry all of it. Lengths follow the photograph's shorter side, so a hair is
as thick on a large photograph as on a small one. H, W are the photograph's height and width; points are xy pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermask.data.scene_texture import Stencil, fractal_noise, smooth_noise, soften
from dermask.records import ByteArray, ImageSize

Colour = tuple[int, int, int]
Points = NDArray[np.float64]

# Black, dark brown, light brown, blond, white, and how often each is seen.
_HAIR_COLOURS: tuple[Colour, ...] = ((26, 20, 20), (62, 36, 24), (104, 62, 34), (168, 120, 72), (222, 214, 204))
_HAIR_SHARES = (0.40, 0.28, 0.16, 0.08, 0.08)
_HAIR_POINTS = 24
_LETTER_M = np.array([(0.0, 1.0), (0.0, 0.0), (0.45, 0.8), (0.9, 0.0), (0.9, 1.0)])


def draw_hair(image: ByteArray, rng: np.random.Generator, *, count: int | None = None) -> ByteArray:
    """Lay hair over a photograph: long curved hairs, or now and then the stubble of shaved skin.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        rng: Source of everything random.
        count: Number of hairs; None draws 2 to 50, few being more likely than many.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    size = ImageSize(*image.shape[:2])
    side = min(size)
    shaved = rng.random() < 0.2
    number = int(np.exp(rng.uniform(np.log(2.5), np.log(50.0)))) if count is None else count
    colour = np.array(_HAIR_COLOURS[int(rng.choice(len(_HAIR_COLOURS), p=_HAIR_SHARES))])
    # Where hair is dense it is mostly fine, or there would be no skin left to see.
    thickest = 0.0045 if number > 25 and not shaved else 0.0085
    thickness = side * np.exp(rng.uniform(np.log(0.0022), np.log(thickest)))
    lengths = side * (rng.uniform(0.015, 0.05, number) if shaved else rng.uniform(0.3, 1.6, number))
    paths = _hair_paths(rng, number, lengths, size, straight=shaved)
    widths = thickness * rng.uniform(0.55, 1.25, number)

    result = Image.fromarray(image)
    tone_of = rng.random(number) < 0.5
    for tone, chosen in ((0.85, tone_of), (1.25, ~tone_of)):  # hairs of one person are not all alike
        stencil = Stencil(size)
        for path, width in zip(paths[chosen], widths[chosen], strict=True):
            stencil.stroke(path, width * _taper(_HAIR_POINTS, blunt=shaved))
        shade = np.clip(colour * tone, 0, 255).astype(int)
        result = _cover(result, stencil, (int(shade[0]), int(shade[1]), int(shade[2])), opacity=rng.uniform(0.72, 1.0))
    if thickness > 0.005 * side and not shaved:  # thick hairs shine along one side
        shine = Stencil(size)
        for path, width in zip(paths, widths, strict=True):
            shine.stroke(path - width * 0.18, 0.28 * width * _taper(_HAIR_POINTS, blunt=False))
        result = _cover(result, shine, (214, 190, 176), opacity=0.35)
    return np.array(result)


def draw_ruler(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Lay a millimetre scale over a photograph: a line of ticks, each fifth or tenth longer, often marked "mm".

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        rng: Source of everything random.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    size = ImageSize(*image.shape[:2])
    side = min(size)
    step = side * rng.uniform(0.025, 0.07)
    ticks = min(int(rng.integers(9, 26)), int(0.9 * max(size) / step))
    major = int(rng.choice([5, 10]))
    pen = max(0.5, side * rng.uniform(0.002, 0.0045))
    tall = side * rng.uniform(0.03, 0.055)
    place = _ruler_frame(rng, size, ticks * step)

    stencil = Stencil(size)
    if rng.random() < 0.7:
        stencil.stroke(place(np.array([(0.0, 0.0), (ticks * step, 0.0)])), pen)
    for tick in range(ticks + 1):
        height = tall * (1.0 if tick % major == 0 else 0.6)
        stencil.stroke(place(np.array([(tick * step, 0.0), (tick * step, -height)])), pen)
    if rng.random() < 0.7:
        letter = tall * 0.75
        for index in range(2):
            stencil.stroke(place(_LETTER_M * letter + ((1.15 * index) * letter, 0.45 * tall)), pen)
    grey = int(rng.integers(10, 70))
    return np.array(_cover(Image.fromarray(image), stencil, (grey, grey, grey), opacity=rng.uniform(0.6, 1.0)))


def _ruler_frame(rng: np.random.Generator, size: ImageSize, length: float) -> Callable[[Points], Points]:
    """Maps points along (x) and across (y) the ruler, whose ticks rise towards negative y, into the photograph."""
    angle = rng.normal(0.0, 0.12) if rng.random() < 0.65 else rng.uniform(-np.pi, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-np.sin(angle), np.cos(angle)])
    extent = np.array([size.width, size.height], dtype=float)
    # Near the border, ticks pointing inwards: that is where people lay it beside a lesion.
    middle = extent * 0.5 + across * extent * rng.uniform(0.25, 0.46) + along * extent * rng.uniform(-0.15, 0.15)
    origin = middle - along * length * 0.5

    def place(points: Points) -> Points:
        return np.asarray(origin + points[:, :1] * along + points[:, 1:] * across, dtype=np.float64)

    return place


def _hair_paths(rng: np.random.Generator, count: int, lengths: Points, size: ImageSize, *, straight: bool) -> Points:
    """(count, K, 2) xy points: hairs lie roughly one way, bend at their own rate, and some curl back."""
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0.0, rng.uniform(0.15, 0.9), count)
    bend = rng.normal(0.0, 0.15 if straight else 0.9, count)
    curl = rng.normal(0.0, 0.05 if straight else 0.45, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    t = np.linspace(-0.5, 0.5, _HAIR_POINTS)
    angle = heading[:, None] + bend[:, None] * t + curl[:, None] * np.sin(2 * np.pi * t + phase[:, None])
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * (lengths / _HAIR_POINTS)[:, None, None]
    path = np.cumsum(steps, axis=1)
    middle = rng.uniform(-0.05, 1.05, (count, 2)) * (size.width, size.height)
    return np.asarray(path - path.mean(axis=1, keepdims=True) + middle[:, None], dtype=np.float64)


def _taper(points: int, *, blunt: bool) -> Points:
    """(points,) share of the full width along a hair; a cut hair ends bluntly, a grown one thins out."""
    t = np.linspace(0.0, 1.0, points)
    return np.full(points, 1.0) if blunt else np.clip(4.0 * (1.0 - t), 0.15, 1.0)


def _cover(image: Image.Image, stencil: Stencil, colour: Colour, *, opacity: float) -> Image.Image:
    mask = stencil.finish(opacity=opacity)
    return Image.composite(Image.new("RGB", image.size, colour), image, mask)


def draw_bubbles(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Air bubbles in the contact gel, in clusters: thin dark rims, bright arcs, glints; (H, W, 3) uint8, a copy."""
    size = ImageSize(*image.shape[:2])
    side = min(size)
    rims, lights = Stencil(size), Stencil(size)
    lamp = rng.uniform(0, 2 * np.pi)
    toward = np.array([np.cos(lamp), np.sin(lamp)])
    for _ in range(int(rng.integers(1, 4))):
        middle = rng.random(2) * (size.width, size.height)
        for _ in range(int(rng.integers(2, 9))):
            centre = middle + rng.normal(0, 0.09 * side, 2)
            radius = side * float(np.exp(rng.uniform(np.log(0.006), np.log(0.045))))
            turns = np.linspace(0, 2 * np.pi, 28)
            circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
            rims.stroke(centre + radius * circle, max(0.7, 0.1 * radius), value=int(rng.integers(90, 170)))
            arc = lamp + np.linspace(-0.9, 0.9, 14)
            bow = 0.82 * radius * np.stack([np.cos(arc), np.sin(arc)], axis=1)
            lights.stroke(centre + bow, np.sin(np.linspace(0.1, 3.0, 14)) * max(1.0, 0.16 * radius), value=150)
            lights.stroke(centre - 0.9 * bow, max(0.6, 0.06 * radius), value=90)
            x, y = centre + 0.5 * radius * toward
            lights.disc((float(x), float(y)), (max(0.8, 0.12 * radius),) * 2, value=255)
    result = _cover(Image.fromarray(image), rims, (84, 62, 58), opacity=rng.uniform(0.35, 0.7))
    return np.array(_cover(result, lights, (255, 252, 248), opacity=rng.uniform(0.7, 1.0)))


def draw_ink(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Marks of a surgical pen, patchy where skin stayed dry, near the frame's edge; (H, W, 3) uint8, a new array."""
    size = ImageSize(*image.shape[:2])
    side = min(size)
    stencil = Stencil(size)
    turn = rng.uniform(0, 2 * np.pi)
    middle = np.array([size.width, size.height]) * (0.5 + 0.44 * np.array([np.cos(turn), np.sin(turn)]))
    width = side * rng.uniform(0.012, 0.035)
    t = np.linspace(-0.5, 0.5, 20)
    for _ in range(int(rng.integers(1, 5))):
        heading = turn + 0.5 * np.pi + rng.normal(0, 0.5)
        bend = rng.normal(0, 1.2)
        steps = np.stack([np.cos(heading + bend * t), np.sin(heading + bend * t)], axis=1)
        path = np.cumsum(steps, axis=0) * side * rng.uniform(0.1, 0.4) / len(t)
        path = path - path.mean(axis=0) + middle + rng.normal(0, 0.05 * side, 2)
        stencil.stroke(path, width * rng.uniform(0.6, 1.3))
    patchy = fractal_noise(rng, size, max(3.0, side * 0.035), octaves=3)
    patchy += smooth_noise(rng, size, max(1.2, side * 0.004), stretch=3.0)
    share = np.clip(soften(stencil.field(), 0.004 * side) * (rng.uniform(0.5, 0.75) + 0.16 * patchy), 0.0, 0.95)
    ink = np.array([(62, 34, 118), (48, 42, 110), (36, 30, 52), (30, 60, 130)][int(rng.integers(4))], dtype=np.float32)
    return np.asarray(image + share[..., None] * (ink - image), dtype=np.uint8)
