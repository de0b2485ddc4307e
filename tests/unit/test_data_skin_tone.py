"""Skin tone: the colour space against known values, the angle on drawn skin, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask.data import skin_tone as tones
from dermask.data.scene_artifacts import draw_bubbles, draw_hair, draw_ink, draw_ruler
from dermask.data.scene_camera import draw_surround
from dermask.data.skin_tone import ITA_BINS, ita_bin, skin_tone, srgb_to_lab
from dermask.records import ImageSize

SIZE = ImageSize(256, 320)


def lab_of(red: int, green: int, blue: int) -> list[float]:
    return srgb_to_lab(np.array([red, green, blue], np.uint8)).tolist()


# Bruce Lindbloom's colour calculator (sRGB, D65, no adaptation), as quoted in CIELAB tables of the primaries.
@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        pytest.param((0, 0, 0), (0, 0, 0), id="black"),
        pytest.param((255, 255, 255), (100, 0, 0), id="white"),
        pytest.param((255, 0, 0), (53.2408, 80.0925, 67.2032), id="red"),
        pytest.param((0, 255, 0), (87.7347, -86.1827, 83.1793), id="green"),
        pytest.param((0, 0, 255), (32.2970, 79.1875, -107.8602), id="blue"),
        pytest.param((255, 255, 0), (97.1393, -21.5537, 94.4780), id="yellow"),
        pytest.param((119, 119, 119), (50.0344, 0, 0), id="middle grey"),
    ],
)
def test_srgb_becomes_cielab(colour: tuple[int, int, int], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(lab_of(*colour), expected, atol=1e-3)


@given(hnp.arrays(np.uint8, (7, 3)))
def test_cielab_stays_in_its_ranges(colours: np.ndarray) -> None:
    lab = srgb_to_lab(colours)
    assert ((lab[:, 0] >= -1e-4) & (lab[:, 0] <= 100 + 1e-4)).all()
    assert (np.abs(lab[:, 1:]) < 110).all()


@pytest.mark.parametrize(
    ("ita", "expected"),
    [
        (-90, "dark"), (10, "dark"), (10.01, "tan 1"), (19, "tan 1"), (28, "tan 2"), (34.5, "intermediate 1"),
        (41, "intermediate 2"), (48, "light 1"), (55, "light 2"), (55.01, "very light"), (90, "very light"),
    ],
)  # fmt: skip
def test_a_limit_belongs_to_the_darker_bin(ita: float, expected: str) -> None:
    assert ita_bin(ita) == expected


def test_the_bins_cover_all_angles_in_order() -> None:
    limits = [largest for _, largest in ITA_BINS]
    assert limits == sorted(limits)
    assert limits[-1] == 90


# Plain skin: the angle is that of its colour


SKINS = {"light": (226, 190, 165), "brown": (150, 105, 75), "dark": (84, 58, 44), "rosy": (222, 178, 162)}


def plain(colour: tuple[int, int, int], size: ImageSize = SIZE) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def round_lesion(size: ImageSize = SIZE, radius: float = 50) -> np.ndarray:
    y, x = np.mgrid[: size.height, : size.width]
    return np.hypot(y - size.height / 2, x - size.width / 2) < radius


def with_lesion(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lesion = round_lesion(ImageSize(*image.shape[:2]))
    image = image.copy()
    image[lesion] = (70, 40, 30)
    return image, lesion


@pytest.mark.parametrize("name", SKINS)
def test_the_angle_of_one_colour(name: str) -> None:
    lightness, _, yellowness = lab_of(*SKINS[name])
    expected = math.degrees(math.atan((lightness - 50) / yellowness))
    found = skin_tone(*with_lesion(plain(SKINS[name])))
    assert found is not None
    assert found.ita == pytest.approx(expected, abs=1e-3)
    assert found.bin == ita_bin(expected)
    assert found.colour == SKINS[name]


def test_lighter_skin_has_a_larger_angle() -> None:
    angles = [skin_tone(*with_lesion(plain(SKINS[name]))) for name in ("dark", "brown", "light")]
    found = [tone.ita for tone in angles if tone is not None]
    assert len(found) == 3
    assert found == sorted(found)


def skin_with_grain(colour: tuple[int, int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(plain(colour) + rng.normal(0, 2, (*SIZE, 1)), 0, 255).astype(np.uint8)


def tube(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return draw_surround(rng, SIZE, aperture=True, corners=False, patch=False).cover(image)


def patch(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return draw_surround(rng, SIZE, aperture=False, corners=False, patch=True).cover(image)


@pytest.mark.parametrize("thing", [draw_hair, draw_ruler, draw_bubbles, draw_ink, tube, patch])
@pytest.mark.parametrize("name", ["light", "brown"])
def test_things_on_the_skin_hardly_change_the_angle(thing, name: str) -> None:
    for seed in range(4):
        image, lesion = with_lesion(skin_with_grain(SKINS[name], seed))
        bare = skin_tone(image, lesion)
        covered = skin_tone(thing(image, np.random.default_rng(seed)), lesion)
        assert bare is not None
        assert covered is not None
        assert covered.ita == pytest.approx(bare.ita, abs=3), f"seed {seed}"  # a bin is 7 degrees wide


def test_the_angle_does_not_depend_on_the_photographs_size() -> None:
    image, lesion = with_lesion(skin_with_grain(SKINS["brown"], 0))
    large = skin_tone(image.repeat(3, axis=0).repeat(3, axis=1), lesion.repeat(3, axis=0).repeat(3, axis=1))
    small = skin_tone(image, lesion)
    assert small is not None
    assert large is not None
    assert large.ita == pytest.approx(small.ita, abs=0.5)


def test_the_lesion_does_not_count() -> None:
    image, lesion = with_lesion(plain(SKINS["light"]))
    assert skin_tone(image, lesion) == skin_tone(plain(SKINS["light"]), lesion)


# Nothing to tell


@pytest.mark.parametrize(
    ("image", "lesions"),
    [
        pytest.param(plain(SKINS["light"]), np.ones(SIZE, np.bool_), id="all lesion"),
        pytest.param(plain((0, 0, 0)), np.zeros(SIZE, np.bool_), id="black"),
        pytest.param(plain((255, 255, 255)), np.zeros(SIZE, np.bool_), id="white"),
        pytest.param(plain((30, 90, 200)), np.zeros(SIZE, np.bool_), id="blue"),
        pytest.param(plain((128, 128, 128)), np.zeros(SIZE, np.bool_), id="grey"),
        pytest.param(plain((200, 170, 200)), np.zeros(SIZE, np.bool_), id="violet, not yellowish"),
        pytest.param(plain(SKINS["light"], ImageSize(1, 1)), np.ones((1, 1), np.bool_), id="one pixel of lesion"),
    ],
)
def test_without_skin_there_is_no_angle(image: np.ndarray, lesions: np.ndarray) -> None:
    assert skin_tone(image, lesions) is None


def test_mostly_glare_has_no_angle() -> None:
    image = plain((250, 250, 250))
    image[:, :100] = SKINS["brown"]
    assert skin_tone(image, np.zeros(SIZE, np.bool_)) is None


def test_too_little_skin_has_no_angle() -> None:
    image = plain((0, 0, 0))
    rows = int(SIZE.height * tones.MIN_SKIN_SHARE / 2)
    image[:rows] = SKINS["light"]
    assert skin_tone(image, np.zeros(SIZE, np.bool_)) is None


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3))),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_pixels_give_an_angle_or_none(image: np.ndarray, has_lesion: bool) -> None:
    lesions = np.zeros(image.shape[:2], np.bool_)
    lesions[0, 0] = has_lesion
    found = skin_tone(image, lesions)
    if found is not None:
        assert -90 < found.ita < 90
        assert found.bin == ita_bin(found.ita)
        assert 0 < found.skin_pixels <= image.shape[0] * image.shape[1]


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.sampled_from([1, 3, 9]))
@settings(max_examples=40, deadline=None)
def test_sliding_windows_agree_with_a_slow_loop(plane: np.ndarray, window: int) -> None:
    reach = window // 2
    slow = np.empty_like(plane)
    for row, column in np.ndindex(plane.shape):
        slow[row, column] = plane[
            max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ].max()
    np.testing.assert_array_equal(tones._sliding(plane, window, np.maximum), slow)
