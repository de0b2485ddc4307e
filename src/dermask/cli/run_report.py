"""What closes a run: its best model judged on photographs it did not learn from, and the page about it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dermask.cli.common import DeviceName, counting, note

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.evaluation.evaluate import Evaluation
    from dermask.evaluation.photo_masks import PredictedMasks
    from dermask.inference.detector import Detector

# Photographs handed to the detector at once; also how often the bar moves.
_AT_ONCE = 8


def find_lesions(detector: Detector, dataset: Dataset) -> list[PredictedMasks]:
    """What the detector finds in each photograph, as compact run lengths, with a progress bar."""
    from dataclasses import replace

    from dermask.evaluation.evaluate import as_masks

    found: list[PredictedMasks] = []
    with counting("evaluate", "photographs", len(dataset)) as show_progress:
        for start in range(0, len(dataset), _AT_ONCE):
            part = dataset[start : start + _AT_ONCE]
            for sample, detections in zip(part, detector.predict([sample.image for sample in part]), strict=True):
                found.append(as_masks(replace(detections, image_id=sample.image_id)))
            show_progress(len(found), len(dataset))
    return found


def report_on_validation(run_dir: Path, val_set: Dataset, *, device: DeviceName) -> None:
    """Judge a run's best checkpoint on its validation photographs and write figures and page into its folder."""
    from dermask.evaluation.evaluate import evaluate
    from dermask.inference.detector import load

    predictions = find_lesions(load(run_dir, device=device), val_set)
    evaluation = evaluate(predictions, val_set)
    evaluation.save(run_dir)
    page = write_report(run_dir, evaluation, val_set, predictions)
    note(f"validation photographs: Jaccard {evaluation.figures.jaccard:.4f}, mask AP {evaluation.coco.mask.ap:.4f}")
    if page is not None:
        note(f"report: {page}")


def write_report(
    folder: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    predictions: Sequence[PredictedMasks],
    *,
    command: str | None = None,
) -> Path | None:
    """Write report.html into a folder, or say on stderr why not; None if the part that writes pages is missing."""
    from dermask.errors import MissingExtraError
    from dermask.report.page import write_run_report

    try:
        return write_run_report(
            folder,
            command=command or command_line(),
            evaluation=evaluation,
            dataset=dataset,
            detections=predictions,
        )
    except MissingExtraError as error:
        note(f"no report page: {error}")
        return None


def command_line() -> str:
    """The command as it was typed, for the page."""
    return shlex.join(["dermask", *sys.argv[1:]])
