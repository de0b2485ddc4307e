"""Two models on the same photographs: what is found, what is not claimed, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dermask.errors import InputError
from dermask.evaluation.bootstrap import MIN_UNITS, mean_intervals
from dermask.evaluation.compared_figures import FIGURES, PHOTO_FIGURES, SET_FIGURES, SetStatistic, Side
from dermask.evaluation.comparison import (
    Comparison,
    PairedDifference,
    SeedSpread,
    compare,
    compare_statistics,
    compare_values,
)

F = len(PHOTO_FIGURES)
QUICK = {"num_resamples": 200, "num_flips": 400}
JACCARD = PHOTO_FIGURES[:1]


def made_up_side(name: str, values: np.ndarray) -> Side:
    """A model with these values (S, N, F); its figures of the set are weighted means of the first three columns."""

    def statistic(run: np.ndarray) -> SetStatistic:
        return lambda weights: weights @ run[:, :3] / weights.sum(axis=1, keepdims=True)

    return Side(name, values, tuple(map(statistic, values)), tuple(f"run {one}" for one in range(len(values))))


def two_sides(count: int = 60, *, shift: float = 0.0, runs: tuple[int, int] = (1, 1)) -> tuple[Side, Side]:
    rng = np.random.default_rng(3)
    common = rng.beta(8, 2, (1, count, F))
    first = common + rng.normal(0, 0.02, (runs[0], count, F))
    second = common + rng.normal(shift, 0.02, (runs[1], count, F))
    return made_up_side("A", first), made_up_side("B", second)


def ids(count: int) -> list[str]:
    return [f"photo_{index:03}" for index in range(count)]


def compared(a: Side, b: Side, *, units: Sequence[str] | None = None, **options: int) -> Comparison:
    names = ids(a.values.shape[1])
    return compare(a, b, image_ids=names, units=units or names, **(QUICK | options))


def test_figures_are_means_differences_and_counts() -> None:
    a = np.array([[0.5, 4.0], [0.7, 2.0], [0.9, math.nan], [0.1, 1.0]])
    b = np.array([[0.6, 3.0], [0.7, 2.5], [0.8, 1.0], [0.2, 1.0]])
    figures = (FIGURES["isic.jaccard"], FIGURES["boundary.distance_95"])
    jaccard, distance = compare_values(a, b, np.arange(4), figures=figures)
    assert (jaccard.a, jaccard.b) == (pytest.approx(0.55), pytest.approx(0.575))
    assert jaccard.difference == pytest.approx(0.025)
    assert (jaccard.better_a, jaccard.better_b, jaccard.ties) == (1, 2, 1)
    assert (distance.a, distance.b) == (pytest.approx(7 / 3), pytest.approx(6.5 / 3))  # of photographs both have
    assert (distance.better_a, distance.better_b, distance.ties) == (1, 1, 1)  # a distance is better when lower
    assert (distance.num_photographs, distance.num_units) == (3, 3)


def test_the_interval_is_that_of_the_mean_difference() -> None:
    rng = np.random.default_rng(2)
    a, b, units = rng.random((80, F)), rng.random((80, F)), np.arange(80) // 2
    found = compare_values(a, b, units, **QUICK)
    assert [one.interval for one in found] == mean_intervals(b - a, units, num_resamples=200)


def test_a_shift_is_found_and_no_shift_is_not_claimed() -> None:
    shifted, alike = compared(*two_sides(shift=0.03)), compared(*two_sides())
    for one in shifted.differences:
        assert one.interval is not None
        assert one.interval.low > 0
        assert one.p_adjusted is not None
        assert one.p_adjusted < 0.05
        assert one.winner == ("b" if FIGURES[one.name].higher_is_better else "a")
    assert [one.winner for one in alike.differences].count(None) == F
    for one in shifted.set_differences:
        assert one.interval is not None
        assert one.interval.low > 0
        assert one.winner is None  # an interval, but no test


def test_models_that_are_alike_are_told_apart_in_one_of_twenty_data_sets() -> None:
    rng = np.random.default_rng(11)
    p_values, covered = [], []
    for seed in range(300):
        values = rng.beta(8, 2, (2, 40, 1))
        [one] = compare_values(*values, np.arange(40), figures=JACCARD, seed=seed, **QUICK)
        assert one.interval is not None
        p_values.append(one.p_value)
        covered.append(one.interval.low <= 0 <= one.interval.high)
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.1)
    assert 0.90 <= np.mean(covered) <= 0.98


def test_one_shift_in_all_photographs_of_few_patients_is_little_evidence() -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(MIN_UNITS), 10)
    gain = rng.normal(0, 0.03, MIN_UNITS)  # each patient's photographs gain or lose together
    gain += 0.005 - gain.mean()
    a = rng.random((300, 1))
    b = a + gain[patients][:, None]
    [grouped] = compare_values(a, b, patients, figures=JACCARD, **QUICK)
    [ignored] = compare_values(a, b, np.arange(300), figures=JACCARD, **QUICK)
    assert grouped.p_value is not None
    assert ignored.p_value is not None
    assert grouped.p_value > 5 * ignored.p_value
    assert grouped.num_units == MIN_UNITS
    assert grouped.num_photographs == ignored.num_photographs == 300


def test_swapping_the_models_turns_the_signs() -> None:
    a, b = two_sides(shift=0.01)
    there, back = compared(a, b), compared(b, a)
    for one, other in zip(
        (*there.differences, *there.set_differences), (*back.differences, *back.set_differences), strict=True
    ):
        assert other.difference == pytest.approx(-one.difference)
        assert one.interval is not None
        assert other.interval is not None
        assert (other.interval.low, other.interval.high) == pytest.approx((-one.interval.high, -one.interval.low))
        assert (other.p_value, other.p_adjusted) == (one.p_value, one.p_adjusted)
        assert (other.better_a, other.better_b, other.ties) == (one.better_b, one.better_a, one.ties)
        assert {one.winner, other.winner} in ({"a", "b"}, {None})


def test_the_order_of_photographs_does_not_matter() -> None:
    a, b = two_sides(shift=0.005)
    units = [f"patient_{index % 37}" for index in range(60)]
    order = np.random.default_rng(0).permutation(60)
    moved = [made_up_side(side.name, side.values[:, order]) for side in (a, b)]
    first = compared(a, b, units=units)
    second = compared(*moved, units=[units[index] for index in order])
    for one, other in zip(first.differences, second.differences, strict=True):
        assert one.interval == pytest.approx(other.interval, abs=1e-12)
        assert replace(one, a=0, b=0, difference=0, interval=None) == replace(
            other, a=0, b=0, difference=0, interval=None
        )
        assert one.difference == pytest.approx(other.difference)
    for one, other in zip(first.set_differences, second.set_differences, strict=True):
        assert one.interval == pytest.approx(other.interval, abs=1e-12)


def test_too_few_units_give_a_difference_without_a_claim() -> None:
    comparison = compared(*two_sides(MIN_UNITS - 1, shift=0.1))
    for one in (*comparison.differences, *comparison.set_differences):
        assert one.difference == pytest.approx(0.1, abs=0.05)
        assert (one.interval, one.p_value, one.p_adjusted, one.winner) == (None, None, None, None)
    assert comparison.caveats()[0] == (
        "29 photographs: too few for a claim about others, which needs at least 30. "
        "The differences describe these photographs alone."
    )
    patients = compared(*two_sides(60), units=[f"{index % 5}" for index in range(60)])
    assert patients.resampling.num_units == 5
    assert all(one.p_value is None for one in patients.differences)


def test_a_figure_that_no_photograph_has_is_no_difference() -> None:
    [one] = compare_values(np.full((40, 1), np.nan), np.ones((40, 1)), np.arange(40), figures=JACCARD, **QUICK)
    assert math.isnan(one.difference)
    assert (one.num_photographs, one.num_units, one.interval, one.p_adjusted) == (0, 0, None, None)


def test_a_model_against_itself_differs_in_nothing() -> None:
    a, _ = two_sides()
    for one in compared(a, a).differences:
        assert one.difference == 0
        assert one.ties == 60
        assert one.interval is None  # it would have no width
        assert one.p_value == 1


def test_one_difference_in_all_photographs_has_no_interval_and_is_shown_nevertheless() -> None:
    a = np.random.default_rng(1).random((MIN_UNITS, 1))
    [one] = compare_values(a, a + 0.25, np.arange(MIN_UNITS), figures=JACCARD, **QUICK)
    assert one.interval is None
    assert one.winner == "b"


def test_figures_of_the_set_are_paired() -> None:
    rng = np.random.default_rng(9)
    values = rng.random((2, 50, 3))

    def largest(run: np.ndarray) -> SetStatistic:
        return lambda weights: np.stack([np.where(row[:, None] > 0, run, 0).max(axis=0) for row in weights])

    same = compare_statistics(largest(values[0]), largest(values[0]), np.arange(50), num_resamples=50)
    assert [one.interval for one in same] == [None] * 3
    found = compare_statistics(largest(values[0]), largest(values[1]), np.arange(50), num_resamples=50)
    assert [one.name for one in found] == [figure.name for figure in SET_FIGURES]
    assert [one.a for one in found] == pytest.approx(values[0].max(axis=0).tolist())


def test_figures_of_the_set_that_too_few_units_carry_are_not_claimed() -> None:
    a, b = two_sides(shift=0.05)
    few = np.ones((60, 3), np.bool_)
    few[MIN_UNITS - 1 :, 1] = False
    found = compared(replace(a, carriers=(np.ones_like(few),)), replace(b, carriers=(few,)))
    ap, ap50, f1 = found.set_differences
    assert ap.interval is not None
    assert f1.interval is not None
    assert ap50.interval is None
    assert (ap50.num_photographs, ap50.num_units) == (MIN_UNITS - 1, MIN_UNITS - 1)
    assert "Resting on too few photographs for a claim, which needs at least 30: Mask AP50 (29)." in found.caveats()


# Several runs


def test_runs_are_averaged_photograph_by_photograph() -> None:
    a, b = two_sides(runs=(3, 2))
    comparison = compared(a, b)
    assert comparison.has_seeds
    np.testing.assert_allclose(comparison.photo_values("b"), b.values.mean(axis=0))
    assert comparison.differences[0].a == pytest.approx(a.values[:, :, 0].mean())
    assert comparison.set_differences[0].b == pytest.approx(b.values[:, :, 0].mean())
    spread = comparison.spreads_a[0]
    per_run = a.values[:, :, 0].mean(axis=1)
    assert spread.runs == pytest.approx(per_run)
    assert spread.mean == pytest.approx(per_run.mean())
    assert spread.deviation == pytest.approx(per_run.std(ddof=1))
    assert [one.name for one in comparison.spreads_b] == list(FIGURES)


def test_a_photograph_counts_where_every_run_has_the_figure() -> None:
    a, b = two_sides(runs=(2, 1))
    a.values[1, 0, 6] = np.nan
    comparison = compared(a, b)
    assert comparison.differences[6].num_photographs == 59
    assert comparison.differences[6].b == pytest.approx(b.values[0, 1:, 6].mean())
    assert comparison.spreads_a[6].runs == pytest.approx(a.values[:, 1:, 6].mean(axis=1))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param((0.8,), (0.8,), False, id="single runs have no range"),
        pytest.param((0.80, 0.82), (0.81, 0.83), True, id="ranges cross"),
        pytest.param((0.80, 0.82), (0.83, 0.85), False, id="ranges apart"),
        pytest.param((0.80, 0.82), (0.81,), True, id="one run within"),
        pytest.param((0.80, 0.90), (0.84, 0.86), True, id="one range within the other"),
    ],
)
def test_seeds_overlap_where_a_run_may_lose(
    first: tuple[float, ...], second: tuple[float, ...], expected: bool
) -> None:
    one, other = SeedSpread("isic.jaccard", first), SeedSpread("isic.jaccard", second)
    assert one.overlaps(other) is other.overlaps(one) is expected


def test_a_single_run_has_no_deviation() -> None:
    assert SeedSpread("isic.dice", (0.5,)).deviation is None


def test_differences_within_the_spread_of_seeds_are_told() -> None:
    rng = np.random.default_rng(0)
    common = rng.beta(8, 2, (1, 60, F))
    seeds = np.array([0, 0.03]).reshape(2, 1, 1)  # all photographs are better in the second run
    comparison = compared(made_up_side("A", common + seeds), made_up_side("B", common + seeds + 0.01))
    [caveat] = comparison.caveats()
    assert caveat.startswith("Within the spread of seeds: Jaccard index, ")
    single = compared(*two_sides(shift=0.1)).caveats()
    assert single == ("A single run says nothing about another seed; intervals and p-values are about photographs.",)


def test_a_lower_distance_wins() -> None:
    one = PairedDifference("boundary.distance_95", 9, 7, -2, None, 0.01, 0.02, 50, 50)
    assert one.winner == "b"
    assert replace(one, p_adjusted=0.2).winner is None


def test_sides_about_other_photographs_are_refused() -> None:
    a, b = two_sides(5)
    with pytest.raises(InputError, match="B: is about 4 photographs, the comparison about 5"):
        compare(a, made_up_side("B", b.values[:, :4]), image_ids=ids(5), units=ids(5))
    with pytest.raises(InputError, match="units: is about 2 photographs, the comparison about 5"):
        compare(a, b, image_ids=ids(5), units=ids(2))
    none = made_up_side("A", np.zeros((1, 0, F)))
    with pytest.raises(InputError, match="comparison: there are no photographs to compare on"):
        compare(none, none, image_ids=[], units=[])
