"""Tidied masks have one part and no holes once pasted, and nothing else about them changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask.errors import SettingError
from dermask.masks import paste_masks
from dermask.records import Detections, ImageSize
from dermask.regions import connected_regions, hole_areas
from dermask.tidying import TIDY_STEPS, tidy

SIDE = 12
# Four pixels a cell, so that every cell is seen.
SIZE = ImageSize(4 * SIDE, 4 * SIDE)
BOX = np.array([[0, 0, SIZE.width, SIZE.height]], np.float32)
PROBS = hnp.arrays(np.float32, (1, SIDE, SIDE), elements=st.floats(0, 1, width=32))


def found(probs) -> Detections:
    stack = np.asarray(probs, np.float32).reshape(-1, SIDE, SIDE)
    count = len(stack)
    return Detections(
        np.repeat(BOX, count, axis=0), np.full(count, 0.9, np.float32), np.ones(count, np.int64), stack, SIZE
    )


def pasted(detections: Detections) -> np.ndarray:
    return paste_masks(detections.boxes, detections.mask_probs, detections.size)


def square(top, left, bottom, right):
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[top:bottom, left:right] = 1
    return mask


RING = square(2, 2, 10, 10) - square(4, 4, 8, 8)
TWO_PARTS = square(1, 1, 4, 4) + square(5, 5, 10, 11)


def test_nothing_found_stays_nothing():
    empty = Detections.empty(SIZE)
    assert tidy(empty, TIDY_STEPS) is empty


def test_no_step_changes_nothing():
    one = found(RING)
    assert tidy(one, ()) is one


def test_a_step_that_does_not_exist():
    with pytest.raises(SettingError, match="tidy step polish: does not exist; choose from smooth, largest, holes"):
        tidy(found(RING), ("polish",))  # type: ignore[arg-type]


def test_holes_are_filled():
    assert np.array_equal(tidy(found(RING), ("holes",)).mask_probs[0], square(2, 2, 10, 10))


def test_a_bay_that_is_open_to_the_side_is_no_hole():
    bay = RING - square(5, 0, 6, 4) * RING
    assert np.array_equal(tidy(found(bay), ("holes",)).mask_probs[0], bay)


def test_the_largest_part_is_left():
    assert np.array_equal(tidy(found(TWO_PARTS), ("largest",)).mask_probs[0], square(5, 5, 10, 11))


def test_weak_cells_around_are_left_as_they_are():
    probs = np.where(TWO_PARTS > 0, TWO_PARTS, np.float32(0.3))
    tidied = tidy(found(probs), ("largest",)).mask_probs[0]
    assert tidied[0, 0] == np.float32(0.3)
    assert tidied[2, 2] == 0
    assert tidied[6, 6] == 1


def test_the_threshold_says_what_a_part_is():
    joined = np.maximum(TWO_PARTS, np.float32(0.4) * square(3, 3, 6, 6))
    assert np.array_equal(tidy(found(joined), ("largest",), threshold=0.4).mask_probs[0], joined)
    assert tidy(found(joined), ("largest",)).mask_probs[0, 2, 2] == 0


def test_each_mask_by_itself():
    tidied = tidy(found([RING, TWO_PARTS, np.zeros((SIDE, SIDE))]), ("largest", "holes"))
    assert [mask.sum() for mask in tidied.mask_probs] == [64, 30, 0]


def test_a_lesion_that_fills_its_box_is_not_eaten_at_the_border():
    full = np.ones((SIDE, SIDE))
    assert (tidy(found(full), ("smooth",)).mask_probs == 1).all()


@settings(max_examples=60, deadline=None)
@given(PROBS, st.sets(st.sampled_from(TIDY_STEPS)))
def test_probabilities_stay_probabilities_and_the_rest_stays(probs, steps):
    one = found(probs)
    before = one.mask_probs.copy()
    tidied = tidy(one, steps)
    assert np.array_equal(one.mask_probs, before), "what was found is not written on"
    assert tidied.mask_probs.dtype == np.float32
    assert tidied.mask_probs.shape == probs.shape
    assert ((tidied.mask_probs >= 0) & (tidied.mask_probs <= 1)).all()
    assert tidied.boxes is one.boxes
    assert tidied.scores is one.scores


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.bool_, (1, SIDE, SIDE)))
def test_pasted_masks_have_one_part_and_no_hole(cells):
    """Of sure cells: where a cell's probability is near the threshold, interpolation may cut what cells join."""
    mask = pasted(tidy(found(cells), ("largest", "holes")))[0]
    assert len(connected_regions(mask).areas) <= 1
    assert len(hole_areas(mask)) == 0


@settings(max_examples=40, deadline=None)
@given(PROBS)
def test_tidying_twice_is_tidying_once(probs):
    once = tidy(found(probs), ("largest", "holes"))
    assert np.array_equal(tidy(once, ("largest", "holes")).mask_probs, once.mask_probs)


def test_smoothing_takes_the_teeth_off_an_outline():
    teeth = np.tril(np.ones((SIDE, SIDE)))
    smooth = tidy(found(teeth), ("smooth",)).mask_probs[0]
    assert 0.25 < smooth[5, 5] < 1
    assert smooth[1:-1, 1:-1].sum() == pytest.approx(teeth[1:-1, 1:-1].sum(), rel=0.02)
