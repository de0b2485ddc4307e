"""Hair and rulers: drawn photographs with and without, what must not be taken for either, and a slow reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from dermask.data import artifacts
from dermask.data.artifacts import MIN_HAIR_SHARE, MIN_RULER_STRENGTH, Artifacts, find_artifacts
from dermask.data.synthetic import SceneSettings, draw_scene
from dermask.records import ByteArray, ImageSize

SKIN, BLACK, VIOLET, RED = (205, 160, 140), (30, 24, 22), (90, 40, 170), (205, 90, 80)
SIDE = 320
NOTHING = Artifacts(hair=False, ruler=False, hair_share=0.0, ruler_strength=0.0)
BARE = SceneSettings(hair=0, ruler=0, bubbles=0, ink=0, patch=0, aperture=0, corners=0)


def skin(side: int = SIDE) -> ByteArray:
    """Skin with a little noise, so that nothing rests on exact zeros."""
    noise = np.random.default_rng(5).integers(-3, 4, (side, side, 1))
    return (np.array(SKIN) + noise).astype(np.uint8)


def with_lines(image: ByteArray, lines: list[list[tuple[float, float]]], colour: tuple[int, int, int]) -> ByteArray:
    """Lines two pixels wide, drawn four times as large so that slanted ones are smooth."""
    large = Image.fromarray(image).resize((image.shape[1] * 4, image.shape[0] * 4))
    draw = ImageDraw.Draw(large)
    for line in lines:
        draw.line([(x * 4, y * 4) for x, y in line], fill=colour, width=8)
    return np.array(large.resize((image.shape[1], image.shape[0]), Image.Resampling.BOX))


def hairs(count: int = 6, seed: int = 0) -> list[list[tuple[float, float]]]:
    """Curved lines about half a photograph long, in any direction."""
    generator, lines = np.random.default_rng(seed), []
    for _ in range(count):
        angle, bend = generator.uniform(0, 2 * math.pi), generator.uniform(-0.01, 0.01)
        x, y = generator.uniform(0.35 * SIDE, 0.65 * SIDE, 2)
        steps = np.arange(-80, 80, 2)
        line = np.cumsum(np.stack([np.cos(angle + bend * steps), np.sin(angle + bend * steps)], axis=1) * 2, axis=0)
        line += (x, y) - line.mean(axis=0)
        lines.append([(float(px), float(py)) for px, py in line])
    return lines


def scale_marks(
    degrees: float = 4.0, step: float = 12.0, count: int = 18, jitter: float = 0.0, base: bool = True
) -> list[list[tuple[float, float]]]:
    """A base line with marks, about the middle of the photograph, and some way off it."""
    turn = math.radians(degrees)
    along, across = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    places = (np.arange(count) - (count - 1) / 2) * step
    places = places + np.random.default_rng(3).uniform(-jitter, jitter, count)
    origin = np.array([SIDE / 2, SIDE / 2]) + 40 * across
    lines = [[tuple(origin + place * along), tuple(origin + place * along - 9 * across)] for place in places]
    if base:
        lines.append([tuple(origin + places[0] * along), tuple(origin + places[-1] * along)])
    return lines


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((0, 0, 3), np.uint8), id="empty"),
        pytest.param(np.zeros((0, 9, 3), np.uint8), id="no rows"),
        pytest.param(np.zeros((1, 1, 3), np.uint8), id="one pixel"),
        pytest.param(np.full((1, 500, 3), 90, np.uint8), id="one row"),
        pytest.param(np.full((500, 2, 3), 90, np.uint8), id="two columns"),
        pytest.param(np.full((7, 5, 3), 200, np.uint8), id="tiny"),
        pytest.param(np.full((300, 200, 3), 0, np.uint8), id="black"),
        pytest.param(np.full((300, 200, 3), 255, np.uint8), id="white"),
        pytest.param(np.broadcast_to(SKIN, (900, 700, 3)).astype(np.uint8), id="one colour"),
        pytest.param(
            np.repeat(np.linspace(0, 255, 300).astype(np.uint8)[:, None, None], 200, 1).repeat(3, 2), id="grey slope"
        ),
    ],
)
def test_where_nothing_is_nothing_is_found(image: ByteArray) -> None:
    assert find_artifacts(image) == NOTHING


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 40), st.integers(0, 40), st.just(3))))
def test_any_photograph_has_an_answer_within_its_range(image: ByteArray) -> None:
    found = find_artifacts(image)
    assert 0 <= found.hair_share <= 1
    assert found.ruler_strength >= 0
    assert found.hair == (found.hair_share >= MIN_HAIR_SHARE)
    assert found.ruler == (found.ruler_strength >= MIN_RULER_STRENGTH)


@pytest.mark.parametrize("seed", range(8))
def test_hair_is_found_and_is_no_ruler(seed: int) -> None:
    found = find_artifacts(with_lines(skin(), hairs(seed=seed), BLACK))
    assert found.hair
    assert not found.ruler


def test_bare_drawn_skin_with_a_lesion_has_neither() -> None:
    found = [find_artifacts(draw_scene(seed, ImageSize(384, 384), settings=BARE).image) for seed in range(5)]
    assert sum(one.hair for one in found) <= 1
    assert sum(one.ruler for one in found) == 0


def test_more_hair_is_a_larger_share() -> None:
    shares = [find_artifacts(with_lines(skin(), hairs(count), BLACK)).hair_share for count in (0, 1, 3, 9)]
    assert shares == sorted(shares)
    assert shares[0] < MIN_HAIR_SHARE < shares[1] < shares[3] / 3


@pytest.mark.parametrize("colour", [VIOLET, RED], ids=["violet ink", "blood vessels"])
def test_lines_of_another_colour_are_no_hair(colour: tuple[int, int, int]) -> None:
    assert not find_artifacts(with_lines(skin(), hairs(), colour)).hair


def test_short_strokes_apart_from_one_another_are_no_hair() -> None:
    generator, strokes = np.random.default_rng(1), []
    for y in range(10, SIDE, 18):
        for x in range(10, SIDE, 18):
            turn = generator.uniform(0, math.pi)
            across, down = 4 * math.cos(turn), 4 * math.sin(turn)
            strokes.append([(x - across, y - down), (x + across, y + down)])
    found = find_artifacts(with_lines(skin(), strokes, (150, 110, 90)))
    assert not found.hair
    assert not found.ruler


@pytest.mark.parametrize("step", [6.0, 12.0, 24.5])
@pytest.mark.parametrize("degrees", [0, 4, 33, 45, 90, 121, 168])
def test_a_ruler_is_found_whichever_way_it_lies_and_is_no_hair(degrees: float, step: float) -> None:
    marks = scale_marks(degrees, step, count=int(220 / step))
    found = find_artifacts(with_lines(skin(), marks, BLACK))
    assert found.ruler
    assert not found.hair


def test_hair_over_a_ruler_is_found_too() -> None:
    found = find_artifacts(with_lines(skin(), scale_marks() + hairs(), BLACK))
    assert found.hair
    assert found.ruler


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([[(20, 200), (300, 215)]], id="a straight line without marks"),
        pytest.param(scale_marks(jitter=5.5), id="marks at uneven steps"),
        pytest.param(scale_marks(count=4), id="too short"),
    ],
)
def test_what_is_no_ruler(lines: list[list[tuple[float, float]]]) -> None:
    assert not find_artifacts(with_lines(skin(), lines, BLACK)).ruler


def test_marks_without_a_base_line_are_not_found_as_the_documentation_says() -> None:
    assert not find_artifacts(with_lines(skin(), scale_marks(count=5, step=25, base=False), BLACK)).ruler


TURNS: dict[str, Callable[[ByteArray], ByteArray]] = {
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "a quarter turn": lambda image: np.rot90(image),
    "half a turn": lambda image: np.rot90(image, 2),
    "three quarters": lambda image: np.rot90(image, 3),
    "transposed": lambda image: image.transpose(1, 0, 2),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_hair_is_the_same_to_the_pixel_in_a_turned_or_mirrored_photograph(
    turn: Callable[[ByteArray], ByteArray],
) -> None:
    for seed in range(3):
        image = with_lines(skin(), hairs(seed=seed), BLACK)
        assert find_artifacts(np.ascontiguousarray(turn(image))).hair_share == find_artifacts(image).hair_share


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_ruler_is_found_again_in_a_turned_or_mirrored_photograph(turn: Callable[[ByteArray], ByteArray]) -> None:
    for degrees in (0, 17, 45):
        image = with_lines(skin(), scale_marks(degrees), BLACK)
        strength, turned = (find_artifacts(one).ruler_strength for one in (image, np.ascontiguousarray(turn(image))))
        assert turned == pytest.approx(strength, rel=0.15)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_larger_photograph_of_the_same_gives_the_same_answer(factor: int) -> None:
    image = with_lines(skin(384), scale_marks() + hairs(), BLACK)
    height, width = image.shape[:2]
    large = np.asarray(Image.fromarray(image).resize((factor * width, factor * height), Image.Resampling.BICUBIC))
    found, again = find_artifacts(image), find_artifacts(large)
    assert (again.hair, again.ruler) == (found.hair, found.ruler) == (True, True)
    assert again.hair_share == pytest.approx(found.hair_share, rel=0.25)


def test_a_photograph_without_colour_gives_an_answer_too() -> None:
    grey = np.asarray(Image.fromarray(with_lines(skin(), scale_marks() + hairs(), BLACK)).convert("L"))
    found = find_artifacts(np.repeat(grey[..., None], 3, axis=2))
    assert (found.hair, found.ruler) == (True, True)


@given(hnp.arrays(np.uint8, (21, 26)))
@settings(max_examples=20, deadline=None)
def test_lines_are_those_of_a_slow_reference(plane: ByteArray) -> None:
    """Along rows, columns and both diagonals, where a line of pixels is beyond doubt."""
    length = 7
    found = list(artifacts._darkest_lines(plane, length))
    quarter = artifacts._NUM_DIRECTIONS // 4
    reaches = {0: (0, 1, 3), quarter: (1, 1, 3), 2 * quarter: (1, 0, 3), 3 * quarter: (1, -1, 3)}
    for index, (dy, dx, _) in reaches.items():
        half = range(-(length // 2), length // 2 + 1)
        if dy and dx:  # of a diagonal, steps are shorter in number: the line is as long in pixels' sides
            half = diagonal_reach(length)
        for y in range(plane.shape[0]):
            for x in range(plane.shape[1]):
                places = [(y + step * dy, x + step * dx) for step in half]
                inside = all(0 <= py < plane.shape[0] and 0 <= px < plane.shape[1] for py, px in places)
                assert found[index][y, x] == (min(int(plane[place]) for place in places) if inside else 0)


def diagonal_reach(length: int) -> range:
    """Steps of a diagonal: each of the lengths 1, 2, 4, ... that make up a half is rounded by itself."""
    reach, steps = 1, 0
    while reach < length // 2 + 1:
        take = min(reach, length // 2 + 1 - reach)
        steps += round(take * math.sqrt(0.5))
        reach += take
    return range(-steps, steps + 1)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=20, deadline=None)
def test_the_mean_around_is_that_of_a_slow_reference(plane: ByteArray) -> None:
    half = artifacts._BUSY_SIDE // 2
    padded = np.pad(plane.astype(np.float64), half, mode="edge")
    expected = [
        [padded[y : y + 2 * half + 1, x : x + 2 * half + 1].mean() for x in range(plane.shape[1])]
        for y in range(plane.shape[0])
    ]
    np.testing.assert_allclose(artifacts._mean_around(plane), expected, rtol=1e-5, atol=1e-5)


def test_the_rhythm_of_marks_is_their_step_and_noise_has_none() -> None:
    generator = np.random.default_rng(0)
    regular = np.tile(np.r_[np.full(2, 18.0), np.zeros(10)], 20).astype(np.float32)
    noise = generator.uniform(0, 18, len(regular)).astype(np.float32)
    assert artifacts._rhythm(regular) > 2 * MIN_RULER_STRENGTH
    assert artifacts._rhythm(noise) < MIN_RULER_STRENGTH
    assert artifacts._rhythm(np.zeros(100, np.float32)) == 0
