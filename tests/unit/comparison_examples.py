"""A made-up comparison, with photographs and masks, for the tests of its page."""

from __future__ import annotations

import numpy as np

from dermask import masks
from dermask.data.dataset import Dataset
from dermask.evaluation.compared_figures import PHOTO_FIGURES, SetStatistic, Side
from dermask.evaluation.comparison import compare
from dermask.evaluation.comparison_file import ComparisonSet
from dermask.records import Bitmask, ImageSize, Instance, Rle, Sample

SIZE = ImageSize(30, 40)
COUNT = 44


def square(left: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[5:20, left : left + 15] = True
    return mask


def dataset(count: int = COUNT, name: str = "drawn") -> Dataset:
    samples = [
        Sample(f"photo_{index:02}", np.full((*SIZE, 3), 180, np.uint8), SIZE, (Instance(1, Bitmask(square(5))),))
        for index in range(count)
    ]
    return Dataset(samples, ("lesion",), name)


def predictions(count: int = COUNT) -> dict[str, list[Rle]]:
    nothing = masks.bitmask_to_rle(np.zeros(SIZE, np.bool_))
    found = {letter: [masks.bitmask_to_rle(square(7 + shift))] * count for shift, letter in enumerate("ABC")}
    found["A"] = [nothing, *found["A"][1:]]
    return found


def statistic(value: float) -> SetStatistic:
    return lambda weights: np.full((len(weights), 3), value)


def made_up(
    count: int = COUNT, *, shifts: tuple[float, ...] = (0.0, 0.02), runs: int = 1, name: str = "new"
) -> ComparisonSet:
    rng = np.random.default_rng(1)
    common = rng.beta(8, 2, (1, count, len(PHOTO_FIGURES)))
    sides = []
    for index, shift in enumerate(shifts):
        values = np.clip(common + rng.normal(shift, 0.03, (runs, count, common.shape[2])), 0, 1)
        names = tuple(f"run_{run}" for run in range(runs))
        origins = ({"file": "new.json", "sha256": "3f9a"},) * runs
        sides.append(
            Side(name if index else "old", values, (statistic(0.5 + shift),) * runs, names, (0.5,) * runs, origins)
        )
    photos = [sample.image_id for sample in dataset(count)]
    options = {"image_ids": photos, "units": photos, "num_resamples": 200, "num_flips": 200}
    members = tuple(compare(sides[0], other, **options) for other in sides[1:])
    return ComparisonSet(members, "drawn", "fingerprint3f9a", "primary")
