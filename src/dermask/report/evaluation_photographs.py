"""The photographs of an evaluation's page: which are shown, and what its script knows of each."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dermask.evaluation.bootstrap import MIN_UNITS
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.evaluation.record import Evaluation, PhotoRow
from dermask.evaluation.traits import TRAITS
from dermask.report import thumbnails

SEED = 0
"""Of the photographs drawn at random."""

_FIGURES = (
    ("jaccard", "Jaccard", 3),
    ("dice", "Dice", 3),
    ("sensitivity", "Sensitivity", 3),
    ("specificity", "Specificity", 3),
    ("boundary_iou", "Boundary IoU", 3),
    ("average_distance", "Average distance, pixels", 1),
    ("distance_95", "95th percentile, pixels", 1),
    ("lesion_share", "Lesion, of the photograph", 3),
)
_COUNTED = (("labels", "Labelled lesions"), ("outlined", "Outlined lesions"))
_COUNT_NAMES = ("none", "one", "several")


def choose_worst(rows: Sequence[PhotoRow], count: int) -> list[int]:
    """Indices of the lowest Jaccard, lowest first; ties keep the rows' order."""
    return sorted(range(len(rows)), key=lambda index: rows[index].figures.jaccard)[:count]


def choose_random(rows: Sequence[PhotoRow], count: int, *, seed: int = SEED) -> list[int]:
    """Indices of photographs drawn without replacement, in the order drawn.

    They depend on the ids and the seed alone, neither on the rows' order nor on the model: pages of two models show
    the same.
    """
    by_id = sorted(range(len(rows)), key=lambda index: rows[index].image_id)
    return random.Random(seed).sample(by_id, min(count, len(by_id)))


def photographs_context(evaluation: Evaluation, small: Mapping[int, thumbnails.Thumbnail]) -> dict[str, Any]:
    """What the page's script knows of photographs, for the template.

    Args:
        evaluation: The figures.
        small: Thumbnails by the photograph's index: at least those of the lowest Jaccard, as many as a page has.
    """
    filters = _Filters.of([evaluation.rows[index] for index in small])
    listed = set(choose_worst(evaluation.rows, thumbnails.MAX_THUMBNAILS))
    note = ""
    if len(listed) < len(evaluation.rows):
        note = (
            f"The {len(listed):,} photographs with the lowest Jaccard of {len(evaluation.rows):,}; the others are in "
            "per_photo.csv, and their figures are part of all figures above."
        )
    data = {
        "units": thumbnails.UNITS,
        "jaccard_thresh": JACCARD_THRESH,
        "min_count": MIN_UNITS,
        "figures": [
            {"key": key, "title": title, "digits": digits, "percent": key == "lesion_share"}
            for key, title, digits in _FIGURES
        ],
        "traits": filters.described,
        "photographs": [
            _entry(evaluation.rows[index], one, filters, is_listed=index in listed) for index, one in small.items()
        ],
    }
    return {"photographs_data": data, "left_out_note": note}


@dataclass(frozen=True, slots=True)
class _Filters:
    """By what photographs are filtered: traits with at least two values among them, and two counts.

    Attributes:
        described: For the page: key, title, and values as keys and in words.
    """

    described: list[dict[str, Any]]

    @classmethod
    def of(cls, rows: Sequence[PhotoRow]) -> _Filters:
        described = []
        for name, trait in TRAITS.items():
            present = {value for row in rows if (value := getattr(row.traits, name)) is not None}
            ordered = [value for value in trait.values if value in present]
            ordered += sorted(present - set(ordered))
            if len(ordered) > 1:
                described.append({"key": name, "title": trait.title, "keys": ordered, "values": ordered})
        for key, title in _COUNTED:
            described.append({"key": key, "title": title, "keys": list(_COUNT_NAMES), "values": list(_COUNT_NAMES)})
        return cls(described)

    def values_of(self, row: PhotoRow) -> list[int]:
        """The place of each filter's value, -1 where it is not known."""
        counts = {"labels": row.num_lesions, "outlined": row.num_detections}
        found = []
        for one in self.described:
            if one["key"] in counts:
                found.append(min(counts[one["key"]], len(_COUNT_NAMES) - 1))
            else:
                value = getattr(row.traits, one["key"])
                found.append(-1 if value is None else one["keys"].index(value))
        return found


def _entry(row: PhotoRow, small: thumbnails.Thumbnail, filters: _Filters, *, is_listed: bool) -> dict[str, Any]:
    values = {**_as_dict(row.figures), **_as_dict(row.boundary), "lesion_share": small.lesion_share}
    facts = [["Size", f"{row.size.width} x {row.size.height}"]]
    if row.best_score is not None:
        facts.append(["Best score", f"{row.best_score:.3f}"])
    if row.unit not in {"", row.image_id}:
        facts.append(["Drawn together as", row.unit])
    return {
        "id": row.image_id,
        "listed": is_listed,
        "size": list(small.size),
        "image": small.image,
        "truth": small.truth_path,
        "pred": small.pred_path,
        "figures": [_rounded(values[key]) for key, _, _ in _FIGURES],
        "traits": filters.values_of(row),
        "facts": facts,
    }


def _as_dict(figures: Any) -> dict[str, float]:
    return {name: getattr(figures, name) for name in figures.__dataclass_fields__}


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
