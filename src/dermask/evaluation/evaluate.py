"""Judge a model, or saved predictions, on a labelled data set.

Several views of one result: the ISIC challenge's figures ask how well the one mask of each photograph covers its
lesions, the borders' how near its border is, COCO's and the curves how well the separate lesions are found. All work at
the photographs' own size. With each figure comes how far it would move on other photographs of the kind, and how it
differs between kinds of photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from dermask.data.dataset import Dataset
from dermask.data.workers import WORKER_DIED, map_in_processes
from dermask.errors import ImageError, InputError, SettingError
from dermask.evaluation.bootstrap import NUM_RESAMPLES, Resampling, count_units, unit_indices
from dermask.evaluation.boundary import mean_boundary
from dermask.evaluation.calibration import Reliability
from dermask.evaluation.coco_ap import coco_ap, mask_ap
from dermask.evaluation.detection import RankedMatches, detection_figures
from dermask.evaluation.isic_challenge import mean_figures, pooled_figures
from dermask.evaluation.judge import Case, JudgingRules, Prediction, Verdict, as_masks, judge
from dermask.evaluation.matching import MAX_DETECTIONS
from dermask.evaluation.photo_masks import MASK_THRESH, SCORE_THRESH, Rule, TruthMasks, challenge_figures
from dermask.evaluation.record import Counts, Evaluation, Threshold, ValidationFigures
from dermask.evaluation.subgroups import subgroups, trait_spreads
from dermask.evaluation.uncertainty import figure_intervals, photo_values
from dermask.evaluation.units import photo_units
from dermask.evaluation.units import unit_name as unit_name  # also found here, where it was first
from dermask.records import ByteArray, Detections, PhotoInfo

Progress = Callable[[int, int], None]
"""Called with the number of photographs done and of all."""

_PHOTOGRAPHS_AT_ONCE = 8  # asked of a detector in one call, so that it can batch; memory stays bounded


class Predictor(Protocol):
    """The part of `inference.detector.Detector` that evaluation needs, so that neither imports the other."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of label i at index i - 1."""
        ...

    def predict(self, images: Sequence[ByteArray | Path]) -> list[Detections]:
        """One result per photograph, in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How an evaluation is made, but for its data and predictions.

    Attributes:
        rule: Which detections make the one mask of a photograph for the challenge's figures: `primary` the
            best-scoring one, `union` all that reach the threshold. COCO's figures use all.
        threshold: The score from which a detection counts, in the union and in precision, recall and false alarms.
        max_detections: Per photograph and class, for COCO's figures.
        metadata: What is known of photographs, by id: patients and lesions, so that uncertainty is not understated,
            and diagnoses, to group by.
        mm_per_pixel: The photographs' scale by id, where known.
        look: Whether photographs are read for the traits that need it: skin tone, hair, rulers.
        pooled: Whether figures over all pixels at once are added, which some papers quote by mistake.
        num_resamples: For the intervals.
        seed: For the intervals.
    """

    rule: Rule = "primary"
    threshold: Threshold = field(default_factory=lambda: Threshold(SCORE_THRESH))
    max_detections: int = MAX_DETECTIONS
    metadata: Mapping[str, PhotoInfo] = field(default_factory=dict)
    mm_per_pixel: Mapping[str, float] = field(default_factory=dict)
    look: bool = True
    pooled: bool = False
    num_resamples: int = NUM_RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold.score_thresh <= 1:
            raise SettingError(f"score_thresh {self.threshold.score_thresh:g}", "must be between 0 and 1")


def evaluate(
    predictor: Predictor | Sequence[Prediction],
    dataset: Dataset,
    *,
    rule: Rule = "primary",
    score_thresh: float | None = None,
    terms: Terms | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a detector, or predictions made before, on a labelled data set.

    Args:
        predictor: A detector, which sees the photographs as in use; or one prediction per photograph, matched by
            `image_id` where all have one, else by position.
        dataset: The truth.
        rule: As in `Terms`.
        score_thresh: In [0, 1]; None takes the default.
        terms: Everything else; instead of `rule` and `score_thresh`.
        progress: Called after each photograph.

    Raises:
        InputError: The data set is empty, a photograph has no prediction or one of another size, or the classes differ.
        SettingError: `score_thresh` is outside its range.
        ImageError: A photograph or mask image cannot be read.
    """
    if terms is None:
        chosen = Threshold(SCORE_THRESH) if score_thresh is None else Threshold(score_thresh, "given")
        terms = Terms(rule=rule, threshold=chosen)
    return conclude(judge_all(predictor, dataset, terms, progress=progress), dataset, terms)


def judge_all(
    predictor: Predictor | Iterable[Prediction],
    dataset: Dataset,
    terms: Terms,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Judge every photograph by itself, in the data set's order.

    Args:
        predictor: A detector; a sequence of predictions as `evaluate` takes it; or any other iterable that gives one
            prediction per photograph in the data set's order, taken as it is needed.
        dataset: The truth.
        terms: How to judge.
        processes: Worker processes for predictions that are there already.
        progress: Called after each photograph.

    Raises:
        InputError: As `evaluate`.
    """
    if not len(dataset):
        raise InputError(dataset.name or "data set", "has no photographs to evaluate on")
    waiting = cases(_each_prediction(predictor, dataset), dataset, terms)
    found = (
        map_in_processes(judge, list(waiting), died=tell_of_death, processes=processes)
        if processes > 1
        else map(judge, waiting)
    )
    verdicts: list[Verdict] = []
    for verdict in found:
        verdicts.append(verdict)
        if progress is not None:
            progress(len(verdicts), len(dataset))
    if len(verdicts) != len(dataset):
        raise InputError("predictions", f"there are {len(verdicts)} for {len(dataset)} photographs")
    return verdicts


def conclude(verdicts: Sequence[Verdict], dataset: Dataset, terms: Terms) -> Evaluation:
    """The figures of a data set from those of its photographs.

    Args:
        verdicts: Of `judge_all` on the same data and terms.
        dataset: What was judged on.
        terms: How.
    """
    rows = tuple(verdict.row for verdict in verdicts)
    ranked = {
        "mask": RankedMatches.from_photos([verdict.mask_matches for verdict in verdicts]),
        "box": RankedMatches.from_photos([verdict.box_matches for verdict in verdicts]),
    }
    units = unit_indices([row.unit for row in rows])
    resampling = Resampling(
        unit=unit_name(dataset, terms.metadata),
        num_units=count_units(units),
        num_resamples=terms.num_resamples,
        seed=terms.seed,
    )
    traits, values = [row.traits for row in rows], photo_values(rows)
    pixel_sums = [verdict.pixel_sums for verdict in verdicts if verdict.pixel_sums is not None]
    return Evaluation(
        figures=mean_figures([row.figures for row in rows]),
        boundary=mean_boundary([row.boundary for row in rows], mm_per_pixel=[row.mm_per_pixel for row in rows]),
        coco=coco_ap(
            [verdict.truth for verdict in verdicts],
            [verdict.prediction for verdict in verdicts],
            num_classes=len(dataset.class_names),
            max_detections=terms.max_detections,
        ),
        detection=detection_figures(ranked["mask"], score_thresh=terms.threshold.score_thresh),
        score_calibration=Reliability.from_sums(np.sum([verdict.score_sums for verdict in verdicts], axis=0)),
        mask_calibration=Reliability.from_sums(np.sum(pixel_sums, axis=0)) if len(pixel_sums) == len(rows) else None,
        intervals=figure_intervals(verdicts, ranked, units, resampling, terms.threshold.score_thresh),
        subgroups=subgroups(traits, values, units, resampling=resampling),
        spreads=trait_spreads(traits, values["isic.jaccard"], units, seed=terms.seed),
        resampling=resampling,
        pooled=pooled_figures([verdict.pixels for verdict in verdicts]) if terms.pooled else None,
        rows=rows,
        counts=_count(verdicts),
        rule=terms.rule,
        threshold=terms.threshold,
        mask_thresh=MASK_THRESH,
        class_names=dataset.class_names,
        dataset_name=dataset.name,
        dataset_fingerprint=dataset.fingerprint(),
    )


def summarise(
    truths: Sequence[TruthMasks],
    predictions: Sequence[Prediction],
    *,
    num_classes: int,
    rule: Rule = "primary",
    score_thresh: float = SCORE_THRESH,
) -> ValidationFigures:
    """The two figures of a validation, cheap enough for every epoch; make `truths` once and keep them.

    Args:
        truths: One per photograph.
        predictions: One per photograph, in the same order.
        num_classes: Labels run from 1 to this.
        rule: Which detections make the one mask of a photograph; see `PredictedMasks.merged`.
        score_thresh: For the rule `union`.

    Raises:
        InputError: The lists are empty or differ in length, or a prediction has not its photograph's size.
    """
    pasted = [as_masks(prediction) for prediction in predictions]
    ap = mask_ap(truths, pasted, num_classes=num_classes).ap
    photos = [
        challenge_figures(truth, prediction, rule=rule, score_thresh=score_thresh)
        for truth, prediction in zip(truths, pasted, strict=True)
    ]
    return ValidationFigures(val_jaccard=mean_figures(photos).jaccard, val_mask_ap=ap)


def match_predictions(predictions: Sequence[Prediction], dataset: Dataset) -> list[Prediction]:
    """The predictions in the data set's order: by `image_id` where all have one, else by position.

    Raises:
        InputError: A photograph has no prediction, two, or the numbers differ; names the first.
    """
    name = dataset.name or "data set"
    if not all(prediction.image_id for prediction in predictions):
        if len(predictions) != len(dataset):
            raise InputError(
                "predictions", f"there are {len(predictions)} for the {len(dataset)} photographs of {name}"
            )
        return list(predictions)
    by_id: dict[str, Prediction] = {}
    for prediction in predictions:
        if prediction.image_id in by_id:
            raise InputError(f"prediction for {prediction.image_id}", "appears twice", "keep one")
        by_id[prediction.image_id] = prediction
    missing = [sample.image_id for sample in dataset if sample.image_id not in by_id]
    if missing:
        raise InputError(
            f"photograph {missing[0]}",
            "has no prediction" + (f", and {len(missing) - 1} more have none" if len(missing) > 1 else ""),
            f"predict on all {len(dataset)} photographs of {name}",
        )
    return [by_id[sample.image_id] for sample in dataset]


def _each_prediction(predictor: Predictor | Iterable[Prediction], dataset: Dataset) -> Iterator[Prediction]:
    if isinstance(predictor, Sequence):
        predictor = match_predictions(predictor, dataset)
    if isinstance(predictor, Iterable):
        for prediction in predictor:
            if isinstance(prediction, Detections):
                check_classes(prediction.class_names, dataset)
            yield prediction
        return
    check_classes(predictor.class_names, dataset)
    for start in range(0, len(dataset), _PHOTOGRAPHS_AT_ONCE):
        yield from predictor.predict([sample.image for sample in dataset[start : start + _PHOTOGRAPHS_AT_ONCE]])


def cases(predictions: Iterable[Prediction], dataset: Dataset, terms: Terms) -> Iterator[Case]:
    """Each photograph with its prediction, ready to be judged by itself.

    Raises:
        InputError: There are more predictions than photographs.
    """
    rules = JudgingRules(
        num_classes=len(dataset.class_names),
        rule=terms.rule,
        score_thresh=terms.threshold.score_thresh,
        max_detections=terms.max_detections,
        look=terms.look,
    )
    units = photo_units(dataset, terms.metadata).names
    for index, prediction in enumerate(predictions):
        if index == len(dataset):
            raise InputError("predictions", f"there are more than the {len(dataset)} photographs")
        sample = dataset[index]
        yield Case(
            sample,
            dataset.size(index),
            prediction,
            rules,
            info=terms.metadata.get(sample.image_id),
            unit=units[index],
            mm_per_pixel=terms.mm_per_pixel.get(sample.image_id),
        )


def check_classes(class_names: tuple[str, ...], dataset: Dataset) -> None:
    """Raise InputError unless a model's classes are those of the labels."""
    if class_names == dataset.class_names or len(class_names) == len(dataset.class_names) == 1:
        return  # with one class on either side, its name is a matter of taste
    raise InputError(
        "model",
        f"finds the classes {', '.join(class_names)}; {dataset.name or 'the data set'} has labels for "
        + ", ".join(dataset.class_names),
        "evaluate on labels with the same classes in the same order",
    )


def tell_of_death(case: Case) -> Verdict:
    """Raise ImageError for a photograph whose worker process died over it."""
    raise ImageError(case.sample.image_id, WORKER_DIED, "evaluate without it, or where there is more memory")


def _count(verdicts: Sequence[Verdict]) -> Counts:
    lesions = [verdict.row.num_lesions for verdict in verdicts]
    return Counts(
        photographs=len(lesions),
        without_lesion=lesions.count(0),
        without_detection=sum(not len(verdict.prediction) for verdict in verdicts),
        lesions=sum(lesions),
        crowd_regions=sum(int(verdict.truth.is_crowd.sum()) for verdict in verdicts),
        detections=sum(len(verdict.prediction) for verdict in verdicts),
    )
