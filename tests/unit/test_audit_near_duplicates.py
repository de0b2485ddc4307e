"""Near-duplicates on drawn scenes: what is found, what is not, and photographs with nothing on them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dermask.audit.near_duplicates import (
    SIDE,
    THRESHOLD,
    DuplicatePair,
    find_near_duplicates,
    groups_of,
    signature,
)
from dermask.audit.signatures import orientations, windows_of
from dermask.data.synthetic import draw_scene
from dermask.records import ImageSize


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed, ImageSize(SIDE, SIDE), num_lesions=1).image for seed in range(5)]


def turned(image, which):
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if which >= 4 else image, which % 4))


def pair(first, second):
    return DuplicatePair(first, second, 1.0, "same")


@pytest.mark.parametrize(
    ("pairs", "count", "groups"),
    [
        ([], 0, []),
        ([], 3, []),
        ([pair(0, 2)], 3, [[0, 2]]),
        ([pair(2, 3), pair(0, 1)], 5, [[0, 1], [2, 3]]),
        ([pair(3, 4), pair(0, 4), pair(0, 1)], 5, [[0, 1, 3, 4]]),
    ],
    ids=["no photographs", "no pairs", "one pair", "two groups", "a chain"],
)
def test_groups_are_what_pairs_connect(pairs, count, groups):
    assert groups_of(pairs, count) == groups
    assert groups_of(pairs[::-1], count) == groups


@pytest.mark.parametrize("count", [0, 1])
def test_no_pairs_without_two_photographs(scenes, count):
    assert find_near_duplicates([signature(image) for image in scenes[:count]]) == []


def test_different_scenes_are_different(scenes):
    assert find_near_duplicates([signature(image) for image in scenes]) == []


def test_a_photograph_is_its_own_duplicate(scenes):
    assert find_near_duplicates([signature(scenes[0]), signature(scenes[1]), signature(scenes[0].copy())]) == [
        DuplicatePair(0, 2, 1.0, "same")
    ]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (1, "rotated by 270"),
        (2, "rotated by 180"),
        (3, "rotated by 90"),
        (4, "mirrored"),
        (5, "mirrored, rotated by 270"),
        (6, "mirrored, rotated by 180"),
        (7, "mirrored, rotated by 90"),
    ],
)
def test_every_orientation_is_found_and_named(scenes, which, words):
    images = [*scenes, turned(scenes[0], which)]
    (found,) = find_near_duplicates([signature(image) for image in images])
    assert (found.first, found.second, found.transform) == (0, 5, words)
    assert found.similarity > 0.8


def test_a_darker_copy_of_half_the_size_is_found(scenes):
    small = (scenes[3][::2, ::2] * 0.7).astype(np.uint8)
    (found,) = find_near_duplicates([signature(image) for image in [*scenes, small]])
    assert (found.first, found.second) == (3, 5)


def test_the_order_does_not_matter(scenes):
    images = [scenes[0], scenes[1], turned(scenes[1], 5), turned(scenes[0], 2)]
    signatures = [signature(image) for image in images]
    forward = {(one.first, one.second) for one in find_near_duplicates(signatures)}
    backward = {(3 - one.second, 3 - one.first) for one in find_near_duplicates(signatures[::-1])}
    assert forward == backward == {(0, 3), (1, 2)}


@pytest.mark.filterwarnings("error")
def test_photographs_with_nothing_on_them_pair_only_with_their_equals():
    shapes = [(1, 1), (1, 500), (500, 1), (3, 2), (300, 200)]
    images = [np.full((*shape, 3), value, np.uint8) for shape in shapes for value in (0, 90, 255)]
    pairs = find_near_duplicates([signature(image) for image in images])
    # 3 x 2 and 300 x 200 of one colour are the same at another size.
    assert pairs == [DuplicatePair(first, first + 3, 1.0, "same") for first in (9, 10, 11)]


@pytest.mark.filterwarnings("error")
def test_odd_shapes_and_noise_give_finite_results(scenes):
    rng = np.random.default_rng(3)
    shapes = [(2, 900), (900, 2), (40, 400), (17, 13), (240, 240)]
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    images += [scenes[0][:, :30], scenes[0][:30]]
    for one in find_near_duplicates([signature(image) for image in images]):
        assert THRESHOLD <= one.similarity <= 1


@pytest.mark.parametrize("shape", [(1, 1), (240, 240), (300, 400), (200, 600), (20, 4000)])
def test_a_signature_is_small_and_travels(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    one = signature(image)
    assert one.thumbnail.shape == (120, 120)
    assert one.descriptors.shape == (len(windows_of(one.aspect)), 33)
    sent = pickle.dumps(one)
    assert len(sent) < 24_000
    np.testing.assert_array_equal(pickle.loads(sent).descriptors, one.descriptors)


def test_a_turned_photograph_has_the_turned_descriptor(scenes):
    upright, swapped = signature(scenes[1]), signature(np.ascontiguousarray(scenes[1].transpose(1, 0, 2)))
    expected = orientations(upright.descriptors[:1].astype(np.float32))[4]
    # Rounding to 8 bits, and resampling that is not symmetric to the last bit.
    np.testing.assert_allclose(swapped.descriptors[:1], expected, atol=2)


def test_progress_ends_at_the_total(scenes):
    seen = []
    find_near_duplicates([signature(image) for image in scenes], on_progress=lambda *now: seen.append(now))
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
