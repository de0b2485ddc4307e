"""The ISIC challenge's figures: cases worked out by hand, laws, and the obvious slow version."""

from __future__ import annotations

from dataclasses import astuple, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask.errors import InputError
from dermask.evaluation.isic_challenge import (
    JACCARD_THRESH,
    PhotoFigures,
    PixelCounts,
    count_pixels,
    figures_from_counts,
    mean_figures,
    photo_figures,
    pooled_figures,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape)))


def strip(*pixels: int) -> np.ndarray:
    return np.array([pixels], np.bool_)


# jaccard, thresholded, dice, sensitivity, specificity, accuracy
@pytest.mark.parametrize(
    ("truth", "pred", "expected"),
    [
        pytest.param(strip(0, 0), strip(0, 0), (1, 1, 1, 1, 1, 1), id="nothing to find, nothing found"),
        pytest.param(strip(0, 0), strip(1, 0), (0, 0, 0, 1, 1 / 2, 1 / 2), id="nothing to find, something found"),
        pytest.param(strip(1, 0), strip(0, 0), (0, 0, 0, 0, 1, 1 / 2), id="missed"),
        pytest.param(strip(1, 1), strip(1, 1), (1, 1, 1, 1, 1, 1), id="no background"),
        pytest.param(strip(1, 1), strip(1, 0), (1 / 2, 0, 2 / 3, 1 / 2, 1, 1 / 2), id="no background, half found"),
        pytest.param(
            strip(1, 1, 1, 0), strip(1, 1, 0, 0), (2 / 3, 2 / 3, 4 / 5, 2 / 3, 1, 3 / 4), id="above threshold"
        ),
        pytest.param(
            strip(1, 1, 0, 0), strip(0, 1, 1, 0), (1 / 3, 0, 1 / 2, 1 / 2, 1 / 2, 1 / 2), id="below threshold"
        ),
    ],
)
def test_figures_of_a_photograph(truth: np.ndarray, pred: np.ndarray, expected: tuple[float, ...]) -> None:
    assert astuple(photo_figures(truth, pred)) == pytest.approx(expected, abs=1e-12)


def test_a_jaccard_of_exactly_the_threshold_counts() -> None:
    truth = np.arange(100)[None] < 100
    figures = photo_figures(truth, np.arange(100)[None] < 65)
    assert figures.jaccard == JACCARD_THRESH
    assert figures.thresholded_jaccard == JACCARD_THRESH


@given(PAIRS)
def test_figures_equal_the_slow_version(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, pred = pair
    tp = fp = fn = tn = 0
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            match bool(truth[row, column]), bool(pred[row, column]):
                case True, True:
                    tp += 1
                case False, True:
                    fp += 1
                case True, False:
                    fn += 1
                case _:
                    tn += 1
    figures = photo_figures(truth, pred)
    assert figures.jaccard == (tp / (tp + fp + fn) if tp + fp + fn else 1)
    assert figures.dice == (2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1)
    assert figures.sensitivity == (tp / (tp + fn) if tp + fn else 1)
    assert figures.specificity == (tn / (tn + fp) if tn + fp else 1)
    assert figures.accuracy == (tp + tn) / truth.size


@given(PAIRS)
def test_figures_stay_in_their_range_and_dice_follows_jaccard(pair: tuple[np.ndarray, np.ndarray]) -> None:
    figures = photo_figures(*pair)
    assert all(0 <= value <= 1 for value in astuple(figures))
    assert figures.dice == pytest.approx(2 * figures.jaccard / (1 + figures.jaccard), abs=1e-12)
    assert figures.thresholded_jaccard in (0, figures.jaccard)


@given(PAIRS)
def test_overlap_does_not_depend_on_which_is_the_truth(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, pred = pair
    one, other = photo_figures(truth, pred), photo_figures(pred, truth)
    assert (one.jaccard, one.dice, one.accuracy) == (other.jaccard, other.dice, other.accuracy)


@given(PAIRS)
def test_inverting_both_swaps_sensitivity_and_specificity(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, pred = pair
    one, other = photo_figures(truth, pred), photo_figures(~truth, ~pred)
    assert (one.sensitivity, one.specificity, one.accuracy) == (other.specificity, other.sensitivity, other.accuracy)


def test_the_mean_is_plain_over_photographs() -> None:
    photos = [PhotoFigures(*([0.5] * 6)), PhotoFigures(*([1.0] * 6)), PhotoFigures(*([0.0] * 6))]
    assert astuple(mean_figures(photos)) == (0.5,) * 6
    assert [field.name for field in fields(PhotoFigures)][:2] == ["jaccard", "thresholded_jaccard"]


def test_a_mean_of_no_photographs_is_refused() -> None:
    with pytest.raises(InputError, match="no photographs to take the mean of"):
        mean_figures([])


def test_pooling_no_photographs_is_refused() -> None:
    with pytest.raises(InputError, match="no photographs to pool"):
        pooled_figures([])


def test_pooled_a_large_lesion_hides_missed_small_ones() -> None:
    large, missed = PixelCounts(9900, 0, 0, 100), PixelCounts(0, 0, 50, 9950)
    pooled = pooled_figures([large, missed, missed])
    assert pooled.jaccard == 9900 / 10_000
    assert pooled.dice == 19_800 / 19_900
    assert pooled.specificity == 1
    assert mean_figures([figures_from_counts(counts) for counts in (large, missed, missed)]).jaccard == 1 / 3


@settings(deadline=None, max_examples=50)
@given(st.lists(PAIRS, min_size=1, max_size=4))
def test_pooled_figures_are_those_of_one_photograph_with_all_the_pixels(pairs: list[tuple[np.ndarray, ...]]) -> None:
    pooled = pooled_figures([count_pixels(truth, pred) for truth, pred in pairs])
    truths, preds = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    assert pooled == photo_figures(truths, preds)


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.integers(1, 5))
def test_pooling_one_photograph_or_copies_of_it_changes_nothing(
    pair: tuple[np.ndarray, np.ndarray], copies: int
) -> None:
    pooled = pooled_figures([count_pixels(*pair)] * copies)
    assert astuple(pooled) == pytest.approx(astuple(photo_figures(*pair)), abs=1e-12)


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"has shape \(3, 4\), its truth \(4, 3\)"):
        photo_figures(np.zeros((4, 3), np.bool_), np.zeros((3, 4), np.bool_))
