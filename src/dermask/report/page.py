"""The report of a training run: its curves, and all that the page of an evaluation shows, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermask import config, files
from dermask.data.dataset import Dataset
from dermask.evaluation.judge import Prediction
from dermask.evaluation.record import Evaluation
from dermask.report import charts, tables
from dermask.report.evaluation_page import (
    NUM_PICTURES,
    Progress,
    data_table,
    evaluation_parts,
    render_evaluation,
)


def write_run_report(
    run_dir: Path,
    *,
    command: str,
    evaluation: Evaluation | None = None,
    dataset: Dataset | None = None,
    detections: Sequence[Prediction] | None = None,
    history: Path | None = None,
    settings: config.RunSettings | None = None,
    title: str | None = None,
    num_pictures: int = NUM_PICTURES,
    on_progress: Progress | None = None,
    processes: int | None = None,
) -> Path:
    """Write report.html into a run's folder; what is not given is left out of the page.

    Args:
        run_dir: The run's folder. Its environment.json and data.json, where there, are shown as tables.
        command: The exact command that made the run.
        evaluation: The figures.
        dataset: The photographs that `evaluation` is about, and
        detections: what was found in them, in the same order or with image ids: both are needed for pictures.
        history: The curves; None takes the run's history.csv if there is one.
        settings: None takes the run's config.toml if there is one.
        title: Heading of the page; None makes one from the folder's name.
        num_pictures: At most so many of the worst photographs, and as many at random.
        on_progress: Called with the number of photographs made small and of all.
        processes: Worker processes that read photographs; None takes what the machine has.

    Returns:
        The page's path.

    Raises:
        InputError: Pictures are wanted but the detections are not for these photographs, or the evaluation is not.
    """
    if settings is None and (run_dir / "config.toml").is_file():
        settings = config.from_toml(config.RunSettings, run_dir / "config.toml")
    curves = _read_curves(run_dir, history)
    context: dict[str, Any] = {
        "title": title or _title(run_dir.resolve().name, "Training run" if curves else "Evaluation"),
        "command": command,
        "settings_toml": "" if settings is None else config.to_toml(settings),
        "origin_tables": _origin_tables(run_dir, evaluation, dataset, settings),
        "lead": _lead(evaluation, settings),
    }
    training = _training_context(curves, settings)
    parts = None
    if evaluation is not None:
        parts = evaluation_parts(
            evaluation, dataset, detections, num_pictures=num_pictures, on_progress=on_progress, processes=processes
        )
    page = run_dir / "report.html"
    text = render_evaluation(
        "report.html",
        context | training,
        parts,
        more_charts=training.get("training_charts", []),
        more_sections=[("training", "Training")] if training else [],
    )
    files.write_text(page, text)
    return page


def _training_context(curves: charts.History, settings: config.RunSettings | None) -> dict[str, Any]:
    quality = charts.quality_chart(curves)
    drawn = ([quality] if quality is not None else []) + charts.loss_charts(curves)
    if not drawn:
        return {}
    return {
        "training_charts": drawn,
        "training_note": _describe_best_epoch(curves, settings),
        "history_table": tables.history_table(curves),
    }


def _origin_tables(
    run_dir: Path, evaluation: Evaluation | None, dataset: Dataset | None, settings: config.RunSettings | None
) -> list[tables.Table]:
    found = [
        data_table(evaluation, None if dataset is None else dataset.source) if evaluation is not None else None,
        tables.json_table(run_dir / "data.json", "Data and first weights"),
        tables.settings_table(settings) if settings is not None else None,
        tables.json_table(run_dir / "environment.json", "Environment"),
    ]
    return [table for table in found if table is not None]


def _read_curves(run_dir: Path, history: Path | None) -> charts.History:
    if history is None and not (run_dir / "history.csv").is_file():
        return {}
    return charts.read_history(history or run_dir / "history.csv")


def _title(name: str, what: str) -> str:
    """What it is and its folder's name, or without a name that says no more than "run"."""
    return what if name.lower() in {"", *what.lower().split()} else f"{what}: {name}"


def _lead(evaluation: Evaluation | None, settings: config.RunSettings | None) -> str:
    what = "Mask R-CNN for skin-lesion outlines"
    if settings is not None:
        what += f", preset {settings.model.preset}"
    return what + (f", evaluated on {evaluation.dataset_name or 'a labelled data set'}" if evaluation else "")


def _describe_best_epoch(curves: charts.History, settings: config.RunSettings | None) -> str:
    metric = settings.train.metric if settings is not None else "val_jaccard"
    values = [(index, value) for index, value in enumerate(curves.get(metric, [])) if value is not None]
    if not values:
        return ""
    sign = -1 if metric == "val_loss" else 1
    index, value = max(values, key=lambda pair: sign * pair[1])
    epochs = curves.get("epoch", [])
    epoch = epochs[index] if index < len(epochs) else None
    return f"Best epoch by {metric}: {index + 1 if epoch is None else int(epoch)}, with {value:.4f}."
