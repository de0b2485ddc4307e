"""Lesions of drawn scenes: where they lie, what outline they have, and the pigment inside.

A lesion's outline is the level line of a distance field that grows from its centre, stretched by an irregular radius in
each direction: one piece, without holes, exact at any size of photograph. Pigment fades out across that line.
H, W are the photograph's height and width; h, w those of the window around one lesion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dermask.data.scene_skin import Pigments, scatter_discs, scatter_vessels
from dermask.data.scene_texture import cell_net, fractal_noise, resize_field, smooth_noise, smooth_step
from dermask.records import BoolArray, FloatArray, ImageSize

_DIRECTIONS = 1024  # of the radius table, about one for each pixel along the border of a large lesion
_COARSE_SIDE = 80  # pixels of the longer side of the frame in which lesions are placed
_PLACING_ATTEMPTS = 16
_ROUNDS = 4
_GAP = 1.3  # a lesion keeps this factor of its own radius free before the next one begins
_REACH = 1.65  # pigment has faded to nothing at this multiple of the radius


@dataclass(frozen=True, slots=True, eq=False)
class LesionShape:
    """An outline in units of the frame.

    Attributes:
        centre: x and y as shares of width and height.
        radii: (_DIRECTIONS,) float32, relative radius in each direction.
        roughness: (G, G) float32 heights over the whole frame that ruffle the border.
        fade: Share of the radius over which pigment fades out, on the sharpest and on the softest side.
        soft_side: Direction of the softest side, radians.
        level: Distance that is the outline.
    """

    centre: tuple[float, float]
    radii: FloatArray
    roughness: FloatArray
    fade: tuple[float, float]
    soft_side: float
    level: float = 1.0

    def distance(self, size: ImageSize, window: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
        """Distance from the centre, 1 on the outline, and direction in radians; both (h, w) float32."""
        rows, columns = window
        side = np.float32(min(size))
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - self.centre[1] * size.height)) / side
        x = (
            np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - self.centre[0] * size.width)
        ) / side
        angle = np.arctan2(y[:, None], x[None, :])
        index = ((angle + np.float32(np.pi)) * np.float32(_DIRECTIONS / (2 * np.pi))).astype(np.int32) % _DIRECTIONS
        radius = np.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
        down, across = self.roughness.shape[0] / size.height, self.roughness.shape[1] / size.width
        box = (columns.start * across, rows.start * down, columns.stop * across, rows.stop * down)
        ruffle = resize_field(self.roughness, ImageSize(len(y), len(x)), box=box)
        return radius / (self.radii[index] * np.float32(self.level)) * (1.0 + ruffle), angle


def place_lesions(
    rng: np.random.Generator, size: ImageSize, count: int, visible: BoolArray, areas: tuple[float, float]
) -> list[LesionShape]:
    """Outlines that keep apart, largest first.

    Args:
        rng: Source of everything random.
        size: Of the photograph.
        count: How many.
        visible: (H, W) bool, where skin can be seen; a lesion's area counts only there.
        areas: Smallest and largest area, as shares of the frame.

    Returns:
        `count` shapes. Where they find no place they become smaller, never overlapping.
    """
    scale = _COARSE_SIDE / max(size)
    coarse = ImageSize(max(8, round(size.height * scale)), max(8, round(size.width * scale)))
    open_skin = resize_field(visible.astype(np.float32), coarse) > 0.5
    largest = areas[1] if count <= 1 else max(areas[0], min(areas[1], 0.45 / count))
    wanted = np.exp(rng.uniform(np.log(areas[0] * 1.15), np.log(max(largest, areas[0] * 1.16)), count))
    for _ in range(_ROUNDS):
        found = _place_once(rng, coarse, open_skin, np.sort(wanted)[::-1])
        if all(area >= areas[0] for area, _ in found):
            break
        wanted[:] = areas[0] * 1.15  # it was too tight
    return [shape for _, shape in found]


def _place_once(
    rng: np.random.Generator, size: ImageSize, visible: BoolArray, shares: NDArray[np.float64]
) -> list[tuple[float, LesionShape]]:
    """(area, shape) of one lesion for each share of the frame, in the order given."""
    taken = np.zeros(size, dtype=np.bool_)
    placed: list[tuple[float, LesionShape]] = []
    for share in shares:
        best: tuple[float, LesionShape, BoolArray] | None = None
        for _ in range(_PLACING_ATTEMPTS):
            shape = _random_shape(rng, alone=len(shares) == 1, share=float(share))
            found = _fit(shape, size, visible, taken, float(share))
            if best is None or found[0] > best[0]:
                best = found
            if best[0] >= 0.95 * share:
                break
        assert best is not None
        placed.append(best[:2])
        taken |= best[2]
    return placed


def _fit(
    shape: LesionShape, size: ImageSize, visible: BoolArray, taken: BoolArray, share: float
) -> tuple[float, LesionShape, BoolArray]:
    """Blow a shape up to its share of the frame, or until it comes near another: (area, shape, mask)."""
    distance, _ = shape.distance(size, (slice(0, size.height), slice(0, size.width)))
    inside = distance[visible]
    rank = min(len(inside) - 1, round(share * distance.size))
    level = float(np.partition(inside, rank)[rank])
    if taken.any():
        level = min(level, float(distance[taken].min()) / _GAP)
    mask = (distance < level) & visible
    return float(mask.mean()), replace(shape, level=max(level, 1e-3)), mask


def _random_shape(rng: np.random.Generator, *, alone: bool, share: float) -> LesionShape:
    if alone:  # the one lesion is what the photograph was taken of
        centre = np.clip(rng.normal(0.5, 0.09, 2), 0.2, 0.8)
    else:
        centre = rng.uniform(0.1, 0.9, 2)
    angles = np.linspace(-np.pi, np.pi, _DIRECTIONS, endpoint=False)
    stretch = np.exp(rng.uniform(0.0, 0.33))
    turned = angles - rng.uniform(0, np.pi)
    log_radius = -0.5 * np.log((np.cos(turned) / stretch) ** 2 + (np.sin(turned) * stretch) ** 2)
    orders = np.arange(2, 15)
    waves = np.zeros(_DIRECTIONS // 2 + 1, dtype=np.complex128)  # Fourier series; higher orders are weaker
    heights = rng.normal(size=orders.size) * rng.uniform(0.02, 0.14) * orders ** -rng.uniform(0.9, 1.7)
    waves[orders] = heights * np.exp(1j * rng.uniform(0, 2 * np.pi, orders.size)) * _DIRECTIONS
    log_radius += np.fft.irfft(waves, _DIRECTIONS)
    for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.35 else 0):  # notches and lobes
        away = np.remainder(angles - rng.uniform(0, 2 * np.pi), 2 * np.pi) - np.pi
        log_radius += rng.uniform(-0.4, 0.2) * np.exp(-0.5 * (away / rng.uniform(0.15, 0.4)) ** 2)
    # Hills of a third of the radius and of a sixth, bounded and low: distance still grows all the way outwards.
    cells = int(np.clip(3.0 / np.sqrt(share / np.pi), 6, 40))
    rough = rng.uniform(0.015, 0.055)
    coarse = np.clip(rng.standard_normal((cells, cells), dtype=np.float32), -1.3, 1.3)
    fine = np.clip(rng.standard_normal((2 * cells, 2 * cells), dtype=np.float32), -1.3, 1.3)
    roughness = np.float32(rough) * (resize_field(coarse, ImageSize(2 * cells, 2 * cells)) + np.float32(0.35) * fine)
    sharp = float(np.exp(rng.uniform(np.log(0.04), np.log(0.22))))
    return LesionShape(
        centre=(float(centre[0]), float(centre[1])),
        radii=np.exp(log_radius).astype(np.float32),
        roughness=roughness,
        fade=(sharp, sharp + float(rng.uniform(0.0, 0.25))),
        soft_side=float(rng.uniform(-np.pi, np.pi)),
    )


def paint_lesion(rng: np.random.Generator, shape: LesionShape, pigments: Pigments, allowed: BoolArray) -> BoolArray:
    """Add a lesion's pigment to the skin.

    Args:
        rng: Source of its look.
        shape: Where and how large.
        pigments: (H, W) fields of the whole photograph, changed in place.
        allowed: (H, W) bool, where the lesion may be: visible skin that no other lesion has taken.

    Returns:
        (H, W) bool, exactly the pixels where at least half of the lesion's pigment envelope lies, within `allowed`.
    """
    size = pigments.size
    window = _window(shape, size)
    distance, angle = shape.distance(size, window)
    sharp, soft = shape.fade
    fade = sharp + (soft - sharp) * (0.5 + 0.5 * np.cos(angle - np.float32(shape.soft_side)))
    envelope = smooth_step(distance, 1.0 + fade, 1.0 - fade)
    mask = np.zeros(size, dtype=np.bool_)
    mask[window] = (distance < 1.0) & allowed[window]
    look = _LOOKS[int(rng.choice(len(_LOOKS), p=_LOOK_SHARES))]
    look(_Brush(rng, pigments, window, distance, angle, envelope))
    return mask


def _window(shape: LesionShape, size: ImageSize) -> tuple[slice, slice]:
    """Rows and columns that hold all of a lesion's pigment."""
    scale = _COARSE_SIDE / max(size)
    coarse = ImageSize(max(8, round(size.height * scale)), max(8, round(size.width * scale)))
    distance, _ = shape.distance(coarse, (slice(0, coarse.height), slice(0, coarse.width)))
    near = distance < _REACH
    ranges = []
    for flags, full, small in (
        (near.any(axis=1), size.height, coarse.height),
        (near.any(axis=0), size.width, coarse.width),
    ):
        hits = np.flatnonzero(flags) if flags.any() else np.array([0, small - 1])
        first, last = hits[0] - 1, hits[-1] + 2  # one coarse pixel more on either side
        ranges.append(slice(max(0, int(first * full / small)), min(full, int(np.ceil(last * full / small)))))
    return ranges[0], ranges[1]


class _Brush:
    """One lesion while it is painted: its fields, (h, w) float32 each, and the ways to lay on pigment."""

    def __init__(
        self,
        rng: np.random.Generator,
        pigments: Pigments,
        window: tuple[slice, slice],
        distance: FloatArray,
        angle: FloatArray,
        envelope: FloatArray,
    ) -> None:
        self.rng = rng
        self.pigments = pigments
        self.window = window
        self.distance = distance
        self.angle = angle
        self.envelope = envelope
        self.size = ImageSize(*distance.shape)
        self.side = min(pigments.size)
        self.radius = float(np.sqrt(max(1, int((distance < 1.0).sum())) / np.pi))
        # Dark skin carries darker lesions; without this they would sink into it.
        self.contrast = 1.0 + 0.55 * pigments.tone

    def melanin(self, amount: FloatArray) -> None:
        self.pigments.melanin[self.window] += np.maximum(amount, 0.0) * np.float32(self.contrast)

    def body(self, low: float, high: float, *, zones: float = 0.5) -> FloatArray:
        """Pigment of the whole lesion: lighter and darker zones, a slope across, now and then a rim or a halo."""
        rng = self.rng
        depth = rng.uniform(low, high)
        hills = fractal_noise(rng, self.size, max(4.0, self.radius * rng.uniform(0.4, 0.9)))
        field = depth * np.clip(1.0 + np.float32(zones * 0.45) * hills, 0.3, 2.2)
        field *= 1.0 + np.float32(rng.uniform(0, 0.45) * zones) * self.distance * np.cos(
            self.angle - np.float32(rng.uniform(-np.pi, np.pi))
        )
        choice = rng.random()
        if choice < 0.25:  # darker rim
            field *= 1.0 + np.float32(rng.uniform(0.2, 0.6)) * smooth_step(self.distance, 0.55, 0.95)
        elif choice < 0.65:  # dark inside a paler margin
            inner = smooth_step(self.distance + np.float32(0.08) * hills, 1.0, rng.uniform(0.3, 0.75))
            field *= np.float32(0.45) + np.float32(0.75) * inner
        grain = fractal_noise(rng, self.size, max(5.0, self.side * rng.uniform(0.03, 0.07)), octaves=4)
        field *= np.clip(1.0 + np.float32(rng.uniform(0.08, 0.24)) * grain, 0.4, 1.8)
        self.blood(np.asarray(np.maximum(rng.uniform(0.0, 0.25) * (1.0 + hills), 0.0), dtype=np.float32))
        return np.asarray(field * self.envelope, dtype=np.float32)

    def net(self, field: FloatArray, strength: float) -> FloatArray:
        """Gather pigment into a network of lines, strongest towards the margin."""
        cell = self.side * self.rng.uniform(0.014, 0.028)
        lines = cell_net(self.rng, self.size, max(3.0, cell))
        where = smooth_step(self.distance, 0.1, 0.8) * np.clip(
            0.75 + 0.5 * smooth_noise(self.rng, self.size, max(4.0, self.radius * 0.6)), 0.15, 1.2
        )
        return np.asarray(field * (1.0 + np.float32(strength) * where * (1.9 * lines - 0.75)), dtype=np.float32)

    def streaks(self, field: FloatArray, strength: float) -> FloatArray:
        """Radial stripes near the margin; none at a strength of 0 or less."""
        table = self.rng.standard_normal(int(self.rng.integers(70, 170))).astype(np.float32)
        ring = resize_field(np.concatenate([table, table[:1]])[None], ImageSize(1, _DIRECTIONS))[0]
        index = ((self.angle + np.float32(np.pi)) * np.float32(_DIRECTIONS / (2 * np.pi))).astype(np.int32)
        # Only here and there, and darker rather than paler than their surroundings, as ink runs from a wet line.
        patches = np.clip(0.5 + 0.8 * smooth_noise(self.rng, self.size, max(4.0, self.radius * 0.5)), 0.0, 1.3)
        weight = smooth_step(self.distance, 0.55, 0.95) * patches * np.float32(max(0.0, strength))
        return np.asarray(field * np.clip(1.0 + weight * ring[index % _DIRECTIONS], 0.45, 2.5), dtype=np.float32)

    def dots(self, number: int, radius: float, *, ring: float = 0.0) -> FloatArray:
        """Discs inside the lesion, beyond the distance `ring`: dots, globules, cysts, openings."""
        return scatter_discs(self.rng, self.size, number, radius, (self.distance < 0.95) & (self.distance > ring))

    def blotch(self, share: float, *, softness: float = 0.5) -> FloatArray:
        """A soft patch of about that share of the lesion, somewhere inside; (h, w) in [0, 1]."""
        hills = smooth_noise(self.rng, self.size, max(4.0, self.radius * self.rng.uniform(0.5, 0.9)))
        inside = hills[self.distance < 0.85]
        cut = float(np.quantile(inside, 1.0 - share)) if inside.size else 0.0
        patch = smooth_step(hills, cut - softness, cut + softness) * smooth_step(self.distance, 0.98, 0.7)
        return np.asarray(patch, dtype=np.float32)

    def veil(self, amount: FloatArray) -> None:
        self.pigments.veil[self.window] = np.maximum(self.pigments.veil[self.window], amount * self.envelope)

    def scar(self, amount: FloatArray) -> None:
        self.pigments.scar[self.window] = np.maximum(self.pigments.scar[self.window], amount * self.envelope)

    def blood(self, amount: FloatArray) -> None:
        self.pigments.blood[self.window] += amount * self.envelope

    def black(self, amount: FloatArray) -> None:
        self.pigments.black[self.window] += amount * self.envelope


def _reticular(brush: _Brush) -> None:
    field = brush.net(brush.body(0.35, 1.4), brush.rng.uniform(0.3, 0.85))
    if brush.rng.random() < 0.35:
        field += brush.rng.uniform(0.5, 1.4) * brush.blotch(0.2) * brush.envelope
    brush.melanin(field)
    brush.blood(np.full(brush.size, brush.rng.uniform(0.0, 0.35), dtype=np.float32))


def _globular(brush: _Brush) -> None:
    rng = brush.rng
    field = brush.body(0.45, 1.2, zones=0.35)
    radius = brush.side * rng.uniform(0.006, 0.013)
    number = int(np.clip((brush.radius / radius) ** 2 * rng.uniform(0.1, 0.3), 12, 260))
    ring = 0.7 if rng.random() < 0.3 else 0.0
    field += rng.uniform(0.4, 1.0) * brush.dots(number, radius, ring=ring) * brush.envelope
    brush.melanin(field)
    brush.blood(np.full(brush.size, rng.uniform(0.1, 0.5), dtype=np.float32))


def _dark(brush: _Brush) -> None:
    rng = brush.rng
    field = brush.streaks(brush.body(1.4, 2.8, zones=0.5), rng.uniform(0.0, 0.5))
    brush.melanin(brush.net(field, rng.uniform(0.0, 0.5)))
    core = smooth_step(brush.distance, 0.95, rng.uniform(0.35, 0.8))
    brush.black(np.asarray(rng.uniform(0.1, 0.9) * core, dtype=np.float32))
    if rng.random() < 0.5:
        brush.veil(rng.uniform(0.2, 0.6) * brush.blotch(0.35))


def _mixed(brush: _Brush) -> None:
    rng = brush.rng
    field = brush.body(0.8, 1.9, zones=0.9)
    field = brush.net(field, rng.uniform(0.2, 0.8))
    field = brush.streaks(field, rng.uniform(-0.6, 0.45))
    field += rng.uniform(0.7, 1.8) * brush.blotch(rng.uniform(0.1, 0.3), softness=0.3) * brush.envelope
    pale = brush.blotch(rng.uniform(0.1, 0.3))
    field *= 1.0 - np.float32(rng.uniform(0.4, 0.8)) * pale
    field += 0.8 * brush.dots(int(rng.integers(5, 40)), brush.side * rng.uniform(0.004, 0.009)) * brush.envelope
    brush.melanin(field)
    brush.scar(rng.uniform(0.1, 0.35) * pale)
    brush.blood(rng.uniform(0.2, 0.9) * brush.blotch(0.35))
    if rng.random() < 0.6:
        brush.veil(rng.uniform(0.35, 0.75) * brush.blotch(rng.uniform(0.15, 0.35)))


def _pink(brush: _Brush) -> None:
    rng = brush.rng
    brush.melanin(brush.body(0.12, 0.45, zones=0.9))
    hills = fractal_noise(rng, brush.size, max(4.0, brush.radius * 0.5))
    brush.blood(np.asarray(rng.uniform(0.35, 0.8) * np.clip(1.0 + 0.35 * hills, 0.3, 2.0), dtype=np.float32))
    brush.blood(0.7 * scatter_vessels(rng, brush.size, int(rng.integers(4, 16)), length=0.8 * brush.radius))
    if rng.random() < 0.5:
        brush.melanin(rng.uniform(0.5, 1.2) * brush.blotch(0.12) * brush.envelope)
    if rng.random() < 0.5:
        brush.scar(rng.uniform(0.1, 0.3) * brush.blotch(0.25))


def _blue(brush: _Brush) -> None:
    rng = brush.rng
    brush.melanin(brush.body(0.5, 1.4, zones=0.3))
    brush.veil(np.full(brush.size, rng.uniform(0.4, 0.7), dtype=np.float32))
    brush.black(np.asarray(rng.uniform(0.1, 0.7) * smooth_step(brush.distance, 1.0, 0.3), dtype=np.float32))


def _warty(brush: _Brush) -> None:
    rng = brush.rng
    field = brush.body(0.5, 1.3, zones=0.4)
    field *= 1.0 - 0.35 * cell_net(rng, brush.size, max(4.0, brush.side * rng.uniform(0.03, 0.06)))
    cysts = brush.dots(int(rng.integers(5, 30)), brush.side * 0.007)
    brush.melanin(field * (1.0 - 0.6 * cysts))
    brush.scar(0.45 * cysts)
    brush.black(1.1 * brush.dots(int(rng.integers(3, 22)), brush.side * 0.008))


_LOOKS = (_reticular, _globular, _dark, _mixed, _pink, _blue, _warty)
_LOOK_SHARES = (0.26, 0.16, 0.14, 0.20, 0.10, 0.05, 0.09)
