"""When a mask is written as polygons, and the rings around its parts and holes."""

from __future__ import annotations

import numpy as np
import pytest

from dermask import masks
from dermask.data.tracing import LEAST_IOU, as_polygons, iou, is_noise, outer_and_inner
from dermask.records import Bitmask, ImageSize, Polygons


def disc(side: int = 60, radius: float = 20) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    return (rows - side / 2) ** 2 + (columns - side / 2) ** 2 <= radius**2


def test_polygons_stay_as_they_are():
    polygons = Polygons((np.array([[2, 2], [9, 2], [9, 9.0]]),))
    assert as_polygons(polygons, masks.outline_bitmask(polygons, ImageSize(12, 12))) is polygons


def test_a_plain_mask_becomes_polygons_that_give_it_back():
    mask = disc()
    polygons = as_polygons(Bitmask(mask), mask)
    assert polygons is not None
    assert iou(masks.outline_bitmask(polygons, ImageSize(*mask.shape)), mask) >= LEAST_IOU


@pytest.mark.parametrize(
    "mask",
    [
        disc() & ~disc(radius=8),
        np.random.default_rng(0).random((200, 200)) < 0.5,
        (np.indices((60, 60)) % 6 < 3).all(axis=0),
    ],
    ids=["a hole", "noise", "a hundred parts"],
)
def test_a_mask_that_polygons_do_not_say_needs_pixels(mask):
    assert as_polygons(Bitmask(mask), mask) is None


def test_noise_is_told_from_a_lesion():
    assert is_noise(np.random.default_rng(0).random((200, 200)) < 0.5)
    assert not is_noise(disc())


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_rings_around_parts_and_around_holes(tolerance):
    outer, inner = outer_and_inner(disc() & ~disc(radius=8), tolerance)
    assert (len(outer), len(inner)) == (1, 1)
    assert np.ptp(outer[0][:, 0]) > np.ptp(inner[0][:, 0])
    assert outer_and_inner(np.zeros((5, 5), bool), tolerance) == ([], [])
