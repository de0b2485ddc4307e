"""Sign-flip p-values and Holm's correction, against slow counting and tables worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask.errors import SettingError
from dermask.evaluation import permutation
from dermask.evaluation.permutation import holm, sign_flip_p_values


def count_all_patterns(sums: np.ndarray) -> float:
    seen = abs(sums.sum())
    totals = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=len(sums))]
    return float(np.mean([total >= seen - 1e-9 for total in totals]))


@given(hnp.arrays(np.int64, st.integers(0, 9), elements=st.integers(-5, 5)))
def test_few_units_are_counted_exactly(sums: np.ndarray) -> None:
    [p_value] = sign_flip_p_values(sums[:, None] / 7)
    assert p_value == pytest.approx(count_all_patterns(sums / 7))


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        pytest.param([], 1, id="no unit"),
        pytest.param([0, 0, 0], 1, id="no difference"),
        pytest.param([0.3], 1, id="one unit proves nothing"),
        pytest.param([0.1, 0.2, 0.3], 2 / 8, id="all one way"),
        pytest.param([0.1, -0.1], 1, id="no total"),
        pytest.param([1.0] * 12, 2 / 4096, id="twelve, all one way"),
        pytest.param([1.0] * 5 + [0.0] * 500, 2 / 32, id="units without a difference change nothing"),
    ],
)
def test_p_values_worked_by_hand(sums: list[float], expected: float) -> None:
    assert sign_flip_p_values(np.array(sums).reshape(-1, 1)).tolist() == [pytest.approx(expected)]


def test_random_flips_agree_with_counting() -> None:
    sums = np.random.default_rng(5).normal(0.35, 1, (13, 4))  # one unit more than is counted
    exact = [count_all_patterns(column) for column in sums.T]
    np.testing.assert_allclose(sign_flip_p_values(sums, num_flips=20_000), exact, atol=0.015)


def test_no_p_value_is_zero() -> None:
    assert sign_flip_p_values(np.ones((60, 1)), num_flips=99).tolist() == [pytest.approx(1 / 100)]


def test_figures_do_not_disturb_each_other() -> None:
    sums = np.random.default_rng(1).normal(0, 1, (40, 3))
    sums[5:, 1] = 0  # counted exactly, beside two that are not
    together = sign_flip_p_values(sums, num_flips=500, seed=3)
    alone = [sign_flip_p_values(sums[:, [column]], num_flips=500, seed=3)[0] for column in range(3)]
    np.testing.assert_array_equal(together, alone)


def test_p_values_do_not_depend_on_sign_or_scale() -> None:
    sums = np.random.default_rng(2).normal(0.2, 1, (50, 1))
    [first] = sign_flip_p_values(sums, num_flips=2000)
    assert sign_flip_p_values(-3 * sums, num_flips=2000).tolist() == [first]


def test_chunks_change_nothing_that_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(2).normal(0.2, 1, (50, 1))
    whole = sign_flip_p_values(sums, num_flips=3000)
    monkeypatch.setattr(permutation, "_CHUNK_SIGNS", 1000)
    np.testing.assert_allclose(sign_flip_p_values(sums, num_flips=3000), whole, atol=0.03)


def test_models_that_are_alike_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(6)
    skewed = rng.exponential(1, (40, 600)) * rng.choice([-1, 1], (40, 600))  # heavy tails, as failures make them
    p_values = sign_flip_p_values(skewed, num_flips=999)
    assert 0.03 <= np.mean(p_values <= 0.05) <= 0.075
    assert np.mean(p_values <= 0.5) == pytest.approx(0.5, abs=0.06)


def test_no_flips_are_refused() -> None:
    with pytest.raises(SettingError, match="num_flips 0: must be at least 1"):
        sign_flip_p_values(np.ones((2, 1)), num_flips=0)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param([0.03], [0.03], id="one needs no correction"),
        pytest.param([None, 0.03], [None, 0.03], id="without a claim, not counted"),
        pytest.param([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], id="Holm's steps"),
        pytest.param([0.6, 0.5], [1.0, 1.0], id="cut at 1"),
    ],
)
def test_holm_as_worked_by_hand(p_values: list[float | None], expected: list[float | None]) -> None:
    assert holm(p_values) == [one if one is None else pytest.approx(one) for one in expected]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferronis(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, after in zip(p_values, adjusted, strict=True):
        assert after is not None
        assert p <= after <= min(1, p * len(p_values)) + 1e-12
    ranked = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)
