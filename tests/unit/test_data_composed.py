"""Composed photographs hold what their masks say, and no lesion lies on another."""

import numpy as np
import pytest

from dermask.data.composed import MAX_LESIONS, compose
from dermask.data.dataset import Dataset
from dermask.errors import LabelError
from dermask.records import Bitmask, ImageSize, Instance, Sample

SIZE = ImageSize(96, 128)


def disc(cy: float, cx: float, radius: float) -> np.ndarray:
    ys, xs = np.mgrid[: SIZE.height, : SIZE.width] + 0.5
    return (ys - cy) ** 2 + (xs - cx) ** 2 <= radius**2


def photograph(number: int, radius: float = 12) -> Sample:
    mask = disc(48, 64, radius)
    skin = np.array([200, 170, 150 + 5 * number])
    image = np.where(mask[..., None], np.array([90, 50, 30]), skin).astype(np.uint8)
    return Sample(f"photo_{number}", image, SIZE, (Instance(1, Bitmask(mask)),))


SINGLES = Dataset([photograph(number) for number in range(4)], ("lesion",), name="singles")


@pytest.fixture(scope="module")
def composed() -> Dataset:
    return compose(SINGLES, 12, seed=3)


def test_there_are_two_to_five_lesions(composed):
    assert len(composed) == 12
    counts = {len(sample.instances) for sample in composed}
    assert counts <= set(range(2, MAX_LESIONS + 1))
    assert len(counts) > 1


def test_lesions_do_not_overlap_and_are_dark_where_the_mask_says_so(composed):
    for index in range(len(composed)):
        sample = composed.load(index)
        assert sample.masks.sum(axis=0).max() == 1
        for mask in sample.masks:
            assert sample.image[mask].mean() < 110
        assert sample.image[~sample.masks.any(axis=0)].mean() > 140


def test_the_seed_decides(composed):
    again, other = compose(SINGLES, 12, seed=3), compose(SINGLES, 12, seed=4)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(composed, again, strict=True))
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(composed, other, strict=True))


def test_a_photograph_is_the_same_however_many_are_composed(composed):
    few = compose(SINGLES, 3, seed=3)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(few, composed, strict=False))


def test_the_photographs_themselves_stay_as_they_are():
    before = SINGLES[0].image.copy()
    compose(SINGLES, 3, seed=0)
    assert np.array_equal(SINGLES[0].image, before)


def test_what_is_left_out_is_neither_ground_nor_lesion():
    its_skin = [200, 170, 150]  # photo_0 alone
    two = compose(SINGLES, 20, leave_out=["photo_0"])
    others = compose(Dataset(list(SINGLES)[1:], ("lesion",), name="singles"), 20)
    assert [sample.image.tobytes() for sample in two] == [sample.image.tobytes() for sample in others]
    assert all((sample.image != its_skin).any(axis=-1).all() for sample in two)


def test_leaving_out_all_is_refused():
    with pytest.raises(LabelError, match="no photograph whose only lesion covers"):
        compose(SINGLES, 1, leave_out={sample.image_id for sample in SINGLES})


def test_none_composed_is_an_empty_data_set():
    assert len(compose(SINGLES, 0)) == 0


@pytest.mark.parametrize("samples", [[], [photograph(0, radius=45)]])
def test_photographs_without_room_are_refused(samples):
    message = "crowded: has no photograph whose only lesion covers 1 to 20 % of it; give others"
    with pytest.raises(LabelError, match=message):
        compose(Dataset(samples, ("lesion",), name="crowded"), 2)
