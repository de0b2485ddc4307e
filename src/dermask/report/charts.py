"""Charts of a report as plotly figures: plain dictionaries that the page's script draws and colours.

Nothing here fixes a text or background colour: the page follows the reader's light or dark setting, and so must they.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermask.errors import InputError
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.wording import plural

TRAIN_COLOUR, VAL_COLOUR, THIRD_COLOUR = "#3b82d6", "#d97a1f", "#3f9b6c"  # at least 3:1 on both white and near-black
_BINS = 20  # of width 0.05, so that the challenge's threshold 0.65 is a border between two

LOSS_TITLES = {
    "loss": "Total loss",
    "rpn_class_loss": "Proposals: lesion or not",
    "rpn_bbox_loss": "Proposals: box",
    "mrcnn_class_loss": "Detections: class",
    "mrcnn_bbox_loss": "Detections: box",
    "mrcnn_mask_loss": "Detections: mask",
}

History = Mapping[str, Sequence[float | None]]
"""Columns of history.csv, one value per epoch, None where a cell is empty."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure of the page.

    Attributes:
        key: Its id in the page.
        title: What it shows.
        summary: The same in a sentence, for those who cannot see it.
        figure: Plotly's `data` and `layout`.
        column: The history's column it draws; empty where it draws more than one.
        wide: Whether it takes the page's width.
        height: Of the plot in rem; None leaves it to the page's style.
    """

    key: str
    title: str
    summary: str
    figure: dict[str, Any]
    column: str = ""
    wide: bool = False
    height: float | None = None


def read_history(path: Path) -> dict[str, list[float | None]]:
    """The columns of a run's history.csv; cells that are empty or not a number are None.

    Raises:
        InputError: The file is missing or has no header.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            names = reader.fieldnames
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", "give the folder of a training run") from None
    if not names:
        raise InputError(str(path), "is empty", "give the history of a training run")
    return {name: [_number(row[name]) for row in rows] for name in names}


def loss_charts(history: History) -> list[Chart]:
    """The total loss and its five parts, each in training and in validation."""
    charts = []
    for name, title in LOSS_TITLES.items():
        lines = _drawable(
            _line(history, name, "training", TRAIN_COLOUR),
            _line(history, f"val_{name}", "validation", VAL_COLOUR, dash="dot"),
        )
        if lines:
            charts.append(
                Chart(
                    key=f"chart-{name.replace('_', '-')}",
                    title=title,
                    summary=_describe_lines(title, lines),
                    figure={"data": lines, "layout": layout("epoch", y_from_zero=True)},
                    column=name,
                )
            )
    return charts


def quality_chart(history: History) -> Chart | None:
    """Validation Jaccard and mask AP over epochs; None where the history has neither."""
    lines = _drawable(
        _line(history, "val_jaccard", "Jaccard", TRAIN_COLOUR),
        _line(history, "val_mask_ap", "mask AP", THIRD_COLOUR, dash="dot"),
    )
    if not lines:
        return None
    title = "Validation: Jaccard and mask AP"
    drawn = layout("epoch")
    drawn["yaxis"]["range"] = [0, 1]
    return Chart("chart-quality", title, _describe_lines(title, lines), {"data": lines, "layout": drawn}, wide=True)


def jaccard_histogram(values: Sequence[float]) -> Chart:
    """How many photographs reach which Jaccard index.

    Args:
        values: One per photograph, in [0, 1].
    """
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    failed = edges[1:] <= JACCARD_THRESH + 1e-9
    bars = {
        "type": "bar",
        "x": [round(float(centre), 3) for centre in centres],
        "y": counts.tolist(),
        "width": 0.9 / _BINS,
        "marker": {"color": [VAL_COLOUR if below else TRAIN_COLOUR for below in failed.tolist()]},
        "customdata": [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges.tolist())],
        "hovertemplate": "Jaccard %{customdata}<br>%{y} photographs<extra></extra>",
    }
    drawn = layout("Jaccard index", "photographs", y_from_zero=True)
    drawn["xaxis"] |= {"range": [0, 1], "dtick": 0.1}
    drawn["hovermode"] = "closest"
    drawn["shapes"] = [
        {"type": "line", "x0": JACCARD_THRESH, "x1": JACCARD_THRESH, "yref": "paper", "y0": 0, "y1": 1,
         "line": {"color": VAL_COLOUR, "width": 1.5, "dash": "dash"}},
    ]  # fmt: skip
    below = sum(value < JACCARD_THRESH for value in values)
    summary = (
        f"Jaccard index of {plural(len(values), 'photograph')}: median {float(np.median(values)):.3f}, "
        f"{below} below {JACCARD_THRESH:.2f}."
    )
    return Chart("chart-jaccard", "Jaccard of each photograph", summary, {"data": [bars], "layout": drawn}, wide=True)


def plain(text: str) -> str:
    """A text that plotly shows as it is; it would read some tags of HTML otherwise."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _line(history: History, column: str, name: str, colour: str, *, dash: str = "solid") -> dict[str, Any] | None:
    values = history.get(column, [])
    if all(value is None for value in values):
        return None
    epochs = history.get("epoch", range(1, len(values) + 1))
    points = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) <= 40 else "lines",
        "name": name,
        "x": [epoch for epoch, _ in points],
        "y": [value for _, value in points],
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"size": 5},
        "hovertemplate": "%{y:.4f}",
    }


def _drawable(*lines: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [line for line in lines if line is not None]


def layout(x_title: str, y_title: str = "", *, y_from_zero: bool = False) -> dict[str, Any]:
    """What all charts share: titles of the axes, narrow margins, the legend above, no colour of its own."""
    return {
        "xaxis": {"title": {"text": x_title}, "zeroline": False, "automargin": True},
        "yaxis": {
            "title": {"text": y_title},
            "zeroline": False,
            "automargin": True,
            "rangemode": "tozero" if y_from_zero else "normal",
        },
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _describe_lines(title: str, lines: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"{line['name']} from {line['y'][0]:.3f} to {line['y'][-1]:.3f}" for line in lines]
    return f"{title} over {plural(len(lines[0]['x']), 'epoch')}: {', '.join(parts)}."


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None
