"""Read back what was written, and compare: the proof that a conversion kept all that the format can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermask import masks
from dermask.data.dataset import Dataset, LoadedSample
from dermask.data.folder_write import file_stems
from dermask.data.formats import Holds, JsonReader, find_format, open_dataset
from dermask.errors import InputError
from dermask.records import BoolArray, ImageSize
from dermask.wording import plural

SAMPLE = 20
"""Photographs whose pixels are compared, spread evenly over the data set."""

MIN_IOU = 0.99
"""What an outline keeps of itself in any format that holds its kind."""

_EVERYTHING = Holds()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What of a data set its format can hold, and what its written form gives back.

    Attributes:
        photographs: Before and after; before as after where the format has no place for those without a lesion.
        class_names: Before and after, each in its own order; before as after where the format has no names.
        compared: Photographs whose pixels were compared.
        outlines: Lesions on those, before and after.
        least_iou: The least intersection over union of one of their lesions with its best counterpart; 1 for none.
        worst: The photograph that has it; empty for none.
        relabelled: Lesions whose counterpart has another class name.
    """

    photographs: tuple[int, int]
    class_names: tuple[tuple[str, ...], tuple[str, ...]]
    compared: int
    outlines: tuple[int, int]
    least_iou: float
    worst: str
    relabelled: int

    @property
    def is_same(self) -> bool:
        """Whether nothing differs by more than rounding."""
        return not self.differences()

    def differences(self) -> list[str]:
        """One line for each kind of difference."""
        lines = []
        if self.photographs[0] != self.photographs[1]:
            lines.append(
                f"{plural(self.photographs[0], 'photograph')} were written and {self.photographs[1]:,} read back"
            )
        if set(self.class_names[0]) != set(self.class_names[1]):
            lines.append(f"classes {', '.join(self.class_names[0])} read back as {', '.join(self.class_names[1])}")
        if self.outlines[0] != self.outlines[1]:
            where = f"of {plural(self.compared, 'photograph')} compared"
            lines.append(f"{plural(self.outlines[0], 'outline')} {where} read back as {self.outlines[1]:,}")
        if self.least_iou < MIN_IOU:
            lines.append(f"{self.worst}: an outline keeps {self.least_iou:.1%} of itself (intersection over union)")
        if self.relabelled:
            lines.append(f"{plural(self.relabelled, 'outline')} changed class")
        return lines


def read_back(dataset: Dataset, path: Path, key: str) -> Dataset | None:
    """What was written, read again; None for a format that is written only.

    Raises:
        InputError: It cannot be read, with any of the folders that its photographs may lie in.
    """
    kind = find_format(key)
    if kind.reader is None:
        return None
    error: InputError | None = None
    takes_images = isinstance(kind.reader, JsonReader) or kind.reader.takes_images
    for images in _photograph_folders(dataset) if takes_images else (None,):
        try:
            return open_dataset(path, images=images)
        except InputError as problem:
            error = error or problem
    assert error is not None
    raise error


def _photograph_folders(dataset: Dataset) -> Iterator[Path | None]:
    """Where the photographs of a label file may lie: beside it, in one folder, or in one above them all."""
    yield None
    parents = {sample.image.absolute().parent for sample in dataset if isinstance(sample.image, Path)}
    if len(parents) == 1:
        yield from parents
    elif parents:
        yield Path(*_common([parent.parts for parent in parents]))


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    shared = 0
    while all(len(path) > shared and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return paths[0][:shared]


def compare(before: Dataset, after: Dataset, holds: Holds = _EVERYTHING) -> Comparison:
    """Compare a data set with its written form: all photographs and classes, and the pixels of some photographs.

    Args:
        before: What was written.
        after: What was read back.
        holds: What the format can say; what it cannot is left out of the comparison, for its writer has said so.

    Raises:
        InputError: A photograph or mask cannot be read.
    """
    pairs = _pairs(before, after)
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs))).astype(int))]
    counts = Counter[str]()
    least, worst = 1.0, ""
    for index, place in chosen:
        one = _expected(before.load(index), before.class_names, holds)
        other = _expected(after.load(place), after.class_names, holds)
        counts["before"] += len(one)
        counts["after"] += len(other)
        for iou, is_relabelled in _match(one, other):
            counts["relabelled"] += is_relabelled and holds.classes
            if iou < least:
                least, worst = iou, before[index].image_id
    return Comparison(
        (len(before) if holds.negatives else len(after), len(after)),
        (before.class_names if holds.classes else after.class_names, after.class_names),
        len(chosen),
        (counts["before"], counts["after"]),
        least,
        worst,
        counts["relabelled"],
    )


def _pairs(before: Dataset, after: Dataset) -> list[tuple[int, int]]:
    """Indices of the photographs that both have, by id or by the name that a folder gave them."""
    places = {sample.image_id: index for index, sample in enumerate(after)}
    pairs = []
    for index, (sample, stem) in enumerate(zip(before, file_stems(before), strict=True)):
        names = [sample.image_id, stem]
        names += [sample.image.stem, sample.image.name] if isinstance(sample.image, Path) else []
        place = next((places[name] for name in names if name in places), None)
        if place is not None:
            pairs.append((index, place))
    return pairs


def _expected(loaded: LoadedSample, class_names: tuple[str, ...], holds: Holds) -> list[tuple[BoolArray, str]]:
    """Mask and class name of each lesion, reduced to what a format can say."""
    found = [
        (mask, class_names[int(label) - 1] if holds.classes else "")
        for mask, label in zip(loaded.masks, loaded.labels, strict=True)
    ]
    if not holds.holes:
        found = [(_filled(mask), name) for mask, name in found]
    if not holds.overlaps:  # the smaller one keeps what two share
        ordered = sorted(found, key=lambda one: int(one[0].sum()))
        found, taken = [], np.zeros(loaded.image.shape[:2], np.bool_)
        for mask, name in ordered:
            found.append((mask & ~taken, name))
            taken |= mask
        found = [(mask, name) for mask, name in found if mask.any()]
    if not (holds.lesions and holds.parts) and found:  # one lesion may have become several, or several one
        return [
            (np.any([mask for mask, other in found if other == name], axis=0), name)
            for name in sorted({name for _, name in found})
        ]
    return found


def _filled(mask: BoolArray) -> BoolArray:
    size = ImageSize(*mask.shape)
    return masks.outline_bitmask(masks.bitmask_to_polygons(mask, tolerance=0), size)


def _match(one: list[tuple[BoolArray, str]], other: list[tuple[BoolArray, str]]) -> Iterator[tuple[float, bool]]:
    """For each lesion the IoU with its best counterpart, and whether that has another class name."""
    for mask, name in one:
        # Of equally good ones, such as two lesions drawn twice, the one of the same class.
        iou, is_same_class = max(
            ((mask_iou(mask, found), found_name == name) for found, found_name in other), default=(0.0, True)
        )
        yield iou, not is_same_class


def mask_iou(one: BoolArray, other: BoolArray) -> float:
    """Intersection over union of two (H, W) bool masks; 1 for two empty ones, 0 for masks of different size."""
    if one.shape != other.shape:
        return 0.0
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 1.0
