"""Safe repairs: what can be put right without a look, written to a new file; nothing that was there is touched.

Safe is what leaves every true pixel where it is: crossings undone, copies of an outline dropped, class names spelt
alike, what lies beyond the photograph cut off, masks of two dark levels read as they were meant. What cannot be used
is left out with its photograph, which would otherwise be learnt as skin without that lesion. Masks that look inverted
or unaligned stay as they are: the rules that find them are good, but not certain, and a person decides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely

from dermask import images, masks
from dermask.audit.findings import AuditReport, Finding, Part, Place, Severity
from dermask.audit.names import count_classes, similar_names
from dermask.audit.outlines import outline_name, polygon_parts
from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.records import Bitmask, BoolArray, ImageSize, Instance, MaskFile, Outline, Polygons, Sample

_UNUSABLE = {
    "unreadable-photograph",
    "truncated-photograph",
    "missing-photograph",
    "too-many-pixels",
    "wrong-size",
    "turned",
    "not-audited",
    "unreadable-mask",
}
"""Errors after which a photograph cannot be used with its labels."""
_SAME_PIXELS = 0.99
"""Jaccard index from which an outline is a copy but for rounding, and from which a repair has kept the pixels."""
_MIN_PIECE = 1.0
"""Pixels; pieces of a repaired outline below this are slivers between two crossings."""


class Repaired(NamedTuple):
    """A repaired data set.

    Attributes:
        dataset: Its photographs; never empty.
        lines: One for each repair, and for each photograph left out.
    """

    dataset: Dataset
    lines: tuple[str, ...]


def repair(part: Part, report: AuditReport) -> Repaired:
    """The photographs of a part with all safe repairs made.

    Args:
        part: What was audited.
        report: What was found.

    Raises:
        InputError: No photograph is left.
    """
    lines = list(part.dataset.skipped)
    unusable = _unusable(report.findings)
    same_as = similar_names(count_classes([part]))
    labels, class_names, categories = _labels(part.dataset, same_as)
    lines += [f"{part.name}: class {name!r}: now {kept!r}" for name, kept in sorted(same_as.items())]
    samples: list[Sample] = []
    for index, sample in enumerate(part.dataset):
        item = f"{part.name}: {sample.image_id}"
        reason = unusable.get(Place(part.name, sample.image_id))
        repaired: Sample | None = None
        if reason is None:
            relabelled = tuple(replace(one, label=labels[one.label]) for one in sample.instances)
            try:
                size = part.dataset.size(index)
                repaired, changes = _repair_sample(replace(sample, size=size, instances=relabelled), item)
                lines += changes
            except InputError as error:
                reason = str(error)
        if repaired is None:
            lines.append(f"{item}: left out: {reason}")
        else:
            samples.append(repaired)
    if not samples:
        raise InputError(part.name, "no photograph is left after the repairs", "see what --json says of each")
    dataset = Dataset(samples, class_names, part.dataset.name, part.dataset.source, categories)
    return Repaired(dataset, tuple(lines))


def _unusable(findings: Sequence[Finding]) -> dict[Place, str]:
    return {
        finding.place: finding.problem
        for finding in findings
        if finding.place is not None and finding.severity is Severity.ERROR and finding.kind in _UNUSABLE
    }


def _labels(dataset: Dataset, same_as: dict[str, str]) -> tuple[dict[int, int], tuple[str, ...], dict[int, int]]:
    """New label of each old one, the names in their order, and the category id of each new label."""
    names = dataset.class_names
    kept = tuple(name for name in names if name not in same_as)
    new = {label: kept.index(same_as.get(name, name)) + 1 for label, name in enumerate(names, start=1)}
    categories = {
        kept.index(name) + 1: dataset.categories[label] for label, name in enumerate(names, 1) if name in kept
    }
    return new, kept, categories


def _repair_sample(sample: Sample, item: str) -> tuple[Sample, list[str]]:
    """One photograph repaired, and what was done.

    Raises:
        InputError: An outline has no pixel, or cannot be read; the photograph goes with it.
    """
    assert sample.size is not None
    kept: list[Instance] = []
    pixels: list[BoolArray] = []
    lines: list[str] = []
    for number, instance in enumerate(sample.instances):
        where = f"{item}: {outline_name(sample, number)}"
        outline, changes = repair_outline(instance.outline, sample.size)
        mask = masks.outline_bitmask(outline, sample.size)
        if not mask.any() and not isinstance(outline, MaskFile):
            raise InputError(outline_name(sample, number), "has no pixel in the photograph")
        twin = next(
            (
                k
                for k, other in enumerate(kept)
                if _is_twin(instance, other) and _jaccard(mask, pixels[k]) >= _SAME_PIXELS
            ),
            None,
        )
        if twin is not None and mask.any():
            lines.append(f"{where}: dropped, the same as another outline of this photograph")
            continue
        lines += [f"{where}: {change}" for change in changes]
        kept.append(replace(instance, outline=outline))
        pixels.append(mask)
    return replace(sample, instances=tuple(kept)), lines


def _is_twin(one: Instance, other: Instance) -> bool:
    return one.label == other.label and one.is_crowd == other.is_crowd


def _jaccard(one: BoolArray, other: BoolArray) -> float:
    union = int(np.count_nonzero(one | other))
    return np.count_nonzero(one & other) / union if union else 0.0


def repair_outline(outline: Outline, size: ImageSize) -> tuple[Outline, list[str]]:
    """An outline with its safe repairs made, and what was done, in words.

    Args:
        outline: Of any kind.
        size: The photograph's.

    Raises:
        InputError: It cannot be read, or its values do not tell the lesion from skin.
    """
    if isinstance(outline, MaskFile):
        return _repair_mask_file(outline)
    if isinstance(outline, Polygons):
        return _repair_polygons(outline, size)
    return outline, []


def _repair_mask_file(outline: MaskFile) -> tuple[Outline, list[str]]:
    levels = images.decode_levels(outline.path)
    values = np.flatnonzero(np.bincount(levels.ravel(), minlength=256)).tolist()
    if values == [0] or values[-1] > images.MASK_THRESH:
        return outline, []
    if len(values) == 2:
        return Bitmask(levels == values[1]), [f"values {values[0]} and {values[1]} read as skin and lesion"]
    problem = f"has {len(values)} values, none above {values[-1]} of 255"
    raise InputError(outline.path.name, problem, "save it again with 0 for skin and 255 for the lesion")


def _repair_polygons(outline: Polygons, size: ImageSize) -> tuple[Outline, list[str]]:
    frame = shapely.box(0, 0, size.width, size.height)
    before = masks.outline_bitmask(outline, size)
    pieces: list[shapely.Polygon] = []
    changes: set[str] = set()
    for ring in outline.parts:
        shape: shapely.Geometry = shapely.Polygon(ring)
        if not shape.is_valid:
            shape = shapely.make_valid(shape)
            changes.add("crossing undone")
        if not frame.covers(shape):
            shape = shape.intersection(frame)
            changes.add("cut at the border")
        pieces += polygon_parts(shape)
    if not changes:
        return outline, []
    large = [piece for piece in pieces if piece.area >= _MIN_PIECE] or pieces
    repaired = Polygons(tuple(np.asarray(piece.exterior.coords, np.float64)[:-1] for piece in large))
    if (
        any(piece.interiors for piece in large)
        or _jaccard(masks.outline_bitmask(repaired, size), before) < _SAME_PIXELS
    ):
        return masks.bitmask_to_rle(before), sorted(changes)  # rings alone cannot say it
    return repaired, sorted(changes)


def photographs_folder(dataset: Dataset, path: Path) -> Path | None:
    """The folder to name with ``--images`` when `path`, the written file, is read; None where it needs none."""
    parents = {sample.image.absolute().parent for sample in dataset if isinstance(sample.image, Path)}
    folder = path.parent.absolute()
    if all(parent.is_relative_to(folder) for parent in parents):
        return None
    return Path(os.path.commonpath(sorted(parents)))
