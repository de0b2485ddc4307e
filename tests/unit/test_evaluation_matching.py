"""Matching: COCO's own loop written out gives the same, and the edges are as described."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.errors import InputError
from dermask.evaluation.matching import IOU_THRESHOLDS, PhotoMatches, match_overlaps, match_photo
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks
from dermask.masks import bitmask_to_rle, mask_boxes
from dermask.records import ImageSize

SIZE = ImageSize(30, 40)


def slow_match(iou: np.ndarray, is_crowd: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`COCOeval.evaluateImg` line by line, crowd regions last."""
    order = np.argsort(is_crowd, kind="stable")
    matched = np.zeros((len(thresholds), len(iou)), np.bool_)
    ignored = np.zeros_like(matched)
    for t, threshold in enumerate(thresholds):
        taken = np.zeros(iou.shape[1], np.bool_)
        for d in range(len(iou)):
            best, match = min(threshold, 1 - 1e-10), -1
            for g in order:
                if taken[g] and not is_crowd[g]:
                    continue
                if match > -1 and not is_crowd[match] and is_crowd[g]:
                    break
                if iou[d, g] < best:
                    continue
                best, match = iou[d, g], int(g)
            if match > -1:
                taken[match] = True
                matched[t, d], ignored[t, d] = not is_crowd[match], is_crowd[match]
    return matched, ignored


@settings(max_examples=300, deadline=None)
@given(detections=st.integers(0, 5), labels=st.integers(0, 5), steps=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_matches_are_those_of_the_loop_of_coco(detections: int, labels: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    iou = rng.integers(0, steps + 1, (detections, labels)) / steps  # coarse, so that overlaps tie, and reach 1
    is_crowd = rng.random(labels) < 0.3
    thresholds = np.append(IOU_THRESHOLDS, 1.0)
    for found, expected in zip(
        match_overlaps(iou, is_crowd, thresholds), slow_match(iou, is_crowd, thresholds), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=100, deadline=None)
@given(detections=st.integers(1, 6), labels=st.integers(0, 4), seed=st.integers(0, 2**32 - 1))
def test_a_match_depends_on_no_detection_of_a_lower_score(detections: int, labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    iou, is_crowd = rng.random((detections, labels)), rng.random(labels) < 0.3
    whole, first = (match_overlaps(part, is_crowd, IOU_THRESHOLDS) for part in (iou, iou[:-1]))
    for of_all, of_first in zip(whole, first, strict=True):
        np.testing.assert_array_equal(of_all[:, :-1], of_first)
        assert not (whole[0] & whole[1]).any()


def rectangle(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


LESION = rectangle(4, 4, 10, 10)
LOOSE = rectangle(4, 4, 10, 14)  # IoU 10 / 14 with the lesion
ELSEWHERE = rectangle(20, 25, 6, 10)
NOTHING = rectangle(0, 0, 0, 0)


def match(
    truth_masks: list[np.ndarray],
    found: list[tuple[np.ndarray, float]],
    *,
    truth_labels: list[int] | None = None,
    found_labels: list[int] | None = None,
    is_crowd: list[bool] | None = None,
    **options: object,
) -> PhotoMatches:
    truth = TruthMasks(
        masks=tuple(bitmask_to_rle(mask) for mask in truth_masks),
        labels=np.array(truth_labels or [1] * len(truth_masks), np.int64),
        is_crowd=np.array(is_crowd or [False] * len(truth_masks), np.bool_),
        size=SIZE,
    )
    bitmasks = np.stack([mask for mask, _ in found]) if found else np.zeros((0, *SIZE), np.bool_)
    prediction = PredictedMasks(
        masks=tuple(bitmask_to_rle(mask) for mask in bitmasks),
        boxes=mask_boxes(bitmasks),
        scores=np.array([score for _, score in found], np.float32),
        labels=np.array(found_labels or [1] * len(found), np.int64),
        size=SIZE,
    )
    return match_photo(truth, prediction, **{"num_classes": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("truth_masks", "found", "matched_at_half"),
    [
        pytest.param([], [], [], id="nothing to find, nothing found"),
        pytest.param([], [(LESION, 0.9)], [False], id="nothing to find, something found"),
        pytest.param([LESION], [], [], id="nothing found"),
        pytest.param([LESION], [(LESION, 0.9)], [True], id="found"),
        pytest.param([LESION], [(LOOSE, 0.9), (LESION, 0.8)], [True, False], id="found twice, the better one later"),
        pytest.param([LESION], [(ELSEWHERE, 0.9), (LESION, 0.8)], [False, True], id="found after a mistake"),
        pytest.param([LESION], [(NOTHING, 0.9)], [False], id="an empty mask found"),
        pytest.param([LESION, ELSEWHERE], [(ELSEWHERE, 0.9), (LESION, 0.9)], [True, True], id="two of equal scores"),
    ],
)
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_what_is_found(
    kind: str, truth_masks: list[np.ndarray], found: list[tuple[np.ndarray, float]], matched_at_half: list[bool]
) -> None:
    matches = match(truth_masks, found, kind=kind)
    assert matches.matched[0].tolist() == matched_at_half
    assert matches.matched.shape == matches.ignored.shape == (10, len(found))
    assert not matches.ignored.any()
    assert matches.num_truths.tolist() == [len(truth_masks), 0]
    assert matches.scores.tolist() == [float(np.float32(score)) for _, score in found]


def test_a_loose_outline_counts_up_to_its_overlap() -> None:
    matches = match([LESION], [(LOOSE, 0.9)])
    assert matches.best_iou.tolist() == [pytest.approx(10 / 14)]
    np.testing.assert_array_equal(matches.matched[:, 0], IOU_THRESHOLDS <= 10 / 14)


def test_at_a_strict_overlap_the_label_is_left_to_the_better_outline() -> None:
    matches = match([LESION], [(LOOSE, 0.9), (LESION, 0.8)])
    assert matches.matched[:, 0].tolist() == [True] * 5 + [False] * 5
    assert matches.matched[:, 1].tolist() == [False] * 5 + [True] * 5
    assert matches.best_iou.tolist() == [pytest.approx(10 / 14), 1.0]  # taken or not


def test_a_detection_finds_only_its_own_class() -> None:
    matches = match([LESION], [(LESION, 0.9), (LESION, 0.8)], truth_labels=[2], found_labels=[1, 2])
    assert matches.matched[0].tolist() == [False, True]
    assert matches.best_iou.tolist() == [0.0, 1.0]
    assert matches.labels.tolist() == [1, 2]
    assert matches.num_truths.tolist() == [0, 1]


def test_what_lies_in_a_crowd_region_is_ignored_however_often() -> None:
    inside = rectangle(21, 26, 3, 4)
    found = [(inside, 0.9), (ELSEWHERE, 0.8), (LESION, 0.7)]
    matches = match([ELSEWHERE, LESION], found, is_crowd=[True, False])
    assert matches.ignored.all(axis=0).tolist() == [True, True, False]
    assert matches.matched.all(axis=0).tolist() == [False, False, True]
    assert matches.num_truths.tolist() == [1, 0]
    assert matches.best_iou.tolist() == [0.0, 0.0, 1.0]  # a crowd region is nothing to find


def test_a_label_goes_before_a_crowd_region_that_overlaps_more() -> None:
    matches = match([rectangle(0, 0, 30, 40), LESION], [(LOOSE, 0.9)], is_crowd=[True, False])
    assert matches.matched[:, 0].tolist() == [True] * 5 + [False] * 5
    assert matches.ignored[:, 0].tolist() == [False] * 5 + [True] * 5


def test_detections_are_ranked_equals_as_they_came() -> None:
    matches = match([LESION], [(ELSEWHERE, 0.3), (NOTHING, 0.8), (LESION, 0.8), (LOOSE, 0.9)])
    assert matches.scores == pytest.approx([0.9, 0.8, 0.8, 0.3])
    assert matches.best_iou == pytest.approx([10 / 14, 0, 1, 0])


def test_the_best_of_each_class_count() -> None:
    found = [(LESION, 0.9), (LESION, 0.8), (ELSEWHERE, 0.7), (ELSEWHERE, 0.6)]
    matches = match([LESION], found, found_labels=[1, 1, 2, 2], max_detections=1)
    assert matches.scores == pytest.approx([0.9, 0.7])
    assert matches.labels.tolist() == [1, 2]


def test_a_class_beyond_those_asked_for_does_not_count() -> None:
    matches = match([LESION, LESION], [(LESION, 0.9)], truth_labels=[1, 2], found_labels=[2], num_classes=1)
    assert len(matches.scores) == 0
    assert matches.num_truths.tolist() == [1]


def test_boxes_overlap_where_masks_do_not() -> None:
    frame = rectangle(4, 4, 10, 10)
    frame[5:13, 5:13] = False
    assert match([LESION], [(frame, 0.9)], kind="box").best_iou.tolist() == [1.0]
    assert match([LESION], [(frame, 0.9)], kind="mask").best_iou.tolist() == [pytest.approx(0.36)]


def test_other_thresholds_may_be_asked_for() -> None:
    matches = match([LESION], [(LOOSE, 0.9)], iou_thresholds=np.array([0.1, 1.0]))
    assert matches.matched.tolist() == [[True], [False]]
    assert matches.iou_thresholds.tolist() == [0.1, 1.0]


def test_a_prediction_for_another_photograph_is_refused() -> None:
    truth = TruthMasks.from_bitmasks(LESION[None], np.array([1]), image_id="ISIC_7")
    turned = PredictedMasks((), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64),
                            ImageSize(40, 30))  # fmt: skip
    with pytest.raises(InputError, match="prediction for ISIC_7: is 30 x 40 pixels, the photograph 40 x 30"):
        match_photo(truth, turned, num_classes=1)


def test_thresholds_are_those_of_coco_and_cannot_be_changed() -> None:
    assert [math.isclose(step, 0.05) for step in np.diff(IOU_THRESHOLDS)] == [True] * 9
    with pytest.raises(ValueError, match="read-only"):
        IOU_THRESHOLDS[0] = 0
