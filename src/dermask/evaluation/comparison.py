"""Two models on the same photographs: how far apart they are, and whether that could be chance.

Every figure of a photograph is known for both models, so what is compared is the difference of each photograph, which
scatters far less than either figure. A mean difference gets an interval from the bootstrap, and a p-value from a
sign-flip permutation test (Fisher 1935): if the models were alike, each unit's difference could as well have had the
other sign. Several figures are several chances to be wrong, so p-values are corrected by Holm's method (1979). Figures
of the whole set, such as an average precision, get the bootstrap's interval alone.

Differences are B - A. Photographs of one lesion or patient are one unit and keep together in both; see `bootstrap.py`.
Of several runs of a model, which differ in their seed, a photograph's value is the mean; how far the runs lie apart is
told beside it, because neither interval nor p-value is about another run.

Shapes: N photographs, U units, F figures of a photograph, G figures of the set, S runs, R resamples, B of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dermask.errors import InputError
from dermask.evaluation.bootstrap import (
    LEVEL,
    MIN_UNITS,
    NUM_RESAMPLES,
    Interval,
    Resampling,
    Unit,
    count_units,
    mean_intervals,
    statistic_intervals,
    unit_indices,
)
from dermask.evaluation.compared_figures import (
    FIGURES,
    PHOTO_FIGURES,
    SET_FIGURES,
    ComparedFigure,
    SetStatistic,
    Side,
    Values,
)
from dermask.evaluation.permutation import NUM_FLIPS, holm, sign_flip_p_values
from dermask.records import BoolArray, IntArray
from dermask.wording import plural, plural_of

ALPHA = 0.05
"""A difference counts as shown where its corrected p-value is at most this."""
_TIE = 1e-9  # values nearer than this are equal but for rounding


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """One figure of two models on the same photographs.

    Attributes:
        name: A key of `FIGURES`.
        a: The first model's; NaN where no photograph has the figure.
        b: The second model's, on the same photographs.
        difference: `b - a`.
        interval: Of the difference; None where there are too few units for a claim, or all resamples agree.
        p_value: Chance of a difference at least as large if the models were alike; None for a figure of the set,
            and where there are too few units.
        p_adjusted: The same, corrected by Holm's method for the number of figures compared.
        num_photographs: Those for which all runs of both models have the figure; for one of the set those that it
            rests on in all of them.
        num_units: How many units these are.
        better_a: Photographs in which the first model is better; 0 for a figure of the set, like the next two.
        better_b: In which the second is.
        ties: In which they are equal.
    """

    name: str
    a: float
    b: float
    difference: float
    interval: Interval | None
    p_value: float | None
    p_adjusted: float | None
    num_photographs: int
    num_units: int
    better_a: int = 0
    better_b: int = 0
    ties: int = 0

    @property
    def winner(self) -> Literal["a", "b"] | None:
        """The model that is shown to be better in this figure; None where nothing is shown."""
        if self.p_adjusted is None or self.p_adjusted > ALPHA:
            return None
        return "b" if (self.difference > 0) == FIGURES[self.name].higher_is_better else "a"


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """How far the runs of one model lie apart in one figure.

    Attributes:
        name: A key of `FIGURES`.
        runs: Each run's value, on the photographs that count for the comparison.
    """

    name: str
    runs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the runs."""
        return float(np.mean(self.runs))

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the runs; None of a single one."""
        return float(np.std(self.runs, ddof=1)) if len(self.runs) > 1 else None

    def overlaps(self, other: SeedSpread) -> bool:
        """Whether the ranges of two models' runs overlap: a run of the better may be worse than one of the other."""
        if len(self.runs) == len(other.runs) == 1:
            return False  # two single values have no range
        return min(self.runs) <= max(other.runs) and min(other.runs) <= max(self.runs)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A model against a reference, on the same photographs.

    Attributes:
        a: The reference.
        b: The other.
        differences: Of the means over photographs, in the order of `PHOTO_FIGURES`.
        set_differences: Of the figures of the set, in the order of `SET_FIGURES`.
        spreads_a: How far the reference's runs lie apart, one for each difference of either kind.
        spreads_b: The same for the other.
        resampling: How intervals were made.
        num_flips: Random sign flips behind a p-value.
        image_ids: N ids.
        units: N names of units.
    """

    a: Side
    b: Side
    differences: tuple[PairedDifference, ...]
    set_differences: tuple[PairedDifference, ...]
    spreads_a: tuple[SeedSpread, ...]
    spreads_b: tuple[SeedSpread, ...]
    resampling: Resampling
    num_flips: int
    image_ids: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def has_seeds(self) -> bool:
        """Whether either side has several runs."""
        return len(self.a.run_names) > 1 or len(self.b.run_names) > 1

    def photo_values(self, side: Literal["a", "b"]) -> Values:
        """(N, F) float64, a model's value of each photograph: the mean of its runs, NaN where one does not have it."""
        values: Values = (self.a if side == "a" else self.b).values.mean(axis=0)
        return values

    def caveats(self) -> tuple[str, ...]:
        """What must be said beside the differences, a sentence or two each."""
        found = []
        if not self.resampling.allows_claims:
            found.append(
                f"{plural(self.resampling.num_units, self.resampling.unit)}: too few for a claim about others, which "
                f"needs at least {MIN_UNITS}. The differences describe these photographs alone."
            )
        few = [
            f"{FIGURES[one.name].title} ({one.num_units:,})"
            for one in (*self.differences, *self.set_differences)
            if self.resampling.allows_claims and one.num_units < MIN_UNITS
        ]
        if few:
            units = plural_of(self.resampling.unit)
            found.append(f"Resting on too few {units} for a claim, which needs at least {MIN_UNITS}: {', '.join(few)}.")
        overlapping = [
            FIGURES[first.name].title
            for first, second in zip(self.spreads_a, self.spreads_b, strict=True)
            if first.overlaps(second)
        ]
        if overlapping:
            found.append(
                f"Within the spread of seeds: {', '.join(overlapping)}. A run of the better model can be worse than "
                "one of the other."
            )
        if len(self.a.run_names) == 1 or len(self.b.run_names) == 1:
            found.append("A single run says nothing about another seed; intervals and p-values are about photographs.")
        return tuple(found)


def compare(
    a: Side,
    b: Side,
    *,
    image_ids: Sequence[str],
    units: Sequence[str],
    unit: Unit = "photograph",
    num_resamples: int = NUM_RESAMPLES,
    num_flips: int = NUM_FLIPS,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """Compare two models that were judged on the same photographs.

    Args:
        a: The reference.
        b: The other.
        image_ids: N ids, in the order of the sides' values.
        units: N names: of the patient or lesion where known, else the photograph's id.
        unit: What they stand for.
        num_resamples: Behind each interval.
        num_flips: Behind each p-value, where not all flips can be counted.
        seed: Of the random numbers.
        level: Of the intervals.

    Raises:
        InputError: There are no photographs, or a side is about another number of them.
        SettingError: `num_resamples` or `level` is out of range.
    """
    _check_sides(a, b, image_ids, units)
    unit_of_photo = unit_indices(units)
    first, second = a.values.mean(axis=0), b.values.mean(axis=0)
    # A photograph counts for a figure where all runs of both have it, so that both means are about the same ones.
    missing = np.isnan(first) | np.isnan(second)
    differences = compare_values(
        np.where(missing, np.nan, first),
        np.where(missing, np.nan, second),
        unit_of_photo,
        num_flips=num_flips,
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    )
    set_differences = compare_statistics(
        _mean_of_runs(a),
        _mean_of_runs(b),
        unit_of_photo,
        carriers=np.all([*a.carriers, *b.carriers], axis=0) if a.carriers and b.carriers else None,
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    )
    return Comparison(
        a=a,
        b=b,
        differences=differences,
        set_differences=set_differences,
        spreads_a=_spreads(a, missing),
        spreads_b=_spreads(b, missing),
        resampling=Resampling(unit, count_units(unit_of_photo), num_resamples, seed, level),
        num_flips=num_flips,
        image_ids=tuple(image_ids),
        units=tuple(units),
    )


def compare_values(
    a: Values,
    b: Values,
    unit_of_photo: IntArray,
    *,
    figures: Sequence[ComparedFigure] = PHOTO_FIGURES,
    num_resamples: int = NUM_RESAMPLES,
    num_flips: int = NUM_FLIPS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[PairedDifference, ...]:
    """Compare means over photographs, figure by figure.

    Args:
        a: (N, F) float64, the reference's; NaN where a photograph does not have the figure.
        b: (N, F) float64, the other's; NaN in either leaves the photograph out of that figure.
        unit_of_photo: (N,) int64, equal for photographs that belong together.
        figures: F figures, what the columns are.
        num_resamples: Behind each interval.
        num_flips: Behind each p-value.
        seed: Of the random numbers.
        level: Of the intervals.
    """
    differences = b - a
    intervals = mean_intervals(differences, unit_of_photo, num_resamples=num_resamples, seed=seed, level=level)
    p_values = sign_flip_p_values(_unit_sums(differences, unit_of_photo), num_flips=num_flips, seed=seed)
    counts = [count_units(unit_of_photo[~np.isnan(column)]) for column in differences.T]
    claims = [float(p) if count >= MIN_UNITS else None for count, p in zip(counts, p_values, strict=True)]
    found = []
    for column, (figure, adjusted) in enumerate(zip(figures, holm(claims), strict=True)):
        known = ~np.isnan(differences[:, column])
        gains = differences[known, column] * (1 if figure.higher_is_better else -1)
        better_a, better_b = int((gains < -_TIE).sum()), int((gains > _TIE).sum())
        mean_a, mean_b = _mean(a[known, column]), _mean(b[known, column])
        found.append(
            PairedDifference(
                name=figure.name,
                a=mean_a,
                b=mean_b,
                difference=mean_b - mean_a,
                interval=intervals[column],
                p_value=claims[column],
                p_adjusted=adjusted,
                num_photographs=len(gains),
                num_units=counts[column],
                better_a=better_a,
                better_b=better_b,
                ties=len(gains) - better_a - better_b,
            )
        )
    return tuple(found)


def compare_statistics(
    a: SetStatistic,
    b: SetStatistic,
    unit_of_photo: IntArray,
    *,
    figures: Sequence[ComparedFigure] = SET_FIGURES,
    carriers: BoolArray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[PairedDifference, ...]:
    """Compare figures of the whole set, both computed on the same resamples.

    Args:
        a: From (B, N) weights to the reference's (B, G) figures; NaN where one is not defined.
        b: The same for the other.
        unit_of_photo: (N,) int64, equal for photographs that are drawn together.
        figures: G figures, what the columns are.
        carriers: (N, G) bool, the photographs that a figure rests on for both; None for all.
        num_resamples: Behind each interval.
        seed: Of the random numbers.
        level: Of the intervals.
    """
    everyone = np.ones((1, len(unit_of_photo)))
    if carriers is None:
        carriers = np.ones((len(unit_of_photo), len(figures)), np.bool_)
    intervals = statistic_intervals(
        lambda weights: b(weights) - a(weights),
        unit_of_photo,
        carriers=carriers,
        batched=True,
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    ) or [None] * len(figures)
    values = zip(figures, a(everyone)[0].tolist(), b(everyone)[0].tolist(), intervals, carriers.T, strict=True)
    return tuple(
        PairedDifference(
            name=figure.name,
            a=first,
            b=second,
            difference=second - first,
            interval=interval,
            p_value=None,
            p_adjusted=None,
            num_photographs=int(carried.sum()),
            num_units=count_units(unit_of_photo[carried]),
        )
        for figure, first, second, interval, carried in values
    )


def _check_sides(a: Side, b: Side, image_ids: Sequence[str], units: Sequence[str]) -> None:
    if not len(image_ids):
        raise InputError("comparison", "there are no photographs to compare on")
    for name, count in ((a.name, a.values.shape[1]), (b.name, b.values.shape[1]), ("units", len(units))):
        if count != len(image_ids):
            raise InputError(name, f"is about {plural(count, 'photograph')}, the comparison about {len(image_ids):,}")


def _unit_sums(differences: Values, unit_of_photo: IntArray) -> Values:
    """(U, F) float64: differences summed over the photographs of each unit, those without the figure left out."""
    units, rows = np.unique(unit_of_photo, return_inverse=True)
    sums = np.zeros((len(units), differences.shape[1]))
    np.add.at(sums, rows, np.nan_to_num(differences))
    return sums


def _mean_of_runs(side: Side) -> SetStatistic:
    return lambda weights: np.mean([statistic(weights) for statistic in side.statistics], axis=0)


def _spreads(side: Side, missing: NDArray[np.bool_]) -> tuple[SeedSpread, ...]:
    everyone = np.ones((1, len(missing)))
    of_photos = [[_mean(run[~gap]) for run, gap in zip(one.T, missing.T, strict=True)] for one in side.values]
    of_set = [statistic(everyone)[0].tolist() for statistic in side.statistics]
    runs = [first + second for first, second in zip(of_photos, of_set, strict=True)]
    return tuple(SeedSpread(name, tuple(values)) for name, values in zip(FIGURES, zip(*runs, strict=True), strict=True))


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else float("nan")
