"""Finding lesions over a data set: equal to COCO's evaluator, to counting by hand, and defined at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from evaluation_scenes import random_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.errors import InputError
from dermask.evaluation.coco_ap import AveragePrecision, coco_ap
from dermask.evaluation.detection import Curve, OperatingPoint, Precision, RankedMatches, detection_figures
from dermask.evaluation.matching import PhotoMatches, match_photo
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks

HALF = np.array([0.5])


def photo(
    scores: list[float] | np.ndarray,
    matched: Any,
    *,
    lesions: int = 1,
    ignored: Any = None,
    thresholds: np.ndarray = HALF,
) -> PhotoMatches:
    """A photograph with one class, matched alike at all thresholds."""
    fate = np.array([matched, [False] * len(scores) if ignored is None else ignored], np.bool_).reshape(2, 1, -1)
    return PhotoMatches(
        scores=np.array(scores, np.float64),
        labels=np.ones(len(scores), np.int64),
        matched=np.repeat(fate[0], len(thresholds), axis=0),
        ignored=np.repeat(fate[1], len(thresholds), axis=0),
        num_truths=np.array([lesions]),
        best_iou=np.array(matched, np.float64),
        iou_thresholds=thresholds,
    )


def random_photos(rng: np.random.Generator, count: int, *, steps: int = 10) -> list[PhotoMatches]:
    """Few detections with scores that tie, some of them right, some ignored."""
    photos = []
    for _ in range(count):
        detections, lesions = int(rng.integers(0, 5)), int(rng.integers(0, 3))
        matched = np.zeros(detections, np.bool_)
        matched[rng.permutation(detections)[:lesions]] = True
        ignored = ~matched & (rng.random(detections) < 0.2)
        scores = -np.sort(-rng.integers(1, steps + 1, detections) / steps)
        photos.append(photo(scores, matched, lesions=lesions, ignored=ignored))
    return photos


def first_four(figures: AveragePrecision) -> tuple[float, ...]:
    return (figures.ap, figures.ap50, figures.ap75, figures.ar)


class TestAveragePrecision:
    @pytest.mark.parametrize(("seed", "max_detections"), [(0, 100), (1, 100), (2, 1), (3, 2)])
    def test_equals_the_evaluator_of_coco(self, seed: int, max_detections: int) -> None:
        """Scenes with crowd regions, two classes, equal scores, nothing to find and nothing found."""
        rng = np.random.default_rng(seed)
        scenes = [random_scene(rng) for _ in range(60)]
        truths, predictions = [truth for truth, _ in scenes], [found for _, found in scenes]
        expected = coco_ap(truths, predictions, num_classes=3, max_detections=max_detections)
        assert any(truth.is_crowd.any() for truth in truths)
        assert 0.05 < expected.mask.ap < 0.95
        for kind, figures in (("box", expected.box), ("mask", expected.mask)):
            ranked = RankedMatches.from_photos(
                [
                    match_photo(*scene, kind=kind, num_classes=3, max_detections=max_detections)  # type: ignore[arg-type]
                    for scene in scenes
                ]
            )
            assert ranked.average_precision() == pytest.approx(first_four(figures), abs=1e-12)
            assert ranked.average_precision(np.ones(60)) == ranked.average_precision()

    @pytest.mark.parametrize("seed", range(4))
    def test_a_weight_is_how_often_a_photograph_counts(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        scenes = [without_ties(*random_scene(rng)) for _ in range(30)]
        weights = np.bincount(rng.integers(0, 30, 30), minlength=30).astype(np.float64)
        drawn = [scene for scene, weight in zip(scenes, weights, strict=True) for _ in range(int(weight))]
        expected = coco_ap([truth for truth, _ in drawn], [found for _, found in drawn], num_classes=2).mask
        ranked = RankedMatches.from_photos([match_photo(*scene, num_classes=2) for scene in scenes])
        assert ranked.average_precision(weights) == pytest.approx(first_four(expected), abs=1e-12)
        assert weights.max() > 1
        assert weights.min() == 0

    def test_a_class_whose_photographs_all_weigh_nothing_leaves_the_mean_to_the_others(self) -> None:
        first, second = photo([0.9], [True]), photo([0.9], [False])
        both = [
            PhotoMatches(
                found.scores, found.labels + label - 1, found.matched, found.ignored,
                np.eye(2, dtype=np.int64)[label - 1], found.best_iou, HALF,
            )
            for label, found in ((1, first), (2, second))
        ]  # fmt: skip
        ranked = RankedMatches.from_photos(both)
        assert ranked.average_precision().ap == 0.5
        assert ranked.average_precision(np.array([1.0, 0.0])).ap == 1.0
        assert ranked.average_precision(np.array([0.0, 3.0])).ap == 0.0
        assert math.isnan(ranked.average_precision(np.zeros(2)).ap)

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            pytest.param(photo([], [], lesions=0), math.nan, id="nothing to find, nothing found"),
            pytest.param(photo([0.9], [False], lesions=0), math.nan, id="nothing to find, something found"),
            pytest.param(photo([], []), 0.0, id="nothing found"),
            pytest.param(photo([0.9], [True]), 1.0, id="found"),
            pytest.param(photo([0.9, 0.8], [False, True]), 0.5, id="found after a mistake"),
            pytest.param(
                photo([0.9, 0.8], [False, True], ignored=[True, False]), 1.0, id="found after what is ignored"
            ),
            pytest.param(photo([0.9], [True], lesions=2), 51 / 101, id="one of two"),
        ],
    )
    def test_at_the_edges(self, found: PhotoMatches, expected: float) -> None:
        figures = RankedMatches.from_photos([found]).average_precision()
        assert (figures.ap, figures.ap50) == pytest.approx((expected, expected), nan_ok=True)
        assert math.isnan(figures.ap75)  # was not matched at 0.75

    def test_figures_that_are_not_defined_compare_equal(self) -> None:
        ranked = RankedMatches.from_photos([photo([], [], lesions=0)])
        assert ranked.average_precision() == ranked.average_precision() == Precision(*[math.nan] * 4)


def without_ties(truth: TruthMasks, found: PredictedMasks) -> tuple[TruthMasks, PredictedMasks]:
    """A photograph that is drawn twice has its detections one by one twice, COCO's list all of them and then again."""
    distinct = found.scores - np.arange(len(found), dtype=np.float32) * np.float32(1e-3)
    return truth, PredictedMasks(found.masks, found.boxes, distinct, found.labels, found.size)


def slow_point(photos: list[PhotoMatches], weights: np.ndarray, threshold: float) -> dict[str, float]:
    found = wrong = total = with_alarm = 0
    for matches, weight in zip(photos, weights, strict=True):
        alarms = 0
        for score, matched, ignored in zip(matches.scores, matches.matched[0], matches.ignored[0], strict=True):
            if np.float32(score) >= np.float32(threshold):
                found += weight * matched
                alarms += not matched and not ignored
        wrong += weight * alarms
        with_alarm += weight * (alarms > 0)
        total += weight * matches.num_truths.sum()
    return {
        "precision": found / (found + wrong) if found + wrong else math.nan,
        "recall": found / total if total else math.nan,
        "f1": 2 * found / (found + wrong + total) if found + wrong + total else math.nan,
        "found": found,
        "missed": total - found,
        "false_alarms": wrong,
        "false_alarms_per_photo": wrong / weights.sum() if weights.sum() else math.nan,
        "photos_with_false_alarm": with_alarm,
    }


many_photos = st.tuples(st.integers(1, 8), st.integers(0, 2**32 - 1))


class TestOperatingPoint:
    @settings(max_examples=100, deadline=None)
    @given(many=many_photos, threshold=st.integers(0, 11), weighted=st.booleans())
    def test_counts_are_those_of_counting_one_by_one(
        self, many: tuple[int, int], threshold: int, weighted: bool
    ) -> None:
        count, seed = many
        rng = np.random.default_rng(seed)
        photos = random_photos(rng, count)
        weights = rng.integers(0, 3, count).astype(np.float64) if weighted else None
        point = RankedMatches.from_photos(photos).operating_point(threshold / 10, weights=weights)
        expected = slow_point(photos, np.ones(count) if weights is None else weights, threshold / 10)
        assert {name: getattr(point, name) for name in expected} == pytest.approx(expected, nan_ok=True)
        assert (point.score_thresh, point.iou_thresh) == (threshold / 10, 0.5)
        assert isinstance(point.found, int)

    def test_a_threshold_keeps_the_scores_that_equal_it_as_the_detector_gives_them(self) -> None:
        in_float32 = float(np.float32(0.9))  # below 0.9
        assert RankedMatches.from_photos([photo([in_float32], [True])]).operating_point(0.9).found == 1
        assert RankedMatches.from_photos([photo([0.1], [True])]).operating_point(0.1).found == 1

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            pytest.param(photo([], [], lesions=0), (math.nan, math.nan, math.nan), id="nothing to find, nothing found"),
            pytest.param(photo([0.9], [False], lesions=0), (0.0, math.nan, 0.0), id="nothing to find, something found"),
            pytest.param(photo([], []), (math.nan, 0.0, 0.0), id="nothing found"),
            pytest.param(photo([0.9], [True]), (1.0, 1.0, 1.0), id="found"),
            pytest.param(photo([0.9, 0.8], [True, False]), (0.5, 1.0, 2 / 3), id="found, and a mistake"),
            pytest.param(photo([0.4], [True]), (math.nan, 0.0, 0.0), id="found below the threshold"),
            pytest.param(photo([0.9], [False], ignored=[True]), (math.nan, 0.0, 0.0), id="found in a crowd region"),
        ],
    )
    def test_at_the_edges(self, found: PhotoMatches, expected: tuple[float, ...]) -> None:
        point = RankedMatches.from_photos([found]).operating_point(0.5)
        assert (point.precision, point.recall, point.f1) == pytest.approx(expected, nan_ok=True)

    def test_each_overlap_has_its_own_counts(self) -> None:
        found = photo([0.9], [True], thresholds=np.array([0.5, 0.75]))
        found.matched[1] = False
        ranked = RankedMatches.from_photos([found])
        assert ranked.operating_point(0.5).found == 1
        assert ranked.operating_point(0.5, iou_thresh=0.75).found == 0
        assert detection_figures(ranked, 0.5, iou_thresh=0.75).chosen.found == 0


class TestBestThreshold:
    @settings(max_examples=100, deadline=None)
    @given(many=many_photos)
    def test_no_threshold_has_a_higher_f1(self, many: tuple[int, int]) -> None:
        count, seed = many
        photos = random_photos(np.random.default_rng(seed), count)
        ranked = RankedMatches.from_photos(photos)
        best = ranked.best_threshold()
        every = [ranked.operating_point(step / 20) for step in range(22)]
        highest = max((point.f1 for point in every if not math.isnan(point.f1)), default=math.nan)
        if not any(point.found for point in every):
            assert math.isnan(best.score_thresh)
            assert (best.found, best.false_alarms) == (0, 0)
            return
        assert best.f1 == pytest.approx(highest)
        assert best == ranked.operating_point(best.score_thresh)
        assert best.false_alarms == min(point.false_alarms for point in every if point.f1 == best.f1)

    @pytest.mark.parametrize(
        ("scores", "matched", "expected"),
        [
            pytest.param([0.9, 0.2], [True, False], 0.55, id="in the middle, with few digits"),
            pytest.param([0.83, 0.82], [True, False], 0.825, id="as many digits as the gap needs"),
            pytest.param([0.84, 0.84, 0.4], [False, True, False], 0.62, id="equal scores stay together"),
            pytest.param([0.73], [True], 0.73, id="nothing below: the lowest score"),
            pytest.param([0.9], [False], math.nan, id="nothing found"),
            pytest.param([], [], math.nan, id="no detections"),
        ],
    )
    def test_where_it_lies(self, scores: list[float], matched: list[bool], expected: float) -> None:
        best = RankedMatches.from_photos([photo(scores, matched)]).best_threshold()
        assert best.score_thresh == pytest.approx(expected, nan_ok=True, abs=1e-12)

    @pytest.mark.parametrize("score", [0.5, 0.123456789])
    def test_between_neighbours_in_float32_it_is_the_upper(self, score: float) -> None:
        upper = np.float32(score)
        below = np.nextafter(upper, np.float32(0))
        best = RankedMatches.from_photos([photo([float(upper), float(below)], [True, False])]).best_threshold()
        assert np.float32(best.score_thresh) == upper
        assert best.false_alarms == 0

    def test_of_equal_f1_the_fewest_false_alarms(self) -> None:
        # F1 is 2 / 3 with one lesion of two found, and with both at two false alarms.
        ranked = RankedMatches.from_photos([photo([0.9, 0.6, 0.5, 0.3], [True, False, False, True], lesions=2)])
        assert ranked.operating_point(0.3).f1 == ranked.operating_point(0.9).f1
        assert ranked.best_threshold() == ranked.operating_point(ranked.best_threshold().score_thresh)
        assert ranked.best_threshold().false_alarms == 0


class TestCurves:
    @settings(max_examples=60, deadline=None)
    @given(many=many_photos)
    def test_every_point_is_an_operating_point(self, many: tuple[int, int]) -> None:
        count, seed = many
        ranked = RankedMatches.from_photos(random_photos(np.random.default_rng(seed), count))
        for curve, of_point in (
            (ranked.precision_recall(), lambda point: (point.recall, point.precision)),
            (ranked.froc(), lambda point: (point.false_alarms_per_photo, point.recall)),
        ):
            points = [of_point(ranked.operating_point(score)) for score in curve.score_thresh]
            assert np.stack([curve.x, curve.y], axis=1) == pytest.approx(np.array(points).reshape(-1, 2))
            assert (np.diff(curve.score_thresh) < 0).all()
            assert (np.diff(curve.x) >= 0).all()

    @pytest.mark.parametrize(
        "found",
        [
            pytest.param(photo([], [], lesions=0), id="nothing to find, nothing found"),
            pytest.param(photo([0.9], [False], lesions=0), id="nothing to find, something found"),
            pytest.param(photo([], []), id="nothing found"),
        ],
    )
    def test_there_is_no_curve_without_lesions_or_detections(self, found: PhotoMatches) -> None:
        figures = detection_figures(RankedMatches.from_photos([found]), 0.5)
        for curve in figures.curve, figures.froc:
            assert [len(values) for values in (curve.x, curve.y, curve.score_thresh)] == [0, 0, 0]

    def test_equal_scores_are_one_point(self) -> None:
        ranked = RankedMatches.from_photos([photo([0.9, 0.9, 0.4], [False, True, False]), photo([0.9], [True])])
        curve = ranked.precision_recall()
        assert (curve.x.tolist(), curve.y.tolist()) == ([1.0, 1.0], [2 / 3, 0.5])
        assert ranked.froc().x.tolist() == [0.5, 1.0]

    def test_thinning_keeps_the_shape(self) -> None:
        rng = np.random.default_rng(0)
        matched = rng.random(5000) < np.linspace(1, 0, 5000)
        found = photo(np.linspace(1, 0.1, 5000), matched, lesions=3000)
        ranked = RankedMatches.from_photos([found, photo([], [], lesions=0)])
        for of in ranked.froc, ranked.precision_recall:
            whole, thin = of(max_points=10**6), of()
            assert len(thin.x) == 400
            assert furthest(whole, thin) < 0.005
            assert (whole.x[0], whole.y[-1]) == (thin.x[0], thin.y[-1])

    def test_thinning_loses_no_corner(self) -> None:
        matched = np.repeat([True, False, True, False], 500)
        ranked = RankedMatches.from_photos([photo(np.linspace(1, 0.1, 2000), matched, lesions=1000)])
        curve = ranked.froc()
        assert list(zip(curve.x, curve.y, strict=True)) == [(0, 0.001), (0, 0.5), (500, 0.5), (500, 1), (1000, 1)]


def furthest(whole: Curve, thin: Curve) -> float:
    """The largest distance of a point of the one in y from the other as lines, where scores tell which line."""
    at = np.interp(-whole.score_thresh, -thin.score_thresh, thin.y)
    span = max(float(np.ptp(whole.x)), 1e-12)
    along = np.interp(-whole.score_thresh, -thin.score_thresh, thin.x)
    return float(np.hypot(at - whole.y, (along - whole.x) / span).max())


class TestFromPhotos:
    def test_no_photographs_are_refused(self) -> None:
        with pytest.raises(InputError, match="photographs: there are none to count lesions in; give at least one"):
            RankedMatches.from_photos([])

    def test_photographs_matched_at_other_thresholds_are_refused(self) -> None:
        with pytest.raises(InputError, match="were matched for different classes or IoU thresholds"):
            RankedMatches.from_photos([photo([], []), photo([], [], thresholds=np.array([0.6]))])

    def test_a_threshold_that_was_not_matched_at_is_refused(self) -> None:
        ranked = RankedMatches.from_photos([photo([], [])])
        with pytest.raises(InputError, match=r"iou_thresh 0\.3: photographs were not matched at it; use one of 0\.5"):
            ranked.operating_point(0.5, iou_thresh=0.3)

    def test_weights_for_other_photographs_are_refused(self) -> None:
        ranked = RankedMatches.from_photos([photo([], [])])
        with pytest.raises(InputError, match=r"weights: have shape \(2,\) for 1 photographs"):
            ranked.average_precision(np.ones(2))

    def test_figures_hold_curves_and_both_points(self) -> None:
        ranked = RankedMatches.from_photos([photo([0.9, 0.3], [True, False])])
        figures = detection_figures(ranked, 0.2)
        assert figures.chosen == OperatingPoint(0.2, 0.5, 0.5, 1.0, 2 / 3, 1, 0, 1, 1.0, 1)
        assert figures.best == OperatingPoint(0.6, 0.5, 1.0, 1.0, 1.0, 1, 0, 0, 0.0, 0)
        assert figures.iou_thresh == 0.5
        assert figures.curve.y.tolist() == [1.0, 0.5]
        assert figures.froc.x.tolist() == [0.0, 1.0]
