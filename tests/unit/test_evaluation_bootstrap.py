"""Intervals by resampling: what is drawn, how often they hold the truth, and when none is given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermask.errors import InputError, SettingError
from dermask.evaluation import bootstrap
from dermask.evaluation.bootstrap import (
    MIN_UNITS,
    Interval,
    Resampling,
    Unit,
    mean_intervals,
    resampled,
    resampling_weights,
    statistic_interval,
    statistic_intervals,
    unit_indices,
    weighted_means,
)

UNITS = st.lists(st.integers(0, 12), min_size=1, max_size=40).map(lambda units: np.array(units, np.int64))


def all_weights(unit_of_photo: np.ndarray, **options: int) -> np.ndarray:
    return np.concatenate(list(resampling_weights(unit_of_photo, **options)))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["a"], [0], id="one"),
        pytest.param(["b", "a", "b", "c"], [1, 0, 1, 2], id="numbered by name, not by place"),
    ],
)
def test_photographs_of_one_name_are_one_unit(groups: list[str], expected: list[int]) -> None:
    found = unit_indices(groups)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(UNITS)
def test_a_resample_draws_as_many_units_as_there_are_and_all_photographs_of_each(units: np.ndarray) -> None:
    weights = all_weights(units, num_resamples=7)
    assert weights.shape == (7, len(units))
    _, first, sizes = np.unique(units, return_index=True, return_counts=True)
    draws = weights[:, first]  # how often each unit was drawn
    np.testing.assert_array_equal(draws.sum(axis=1), len(first))
    np.testing.assert_array_equal(weights.sum(axis=1), draws @ sizes)
    for unit in np.unique(units):
        assert (weights[:, units == unit] == weights[:, units == unit][:, :1]).all()


def test_draws_scatter_as_a_multinomial_does() -> None:
    weights = all_weights(np.arange(20), num_resamples=20_000)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.04)
    np.testing.assert_allclose(weights.var(axis=0), 1 - 1 / 20, atol=0.05)
    covariance = np.cov(weights[:, 0], weights[:, 1])[0, 1]
    assert covariance == pytest.approx(-1 / 20, abs=0.03)


def test_chunks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    units = np.arange(50) // 2
    whole = all_weights(units, num_resamples=33, seed=4)
    monkeypatch.setattr(bootstrap, "_CHUNK_WEIGHTS", 333)
    chunks = list(resampling_weights(units, num_resamples=33, seed=4))
    assert [len(chunk) for chunk in chunks] == [6, 6, 6, 6, 6, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_many_photographs_are_drawn_in_flat_memory() -> None:
    chunk = next(resampling_weights(np.arange(10_000), num_resamples=2000))
    assert chunk.nbytes <= 9e6


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    units = np.arange(40)
    np.testing.assert_array_equal(all_weights(units, seed=1), all_weights(units, seed=1))
    assert (all_weights(units, seed=1) != all_weights(units, seed=2)).any()


def test_the_order_of_photographs_changes_no_interval() -> None:
    rng = np.random.default_rng(0)
    names = [f"patient {number}" for number in rng.integers(0, 45, 120)]
    values = rng.random(120)
    order = rng.permutation(120)
    [first] = mean_intervals(values, unit_indices(names))
    [second] = mean_intervals(values[order], unit_indices([names[index] for index in order]))
    assert second == pytest.approx(first, abs=1e-12)


@given(st.floats(0, 1), st.integers(MIN_UNITS, 50))
def test_what_never_varies_has_no_interval(value: float, count: int) -> None:
    assert mean_intervals(np.full(count, value), np.arange(count), num_resamples=20) == [None]


def test_means_leave_out_photographs_without_the_figure() -> None:
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    weights = np.array([[1.0, 1, 1], [3, 1, 0], [1, 0, 2]])
    found = weighted_means(values, weights)
    np.testing.assert_allclose(found, [[2, 5], [1.5, 5], [1, np.nan]])


def test_intervals_are_those_of_the_slow_way() -> None:
    rng = np.random.default_rng(3)
    units = unit_indices([f"{number:02}" for number in rng.integers(0, 60, 100)])
    values = rng.random((100, 2))
    values[rng.random(100) < 0.2, 1] = np.nan
    means = [np.nanmean(np.repeat(values, row.astype(int), axis=0), axis=0) for row in all_weights(units, seed=5)]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    fast = mean_intervals(values, units, seed=5)
    slow = [Interval(*ends, 0.95) for ends in zip(low, high, strict=True)]
    assert [tuple(one) for one in fast if one] == [pytest.approx(tuple(one), abs=1e-12) for one in slow]
    alone = statistic_interval(lambda weights: np.average(values[:, 0], weights=weights), units, seed=5)
    assert alone == pytest.approx(fast[0], abs=1e-12)
    together = statistic_intervals(lambda weights: weighted_means(values, weights), units, batched=True, seed=5)
    assert together == fast


def test_a_statistic_may_be_undefined_in_some_resamples() -> None:
    units = np.arange(MIN_UNITS)
    sometimes = statistic_interval(lambda weights: weights[0] or math.nan, units, num_resamples=50)
    assert sometimes is not None
    assert sometimes.low == 1  # of the resamples that define it
    assert statistic_interval(lambda weights: math.nan, units, num_resamples=5) is None


def test_the_level_widens_the_interval() -> None:
    values = np.random.default_rng(1).random(50)
    [half], [most] = (mean_intervals(values, np.arange(50), level=level) for level in (0.5, 0.99))
    assert half is not None
    assert most is not None
    assert most.low < half.low < values.mean() < half.high < most.high
    assert (half.level, most.level) == (0.5, 0.99)


@pytest.mark.parametrize("count", [0, 1, MIN_UNITS - 1])
def test_too_few_units_give_no_interval(count: int) -> None:
    units = np.arange(count)
    assert mean_intervals(np.zeros((count, 2)), units) == [None, None]
    assert statistic_interval(lambda weights: 1 / 0, units) is None  # not even tried
    assert mean_intervals(np.zeros(3 * count), np.repeat(units, 3)) == [None]  # photographs are not units
    assert not Resampling("patient", count).allows_claims
    assert Resampling("patient", MIN_UNITS).allows_claims


def test_units_without_the_figure_do_not_count() -> None:
    values = np.random.default_rng(2).random((MIN_UNITS, 2))
    values[0, 1] = np.nan
    full, short = mean_intervals(values, np.arange(MIN_UNITS), num_resamples=10)
    assert full is not None
    assert short is None


def test_units_that_do_not_carry_a_figure_of_the_set_do_not_count() -> None:
    units, carriers = np.repeat(np.arange(MIN_UNITS + 1), 2), np.ones((2 * MIN_UNITS + 2, 3), np.bool_)
    carriers[1:, 1] = False
    carriers[:4, 2] = False
    enough, one, short = statistic_intervals(lambda weights: weights[:3], units, carriers=carriers) or ()
    assert enough is not None
    assert (one, short) == (None, None)


@pytest.mark.parametrize(
    ("unit", "bond"),
    [
        ("photograph", ""),
        ("patient", "patient"),
        ("lesion or photograph", "lesion"),
        ("patient or lesion", "patient or lesion"),
        ("patient, lesion or photograph", "patient or lesion"),
    ],
)
def test_what_is_drawn_together_has_a_name(unit: Unit, bond: str) -> None:
    assert Resampling(unit, 40).bond == bond


def coverage(num_units: int, per_unit: int, *, grouped: bool) -> tuple[float, float]:
    """Share of 300 simulated data sets whose interval holds the true mean, and the intervals' mean width.

    Each patient has a level of quality, and photographs scatter a little around it: a skewed figure in [0, 1].
    """
    rng = np.random.default_rng(8)
    owners = np.repeat(np.arange(num_units), per_unit)
    units = owners if grouped else np.arange(len(owners))
    intervals = []
    for seed in range(300):
        level = rng.beta(5, 1.5, num_units)
        values = level[owners] * rng.uniform(0.9, 1, len(owners))
        intervals += mean_intervals(values, units, num_resamples=300, seed=seed)
    truth = 5 / 6.5 * 0.95
    low, high, _ = np.array(intervals).T
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    assert 0.90 <= coverage(40, 1, grouped=True)[0] <= 0.98


def test_photographs_of_one_patient_are_no_independent_evidence() -> None:
    grouped, width = coverage(40, 5, grouped=True)
    ignored, ignored_width = coverage(40, 5, grouped=False)
    assert 0.90 <= grouped <= 0.98
    assert ignored < 0.75  # what would be claimed if the patients were forgotten
    assert width > 1.8 * ignored_width


def test_resamples_of_two_statistics_are_paired() -> None:
    units = np.arange(40)
    first = resampled(lambda weights: weights[:, :3], units, batched=True, num_resamples=9)
    second = resampled(lambda weights: weights[2], units, num_resamples=9)
    assert first.shape == (9, 3)
    np.testing.assert_array_equal(first[:, 2:], second)


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(InputError, match="resampling: there are no photographs to draw from"):
        next(resampling_weights(np.zeros(0, np.int64)))
    with pytest.raises(SettingError, match="num_resamples 0: must be at least 1"):
        next(resampling_weights(np.arange(2), num_resamples=0))
    with pytest.raises(InputError, match="resampling: there are 3 values for 2 photographs"):
        mean_intervals(np.zeros(3), np.arange(2))
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(SettingError, match=f"level {level:g}: must be between 0 and 1"):
            mean_intervals(np.zeros(2), np.arange(2), level=level)
