"""What is in each part of a split: counts, and how alike the parts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dermask.data.dataset import Dataset
from dermask.data.split_file import Split
from dermask.data.stratify import Strata, Stratum

BALANCED = Stratum._fields
"""What the parts are balanced by: classes, size, diagnosis."""


@dataclass(frozen=True, slots=True)
class PartSummary:
    """One part of a split.

    Attributes:
        photographs: In it, of those the data set has.
        lesions: On them, crowd regions not counted.
        counts: For each of `BALANCED`, photographs of each kind.
    """

    photographs: int
    lesions: int
    counts: Mapping[str, Mapping[str, int]]

    def share(self, axis: str, kind: str) -> float:
        """The share of the photographs of that kind, in [0, 1]."""
        return self.counts[axis].get(kind, 0) / self.photographs if self.photographs else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = {axis: dict(sorted(kinds.items())) for axis, kinds in self.counts.items()}
        return {"photographs": self.photographs, "lesions": self.lesions, **counts}


def summarise_split(split: Split, dataset: Dataset, strata: Strata) -> dict[str, PartSummary]:
    """A summary of each part, and of all of them together under ``all``, which comes first.

    Args:
        split: The parts.
        dataset: What was split.
        strata: Of its photographs.
    """
    by_part: dict[str, list[int]] = {name: [] for name in ("all", *split.parts)}
    for index, sample in enumerate(dataset):
        name = split.part_by_id.get(sample.image_id)
        if name is not None:
            by_part[name].append(index)
            by_part["all"].append(index)
    return {
        name: PartSummary(
            len(indices),
            sum(not one.is_crowd for index in indices for one in dataset[index].instances),
            {axis: Counter(getattr(strata.of[index], axis) for index in indices) for axis in BALANCED},
        )
        for name, indices in by_part.items()
    }
