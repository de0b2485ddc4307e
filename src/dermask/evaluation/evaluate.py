"""Judge a model, or saved predictions, on a labelled data set.

Two views of one result: the ISIC challenge's figures ask how well the one mask of each photograph covers its lesions,
COCO's ask how well the separate lesions are found, boxed and outlined. Both work at the photographs' own size.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dermask import files
from dermask.data.dataset import Dataset
from dermask.errors import InputError, SettingError
from dermask.evaluation.coco_ap import MAX_DETECTIONS, AveragePrecision, CocoFigures, coco_ap, mask_ap
from dermask.evaluation.isic_challenge import JACCARD_THRESH, PhotoFigures, mean_figures
from dermask.evaluation.photo_masks import (
    MASK_THRESH,
    SCORE_THRESH,
    PredictedMasks,
    Rule,
    TruthMasks,
    challenge_figures,
)
from dermask.records import ByteArray, Detections, ImageSize

Prediction = Detections | PredictedMasks
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


class ValidationFigures(NamedTuple):
    """What training looks at after an epoch.

    Attributes:
        val_jaccard: Mean Jaccard index over photographs, [0, 1].
        val_mask_ap: COCO mask AP, [0, 1]; NaN where no photograph has a label to find.
    """

    val_jaccard: float
    val_mask_ap: float


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """The result of one photograph.

    Attributes:
        image_id: Which photograph.
        size: Its size.
        num_lesions: Labelled lesions, crowd regions not counted.
        num_detections: Detections that entered the mask under the evaluation's rule.
        best_score: The best detection's score; None where nothing was found.
        figures: The challenge's figures.
    """

    image_id: str
    size: ImageSize
    num_lesions: int
    num_detections: int
    best_score: float | None
    figures: PhotoFigures


@dataclass(frozen=True, slots=True)
class Counts:
    """What went into an evaluation.

    Attributes:
        photographs: All of them.
        without_lesion: Photographs without a label.
        without_detection: Photographs in which nothing was found.
        lesions: Labelled lesions, crowd regions not counted.
        crowd_regions: Regions that neither count for nor against.
        detections: Of any score.
    """

    photographs: int
    without_lesion: int
    without_detection: int
    lesions: int
    crowd_regions: int
    detections: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one model on one data set, and how they were made.

    Attributes:
        figures: Means over photographs of the challenge's figures.
        coco: Box and mask average precision.
        rows: One per photograph, in the data set's order.
        counts: What went in.
        rule: Which detections made the one mask of each photograph.
        score_thresh: From which score, for the rule `union`.
        mask_thresh: Mask probability from which a pixel belongs to a detection.
        class_names: Name of label i at index i - 1.
        dataset_name: What the data set calls itself.
        dataset_fingerprint: Its hash.
    """

    figures: PhotoFigures
    coco: CocoFigures
    rows: tuple[PhotoRow, ...]
    counts: Counts
    rule: Rule
    score_thresh: float
    mask_thresh: float
    class_names: tuple[str, ...]
    dataset_name: str
    dataset_fingerprint: str

    def to_json(self) -> str:
        """Everything but the rows as JSON text; what is not defined is null."""
        return json.dumps(
            {
                "dataset": {
                    "name": self.dataset_name,
                    "fingerprint": self.dataset_fingerprint,
                    "class_names": list(self.class_names),
                    **asdict(self.counts),
                },
                "rules": {
                    "mask_of_a_photograph": self.rule,
                    "score_thresh": self.score_thresh if self.rule == "union" else None,
                    "mask_thresh": self.mask_thresh,
                    "jaccard_thresh": JACCARD_THRESH,
                    "max_detections": self.coco.max_detections,
                },
                "isic": asdict(self.figures),
                "coco": {
                    "box": _precision_json(self.coco.box, self.class_names),
                    "mask": _precision_json(self.coco.mask, self.class_names),
                },
            },
            indent=2,
            ensure_ascii=False,
        )

    def to_csv(self) -> str:
        """The rows as CSV text with a header, one photograph per line."""
        text = io.StringIO(newline="")
        rows = [_flat_row(row) for row in self.rows]
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write evaluation.json and per_photo.csv into a folder, replacing what an earlier evaluation left there."""
        summary, table = folder / "evaluation.json", folder / "per_photo.csv"
        files.write_text(summary, self.to_json() + "\n")
        files.write_text(table, self.to_csv())
        return summary, table


def evaluate(
    predictor: Predictor | Sequence[Prediction],
    dataset: Dataset,
    *,
    rule: Rule = "primary",
    score_thresh: float = SCORE_THRESH,
    max_detections: int = MAX_DETECTIONS,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a detector, or predictions made before, on a labelled data set.

    Args:
        predictor: A detector, which sees the photographs as in use; or one prediction per photograph, matched by
            `image_id` where all have one, else by position.
        dataset: The truth.
        rule: Which detections make the one mask of a photograph for the challenge's figures: `primary` the
            best-scoring one, `union` all with a score of at least `score_thresh`. COCO's figures use all.
        score_thresh: In [0, 1], for the rule `union`.
        max_detections: Per photograph, for COCO's figures.
        progress: Called after each photograph.

    Raises:
        InputError: The data set is empty, a photograph has no prediction or one of another size, or the classes differ.
        SettingError: `score_thresh` is outside its range.
        ImageError: A photograph or mask image cannot be read.
    """
    if not len(dataset):
        raise InputError(dataset.name or "data set", "has no photographs to evaluate on")
    if not 0 <= score_thresh <= 1:
        raise SettingError(f"score_thresh {score_thresh:g}", "must be between 0 and 1")
    truths: list[TruthMasks] = []
    predictions: list[PredictedMasks] = []
    rows: list[PhotoRow] = []
    for index, prediction in enumerate(_each_prediction(predictor, dataset)):
        truth = TruthMasks.from_sample(dataset[index], dataset.size(index))
        pasted = as_masks(prediction)
        figures = challenge_figures(truth, pasted, rule=rule, score_thresh=score_thresh)
        truths.append(truth)
        predictions.append(pasted)
        rows.append(_row(truth, pasted, figures, rule, score_thresh))
        if progress is not None:
            progress(index + 1, len(dataset))
    return Evaluation(
        figures=mean_figures([row.figures for row in rows]),
        coco=coco_ap(truths, predictions, num_classes=len(dataset.class_names), max_detections=max_detections),
        rows=tuple(rows),
        counts=_count(truths, predictions),
        rule=rule,
        score_thresh=score_thresh,
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


def as_masks(prediction: Prediction) -> PredictedMasks:
    """Exact masks at the photograph's size, pasted if they are not yet."""
    return PredictedMasks.from_detections(prediction) if isinstance(prediction, Detections) else prediction


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


def _each_prediction(predictor: Predictor | Sequence[Prediction], dataset: Dataset) -> Iterator[Prediction]:
    if isinstance(predictor, Sequence):
        matched = match_predictions(predictor, dataset)
        for prediction in matched:
            if isinstance(prediction, Detections):
                _check_classes(prediction.class_names, dataset)
        yield from matched
        return
    _check_classes(predictor.class_names, dataset)
    for start in range(0, len(dataset), _PHOTOGRAPHS_AT_ONCE):
        yield from predictor.predict([sample.image for sample in dataset[start : start + _PHOTOGRAPHS_AT_ONCE]])


def _check_classes(class_names: tuple[str, ...], dataset: Dataset) -> None:
    if class_names == dataset.class_names or len(class_names) == len(dataset.class_names) == 1:
        return  # with one class on either side, its name is a matter of taste
    raise InputError(
        "model",
        f"finds the classes {', '.join(class_names)}; {dataset.name or 'the data set'} has labels for "
        + ", ".join(dataset.class_names),
        "evaluate on labels with the same classes in the same order",
    )


def _row(
    truth: TruthMasks, prediction: PredictedMasks, figures: PhotoFigures, rule: Rule, score_thresh: float
) -> PhotoRow:
    return PhotoRow(
        image_id=truth.image_id,
        size=truth.size,
        num_lesions=int((~truth.is_crowd).sum()),
        num_detections=min(len(prediction), 1) if rule == "primary" else int((prediction.scores >= score_thresh).sum()),
        best_score=float(prediction.scores[0]) if len(prediction) else None,
        figures=figures,
    )


def _count(truths: Sequence[TruthMasks], predictions: Sequence[PredictedMasks]) -> Counts:
    lesions = [int((~truth.is_crowd).sum()) for truth in truths]
    return Counts(
        photographs=len(lesions),
        without_lesion=lesions.count(0),
        without_detection=sum(not len(prediction) for prediction in predictions),
        lesions=sum(lesions),
        crowd_regions=sum(int(truth.is_crowd.sum()) for truth in truths),
        detections=sum(len(prediction) for prediction in predictions),
    )


def _precision_json(precision: AveragePrecision, class_names: tuple[str, ...]) -> dict[str, Any]:
    values = precision._asdict() | {"ap_by_class": dict(zip(class_names, precision.ap_by_label, strict=True))}
    del values["ap_by_label"]
    return {
        name: {key: _null_if_nan(part) for key, part in value.items()}
        if isinstance(value, dict)
        else _null_if_nan(value)
        for name, value in values.items()
    }


def _null_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _flat_row(row: PhotoRow) -> dict[str, object]:
    return {
        "image_id": row.image_id,
        "width": row.size.width,
        "height": row.size.height,
        "lesions": row.num_lesions,
        "detections": row.num_detections,
        "best_score": "" if row.best_score is None else round(row.best_score, 4),
        **{name: round(value, 6) for name, value in asdict(row.figures).items()},
    }
