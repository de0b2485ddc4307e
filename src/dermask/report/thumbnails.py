"""Thumbnails of thousands of photographs for one page: scaled while decoding, outlines as short paths, flat memory.

A path at the size of a thumbnail needs few points. It is simplified until it is short, and written in whole quarters of
a pixel, each point relative to the one before: some two hundred bytes where the exact border takes kilobytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import contourpy
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermask import contours, images, masks
from dermask.data.workers import WORKER_DIED, map_in_processes
from dermask.errors import InputError
from dermask.evaluation.photo_masks import TruthMasks, area
from dermask.records import BoolArray, ByteArray, ImageSize, Rle, Sample

UNITS = 4
"""Units of a path per pixel of the thumbnail."""
MAX_PATH = 400
"""Bytes of a path; above it the outline is made coarser."""
MAX_THUMBNAILS = 5000
"""Photographs of a page that get a thumbnail; with their outlines some 15 MB."""

_SIDES = ((600, 288), (2000, 208), (MAX_THUMBNAILS, 128))  # up to so many photographs: long side in pixels
_QUALITY = 62
_MOST_RINGS = 40  # of one outline; what is smaller is a speck
_TOLERANCE = 0.35  # pixels of the thumbnail that an outline may move by being simplified

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class ThumbnailTask:
    """One photograph to make small.

    Attributes:
        sample: The photograph with its labels.
        size: Its size, pixels.
        prediction: What was found, as one mask of that size.
        side: Long side of the thumbnail, pixels.
    """

    sample: Sample
    size: ImageSize
    prediction: Rle
    side: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One photograph, small.

    Attributes:
        image: Its pixels, base64 of a WebP file; empty where the photograph cannot be read.
        size: Of the thumbnail, pixels.
        truth_path: SVG path data of the labelled border, in `UNITS` per pixel; empty where there is no lesion.
        pred_path: The same for the prediction.
        lesion_share: Share of the photograph inside the labelled border, [0, 1].
        problem: Why there are no pixels; empty where there are.
    """

    image: str
    size: ImageSize
    truth_path: str
    pred_path: str
    lesion_share: float
    problem: str = ""


def thumbnail_side(count: int) -> int:
    """Long side of each thumbnail, pixels, of a page with that many: the file stays below some 20 MB."""
    return next((side for most, side in _SIDES if count <= most), _SIDES[-1][1])


def make_thumbnails(
    tasks: Sequence[ThumbnailTask], *, on_progress: Progress | None = None, processes: int | None = None
) -> Iterator[Thumbnail]:
    """The thumbnail of each task, in order, made in worker processes where there are many.

    Args:
        tasks: What to make small.
        on_progress: Called with the number done and of all after each.
        processes: How many work at it; None takes what the machine has.
    """
    for done, one in enumerate(
        map_in_processes(make_thumbnail, tasks, died=_without_pixels, processes=processes), start=1
    ):
        yield one
        if on_progress is not None:
            on_progress(done, len(tasks))


def make_thumbnail(task: ThumbnailTask) -> Thumbnail:
    """One photograph made small; one that cannot be read says why in `problem`, and keeps its outlines.

    Raises:
        InputError: An outline does not fit the photograph, or its mask image is unreadable.
    """
    size = small_size(task.size, task.side)
    truth = TruthMasks.from_sample(task.sample, task.size).union()
    try:
        image, problem = webp_base64(_read_small(task.sample, task.side, size)), ""
    except InputError as error:  # ImageError among them
        image, problem = "", error.problem
    return Thumbnail(
        image=image,
        size=size,
        truth_path=compact_path(truth, size),
        pred_path=compact_path(task.prediction, size),
        lesion_share=area(truth) / (task.size.height * task.size.width),
        problem=problem,
    )


def small_size(size: ImageSize, side: int) -> ImageSize:
    """`size` scaled to a long side of at most `side`; what is smaller stays as it is."""
    scale = min(1.0, side / max(size))
    return ImageSize(*(max(1, round(length * scale)) for length in size))


def webp_base64(image: ByteArray, *, quality: int = _QUALITY) -> str:
    """(H, W, 3) uint8 RGB as the base64 text of a WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=4)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def compact_path(mask: Rle, size: ImageSize, *, max_length: int = MAX_PATH) -> str:
    """The border of a mask as short SVG path data, holes included.

    Args:
        mask: Of any size.
        size: Of the thumbnail; the path's unit is 1 / `UNITS` of its pixels.
        max_length: Bytes; the outline is made coarser, and specks go, until it fits.

    Returns:
        Closed rings such as ``M120 44l8 3-2 9z``; empty for an empty mask.
    """
    rings = _rings(masks.rle_to_bitmask(mask), size)
    if not rings:
        return ""
    rings = sorted(rings, key=_ring_area, reverse=True)[:_MOST_RINGS]
    tolerance = _TOLERANCE
    while True:
        rings = [contours.simplify_ring(ring, tolerance) for ring in rings]
        parts = [part for ring in rings if (part := _ring_text(ring))]
        text = "".join(parts)
        if len(text) <= max_length:
            return text
        tolerance *= 1.5
        if tolerance > max(size) / 4:  # only very many rings come here: the largest are kept
            kept = parts[:1]
            for part in parts[1:]:
                if sum(map(len, kept)) + len(part) > max_length:
                    break
                kept.append(part)
            return "".join(kept)


def _without_pixels(task: ThumbnailTask) -> Thumbnail:
    return Thumbnail("", small_size(task.size, task.side), "", "", 0.0, WORKER_DIED)


def _read_small(sample: Sample, side: int, size: ImageSize) -> ByteArray:
    # The decoder's target is a short side; asking for the thumbnail's long side keeps enough pixels for any shape.
    image = sample.image
    return images.resize(image if isinstance(image, np.ndarray) else images.read_image(image, target_side=side), size)


def _rings(bitmask: BoolArray, size: ImageSize) -> list[NDArray[np.float64]]:
    """Closed borders at the thumbnail's scale, (K, 2) xy each, in pixels of the thumbnail."""
    if not bitmask.any():
        return []
    grey = Image.fromarray(np.ascontiguousarray(bitmask).view(np.uint8) * np.uint8(255))
    shares = np.asarray(grey.resize((size.width, size.height), Image.Resampling.BOX))
    padded = np.pad(shares, 1).astype(np.float32)
    lines = contourpy.contour_generator(
        x=np.arange(size.width + 2) - 0.5,  # pixel i has its centre at i + 0.5, and the padding comes before
        y=np.arange(size.height + 2) - 0.5,
        z=padded,
        line_type=contourpy.LineType.Separate,
    ).lines(127.5)
    high = np.array([size.width, size.height], np.float64)
    return [np.clip(np.asarray(line, np.float64)[:-1], 0, high) for line in lines]


def _ring_area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _ring_text(ring: NDArray[np.float64]) -> str:
    """A ring as path data in whole units, each point relative to the one before; empty where fewer than 3 are left."""
    units = np.rint(ring * UNITS).astype(np.int64)
    units = units[np.any(units != np.roll(units, 1, axis=0), axis=1)]
    if len(units) < 3:
        return ""
    steps = "".join(f"{x} {y} " for x, y in np.diff(units, axis=0).tolist())
    return f"M{units[0, 0]} {units[0, 1]}l{steps.rstrip().replace(' -', '-')}z"
