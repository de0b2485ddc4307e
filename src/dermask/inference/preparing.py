"""What every engine does around its network: photographs to its scale and in batches, boxes back to the photograph.

A photograph is resized here, by pillow, to the size the network wants, because decoding at a reduced size and filtering
on the CPU costs a fraction of handing over all pixels. Masks live in the frame of their box, so mapping back touches
the boxes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dermask import images as image_files
from dermask.config import ImageSettings
from dermask.errors import InputError
from dermask.inference.detector import Photograph, Prepared
from dermask.records import ByteArray, ImageSize
from dermask.scaling import network_size, padded_size

# A JPEG is decoded at the smallest of its own scales that still has this many times the wanted pixels per side;
# with 2 the resizing filter, not the JPEG's, decides what the network sees.
DECODE_MARGIN = 2


def prepare(photograph: Photograph | Prepared, settings: ImageSettings) -> Prepared:
    """Decode a photograph, as small as its format allows, and scale it.

    Args:
        photograph: Pixels, a path, or a file's content; what is prepared already stays as it is.
        settings: The network's scale.

    Raises:
        ImageError: The file cannot be read.
        InputError: An array that is not (height, width, 3) uint8.
    """
    if isinstance(photograph, Prepared):
        return photograph
    if isinstance(photograph, np.ndarray):
        _check_pixels(photograph)
        original_size = ImageSize(*photograph.shape[:2])
        wanted = ImageSize(*network_size(original_size, settings))
        return Prepared(image_files.resize(photograph, wanted), original_size, "")
    source = Path(photograph) if isinstance(photograph, str) else photograph
    original_size = image_files.image_size(source)
    wanted = ImageSize(*network_size(original_size, settings))
    pixels = image_files.read_image(source, target_side=DECODE_MARGIN * min(wanted))
    image_id = source.stem if isinstance(source, Path) else ""
    return Prepared(image_files.resize(pixels, wanted), original_size, image_id)


def batches(prepared: Sequence[Prepared], settings: ImageSettings, batch_size: int) -> Iterator[list[int]]:
    """Indices of photographs computed together: only those that are padded to one size, so that padding, and with it
    the result, is the same as for each photograph alone.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, item in enumerate(prepared):
        height, width = item.image.shape[:2]
        groups.setdefault(padded_size((height, width), settings), []).append(index)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _check_pixels(photograph: ByteArray) -> None:
    if photograph.dtype != np.uint8 or photograph.ndim != 3 or photograph.shape[2] != 3 or 0 in photograph.shape:
        raise InputError(
            "photograph",
            f"is an array of shape {photograph.shape} and type {photograph.dtype}",
            "give (height, width, 3) uint8 RGB",
        )
