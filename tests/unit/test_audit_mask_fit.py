"""Masks that are inverted, or lie beside the lesion."""

from __future__ import annotations

import numpy as np
import pytest
from audit_examples import SIDE, audit_of, ellipse, kinds, outlined, skin
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermask.audit import mask_fit
from dermask.records import Bitmask

# Off the middle and not round, so that every turn and mirror image lies elsewhere.
LESION = ellipse(x=50, y=60, a=30, b=14)


def fit_of(mask: np.ndarray) -> mask_fit.Fit:
    return mask_fit.best_fit(mask_fit.shrink(skin(LESION)), mask_fit.shrink_mask(mask))


def judged(mask: np.ndarray, lesion: np.ndarray = LESION, **keys) -> dict[str, str]:
    return kinds(audit_of(outlined(Bitmask(mask), image=skin(lesion, **keys))))


MOVED = {
    "shifted to the right": np.roll(LESION, 60, axis=1),
    "shifted down": np.roll(LESION, 50, axis=0),
    "mirrored left to right": LESION[:, ::-1],
    "rotated by 90 degrees": np.rot90(LESION),
    "rotated by 180 degrees": np.rot90(LESION, 2),
    "mirrored top to bottom": LESION[::-1],
    "mirrored and rotated by 90 degrees": np.rot90(LESION[::-1]),
}


@pytest.mark.parametrize("how", MOVED)
def test_a_mask_beside_the_lesion_is_found(how):
    assert judged(MOVED[how]) == {"unaligned-mask": "warning"}


def test_a_mask_on_the_lesion_fits_where_it_is():
    fit = fit_of(LESION)
    assert fit.overlap > 0.9
    assert fit.contrast > 3
    assert judged(LESION) == {}


@pytest.mark.parametrize("shift", [0, 4, 8])
def test_a_mask_that_is_a_little_off_is_left_alone(shift):
    assert judged(np.roll(LESION, shift, axis=1)) == {}


def test_a_mask_around_a_lesion_too_pale_to_tell_is_left_alone():
    rng = np.random.default_rng(3)
    pixels = rng.normal(180, 12, (SIDE, SIDE, 3))
    pixels[LESION] -= 3
    sample = outlined(Bitmask(LESION), image=pixels.clip(0, 255).astype(np.uint8))
    assert kinds(audit_of(sample)) == {}


@pytest.mark.parametrize("lesion", [LESION, ellipse(a=50, b=40)], ids=["small", "large"])
def test_an_inverted_mask_is_found(lesion):
    assert judged(~lesion, lesion) == {"inverted-mask": "warning", "holes": "note"}


def test_a_large_lesion_that_leaves_a_patch_of_skin_is_not_inverted():
    lesion = ~ellipse(x=80, y=80, a=40, b=30)
    assert "inverted-mask" not in judged(lesion, lesion)


def test_a_lesion_that_the_border_cuts_is_not_inverted():
    lesion = ellipse(x=20, y=20, a=100, b=90)
    assert judged(lesion, lesion) == {}


def test_the_dark_rim_of_a_dermatoscope_is_no_lesion():
    pixels = skin(LESION)
    pixels[~ellipse(x=80, y=80, a=95, b=95)] = 4
    usable = mask_fit.skin_and_lesion(mask_fit.shrink(pixels))
    assert usable[0, 0] == usable[-1, -1] == 0
    assert usable[32, 32] == 1
    assert kinds(audit_of(outlined(Bitmask(LESION), image=pixels))) == {}
    assert kinds(audit_of(outlined(Bitmask(MOVED["shifted down"]), image=pixels))) == {"unaligned-mask": "warning"}


@given(st.integers(-12, 30), st.integers(-12, 25))
@settings(max_examples=25, deadline=None)
def test_the_best_place_of_a_shifted_mask_is_the_lesion(across, down):
    moved = np.roll(LESION, (down, across), axis=(0, 1))
    fit = fit_of(moved)
    there = mask_fit.shrink_mask(moved) > 0.5
    lesion = mask_fit.shrink_mask(LESION) > 0.5
    expected = (there & lesion).sum() / (there | lesion).sum()
    assert fit.overlap == pytest.approx(expected, abs=0.2)
    assert fit.best >= fit.contrast


def test_the_search_agrees_with_a_slow_one():
    image, mask = mask_fit.shrink(skin(LESION)), mask_fit.shrink_mask(np.roll(LESION, 40, axis=1))
    usable = mask_fit.skin_and_lesion(image)
    slow = max(
        mask_fit.contrast(image, np.roll(mask, (dy, dx), axis=(0, 1)), usable)
        for dy in range(-4, 5)
        for dx in range(-20, -11)
    )
    assert mask_fit.best_fit(image, mask).best == pytest.approx(slow, rel=0.02)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (64, 64), (1000, 40)])
def test_photograph_and_mask_shrink_to_one_shape(shape):
    image = np.zeros((*shape, 3), np.uint8)
    assert mask_fit.shrink(image).shape[:2] == mask_fit.shrink_mask(np.zeros(shape, bool)).shape
    assert max(mask_fit.shrink(image).shape) == mask_fit.SIDE


@pytest.mark.parametrize(("orientation", "undo"), [(3, 2), (6, 1), (8, 3)])
def test_a_label_drawn_before_exif_turned_the_photograph(tmp_path, orientation, undo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(skin(LESION), undo).copy()).save(tmp_path / "p.jpg", exif=exif, quality=95)
    upright = outlined(Bitmask(LESION), image=tmp_path / "p.jpg")
    assert kinds(audit_of(upright)) == {}
    as_stored = audit_of(outlined(Bitmask(np.rot90(LESION, undo)), image=tmp_path / "p.jpg"))
    assert kinds(as_stored) == {"turned": "warning"}
    assert f"EXIF orientation {orientation} says" in as_stored.findings[0].problem
