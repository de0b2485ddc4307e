"""Confidence intervals of an evaluation's figures, all from the same resamples of its photographs.

Names are those of evaluation.json, with dots: ``isic.jaccard``, ``boundary.distance_95``, ``coco.mask.ap50``,
``detection.f1``, ``calibration.scores_brier``. The expected calibration error has none: chance alone makes gaps in its
bins, so that resamples lie above the figure and percentiles never reach the 0 of a calibrated model.

Shapes: N photographs, F figures, B calibration bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from dermask.evaluation.bootstrap import Interval, Resampling, mean_intervals, statistic_intervals
from dermask.evaluation.boundary import BoundaryFigures
from dermask.evaluation.calibration import brier_score
from dermask.evaluation.detection import Precision, RankedMatches
from dermask.evaluation.isic_challenge import PhotoFigures
from dermask.evaluation.judge import Verdict
from dermask.evaluation.record import POINT_FIGURES, PhotoRow
from dermask.records import BoolArray, IntArray

Values = NDArray[np.float64]


class _Drawing(TypedDict):
    num_resamples: int
    seed: int
    level: float


def photo_values(rows: Sequence[PhotoRow]) -> dict[str, Values]:
    """The figures that each photograph has by itself, (N,) float64 by name; their means are the data set's."""
    isic = {f"isic.{field.name}": [getattr(row.figures, field.name) for row in rows] for field in fields(PhotoFigures)}
    boundary = {
        f"boundary.{field.name}": [getattr(row.boundary, field.name) for row in rows]
        for field in fields(BoundaryFigures)
    }
    return {name: np.array(values, np.float64) for name, values in {**isic, **boundary}.items()}


def figure_intervals(
    verdicts: Sequence[Verdict],
    ranked: Mapping[str, RankedMatches],
    unit_of_photo: IntArray,
    resampling: Resampling,
    score_thresh: float,
) -> dict[str, Interval]:
    """The interval of every figure that enough units carry and that spreads.

    Args:
        verdicts: N photographs.
        ranked: Their detections, ``mask`` and ``box``.
        unit_of_photo: (N,) int64, equal for photographs that are drawn together.
        resampling: How to draw.
        score_thresh: Of the operating point.
    """
    if not resampling.allows_claims:
        return {}
    drawing = _Drawing(num_resamples=resampling.num_resamples, seed=resampling.seed, level=resampling.level)
    rows = [verdict.row for verdict in verdicts]
    values = photo_values(rows) | _millimetres(rows)
    means = mean_intervals(np.stack(list(values.values()), axis=1), unit_of_photo, **drawing)
    found = dict(zip(values, means, strict=True))
    names, statistic = _set_statistic(verdicts, ranked, score_thresh)
    carriers = _carriers(verdicts, ranked, score_thresh)
    of_set = statistic_intervals(
        statistic, unit_of_photo, carriers=np.stack([carriers[name] for name in names], axis=1), **drawing
    )
    found |= dict(zip(names, of_set or [None] * len(names), strict=True))
    return {name: interval for name, interval in found.items() if interval is not None}


def _millimetres(rows: Sequence[PhotoRow]) -> dict[str, Values]:
    """The distances of photographs of known scale, (N,) float64 by name, NaN elsewhere."""
    scales = np.array([np.nan if row.mm_per_pixel is None else row.mm_per_pixel for row in rows], np.float64)
    names = ("average_distance", "distance_95")
    return {f"boundary.{name}_mm": scales * [getattr(row.boundary, name) for row in rows] for name in names}


def set_carriers(ranked: RankedMatches, score_thresh: float) -> dict[str, BoolArray]:
    """The photographs that a figure of detection rests on, (N,) bool by the figure's last name.

    Average precision and recall rest on those with a lesion to find, precision on those with a detection that counts,
    F1 on both, false alarms on all.
    """
    row = int(np.argmin(np.abs(ranked.iou_thresholds - 0.5)))
    with_lesion = ranked.num_truths > 0
    judged = (ranked.scores >= np.float32(score_thresh)) & ~ranked.ignored[row]
    with_detection = np.bincount(ranked.photo[judged], minlength=len(with_lesion)) > 0
    return {
        **dict.fromkeys((*Precision._fields, "recall"), with_lesion),
        "precision": with_detection,
        "f1": with_lesion | with_detection,
        "false_alarms_per_photo": np.ones_like(with_lesion),
    }


def _carriers(
    verdicts: Sequence[Verdict], ranked: Mapping[str, RankedMatches], score_thresh: float
) -> dict[str, BoolArray]:
    """The photographs that each figure of the set rests on, (N,) bool by name."""
    of_kind = {kind: set_carriers(one, score_thresh) for kind, one in ranked.items()}
    found = {f"coco.{kind}.{name}": of_kind[kind][name] for kind in ranked for name in Precision._fields}
    found |= {f"detection.{name}": of_kind["mask"][name] for name in POINT_FIGURES}
    for name, sums in (
        ("scores", [verdict.score_sums for verdict in verdicts]),
        ("masks", [verdict.pixel_sums for verdict in verdicts]),
    ):
        has_members = [part is not None and bool(part[:, 0].any()) for part in sums]
        found[f"calibration.{name}_brier"] = np.array(has_members)
    return found


def _set_statistic(
    verdicts: Sequence[Verdict], ranked: Mapping[str, RankedMatches], score_thresh: float
) -> tuple[list[str], Callable[[Values], Values]]:
    """Figures that exist for all photographs together: their names, and all of them from (N,) weights."""
    names = [f"coco.{kind}.{name}" for kind in ranked for name in Precision._fields]
    names += [f"detection.{name}" for name in POINT_FIGURES]
    sums = {"calibration.scores_brier": np.stack([verdict.score_sums for verdict in verdicts])}
    pixel_sums = [verdict.pixel_sums for verdict in verdicts if verdict.pixel_sums is not None]
    if len(pixel_sums) == len(verdicts):
        sums["calibration.masks_brier"] = np.stack(pixel_sums)
    names += list(sums)

    def figures(weights: Values) -> Values:
        point = ranked["mask"].operating_point(score_thresh, weights=weights)
        return np.array(
            [
                *(value for kind in ranked.values() for value in kind.average_precision(weights)),
                *(getattr(point, name) for name in POINT_FIGURES),
                *(float(brier_score(np.tensordot(weights, part, 1))) for part in sums.values()),
            ]
        )

    return names, figures
