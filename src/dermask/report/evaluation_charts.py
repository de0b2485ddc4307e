"""Charts of an evaluation: curves of detection, calibration, Jaccard against lesion size, subgroups side by side.

Figures for plotly as in `charts`. A point that stands for a photograph carries its id as `customdata`, by which the
page's script opens it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dermask.evaluation.bootstrap import Interval
from dermask.evaluation.calibration import Reliability
from dermask.evaluation.detection import Curve, DetectionFigures, OperatingPoint
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.report.charts import TRAIN_COLOUR, VAL_COLOUR, Chart, layout, plain
from dermask.wording import plural

MAX_POINTS = 4000
"""Photographs that a chart shows one by one; more would make the page slow and hide each other."""
_GREY = "#8a93a3"


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One group of photographs in a forest plot.

    Attributes:
        trait: What is grouped by, as a key.
        title: The same in words.
        value: Which of its values.
        count: Photographs.
        figure: Their mean; NaN where none has it.
        interval: Of the mean; None where the group is too small for one.
    """

    trait: str
    title: str
    value: str
    count: int
    figure: float
    interval: Interval | None


def precision_recall_chart(detection: DetectionFigures) -> Chart | None:
    """How many detections are right against how many lesions are found; None without lesions or detections."""
    if not len(detection.curve.x):
        return None
    curve = _curve(
        detection.curve, "recall %{x:.3f}, precision %{y:.3f}<br>score from %{customdata:.3f}", from_zero=False
    )
    marks = [_mark(name, point, point.recall, point.precision, symbol) for name, point, symbol in _marked(detection)]
    drawn = layout("recall", "precision")
    drawn["xaxis"]["range"], drawn["yaxis"]["range"] = [0, 1.02], [0, 1.02]
    drawn["hovermode"] = "closest"
    said = "; ".join(
        f"{name} (score from {point.score_thresh:.3f}) precision {point.precision:.3f}, recall {point.recall:.3f}"
        for name, point, _ in _marked(detection)
    )
    summary = f"Precision against recall at a mask IoU of {detection.iou_thresh:.2f}: {said or 'nothing found'}."
    return Chart("chart-precision-recall", "Precision and recall", summary, {"data": [curve, *marks], "layout": drawn})


def froc_chart(detection: DetectionFigures) -> Chart | None:
    """Lesions found against false alarms per photograph; None without lesions or detections."""
    if not len(detection.froc.x):
        return None
    hover = "%{x:.3f} false alarms per photograph, %{y:.1%} found<br>score from %{customdata:.3f}"
    curve = _curve(detection.froc, hover, from_zero=True)
    marks = [
        _mark(name, point, point.false_alarms_per_photo, point.recall, symbol)
        for name, point, symbol in _marked(detection)
    ]
    drawn = layout("false alarms per photograph", "lesions found")
    drawn["yaxis"] |= {"range": [0, 1.02], "tickformat": ".0%"}
    drawn["xaxis"]["rangemode"] = "tozero"
    drawn["hovermode"] = "closest"
    said = "; ".join(
        f"{name} {point.recall:.1%} of lesions with {point.false_alarms_per_photo:.3f} false alarms per photograph"
        for name, point, _ in _marked(detection)
    )
    title = "Lesions found against false alarms (FROC)"
    summary = f"{title}: {said or 'nothing found'}."
    return Chart("chart-froc", title, summary, {"data": [curve, *marks], "layout": drawn})


def reliability_chart(key: str, title: str, what: str, reliability: Reliability) -> Chart | None:
    """Whether what is predicted with a probability comes true as often; None where nothing was predicted.

    Args:
        key: Its id in the page.
        title: What it shows.
        what: What is counted, in the plural.
        reliability: Bins by predicted probability.
    """
    filled = [index for index, count in enumerate(reliability.counts) if count > 0]
    if not filled:
        return None
    predicted = [round(float(reliability.mean_predicted[index]), 4) for index in filled]
    correct = [round(float(reliability.share_correct[index]), 4) for index in filled]
    counts = [float(reliability.counts[index]) for index in filled]
    largest = max(counts)
    points = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "measured",
        "x": predicted,
        "y": correct,
        "customdata": [f"{count:,.0f}" for count in counts],
        "line": {"color": TRAIN_COLOUR, "width": 2},
        "marker": {"size": [round(6 + 10 * math.sqrt(count / largest), 1) for count in counts]},
        "hovertemplate": f"predicted %{{x:.3f}}, true %{{y:.3f}}<br>%{{customdata}} {what}<extra></extra>",
    }
    ideal = {
        "type": "scatter",
        "mode": "lines",
        "name": "ideal",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": _GREY, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }
    drawn = layout("predicted probability", "share that is right")
    drawn["xaxis"]["range"], drawn["yaxis"]["range"] = [0, 1.02], [0, 1.02]
    drawn["hovermode"] = "closest"
    error = reliability.expected_calibration_error
    summary = (
        f"{title}: expected calibration error {error:.3f} over {sum(counts):,.0f} {what}; "
        f"where {predicted[-1]:.2f} is predicted, {correct[-1]:.2f} are right."
    )
    return Chart(key, f"{title}, ECE {error:.3f}", summary, {"data": [ideal, points], "layout": drawn})


def lesion_size_chart(ids: Sequence[str], shares: Sequence[float], jaccards: Sequence[float]) -> Chart | None:
    """Jaccard of each photograph against the size of its lesion; None where no photograph has a lesion.

    Args:
        ids: One per photograph.
        shares: Of the photograph inside the labelled border, [0, 1]; those of 0 are left out.
        jaccards: In [0, 1].
    """
    chosen = [index for index, share in enumerate(shares) if share > 0]
    num_with_lesion = len(chosen)
    if not chosen:
        return None
    if len(chosen) > MAX_POINTS:
        chosen = sorted(random.Random(0).sample(chosen, MAX_POINTS))
    low = [jaccards[index] < JACCARD_THRESH for index in chosen]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [float(f"{100 * shares[index]:.3g}") for index in chosen],
        "y": [round(jaccards[index], 4) for index in chosen],
        "text": [plain(ids[index]) for index in chosen],
        "customdata": [ids[index] for index in chosen],
        "marker": {
            "size": 7 if len(chosen) < 1000 else 5,
            "opacity": 0.7,
            "color": [VAL_COLOUR if one else TRAIN_COLOUR for one in low],
            "symbol": ["diamond" if one else "circle" for one in low],
        },
        "hovertemplate": "<b>%{text}</b><br>Jaccard %{y:.3f}, lesion %{x:.3g} % of the photograph<extra></extra>",
    }
    drawn = layout("lesion, % of the photograph", "Jaccard index")
    drawn["xaxis"] |= {"type": "log", "tickvals": [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]}
    drawn["yaxis"]["range"] = [-0.02, 1.02]
    drawn["hovermode"] = "closest"
    drawn["shapes"] = [_level(JACCARD_THRESH)]
    median = float(np.median([100 * shares[index] for index in chosen]))
    summary = (
        f"Jaccard index against lesion size of {plural(num_with_lesion, 'photograph')} with a labelled lesion; "
        f"the median lesion covers {median:.1f} % of its photograph."
    )
    if num_with_lesion > len(chosen):
        summary += f" {len(chosen):,} of them are drawn, chosen at random."
    return Chart(
        "chart-lesion-size", "Jaccard against lesion size", summary, {"data": [points], "layout": drawn}, wide=True
    )


def forest_chart(rows: Sequence[ForestRow], overall: float) -> Chart | None:
    """The mean Jaccard of each group with its interval, one below the other; None without any.

    Args:
        rows: From the top, those of one trait together.
        overall: Mean of all photographs, drawn as a line.
    """
    known = [row for row in rows if not math.isnan(row.figure)]
    if not known:
        return None
    lines: list[str | ForestRow] = []
    for index, row in enumerate(known):
        if not index or known[index - 1].trait != row.trait:
            lines.append(f"<b>{plain(row.title)}</b>")
        lines.append(row)
    places = {id(line): -float(index) for index, line in enumerate(lines)}  # downwards
    sure = [row for row in known if row.interval is not None]
    unsure = [row for row in known if row.interval is None]
    traces = [
        _forest_trace(sure, [places[id(row)] for row in sure], "with 95 % interval", "circle"),
        _forest_trace(unsure, [places[id(row)] for row in unsure], "too few photographs for a claim", "circle-open"),
    ]
    drawn = layout("mean Jaccard", "")
    drawn["yaxis"] |= {
        "tickvals": [-float(index) for index in range(len(lines))],
        "ticktext": [line if isinstance(line, str) else f"{plain(line.value)} ({line.count:,})" for line in lines],
        "range": [0.6 - len(lines), 0.6],
        "showgrid": False,
    }
    drawn["hovermode"] = "closest"
    drawn["shapes"] = [_level(overall, vertical=True)]
    said = ", ".join(f"{row.title} {row.value} {row.figure:.3f} ({row.count:,})" for row in known)
    return Chart(
        "chart-subgroups",
        "Mean Jaccard of each group, dashed: all photographs",
        f"Mean Jaccard index by group, all photographs {overall:.3f}: {said}.",
        {"data": [trace for trace in traces if trace is not None], "layout": drawn},
        wide=True,
        height=6 + 1.4 * len(lines),
    )


def _forest_trace(rows: Sequence[ForestRow], places: Sequence[float], name: str, symbol: str) -> dict[str, Any] | None:
    if not rows:
        return None
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(row.figure, 4) for row in rows],
        "y": list(places),
        "customdata": [[row.trait, row.value, _forest_words(row)] for row in rows],
        **_error_bars(rows),
        "marker": {"color": TRAIN_COLOUR, "size": 10, "symbol": symbol, "line": {"color": TRAIN_COLOUR, "width": 2}},
        "hovertemplate": "%{customdata[2]}<extra></extra>",
    }


def _error_bars(rows: Sequence[ForestRow]) -> dict[str, Any]:
    intervals = [row.interval for row in rows if row.interval is not None]
    if len(intervals) < len(rows):
        return {}
    return {
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [round(one.high - row.figure, 4) for row, one in zip(rows, intervals, strict=True)],
            "arrayminus": [round(row.figure - one.low, 4) for row, one in zip(rows, intervals, strict=True)],
            "color": TRAIN_COLOUR,
            "thickness": 2,
            "width": 4,
        }
    }


def _forest_words(row: ForestRow) -> str:
    words = f"{plain(row.title)}: {plain(row.value)}, {plural(row.count, 'photograph')}<br>Jaccard {row.figure:.3f}"
    if row.interval is None:
        return words + "<br>too few for an interval or a claim"
    return words + f", {row.interval.level:.0%} interval {row.interval.low:.3f} to {row.interval.high:.3f}"


def _marked(detection: DetectionFigures) -> list[tuple[str, OperatingPoint, str]]:
    """The thresholds that a curve marks, with their names and symbols; not where one has no place on it."""
    points = [("threshold in use", detection.chosen, "circle"), ("highest F1", detection.best, "diamond")]
    return [one for one in points if all(map(math.isfinite, (one[1].score_thresh, one[1].precision, one[1].recall)))]


def _curve(curve: Curve, hover: str, *, from_zero: bool) -> dict[str, Any]:
    """All thresholds as a line; `from_zero` begins it where nothing counts."""
    x, y, thresholds = (
        np.round(values, 4).tolist() for values in (curve.x, curve.y, np.clip(curve.score_thresh, 0, 1))
    )
    if from_zero:
        x, y, thresholds = [0, *x], [0, *y], [1, *thresholds]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "all thresholds",
        "x": x,
        "y": y,
        "customdata": thresholds,
        "line": {"color": TRAIN_COLOUR, "width": 2},
        "hovertemplate": hover + "<extra></extra>",
    }


def _mark(name: str, point: OperatingPoint, x: float, y: float, symbol: str) -> dict[str, Any]:
    words = (
        f"score from {point.score_thresh:.3f}<br>precision {point.precision:.3f}, recall {point.recall:.3f}, "
        f"F1 {point.f1:.3f}<br>{point.missed:,.0f} missed, {point.false_alarms:,.0f} false alarms"
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(x, 4)],
        "y": [round(y, 4)],
        "marker": {"color": VAL_COLOUR, "size": 11, "symbol": symbol, "line": {"color": VAL_COLOUR, "width": 1}},
        "hovertemplate": f"{name}: {words}<extra></extra>",
    }


def _level(value: float, *, vertical: bool = False) -> dict[str, Any]:
    across, along = ("x", "y") if vertical else ("y", "x")
    return {
        "type": "line",
        f"{across}0": value,
        f"{across}1": value,
        f"{along}ref": "paper",
        f"{along}0": 0,
        f"{along}1": 1,
        "line": {"color": VAL_COLOUR, "width": 1.5, "dash": "dash"},
    }
