"""Pasted lesions lie on free skin with exact masks, and bare skin shows none of the lesion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.config import AugmentSettings
from dermask.data.dataset import LoadedSample
from dermask.records import ImageSize
from dermask.training.mixing import MAX_PASTED, bare_skin, drawn_scene, paste_lesions

HEIGHT, WIDTH = 96, 128
SKIN, LESION = (210, 170, 150), (90, 50, 40)


def disc(cy, cx, radius):
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (y - cy) ** 2 + (x - cx) ** 2 < radius**2


def photograph(*masks, labels=None):
    stack = np.array(masks, np.bool_).reshape(-1, HEIGHT, WIDTH)
    image = np.where(stack.any(axis=0)[..., None], np.array(LESION), np.array(SKIN)).astype(np.uint8)
    numbers = np.array(labels if labels is not None else [1] * len(stack), np.int64)
    return LoadedSample(image, stack, numbers, None, "photo")


DONORS = [photograph(disc(48, 64, 14), labels=[2]), photograph(disc(40, 60, 22), labels=[3])]


class TestPastedLesions:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), radius=st.integers(0, 30))
    def test_every_mask_is_a_dark_place_of_its_own(self, seed, radius):
        sample = photograph(*[disc(48, 40, radius)] * (radius > 0))
        mixed = paste_lesions(sample, DONORS, np.random.default_rng(seed))
        own = len(sample.masks)
        assert own <= len(mixed.masks) == len(mixed.labels) <= own + MAX_PASTED
        assert (mixed.masks[:own] == sample.masks).all()
        assert mixed.masks.sum(axis=0, dtype=int).max(initial=0) <= 1
        for mask in mixed.masks[own:]:
            assert mixed.image[mask][:, 0].mean() < 130
        outside = mixed.image[~mixed.masks.any(axis=0)]
        assert np.median(outside, axis=0).tolist() == list(SKIN)

    def test_they_keep_their_own_labels(self):
        labels = {
            int(label)
            for seed in range(20)
            for label in paste_lesions(photograph(disc(48, 40, 8)), DONORS, np.random.default_rng(seed)).labels[1:]
        }
        assert labels == {2, 3}

    def test_one_to_four_are_added_to_a_photograph_without_a_lesion(self):
        counts = {len(paste_lesions(photograph(), DONORS, np.random.default_rng(seed)).masks) for seed in range(40)}
        assert counts == {1, 2, 3, 4}

    @pytest.mark.parametrize("donors", [[], [photograph()], [photograph(disc(20, 20, 5), disc(70, 90, 5))]])
    def test_donors_without_one_lesion_give_none(self, donors):
        sample = photograph(disc(48, 64, 10))
        assert paste_lesions(sample, donors, np.random.default_rng(0)) is sample

    def test_a_photograph_full_of_lesion_stays_as_it_is(self):
        sample = photograph(np.ones((HEIGHT, WIDTH), np.bool_))
        assert paste_lesions(sample, DONORS, np.random.default_rng(0)) is sample

    def test_the_photographs_given_are_not_written_on(self):
        sample = photograph(disc(48, 40, 8))
        sample.image.setflags(write=False)
        paste_lesions(sample, DONORS, np.random.default_rng(0))
        assert np.array_equal(sample.image, photograph(disc(48, 40, 8)).image)


class TestBareSkin:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        cy=st.integers(0, HEIGHT),
        cx=st.integers(0, WIDTH),
        radius=st.integers(1, 40),
    )
    def test_no_pixel_of_a_lesion_is_left(self, seed, cy, cx, radius):
        sample = photograph(disc(cy, cx, radius))
        skin = bare_skin(sample, np.random.default_rng(seed))
        if skin is sample:
            return
        assert (skin.image == SKIN).all()
        assert skin.masks.shape == (0, *skin.image.shape[:2])
        assert skin.labels.shape == (0,)

    def test_beside_a_small_lesion_there_is_always_some(self):
        sample = photograph(disc(48, 64, 12))
        sizes = [bare_skin(sample, np.random.default_rng(seed)).image.shape[:2] for seed in range(50)]
        assert (HEIGHT, WIDTH) not in sizes
        assert np.min(sizes) >= 0.13 * HEIGHT

    def test_a_photograph_without_a_lesion_is_bare_anywhere(self):
        skin = bare_skin(photograph(), np.random.default_rng(0))
        assert skin.image.shape[0] > 0.45 * HEIGHT

    def test_a_lesion_that_fills_the_photograph_leaves_none(self):
        sample = photograph(np.ones((HEIGHT, WIDTH), np.bool_))
        assert bare_skin(sample, np.random.default_rng(0)) is sample


class TestDrawnScenes:
    def test_none_to_four_lesions_come_all_of_label_one(self):
        scenes = [drawn_scene(ImageSize(64, 80), np.random.default_rng(seed), bare=False) for seed in range(40)]
        assert {len(scene.masks) for scene in scenes} == {0, 1, 2, 3, 4}
        for scene in scenes:
            assert scene.image.shape == (64, 80, 3)
            assert scene.masks.shape == (len(scene.labels), 64, 80)
            assert (scene.labels == 1).all()

    def test_bare_ones_have_no_lesion(self):
        for seed in range(20):
            assert drawn_scene(ImageSize(64, 64), np.random.default_rng(seed), bare=True).masks.shape == (0, 64, 64)

    def test_the_same_numbers_draw_the_same_scene(self):
        first, second, other = (
            drawn_scene(ImageSize(48, 48), np.random.default_rng(seed), bare=False).image for seed in (5, 5, 6)
        )
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)

    @pytest.mark.parametrize(("size", "drawn"), [((1, 1), (32, 32)), ((32, 31), (32, 32)), ((40, 16), (40, 32))])
    def test_a_small_size_is_drawn_at_the_smallest(self, size, drawn):
        scene = drawn_scene(ImageSize(*size), np.random.default_rng(0), bare=False)
        assert scene.image.shape[:2] == drawn


def test_what_cannot_happen_together_adds_up_to_one_at_most():
    with pytest.raises(ValueError, match=r"mosaic, paste, drawn and bare_skin exclude each other and add up to 1\.1"):
        AugmentSettings(mosaic=0.3, paste=0.3, drawn=0.2, bare_skin=0.3)
