"""Building blocks of drawn scenes: smooth noise, soft steps, and smooth-edged strokes and discs.

Fields are (H, W) float32 unless a name says otherwise; points are xy in pixels, pixel i covering [i, i + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from dermask.records import FloatArray, ImageSize


def smooth_noise(rng: np.random.Generator, size: ImageSize, cell: float, *, stretch: float = 1.0) -> FloatArray:
    """Smooth random hills, standard normal at the grid points.

    Args:
        rng: Source of the heights.
        size: Height and width of the field.
        cell: Distance between neighbouring heights, pixels; the size of a hill.
        stretch: Cells are this many times wider than tall.

    Returns:
        (H, W) float32.
    """
    rows = max(2, int(np.ceil(size.height / cell)) + 1)
    columns = max(2, int(np.ceil(size.width / (cell * stretch))) + 1)
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return resize_field(grid, size)


def fractal_noise(rng: np.random.Generator, size: ImageSize, cell: float, *, octaves: int = 3) -> FloatArray:
    """Smooth noise at several sizes of hill, each half as large and half as high as the one before."""
    rows, columns = (max(2, int(np.ceil(length / cell)) + 1) for length in size)
    field = rng.standard_normal((rows, columns), dtype=np.float32)
    for octave in range(1, octaves):  # summed on the finest grid, so that only one field is stretched in full
        grid = ImageSize(rows * 2**octave, columns * 2**octave)
        field = resize_field(field, grid)
        field += rng.standard_normal(grid, dtype=np.float32) * np.float32(0.5**octave)
    return resize_field(field, size)


def resize_field(
    field: FloatArray, size: ImageSize, *, box: tuple[float, float, float, float] | None = None
) -> FloatArray:
    """A field stretched to another size, bicubic; `box` (x1, y1, x2, y2) takes only that part of it."""
    picture = Image.fromarray(field)
    resized = picture.resize((size.width, size.height), Image.Resampling.BICUBIC, box=box)
    return np.array(resized, dtype=np.float32)


def cell_net(rng: np.random.Generator, size: ImageSize, cell: float) -> FloatArray:
    """Lines around irregular round cells, as a fishing net has them: pigment networks and skin lines.

    Args:
        rng: Source of the cells' places.
        size: Height and width of the field.
        cell: Mean distance between cells, pixels.

    Returns:
        (H, W) float32 in [0, 1], 1 on the lines, 0 in the middle of cells.

    Source:
        Worley 1996, "A cellular texture basis function": distance to the second nearest point minus the nearest.
    """
    # Nine distances for each pixel: worth taking at half size where the cells stay several pixels wide.
    half = 2 if cell >= 7 else 1
    small = ImageSize(-(-size.height // half), -(-size.width // half))
    step = np.float32(cell / half)
    ys = (np.arange(small.height, dtype=np.float32) + 0.5) / step
    xs = (np.arange(small.width, dtype=np.float32) + 0.5) / step
    rows, columns = ys.astype(np.int32), xs.astype(np.int32)
    jitter = rng.random((2, rows[-1] + 3, columns[-1] + 3), dtype=np.float32) * np.float32(0.9)
    nearest = np.full(small, 9.0, dtype=np.float32)
    second = nearest.copy()
    for down in range(3):
        for right in range(3):
            place = np.ix_(rows + down, columns + right)
            dy = jitter[0][place] + (rows + (down - 1) - ys).astype(np.float32)[:, None]
            dx = jitter[1][place] + (columns + (right - 1) - xs).astype(np.float32)
            distance = dy * dy + dx * dx
            np.minimum(second, np.maximum(nearest, distance), out=second)
            np.minimum(nearest, distance, out=nearest)
    lines = np.clip(1.0 - 1.6 * (np.sqrt(second) - np.sqrt(nearest)), 0.0, 1.0).astype(np.float32)
    return resize_field(lines, size).clip(0.0, 1.0) if half > 1 else lines


def smooth_step(field: FloatArray, low: float | FloatArray, high: float | FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, and a soft S between; `low` may be the larger, which turns it round."""
    t = np.clip((field - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def soften(field: FloatArray, radius: float) -> FloatArray:
    """A field with its details under about `radius` pixels smoothed away."""
    if radius < 0.75:
        return field
    rows, columns = field.shape
    small = ImageSize(max(2, round(rows / radius)), max(2, round(columns / radius)))
    return np.clip(resize_field(resize_field(field, small), ImageSize(rows, columns)), 0.0, 1.0)


class Stencil:
    """A mask under the pen: drawn oversampled, so that strokes thinner than a pixel come out smooth."""

    def __init__(self, size: ImageSize) -> None:
        longest = max(size)
        self._factor = 3 if longest <= 800 else 2 if longest <= 2400 else 1  # memory before smoothness
        self._mask = Image.new("L", (size.width * self._factor, size.height * self._factor), 0)
        self._pen = ImageDraw.Draw(self._mask)

    def stroke(self, points: NDArray[np.float64], widths: ArrayLike, *, value: int = 255) -> None:
        """Draw a curve.

        Args:
            points: (K, 2) xy, K >= 2.
            widths: Thickness in pixels, one for all or (K,) one for each point.
            value: Strength, 0 to 255.
        """
        along = np.diff(points, axis=0)
        along = np.concatenate([along, along[-1:]])
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None]
        # The filled outline covers the pixels it runs through, about one oversampled pixel more than asked for.
        half = np.maximum(np.broadcast_to(widths, len(points)) * self._factor - 1.0, 0.0)[:, None] * 0.5
        middle = points * self._factor
        outline = np.concatenate([middle + across * half, (middle - across * half)[::-1]])
        self._pen.polygon(outline.ravel().tolist(), fill=value)

    def disc(self, centre: tuple[float, float], radii: tuple[float, float], *, value: int = 255) -> None:
        """Draw a filled ellipse with its axes along the frame; `radii` in x and y."""
        (x, y), (rx, ry) = centre, radii
        f = self._factor
        self._pen.ellipse(((x - rx) * f, (y - ry) * f, (x + rx) * f, (y + ry) * f), fill=value)

    def finish(self, *, opacity: float = 1.0) -> Image.Image:
        """The mask at the photograph's own size, mode L, its strength multiplied by `opacity`."""
        mask = self._mask.reduce(self._factor) if self._factor > 1 else self._mask
        return mask if opacity >= 1.0 else mask.point([round(level * opacity) for level in range(256)])

    def field(self) -> FloatArray:
        """The mask as (H, W) float32 in [0, 1]."""
        return np.asarray(self.finish(), dtype=np.float32) * np.float32(1 / 255)
