"""The figures of an evaluation in words and tables: each with its interval and its meaning."""

from __future__ import annotations

import math
from dataclasses import asdict

from dermask.evaluation.bootstrap import MIN_UNITS, Interval
from dermask.evaluation.coco_ap import AveragePrecision
from dermask.evaluation.detection import OperatingPoint
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.evaluation.record import POINT_FIGURES, Evaluation
from dermask.report.tables import COCO_FIGURES, COUNTS, ISIC_FIGURES, NOT_DEFINED, Headline, Table, show_number
from dermask.wording import plural, plural_of

BOUNDARY_FIGURES = {
    "boundary_iou": (
        "Boundary IoU",
        "IoU of the bands along the insides of both borders, 2 % of the photograph's diagonal deep.",
    ),
    "average_distance": ("Average distance", "Mean distance from each border to the other, pixels; 0 is best."),
    "distance_95": (
        "95th percentile of the distance",
        "The distance that 95 % of the border stay within, the worse of both directions, pixels; 0 is best.",
    ),
    "boundary_f_0005": ("Boundary F, 0.5 %", "Share of the borders within 0.5 % of the diagonal of each other."),
    "boundary_f_001": ("Boundary F, 1 %", "The same within 1 %."),
    "boundary_f_002": ("Boundary F, 2 %", "The same within 2 %."),
}
COCO_SIZES = {
    "small": ("small lesions", "With an area of at most 32 x 32 pixels of the photograph."),
    "medium": ("medium lesions", "Between small and large."),
    "large": ("large lesions", "With an area of at least 96 x 96 pixels."),
}
DETECTION_FIGURES = {
    "precision": ("Precision", "Share of detections that are a lesion."),
    "recall": ("Recall", "Share of lesions that were found."),
    "f1": ("F1", "Harmonic mean of both."),
    "found": ("Lesions found", "A detection reaches the overlap and the threshold."),
    "missed": ("Lesions missed", "No detection does."),
    "false_alarms": ("False alarms", "Detections without a lesion, second outlines of one lesion among them."),
    "false_alarms_per_photo": ("False alarms per photograph", "Their mean number."),
    "photos_with_false_alarm": ("Photographs with a false alarm", "At least one."),
}
SUBGROUP_FIGURES = {
    "isic.jaccard": "Jaccard",
    "isic.thresholded_jaccard": "Thresholded Jaccard",
    "isic.dice": "Dice",
    "boundary.boundary_iou": "Boundary IoU",
}
"""Shown of each group, of those it has."""
DISTANCES = frozenset({"average_distance", "distance_95"})
"""Figures in pixels rather than shares."""
NO_SPREAD = "no spread in this sample"
"""In place of an interval where every photograph has the best value, or every one the worst."""
TOO_FEW = "too few for a claim"
"""In place of an interval where a figure rests on fewer than `MIN_UNITS`."""


def headline(evaluation: Evaluation) -> list[Headline]:
    """The figures a reader wants first."""
    return [
        *(
            _card(evaluation, f"isic.{name}", getattr(evaluation.figures, name), *ISIC_FIGURES[name])
            for name in ("jaccard", "thresholded_jaccard", "dice")
        ),
        _card(
            evaluation,
            "boundary.boundary_iou",
            evaluation.boundary.figures.boundary_iou,
            *BOUNDARY_FIGURES["boundary_iou"],
        ),
        *(
            _card(evaluation, f"coco.mask.{name}", getattr(evaluation.coco.mask, name), f"Mask {title}", meaning)
            for name, (title, meaning) in COCO_FIGURES.items()
            if name in {"ap50", "ap"}
        ),
        *_detection_cards(evaluation),
    ]


def interval_note(evaluation: Evaluation) -> str:
    """How the intervals were made, or why there are none."""
    resampling = evaluation.resampling
    if not resampling.allows_claims:
        return f"No intervals: fewer than {MIN_UNITS} {plural_of(resampling.unit)}."
    together = f", all photographs of one {resampling.bond} together" if resampling.bond else ""
    return (
        f"In brackets: {resampling.level:.0%} intervals, the middle of {resampling.num_resamples:,} bootstrap samples "
        f"of {plural(resampling.num_units, resampling.unit)}{together} (seed {resampling.seed}). They say how far a "
        "figure would move on other photographs of this kind, not what another camera, clinic or labeller would do."
    )


def claim_warning(evaluation: Evaluation) -> str:
    """Why no claim can rest on the figures; empty where one can."""
    if evaluation.resampling.allows_claims:
        return ""
    units = plural(evaluation.resampling.num_units, evaluation.resampling.unit)
    return f"{units}, fewer than {MIN_UNITS}: read the figures as examples. They have no intervals."


def describe_basis(evaluation: Evaluation) -> str:
    """What the figures were computed on, and by which rule."""
    counts = evaluation.counts
    return (
        f"On {plural(counts.photographs, 'photograph')} of {evaluation.dataset_name or 'the data set'} with "
        f"{plural(counts.lesions, 'labelled lesion')}, at the photographs' own size. "
        f"The mask of a photograph is {describe_rule(evaluation)}, "
        f"cut at a pixel probability of {evaluation.mask_thresh:g}."
    )


def describe_rule(evaluation: Evaluation) -> str:
    """Which detections made the one mask of each photograph, in words."""
    if evaluation.rule == "primary":
        return "the best-scoring lesion of each photograph"
    return f"all lesions with a score of at least {evaluation.score_thresh:g}, joined"


def figure_tables(evaluation: Evaluation) -> list[Table]:
    """Every figure of an evaluation, with its interval and meaning."""
    isic = tuple(
        (title, *_figure(evaluation, f"isic.{name}", getattr(evaluation.figures, name)), meaning)
        for name, (title, meaning) in ISIC_FIGURES.items()
    )
    columns = ("Figure", "Value", _interval_title(evaluation), "Meaning")
    counts = asdict(evaluation.counts)
    found = [
        Table("ISIC challenge, means over photographs", columns, isic),
        Table("Borders, means over photographs", columns, _boundary_rows(evaluation)),
        _detection_table(evaluation),
        _coco_table(evaluation),
        _calibration_table(evaluation),
        Table("Counts", (), tuple((title, f"{counts[name]:,}") for name, title in COUNTS.items())),
    ]
    if evaluation.pooled is not None:
        rows = tuple(
            (ISIC_FIGURES[name][0], show_number(value), ISIC_FIGURES[name][1])
            for name, value in asdict(evaluation.pooled).items()
            if name in ISIC_FIGURES
        )
        title = "Over all pixels of all photographs at once: not comparable with the challenge's figures"
        found.insert(1, Table(title, ("Figure", "Value", "Meaning"), rows))
    return found


def definitions(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Every figure with how it is computed, in full sentences."""
    return [
        *ISIC_FIGURES.values(),
        (
            "Photographs without a lesion or without a detection",
            "Where neither truth nor prediction has a pixel, overlap figures are 1; where only one has, they are 0. "
            "Sensitivity is 1 where nothing is labelled, specificity where everything is.",
        ),
        *BOUNDARY_FIGURES.values(),
        *((f"Mask and box {title}", meaning) for title, meaning in COCO_FIGURES.values()),
        *((title, meaning) for title, meaning in DETECTION_FIGURES.values()),
        (
            "Highest F1",
            "The score threshold with the highest F1 on these very photographs. One chosen on validation photographs "
            "can be used on others; chosen on the photographs that are reported, it flatters.",
        ),
        (
            "Expected calibration error (ECE)",
            "Predictions are put into bins by their probability; it is the mean distance between the probability and "
            "the share that came true, weighted by how many are in each bin. 0 is best. The largest gap is that of the "
            "worst bin, however few are in it. Chance alone makes gaps: with few photographs both are too high, and "
            "neither has an interval.",
        ),
        ("Brier score", "Mean squared difference between the probability and what came true, 1 or 0. 0 is best."),
        (
            "Intervals",
            f"Percentiles of the bootstrap, as stated under Result. A figure that fewer than {MIN_UNITS} units carry "
            "has none, and no claim should rest on it; where nothing in the sample differs there is no spread to show, "
            "which is no proof that there is none. Figures by size or class, counts and gaps have none.",
        ),
        ("Threshold of the histogram", f"The challenge counts a photograph below {JACCARD_THRESH:.2f} as 0."),
        ("Pixels of ignored regions", "Where labels mark a region as ignored, its pixels and what is found inside it "
         "count neither for nor against."),
    ]  # fmt: skip


def show_interval(interval: Interval | None, *, digits: int = 3) -> str:
    """``[0.812, 0.871]``; empty without one."""
    return "" if interval is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _card(evaluation: Evaluation, key: str, value: float, title: str, meaning: str) -> Headline:
    text = show_interval(evaluation.intervals.get(key))
    return Headline(title, show_number(value), meaning, text or _no_interval(evaluation, value))


def _detection_cards(evaluation: Evaluation) -> list[Headline]:
    point = evaluation.detection.chosen
    total = point.found + point.missed
    found = Headline(
        "Lesions found",
        show_number(point.recall),
        f"{point.found:,} of {total:,} with a score of at least {point.score_thresh:g} and a mask overlap (IoU) of at "
        f"least {point.iou_thresh:.2f}.",
        show_interval(evaluation.intervals.get("detection.recall")) or _no_interval(evaluation, point.recall),
    )
    alarms = Headline(
        "False alarms per photograph",
        show_number(point.false_alarms_per_photo),
        f"{plural(point.false_alarms, 'outline')} that find no lesion, in "
        f"{plural(point.photos_with_false_alarm, 'photograph')}.",
        show_interval(evaluation.intervals.get("detection.false_alarms_per_photo"))
        or _no_interval(evaluation, point.false_alarms_per_photo),
    )
    return [found, alarms]


def _no_interval(evaluation: Evaluation, value: float) -> str:
    if math.isnan(value):
        return "no interval"
    if evaluation.resampling.allows_claims and value in (0, 1):
        return NO_SPREAD
    return f"no interval: fewer than {MIN_UNITS} {plural_of(evaluation.resampling.unit)}"


def _figure(evaluation: Evaluation, key: str, value: float, *, digits: int = 3) -> tuple[str, str]:
    """The figure and its interval as cells."""
    without = NO_SPREAD if evaluation.resampling.allows_claims and value in (0, 1) else "none"
    return show_number(value, digits=digits), show_interval(evaluation.intervals.get(key), digits=digits) or without


def _interval_title(evaluation: Evaluation) -> str:
    return f"{evaluation.resampling.level:.0%} interval"


def _boundary_rows(evaluation: Evaluation) -> tuple[tuple[str, ...], ...]:
    figures, means = evaluation.boundary.figures, evaluation.boundary
    rows = [
        (
            title,
            *_figure(evaluation, f"boundary.{name}", getattr(figures, name), digits=2 if name in DISTANCES else 3),
            meaning,
        )
        for name, (title, meaning) in BOUNDARY_FIGURES.items()
    ]
    for name in ("average_distance", "distance_95"):
        millimetres = getattr(means, f"{name}_mm")
        if millimetres is not None:
            basis = f"In millimetres, over {plural(means.num_with_scale, 'photograph')} of known scale."
            cells = _figure(evaluation, f"boundary.{name}_mm", millimetres)
            rows.append((f"{BOUNDARY_FIGURES[name][0]}, mm", *cells, basis))
    return tuple(rows)


def _detection_table(evaluation: Evaluation) -> Table:
    detection = evaluation.detection
    rows = tuple(
        (
            title,
            _count_or_share(detection.chosen, name),
            _detection_interval(evaluation, name),
            NOT_DEFINED if math.isnan(detection.best.score_thresh) else _count_or_share(detection.best, name),
            meaning,
        )
        for name, (title, meaning) in DETECTION_FIGURES.items()
    )
    return Table(
        f"Lesions found one by one, at a mask overlap (IoU) of at least {detection.iou_thresh:.2f}",
        (
            "Figure",
            f"Score from {detection.chosen.score_thresh:g} ({evaluation.threshold.origin})",
            _interval_title(evaluation),
            f"Score from {show_number(detection.best.score_thresh)} (highest F1 here)",
            "Meaning",
        ),
        rows,
    )


def _detection_interval(evaluation: Evaluation, name: str) -> str:
    if name not in POINT_FIGURES:
        return "none"  # a count
    return _figure(evaluation, f"detection.{name}", getattr(evaluation.detection.chosen, name))[1]


def _count_or_share(point: OperatingPoint, name: str) -> str:
    value = getattr(point, name)
    return f"{value:,}" if isinstance(value, int) else show_number(value)


def _coco_table(evaluation: Evaluation) -> Table:
    box, mask = evaluation.coco.box, evaluation.coco.mask
    rows = [_coco_row(evaluation, name, title, meaning) for name, (title, meaning) in COCO_FIGURES.items()]
    for size, (title, meaning) in COCO_SIZES.items():
        rows += [
            (
                f"{kind.upper()}, {title} ({getattr(mask, f'num_{size}'):,})",
                *_of_size(mask, kind, size),
                *_of_size(box, kind, size),
                f"{meaning} In brackets how many were labelled.",
            )
            for kind in ("ap", "ar")
        ]
    if len(evaluation.class_names) > 1:
        rows += [
            (f"AP, {name}", show_number(mask_ap), "none", show_number(box_ap), "none", "As AP, for this class alone.")
            for name, mask_ap, box_ap in zip(evaluation.class_names, mask.ap_by_label, box.ap_by_label, strict=True)
        ]
    interval = _interval_title(evaluation)
    return Table(
        f"COCO, at most {evaluation.coco.max_detections} detections per class and photograph",
        ("Figure", "Mask", interval, "Box", interval, "Meaning"),
        tuple(rows),
    )


def _coco_row(evaluation: Evaluation, name: str, title: str, meaning: str) -> tuple[str, ...]:
    cells = [
        _figure(evaluation, f"coco.{kind}.{name}", getattr(getattr(evaluation.coco, kind), name))
        for kind in ("mask", "box")
    ]
    return (title, *cells[0], *cells[1], meaning)


def _of_size(precision: AveragePrecision, kind: str, size: str) -> tuple[str, str]:
    is_few = 0 < getattr(precision, f"num_{size}") < MIN_UNITS
    return show_number(getattr(precision, f"{kind}_{size}")), TOO_FEW if is_few else "none"


def _calibration_table(evaluation: Evaluation) -> Table:
    overlap = f"{evaluation.detection.iou_thresh:.2f}"
    judged = [
        (
            "Scores",
            "calibration.scores_brier",
            evaluation.score_calibration,
            f"The score of each detection, against whether it finds a lesion at an overlap of {overlap}.",
        ),
        (
            "Mask probabilities",
            "calibration.masks_brier",
            evaluation.mask_calibration,
            "Each pixel's in the box of the best detection, against the label.",
        ),
    ]
    rows = tuple(
        (
            title,
            show_number(reliability.expected_calibration_error),
            show_number(reliability.maximum_calibration_error),
            *_figure(evaluation, key, reliability.brier_score),
            meaning,
        )
        for title, key, reliability, meaning in judged
        if reliability is not None
    )
    columns = ("Of", "ECE", "Largest gap", "Brier score", _interval_title(evaluation), "Meaning")
    return Table("Calibration", columns, rows)
