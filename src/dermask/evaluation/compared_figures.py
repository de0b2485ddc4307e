"""What models are compared by: the table of figures, and their values for the runs of one model.

Shapes: N photographs, F figures of a photograph, G figures of the set, S runs, B resamples of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dermask.evaluation.bootstrap import Weights
from dermask.evaluation.detection import RankedMatches
from dermask.evaluation.judge import Verdict
from dermask.evaluation.record import PhotoRow
from dermask.evaluation.uncertainty import set_carriers
from dermask.records import BoolArray

Values = NDArray[np.float64]
SetStatistic = Callable[[Weights], Values]
"""Figures of the set from weights: (B, N) to (B, G), in the order of `SET_FIGURES`."""


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """A figure that models are compared by.

    Attributes:
        name: As an evaluation calls it, with dots.
        title: For people.
        higher_is_better: Which way is good.
        in_pixels: Whether it is a length in pixels rather than a share in [0, 1].
        of_set: Whether it exists for all photographs together only.
    """

    name: str
    title: str
    higher_is_better: bool = True
    in_pixels: bool = False
    of_set: bool = False


PHOTO_FIGURES = (
    ComparedFigure("isic.jaccard", "Jaccard index"),
    ComparedFigure("isic.thresholded_jaccard", "Thresholded Jaccard"),
    ComparedFigure("isic.dice", "Dice"),
    ComparedFigure("isic.sensitivity", "Sensitivity"),
    ComparedFigure("isic.specificity", "Specificity"),
    ComparedFigure("isic.accuracy", "Pixel accuracy"),
    ComparedFigure("boundary.boundary_iou", "Boundary IoU"),
    ComparedFigure("boundary.average_distance", "Average surface distance", higher_is_better=False, in_pixels=True),
    ComparedFigure("boundary.distance_95", "95th-percentile distance", higher_is_better=False, in_pixels=True),
    ComparedFigure("boundary.boundary_f_001", "Boundary F, 1 % of diagonal"),
)
"""What is known of each photograph."""
SET_FIGURES = (
    ComparedFigure("coco.mask.ap", "Mask AP", of_set=True),
    ComparedFigure("coco.mask.ap50", "Mask AP50", of_set=True),
    ComparedFigure("detection.f1", "F1 at the score threshold", of_set=True),
)
"""What exists for all photographs together only."""
FIGURES = {figure.name: figure for figure in (*PHOTO_FIGURES, *SET_FIGURES)}


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRun:
    """One run of a model, judged.

    Attributes:
        name: What to call it.
        verdicts: N photographs.
        score_thresh: From which score a detection counts.
        origin: Where its predictions come from, such as the file and its hash.
    """

    name: str
    verdicts: Sequence[Verdict]
    score_thresh: float
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One model of a comparison: one run, or several of different seeds.

    Attributes:
        name: What to call it.
        values: (S, N, F) float64, each run's figures of each photograph in the order of `PHOTO_FIGURES`; NaN where
            a photograph does not have one.
        statistics: S functions that give a run's figures of the set.
        run_names: S names.
        score_thresholds: S scores from which detections counted; empty where not known, as the next.
        origins: Where S runs' predictions come from, such as the file and its hash.
        carriers: S times (N, G) bool, the photographs that each figure of the set rests on; empty for all.
    """

    name: str
    values: Values
    statistics: tuple[SetStatistic, ...]
    run_names: tuple[str, ...]
    score_thresholds: tuple[float, ...] = ()
    origins: tuple[Mapping[str, str], ...] = ()
    carriers: tuple[BoolArray, ...] = ()


def row_values(rows: Sequence[PhotoRow]) -> Values:
    """Each photograph's figures, (N, F) float64 in the order of `PHOTO_FIGURES`; NaN where one is not defined."""
    parts = {"isic": "figures", "boundary": "boundary"}
    values = np.full((len(rows), len(PHOTO_FIGURES)), np.nan)
    for column, figure in enumerate(PHOTO_FIGURES):
        part, name = figure.name.split(".")
        for index, row in enumerate(rows):
            value = getattr(getattr(row, parts[part]), name)
            values[index, column] = np.nan if value is None or not np.isfinite(value) else value
    return values


def judged_side(name: str, runs: Sequence[JudgedRun]) -> Side:
    """A model from the judged photographs of its runs, all in the same order of photographs."""
    return Side(
        name=name,
        values=np.stack([row_values([verdict.row for verdict in run.verdicts]) for run in runs]),
        statistics=tuple(set_statistic(run.verdicts, score_thresh=run.score_thresh) for run in runs),
        run_names=tuple(run.name for run in runs),
        carriers=tuple(_carriers(run) for run in runs),
        score_thresholds=tuple(run.score_thresh for run in runs),
        origins=tuple(run.origin for run in runs),
    )


def _carriers(run: JudgedRun) -> BoolArray:
    ranked = RankedMatches.from_photos([verdict.mask_matches for verdict in run.verdicts])
    found = set_carriers(ranked, run.score_thresh)
    return np.stack([found[figure.name.rpartition(".")[2]] for figure in SET_FIGURES], axis=1)


def set_statistic(verdicts: Sequence[Verdict], *, score_thresh: float) -> SetStatistic:
    """The figures of the set of one run, as a function of weights."""
    ranked = RankedMatches.from_photos([verdict.mask_matches for verdict in verdicts])

    def one(weights: Values) -> tuple[float, float, float]:
        precision = ranked.average_precision(weights)
        return precision.ap, precision.ap50, ranked.operating_point(score_thresh, weights=weights).f1

    return lambda weights: np.array([one(row) for row in weights], np.float64)
