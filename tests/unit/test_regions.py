"""Connected regions and holes, against a flood fill."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask.regions import connected_regions, hole_areas, label_regions

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def flood_fill(mask: np.ndarray, *, diagonal: bool) -> list[set[tuple[int, int]]]:
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            for dy, dx in np.ndindex(3, 3):
                near = (y + dy - 1, x + dx - 1)
                if near in left and (diagonal or 1 in (dy, dx)):
                    left.remove(near)
                    edge.append(near)
        regions.append(region)
    return regions


@given(MASKS, st.booleans())
@settings(max_examples=100, deadline=None)
def test_regions_are_those_of_a_flood_fill(mask, diagonal):
    expected = flood_fill(mask, diagonal=diagonal)
    found = connected_regions(mask, diagonal=diagonal)
    assert found.areas.tolist() == sorted(map(len, expected), reverse=True)
    boxes = {
        (min(x for _, x in one), min(y for y, _ in one), max(x for _, x in one) + 1, max(y for y, _ in one) + 1)
        for one in expected
    }
    assert {tuple(box) for box in found.boxes.tolist()} == boxes


@given(MASKS, st.booleans())
@settings(max_examples=100, deadline=None)
def test_labels_are_those_of_a_flood_fill_in_reading_order(mask, diagonal):
    expected = np.zeros(mask.shape, np.int64)
    for number, region in enumerate(sorted(flood_fill(mask, diagonal=diagonal), key=min), start=1):
        for pixel in region:
            expected[pixel] = number
    labels, count = label_regions(mask, diagonal=diagonal)
    assert np.array_equal(labels, expected)
    assert count == expected.max()


@pytest.mark.parametrize("mask", [np.zeros((0, 3), bool), np.zeros((3, 0), bool), np.eye(5, dtype=bool)])
def test_plain_masks(mask):
    labels, count = label_regions(mask)
    assert (count, labels.shape) == (int(mask.any()), mask.shape)
    assert np.array_equal(labels > 0, mask)
    assert connected_regions(mask).areas.tolist() == [5] * count


@pytest.mark.parametrize("value", [0.3, 0.5, 0.9])
def test_the_regions_of_noise_are_those_that_their_labels_count(value):
    """Long chains of runs, which small masks have none of."""
    mask = np.random.default_rng(0).random((200, 300)) < value
    labels, count = label_regions(mask)
    areas = np.bincount(labels.ravel())[1:]
    assert connected_regions(mask).areas.tolist() == sorted(areas.tolist(), reverse=True)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):  # no two regions touch
        near = np.roll(labels, (-dy, -dx), (0, 1))[:-1, 1:-1]
        here = labels[:-1, 1:-1]
        assert (here == near)[(here > 0) & (near > 0)].all()
    assert (areas > 0).all()
    assert len(areas) == count


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_holes_are_background_that_does_not_reach_the_border(mask):
    height, width = mask.shape
    shut_off = [
        len(region)
        for region in flood_fill(~mask, diagonal=False)
        if all(0 < y < height - 1 and 0 < x < width - 1 for y, x in region)
    ]
    assert hole_areas(mask).tolist() == sorted(shut_off, reverse=True)


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value(value):
    mask = np.full((4, 6), value)
    assert connected_regions(mask).areas.tolist() == ([24] if value else [])
    assert hole_areas(mask).tolist() == []
