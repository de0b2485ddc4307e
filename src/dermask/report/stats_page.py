"""The page of a data set's figures: parts side by side as charts and tables, in one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dermask import files
from dermask.data.skin_tone import ITA_BINS, MIN_SKIN_SHARE, MIN_YELLOWNESS, srgb_to_lab
from dermask.data.statistics import LesionFigures, PartStatistics, PhotoFigures
from dermask.data.statistics_summary import hex_colour, summarize
from dermask.report.charts import Chart, plain
from dermask.report.rendering import render_page
from dermask.report.tables import NOT_DEFINED, Headline, Table
from dermask.wording import plural

PART_COLOURS = (
    "#3b82d6",
    "#d97a1f",
    "#3f9b6c",
    "#b668c9",
    "#8a8f98",
    "#c94f5c",
)  # at least 3:1 on white and near-black
MAX_DOTS = 1500
"""Photographs of each part in the chart of colours: more would hide each other."""
_BINS = 30
_MOST_NAMES = 20  # classes, sizes or diagnoses that a chart or table lists

LIMITS = (
    "The angle (ITA) follows the light, the camera and its white balance as well as the skin: "
    "a dim photograph of light skin counts as dark.",
    "It is not the Fitzpatrick type, and says nothing certain about one person.",
    "Dermatoscopes press the skin and light it, polarised or not; few photographs are calibrated for colour.",
    f"A photograph has no angle where less than {MIN_SKIN_SHARE:.0%} of it is bare skin, where glare hides most of it, "
    f"or where it is hardly yellowish (b* below {MIN_YELLOWNESS:g}): that is a white balance and no skin tone.",
)
"""What the figures of skin tone cannot tell."""


def write_stats_page(parts: Sequence[PartStatistics], path: Path, *, command: str = "") -> Path:
    """Write the figures of parts as one HTML page with charts.

    Args:
        parts: What `dermask.data.statistics.measure` found; charts lay them side by side.
        path: Where to write; a file that stands there is replaced.
        command: The command that made it.

    Returns:
        `path`.

    Raises:
        InputError: The file cannot be written.
    """
    summaries = [summarize(part) for part in parts]
    groups = [
        ("labels", "Outlines", _outline_charts(parts)),
        ("position", "Where lesions lie", [_position_chart(number, part) for number, part in enumerate(parts)]),
        ("photographs", "Photographs", _photograph_charts(parts)),
        ("skin", "Skin tone", _skin_charts(parts)),
    ]
    shown = [(key, name, [chart for chart in charts if chart is not None]) for key, name, charts in groups]
    shown = [group for group in shown if group[2]]
    context = {
        "title": "Figures of " + (", ".join(part.name for part in parts) or "no data"),
        "lead": _lead(summaries),
        "sections": [("result", "In short"), *((key, name) for key, name, _ in shown), ("tables", "Tables")],
        "headline": _headline(summaries),
        "short_table": short_table(summaries),
        "groups": shown,
        "limits": LIMITS,
        "tables": _tables(summaries),
        "unreadable": [(part.name, one.image_id, one.problem) for part in parts for one in part.unreadable],
        "command": command,
    }
    files.write_text(path, render_page("stats.html", context, charts=[chart for group in shown for chart in group[2]]))
    return path


def short_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """The figures that a reader wants first, a column for each part; the terminal shows the same.

    Args:
        summaries: Of `statistics_summary.summarize`.
    """
    rows: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("Photographs", lambda one: f"{one['photographs']:,}"),
        ("Unreadable photographs", lambda one: f"{len(one['unreadable']):,}"),
        ("Without an outline", lambda one: f"{one['without_outline']:,}"),
        ("Outlines", lambda one: f"{one['outlines']:,}"),
        ("Classes", lambda one: _count_names(one["classes"])),
        ("Photograph sizes", lambda one: _count_names(one["sizes"], most=1)),
        ("Lesion's share of the area", lambda one: _spread(one["area_share"], "{:.1%}")),
        ("Equivalent diameter, pixels", lambda one: _spread(one["diameter"], "{:.0f}")),
        ("Diameter over short side", lambda one: _spread(one["diameter_share"], "{:.2f}")),
        ("Compactness (circle 1)", lambda one: _spread(one["compactness"], "{:.2f}")),
        ("Outlines at the border", lambda one: _percent(one["touching_border"])),
        ("Mean colour of lesions", lambda one: _colour(one["lesion_colour"])),
        ("Mean colour around them", lambda one: _colour(one["around_colour"])),
        ("Brightness, 0 to 255", lambda one: _spread(one["brightness"], "{:.0f}")),
        ("Sharpness", lambda one: _spread(one["sharpness"], "{:.0f}")),
        ("Skin tone (ITA), degrees", lambda one: _spread(one["skin_tone"]["ita"], "{:.0f}")),
        ("Skin tone unknown", lambda one: f"{one['skin_tone']['unknown']:,}"),
    ]
    if any(one["diagnoses"] for one in summaries):
        rows.append(("Diagnoses in the metadata", lambda one: _count_names(one["diagnoses"])))
    columns = ("", *(str(one["name"]) for one in summaries))
    return Table("In short", columns, tuple((title, *(show(one) for one in summaries)) for title, show in rows))


def tone_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """How many photographs of each part fall into each bin of skin tone."""
    low = "up to "
    rows = []
    for index, (name, largest) in enumerate(ITA_BINS):
        limits = f"{low}{largest:g}" if index < len(ITA_BINS) - 1 else f"above {ITA_BINS[-2][1]:g}"
        counts = [one["skin_tone"]["bins"][name] for one in summaries]
        totals = [one["skin_tone"]["measured"] for one in summaries]
        rows.append((name, limits, *(_count_of(count, total) for count, total in zip(counts, totals, strict=True))))
    columns = ("Skin tone", "ITA, degrees", *(str(one["name"]) for one in summaries))
    return Table("Skin tone", columns, tuple(rows))


def _lead(summaries: Sequence[Mapping[str, Any]]) -> str:
    photographs = sum(one["photographs"] for one in summaries)
    outlines = sum(one["outlines"] for one in summaries)
    return (
        f"{plural(photographs, 'photograph')} with {plural(outlines, 'outline')} in {plural(len(summaries), 'part')}."
    )


def _headline(summaries: Sequence[Mapping[str, Any]]) -> list[Headline]:
    cards = [
        Headline(str(one["name"]), f"{one['photographs']:,}", f"photographs, {plural(one['outlines'], 'outline')}")
        for one in summaries
    ]
    unreadable = sum(len(one["unreadable"]) for one in summaries)
    if unreadable:
        cards.append(Headline("Unreadable", f"{unreadable:,}", "photographs that no figure includes"))
    return cards


def _tables(summaries: Sequence[Mapping[str, Any]]) -> list[Table]:
    tables = [tone_table(summaries)]
    for key, title in (("sizes", "Photograph sizes"), ("classes", "Classes"), ("diagnoses", "Diagnoses")):
        totals: dict[str, int] = {}
        for one in summaries:
            for name, number in one[key].items():
                totals[name] = totals.get(name, 0) + number
        names = sorted(totals, key=lambda name: -totals[name])
        rows = tuple((name, *(f"{one[key].get(name, 0):,}" for one in summaries)) for name in names[:_MOST_NAMES])
        heading = title if len(names) <= _MOST_NAMES else f"{title}, the {_MOST_NAMES} most frequent of {len(names):,}"
        if rows:
            tables.append(Table(heading, (title, *(str(one["name"]) for one in summaries)), rows))
    return tables


def _outline_charts(parts: Sequence[PartStatistics]) -> list[Chart | None]:
    def of_lesions(get: Callable[[LesionFigures], float]) -> list[list[float]]:
        return [[get(lesion) for lesion in part.lesions] for part in parts]

    charts = [
        _bars("outlines", "Outlines in a photograph", parts, [_as_names(part.count_outlines()) for part in parts]),
        _lines(
            "area", "Lesion's share of the area", parts, of_lesions(lambda one: 100 * one.area_share), "%", (0, 100)
        ),
        _lines(
            "diameter",
            "Equivalent diameter over short side",
            parts,
            of_lesions(lambda one: one.diameter_share),
            "",
            None,
        ),
        _lines("compactness", "Compactness", parts, of_lesions(lambda one: one.compactness), "", (0, 1)),
    ]
    if len({name for part in parts for name in part.class_names}) > 1:
        charts.insert(1, _bars("classes", "Outlines of each class", parts, [part.count_classes() for part in parts]))
    if any(part.diagnoses for part in parts):
        charts.append(_bars("diagnoses", "Diagnoses in the metadata", parts, [_top(part.diagnoses) for part in parts]))
    return charts


def _photograph_charts(parts: Sequence[PartStatistics]) -> list[Chart | None]:
    def of_photographs(get: Callable[[PhotoFigures], float]) -> list[list[float]]:
        return [[get(photograph) for photograph in part.photographs] for part in parts]

    sharpness = of_photographs(lambda one: float(np.log10(max(one.sharpness, 0.1))))
    return [
        _colour_chart(parts),
        _lines("brightness", "Brightness", parts, of_photographs(lambda one: one.brightness), "mean luma", (0, 255)),
        _lines("sharpness", "Sharpness", parts, sharpness, "log10 of the Laplacian's variance", None),
    ]


def _skin_charts(parts: Sequence[PartStatistics]) -> list[Chart | None]:
    angles = [[tone.ita for tone in part.tones] for part in parts]
    return [
        _bars("tones", "Bins of skin tone, darkest first", parts, [part.count_bins() for part in parts]),
        _lines("ita", "Individual typology angle", parts, angles, "degrees", None),
    ]


def _bars(key: str, title: str, parts: Sequence[PartStatistics], counts: Sequence[Mapping[str, int]]) -> Chart | None:
    """Shares of each part as groups of bars, so that parts of different size compare."""
    names = list(dict.fromkeys(name for count in counts for name in count))
    if not any(sum(count.values()) for count in counts):
        return None
    data = []
    said = []
    for number, (part, count) in enumerate(zip(parts, counts, strict=True)):
        total = sum(count.values())
        data.append(
            {
                "type": "bar",
                "name": plain(part.name),
                "x": [plain(name) for name in names],
                "y": [round(100 * count.get(name, 0) / total, 3) if total else 0 for name in names],
                "customdata": [count.get(name, 0) for name in names],
                "marker": {"color": _part_colour(number)},
                "hovertemplate": "%{y:.1f} %, %{customdata}",
            }
        )
        if total:
            most = max(names, key=lambda name: count.get(name, 0))
            said.append(f"{part.name} most often {most} ({100 * count.get(most, 0) / total:.0f} %)")
    layout = _layout("", "% of the part")
    layout["xaxis"] |= {"type": "category"}
    layout["barmode"] = "group"
    return Chart(f"chart-{key}", title, f"{title}: {', '.join(said)}.", {"data": data, "layout": layout})


def _lines(
    key: str,
    title: str,
    parts: Sequence[PartStatistics],
    values: Sequence[Sequence[float]],
    unit: str,
    limits: tuple[float, float] | None,
) -> Chart | None:
    """Histograms as lines, each part's shares adding up to 100 %."""
    everything = np.concatenate([np.asarray(value, np.float64) for value in values]) if len(values) else np.zeros(0)
    if not len(everything):
        return None
    low, high = limits or (float(everything.min()), float(everything.max()))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    centres = [float(f"{value:.5g}") for value in (edges[:-1] + edges[1:]) / 2]
    data = []
    said = []
    for number, (part, value) in enumerate(zip(parts, values, strict=True)):
        if not len(value):
            continue
        counts = np.histogram(value, bins=edges)[0]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain(part.name),
                "x": centres,
                "y": [round(share, 3) for share in (100 * counts / len(value)).tolist()],
                "line": {"color": _part_colour(number), "width": 2, "shape": "hvh"},
                "hovertemplate": "%{y:.1f} %",
            }
        )
        said.append(f"{part.name} has a median of {np.median(value):.3g}")
    layout = _layout(unit, "% of the part")
    return Chart(f"chart-{key}", title, f"{title}: {', '.join(said)}.", {"data": data, "layout": layout})


def _position_chart(number: int, part: PartStatistics) -> Chart | None:
    if not part.position.any():
        return None
    share = np.round(100 * part.position, 1)
    middle = share[share.shape[0] // 2, share.shape[1] // 2]
    data = [
        {
            "type": "heatmap",
            "z": share[::-1].tolist(),  # plotly draws the first row at the bottom
            "colorscale": "Viridis",
            "zmin": 0,
            "zmax": 100,
            "colorbar": {"thickness": 10, "ticksuffix": " %", "outlinewidth": 0},
            "hovertemplate": "%{z:.0f} % of photographs<extra></extra>",
        }
    ]
    layout = _layout("", "")
    layout["xaxis"] |= {"visible": False, "constrain": "domain"}
    layout["yaxis"] |= {"visible": False, "scaleanchor": "x"}
    layout["hovermode"] = "closest"
    title = f"{part.name}: how often a place is lesion"
    summary = f"{title}. The middle in {middle:.0f} % of photographs, the corners in {share[0, 0]:.0f} %."
    return Chart(f"chart-position-{number}", title, summary, {"data": data, "layout": layout})


def _colour_chart(parts: Sequence[PartStatistics]) -> Chart | None:
    """Each photograph as a dot of its lesion's colour, rimmed by the colour around it."""
    data = []
    symbols = ("circle", "square", "diamond", "triangle-up", "cross", "x")
    for number, part in enumerate(parts):
        chosen = [one for one in part.photographs if one.lesion_colour is not None and one.around_colour is not None]
        chosen = chosen[:: -(-len(chosen) // MAX_DOTS) or 1]
        if not chosen:
            continue
        inside = [one.lesion_colour or (0, 0, 0) for one in chosen]
        around = [one.around_colour or (0, 0, 0) for one in chosen]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(part.name),
                "x": np.round(srgb_to_lab(np.array(around, np.uint8))[:, 0].astype(float), 1).tolist(),
                "y": np.round(srgb_to_lab(np.array(inside, np.uint8))[:, 0].astype(float), 1).tolist(),
                "text": [plain(one.image_id) for one in chosen],
                "marker": {
                    "color": [hex_colour(colour) for colour in inside],
                    "size": 8,
                    "symbol": symbols[number % len(symbols)],
                    "line": {"color": [hex_colour(colour) for colour in around], "width": 2},
                },
                "hovertemplate": "%{text}<br>lesion L* %{y}, around it %{x}<extra></extra>",
            }
        )
    if not data:
        return None
    layout = _layout("lightness around the lesion, L*", "lightness of the lesion, L*")
    layout["hovermode"] = "closest"
    summary = "Lightness of lesions against that of the skin around them, each dot in the lesion's mean colour."
    title = "Mean colours: lesion, rimmed by what is around it"
    return Chart("chart-colours", title, summary, {"data": data, "layout": layout}, wide=True)


def _layout(x_title: str, y_title: str) -> dict[str, Any]:
    axis = {"zeroline": False, "automargin": True}
    return {
        "xaxis": {"title": {"text": x_title}, **axis},
        "yaxis": {"title": {"text": y_title}, "rangemode": "tozero", **axis},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _part_colour(number: int) -> str:
    return PART_COLOURS[number % len(PART_COLOURS)]


def _as_names(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(number): count for number, count in counts.items()}


def _top(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(list(counts.items())[:_MOST_NAMES])


def _spread(found: Mapping[str, float] | None, form: str) -> str:
    if found is None:
        return NOT_DEFINED
    return f"{form.format(found['median'])} ({form.format(found['p5'])} to {form.format(found['p95'])})"


def _percent(share: float | None) -> str:
    return NOT_DEFINED if share is None else f"{share:.1%}"


def _colour(colour: Sequence[int] | None) -> str:
    return NOT_DEFINED if colour is None else hex_colour(colour)


def _count_of(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if total else f"{count:,}"


def _count_names(counts: Mapping[str, int], *, most: int = 4) -> str:
    if not counts:
        return NOT_DEFINED
    listed = ", ".join(f"{name} {number:,}" for name, number in list(counts.items())[:most])
    return listed + (f", {len(counts) - most} more" if len(counts) > most else "")
