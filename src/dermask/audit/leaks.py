"""Photographs that are there twice: inside a part, where they weigh double, and across parts, where a test leaks.

Copies are told by the strongest sign alone: the same file, else the same pixels, else the same id, else looks that are
nearly the same; lesion and patient come on top, for they join photographs that are no copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dermask.audit.findings import Finding, Place, Severity
from dermask.audit.near_duplicates import DuplicatePair, find_near_duplicates, groups_of
from dermask.audit.photographs import Look
from dermask.audit.settings import AuditSettings
from dermask.records import PhotoInfo

_SHOWN = 3  # further photographs that a message names


class Entry(NamedTuple):
    """One photograph of all that are compared.

    Attributes:
        place: Where it stands.
        photograph: Its file; None for pixels in memory.
        look: What was seen of it.
        info: What the table beside the photographs says of it.
    """

    place: Place
    photograph: Path | None
    look: Look
    info: PhotoInfo


@dataclass(frozen=True, slots=True)
class _Sign:
    """A way to tell that photographs belong together: the kinds it gives, and its words."""

    inside: str | None
    across: str
    problem: str
    keys: Callable[[Entry], bytes | str | None]


_COPIES = (
    _Sign("same-file", "leak-file", "is the same file as {others}", lambda one: one.look.file_hash or None),
    _Sign("same-pixels", "leak-pixels", "has the same pixels as {others}", lambda one: one.look.pixel_hash or None),
    _Sign(None, "leak-id", "has the same id as {others}", lambda one: one.place.image_id),
)
_SUBJECTS = (
    _Sign(None, "leak-lesion", "shows lesion {key}, as {others} does", lambda one: one.info.lesion_id),
    _Sign(None, "leak-patient", "is of patient {key}, as {others} is", lambda one: one.info.patient_id),
)
_CURE_INSIDE = "keep one of them"
_CURE_ACROSS = "keep them in one part: dermask data split does"


def duplicate_findings(
    entries: Sequence[Entry],
    settings: AuditSettings,
    *,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Copies, leaks, and copies whose outlines disagree.

    Args:
        entries: The photographs of all parts.
        settings: Thresholds.
        threads: That compare looks; None for one for each CPU.
        on_progress: Told how many photographs have been compared by their looks, and of how many.
    """
    findings: list[Finding] = []
    known: set[tuple[int, int]] = set()
    for sign in _COPIES:
        for key, group in _groups(entries, sign).items():
            fresh = [pair for pair in _star(group) if pair not in known]
            known.update(_star(group) if sign.inside is None else _pairs(group))
            if fresh:
                findings += _told(entries, group, sign, str(key))
    findings += _disagreements(entries, known, settings)
    if settings.near_duplicates:
        findings += _near_findings(entries, known, settings, threads, on_progress)
    for sign in _SUBJECTS:
        for key, group in _groups(entries, sign).items():
            findings += _told(entries, group, sign, str(key))
    return findings


def _groups(entries: Sequence[Entry], sign: _Sign) -> dict[bytes | str, list[int]]:
    """Photographs with the same key, where there are several; of those that only leak, where parts differ."""
    groups: dict[bytes | str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        key = sign.keys(entry)
        if key is not None:
            groups[key].append(index)
    return {
        key: group
        for key, group in groups.items()
        if len(group) > 1 and (sign.inside is not None or _crosses(entries, group))
    }


def _crosses(entries: Sequence[Entry], group: Sequence[int]) -> bool:
    return len({entries[index].place.part for index in group}) > 1


def _star(group: Sequence[int]) -> list[tuple[int, int]]:
    return [(group[0], other) for other in group[1:]]


def _pairs(group: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a group; of a very large one those with its first, so that a folder of one picture stays cheap."""
    if len(group) > 100:
        yield from _star(group)
        return
    for i, one in enumerate(group):
        for other in group[i + 1 :]:
            yield one, other


def _told(entries: Sequence[Entry], group: Sequence[int], sign: _Sign, key: str) -> Iterator[Finding]:
    across = _crosses(entries, group)
    kind = sign.across if across else sign.inside
    if kind is None:
        return
    problem = sign.problem.format(others=_names(entries, group), key=key)
    yield _finding(entries, group, kind, problem, across=across, measure=float(len(group)))


def _finding(
    entries: Sequence[Entry], group: Sequence[int], kind: str, problem: str, *, across: bool, measure: float
) -> Finding:
    first = entries[group[0]]
    return Finding(
        kind,
        Severity.ERROR if across else Severity.WARNING,
        f"{first.place.part}: {first.place.image_id}",
        problem,
        _CURE_ACROSS if across else _CURE_INSIDE,
        first.place,
        others=tuple(entries[index].place for index in group[1:]),
        photograph=first.photograph,
        measure=measure,
    )


def _names(entries: Sequence[Entry], group: Sequence[int]) -> str:
    """The group but for its first, those of other parts before those of its own."""
    part = entries[group[0]].place.part
    others = sorted((entries[index].place for index in group[1:]), key=lambda place: place.part == part)
    names = [place.image_id if place.part == part else f"{place.part}: {place.image_id}" for place in others]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _near_findings(
    entries: Sequence[Entry],
    known: set[tuple[int, int]],
    settings: AuditSettings,
    threads: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Finding]:
    comparable = [index for index, entry in enumerate(entries) if entry.look.looks is not None]
    signatures = [looks for index in comparable if (looks := entries[index].look.looks) is not None]
    found = find_near_duplicates(signatures, threads=threads, on_progress=on_progress)
    pairs: dict[tuple[int, int], DuplicatePair] = {}
    for pair in found:
        first, second = comparable[pair.first], comparable[pair.second]
        if (first, second) not in known:
            pairs[first, second] = DuplicatePair(first, second, pair.similarity, pair.transform)
    groups = [sorted(group) for group in groups_of(list(pairs.values()), len(entries))]
    group_of = {index: number for number, group in enumerate(groups) for index in group}
    by_group: dict[int, list[DuplicatePair]] = defaultdict(list)
    for pair in pairs.values():
        by_group[group_of[pair.first]].append(pair)
    for number, group in enumerate(groups):
        best = max(pair.similarity for pair in by_group[number])
        across = _crosses(entries, group)
        changes = sorted({pair.transform for pair in by_group[number]} - {"same"})
        how = f" ({', '.join(changes)})" if changes else ""
        problem = f"is nearly the same as {_names(entries, group)}{how}, similarity {best:.2f}"
        kind = "leak-near-duplicate" if across else "near-duplicate"
        yield _finding(entries, group, kind, problem, across=across, measure=best)
    yield from _disagreements(entries, {key for key, pair in pairs.items() if pair.transform == "same"}, settings)


def _disagreements(entries: Sequence[Entry], pairs: set[tuple[int, int]], settings: AuditSettings) -> Iterator[Finding]:
    """Copies that lie pixel on pixel, and whose outlines do not."""
    for first, second in sorted(pairs):
        one, other = entries[first], entries[second]
        if not (one.look.footprint and other.look.footprint):
            continue
        if one.look.pixel_hash != other.look.pixel_hash and one.place.image_id == other.place.image_id:
            continue  # the same id alone makes no copy
        jaccard = _jaccard(one.look.footprint, other.look.footprint)
        if jaccard < settings.disagreement:
            name = _names(entries, (first, second))
            yield Finding(
                "labels-disagree",
                Severity.NOTE,
                f"{one.place.part}: {one.place.image_id}",
                f"its outlines and those of its copy {name} have a Jaccard index of {jaccard:.2f}",
                "keep the better outline",
                one.place,
                others=(other.place,),
                photograph=one.photograph,
                measure=1 - jaccard,
            )


def _jaccard(one: bytes, other: bytes) -> float:
    first = np.unpackbits(np.frombuffer(one, np.uint8))
    second = np.unpackbits(np.frombuffer(other, np.uint8))
    union = int((first | second).sum())
    return float((first & second).sum()) / union if union else 1.0


def info_of(metadata: Mapping[str, PhotoInfo], image_id: str) -> PhotoInfo:
    """What a table says of a photograph, whose id may carry a folder or a suffix that the table leaves out."""
    return metadata.get(image_id) or metadata.get(Path(image_id).stem) or PhotoInfo()
