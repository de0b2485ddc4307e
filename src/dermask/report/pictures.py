"""Photographs of a report: small copies inside the page, with the outlines as vector paths above them.

Paths stay sharp when the page is enlarged or printed, and the reader can hide either outline to see the skin below.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import contourpy
import numpy as np
from PIL import Image

from dermask import images
from dermask.records import BoolArray, ByteArray, ImageSize, Sample

SIDE = 420
"""Long side of a picture in the page, pixels: sharp at a quarter of a desktop page on a dense screen."""
_WEBP_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph with both outlines.

    Attributes:
        image_id: Which photograph.
        source: Its pixels as a ``data:`` address.
        size: Of the small copy, pixels; the frame of the paths.
        truth_path: SVG path data of the labelled border; empty where there is no lesion.
        pred_path: The same for the prediction.
        jaccard: In [0, 1].
        note: What else there is to know, in a few words.
    """

    image_id: str
    source: str
    size: ImageSize
    truth_path: str
    pred_path: str
    jaccard: float
    note: str

    @property
    def alt(self) -> str:
        """The picture in words."""
        found = "outlined" if self.pred_path else "nothing found"
        labelled = "labelled border outlined" if self.truth_path else "no labelled lesion"
        return f"Photograph {self.image_id}: {labelled}, prediction {found}, Jaccard {self.jaccard:.3f}"


def small_copy(sample: Sample) -> ByteArray:
    """The photograph with a long side of at most `SIDE`, (h, w, 3) uint8 RGB.

    Raises:
        ImageError: It cannot be read.
    """
    if isinstance(sample.image, np.ndarray):
        image = sample.image
    else:
        image = images.read_image(sample.image, target_side=SIDE)
    size = small_size(ImageSize(*image.shape[:2]))
    return image if size == image.shape[:2] else images.resize(image, size)


def small_size(size: ImageSize) -> ImageSize:
    """The size of the small copy; a photograph smaller than `SIDE` keeps its own."""
    scale = min(1.0, SIDE / max(size))
    return ImageSize(*(max(1, round(side * scale)) for side in size))


def webp_address(image: ByteArray) -> str:
    """An image as a ``data:`` address that a page holds in itself.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=_WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def border_path(bitmask: BoolArray, size: ImageSize) -> str:
    """The border of a mask as SVG path data, holes included.

    Args:
        bitmask: (H, W) bool, at the photograph's size.
        size: Of the small copy, whose pixels are the path's unit.

    Returns:
        Closed rings, ``M1.0 2.5L...Z``; empty for an empty mask.
    """
    if not bitmask.any():
        return ""
    # Averaging down keeps the border's place to a fraction of a small pixel: half covered means on the border.
    shares = Image.fromarray(bitmask.astype(np.float32)).resize((size.width, size.height), Image.Resampling.BOX)
    padded = np.pad(np.asarray(shares), 1)
    contours = contourpy.contour_generator(
        x=np.arange(size.width + 2) - 0.5,  # pixel i has its centre at i + 0.5, and the padding comes before
        y=np.arange(size.height + 2) - 0.5,
        z=padded,
        line_type=contourpy.LineType.Separate,
    ).lines(0.5)
    low, high = np.zeros(2), np.array([size.width, size.height], np.float64)
    rings = [np.clip(np.asarray(ring), low, high) for ring in contours]
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring[:-1].tolist()) + "Z" for ring in rings)
