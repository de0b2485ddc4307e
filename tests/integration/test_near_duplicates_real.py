"""Near-duplicates among real photographs: a few transformed copies are found, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dermask.audit.near_duplicates import SIDE, find_near_duplicates, signature
from dermask.images import read_image


def saved(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return read_image(buffer.getvalue())


COPIES = {
    "JPEG": lambda image: saved(image, 30),
    "turned": lambda image: np.ascontiguousarray(np.rot90(image)),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "darker": lambda image: (255 * (image / 255) ** 1.4).astype(np.uint8),
    "grey": lambda image: np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
    "cropped": lambda image: np.ascontiguousarray(image[: image.shape[0] * 9 // 10, image.shape[1] // 10 :]),
}


@pytest.fixture(scope="module")
def photographs(real_data):
    folder = real_data / "isic2017" / "ISIC-2017_Validation_Data"
    return [read_image(path, target_side=SIDE) for path in sorted(folder.glob("*.jpg"))[:6]]


def test_copies_are_found_and_nothing_else(photographs):
    copies = [change(image) for change, image in zip(COPIES.values(), photographs, strict=True)]
    pairs = find_near_duplicates([signature(image) for image in [*photographs, *copies]])
    assert [(one.first, one.second) for one in pairs] == [(index, index + 6) for index in range(6)]
