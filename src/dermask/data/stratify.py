"""What a split balances: classes, size of the lesion, diagnosis.

Each photograph belongs to one stratum: the set of classes on it, the bin of its lesions' area among all photographs,
and its diagnosis where a table names one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from dermask import masks
from dermask.contours import signed_area
from dermask.data.dataset import Dataset
from dermask.data.workers import WORKER_DIED, map_in_processes
from dermask.errors import InputError, LabelError
from dermask.records import ImageSize, MaskFile, Outline, PhotoInfo, Polygons, Rle

SIZE_BINS = 4
"""Quarters of the photographs that have a lesion, by its area; fewer where they are few."""

UNKNOWN = "unknown"
NO_LESION = "none"

_PHOTOGRAPHS_PER_BIN = 20


class Stratum(NamedTuple):
    """What a photograph is balanced by.

    Attributes:
        classes: Names of the classes on it, sorted and joined; `NO_LESION` without one.
        size: ``size 1`` (smallest) to ``size 4``; `NO_LESION` without a lesion.
        diagnosis: As the table names it; `UNKNOWN` where it does not.
    """

    classes: str
    size: str
    diagnosis: str


@dataclass(frozen=True, slots=True)
class Strata:
    """The stratum of each photograph.

    Attributes:
        of: One for each photograph, in the data set's order.
        size_edges: Upper edges of all bins but the last: share of the photograph's area, (0, 1].
    """

    of: tuple[Stratum, ...]
    size_edges: tuple[float, ...]


def find_strata(dataset: Dataset, areas: Sequence[float], metadata: Mapping[str, PhotoInfo] | None) -> Strata:
    """The stratum of each photograph.

    Args:
        dataset: The photographs.
        areas: Of each, from `area_shares`; NaN where unknown, which counts as no lesion.
        metadata: What is known of each photograph, by id.
    """
    present = np.array([area for area in areas if area > 0])
    num_bins = int(np.clip(len(present) // _PHOTOGRAPHS_PER_BIN, 1, SIZE_BINS))
    edges = np.unique(np.quantile(present, np.arange(1, num_bins) / num_bins)) if len(present) else np.zeros(0)
    found = []
    for sample, area in zip(dataset, areas, strict=True):
        names = {dataset.class_names[one.label - 1] for one in sample.instances if not one.is_crowd}
        info = (metadata or {}).get(sample.image_id)
        found.append(
            Stratum(
                " + ".join(sorted(names)) if area > 0 and names else NO_LESION,
                f"size {np.searchsorted(edges, area) + 1}" if area > 0 else NO_LESION,
                (info.diagnosis if info else None) or UNKNOWN,
            )
        )
    return Strata(tuple(found), tuple(float(edge) for edge in edges))


def area_shares(
    dataset: Dataset,
    *,
    skip_bad: bool = False,
    processes: int | None = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """The share of each photograph that its lesions cover, crowd regions left out.

    Polygons are measured as drawn, run lengths and masks by their pixels; lesions that overlap count twice, up to 1.

    Args:
        dataset: The photographs.
        skip_bad: NaN for a photograph whose outlines cannot be read, in place of an error.
        processes: That decode mask files; see `workers.map_in_processes`.
        on_progress: Called with the number of photographs done and of all.

    Returns:
        One for each photograph, in [0, 1].

    Raises:
        LabelError: An outline cannot be read; names the photograph.
    """
    tasks = [
        (sample.image_id, dataset.size(index), tuple(one.outline for one in sample.instances if not one.is_crowd))
        for index, sample in enumerate(dataset)
    ]
    if num_mask_files(dataset) == 0:
        processes = 1  # polygons and run lengths are measured in no time
    shares = []
    for done, share in enumerate(map_in_processes(_area_share, tasks, died=_died, processes=processes), 1):
        if isinstance(share, InputError) and not skip_bad:
            raise share
        shares.append(math.nan if isinstance(share, InputError) else share)
        if on_progress is not None:
            on_progress(done, len(dataset))
    return shares


def num_mask_files(dataset: Dataset) -> int:
    """Outlines that must be decoded to be measured."""
    return sum(isinstance(one.outline, MaskFile) for sample in dataset for one in sample.instances)


_Task = tuple[str, ImageSize, tuple[Outline, ...]]


def _area_share(task: _Task) -> float | InputError:
    image_id, size, outlines = task
    try:
        return min(sum(_area(outline, size) for outline in outlines) / (size.height * size.width), 1.0)
    except InputError as error:
        return LabelError(f"image {image_id!r}", f"{error.item}: {error.problem}", error.cure)


def _died(task: _Task) -> LabelError:
    return LabelError(f"image {task[0]!r}", WORKER_DIED, "look at its mask by hand")


def _area(outline: Outline, size: ImageSize) -> float:
    if isinstance(outline, Polygons):
        return sum(abs(signed_area(ring)) for ring in outline.parts)
    if isinstance(outline, Rle):
        return float(coco_mask.area({"counts": outline.counts, "size": list(outline.size)}))
    return float(np.count_nonzero(masks.outline_bitmask(outline, size)))
