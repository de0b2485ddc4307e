"""What befalls a photograph befalls its masks alike, by the seed alone, and not at all at the identity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.data.perturbations import PERTURBATIONS

KINDS = {kind.key: kind for kind in PERTURBATIONS}
MOVING = ("rotation", "crop", "scale")
SHARP = np.zeros((60, 80), np.bool_)
SHARP[20:40, 30:60] = True
MASKS = SHARP[None]
# A photograph whose red channel is its own mask, so that pixels say where the mask belongs.
PHOTOGRAPH = np.stack([np.where(SHARP, 220, 40), np.full(SHARP.shape, 90), np.full(SHARP.shape, 120)], -1).astype(
    np.uint8
)
every_kind = pytest.mark.parametrize("kind", PERTURBATIONS, ids=KINDS)


@every_kind
def test_the_identity_changes_nothing(kind):
    image, masks = kind.apply(PHOTOGRAPH, MASKS, kind.identity)
    assert image is PHOTOGRAPH
    assert masks is MASKS


@every_kind
@given(data=st.data(), seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_every_strength_gives_a_photograph_with_its_masks(kind, data, seed):
    strength = data.draw(st.sampled_from(kind.strengths))
    before = PHOTOGRAPH.copy()
    image, masks = kind.apply(PHOTOGRAPH, MASKS, strength, seed=seed)
    assert image.dtype == np.uint8
    assert masks.dtype == np.bool_
    assert image.shape == (*masks.shape[1:], 3)
    assert len(masks) == 1
    assert np.array_equal(before, PHOTOGRAPH)
    again, _ = kind.apply(PHOTOGRAPH, MASKS, strength, seed=seed)
    assert np.array_equal(image, again)


@pytest.mark.parametrize("kind", [kind for kind in PERTURBATIONS if kind.key not in MOVING], ids=lambda kind: kind.key)
def test_masks_stay_where_only_pixels_change(kind):
    for strength in kind.strengths:
        assert np.array_equal(kind.apply(PHOTOGRAPH, MASKS, strength)[1], MASKS)


@pytest.mark.parametrize("key", MOVING)
def test_masks_move_with_the_photograph(key):
    for strength in KINDS[key].strengths:
        image, masks = KINDS[key].apply(PHOTOGRAPH, MASKS, strength, seed=1)
        seen = image[..., 0] > 130
        either = (seen | masks[0]).sum()
        assert (seen & masks[0]).sum() > 0.9 * either or either < 20


@pytest.mark.parametrize(("stops", "brighter"), [(1, True), (-1, False)])
def test_a_stop_doubles_the_light(stops, brighter):
    image, _ = KINDS["exposure"].apply(PHOTOGRAPH, MASKS, stops)
    ratio = (image[0, 0, 2] / 255) ** 2.2 / (PHOTOGRAPH[0, 0, 2] / 255) ** 2.2
    assert ratio == pytest.approx(2 if brighter else 0.5, rel=0.05)


def test_corners_go_dark_and_the_centre_stays():
    image, _ = KINDS["corners"].apply(PHOTOGRAPH, MASKS, 0.7)
    assert image[0, 0].tolist() == [8, 8, 8]
    assert np.array_equal(image[20:40, 25:55], PHOTOGRAPH[20:40, 25:55])


def test_warmer_is_redder():
    image, _ = KINDS["white_balance"].apply(PHOTOGRAPH, MASKS, 20)
    assert image[0, 0, 0] > PHOTOGRAPH[0, 0, 0]
    assert image[0, 0, 2] < PHOTOGRAPH[0, 0, 2]


@pytest.mark.parametrize(("factor", "shape"), [(0.5, (30, 40)), (2, (120, 160)), (0.01, (16, 16))])
def test_scale_and_its_least_side(factor, shape):
    image, masks = KINDS["scale"].apply(PHOTOGRAPH, MASKS, factor)
    assert image.shape[:2] == masks.shape[1:] == shape


@every_kind
def test_no_mask_is_ordinary(kind):
    image, masks = kind.apply(PHOTOGRAPH, MASKS[:0], kind.strengths[0])
    assert masks.shape == (0, *image.shape[:2])
