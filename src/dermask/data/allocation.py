"""Who goes where: units of photographs dealt out to parts so that each part looks like the whole.

Two steps. Units of several photographs come first, large ones before small ones, each to a part that has room for
what it holds; a hash names the part that is asked first. Photographs that are alone fill up what is then missing in
their stratum: whole numbers by largest need, and a hash decides who. Both choices change little when a
photograph is added, and do not depend on the order of the photographs.

Shapes: N photographs, K balanced kinds (all photographs, each class set, size, diagnosis and stratum), P parts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from dermask.data.stratify import Stratum

Unit = Sequence[int]
"""Indices of photographs that stay together."""

_Table = NDArray[np.float64]
_TINY = 1e-9


class Allocation:
    """Parts of photographs while they are dealt out.

    Args:
        strata: Of each photograph.
        hashes: Of each photograph: a number in [0, 1) that depends on its id and the seed alone.
        shares: (P,) wanted share of each part, sum 1.

    Attributes:
        part: (N,) index of each photograph's part, -1 for none yet.
    """

    def __init__(self, strata: Sequence[Stratum], hashes: Sequence[float], shares: Sequence[float]) -> None:
        self._hashes = hashes
        self._shares = np.asarray(shares, np.float64)
        kinds = [_kinds_of(stratum) for stratum in strata]
        number = {kind: index for index, kind in enumerate(sorted({kind for row in kinds for kind in row}, key=repr))}
        self._kinds = np.array([[number[kind] for kind in row] for row in kinds], np.int64)  # (N, 5), stratum last
        self._wanted: _Table = np.zeros((len(number), len(self._shares)))  # (K, P) photographs
        self._filled: _Table = np.zeros_like(self._wanted)
        self.part = np.full(len(strata), -1, np.int64)

    def expect(self, photographs: Sequence[int]) -> None:
        """Name the photographs that are, or will be, in some part."""
        counts = np.bincount(self._kinds[list(photographs)].ravel(), minlength=len(self._wanted))
        self._wanted = counts[:, None] * self._shares

    def put(self, unit: Unit, part: int) -> None:
        """Put a unit into a part, out of the one that it is in."""
        for index in unit:
            if self.part[index] >= 0:
                self._filled[self._kinds[index], self.part[index]] -= 1
            self._filled[self._kinds[index], part] += 1
            self.part[index] = part

    def deal(self, units: Sequence[Unit]) -> None:
        """Put each of these units into a part."""
        together = [unit for unit in units if len(unit) > 1]
        for unit in sorted(together, key=lambda unit: (-len(unit), self._anchor(unit))):
            self.put(unit, self._choose(unit))
        self._fill_up([unit[0] for unit in units if len(unit) == 1])
        self._fill_empty_parts(units)

    def _anchor(self, unit: Unit) -> float:
        return min(self._hashes[index] for index in unit)

    def _choose(self, unit: Unit) -> int:
        """The part that the unit's hash names, if there is room for all it holds; else the one that it fills least."""
        counts = Counter(self._kinds[list(unit)].ravel().tolist())
        kinds = sorted(counts)
        held = np.array([counts[kind] for kind in kinds], np.float64)[:, None]
        wanted, filled = self._wanted[kinds], self._filled[kinds]
        preferred = min(
            int(np.searchsorted(np.cumsum(self._shares), self._anchor(unit), side="right")), len(self._shares) - 1
        )
        after = filled[:, preferred] + held[:, 0] / 2  # half of it may stick out
        if (after <= wanted[:, preferred]).all():
            return preferred
        fullness = (held * (filled + held / 2) / np.maximum(wanted, _TINY)).sum(axis=0)
        return int(np.argmin(fullness.round(9)))

    def _fill_up(self, singles: Sequence[int]) -> None:
        """Deal out photographs that are alone: in each stratum whole numbers near what is missing there."""
        by_stratum: dict[int, list[int]] = defaultdict(list)
        for index in singles:
            by_stratum[int(self._kinds[index, -1])].append(index)
        quotas = {kind: self._quota(kind, len(by_stratum[kind])) for kind in sorted(by_stratum)}
        # What the rounding has cost each part so far, of each kind, and what no stratum can make good.
        owed = self._wanted - self._filled
        for kind, quota in quotas.items():
            owed[self._kinds[by_stratum[kind][0]]] -= quota
        for kind, quota in quotas.items():
            members = sorted(by_stratum[kind], key=lambda index: self._hashes[index])
            margins = self._kinds[members[0]][:-1]
            counts = _whole_numbers(quota, owed[margins].sum(axis=0))
            owed[self._kinds[members[0]]] += quota - counts
            for index, part in zip(members, np.repeat(np.arange(len(counts)), counts), strict=True):
                self.put([index], int(part))

    def _quota(self, kind: int, count: int) -> _Table:
        """(P,) how much of `count` photographs of a stratum each part should get, sum `count`, none below 0."""
        quota = self._wanted[kind] - self._filled[kind]
        active = np.ones(len(quota), np.bool_)
        while True:
            surplus = quota[active].sum() - count
            quota[active] -= surplus * self._shares[active] / self._shares[active].sum()
            if (quota[active] >= -_TINY).all():
                return np.where(active, np.maximum(quota, 0), 0)
            active &= quota > 0

    def _fill_empty_parts(self, units: Sequence[Unit]) -> None:
        """Give each part at least one unit, as far as there are as many: the smallest of the part that has most."""
        for part in range(len(self._shares)):
            if (self.part == part).any():
                continue
            by_part: dict[int, list[Unit]] = defaultdict(list)
            for unit in units:
                by_part[int(self.part[unit[0]])].append(unit)
            spare = [
                (len(unit), self._anchor(unit), unit)
                for owner, owned in by_part.items()
                for unit in owned
                if len(owned) > 1 or np.count_nonzero(self.part == owner) > len(unit)
            ]
            if spare:
                self.put(min(spare, key=lambda entry: entry[:2])[2], part)


def _kinds_of(stratum: Stratum) -> tuple[Hashable, ...]:
    named = zip(stratum._fields, stratum, strict=True)
    return ("all", *named, ("stratum", *stratum))


def _whole_numbers(quota: _Table, owed: _Table) -> NDArray[np.int64]:
    """(P,) whole numbers with the sum of `quota`, each less than 1 away; what is left goes where most is owed."""
    counts = np.floor(quota + _TINY).astype(np.int64)
    rest = quota - counts
    left = round(float(quota.sum())) - int(counts.sum())
    by_need = sorted(np.flatnonzero(rest > _TINY), key=lambda part: (-round(float(rest[part] + owed[part]), 9), part))
    counts[by_need[:left]] += 1
    return counts
