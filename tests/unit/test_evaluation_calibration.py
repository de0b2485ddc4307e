"""Calibration: tables worked out by hand, laws, and the obvious slow version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask import masks
from dermask.errors import InputError
from dermask.evaluation import calibration
from dermask.evaluation.calibration import (
    NUM_BINS,
    Reliability,
    brier_score,
    expected_calibration_error,
    pixel_sums,
    score_reliability,
    score_sums,
)
from dermask.evaluation.photo_masks import TruthMasks
from dermask.records import Detections, ImageSize

NOTHING = np.zeros((NUM_BINS, 4))
SIZE = ImageSize(14, 11)
JUDGED = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=30)
SOME_JUDGED = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30)
QUICK = settings(max_examples=60, deadline=None)


def split(judged: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, correct = [score for score, _ in judged], [right for _, right in judged]
    return np.array(scores, np.float32), np.array(correct, np.bool_)


def found(box: tuple[float, ...], probs: np.ndarray, size: ImageSize = SIZE) -> Detections:
    """One good detection, and a worse one of everything that must not matter."""
    return Detections(
        boxes=np.array([box, (0, 0, size.width, size.height)], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        labels=np.ones(2, np.int64),
        mask_probs=np.stack([probs, np.ones_like(probs)]).astype(np.float32),
        size=size,
    )


def labelled(*bitmasks: np.ndarray, ignored: np.ndarray | None = None, size: ImageSize = SIZE) -> TruthMasks:
    stacked = np.array(bitmasks, np.bool_).reshape(-1, *size)
    return TruthMasks.from_bitmasks(stacked, np.ones(len(stacked), np.int64), ignored=ignored, image_id="ISIC_7")


# scores, correct, bins with members as {bin: (count, mean predicted, share correct)}, ECE, MCE, Brier score
@pytest.mark.parametrize(
    ("scores", "correct", "bins", "errors"),
    [
        pytest.param([], [], {}, (np.nan, np.nan, np.nan), id="nothing predicted"),
        pytest.param([1.0], [1], {9: (1, 1, 1)}, (0, 0, 0), id="sure and right"),
        pytest.param([1.0], [0], {9: (1, 1, 0)}, (1, 1, 1), id="sure and wrong"),
        pytest.param([0.0, 0.0], [0, 0], {0: (2, 0, 0)}, (0, 0, 0), id="no chance, and none came true"),
        pytest.param([0.5, 0.5], [0, 1], {5: (2, 0.5, 0.5)}, (0, 0, 0.25), id="half and half, on an edge"),
        pytest.param(
            [0.95, 0.85, 0.85, 0.25],
            [1, 1, 0, 0],
            {2: (1, 0.25, 0), 8: (2, 0.85, 0.5), 9: (1, 0.95, 1)},
            ((0.25 + 0.7 + 0.05) / 4, 0.35, (0.0625 + 0.0225 + 0.7225 + 0.0025) / 4),
            id="three bins",
        ),
    ],
)
def test_reliability_of_scores(
    scores: list[float],
    correct: list[int],
    bins: dict[int, tuple[float, float, float]],
    errors: tuple[float, float, float],
) -> None:
    reliability = score_reliability(np.array(scores, np.float32), np.array(correct, np.bool_))
    expected = np.full((NUM_BINS, 3), [0, np.nan, np.nan])
    for index, row in bins.items():
        expected[index] = row
    tables = (reliability.counts, reliability.mean_predicted, reliability.share_correct)
    np.testing.assert_allclose(np.stack(tables, axis=1), expected, atol=1e-7)  # scores are float32
    figures = (
        reliability.expected_calibration_error,
        reliability.maximum_calibration_error,
        reliability.brier_score,
    )
    np.testing.assert_allclose(figures, errors, atol=1e-7)
    np.testing.assert_array_equal(reliability.edges, np.linspace(0, 1, NUM_BINS + 1).round(1))


def test_a_bin_has_its_lower_edge_and_the_last_one_both() -> None:
    edges = np.arange(5, dtype=np.float32) / 4
    counts = score_sums(edges, np.ones(5, np.bool_), num_bins=4)[:, 0]
    assert counts.tolist() == [1, 1, 1, 2]


def test_a_saved_score_on_an_edge_starts_its_bin() -> None:
    tenths = np.array([tenth / 10 for tenth in range(11)], np.float32)  # 0.7 and 0.9 are then a little less
    assert score_sums(tenths, np.ones(11, np.bool_))[:, 0].tolist() == [1] * 9 + [2]
    below = np.nextafter(tenths[1:], np.float32(0))
    assert score_sums(below, np.ones(10, np.bool_))[:, 0].tolist() == [1] * 10


def test_the_brier_score_of_many_sums_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    sums = np.stack([score_sums(rng.random(9, np.float32), rng.random(9) < 0.5) for _ in range(3)])
    assert brier_score(sums).tolist() == [Reliability.from_sums(one).brier_score for one in sums]
    assert np.isnan(brier_score(np.zeros((10, 4))))


@QUICK
@given(st.floats(0, 1, width=32), st.integers(1, 20))
def test_every_score_lies_between_the_edges_of_its_bin(score: float, num_bins: int) -> None:
    reliability = score_reliability(np.array([score], np.float32), np.ones(1, np.bool_), num_bins=num_bins)
    index = int(np.flatnonzero(reliability.counts)[0])
    edges = reliability.edges.astype(np.float32)  # as scores are
    assert edges[index] <= score
    assert score < edges[index + 1] or (index == num_bins - 1 and score == 1)


def test_scores_that_come_true_as_often_as_they_say_are_calibrated_and_overstated_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(50_000, np.float32)
    calibrated = score_reliability(scores, rng.random(50_000) < scores)
    # The error of the mean of 5,000 draws is below 0.0071 in each bin.
    assert calibrated.expected_calibration_error < 0.01
    assert calibrated.brier_score == pytest.approx(1 / 6, abs=0.005)  # the integral of p (1 - p)
    overstated = score_reliability(scores, rng.random(50_000) < scores**2)
    assert overstated.expected_calibration_error == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


@QUICK
@given(JUDGED)
def test_errors_stay_in_their_range(judged: list[tuple[float, bool]]) -> None:
    reliability = score_reliability(*split(judged))
    errors = (reliability.expected_calibration_error, reliability.maximum_calibration_error, reliability.brier_score)
    if not judged:
        assert np.isnan(errors).all()
        return
    assert all(0 <= error <= 1 + 1e-12 for error in errors)
    assert errors[0] <= errors[1] + 1e-12
    assert reliability.counts.sum() == len(judged)


@QUICK
@given(JUDGED, JUDGED)
def test_sums_of_photographs_add_up(one: list[tuple[float, bool]], other: list[tuple[float, bool]]) -> None:
    added = score_sums(*split(one)) + score_sums(*split(other))
    np.testing.assert_allclose(score_sums(*split(one + other)), added, atol=1e-12)


@QUICK
@given(SOME_JUDGED, st.data())
def test_a_weight_is_how_often_a_detection_counts(judged: list[tuple[float, bool]], data: st.DataObject) -> None:
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(judged), max_size=len(judged)))
    repeated = [entry for entry, count in zip(judged, times, strict=True) for _ in range(count)]
    weighted = score_reliability(*split(judged), weights=np.array(times, np.float64))
    plain = score_reliability(*split(repeated))
    np.testing.assert_allclose(weighted.counts, plain.counts, atol=1e-12)
    np.testing.assert_allclose(weighted.share_correct, plain.share_correct, atol=1e-12)
    np.testing.assert_allclose(weighted.brier_score, plain.brier_score, atol=1e-12)
    np.testing.assert_allclose(weighted.expected_calibration_error, plain.expected_calibration_error, atol=1e-12)


@QUICK
@given(st.lists(JUDGED, min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_errors_of_many_resamplings_equal_each_one_alone(photos: list[list[tuple[float, bool]]], seed: int) -> None:
    sums = np.stack([score_sums(*split(judged)) for judged in photos])  # (N, B, 4)
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(photos))).astype(np.float64)
    together = expected_calibration_error(np.tensordot(weights, sums, axes=1))
    alone = [
        Reliability.from_sums(sum(w * s for w, s in zip(row, sums, strict=True))).expected_calibration_error  # type: ignore[arg-type]
        for row in weights
    ]
    np.testing.assert_allclose(together, alone, atol=1e-12)
    np.testing.assert_array_equal(expected_calibration_error(sums[..., :3]), expected_calibration_error(sums))


@pytest.mark.parametrize("lesions", [0, 1])
def test_a_photograph_with_nothing_found_has_no_pixels_to_judge(lesions: int) -> None:
    truth = labelled(*np.ones((lesions, *SIZE), np.bool_))
    np.testing.assert_array_equal(pixel_sums(Detections.empty(SIZE), truth), NOTHING)


def test_pixels_of_the_box_count_and_without_a_lesion_all_are_wrong() -> None:
    sums = pixel_sums(found((2, 3, 6, 11), np.full((4, 4), 0.75)), labelled())
    assert sums[:, 0].sum() == 4 * 8
    assert sums[:, 2].sum() == 0
    # Cells lie one pixel apart across and two down, and towards the edge of the box the mask fades to 0.75 x 0.75.
    assert sums[7, 0] == 4 * 6
    assert sums[5, 0] == 4 * 2


def test_a_box_without_a_pixel_centre_has_no_pixels() -> None:
    for box in ((2.6, 3, 3.4, 9), (2, 3.6, 9, 4.4), (2, 3, 2, 9)):
        np.testing.assert_array_equal(pixel_sums(found(box, np.ones((4, 4))), labelled()), NOTHING)


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.booleans())
def test_pixel_sums_equal_the_slow_version(seed: int, num_lesions: int, has_ignored: bool) -> None:
    rng = np.random.default_rng(seed)  # drawn evenly: a probability on an edge falls to either side by its last digit
    box = (*rng.uniform(0, 6, 2), *rng.uniform(5, 12, 2))
    probs, lesions = rng.random((3, 3)), rng.random((num_lesions, *SIZE)) < 0.3
    ignored = rng.random(SIZE) < 0.3 if has_ignored else None
    detections = found(box, probs)
    pasted = masks.paste_masks(detections.boxes, detections.mask_probs, SIZE, threshold=None)[0]
    expected = np.zeros((NUM_BINS, 4))
    x1, y1, x2, y2 = detections.boxes[0].tolist()
    for row in range(SIZE.height):
        for column in range(SIZE.width):
            if not (x1 <= column + 0.5 < x2 and y1 <= row + 0.5 < y2) or (ignored is not None and ignored[row, column]):
                continue
            prob, is_lesion = float(pasted[row, column]), any(lesion[row, column] for lesion in lesions)
            expected[min(int(prob * NUM_BINS), NUM_BINS - 1)] += 1, prob, is_lesion, (prob - is_lesion) ** 2
    sums = pixel_sums(detections, labelled(*lesions, ignored=ignored))
    np.testing.assert_allclose(sums, expected, atol=1e-9)


@pytest.mark.parametrize("strip", [1, 40, 1000, 1 << 20])
def test_pixel_sums_do_not_depend_on_the_strips_they_are_made_in(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size = ImageSize(90, 120)
    rng = np.random.default_rng(1)
    detections = found((13.3, 7.7, 101.2, 83.9), rng.random((28, 28)), size)
    lesion, crowd = rng.random((2, *size)) < 0.3
    truth = labelled(lesion, ignored=crowd, size=size)
    whole = pixel_sums(detections, truth)
    assert whole[:, 0].min() > 0
    monkeypatch.setattr(calibration, "_STRIP", strip)
    np.testing.assert_allclose(pixel_sums(detections, truth), whole, rtol=1e-6)


def test_a_prediction_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="prediction for ISIC_7: is 12 x 9 pixels, the photograph 11 x 14"):
        pixel_sums(Detections.empty(ImageSize(9, 12)), labelled())
