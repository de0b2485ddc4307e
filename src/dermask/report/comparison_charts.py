"""Charts of a comparison: differences with their intervals, photograph against photograph, how differences spread."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermask.evaluation.bootstrap import MIN_UNITS
from dermask.evaluation.compared_figures import FIGURES
from dermask.evaluation.comparison import PairedDifference
from dermask.report.charts import TRAIN_COLOUR, VAL_COLOUR, Chart, layout, plain
from dermask.wording import plural

MAX_POINTS = 4000
"""Photographs that a chart shows one by one; more would make the page slow and hide each other."""
GREY = "#8a93a3"  # at least 3:1 on both white and near-black
_SIDES = 20  # bars on either side of the one around 0
_TIE = 1e-9


def forest_chart(differences: Sequence[PairedDifference], letter: str, *, in_pixels: bool) -> Chart | None:
    """The differences of all figures of one scale, each with its interval; None where there are none.

    Args:
        differences: Of photographs and of the set.
        letter: The model that is compared to A.
        in_pixels: Whether the lengths are drawn, where lower is better, or the shares, where higher is.
    """
    shown = [one for one in differences if FIGURES[one.name].in_pixels == in_pixels and not np.isnan(one.difference)]
    if not shown:
        return None
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [one.difference for one in shown],
        "y": [FIGURES[one.name].title for one in shown],
        "error_x": _error_bars(shown),
        "marker": {
            "size": 10,
            "color": [{"a": VAL_COLOUR, "b": TRAIN_COLOUR, None: GREY}[one.winner] for one in shown],
            "symbol": ["diamond" if FIGURES[one.name].of_set else "circle" for one in shown],
        },
        "customdata": [[describe_interval(one), describe_claim(one, letter)] for one in shown],
        "hovertemplate": "%{y}<br>%{x:+.4f}, %{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    }
    drawn = layout(f"{letter} \N{MINUS SIGN} A" + (", pixels" if in_pixels else ""))
    drawn["yaxis"] |= {"range": [len(shown) - 0.4, -0.6], "type": "category"}  # the first on top
    drawn["hovermode"] = "closest"
    drawn["xaxis"] |= {"zeroline": True, "zerolinecolor": GREY, "zerolinewidth": 2, "range": _range_with_zero(shown)}
    said = "; ".join(f"{FIGURES[one.name].title} {signed(one)}, {describe_interval(one)}" for one in shown)
    return Chart(
        key=f"chart-forest-{'pixels' if in_pixels else 'shares'}-{letter.lower()}",
        title=f"Distances in pixels: left of 0, {letter} is better" if in_pixels else f"Right of 0, {letter} is better",
        summary=f"Differences {letter} minus A with their intervals: {said}.",
        figure={"data": [points], "layout": drawn},
        wide=True,
        height=5.5 + 1.9 * len(shown),
    )


def scatter_chart(a: NDArray[np.float64], b: NDArray[np.float64], image_ids: Sequence[str], letter: str) -> Chart:
    """Each photograph's Jaccard index by both models.

    Args:
        a: (N,) float64 in [0, 1], the reference's.
        b: (N,) float64 in [0, 1].
        image_ids: N ids, which the reader sees by pointing.
        letter: The model that is compared to A.
    """
    chosen = sorted(random.Random(0).sample(range(len(a)), min(len(a), MAX_POINTS)))
    gains = b[chosen] - a[chosen]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": a[chosen].round(4).tolist(),
        "y": b[chosen].round(4).tolist(),
        "customdata": [plain(image_ids[index]) for index in chosen],
        "marker": {"size": 7, "opacity": 0.65, "color": [_side_colour(gain) for gain in gains.tolist()]},
        "hovertemplate": f"%{{customdata}}<br>A %{{x:.3f}}, {letter} %{{y:.3f}}<extra></extra>",
    }
    drawn = layout("Jaccard index of A", f"Jaccard index of {letter}")
    drawn["xaxis"] |= {"range": [-0.02, 1.02], "dtick": 0.2, "constrain": "domain"}
    drawn["yaxis"] |= {"range": [-0.02, 1.02], "dtick": 0.2, "scaleanchor": "x", "constrain": "domain"}
    drawn["hovermode"] = "closest"
    drawn["shapes"] = [
        {"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "layer": "between",
         "line": {"color": GREY, "width": 1.5, "dash": "dash"}},
    ]  # fmt: skip
    left_out = "" if len(chosen) == len(a) else f" {len(chosen):,} of them, drawn at random, are shown."
    summary = (
        f"Jaccard index of {plural(len(a), 'photograph')}, {letter} against A: {int((b - a > _TIE).sum())} lie above "
        f"the diagonal, where {letter} is better, and {int((b - a < -_TIE).sum())} below.{left_out}"
    )
    return Chart(
        f"chart-scatter-{letter.lower()}", f"Photograph by photograph, A and {letter}", summary,
        {"data": [points], "layout": drawn}, height=22,
    )  # fmt: skip


def difference_histogram(differences: NDArray[np.float64], letter: str) -> Chart:
    """How the differences of the photographs' Jaccard indices spread; the middle bar is around 0.

    Args:
        differences: (N,) float64 in [-1, 1], `letter` - A.
        letter: The model that is compared to A.
    """
    furthest = max(float(np.abs(differences).max(initial=0)), 0.05)
    width = 2 * furthest / (2 * _SIDES + 1)
    edges = (np.arange(2 * _SIDES + 2) - _SIDES - 0.5) * width
    counts, _ = np.histogram(np.clip(differences, edges[0], edges[-1]), bins=edges)
    centres = (edges[:-1] + edges[1:]) / 2
    bars = {
        "type": "bar",
        "x": centres.round(5).tolist(),
        "y": counts.tolist(),
        "width": 0.9 * width,
        "marker": {"color": [VAL_COLOUR] * _SIDES + [GREY] + [TRAIN_COLOUR] * _SIDES},
        "customdata": [
            f"{low:+.3f} to {high:+.3f}" for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ],
        "hovertemplate": "%{customdata}<br>%{y} photographs<extra></extra>",
    }
    drawn = layout(f"Jaccard index, {letter} \N{MINUS SIGN} A", "photographs", y_from_zero=True)
    drawn["hovermode"] = "closest"
    ends = np.quantile(differences, [0.05, 0.5, 0.95]) if len(differences) else np.zeros(3)
    summary = (
        f"Differences in Jaccard index, {letter} minus A, of {plural(len(differences), 'photograph')}: "
        f"median {ends[1]:+.3f}, nine in ten between {ends[0]:+.3f} and {ends[2]:+.3f}."
    )
    figure = {"data": [bars], "layout": drawn}
    return Chart(f"chart-differences-{letter.lower()}", "How the differences spread", summary, figure, height=22)


def signed(one: PairedDifference) -> str:
    """The difference with its sign: three digits of a share, two of a length in pixels."""
    return signed_number(one.difference, in_pixels=FIGURES[one.name].in_pixels)


def signed_number(value: float, *, in_pixels: bool) -> str:
    """A number with its sign, with a true minus."""
    return f"{value:+.{2 if in_pixels else 3}f}".replace("-", "\N{MINUS SIGN}")


def show_interval(one: PairedDifference) -> str:
    """``+0.010 to +0.030``; empty where there is none."""
    if one.interval is None:
        return ""
    in_pixels = FIGURES[one.name].in_pixels
    low, high = (signed_number(end, in_pixels=in_pixels) for end in (one.interval.low, one.interval.high))
    return f"{low} to {high}"


def describe_interval(one: PairedDifference) -> str:
    """The interval in words, or that there is none."""
    return "no interval" if one.interval is None else f"{100 * one.interval.level:g} % interval {show_interval(one)}"


def describe_claim(one: PairedDifference, letter: str) -> str:
    """What is shown about the figure, in words."""
    if np.isnan(one.difference):
        return "not defined on these photographs"
    if one.winner is not None:
        return f"{'A' if one.winner == 'a' else letter} is better, {show_p(one.p_adjusted)}"
    if one.p_adjusted is not None:
        return f"no difference shown, {show_p(one.p_adjusted)}"
    if one.interval is None:
        return "too few for a claim" if one.num_units < MIN_UNITS else "no spread in this sample"
    leaves_out = one.interval.low > 0 or one.interval.high < 0
    return f"the interval {'leaves out' if leaves_out else 'holds'} 0; not tested"


def show_p(p_value: float | None) -> str:
    """``p = 0.012``, ``p < 0.001``; empty where there is none."""
    if p_value is None:
        return ""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _range_with_zero(shown: Sequence[PairedDifference]) -> list[float]:
    """From the lowest to the highest end of a bar and 0, with a margin."""
    ends = [0.0, *(one.difference for one in shown)]
    for one in shown:
        ends += [] if one.interval is None else [one.interval.low, one.interval.high]
    margin = 0.06 * (max(ends) - min(ends)) or 0.01
    return [min(ends) - margin, max(ends) + margin]


def _error_bars(shown: Sequence[PairedDifference]) -> dict[str, Any]:
    ends = [(one.interval.low, one.interval.high) if one.interval else (one.difference,) * 2 for one in shown]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - one.difference for one, (_, high) in zip(shown, ends, strict=True)],
        "arrayminus": [one.difference - low for one, (low, _) in zip(shown, ends, strict=True)],
        "thickness": 2,
        "width": 5,
        "color": GREY,
    }


def _side_colour(gain: float) -> str:
    if abs(gain) <= _TIE:
        return GREY
    return TRAIN_COLOUR if gain > 0 else VAL_COLOUR
