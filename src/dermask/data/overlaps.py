"""Which photographs the parts of the ISIC challenges share, counted by the ids of the files on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from dermask import images
from dermask.data.archives import ARCHIVES, PARTS

_MASK_STEM = re.compile(r"(.+)_segmentation", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PartIds:
    """The photographs of one part of a challenge that lie on the disk.

    Attributes:
        year: Of the challenge.
        part: training, validation or test.
        folder: The folder they were found in: of photographs, else of masks.
        ids: Such as ``ISIC_0000001``.
    """

    year: int
    part: str
    folder: Path
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Photographs that stand in two parts.

    Attributes:
        first: The part that is rather a test part.
        second: The other.
        shared: How many photographs stand in both, at least 1.
    """

    first: PartIds
    second: PartIds
    shared: int

    def __str__(self) -> str:
        first, second = self.first, self.second
        return (
            f"{self.shared:,} of the {len(first.ids):,} {first.part} photographs of {first.year} "
            f"stand in the {second.part} photographs of {second.year}"
        )


def find_parts(roots: Iterable[Path]) -> list[PartIds]:
    """The parts of which an official folder lies in one of `roots`; of two folders of one part the first."""
    found: dict[tuple[int, str], PartIds] = {}
    for root in roots:
        for archive in ARCHIVES:  # photographs come before masks
            folder, key = root / archive.folder, (archive.year, archive.part)
            if key not in found and folder.is_dir():
                ids = frozenset(_image_ids(folder, are_masks=archive.kind == "masks"))
                if ids:
                    found[key] = PartIds(archive.year, archive.part, folder, ids)
    return list(found.values())


def count_overlaps(parts: Iterable[PartIds]) -> list[Overlap]:
    """Every two parts that share photographs, the most shared first."""
    overlaps = []
    for one, other in combinations(parts, 2):
        shared = len(one.ids & other.ids)
        if shared:
            first, second = sorted((one, other), key=lambda part: (-PARTS.index(part.part), part.year))
            overlaps.append(Overlap(first, second, shared))
    return sorted(overlaps, key=lambda overlap: -overlap.shared)


def _image_ids(folder: Path, *, are_masks: bool) -> Iterable[str]:
    for path in folder.iterdir():
        stem = path.stem
        if path.suffix.lower() not in images.SUFFIXES or stem.startswith(".") or stem.endswith("_superpixels"):
            continue
        match = _MASK_STEM.fullmatch(stem) if are_masks else None
        yield match[1] if match else stem
