"""Near-duplicates of one data set, as groups of photographs: what a split keeps together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dermask import images
from dermask.audit.near_duplicates import SIDE, Signature, find_near_duplicates, groups_of, signature
from dermask.data.dataset import Dataset
from dermask.data.workers import WORKER_DIED, map_in_processes
from dermask.errors import ImageError
from dermask.records import ByteArray


class DuplicateGroups(NamedTuple):
    """What was found.

    Attributes:
        groups: Indices of photographs that are near-duplicates of each other, two or more in each.
        unreadable: Index of each photograph that cannot be read, and why.
    """

    groups: list[list[int]]
    unreadable: dict[int, str]


def find_duplicate_groups(
    dataset: Dataset,
    *,
    skip_bad: bool = False,
    processes: int | None = 1,
    on_progress: Callable[[int, int], None] | None = None,
    on_compare: Callable[[int, int], None] | None = None,
) -> DuplicateGroups:
    """Read every photograph once, and compare all with all.

    Args:
        dataset: The photographs.
        skip_bad: Go on without photographs that cannot be read.
        processes: That read photographs; see `workers.map_in_processes`.
        on_progress: Called with the number of photographs read and of all.
        on_compare: Called with how much of the comparison that follows is done, and of how much.

    Raises:
        ImageError: A photograph cannot be read, and `skip_bad` is off.
    """
    signatures: list[Signature] = []
    indices: list[int] = []
    unreadable: dict[int, str] = {}
    sources = [sample.image for sample in dataset]
    for index, one in enumerate(map_in_processes(_look, sources, died=_died, processes=processes)):
        if isinstance(one, ImageError):
            if not skip_bad:
                raise one
            unreadable[index] = one.problem
        else:
            signatures.append(one)
            indices.append(index)
        if on_progress is not None:
            on_progress(index + 1, len(dataset))
    groups = groups_of(find_near_duplicates(signatures, on_progress=on_compare), len(signatures))
    return DuplicateGroups([[indices[position] for position in group] for group in groups], unreadable)


def _look(source: Path | ByteArray) -> Signature | ImageError:
    try:
        return signature(images.read_image(source, target_side=SIDE) if isinstance(source, Path) else source)
    except ImageError as error:
        return error


def _died(source: Path | ByteArray) -> ImageError:
    return ImageError(str(source) if isinstance(source, Path) else "photograph", WORKER_DIED, "look at it by hand")
