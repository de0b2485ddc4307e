"""The report of a training run: one HTML file with curves, figures and photographs that needs no network."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermask import __version__, config, files, masks
from dermask.data.dataset import Dataset
from dermask.errors import InputError, MissingExtraError
from dermask.evaluation.evaluate import Evaluation, PhotoRow, Prediction, as_masks, match_predictions
from dermask.evaluation.photo_masks import TruthMasks
from dermask.inference.overlay import CLASS_COLOURS, TRUTH_COLOUR
from dermask.report import charts, pictures, tables

NUM_PICTURES = 12
"""Photographs in each of the two galleries."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photographs that belong together."""

    title: str
    pictures: tuple[pictures.Picture, ...]


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
        num_pictures: At most so many of the worst and so many of the best photographs.

    Returns:
        The page's path.

    Raises:
        MissingExtraError: jinja2 or plotly is not installed.
        InputError: Pictures are wanted but the detections are not for these photographs, or the evaluation is not.
        ImageError: A photograph of the galleries cannot be read.
    """
    if settings is None and (run_dir / "config.toml").is_file():
        settings = config.from_toml(config.RunSettings, run_dir / "config.toml")
    curves = _read_curves(run_dir, history)
    context: dict[str, Any] = {
        "title": title or f"{'Training run' if curves else 'Evaluation'}: {run_dir.resolve().name}",
        "command": command,
        "version": __version__,
        "made_on": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "truth_colour": ", ".join(str(part) for part in TRUTH_COLOUR),
        "pred_colour": ", ".join(str(part) for part in CLASS_COLOURS[0]),
        "settings_toml": "" if settings is None else config.to_toml(settings),
        "origin_tables": _origin_tables(run_dir, evaluation, dataset, settings),
        "lead": _lead(evaluation, settings),
    }
    context |= _training_context(curves, settings)
    if evaluation is not None:
        context |= _evaluation_context(evaluation)
        if dataset is not None and detections is not None:
            context["galleries"] = _make_galleries(evaluation, dataset, detections, num_pictures)
    page = run_dir / "report.html"
    files.write_text(page, _render(context))
    return page


def choose_worst_and_best(rows: Sequence[PhotoRow], count: int) -> tuple[list[int], list[int]]:
    """Which photographs to show: indices of the lowest Jaccard first, and of the highest first, none in both.

    Ties keep the rows' order; with fewer than 2 * `count` photographs the worst get the larger half.
    """
    ranked = sorted(range(len(rows)), key=lambda index: rows[index].figures.jaccard)
    num_worst = min(count, (len(ranked) + 1) // 2)
    num_best = min(count, len(ranked) - num_worst)
    return ranked[:num_worst], ranked[len(ranked) - num_best :][::-1]


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


def _evaluation_context(evaluation: Evaluation) -> dict[str, Any]:
    counts = evaluation.counts
    return {
        "headline": tables.headline(evaluation),
        "basis": (
            f"On {charts.plural(counts.photographs, 'photograph')} of {evaluation.dataset_name or 'the data set'} with "
            f"{charts.plural(counts.lesions, 'labelled lesion')}, at the photographs' own size. "
            f"The mask of a photograph is {tables.describe_rule(evaluation)}, "
            f"cut at a pixel probability of {evaluation.mask_thresh:g}."
        ),
        "prediction_text": tables.describe_rule(evaluation),
        "histogram": charts.jaccard_histogram([row.figures.jaccard for row in evaluation.rows]),
        "figure_tables": tables.figure_tables(evaluation),
    }


def _make_galleries(
    evaluation: Evaluation, dataset: Dataset, detections: Sequence[Prediction], count: int
) -> list[Gallery]:
    if [row.image_id for row in evaluation.rows] != [sample.image_id for sample in dataset]:
        raise InputError("report", "the evaluation is about other photographs", "give the data set it was made with")
    matched = match_predictions(detections, dataset)
    worst, best = choose_worst_and_best(evaluation.rows, count)
    return [
        Gallery(
            f"The {name} {len(chosen)}, {order} first",
            tuple(_make_picture(evaluation, dataset, index, matched[index]) for index in chosen),
        )
        for name, order, chosen in (("worst", "lowest", worst), ("best", "highest", best))
        if chosen
    ]


def _make_picture(evaluation: Evaluation, dataset: Dataset, index: int, prediction: Prediction) -> pictures.Picture:
    sample, row = dataset[index], evaluation.rows[index]
    image = pictures.small_copy(sample)
    size = pictures.small_size(row.size)
    truth = TruthMasks.from_sample(sample, row.size).union()
    found = as_masks(prediction).merged(evaluation.rule, score_thresh=evaluation.score_thresh)
    outlined = f"{row.num_detections} outlined"
    if row.best_score is not None:
        outlined += f", best score {row.best_score:.2f}"
    return pictures.Picture(
        image_id=row.image_id,
        source=pictures.webp_address(image),
        size=size,
        truth_path=pictures.border_path(masks.rle_to_bitmask(truth), size),
        pred_path=pictures.border_path(masks.rle_to_bitmask(found), size),
        jaccard=row.figures.jaccard,
        note=f"{row.num_lesions} labelled, {outlined}",
    )


def _origin_tables(
    run_dir: Path, evaluation: Evaluation | None, dataset: Dataset | None, settings: config.RunSettings | None
) -> list[tables.Table]:
    found = [
        tables.data_table(evaluation, None if dataset is None else dataset.source) if evaluation is not None else None,
        tables.json_table(run_dir / "data.json", "Data and first weights"),
        tables.settings_table(settings) if settings is not None else None,
        tables.json_table(run_dir / "environment.json", "Environment"),
    ]
    return [table for table in found if table is not None]


def _read_curves(run_dir: Path, history: Path | None) -> charts.History:
    if history is None and not (run_dir / "history.csv").is_file():
        return {}
    return charts.read_history(history or run_dir / "history.csv")


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


def _render(context: dict[str, Any]) -> str:
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError("the report page", "train") from None
    drawn: list[charts.Chart] = list(context.get("training_charts", []))
    if "histogram" in context:
        drawn.append(context["histogram"])
    sections = [
        ("result", "Result", "headline"),
        ("training", "Training", "training_charts"),
        ("photographs", "Photographs", "histogram"),
        ("figures", "All figures", "figure_tables"),
        ("origin", "How this was made", "command"),
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dermask.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        context,
        sections=[(key, name) for key, name, needed in sections if context.get(needed)],
        figures={chart.key: chart.figure for chart in drawn},
        plotly_js=get_plotlyjs() if drawn else "",
    )
