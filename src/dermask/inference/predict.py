"""Outline folders of photographs: find them, run the detector, write results, go on where an earlier run stopped.

The record (`predictions.jsonl`) gets a photograph's line once its pictures are written, so a run killed at any moment
loses at most the photographs of one batch, and results of another model are never mixed in or overwritten unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import dermask
from dermask.errors import InputError, SettingError
from dermask.inference.detector import Detector
from dermask.inference.outputs import (
    KINDS,
    Kind,
    describe_lesions,
    write_coco_results,
    write_csv,
    write_mask,
    write_overlay,
)
from dermask.inference.photographs import Photo
from dermask.inference.record import COCO_FILE, CSV_FILE, PhotoRecord, Record, mask_path, overlay_path
from dermask.records import Detections


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What `predict_photographs` writes.

    Attributes:
        save: Kinds of results.
        rule: What makes the one mask of a photograph, see `outputs.write_mask`.
        score_thresh: Lesions below this score, in [0, 1], are left out of overlays, CSV and the union; COCO results
            keep everything the model found.
        overlay_side: Longest side of an overlay, pixels; larger photographs are reduced.
        batch_size: Photographs handed to the detector at once.
    """

    save: tuple[Kind, ...] = KINDS
    rule: Literal["primary", "union"] = "primary"
    score_thresh: float = 0.5
    overlay_side: int = 2048
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.score_thresh <= 1:
            raise SettingError(f"score_thresh {self.score_thresh:g}", "must be between 0 and 1")
        for name in ("overlay_side", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} {getattr(self, name)}", "must be at least 1")


@dataclass(frozen=True, slots=True)
class PredictSummary:
    """How a run over photographs went.

    Attributes:
        done: Photographs outlined now.
        skipped: Photographs whose results were there already.
        lesions: Lesions found now that score at least the threshold.
        failures: One line for each photograph that could not be read.
    """

    done: int
    skipped: int
    lesions: int
    failures: tuple[str, ...]


def predict_photographs(
    detector: Detector,
    photographs: Sequence[Photo],
    output: Path,
    options: PredictOptions | None = None,
    *,
    model_id: str,
    overwrite: bool = False,
    on_photo: Callable[[int, int], None] | None = None,
) -> PredictSummary:
    """Outline photographs and write the results into a folder; see `outputs` for what it holds.

    Photographs that already have results of the same model and options are skipped. Unreadable ones are listed and
    skipped. The tables cover every photograph of the folder, those of earlier runs included.

    Args:
        detector: What finds the lesions.
        photographs: From `collect_photographs`.
        output: The folder, made if it is not there.
        options: What to write.
        model_id: Tells models apart: results of two are never mixed.
        overwrite: Remove results of earlier runs first, and only these.
        on_photo: Called after each photograph with how many are through, and of how many.

    Raises:
        OutputExistsError: The folder holds results of another model or other options, or files that dermask did not
            write under names it needs.
    """
    options = options or PredictOptions()
    pictures = tuple(kind for kind in options.save if kind in ("overlay", "mask"))
    total, done, lesions = len(photographs), 0, 0
    failures: list[str] = []
    with Record(output, _header(detector, model_id, options), overwrite=overwrite) as record:
        remaining = [photo for photo in photographs if not record.has(photo, pictures)]
        skipped = through = total - len(remaining)
        for start in range(0, len(remaining), options.batch_size):
            batch = remaining[start : start + options.batch_size]
            for photo, found in zip(batch, _predict_each(detector, batch), strict=True):
                try:
                    if isinstance(found, InputError):
                        raise found
                    record.add(_save(photo, found, record.id_for(photo), output, options, pictures))
                    done += 1
                    lesions += len(found.above(options.score_thresh))
                except InputError as error:
                    failures.append(str(error))
                through += 1
                if on_photo is not None:
                    on_photo(through, total)
    if "coco" in options.save:
        write_coco_results(output / COCO_FILE, record.read())
    if "csv" in options.save:
        write_csv(output / CSV_FILE, record.read(), score_thresh=options.score_thresh)
    return PredictSummary(done, skipped, lesions, tuple(failures))


def _predict_each(detector: Detector, batch: Sequence[Photo]) -> Sequence[Detections | InputError]:
    """Detections of each photograph, or why there are none; one bad photograph does not spoil its batch."""
    try:
        return detector.predict([photo.source for photo in batch])
    except InputError as error:
        if len(batch) == 1:
            return [error]
    return [_predict_each(detector, [photo])[0] for photo in batch]


def _save(
    photo: Photo,
    detections: Detections,
    image_id: str,
    output: Path,
    options: PredictOptions,
    pictures: tuple[Kind, ...],
) -> PhotoRecord:
    if "overlay" in pictures:
        path = overlay_path(output, image_id)
        write_overlay(path, photo.source, detections, score_thresh=options.score_thresh, max_side=options.overlay_side)
    if "mask" in pictures:
        path = mask_path(output, image_id)
        write_mask(path, detections, rule=options.rule, score_thresh=options.score_thresh)
    return PhotoRecord(
        image_id, photo.file, photo.stamp(), detections.size, tuple(pictures), describe_lesions(detections)
    )


def _header(detector: Detector, model_id: str, options: PredictOptions) -> dict[str, object]:
    kept = {name: value for name, value in asdict(options).items() if name not in ("save", "batch_size")}
    return {
        "model": model_id,
        "class_names": list(detector.class_names),
        "options": kept,
        "version": dermask.__version__,
    }
