"""Outline folders of photographs: find them, run the detector, write results, go on where an earlier run stopped.

Several threads each take a batch, from decoding to compressed pictures, so that one decodes while another computes; the
caller's thread alone writes the record (`predictions.jsonl`), in the order of the photographs. It gets a photograph's
line once its pictures are written, so a run killed at any moment loses at most the few batches that were in hand, and
results of another model are never mixed in or overwritten unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Semaphore
from typing import Literal

import dermask
from dermask.errors import InputError, SettingError
from dermask.inference.detector import Detector, OverlappingDetector, Prepared
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
from dermask.inference.preparing import prepare
from dermask.inference.record import COCO_FILE, CSV_FILE, PhotoRecord, Record, mask_path, overlay_path
from dermask.records import Detections
from dermask.threads import map_ahead, num_cores
from dermask.tidying import TidyStep, tidy


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What `predict_photographs` writes.

    Attributes:
        save: Kinds of results.
        rule: What makes the one mask of a photograph, see `outputs.write_mask`.
        tidy: What is done to every mask before anything is written, see `tidying.tidy`.
        score_thresh: Lesions below this score, in [0, 1], are left out of overlays, CSV and the union; COCO results
            keep everything the model found.
        overlay_side: Longest side of an overlay, pixels; larger photographs are reduced.
        batch_size: Photographs handed to the detector at once.
    """

    save: tuple[Kind, ...] = KINDS
    rule: Literal["primary", "union"] = "primary"
    tidy: tuple[TidyStep, ...] = ()
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
    total, done, lesions = len(photographs), 0, 0
    failures: list[str] = []
    with Record(output, _header(detector, model_id, options), overwrite=overwrite) as record:
        outliner = _Outliner(detector, output, options)
        remaining = [photo for photo in photographs if not record.has(photo, outliner.pictures)]
        skipped = through = total - len(remaining)
        for outcome in outliner.run(remaining, record):
            if isinstance(outcome, InputError):
                failures.append(str(outcome))
            else:
                record.add(outcome)
                done += 1
                lesions += sum(lesion.score >= options.score_thresh for lesion in outcome.lesions)
            through += 1
            if on_photo is not None:
                on_photo(through, total)
    if "coco" in options.save:
        write_coco_results(output / COCO_FILE, record.read())
    if "csv" in options.save:
        write_csv(output / CSV_FILE, record.read(), score_thresh=options.score_thresh)
    return PredictSummary(done, skipped, lesions, tuple(failures))


@dataclass(frozen=True, slots=True)
class _Task:
    """A batch of photographs and what each is called in the folder of results."""

    photos: Sequence[Photo]
    image_ids: Sequence[str]


class _Outliner:
    """Takes batches of photographs from file to written pictures, several batches at once.

    Args:
        detector: As `predict_photographs` takes it. One that is only a `Detector` is asked by one thread at a time.
        output: The folder of results.
        options: What to write.
    """

    def __init__(self, detector: Detector, output: Path, options: PredictOptions) -> None:
        self.detector = detector
        self.output = output
        self.options = options
        self.pictures: tuple[Kind, ...] = tuple(kind for kind in options.save if kind in ("overlay", "mask"))
        self._overlaps = isinstance(detector, OverlappingDetector)
        self._num_at_once = detector.num_at_once if isinstance(detector, OverlappingDetector) else 1
        self._turn = Semaphore(self._num_at_once)

    def run(self, photographs: Sequence[Photo], record: Record) -> Iterator[PhotoRecord | InputError]:
        """What became of each photograph, in order; its pictures are there by then."""
        threads = max(self._num_at_once, num_cores() + 1)
        for outcomes in map_ahead(self._outline, self._tasks(photographs, record), threads=threads, ahead=threads):
            yield from outcomes

    def _tasks(self, photographs: Sequence[Photo], record: Record) -> Iterator[_Task]:
        for start in range(0, len(photographs), self.options.batch_size):
            batch = photographs[start : start + self.options.batch_size]
            yield _Task(batch, [record.reserve_id(photo) for photo in batch])

    def _outline(self, task: _Task) -> list[PhotoRecord | InputError]:
        found = self._find(task.photos)
        return [
            detections
            if isinstance(detections, InputError)
            else self._save(photo, tidy(detections, self.options.tidy), image_id)
            for photo, detections, image_id in zip(task.photos, found, task.image_ids, strict=True)
        ]

    def _find(self, photos: Sequence[Photo]) -> Sequence[Detections | InputError]:
        """Detections of each photograph, or why there are none; one bad photograph does not spoil its batch."""
        if not self._overlaps:
            with self._turn:
                return _predict_each(self.detector, photos)
        prepared = [self._prepare(photo) for photo in photos]
        readable = [one for one in prepared if isinstance(one, Prepared)]
        with self._turn:
            found = iter(self.detector.predict(readable))  # type: ignore[arg-type]
        return [one if isinstance(one, InputError) else next(found) for one in prepared]

    def _prepare(self, photo: Photo) -> Prepared | InputError:
        assert isinstance(self.detector, OverlappingDetector)
        try:
            return prepare(photo.source, self.detector.image_settings)
        except InputError as error:
            return error

    def _save(self, photo: Photo, detections: Detections, image_id: str) -> PhotoRecord | InputError:
        options = self.options
        try:
            if "overlay" in self.pictures:
                write_overlay(
                    overlay_path(self.output, image_id),
                    photo.source,
                    detections,
                    score_thresh=options.score_thresh,
                    max_side=options.overlay_side,
                )
            if "mask" in self.pictures:
                path = mask_path(self.output, image_id)
                write_mask(path, detections, rule=options.rule, score_thresh=options.score_thresh)
            stamp = photo.stamp()
        except InputError as error:
            return error
        lesions = describe_lesions(detections)
        return PhotoRecord(image_id, photo.file, stamp, detections.size, self.pictures, lesions)


def _predict_each(detector: Detector, batch: Sequence[Photo]) -> Sequence[Detections | InputError]:
    try:
        return detector.predict([photo.source for photo in batch])
    except InputError as error:
        if len(batch) == 1:
            return [error]
    return [_predict_each(detector, [photo])[0] for photo in batch]


def _header(detector: Detector, model_id: str, options: PredictOptions) -> dict[str, object]:
    kept = {name: value for name, value in asdict(options).items() if name not in ("save", "batch_size", "tidy")}
    if options.tidy:  # folders without it are those of versions that knew no tidying, too
        kept["tidy"] = ",".join(options.tidy)
    return {
        "model": model_id,
        "class_names": list(detector.class_names),
        "options": kept,
        "version": dermask.__version__,
    }
