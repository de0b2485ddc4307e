"""What a data set holds, in figures: one pass over the photographs, in worker processes, in flat memory.

Outlines are measured at the photograph's own size; colours, sharpness and compactness on a small copy, so that
photographs of different cameras compare. A photograph that cannot be read is counted and named, never fatal.

Shapes: H, W of the photograph, h, w of its small copy, G the side of the position map.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import contourpy
import numpy as np
from PIL import Image, ImageFilter

from dermask import images, masks
from dermask.data.dataset import Dataset
from dermask.data.skin_tone import ITA_BINS, SkinTone, skin_tone
from dermask.data.workers import WORKER_DIED, map_in_processes
from dermask.errors import ImageError, InputError, LabelError
from dermask.records import BoolArray, ByteArray, FloatArray, ImageSize, PhotoInfo, Sample

SMALL_SIDE = 384
"""Long side of the copy on which colours, sharpness and compactness are measured, pixels."""
GRID = 32
"""Cells of the position map in each direction."""

_NO_SIZE = ImageSize(0, 0)

Colour = tuple[int, int, int]


class LesionFigures(NamedTuple):
    """One outline.

    Attributes:
        label: Class from 1.
        area: Pixels of the photograph.
        area_share: Of the photograph's area, in [0, 1].
        diameter: Of the circle of the same area, pixels of the photograph.
        diameter_share: The same, over the photograph's short side.
        compactness: 4 pi area / perimeter squared: 1 for a circle, less the more ragged or the longer.
        touches_border: Whether it reaches the edge of the photograph.
    """

    label: int
    area: int
    area_share: float
    diameter: float
    diameter_share: float
    compactness: float
    touches_border: bool


@dataclass(frozen=True, slots=True)
class PhotoFigures:
    """One photograph.

    Attributes:
        image_id: Which.
        size: Its height and width.
        lesions: Its outlines with at least one pixel; crowd regions are left out.
        brightness: Mean luma, 0 to 255.
        sharpness: Variance of the luma's Laplacian on the small copy; higher is sharper, and hair counts too.
        lesion_colour: Mean sRGB inside the outlines; None without any.
        around_colour: Mean sRGB outside them.
        skin: Tone of the skin around them; None where there is too little skin to tell.
        problem: Why it could not be read; empty where it could. Nothing else is then known but the id.
    """

    image_id: str
    size: ImageSize = _NO_SIZE
    lesions: tuple[LesionFigures, ...] = ()
    brightness: float = 0.0
    sharpness: float = 0.0
    lesion_colour: Colour | None = None
    around_colour: Colour | None = None
    skin: SkinTone | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PartStatistics:
    """The figures of one part of the data.

    Attributes:
        name: Of the part.
        class_names: Name of label i at index i - 1.
        photographs: Those that could be read, in order.
        unreadable: The others, each with `problem`.
        position: (G, G) float64, share of the photographs with a lesion that have lesion in that place, each
            photograph stretched onto the grid.
        left_out: Lines about what the labels' reader left out.
        diagnoses: How many photographs have which diagnosis, most frequent first, as the metadata names it.
    """

    name: str
    class_names: tuple[str, ...]
    photographs: tuple[PhotoFigures, ...]
    unreadable: tuple[PhotoFigures, ...] = ()
    position: np.ndarray = field(default_factory=lambda: np.zeros((GRID, GRID)))
    left_out: tuple[str, ...] = ()
    diagnoses: Mapping[str, int] = field(default_factory=dict)

    @property
    def lesions(self) -> list[LesionFigures]:
        """The outlines of all photographs."""
        return [lesion for photograph in self.photographs for lesion in photograph.lesions]

    @property
    def tones(self) -> list[SkinTone]:
        """The skin tones of the photographs that have one."""
        return [photograph.skin for photograph in self.photographs if photograph.skin is not None]

    def count_bins(self) -> dict[str, int]:
        """Photographs in each bin of skin tone, darkest first."""
        counts = Counter(tone.bin for tone in self.tones)
        return {name: counts[name] for name, _ in ITA_BINS}

    def count_classes(self) -> dict[str, int]:
        """Outlines of each class."""
        counts = Counter(lesion.label for lesion in self.lesions)
        return {name: counts[label] for label, name in enumerate(self.class_names, start=1)}

    def count_outlines(self) -> dict[int, int]:
        """Photographs with each number of outlines."""
        return dict(sorted(Counter(len(photograph.lesions) for photograph in self.photographs).items()))

    def count_sizes(self) -> dict[ImageSize, int]:
        """Photographs of each size, most frequent first."""
        return dict(Counter(photograph.size for photograph in self.photographs).most_common())


def measure(
    name: str,
    dataset: Dataset,
    *,
    metadata: Mapping[str, PhotoInfo] | None = None,
    processes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PartStatistics:
    """Measure every photograph of a data set.

    A script that lets it start worker processes must call it below ``if __name__ == "__main__":``.

    Args:
        name: Of the part, in the result.
        dataset: What to measure.
        metadata: What a table says of photographs, by image id; for diagnoses.
        processes: Worker processes; None takes one for each CPU, and none for a few photographs.
        on_progress: Told how many photographs are done, and of how many.
    """
    position = np.zeros((GRID, GRID))
    read: list[PhotoFigures] = []
    unreadable: list[PhotoFigures] = []
    num_with_lesion = 0
    found = map_in_processes(measure_photograph, list(dataset), died=_died, processes=processes)
    for done, (figures, grid) in enumerate(found, start=1):
        (unreadable if figures.problem else read).append(figures)
        if grid is not None:
            position += grid
            num_with_lesion += 1
        if on_progress is not None:
            on_progress(done, len(dataset))
    return PartStatistics(
        name,
        dataset.class_names,
        tuple(read),
        tuple(unreadable),
        position / max(1, num_with_lesion),
        dataset.skipped,
        _count_diagnoses(dataset, metadata or {}),
    )


def measure_photograph(sample: Sample) -> tuple[PhotoFigures, FloatArray | None]:
    """The figures of one photograph, and where on the position map its lesions lie; None without a lesion."""
    try:
        image, size = _read(sample)
        outlines = [
            (instance.label, masks.outline_bitmask(instance.outline, size))
            for instance in sample.instances
            if not instance.is_crowd
        ]
    except InputError as error:
        return PhotoFigures(sample.image_id, problem=error.problem), None
    outlines = [(label, mask) for label, mask in outlines if mask.any()]
    small_size = ImageSize(*image.shape[:2])
    union = np.zeros(size, np.bool_)
    for _, mask in outlines:
        union |= mask
    inside = _shares(union, small_size) >= 0.5
    grey = np.asarray(Image.fromarray(image).convert("L"))
    figures = PhotoFigures(
        sample.image_id,
        size,
        tuple(_measure_outline(label, mask) for label, mask in outlines),
        brightness=float(grey.mean()),
        sharpness=_sharpness(grey),
        lesion_colour=_mean_colour(image, inside),
        around_colour=_mean_colour(image, ~inside),
        skin=skin_tone(image, inside),
    )
    return figures, _shares(union, ImageSize(GRID, GRID)) if outlines else None


def _died(sample: Sample) -> tuple[PhotoFigures, None]:
    return PhotoFigures(sample.image_id, problem=WORKER_DIED), None


def _read(sample: Sample) -> tuple[ByteArray, ImageSize]:
    """The small copy, and the photograph's size.

    Raises:
        ImageError: It cannot be read.
        LabelError: The labels were drawn on another size.
    """
    if isinstance(sample.image, np.ndarray):
        image, size = sample.image, ImageSize(*sample.image.shape[:2])
    else:
        size = images.image_size(sample.image)
        image = images.read_image(sample.image, target_side=SMALL_SIDE)
    if min(size) < 1:
        raise ImageError(sample.image_id, "has no pixels", "export it again")
    if sample.size is not None and sample.size != size:
        problem = f"labelled at {sample.size.width}x{sample.size.height} pixels, but has {size.width}x{size.height}"
        raise LabelError(sample.image_id, problem, "restore the photograph that was labelled")
    scale = min(1.0, SMALL_SIDE / max(size))
    small = ImageSize(*(max(1, round(side * scale)) for side in size))
    return images.resize(image, small), size


def _measure_outline(label: int, mask: BoolArray) -> LesionFigures:
    height, width = mask.shape
    area = int(np.count_nonzero(mask))
    diameter = math.sqrt(4 * area / math.pi)
    touches = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    return LesionFigures(
        label,
        area,
        area / mask.size,
        diameter,
        diameter / min(height, width),
        _compactness(mask),
        touches,
    )


def _compactness(mask: BoolArray) -> float:
    """4 pi area / perimeter squared of all parts together, holes included.

    On a copy of at most `SMALL_SIDE`, else a large photograph would look more ragged than a small one of the same
    lesion; and slightly blurred, for the stairs of single pixels would make the border of a disc a tenth too long.
    """
    height, width = mask.shape
    scale = min(1.0, SMALL_SIDE / max(height, width))
    small = ImageSize(max(1, round(height * scale)), max(1, round(width * scale)))
    grey = Image.fromarray(np.pad(np.rint(_shares(mask, small) * 255).astype(np.uint8), 4))
    soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(1)), np.float32)
    contours = contourpy.contour_generator(z=soft, line_type=contourpy.LineType.Separate)
    area = perimeter = 0.0
    for line in contours.lines(float(soft.max()) / 2):  # of a speck, the blur leaves less than half
        ring = np.asarray(line, np.float64)
        steps = np.diff(ring, axis=0)
        area += float((ring[:-1, 0] * steps[:, 1] - ring[:-1, 1] * steps[:, 0]).sum()) / 2  # holes turn the other way
        perimeter += float(np.hypot(steps[:, 0], steps[:, 1]).sum())
    return min(1.0, 4 * math.pi * abs(area) / perimeter**2) if perimeter else 0.0


def _shares(mask: BoolArray, size: ImageSize) -> FloatArray:
    """(h, w) float32: how much of each pixel of a copy the mask covers."""
    if mask.shape == tuple(size):
        return mask.astype(np.float32)
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    shrunk = grey.resize((size.width, size.height), Image.Resampling.BOX)
    return np.asarray(shrunk, np.float32) / np.float32(255)


def _sharpness(grey: ByteArray) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000); 0 for what is too small to have one."""
    if min(grey.shape) < 3:
        return 0.0
    plane = grey.astype(np.float32)
    centre = plane[1:-1, 1:-1]
    laplacian = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def _mean_colour(image: ByteArray, where: BoolArray) -> Colour | None:
    if not where.any():
        return None
    red, green, blue = (round(float(image[..., channel][where].mean())) for channel in range(3))
    return red, green, blue


def _count_diagnoses(dataset: Dataset, metadata: Mapping[str, PhotoInfo]) -> dict[str, int]:
    known = (metadata.get(sample.image_id) for sample in dataset)
    return dict(Counter(info.diagnosis for info in known if info is not None and info.diagnosis).most_common())
