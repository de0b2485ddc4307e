import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.data.dataset import Dataset
from dermask.data.splits import split_by_seed
from dermask.errors import SettingError
from dermask.records import Sample

PIXEL = np.zeros((1, 1, 3), np.uint8)


def make(count: int) -> Dataset:
    return Dataset([Sample(f"ISIC_{index:07}", PIXEL) for index in range(count)])


def ids(dataset: Dataset) -> list[str]:
    return [sample.image_id for sample in dataset]


@pytest.mark.parametrize(
    ("total", "parts", "expected"),
    [
        (200, (160, 40), [160, 40]),
        (200, (0.8, 0.2), [160, 40]),
        (10, (0.7, 0.2, 0.1), [7, 2, 1]),
        (7, (0.5, 0.5), [4, 3]),
        (10, (0.3, 0.3), [3, 3]),
        (10, (1.0,), [10]),
        (10, (1,), [1]),
    ],
)
def test_parts_have_the_sizes_asked_for(total, parts, expected):
    assert [len(part) for part in split_by_seed(make(total), parts, seed=0)] == expected


@settings(deadline=None, max_examples=50)
@given(total=st.integers(2, 60), share=st.floats(0.05, 0.95), seed=st.integers(0, 2**32))
def test_parts_are_disjoint_complete_and_in_order(total, share, seed):
    dataset = make(total)
    try:
        first, second = split_by_seed(dataset, (share, 1 - share), seed=seed)
    except SettingError:
        assert min(share, 1 - share) * total < 1
        return
    assert sorted(ids(first) + ids(second)) == ids(dataset)
    assert ids(first) == sorted(ids(first))
    assert abs(len(first) - share * total) < 1


def test_a_split_does_not_depend_on_the_order_of_the_photographs():
    dataset = make(50)
    shuffled = dataset.select(np.random.default_rng(1).permutation(50).tolist())
    for here, there in zip(dataset.split((30, 20), seed=3), shuffled.split((30, 20), seed=3), strict=True):
        assert set(ids(here)) == set(ids(there))


def test_seeds_give_different_splits():
    splits = {tuple(ids(make(50).split((25, 25), seed=seed)[0])) for seed in range(20)}
    assert len(splits) == 20


def test_every_photograph_is_drawn_equally_often():
    drawn = [int(name[5:]) for seed in range(400) for name in ids(make(10).split((5,), seed=seed)[0])]
    counts = np.bincount(drawn, minlength=10)
    assert np.all(np.abs(counts - 200) < 50)  # 5 standard deviations


def test_a_known_split():
    # Golden: published figures rest on it; it must never change.
    assert ids(make(10).split((3,), seed=0)[0]) == ["ISIC_0000002", "ISIC_0000004", "ISIC_0000008"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), r"parts \[\]: is empty; name a count"),
        ((0.5, 0.0), r"parts \[0\.5, 0\.0\]: has a part that is not above 0"),
        ((5, -1), r"has a part that is not above 0"),
        ((float("nan"), 0.2), r"has a part that is not above 0"),
        ((8, 3), r"parts \[8, 3\]: asks for 11 photographs of 10; ask for fewer"),
        ((0.8, 0.3), r"parts \[0\.8, 0\.3\]: sums to 1\.1; give counts"),
        ((0.97, 0.03), r"0\.03 of 10 photographs is none; ask for a larger part"),
    ],
)
def test_impossible_parts_are_refused(parts, message):
    with pytest.raises(SettingError, match=message):
        split_by_seed(make(10), parts, seed=0)


def test_ids_of_files_whose_names_are_no_utf8_are_split_too():
    dataset = Dataset([Sample(image_id, PIXEL) for image_id in ("latin\udcfc", "utf")])
    assert {image_id for part in split_by_seed(dataset, (1, 1), seed=0) for image_id in ids(part)} == {
        "latin\udcfc",
        "utf",
    }
