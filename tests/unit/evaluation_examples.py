"""Small evaluations for tests of pages: drawn squares, predictions that miss by more and more, and many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dermask.data.dataset import Dataset
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.evaluation.record import Evaluation
from dermask.records import Bitmask, Detections, ImageSize, Instance, PhotoInfo, Sample

SIZE = ImageSize(30, 40)
NAMES = ("naevus", "wart", "mole")


class Evaluated(NamedTuple):
    """What the page of an evaluation is made of."""

    evaluation: Evaluation
    dataset: Dataset
    predictions: Sequence[Detections]


def evaluated(count: int, *, name: str = "drawn", prefix: str = "photo_", terms: Terms | None = None) -> Evaluated:
    """That many photographs: the second without a lesion, in the third nothing found, then ever looser outlines.

    Diagnoses go round so that of 40 photographs one group is too small for a claim.
    """
    generator = np.random.default_rng(0)
    samples, found, info = [], [], {}
    for index in range(count):
        image_id = f"{prefix}{index:04d}"
        mask = np.zeros(SIZE, np.bool_)
        mask[8:20, 8 : 14 + index % 20] = index != 1
        image = generator.integers(120, 200, (*SIZE, 3), np.uint8)
        samples.append(Sample(image_id, image, SIZE, (Instance(1, Bitmask(mask)),) if mask.any() else ()))
        box = np.array([[8 - index % 6, 8, 14 + index % 20, 20 + index % 9]], np.float32)
        score = np.array([0.95 - 0.01 * (index % 40)], np.float32)
        probs = np.full((1, 8, 8), 0.8, np.float32)
        one = Detections(box, score, np.array([1]), probs, SIZE, image_id=image_id)
        found.append(replace(Detections.empty(SIZE), image_id=image_id) if index == 2 else one)
        info[image_id] = PhotoInfo(diagnosis=NAMES[0] if index % 10 else NAMES[1])
    dataset = Dataset(samples, ("lesion",), name, Path("labels.json"))
    chosen = terms or Terms(metadata=info, num_resamples=100, look=False)
    return Evaluated(evaluate(found, dataset, terms=chosen), dataset, found)


def repeated(few: Evaluated, count: int) -> Evaluated:
    """The same photographs over and over under other ids, without judging them again; figures stay those of the few."""
    rows, samples, found = [], [], []
    for index in range(count):
        image_id = f"copy_{index:05d}"
        at = index % len(few.dataset)
        rows.append(replace(few.evaluation.rows[at], image_id=image_id, unit=image_id))
        samples.append(replace(few.dataset[at], image_id=image_id))
        found.append(replace(few.predictions[at], image_id=image_id))
    dataset = Dataset(samples, few.dataset.class_names, few.dataset.name)
    counts = replace(few.evaluation.counts, photographs=count)
    return Evaluated(replace(few.evaluation, rows=tuple(rows), counts=counts), dataset, found)
