"""The words and tables of a report: every figure with its meaning, the settings in short, where it all came from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dermask.config import RunSettings
from dermask.evaluation.coco_ap import AveragePrecision
from dermask.evaluation.evaluate import Evaluation
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


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; the first cell of a row is its heading."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: bool = False


def headline(evaluation: Evaluation) -> list[Headline]:
    """The figures a reader wants first."""
    cards = [
        Headline(title, show_number(getattr(evaluation.figures, name)), meaning)
        for name, (title, meaning) in ISIC_FIGURES.items()
        if name in {"jaccard", "thresholded_jaccard", "dice", "sensitivity"}
    ]
    for name in ("ap50", "ap"):
        title, meaning = COCO_FIGURES[name]
        cards.append(Headline(f"Mask {title}", show_number(getattr(evaluation.coco.mask, name)), meaning))
    return cards


def describe_rule(evaluation: Evaluation) -> str:
    """Which detections made the one mask of each photograph, in words."""
    if evaluation.rule == "primary":
        return "the best-scoring lesion of each photograph"
    return f"all lesions with a score of at least {evaluation.score_thresh:g}, joined"


def figure_tables(evaluation: Evaluation) -> list[Table]:
    """Every figure of an evaluation, with its meaning."""
    isic = tuple(
        (title, show_number(getattr(evaluation.figures, name)), meaning)
        for name, (title, meaning) in ISIC_FIGURES.items()
    )
    box, mask = evaluation.coco.box, evaluation.coco.mask
    coco = [
        (title, show_number(getattr(mask, name)), show_number(getattr(box, name)), meaning)
        for name, (title, meaning) in COCO_FIGURES.items()
    ]
    coco += _rows_by_class(mask, box, evaluation.class_names)
    counts = asdict(evaluation.counts)
    return [
        Table("ISIC challenge, means over photographs", ("Figure", "Value", "Meaning"), isic),
        Table(
            f"COCO, at most {evaluation.coco.max_detections} detections per photograph",
            ("Figure", "Mask", "Box", "Meaning"),
            tuple(coco),
        ),
        Table("Counts", (), tuple((title, f"{counts[name]:,}") for name, title in COUNTS.items())),
    ]


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


def data_table(evaluation: Evaluation, source: Path | None) -> Table:
    """What was evaluated on."""
    rows = [
        ("Data set", evaluation.dataset_name or "unnamed"),
        ("Classes", ", ".join(evaluation.class_names)),
        ("Fingerprint", evaluation.dataset_fingerprint),
    ]
    if source is not None:
        rows.insert(1, ("Read from", str(source)))
    return Table("Photographs evaluated on", (), tuple(rows))


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


def show_number(value: float) -> str:
    """A figure with three digits, or a dash where it is not defined."""
    return NOT_DEFINED if math.isnan(value) else f"{value:.3f}"


def _rows_by_class(
    mask: AveragePrecision, box: AveragePrecision, class_names: Sequence[str]
) -> list[tuple[str, str, str, str]]:
    if len(class_names) == 1:
        return []
    return [
        (f"AP, {name}", show_number(mask_ap), show_number(box_ap), "As AP, for this class alone.")
        for name, mask_ap, box_ap in zip(class_names, mask.ap_by_label, box.ap_by_label, strict=True)
    ]


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
