"""The words and tables of a report: figures with their meaning, the settings in short, where it all came from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dermask.config import RunSettings
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.report.charts import History

ISIC_FIGURES = {
    "jaccard": ("Jaccard index", "Overlap of truth and prediction divided by their union."),
    "thresholded_jaccard": (
        "Thresholded Jaccard",
        f"The same, with every photograph below {JACCARD_THRESH:.2f} counted as 0: the ISIC 2018 ranking figure.",
    ),
    "dice": ("Dice", "Twice the overlap divided by the sum of both areas."),
    "sensitivity": ("Sensitivity", "Share of the labelled lesion's pixels that were found."),
    "specificity": ("Specificity", "Share of the skin's pixels that were left out."),
    "accuracy": ("Pixel accuracy", "Share of all pixels that agree; high wherever lesions are small."),
}
COCO_FIGURES = {
    "ap": ("AP", "Average precision, mean over IoU 0.50 to 0.95."),
    "ap50": ("AP50", "Average precision where an overlap (IoU) of 0.50 counts as found."),
    "ap75": ("AP75", "Average precision where an overlap (IoU) of 0.75 counts as found."),
    "ar": ("AR", "Share of lesions found, mean over IoU 0.50 to 0.95."),
}
COUNTS = {
    "photographs": "Photographs",
    "without_lesion": "Photographs without a labelled lesion",
    "without_detection": "Photographs in which nothing was found",
    "lesions": "Labelled lesions",
    "crowd_regions": "Ignored regions",
    "detections": "Detections of any score",
}
NOT_DEFINED = "\N{EM DASH}"


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the large figures at the top."""

    title: str
    text: str
    meaning: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; the first cell of a row is its heading."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: bool = False


def history_table(history: History) -> Table:
    """All columns of the history, one row per epoch; columns that are always empty are left out."""
    names = [name for name, values in history.items() if any(value is not None for value in values)]
    names.sort(key=lambda name: name != "epoch")  # it heads the rows
    rows = zip(*([_show_cell(name, value) for value in history[name]] for name in names), strict=True)
    return Table("History of the training", tuple(names), tuple(rows), numeric=True)


def settings_table(settings: RunSettings) -> Table:
    """The settings that a reader asks for first."""
    model, train, image = settings.model, settings.train, settings.model.image
    passes = f"{train.epochs} epochs" + (f" of {train.steps_per_epoch} steps" if train.steps_per_epoch else "")
    batch = f"{train.batch_size}" + (f" x {train.accumulate} accumulated" if train.accumulate > 1 else "")
    augmentation = [f"{name.replace('_', ' ')} {_show_setting(value)}" for name, value in settings.augment if value]
    rows = (
        ("Preset", f"{model.preset}, backbone {model.backbone.name}"),
        ("Classes", ", ".join(model.class_names)),
        ("Input", f"short side {image.min_size}, long side up to {image.max_size} pixels"),
        ("Mask resolution", f"{model.mask_head.resolution} x {model.mask_head.resolution} in each box"),
        ("Length", passes),
        ("Batch", f"{batch} photographs per process"),
        ("Optimiser", f"{train.optimizer}, learning rate {train.learning_rate:g}, weight decay {train.weight_decay:g}"),
        ("Trained layers", train.layers),
        ("Weights' moving average", f"decay {train.ema_decay:g} per step" if train.ema_decay else "off"),
        ("Augmentation", ", ".join(augmentation) or "none"),
        ("Best epoch by", train.metric),
        ("Seed", str(train.seed)),
    )
    return Table("Settings", (), rows)


def json_table(path: Path, title: str) -> Table | None:
    """A JSON file of the run as a table, nested names joined by dots; None where there is no such file or it is broken.

    A report is written at the end of a long run, which a damaged side file must not spoil.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    rows = tuple(_flatten(content)) if isinstance(content, dict) else ()
    return Table(title, (), rows) if rows else None


def show_number(value: float, *, digits: int = 3) -> str:
    """A figure with three digits, or a dash where it is not defined."""
    return NOT_DEFINED if math.isnan(value) else f"{value:.{digits}f}"


def _show_cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in {"epoch", "step"}:
        return f"{value:.0f}"
    return f"{value:.2e}" if name == "lr" else f"{value:.4f}"


def _show_setting(value: object) -> str:
    return " to ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}"


def _flatten(content: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None and value != "":
            text = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}".replace("_", " "), text
