"""The page of an evaluation: figures with intervals, plots, subgroups, the worst photographs, and all of them.

One HTML file. Galleries stand in it as they are, so that they are there in print and without scripts; all other
photographs are small entries of a JSON text, which become part of the page when they come near the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermask import files, masks
from dermask.data.dataset import Dataset
from dermask.errors import ImageError, InputError
from dermask.evaluation.bootstrap import MIN_UNITS
from dermask.evaluation.evaluate import match_predictions
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.evaluation.judge import Prediction, as_masks
from dermask.evaluation.photo_masks import TruthMasks
from dermask.evaluation.record import Evaluation, PhotoRow
from dermask.evaluation.traits import TRAITS
from dermask.records import Rle, Sample
from dermask.report import charts, evaluation_charts, evaluation_groups, evaluation_tables, pictures, tables, thumbnails
from dermask.report.evaluation_photographs import SEED, choose_random, choose_worst, photographs_context
from dermask.report.rendering import render_page
from dermask.wording import plural_of

NUM_PICTURES = 24
"""Photographs in each of the two galleries."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photographs that belong together.

    Attributes:
        key: Its name in the page's code.
        title: What they are.
        note: How they were chosen; empty where the title says it.
        pictures: In the order shown.
    """

    key: str
    title: str
    note: str
    pictures: tuple[pictures.Picture, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an evaluation adds to a page.

    Attributes:
        context: For the template.
        charts: What plotly draws.
        sections: Key and name of each section, in order; `all` comes last in a page.
    """

    context: dict[str, Any]
    charts: tuple[charts.Chart, ...]
    sections: tuple[tuple[str, str], ...]


def write_evaluation_page(
    path: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    predictions: Sequence[Prediction],
    *,
    command: str,
    tables: Sequence[tables.Table] = (),
    title: str | None = None,
    num_pictures: int = NUM_PICTURES,
    on_progress: Progress | None = None,
    processes: int | None = None,
) -> Path:
    """Write an evaluation as one HTML page that needs no network.

    Args:
        path: Where to write; a file that stands there is replaced.
        evaluation: The figures.
        dataset: The photographs that `evaluation` is about.
        predictions: What was found in them, in the same order or with image ids.
        command: The exact command that made it.
        tables: What else to say of its making, such as the model's hash and the versions.
        title: Heading of the page; None names the data set.
        num_pictures: At most so many of the worst, and as many at random.
        on_progress: Called with the number of photographs made small and of all.
        processes: Worker processes that read photographs; None takes what the machine has.

    Returns:
        `path`.

    Raises:
        InputError: The predictions or the evaluation are about other photographs; the file cannot be written.
    """
    parts = evaluation_parts(
        evaluation, dataset, predictions, num_pictures=num_pictures, on_progress=on_progress, processes=processes
    )
    context = {
        "title": title or f"Evaluation on {evaluation.dataset_name or 'labelled photographs'}",
        "lead": "Outlines of skin lesions, judged against labels photograph by photograph.",
        "command": command,
        "origin_tables": [data_table(evaluation, dataset.source), *tables],
    }
    files.write_text(path, render_evaluation("evaluation.html", context, parts))
    return path


def render_evaluation(
    template: str,
    context: Mapping[str, Any],
    parts: Parts | None,
    *,
    more_charts: Sequence[charts.Chart] = (),
    more_sections: Sequence[tuple[str, str]] = (),
) -> str:
    """A page that shows an evaluation, or one without it.

    Args:
        template: One that extends ``evaluation.html``.
        context: What it shows beside `parts`.
        parts: The evaluation; None leaves its sections out.
        more_charts: Of the template's own.
        more_sections: Of the template's own, listed behind the result.
    """
    sections = list(parts.sections if parts is not None else ())
    is_listed = bool(sections) and sections[-1][0] == "all"
    listed = [*sections[:1], *more_sections, *(sections[1:-1] if is_listed else sections[1:])]
    listed.append(("origin", "How this was made"))
    if is_listed:
        listed.append(sections[-1])
    whole = {**(parts.context if parts is not None else {}), **context, "sections": listed}
    return render_page(template, whole, charts=[*more_charts, *(parts.charts if parts is not None else ())])


def evaluation_parts(
    evaluation: Evaluation,
    dataset: Dataset | None = None,
    predictions: Sequence[Prediction] | None = None,
    *,
    num_pictures: int = NUM_PICTURES,
    on_progress: Progress | None = None,
    processes: int | None = None,
) -> Parts:
    """What an evaluation adds to a page; without data set and predictions, no photographs.

    Raises:
        InputError: The predictions or the evaluation are about other photographs.
    """
    context = _figures_context(evaluation)
    drawn = [
        charts.jaccard_histogram([row.figures.jaccard for row in evaluation.rows]),
        evaluation_charts.precision_recall_chart(evaluation.detection),
        evaluation_charts.froc_chart(evaluation.detection),
        evaluation_charts.reliability_chart(
            "chart-calibration-scores", "Reliability of scores", "detections", evaluation.score_calibration
        ),
    ]
    if evaluation.mask_calibration is not None:
        drawn.append(
            evaluation_charts.reliability_chart(
                "chart-calibration-masks", "Reliability of mask probabilities", "pixels", evaluation.mask_calibration
            )
        )
    sections = [("result", "Result"), ("plots", "Plots")]
    if evaluation.subgroups:
        sections.append(("subgroups", "Subgroups"))
    if dataset is not None and predictions is not None:
        found = _merged_masks(evaluation, dataset, predictions)
        context["galleries"] = _galleries(evaluation, dataset, found, num_pictures)
        small = _make_small(evaluation, dataset, found, num_pictures, on_progress, processes)
        context |= photographs_context(evaluation, small)
        shares = {index: one.lesion_share for index, one in small.items()}
        drawn.append(
            evaluation_charts.lesion_size_chart(
                [evaluation.rows[index].image_id for index in shares],
                list(shares.values()),
                [evaluation.rows[index].figures.jaccard for index in shares],
            )
        )
        sections += [("photographs", "Photographs"), ("figures", "All figures"), ("all", "All photographs")]
    else:
        sections.append(("figures", "All figures"))
    shown = [chart for chart in drawn if chart is not None]
    context["evaluation_charts"] = shown
    if context["forest"] is not None:
        shown = [*shown, context["forest"]]
    return Parts(context, tuple(shown), tuple(sections))


def data_table(evaluation: Evaluation, source: Path | None) -> tables.Table:
    """What was evaluated on."""
    rows = [
        ("Data set", evaluation.dataset_name or "unnamed"),
        *([("Read from", str(source))] if source is not None else []),
        ("Classes", ", ".join(evaluation.class_names)),
        ("Fingerprint (SHA-256)", evaluation.dataset_fingerprint),
        ("Mask of a photograph", evaluation_tables.describe_rule(evaluation)),
        ("Score threshold", f"{evaluation.score_thresh:g} ({evaluation.threshold.origin})"),
        ("Mask threshold", f"{evaluation.mask_thresh:g}"),
    ]
    return tables.Table("Photographs and rules", (), tuple(rows))


def _figures_context(evaluation: Evaluation) -> dict[str, Any]:
    rows = [
        evaluation_charts.ForestRow(
            trait=group.trait,
            title=TRAITS[group.trait].title,
            value=group.value,
            count=group.num_photographs,
            figure=group.figures.get("isic.jaccard", math.nan),
            interval=group.intervals.get("isic.jaccard"),
        )
        for group in evaluation.subgroups
    ]
    return {
        "headline": evaluation_tables.headline(evaluation),
        "basis": evaluation_tables.describe_basis(evaluation),
        "claim_warning": evaluation_tables.claim_warning(evaluation),
        "interval_note": evaluation_tables.interval_note(evaluation),
        "prediction_text": evaluation_tables.describe_rule(evaluation),
        "jaccard_thresh": JACCARD_THRESH,
        "figure_tables": evaluation_tables.figure_tables(evaluation),
        "definitions": evaluation_tables.definitions(evaluation),
        "forest": evaluation_charts.forest_chart(rows, evaluation.figures.jaccard),
        "subgroup_tables": evaluation_groups.subgroup_tables(evaluation.subgroups, evaluation.spreads),
        "subgroup_note": (
            f"A group of fewer than {MIN_UNITS} {plural_of(evaluation.resampling.unit)} is too small for an interval "
            "and for a claim. Groups are not independent: small lesions may also be the hairy ones. A difference "
            "between two groups is no cause."
        ),
    }


def _merged_masks(evaluation: Evaluation, dataset: Dataset, predictions: Sequence[Prediction]) -> list[Rle]:
    """The one predicted mask of each photograph, in the data set's order."""
    if [row.image_id for row in evaluation.rows] != [sample.image_id for sample in dataset]:
        raise InputError("report", "the evaluation is about other photographs", "give the data set it was made with")
    matched = match_predictions(predictions, dataset)
    return [as_masks(one).merged(evaluation.rule, score_thresh=evaluation.score_thresh) for one in matched]


def _galleries(evaluation: Evaluation, dataset: Dataset, found: Sequence[Rle], count: int) -> list[Gallery]:
    worst = choose_worst(evaluation.rows, count)
    chosen = [("worst", f"The worst {len(worst)}, lowest Jaccard first", "", worst)]
    if len(worst) == len(evaluation.rows):
        chosen = [("worst", "Every photograph, lowest Jaccard first", "", worst)]
    elif drawn := choose_random(evaluation.rows, count):
        note = (
            f"What most results look like. Drawn by the photographs' ids with the seed {SEED}, whatever their figures: "
            "every model judged on these photographs shows the same ones."
        )
        chosen.append(("random", f"A random {len(drawn)}", note, drawn))
    return [
        Gallery(key, title, note, tuple(_picture(evaluation.rows[i], dataset[i], found[i]) for i in indices))
        for key, title, note, indices in chosen
        if indices
    ]


def _picture(row: PhotoRow, sample: Sample, found: Rle) -> pictures.Picture:
    size = pictures.small_size(row.size)
    truth = TruthMasks.from_sample(sample, row.size).union()
    try:
        source = pictures.webp_address(pictures.small_copy(sample))
    except ImageError:  # saved predictions are judged without their photographs, and shown without them too
        source = ""
    outlined = f"{row.num_detections} outlined"
    if row.best_score is not None:
        outlined += f", score {row.best_score:.3f}"
    return pictures.Picture(
        image_id=row.image_id,
        source=source,
        size=size,
        truth_path=pictures.border_path(masks.rle_to_bitmask(truth), size),
        pred_path=pictures.border_path(masks.rle_to_bitmask(found), size),
        jaccard=row.figures.jaccard,
        note=f"{row.num_lesions} labelled, {outlined}",
    )


def _make_small(
    evaluation: Evaluation,
    dataset: Dataset,
    found: Sequence[Rle],
    num_pictures: int,
    on_progress: Progress | None,
    processes: int | None,
) -> dict[int, thumbnails.Thumbnail]:
    """Thumbnails by index: of all photographs, or of those with the lowest Jaccard and the galleries'."""
    listed = choose_worst(evaluation.rows, thumbnails.MAX_THUMBNAILS)
    extra = set(choose_random(evaluation.rows, num_pictures)) - set(listed)
    chosen = [*listed, *sorted(extra)]
    side = thumbnails.thumbnail_side(len(chosen))
    tasks = [
        thumbnails.ThumbnailTask(dataset[index], evaluation.rows[index].size, found[index], side) for index in chosen
    ]
    made = thumbnails.make_thumbnails(tasks, on_progress=on_progress, processes=processes)
    return dict(zip(chosen, made, strict=True))
