"""What closes a run: its best model judged on photographs it did not learn from, and the page about it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dermask.cli.common import DeviceName, counting, note
from dermask.wording import short_word

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.evaluation.evaluate import Terms
    from dermask.evaluation.photo_masks import PredictedMasks
    from dermask.evaluation.record import Evaluation
    from dermask.inference.detector import Detector


def judge_detector(detector: Detector, dataset: Dataset, terms: Terms) -> tuple[Evaluation, list[PredictedMasks]]:
    """The figures of a detector and what it found, with a progress bar."""
    from dermask.evaluation.evaluate import conclude, judge_all

    with counting("evaluate", "photographs", len(dataset)) as show_progress:
        verdicts = judge_all(detector, dataset, terms, progress=show_progress)
    return conclude(verdicts, dataset, terms), [verdict.prediction for verdict in verdicts]


def report_on_validation(run_dir: Path, val_set: Dataset, *, device: DeviceName) -> None:
    """Judge a run's best checkpoint on its validation photographs and write figures and page into its folder."""
    from dermask.evaluation.evaluate import Terms
    from dermask.evaluation.evaluation_file import VALIDATION, save
    from dermask.inference.detector import load

    evaluation, found = judge_detector(load(run_dir, device=device), val_set, Terms())
    save(evaluation, run_dir, origin={"command": command_line(), "role": VALIDATION})
    page = write_report(run_dir, evaluation, val_set, found)
    note(f"validation photographs: Jaccard {evaluation.figures.jaccard:.4f}, mask AP {evaluation.coco.mask.ap:.4f}")
    note(f"report: {page}")


def write_report(
    folder: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    predictions: Sequence[PredictedMasks],
    *,
    command: str | None = None,
) -> Path:
    """Write report.html into a folder; without a command, the one that was typed stands on it."""
    from dermask.report.page import write_run_report

    with counting("make the page", "photographs", len(dataset)) as show_progress:
        return write_run_report(
            folder,
            command=command or command_line(),
            evaluation=evaluation,
            dataset=dataset,
            detections=predictions,
            on_progress=show_progress,
        )


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    predictions: Sequence[PredictedMasks],
    *,
    origin: Mapping[str, str],
) -> Path:
    """Write report.html about an evaluation into a folder; that of a run keeps its curves.

    Args:
        folder: Where to.
        evaluation: The figures.
        dataset: The photographs.
        predictions: What was found in them.
        origin: What made the figures, as evaluation.json has it; ``command`` stands by itself.
    """
    if (folder / "history.csv").is_file():
        return write_report(folder, evaluation, dataset, predictions, command=origin["command"])
    from dermask.report.evaluation_page import write_evaluation_page
    from dermask.report.tables import Table

    told = {name: value for name, value in origin.items() if name != "command"}
    rows = tuple((name.replace("_", " "), value) for name, value in (told | versions()).items())
    with counting("make the page", "photographs", len(dataset)) as show_progress:
        return write_evaluation_page(
            folder / "report.html",
            evaluation,
            dataset,
            predictions,
            command=origin["command"],
            tables=[Table("Predictions and versions", (), rows)],
            on_progress=show_progress,
        )


def versions() -> dict[str, str]:
    """The versions that figures may depend on; what is not installed is left out."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("dermask", "numpy", "pillow", "faster-coco-eval", "onnxruntime", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command as it was typed, for the page, without places of one machine."""
    return shlex.join(["dermask", *map(short_word, sys.argv[1:])])
