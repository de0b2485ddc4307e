"""The figures of a part in short: counts, quantiles and means, as plain values for tables, pages and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from dermask.data.statistics import Colour, PartStatistics, PhotoFigures

QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
"""Name of each quantile, and the share of values below it."""

_COLUMNS = (
    "part", "image_id", "width", "height", "outlines", "area_share", "touches_border", "brightness", "sharpness",
    "lesion_rgb", "around_rgb", "ita", "ita_bin", "problem",
)  # fmt: skip


def summarize(part: PartStatistics) -> dict[str, Any]:
    """Everything that `dermask data stats --json` prints of a part; a quantity without values is None."""
    photographs, lesions, tones = part.photographs, part.lesions, part.tones
    return {
        "name": part.name,
        "photographs": len(photographs),
        "unreadable": [{"image_id": one.image_id, "problem": one.problem} for one in part.unreadable],
        "left_out": list(part.left_out),
        "outlines": len(lesions),
        "without_outline": sum(not photograph.lesions for photograph in photographs),
        "outlines_per_photograph": {str(count): number for count, number in part.count_outlines().items()},
        "classes": part.count_classes(),
        "sizes": {f"{size.width}x{size.height}": number for size, number in part.count_sizes().items()},
        "area_share": quantiles([lesion.area_share for lesion in lesions]),
        "diameter": quantiles([lesion.diameter for lesion in lesions]),
        "diameter_share": quantiles([lesion.diameter_share for lesion in lesions]),
        "compactness": quantiles([lesion.compactness for lesion in lesions]),
        "touching_border": _share([lesion.touches_border for lesion in lesions]),
        "brightness": quantiles([photograph.brightness for photograph in photographs]),
        "sharpness": quantiles([photograph.sharpness for photograph in photographs]),
        "lesion_colour": mean_colour([photograph.lesion_colour for photograph in photographs]),
        "around_colour": mean_colour([photograph.around_colour for photograph in photographs]),
        "skin_tone": {
            "measured": len(tones),
            "unknown": len(photographs) - len(tones),
            "ita": quantiles([tone.ita for tone in tones]),
            "bins": part.count_bins(),
        },
        "diagnoses": dict(part.diagnoses),
    }


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """`QUANTILES` and the mean of some values, to six digits; None where there are none."""
    if not len(values):
        return None
    found = np.quantile(values, list(QUANTILES.values())).tolist()
    named = dict(zip(QUANTILES, found, strict=True)) | {"mean": float(np.mean(values))}
    return {name: float(f"{value:.6g}") for name, value in named.items()}


def mean_colour(colours: Sequence[Colour | None]) -> list[int] | None:
    """The mean of sRGB colours, each photograph counting the same; None where there are none."""
    known = [colour for colour in colours if colour is not None]
    return [round(value) for value in np.mean(known, axis=0).tolist()] if known else None


def photographs_csv(parts: Sequence[PartStatistics]) -> str:
    """A table of one line for each photograph, for programs that group or sort by these figures."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for part in parts:
        for photograph in (*part.photographs, *part.unreadable):
            writer.writerow(_row(part.name, photograph))
    return text.getvalue()


def hex_colour(colour: Sequence[int]) -> str:
    """``#c08a70``."""
    return "#" + "".join(f"{value:02x}" for value in colour)


def _row(part: str, photograph: PhotoFigures) -> tuple[object, ...]:
    if photograph.problem:
        return (part, photograph.image_id, *("" for _ in _COLUMNS[2:-1]), photograph.problem)
    lesion, around, skin = photograph.lesion_colour, photograph.around_colour, photograph.skin
    return (
        part,
        photograph.image_id,
        photograph.size.width,
        photograph.size.height,
        len(photograph.lesions),
        f"{sum(one.area_share for one in photograph.lesions):.6f}",
        int(any(one.touches_border for one in photograph.lesions)),
        f"{photograph.brightness:.2f}",
        f"{photograph.sharpness:.2f}",
        "" if lesion is None else hex_colour(lesion),
        "" if around is None else hex_colour(around),
        "" if skin is None else f"{skin.ita:.2f}",
        "" if skin is None else skin.bin,
        "",
    )


def _share(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 6) if flags else None
