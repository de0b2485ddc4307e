import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermask.config import NO_AUGMENTATION, AugmentSettings
from dermask.data.dataset import LoadedSample
from dermask.records import ImageSize
from dermask.training import transforms
from dermask.training.transforms import FILL, augment, mosaic, resized, shrink

CANVAS = ImageSize(64, 64)
SKIN, LESION = (210, 170, 150), (90, 50, 40)
GEOMETRY = AugmentSettings(colour=0, blur=0, hair=0, ruler=0, mosaic=0)


def only(**changes):
    return NO_AUGMENTATION.model_copy(update=changes)


def disc(height, width, *, centre=None, radius=None):
    y, x = np.mgrid[:height, :width] + 0.5
    centre_y, centre_x = centre or (height / 2, width / 2)
    radius = radius or 0.3 * min(height, width)
    return (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2


def sample_with(*masks, size=(64, 64)):
    image = np.full((*size, 3), SKIN, np.uint8)
    stack = np.array(masks, np.bool_).reshape(-1, *size)
    image[stack.any(axis=0)] = LESION
    return LoadedSample(image, stack, np.arange(1, len(stack) + 1), None, "photo")


def looks_dark(image):
    return image[..., 0] < (SKIN[0] + LESION[0]) / 2


def overlap(mask, image):
    """IoU of a mask with what looks like the lesion in the image."""
    dark = looks_dark(image)
    return (mask & dark).sum() / (mask | dark).sum()


def colourful(size, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


class TestWithoutAugmentation:
    @pytest.mark.parametrize(
        ("size", "shown"),
        [
            ((64, 64), (64, 64)),
            ((32, 32), (64, 64)),
            ((128, 128), (64, 64)),
            ((32, 64), (32, 64)),
            ((128, 64), (64, 32)),
            ((1, 1), (64, 64)),
            ((300, 450), (43, 64)),
        ],
        ids=["canvas", "half", "double", "wide", "tall", "one pixel", "photograph"],
    )
    def test_the_photograph_fits_and_lies_in_the_upper_left_corner(self, size, shown):
        result = augment(sample_with(size=size), NO_AUGMENTATION, CANVAS, np.random.default_rng(0))
        is_fill = (result.image == FILL).all(axis=2)
        assert not is_fill[: shown[0] - 1, : shown[1] - 1].any()
        assert is_fill[shown[0] + 1 :].all()
        assert is_fill[:, shown[1] + 1 :].all()

    def test_a_photograph_of_the_canvas_size_is_unchanged(self):
        sample = LoadedSample(colourful(CANVAS), disc(64, 64)[None], np.array([1]), None, "photo")
        result = augment(sample, NO_AUGMENTATION, CANVAS, np.random.default_rng(0))
        np.testing.assert_array_equal(result.image, sample.image)
        np.testing.assert_array_equal(result.masks, sample.masks)

    def test_regions_to_ignore_are_left_out(self):
        sample = LoadedSample(colourful(CANVAS), disc(64, 64)[None], np.array([1]), disc(64, 64), "photo")
        assert augment(sample, NO_AUGMENTATION, CANVAS, np.random.default_rng(0)).ignored is None


class TestGeometry:
    def test_a_photograph_without_objects_is_an_ordinary_one(self):
        result = augment(sample_with(), AugmentSettings(), CANVAS, np.random.default_rng(1))
        assert result.masks.shape == (0, 64, 64)
        assert result.labels.shape == (0,)
        assert result.image.shape == (64, 64, 3)

    def test_certain_flips_turn_both_axes_to_the_bit(self):
        sample = LoadedSample(colourful(CANVAS), disc(64, 64, centre=(20, 30))[None], np.array([1]), None, "photo")
        result = augment(sample, only(flip=1.0), CANVAS, np.random.default_rng(0))
        np.testing.assert_array_equal(result.image, sample.image[::-1, ::-1])
        np.testing.assert_array_equal(result.masks, sample.masks[:, ::-1, ::-1])

    def test_quarter_turns_are_numpys_to_the_bit(self):
        sample = LoadedSample(colourful(CANVAS), disc(64, 64, centre=(20, 30))[None], np.array([1]), None, "photo")
        seen = []
        for seed in range(20):
            result = augment(sample, only(quarter_turn=1.0), CANVAS, np.random.default_rng(seed))
            same = [k for k in range(4) if np.array_equal(result.image, np.rot90(sample.image, k))]
            seen += same
            assert [k for k in range(4) if np.array_equal(result.masks[0], np.rot90(sample.masks[0], k))] == same
        assert sorted(set(seen)) == [1, 2, 3]
        assert len(seen) == 20

    def test_a_quarter_turn_of_a_wide_photograph_fits_it_anew(self):
        sample = sample_with(size=(32, 64))
        results = [augment(sample, only(quarter_turn=1.0), CANVAS, np.random.default_rng(seed)) for seed in range(12)]
        shown = {
            tuple(map(int, ((r.image != FILL).any(axis=2)).sum(axis=(0, 1), keepdims=True).ravel())) for r in results
        }
        assert shown == {(32 * 64,)}
        assert any((r.image[40:, :20] == SKIN).all() for r in results), "upright ones fill the left half"

    def test_masks_go_where_the_image_goes(self):
        sample = sample_with(disc(96, 80, centre=(50, 35), radius=18), size=(96, 80))
        offsets = []
        for seed in range(60):
            result = augment(sample, GEOMETRY, CANVAS, np.random.default_rng(seed), fill=SKIN)
            assert overlap(result.masks[0], result.image) > 0.9  # a disc of 20 pixels across, mask by nearest pixel
            offsets.append(
                np.subtract(*[np.mean(np.nonzero(m), axis=1) for m in (result.masks[0], looks_dark(result.image))])
            )
        np.testing.assert_allclose(np.mean(offsets, axis=0), 0, atol=0.05, err_msg="no shift between them, in pixels")

    def test_the_same_generator_gives_the_same_bytes(self):
        sample = sample_with(disc(80, 80), size=(80, 80))
        first, second, other = (
            augment(sample, AugmentSettings(), CANVAS, np.random.default_rng(seed)) for seed in (5, 5, 6)
        )
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.masks, second.masks)
        assert (first.image != other.image).any()

    def test_what_is_given_stays_as_it_is(self):
        sample = sample_with(disc(64, 64))
        image, masks = sample.image.copy(), sample.masks.copy()
        settings = AugmentSettings(hair=1, ruler=1, blur=1, colour=1, sticker=1, dark_corners=1, noise=1, jpeg=1)
        augment(sample, settings, CANVAS, np.random.default_rng(0))
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.masks, masks)

    def test_zoom_scales_areas_by_its_square(self):
        sample = sample_with(disc(64, 64, radius=12))
        for zoom in (0.7, 1.0, 1.4):
            result = augment(sample, only(scale_range=(zoom, zoom)), CANVAS, np.random.default_rng(0))
            assert result.masks.sum() == pytest.approx(math.pi * (12 * zoom) ** 2, rel=0.03)

    @settings(max_examples=60, deadline=None)
    @given(
        height=st.integers(1, 50),
        width=st.integers(1, 50),
        count=st.integers(0, 2),
        seed=st.integers(0, 2**32),
        cover=st.floats(0, 1),
    )
    def test_any_photograph_gives_a_sound_canvas(self, height, width, count, seed, cover):
        rng = np.random.default_rng(seed)
        masks = [rng.random((height, width)) < 0.7 for _ in range(count)]
        result = augment(sample_with(*masks, size=(height, width)), GEOMETRY, ImageSize(32, 48), rng, cover=cover)
        assert result.image.shape == (32, 48, 3)
        assert result.image.dtype == np.uint8
        assert len(result.masks) == len(result.labels) <= count
        assert all(mask.sum() >= transforms.MIN_AREA for mask in result.masks)


class TestWarp:
    @pytest.mark.parametrize("seed", range(6))
    def test_equals_the_slow_obvious_one(self, seed):
        rng = np.random.default_rng(seed)
        image = colourful((40, 50), seed)
        tame = GEOMETRY.model_copy(update={"scale_range": (1.0, 1.4)})
        matrix = transforms._random_matrix(tame, ImageSize(40, 50), ImageSize(36, 44), rng, 0.0)
        warped = transforms._warp(Image.fromarray(image), matrix, ImageSize(36, 44), Image.Resampling.BILINEAR, FILL)
        expected, inside = slow_bilinear(image, matrix, (36, 44))
        np.testing.assert_allclose(warped[inside], expected[inside], atol=1.0, err_msg="one grey level of rounding")

    def test_strong_shrinking_averages_instead_of_skipping(self):
        stripes = np.zeros((128, 128, 3), np.uint8)
        stripes[:, ::2] = 255
        result = augment(
            LoadedSample(stripes, np.zeros((0, 128, 128), bool), np.zeros(0, int), None, "stripes"),
            NO_AUGMENTATION,
            ImageSize(32, 32),
            np.random.default_rng(0),
        )
        np.testing.assert_allclose(result.image[:, 2:-2].astype(int), 127, atol=3, err_msg="resizing rounds twice")


def slow_bilinear(image, matrix, size):
    """Every canvas pixel's centre mapped back, four neighbours weighted; and which pixels need no border rule."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    result, inside = np.zeros((*size, 3)), np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = inverse @ (column + 0.5, row + 0.5, 1)
            x, y = x - 0.5, y - 0.5
            left, top = math.floor(x), math.floor(y)
            if not (0 <= left < image.shape[1] - 1 and 0 <= top < image.shape[0] - 1):
                continue
            inside[row, column] = True
            for dy in (0, 1):
                for dx in (0, 1):
                    weight = (1 - abs(y - top - dy)) * (1 - abs(x - left - dx))
                    result[row, column] += weight * image[top + dy, left + dx]
    return result, inside


class TestDroppedObjects:
    @pytest.mark.parametrize(
        ("mask", "shift", "kept"),
        [
            (disc(64, 64, radius=12), 0, True),
            (disc(64, 64, radius=12), 32, True),
            (disc(64, 64, radius=12), 42, False),
            (disc(64, 64, radius=12), 70, False),
            (disc(64, 64, radius=2.5), 0, True),
            (disc(64, 64, radius=1.5), 0, False),
        ],
        ids=["whole", "half", "sliver of a large one", "outside", "small", "too small"],
    )
    def test_only_objects_still_to_be_seen_are_kept(self, mask, shift, kept):
        matrix = np.array([[1.0, 0, shift], [0, 1, 0]])
        masks, labels = transforms._warp_objects(mask[None], np.array([3]), matrix, CANVAS)
        assert labels.tolist() == ([3] if kept else [])
        assert len(masks) == len(labels)

    def test_labels_stay_with_their_masks(self):
        outside, inside = disc(64, 64, centre=(10, 60), radius=4), disc(64, 64, centre=(30, 20), radius=9)
        matrix = np.array([[1.0, 0, 20], [0, 1, 0]])
        masks, labels = transforms._warp_objects(np.stack([outside, inside]), np.array([1, 2]), matrix, CANVAS)
        assert labels.tolist() == [2]
        np.testing.assert_array_equal(masks[0][:, 20:], inside[:, :44])


class Draws:
    """A generator whose draws are given."""

    def __init__(self, **values):
        self.values = [values.get(name, 0.0) for name in ("brightness", "contrast", "saturation", "hue", "r", "g", "b")]

    def uniform(self, low, high, count):
        return np.array(self.values[:count])


class TestColour:
    def apply(self, rgb, **draws):
        matrix = np.array(transforms._random_colour_matrix(Draws(**draws))).reshape(3, 4)
        return matrix[:, :3] @ np.array(rgb, float) + matrix[:, 3]

    def test_no_change_is_the_identity(self):
        np.testing.assert_allclose(self.apply((10, 120, 250)), (10, 120, 250), atol=1e-9)

    @pytest.mark.parametrize("change", [{"hue": 1.0}, {"hue": -1.0}, {"saturation": 1.0}, {"saturation": -1.0}])
    def test_hue_and_saturation_leave_grey_alone(self, change):
        # YIQ's published coefficients sum to zero to three digits.
        np.testing.assert_allclose(self.apply((128, 128, 128), **change), 128, atol=0.3)

    def test_saturation_moves_away_from_grey_at_equal_luma(self):
        luma = np.array([0.299, 0.587, 0.114])
        before = np.array([200.0, 100.0, 50.0])
        after = self.apply(before, saturation=1.0)
        assert luma @ after == pytest.approx(luma @ before)
        assert np.ptp(after) > np.ptp(before)

    @pytest.mark.parametrize(("change", "brighter"), [({"brightness": 1.0}, True), ({"brightness": -1.0}, False)])
    def test_brightness_shifts_every_channel(self, change, brighter):
        assert ((self.apply((90, 120, 150), **change) > (90, 120, 150)) == brighter).all()

    def test_contrast_turns_about_middle_grey(self):
        np.testing.assert_allclose(self.apply((128, 128, 128), contrast=1.0), 128)
        assert self.apply((100, 100, 100), contrast=1.0)[0] < 100 < 156 < self.apply((156, 156, 156), contrast=1.0)[0]

    def test_the_fill_keeps_its_colour(self):
        sample = sample_with(disc(32, 64), size=(32, 64))
        for seed in range(5):
            result = augment(sample, only(colour=1.0), CANVAS, np.random.default_rng(seed))
            assert (result.image[34:] == FILL).all()
            assert (result.image[5:25, 2:10] != SKIN).any()


class TestDisturbances:
    KINDS = ("hair", "ruler", "sticker", "dark_corners", "blur", "noise", "jpeg")

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_changes_pixels_and_leaves_masks(self, kind):
        sample = LoadedSample(colourful(CANVAS), disc(64, 64, radius=12)[None], np.array([1]), None, "photo")
        result = augment(sample, only(**{kind: 1.0}), CANVAS, np.random.default_rng(2))
        assert (result.image != sample.image).any()
        np.testing.assert_array_equal(result.masks, sample.masks)

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_comes_as_often_as_asked(self, kind):
        sample = LoadedSample(colourful(CANVAS), disc(64, 64, radius=12)[None], np.array([1]), None, "photo")
        settings, rng = only(**{kind: 0.3}), np.random.default_rng(0)
        changed = [(augment(sample, settings, CANVAS, rng).image != sample.image).any() for _ in range(200)]
        assert 0.2 < np.mean(changed) < 0.4

    def test_what_is_off_draws_no_number(self):
        # So that a run of a version that lacked them stays the same run.
        rng, other = np.random.default_rng(4), np.random.default_rng(4)
        augment(sample_with(disc(64, 64)), NO_AUGMENTATION, CANVAS, rng)
        other.random(4), other.random(3), other.uniform(size=1), other.uniform(size=1)
        other.uniform(-0.0, 0.0, 2)
        assert rng.random() == other.random()

    def test_a_sticker_never_hides_a_lesion(self):
        lesion = disc(64, 64, centre=(20, 40), radius=14)
        for seed in range(40):
            result = augment(sample_with(lesion), only(sticker=1.0), CANVAS, np.random.default_rng(seed))
            assert (np.abs(result.image[lesion].astype(int) - LESION).max(axis=1) < 70).mean() > 0.9

    def test_noise_keeps_the_mean_and_has_the_promised_strength(self):
        spreads = []
        for seed in range(40):
            image = augment(sample_with(), only(noise=1.0), CANVAS, np.random.default_rng(seed)).image.astype(float)
            assert image[..., 1].mean() == pytest.approx(SKIN[1], abs=2)
            spreads.append(image[..., 1].std())
        assert 1.8 < min(spreads) < 4
        assert 15 < max(spreads) < 26

    def test_blur_goes_from_hardly_to_strongly(self):
        edges = np.zeros((64, 64, 3), np.uint8)
        edges[:, 32:] = 255
        sample = LoadedSample(edges, np.zeros((0, 64, 64), np.bool_), np.zeros(0, np.int64), None, "photo")
        steepest = []
        for seed in range(40):
            image = augment(sample, only(blur=1.0), CANVAS, np.random.default_rng(seed)).image
            steepest.append(np.abs(np.diff(image[32, :, 0].astype(int))).max())
        assert max(steepest) > 120
        assert min(steepest) < 35


class TestMosaic:
    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_cells_tile_the_canvas(self, count):
        for seed in range(20):
            covered = np.zeros((60, 90), int)
            for top, left, bottom, right in transforms._mosaic_cells(
                count, ImageSize(60, 90), np.random.default_rng(seed)
            ):
                covered[top:bottom, left:right] += 1
            assert (covered == 1).all()

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_every_photograph_brings_its_lesion(self, count):
        samples = [sample_with(disc(64, 64, radius=15)) for _ in range(count)]
        result = mosaic(samples, NO_AUGMENTATION, CANVAS, np.random.default_rng(3), fill=SKIN)
        assert len(result.masks) == len(result.labels) == count
        assert result.masks.sum(axis=0).max() == 1, "lesions of different cells never overlap"
        assert overlap(result.masks.any(axis=0), result.image) > 0.9

    def test_photographs_without_lesions_may_be_among_them(self):
        result = mosaic([sample_with(), sample_with(disc(64, 64))], GEOMETRY, CANVAS, np.random.default_rng(0))
        assert len(result.labels) <= 1
        assert mosaic([sample_with()] * 3, GEOMETRY, CANVAS, np.random.default_rng(0)).masks.shape == (0, 64, 64)

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_other_counts_are_refused(self, count):
        with pytest.raises(ValueError, match=f"2 to 4 photographs, not {count}"):
            mosaic([sample_with()] * count, GEOMETRY, CANVAS, np.random.default_rng(0))


class TestShrink:
    def test_a_large_photograph_comes_down_to_what_training_can_use(self):
        sample = sample_with(disc(600, 400), size=(600, 400))
        result = shrink(sample, CANVAS)
        assert result.image.shape == (96, 64, 3)
        assert result.masks.shape == (1, 96, 64)
        assert result.masks.mean() == pytest.approx(sample.masks.mean(), rel=0.02)

    @pytest.mark.parametrize("size", [(64, 64), (96, 96), (20, 30)])
    def test_others_are_the_very_same(self, size):
        sample = sample_with(size=size)
        assert shrink(sample, CANVAS) is sample

    def test_resized_keeps_objects_and_drops_nothing(self):
        sample = sample_with(disc(100, 100), disc(100, 100, centre=(5, 5), radius=0.8), size=(100, 100))
        result = resized(sample, ImageSize(10, 20))
        assert result.image.shape == (10, 20, 3)
        assert result.masks.shape == (2, 10, 20)
        assert result.masks.sum(axis=(1, 2)).tolist()[1] == 0
