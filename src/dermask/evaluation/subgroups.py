"""Figures of photographs of one kind, and whether kinds differ by more than chance.

A model that is good on average may be bad where it matters. For each trait (`traits.py`) and each of its values: how
many photographs, the means of their figures with intervals, and for each trait a permutation test of whether the
spread between its groups could be chance. Groups overlap and go together (small lesions may be the hairy ones), so a
difference says where a model is worse, not why.

Shapes: N photographs, of which M have the trait; G groups; U units; B permutations of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dermask.errors import InputError, SettingError
from dermask.evaluation.bootstrap import MIN_UNITS, Interval, Resampling, count_units, mean_intervals
from dermask.evaluation.permutation import holm
from dermask.evaluation.traits import TRAITS, PhotoTraits
from dermask.records import BoolArray, IntArray

SMALL_GROUP = f"fewer than {MIN_UNITS}: too small for an interval and for a claim about other photographs"
"""What to say of a group whose `is_small` is True."""
NUM_PERMUTATIONS = 2000
"""A p-value of 0.05 is then known to 0.005 (one standard deviation), and none is below 0.0005."""
_CHUNK_VALUES = 1 << 20  # permuted values held at once: 8 MB
_ROUNDING = 1e-12  # spreads nearer than this share are equal but for the order of summation

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The photographs that have one value of one trait.

    Attributes:
        trait: Its name, a key of `TRAITS`.
        value: Which value.
        num_photographs: How many have it.
        num_units: How many units (photographs, lesions or patients) these are.
        figures: Means by name over the photographs that have the figure; NaN where none has.
        intervals: Of these means by name; None where fewer than `MIN_UNITS` units have the figure, or none differs.
        is_small: Whether the group has fewer than `MIN_UNITS` units; say `SMALL_GROUP`.
    """

    trait: str
    value: str
    num_photographs: int
    num_units: int
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval | None]
    is_small: bool


@dataclass(frozen=True, slots=True)
class TraitSpread:
    """Whether the groups of one trait differ in a figure by more than chance.

    Attributes:
        trait: Its name, a key of `TRAITS`.
        figure: Which figure.
        compared: The values whose groups have at least `MIN_UNITS` units; only these are compared.
        difference: Highest mean of these groups less the lowest; NaN for fewer than two.
        p_value: Share of permutations that spread the means at least as far; None for fewer than two groups.
        p_adjusted: The same, corrected by Holm's method for the number of traits tested.
    """

    trait: str
    figure: str
    compared: tuple[str, ...]
    difference: float
    p_value: float | None
    p_adjusted: float | None = None

    def describe(self, *, level: float = 0.05) -> str:
        """One sentence for a table or page."""
        if self.p_adjusted is None:
            return f"Fewer than two groups have {MIN_UNITS} units or more: nothing is claimed."
        kinds = f"{', '.join(self.compared[:-1])} and {self.compared[-1]}"
        told = f"Means differ by up to {self.difference:.3f} between {kinds}"
        verdict = "more than chance" if self.p_adjusted <= level else "may be chance"
        return f"{told}: {verdict} (permutation test, Holm-corrected p = {self.p_adjusted:.2g})."


def subgroups(
    traits: Sequence[PhotoTraits],
    values: Mapping[str, Values],
    unit_of_photo: IntArray,
    *,
    resampling: Resampling | None = None,
) -> tuple[Subgroup, ...]:
    """The figures of each group, for every trait of which at least two values occur.

    Args:
        traits: Of N photographs. One whose trait is None is in no group of that trait.
        values: (N,) float64 of each figure by name; NaN where a photograph does not have it.
        unit_of_photo: (N,) int64, equal for photographs that are drawn together.
        resampling: How to make the intervals; None takes the defaults.

    Returns:
        Traits in the order of `TRAITS`, values in the order of the trait; a value it does not list comes last, by name.

    Raises:
        InputError: The numbers of photographs differ.
        SettingError: The resampling's level or number is out of range.
    """
    _check_lengths(traits, values, unit_of_photo)
    if resampling is None:
        resampling = Resampling("photograph", count_units(unit_of_photo))
    names = list(values)
    table = np.stack([values[name] for name in names], axis=1) if names else np.zeros((len(traits), 0))
    return tuple(
        _subgroup(trait, value, names, table[members], unit_of_photo[members], resampling)
        for trait, groups in _groups_by_trait(traits)
        for value, members in groups.items()
    )


def trait_spreads(
    traits: Sequence[PhotoTraits],
    values: Values,
    unit_of_photo: IntArray,
    *,
    figure: str = "isic.jaccard",
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int = 0,
) -> tuple[TraitSpread, ...]:
    """For every trait of which at least two values occur: do its groups differ in a figure by more than chance?

    The statistic is the sum of squares between groups. If a trait had nothing to do with the figure, the values of one
    unit could as well stand at another's photographs; so units change places as wholes, with units of as many
    photographs, and the p-value is the share of such permutations, the one seen included, that spread the groups at
    least as far. Groups of fewer than `MIN_UNITS` units take no part.

    Args:
        traits: Of N photographs.
        values: (N,) float64, NaN where a photograph does not have the figure, which leaves it out.
        unit_of_photo: (N,) int64, equal for photographs that change places together.
        figure: Its name, kept in the result.
        num_permutations: At least 1.
        seed: Of the random numbers.

    Raises:
        InputError: The numbers of photographs differ.
        SettingError: `num_permutations` is below 1.
    """
    _check_lengths(traits, {figure: values}, unit_of_photo)
    if num_permutations < 1:
        raise SettingError(f"num_permutations {num_permutations}", "must be at least 1")
    found = []
    for trait, groups in _groups_by_trait(traits):
        known = {value: members & ~np.isnan(values) for value, members in groups.items()}
        large = {value: members for value, members in known.items() if _num_units(members, unit_of_photo) >= MIN_UNITS}
        if len(large) < 2:
            found.append(TraitSpread(trait, figure, tuple(large), math.nan, None))
            continue
        means = [float(values[members].mean()) for members in large.values()]
        chosen = np.logical_or.reduce(list(large.values()))
        group_of_photo = np.argmax(np.stack(list(large.values())), axis=0)[chosen]
        p_value = _spread_p_value(values[chosen], group_of_photo, unit_of_photo[chosen], num_permutations, seed)
        found.append(TraitSpread(trait, figure, tuple(large), max(means) - min(means), p_value))
    adjusted = holm([spread.p_value for spread in found])
    return tuple(replace(spread, p_adjusted=p) for spread, p in zip(found, adjusted, strict=True))


def _check_lengths(traits: Sequence[PhotoTraits], values: Mapping[str, Values], unit_of_photo: IntArray) -> None:
    lengths = {"units": len(unit_of_photo), **{name: len(column) for name, column in values.items()}}
    for name, length in lengths.items():
        if length != len(traits):
            raise InputError(f"subgroups: {name}", f"has {length} entries for {len(traits)} photographs")


def _groups_by_trait(traits: Sequence[PhotoTraits]) -> Iterator[tuple[str, dict[str, BoolArray]]]:
    """Each trait with two values or more, and which photographs have which: (N,) bool."""
    for name, trait in TRAITS.items():
        column = [getattr(one, name) for one in traits]
        present = {value for value in column if value is not None}
        if len(present) < 2:
            continue
        ordered = [value for value in trait.values if value in present]
        ordered += sorted(present.difference(ordered))
        yield name, {value: np.array([one == value for one in column]) for value in ordered}


def _subgroup(
    trait: str, value: str, names: list[str], table: Values, unit_of_photo: IntArray, resampling: Resampling
) -> Subgroup:
    known = ~np.isnan(table)
    counts = known.sum(axis=0)
    means = np.divide(
        np.where(known, table, 0.0).sum(axis=0), counts, out=np.full(len(names), np.nan), where=counts > 0
    )
    intervals = mean_intervals(
        table,
        unit_of_photo,
        num_resamples=resampling.num_resamples,
        seed=resampling.seed,
        level=resampling.level,
    )
    num_units = count_units(unit_of_photo)
    return Subgroup(
        trait=trait,
        value=value,
        num_photographs=len(table),
        num_units=num_units,
        figures=dict(zip(names, means.tolist(), strict=True)),
        intervals=dict(zip(names, intervals, strict=True)),
        is_small=num_units < MIN_UNITS,
    )


def _num_units(members: BoolArray, unit_of_photo: IntArray) -> int:
    return count_units(unit_of_photo[members])


def _spread_p_value(
    values: Values, group_of_photo: IntArray, unit_of_photo: IntArray, num_permutations: int, seed: int
) -> float:
    values = values - values.mean()  # the mean over all groups is then 0 in every permutation
    in_group = (group_of_photo[:, None] == np.arange(group_of_photo.max() + 1)).astype(np.float64)  # (M, G)
    sizes = in_group.sum(axis=0)
    seen = _between_groups(values[None], in_group, sizes)[0]
    as_far = 1  # the permutation seen
    for permuted in _permuted_units(values, unit_of_photo, num_permutations, seed):
        spread = _between_groups(permuted, in_group, sizes)
        as_far += int(np.count_nonzero(spread >= seen - _ROUNDING * (values**2).sum()))
    return as_far / (num_permutations + 1)


def _between_groups(values: Values, in_group: Values, sizes: Values) -> Values:
    """(B,) the sum of squares between groups of (B, M) values with mean 0."""
    spread: Values = ((values @ in_group) ** 2 / sizes).sum(axis=1)
    return spread


def _permuted_units(values: Values, unit_of_photo: IntArray, count: int, seed: int) -> Iterator[Values]:
    """(B, M) chunks of `values` in which units of the same number of photographs have changed places at random."""
    _, unit, sizes = np.unique(unit_of_photo, return_inverse=True, return_counts=True)
    order = np.argsort(unit, kind="stable")
    starts = np.cumsum(sizes) - sizes
    blocks = [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]  # (units, size)
    generator = np.random.default_rng(seed)
    at_once = max(1, _CHUNK_VALUES // len(values))
    for start in range(0, count, at_once):
        rows = min(at_once, count - start)
        permuted = np.empty((rows, len(values)))
        for block in blocks:
            if block.shape[1] == 1:  # the usual case, at half the cost
                permuted[:, block[:, 0]] = generator.permuted(np.tile(values[block[:, 0]], (rows, 1)), axis=1)
                continue
            places = generator.permuted(np.tile(np.arange(len(block)), (rows, 1)), axis=1)
            permuted[:, block.ravel()] = values[block][places].reshape(rows, -1)
        yield permuted
