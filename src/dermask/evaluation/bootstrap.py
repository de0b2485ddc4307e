"""How far a figure would move on other photographs of the same kind: intervals by resampling.

The bootstrap (Efron 1979) draws as many photographs as there are, with replacement, and computes the figure again; the
middle 95 % of the results are its interval. Photographs of one lesion or one patient resemble each other, so what is
drawn is a *unit*: a photograph, or all photographs of one lesion or patient together. Drawing them one by one would
pretend to more evidence than there is.

Intervals are plain percentiles. They stay inside a figure's range, are the same for a mean, an average precision and
an F1, and need no model of how figures scatter; of a mean over 30 units or more, away from 0 and 1, they cover the true
value in about 19 of 20 data sets, skewed ones included (`tests/unit/test_evaluation_bootstrap.py` simulates it). With
fewer units they are too narrow to be trusted, so none is given. None is given either where all resamples agree, as
those of a model without a mistake: no spread in a sample is no proof that there is none.

A resample is a row of weights: how often each photograph counts. What can be computed with weights gets an interval.

Shapes: N photographs, U units, R resamples, B resamples of a chunk, F figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermask.errors import InputError, SettingError
from dermask.records import BoolArray, IntArray

MIN_UNITS = 30
"""Below so many units neither an interval nor any other claim about other photographs is given.

Against Student's interval of a mean, the percentiles of 30 units are 6 % too narrow, of 10 units 18 %; skew adds to it.
"""
NUM_RESAMPLES = 2000
"""Another seed then moves the ends of a 95 % interval by about 1.5 % of its width (one standard deviation)."""
LEVEL = 0.95
_ROUNDING = 1e-12  # ends nearer than this are equal but for the order of summation
_CHUNK_WEIGHTS = 1 << 20  # weights held at once: 8 MB, whatever the number of photographs

Unit = Literal[
    "photograph",
    "lesion",
    "patient",
    "lesion or photograph",
    "patient or photograph",
    "patient or lesion",
    "patient, lesion or photograph",
]
Weights = NDArray[np.float64]
Statistic = Callable[[Weights], ArrayLike]
"""From weights to one figure or F: (N,) to () or (F,), or if batched (B, N) to (B,) or (B, F)."""


class Interval(NamedTuple):
    """Where a figure lies with a stated confidence.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        level: Share of data sets whose interval holds the true value, in (0, 1).
    """

    low: float
    high: float
    level: float = LEVEL


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals were made, so that they can be made again.

    Attributes:
        unit: What is drawn together.
        num_units: How many there are.
        num_resamples: How often all were drawn.
        seed: Of the random numbers.
        level: Of the intervals.
    """

    unit: Unit
    num_units: int
    num_resamples: int = NUM_RESAMPLES
    seed: int = 0
    level: float = LEVEL

    @property
    def bond(self) -> str:
        """What photographs that are drawn together share: a ``patient``, ``patient or lesion``; empty for nothing."""
        return bond_of(self.unit)

    @property
    def allows_claims(self) -> bool:
        """Whether there are enough units for an interval."""
        return self.num_units >= MIN_UNITS


def bond_of(unit: str) -> str:
    """`Resampling.bond` of a `Unit`."""
    return unit.removesuffix("photograph").removesuffix(" or ").replace(", ", " or ")


def unit_indices(groups: Sequence[str]) -> IntArray:
    """The unit of each photograph as a number.

    Units are numbered by name, not by place, so that the order of photographs changes no interval.

    Args:
        groups: N names of patients or lesions, or the photograph's own id where neither is known.

    Returns:
        (N,) int64 from 0 to U - 1.
    """
    if not len(groups):
        return np.zeros(0, np.int64)
    _, unit_of_photo = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    return unit_of_photo.astype(np.int64)


def resampling_weights(
    unit_of_photo: IntArray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[Weights]:
    """How often each photograph counts in each resample, in chunks of about 8 MB.

    Args:
        unit_of_photo: (N,) int64, equal for photographs that are drawn together; any numbers.
        num_resamples: R, at least 1.
        seed: The same seed and units give the same weights.

    Yields:
        (B, N) float64, whole numbers; over all chunks R rows. A row draws U units with replacement.

    Raises:
        InputError: There are no photographs.
        SettingError: `num_resamples` is below 1.
    """
    if not len(unit_of_photo):
        raise InputError("resampling", "there are no photographs to draw from")
    if num_resamples < 1:
        raise SettingError(f"num_resamples {num_resamples}", "must be at least 1")
    units, column_of_photo = np.unique(unit_of_photo, return_inverse=True)
    num_units = len(units)
    at_once = max(1, min(num_resamples, _CHUNK_WEIGHTS // len(unit_of_photo)))
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        drawn = generator.integers(num_units, size=(rows, num_units))
        drawn += num_units * np.arange(rows)[:, None]  # each row counts in its own bins
        counts = np.bincount(drawn.ravel(), minlength=rows * num_units).reshape(rows, num_units)
        yield counts[:, column_of_photo].astype(np.float64)


def weighted_means(values: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """Means over the photographs that have the figure.

    Args:
        values: (N, F) float64, NaN where a photograph has none.
        weights: (B, N) float64, at least 0.

    Returns:
        (B, F) float64; NaN where no photograph that counts has the figure.
    """
    known = ~np.isnan(values)
    sums = weights @ np.where(known, values, 0.0)
    totals = weights @ known.astype(np.float64)
    means = np.full(sums.shape, np.nan)
    np.divide(sums, totals, out=means, where=totals > 0)
    return means


def mean_intervals(
    values: ArrayLike,
    unit_of_photo: IntArray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Interval | None]:
    """Intervals of means over photographs.

    Args:
        values: (N, F) float64, or (N,) for one figure; NaN where a photograph does not have it, which leaves the
            photograph out of that figure alone.
        unit_of_photo: (N,) int64, equal for photographs that are drawn together.
        num_resamples: R.
        seed: Of the random numbers.
        level: In (0, 1).

    Returns:
        F intervals; None for a figure that fewer than `MIN_UNITS` units have, or that does not spread.

    Raises:
        InputError: The lengths differ.
        SettingError: `level` or `num_resamples` is out of range.
    """
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if len(table) != len(unit_of_photo):
        raise InputError("resampling", f"there are {len(table)} values for {len(unit_of_photo)} photographs")
    enough = [count_units(unit_of_photo[~np.isnan(column)]) >= MIN_UNITS for column in table.T]
    if not any(enough):
        _check_level(level)
        return [None] * len(enough)
    found = resampled(
        lambda weights: weighted_means(table, weights),
        unit_of_photo,
        batched=True,
        num_resamples=num_resamples,
        seed=seed,
    )
    intervals = percentile_intervals(found, level=level)
    return [interval if is_enough else None for interval, is_enough in zip(intervals, enough, strict=True)]


def statistic_interval(
    statistic: Statistic,
    unit_of_photo: IntArray,
    *,
    batched: bool = False,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval | None:
    """The interval of one figure that can be computed with weights; None below `MIN_UNITS` units.

    Args:
        statistic: From (N,) weights to a number, or if `batched` from (B, N) to (B,).
        unit_of_photo: (N,) int64, equal for photographs that are drawn together.
        batched: Whether `statistic` takes a chunk of resamples at once, which is faster.
        num_resamples: R.
        seed: Of the random numbers.
        level: In (0, 1).

    Raises:
        SettingError: `level` or `num_resamples` is out of range.
    """
    found = statistic_intervals(
        statistic, unit_of_photo, batched=batched, num_resamples=num_resamples, seed=seed, level=level
    )
    return None if found is None else found[0]


def statistic_intervals(
    statistic: Statistic,
    unit_of_photo: IntArray,
    *,
    carriers: BoolArray | None = None,
    batched: bool = False,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Interval | None] | None:
    """As `statistic_interval` for several figures of the same resamples: (N,) to (F,), or (B, N) to (B, F).

    Args:
        statistic: See above.
        unit_of_photo: See above.
        carriers: (N, F) bool, the photographs that a figure rests on; None for all. A recall rests on those with a
            lesion, and a hundred photographs of skin and one of a lesion say nothing about it.
        batched: See above.
        num_resamples: See above.
        seed: See above.
        level: See above.

    Returns:
        F intervals, None for one that is defined in no resample, does not spread, or is carried by fewer than
        `MIN_UNITS` units; None for all below `MIN_UNITS` units.
    """
    _check_level(level)
    if count_units(unit_of_photo) < MIN_UNITS:
        return None
    found = resampled(statistic, unit_of_photo, batched=batched, num_resamples=num_resamples, seed=seed)
    intervals = percentile_intervals(found, level=level)
    if carriers is None:
        return intervals
    counts = [count_units(unit_of_photo[column]) for column in carriers.T]
    return [one if count >= MIN_UNITS else None for one, count in zip(intervals, counts, strict=True)]


def resampled(
    statistic: Statistic,
    unit_of_photo: IntArray,
    *,
    batched: bool = False,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The figures of every resample, (R, F) float64; a statistic of one figure gives F = 1.

    Whatever is resampled with the same units, number and seed sees the same draws, so differences of two results
    are paired.
    """
    chunks: list[NDArray[np.float64]] = []
    for weights in resampling_weights(unit_of_photo, num_resamples=num_resamples, seed=seed):
        found = statistic(weights) if batched else np.stack([np.asarray(statistic(row), np.float64) for row in weights])
        chunks.append(np.asarray(found, np.float64).reshape(len(weights), -1))
    return np.concatenate(chunks)


def percentile_intervals(figures: NDArray[np.float64], *, level: float = LEVEL) -> list[Interval | None]:
    """The middle share of each column.

    Args:
        figures: (R, F) float64 of `resampled`; NaN where a resample does not define a figure, which is left out.
        level: In (0, 1).

    Returns:
        F intervals; None for a column without a number, and for one of equal numbers: it would have no width.

    Raises:
        SettingError: `level` is out of range.
    """
    _check_level(level)
    shares = ((1 - level) / 2, (1 + level) / 2)
    intervals: list[Interval | None] = []
    for column in figures.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, shares).tolist() if len(known) else (0.0, 0.0)
        has_width = high - low > _ROUNDING * max(1, abs(low), abs(high))
        intervals.append(Interval(low, high, level) if has_width else None)
    return intervals


def count_units(unit_of_photo: IntArray) -> int:
    """How many different units there are."""
    return len(np.unique(unit_of_photo))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise SettingError(f"level {level:g}", "must be between 0 and 1")
