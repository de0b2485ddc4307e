"""Split a data set into disjoint parts, the same ones on every machine.

`split_by_seed` deals photographs out by a hash of the seed and their `image_id` alone. `split_dataset` and
`fold_dataset` also keep together what belongs together and make the parts alike; their result is a `Split`, a small
file by which a photograph's part stays the same when others are added.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dermask import __version__
from dermask.data.allocation import Allocation
from dermask.data.checks import show
from dermask.data.dataset import Dataset
from dermask.data.grouping import Bond, connected, find_bonds
from dermask.data.split_file import (
    MAX_FOLDS,
    Split,
    check_fractions,
    data_fingerprint,
    fold_name,
    read_split,
    write_split,
)
from dermask.data.stratify import area_shares, find_strata
from dermask.errors import SettingError
from dermask.records import IntArray, PhotoInfo

__all__ = ["Split", "fold_dataset", "read_split", "split_by_seed", "split_dataset", "write_split"]

_UNEVEN = 0.02  # of all photographs: by how much a part may miss its share unsaid
_MOST_LINES = 5  # of each kind of warning


def split_by_seed(dataset: Dataset, parts: Sequence[int] | Sequence[float], *, seed: int) -> list[Dataset]:
    """Disjoint parts of a data set; within a part the photographs keep their order.

    Args:
        dataset: What to split.
        parts: All ints: photographs of each part. Else fractions of the whole, each in (0, 1]. What the parts do
            not ask for stays out; fractions that sum to 1 leave nothing out.
        seed: Another seed, another split.

    Raises:
        SettingError: More is asked for than there is, or a part would get no photograph.
    """
    counts = _part_counts(parts, len(dataset))
    ranked = sorted(range(len(dataset)), key=lambda index: _rank(dataset[index].image_id, seed))
    result = []
    start = 0
    for count in counts:
        result.append(dataset.select(sorted(ranked[start : start + count])))
        start += count
    return result


def split_dataset(
    dataset: Dataset,
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    groups: Sequence[Sequence[int]] | None = None,
    metadata: Mapping[str, PhotoInfo] | None = None,
    areas: Sequence[float] | None = None,
    previous: Split | None = None,
    unusable: Mapping[str, str] | None = None,
    part_of: str | None = None,
) -> Split:
    """Parts that look alike in class, lesion size and diagnosis, and between which nothing leaks.

    Near-duplicates, photographs of one lesion and photographs of one patient stay together. The result depends on the
    ids, the outlines and the seed, not on the order of the photographs. With `previous`, every photograph that it
    knows keeps its part; a new one goes where what it belongs with is, and is left out where that stands in several.

    Args:
        dataset: What to split.
        fractions: Name and share of each part, such as ``{"train": 0.7, "val": 0.15, "test": 0.15}``; sum 1.
        seed: Another seed, another split.
        groups: Indices of near-duplicates, a sequence for each group.
        metadata: Patient, lesion and diagnosis of photographs, by id.
        areas: `stratify.area_shares` of the data set, if they are known already.
        previous: The split to add new photographs to; `fractions` and `seed` must be its own.
        unusable: Ids that are to be in no part, with the reason of each.
        part_of: The part of an ISIC folder that `dataset` is.

    Returns:
        The split; its `warnings` tell what could not be kept.

    Raises:
        SettingError: Fractions are wrong or differ from those of `previous`, or a part would get no photograph.
        LabelError: An outline cannot be read.
    """
    problem = check_fractions(fractions)
    if problem:
        raise SettingError(f"parts {show(dict(fractions))}", problem, "such as train=0.7,val=0.15,test=0.15")
    draft = Split(dict.fromkeys(fractions, ()), seed, dict(fractions), None, part_of)
    return _divide(dataset, draft, previous, groups, metadata, areas, unusable or {})


def fold_dataset(
    dataset: Dataset,
    folds: int,
    *,
    seed: int = 0,
    groups: Sequence[Sequence[int]] | None = None,
    metadata: Mapping[str, PhotoInfo] | None = None,
    areas: Sequence[float] | None = None,
    previous: Split | None = None,
    unusable: Mapping[str, str] | None = None,
    part_of: str | None = None,
) -> Split:
    """As `split_dataset`, into equal parts ``fold1``, ``fold2``, ..., each of which is validated on once.

    Args:
        folds: How many, from 2.

    Raises:
        SettingError: As `split_dataset`; also for fewer than 2 folds, or more than there are groups.
    """
    if not 2 <= folds <= MAX_FOLDS:
        raise SettingError(f"folds {folds}", f"must be from 2 to {MAX_FOLDS}", "5 is usual")
    draft = Split({fold_name(number + 1): () for number in range(folds)}, seed, None, folds, part_of)
    return _divide(dataset, draft, previous, groups, metadata, areas, unusable or {})


def _divide(
    dataset: Dataset,
    draft: Split,
    previous: Split | None,
    groups: Sequence[Sequence[int]] | None,
    metadata: Mapping[str, PhotoInfo] | None,
    areas: Sequence[float] | None,
    unusable: Mapping[str, str],
) -> Split:
    """`draft` with photographs in its parts."""
    if previous is not None:
        _check_same_kind(draft, previous)
    names = list(draft.parts)
    ids = [sample.image_id for sample in dataset]
    old = _old_parts(ids, names, previous)
    bonds = find_bonds(dataset, groups, metadata)
    set_aside = {index: unusable[ids[index]] for index in range(len(ids)) if old[index] < 0 and ids[index] in unusable}
    set_aside |= _torn_photographs(bonds, old, names, set_aside)
    strata = find_strata(dataset, area_shares(dataset) if areas is None else areas, metadata)
    allocation = Allocation(strata.of, [_hash(image_id, draft.seed) for image_id in ids], list(draft.shares().values()))
    allocation.expect([index for index in range(len(ids)) if index not in set_aside])
    for index in np.flatnonzero(old >= 0):
        allocation.put([int(index)], int(old[index]))
    units = connected(bonds, len(ids), without=set_aside)
    free = _join_old(units, old, allocation)
    allocation.deal(free)
    part_by_id = {} if previous is None else dict(previous.part_by_id)
    part_by_id |= {ids[index]: names[part] for index, part in enumerate(allocation.part) if part >= 0}
    split = replace(
        draft,
        parts={name: tuple(sorted(one for one, part in part_by_id.items() if part == name)) for name in names},
        data=data_fingerprint(dataset),
        left_out={ids[index]: set_aside[index] for index in sorted(set_aside, key=ids.__getitem__)},
        absent=frozenset(part_by_id.keys() - set(ids)),
        groups=_group_summary(bonds, units, groups is not None),
        dermask=__version__,
    )
    if previous is None:
        _check_no_empty_part(split, len(units))
    warnings = [*_old_leaks(bonds, old, names), *_left_out(split), *_absent(split), *_uneven(split, units, ids)]
    return replace(split, warnings=tuple(warnings))


def _check_same_kind(draft: Split, previous: Split) -> None:
    for what, mine, theirs in (
        ("seed", draft.seed, previous.seed),
        ("folds", draft.folds, previous.folds),
        ("parts", draft.fractions, previous.fractions),
        ("part of the data", draft.part_of, previous.part_of),
    ):
        if mine != theirs:
            raise SettingError(
                previous.item,
                f"was made with {what} {show(theirs)}, and {show(mine)} is asked for",
                "leave the option out to add photographs, or start afresh with --overwrite",
            )


def _old_parts(ids: Sequence[str], names: Sequence[str], previous: Split | None) -> IntArray:
    """(N,) the part that each photograph has already, by index; -1 for a new photograph."""
    if previous is None:
        return np.full(len(ids), -1, np.int64)
    number = {name: index for index, name in enumerate(names)}
    return np.array([number.get(previous.part_by_id.get(image_id, ""), -1) for image_id in ids], np.int64)


def _torn_photographs(
    bonds: Sequence[Bond], old: IntArray, names: Sequence[str], without: Collection[int]
) -> dict[int, str]:
    """New photographs that belong with photographs of two parts, with the reason: any part for them would leak."""
    pulls: dict[int, dict[int, Bond]] = defaultdict(dict)
    for bond in bonds:
        parts = {int(old[index]) for index in bond.members if old[index] >= 0}
        for index in bond.members:
            if old[index] < 0 and index not in without:
                pulls[index].update(dict.fromkeys(parts, bond))
    torn = {index: _reason(by_part, names) for index, by_part in pulls.items() if len(by_part) > 1}
    # What is left may still hang between two parts through a chain of others.
    for unit in connected(bonds, len(old), without={*without, *torn}):
        between = sorted({int(old[index]) for index in unit if old[index] >= 0})
        if len(between) > 1:
            reason = f"belongs through others with photographs in {' and '.join(names[part] for part in between)}"
            torn |= {index: reason for index in unit if old[index] < 0}
    return torn


def _reason(by_part: Mapping[int, Bond], names: Sequence[str]) -> str:
    return " and ".join(f"{bond} in {names[part]}" for part, bond in sorted(by_part.items()))


def _join_old(units: Sequence[Sequence[int]], old: IntArray, allocation: Allocation) -> list[Sequence[int]]:
    """Put new photographs where the old ones of their unit are; the units without old ones."""
    free = []
    for unit in units:
        parts = sorted({int(old[index]) for index in unit if old[index] >= 0})
        if not parts:
            free.append(unit)
        else:
            allocation.put([index for index in unit if old[index] < 0], parts[0])
    return free


def _group_summary(bonds: Sequence[Bond], units: Sequence[Sequence[int]], has_groups: bool) -> dict[str, int]:
    together = [len(unit) for unit in units if len(unit) > 1]
    kinds = Counter(bond.kind for bond in bonds)
    return {
        "groups": len(together),
        "photographs": sum(together),
        "largest": max(together, default=0),
        **({"near_duplicates": kinds["near-duplicates"]} if has_groups else {}),
        "lesion": kinds["lesion"],
        "patient": kinds["patient"],
    }


def _check_no_empty_part(split: Split, num_units: int) -> None:
    for name, ids in split.parts.items():
        if not ids:
            what = "photographs" if not split.groups["groups"] else "groups of photographs that belong together"
            raise SettingError(
                f"part {name}", f"would be empty: there are only {num_units} {what}", "ask for fewer parts"
            )


def _old_leaks(bonds: Sequence[Bond], old: IntArray, names: Sequence[str]) -> list[str]:
    """Photographs that belong together and stood in several parts before; they are told, not moved."""
    lines = []
    for bond in bonds:
        by_part = Counter(names[part] for part in old[list(bond.members)] if part >= 0)
        if len(by_part) > 1:
            where = " and ".join(f"{name} ({count})" for name, count in sorted(by_part.items()))
            lines.append(f"{bond}: was in {where} already and is not moved; --overwrite starts afresh")
    return _shorten(lines, "more that stand in several parts")


def _left_out(split: Split) -> list[str]:
    lines = [f"{show(image_id)} is left out: {reason}" for image_id, reason in split.left_out.items()]
    return _shorten(lines, "more left out; the file names them")


def _absent(split: Split) -> list[str]:
    if not split.absent:
        return []
    count = f"{len(split.absent)} photograph{'s' if len(split.absent) > 1 else ''}"
    return [f"{count} of the file not in the data now, such as {show(min(split.absent))}; the file keeps their part"]


def _uneven(split: Split, units: Sequence[Sequence[int]], ids: Sequence[str]) -> list[str]:
    """Parts that are far from their share, and the group that is the likely cause."""
    total = sum(len(part) for part in split.parts.values())
    most = _UNEVEN * total
    shares = split.shares()
    far = [
        f"{name} has {len(part) / total:.0%}, not {shares[name]:.0%}"
        for name, part in split.parts.items()
        if abs(len(part) - shares[name] * total) > max(most, 2.0)
    ]
    if not far:
        return []
    rest = [f"and {len(far) - 3} more"] if len(far) > 3 else []
    line = f"parts miss their share: {'; '.join([*far[:3], *rest])}"
    largest = max(units, key=len)
    if len(largest) > most:
        example = show(min(ids[index] for index in largest))
        line += f"; {len(largest)} of the {total} photographs belong together, {example} among them"
    return [line]


def _shorten(lines: list[str], rest: str) -> list[str]:
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} {rest}"]


def _hash(image_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on the seed and the id alone."""
    return int.from_bytes(_rank(image_id, seed)[:6]) / 2**48


def _rank(image_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{image_id}".encode(errors="surrogatepass")).digest()


def _part_counts(parts: Sequence[int] | Sequence[float], total: int) -> list[int]:
    shown = f"parts {list(parts)}"
    if not parts:
        raise SettingError(shown, "is empty", "name a count or a fraction for each part, such as 0.8, 0.2")
    if not all(math.isfinite(part) and part > 0 for part in parts):
        raise SettingError(shown, "has a part that is not above 0", "leave that part out")
    if all(isinstance(part, int) for part in parts):
        counts = [int(part) for part in parts]
        if sum(counts) > total:
            raise SettingError(shown, f"asks for {sum(counts)} photographs of {total}", "ask for fewer")
        return counts
    if sum(parts) > 1 + 1e-9:
        raise SettingError(
            shown, f"sums to {sum(parts):g}", "give counts as whole numbers, or fractions up to 1 in all"
        )
    counts = _largest_remainders([part * total for part in parts])
    if 0 in counts:
        empty = parts[counts.index(0)]
        raise SettingError(shown, f"{empty:g} of {total} photographs is none", "ask for a larger part")
    return counts


def _largest_remainders(shares: Sequence[float]) -> list[int]:
    """Whole numbers with the rounded sum of `shares`, each less than 1 away from its share."""
    counts = [math.floor(share + 1e-9) for share in shares]  # 0.7 * 10 is 7, not 6.999...
    missing = round(sum(shares)) - sum(counts)
    by_remainder = sorted(range(len(shares)), key=lambda part: counts[part] - shares[part])
    for part in by_remainder[:missing]:
        counts[part] += 1
    return counts
