import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask import masks
from dermask.data.bridges import join_rings, outline_rings, rings_outline, split_ring
from dermask.records import Bitmask, ImageSize, Polygons, Rle

SIZE = ImageSize(24, 30)
SQUARES = [
    np.array([[x, y], [x + s, y], [x + s, y + s], [x, y + s]], float)
    for x, y, s in [(2, 2, 4), (10, 3, 5), (20, 15, 6)]
]
sides = st.integers(1, 9)
bitmasks = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 26), sides, sides, st.booleans()), min_size=1, max_size=6
)


def drawn(boxes):
    mask = np.zeros(SIZE, bool)
    for y, x, height, width, is_set in boxes:
        mask[y : y + height, x : x + width] = is_set
    return mask


def test_one_ring_stays_itself():
    assert np.array_equal(join_rings(SQUARES[:1]), SQUARES[0])
    assert [ring.tolist() for ring in split_ring(SQUARES[0])] == [SQUARES[0].tolist()]


def test_joined_rings_hold_the_same_pixels_and_come_apart_again():
    joined = join_rings(SQUARES)
    whole = masks.outline_bitmask(Polygons(tuple(SQUARES)), SIZE)
    assert np.array_equal(masks.outline_bitmask(Polygons((joined,)), SIZE), whole)
    parts = split_ring(joined)
    assert sorted(sorted(part.tolist()) for part in parts) == sorted(sorted(part.tolist()) for part in SQUARES)


def test_a_ring_inside_another_is_a_hole():
    inner = np.array([[3, 3], [5, 3], [5, 5], [3, 5]], float)
    outline = rings_outline(split_ring(join_rings([SQUARES[0], inner])), SIZE)
    assert isinstance(outline, Rle)
    assert masks.outline_bitmask(outline, SIZE).sum() == 16 - 4


def test_spikes_are_dropped():
    ring = np.array([[2, 2], [8, 2], [12, 2], [8, 2], [8, 8]], float)
    [part] = split_ring(ring)
    assert part.tolist() == [[2, 2], [8, 2], [8, 8]]


@settings(max_examples=100)
@given(bitmasks)
def test_any_mask_survives_as_one_ring(boxes):
    mask = drawn(boxes)
    rings = outline_rings(Bitmask(mask), mask)
    if not mask.any():
        assert rings == []
        return
    again = masks.outline_bitmask(rings_outline(split_ring(join_rings(rings)), SIZE), SIZE)
    assert (again & mask).sum() / (again | mask).sum() >= 0.99
