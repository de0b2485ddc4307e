"""What a smaller or faster file of a model costs: figures of both on the same photographs, and their times in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.evaluation.bootstrap import Interval, mean_intervals, unit_indices
from dermask.evaluation.evaluate import summarise
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, challenge_figures
from dermask.inference.detector import Detector, Photograph
from dermask.inference.exported_detector import ExportedDetector
from dermask.inference.preparing import prepare
from dermask.inference.timing import mask_iou_of_best, time_in_turns
from dermask.records import Sample

Progress = Callable[[int, int], None]
_ROUNDS = 3
_TIMED = 16  # photographs; more say no more about a ratio


@dataclass(frozen=True, slots=True)
class Labelled:
    """Both files against the labels of the same photographs.

    Attributes:
        jaccard: Mean Jaccard index of the original and of the other file.
        jaccard_interval: 95 % interval of the other's minus the original's, paired; None for too few photographs.
        mask_ap: Average precision of masks of both.
    """

    jaccard: tuple[float, float]
    jaccard_interval: Interval | None
    mask_ap: tuple[float, float]

    @property
    def jaccard_loss(self) -> float:
        """How much lower the other's Jaccard index is; negative where it is higher."""
        return self.jaccard[0] - self.jaccard[1]


@dataclass(frozen=True, slots=True)
class Cost:
    """What another file of a model costs.

    Attributes:
        photographs: Compared.
        mask_iou: Mean IoU of the photographs' best-scoring masks in both; 1 where neither finds any.
        count_changed: Photographs on which the number of detections scoring at least a half differs.
        labelled: Against labels, where there are any.
    """

    photographs: int
    mask_iou: float
    count_changed: int
    labelled: Labelled | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def measure_cost(
    original: Detector,
    other: Detector,
    photographs: Dataset | Sequence[Photograph],
    on_progress: Progress = lambda done, total: None,
) -> Cost:
    """Run both on the same photographs.

    Args:
        original: What the other file was made of.
        other: The file in question.
        photographs: With labels or without, at least one.
        on_progress: Told how many are through, and of how many.

    Raises:
        InputError: There are none, or one cannot be read.
    """
    if not len(photographs):
        raise InputError("photographs to compare on", "there are none", "give at least one")
    pairs: list[tuple[PredictedMasks, PredictedMasks]] = []
    ious, changed = [], 0
    for number, photograph in enumerate(_sources(photographs), start=1):
        first, second = (detector.predict([photograph])[0] for detector in (original, other))
        ious.append(mask_iou_of_best(first, second))
        changed += len(first.above(0.5)) != len(second.above(0.5))
        if isinstance(photographs, Dataset):
            pairs.append((PredictedMasks.from_detections(first), PredictedMasks.from_detections(second)))
        on_progress(number, len(photographs))
    labelled = _against_labels(photographs, pairs) if isinstance(photographs, Dataset) else None
    return Cost(len(photographs), float(np.mean(ious)), changed, labelled)


def time_ratio(original: ExportedDetector, other: ExportedDetector, photographs: Sequence[Photograph]) -> float:
    """The original's time by the other's for one photograph: median over photographs and rounds, taking turns.

    Photographs are decoded and scaled beforehand. Processor time counts, which other programs disturb less.
    """
    prepared = [prepare(photograph, original.image_settings) for photograph in photographs[:_TIMED]]
    times = time_in_turns({"original": original, "other": other}, prepared, rounds=_ROUNDS)
    return float(np.median(times["original"].processor / times["other"].processor))


def _sources(photographs: Dataset | Sequence[Photograph]) -> Iterator[Photograph]:
    for one in photographs:
        yield one.image if isinstance(one, Sample) else one


def _against_labels(dataset: Dataset, pairs: Sequence[tuple[PredictedMasks, PredictedMasks]]) -> Labelled:
    truths = [TruthMasks.from_sample(sample, first.size) for sample, (first, _) in zip(dataset, pairs, strict=True)]
    jaccard = np.array(
        [
            [challenge_figures(truth, one, rule="primary").jaccard for one in pair]
            for truth, pair in zip(truths, pairs, strict=True)
        ]
    )
    units = unit_indices([sample.image_id for sample in dataset])
    [interval] = mean_intervals(jaccard[:, 1] - jaccard[:, 0], units)
    num_classes = len(dataset.class_names)
    ap = [summarise(truths, side, num_classes=num_classes).val_mask_ap for side in zip(*pairs, strict=True)]
    before, after = jaccard.mean(axis=0)
    return Labelled((float(before), float(after)), interval, (ap[0], ap[1]))
