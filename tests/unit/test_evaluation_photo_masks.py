"""Run lengths of truth and prediction: the same figures as from bitmasks, whatever is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask import masks
from dermask.errors import InputError
from dermask.evaluation.isic_challenge import photo_figures
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks, area, challenge_figures, union
from dermask.records import Bitmask, Detections, ImageSize, Instance, Polygons, Sample

SIZE = ImageSize(9, 12)
BITMASKS = st.integers(0, 3).flatmap(lambda count: hnp.arrays(np.bool_, (count, *SIZE)))
SQUARE = Polygons((np.array([[2, 1], [8, 1], [8, 7], [2, 7]], np.float64),))
SQUARE_MASK = np.zeros(SIZE, np.bool_)
SQUARE_MASK[1:7, 2:8] = True


def predicted(bitmasks: np.ndarray, scores: np.ndarray) -> PredictedMasks:
    return PredictedMasks(
        masks=tuple(masks.bitmask_to_rle(bitmask) for bitmask in bitmasks),
        boxes=masks.mask_boxes(bitmasks),
        scores=scores.astype(np.float32),
        labels=np.ones(len(bitmasks), np.int64),
        size=SIZE,
    )


@given(truth=BITMASKS, pred=BITMASKS, ignored=st.none() | hnp.arrays(np.bool_, SIZE))
def test_figures_from_run_lengths_equal_those_from_bitmasks(
    truth: np.ndarray, pred: np.ndarray, ignored: np.ndarray | None
) -> None:
    scores = np.array([0.9, 0.5, 0.3])[: len(pred)]
    truths = TruthMasks.from_bitmasks(truth, np.ones(len(truth), np.int64), ignored=ignored)
    kept = np.ones(SIZE, np.bool_) if ignored is None else ~ignored
    truth_mask = truth.any(axis=0)
    for rule, pred_mask in (("primary", pred[:1].any(axis=0)), ("union", pred[:2].any(axis=0))):
        figures = challenge_figures(truths, predicted(pred, scores), rule=rule)  # type: ignore[arg-type]
        assert figures == photo_figures(truth_mask[kept], pred_mask[kept])


@given(BITMASKS)
def test_union_and_area_equal_those_of_bitmasks(bitmasks: np.ndarray) -> None:
    joined = union([masks.bitmask_to_rle(bitmask) for bitmask in bitmasks], SIZE)
    np.testing.assert_array_equal(masks.rle_to_bitmask(joined), bitmasks.any(axis=0))
    assert area(joined) == bitmasks.any(axis=0).sum()


@pytest.mark.parametrize(
    ("rule", "score_thresh", "expected"),
    [
        ("primary", 0.5, {1}),
        ("primary", 0.99, {1}),  # the best one, whatever its score
        ("union", 0.5, {1, 2}),
        ("union", 0.4, {1, 2, 3}),
        ("union", 0.99, set()),
    ],
)
def test_the_rule_decides_which_detections_make_the_mask(rule: str, score_thresh: float, expected: set[int]) -> None:
    bitmasks = np.zeros((3, *SIZE), np.bool_)
    for index in range(3):
        bitmasks[index, index + 1] = True
    merged = predicted(bitmasks, np.array([0.9, 0.5, 0.4])).merged(rule, score_thresh=score_thresh)  # type: ignore[arg-type]
    assert set(np.flatnonzero(masks.rle_to_bitmask(merged).any(axis=1))) == expected


@pytest.mark.parametrize("rule", ["primary", "union"])
def test_masks_of_detections_are_those_that_predict_writes(rule: str) -> None:
    rng = np.random.default_rng(3)
    detections = Detections(
        boxes=np.array([[1.3, 0.7, 9.1, 8.2], [0, 2, 12, 6.5]], np.float32),
        scores=np.array([0.8, 0.6], np.float32),
        labels=np.ones(2, np.int64),
        mask_probs=rng.random((2, 7, 7), np.float32),
        size=SIZE,
    )
    merged = PredictedMasks.from_detections(detections).merged(rule)  # type: ignore[arg-type]
    expected = masks.detections_bitmask(detections, rule)  # type: ignore[arg-type]
    assert expected.any()
    np.testing.assert_array_equal(masks.rle_to_bitmask(merged), expected)


def test_nothing_found_is_an_empty_mask() -> None:
    found = PredictedMasks.from_detections(Detections.empty(SIZE))
    assert len(found) == 0
    for rule in ("primary", "union"):
        assert area(found.merged(rule)) == 0


def test_truth_of_a_sample_takes_every_kind_of_outline_and_leaves_out_empty_ones() -> None:
    crowd = np.zeros(SIZE, np.bool_)
    crowd[8] = True
    outlines = [
        Instance(1, SQUARE),
        Instance(2, Bitmask(SQUARE_MASK.copy())),
        Instance(1, masks.bitmask_to_rle(SQUARE_MASK)),
        Instance(1, Bitmask(np.zeros(SIZE, np.bool_))),
        Instance(2, Bitmask(crowd), is_crowd=True),
    ]
    truth = TruthMasks.from_sample(Sample("a", Path("a.png"), SIZE, tuple(outlines)), SIZE)
    assert truth.labels.tolist() == [1, 2, 1, 2]
    assert truth.is_crowd.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(masks.rle_to_bitmask(truth.union()), SQUARE_MASK)
    ignored = truth.ignored()
    assert ignored is not None
    np.testing.assert_array_equal(ignored, crowd)


def test_an_ignored_region_is_ignored_for_every_class_of_the_photograph() -> None:
    bitmasks = np.stack([SQUARE_MASK, SQUARE_MASK])
    truth = TruthMasks.from_bitmasks(bitmasks, np.array([3, 1]), ignored=~SQUARE_MASK)
    assert truth.labels.tolist() == [3, 1, 1, 3]
    assert truth.is_crowd.tolist() == [False, False, True, True]


def test_a_prediction_of_another_size_is_refused() -> None:
    truth = TruthMasks.from_bitmasks(np.zeros((0, 12, 9), np.bool_), np.zeros(0, np.int64), image_id="ISIC_3")
    found = predicted(np.zeros((0, *SIZE), np.bool_), np.zeros(0))
    with pytest.raises(InputError, match="prediction for ISIC_3: is 12 x 9 pixels, the photograph 9 x 12"):
        challenge_figures(truth, found)
