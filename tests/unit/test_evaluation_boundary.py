"""Figures of borders: cases worked out by hand, laws, and the obvious slow version."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import astuple, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermask import masks
from dermask.errors import InputError
from dermask.evaluation.boundary import (
    BAND_SHARE,
    TOLERANCES,
    BoundaryFigures,
    MeanBoundary,
    boundary_figures,
    boundary_of_rles,
    mean_boundary,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape)))
TRIPLES = SHAPES.flatmap(lambda shape: st.tuples(*(hnp.arrays(np.bool_, shape) for _ in range(3))))
QUICK = settings(max_examples=60, deadline=None)
PERFECT = BoundaryFigures(1, 0, 0, 1, 1, 1)


def approx(figures: BoundaryFigures) -> object:
    """Means of the same distances in another order differ in the last digits."""
    return pytest.approx(astuple(figures), abs=1e-9)


def square(shape: tuple[int, int], top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(shape, np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth regions, some cut by the frame."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    waves = [
        np.sin(rng.uniform(0.02, 0.1) * rows + rng.uniform(0, 6)) * np.sin(rng.uniform(0.02, 0.1) * columns + phase)
        for phase in rng.uniform(0, 6, 3)
    ]
    return sum(waves) > 0.4


def slow_borders(both: list[np.ndarray], ignored: np.ndarray) -> list[np.ndarray]:
    """Row and column of each mask's border pixels: with background beside them, or else where either mask ends."""
    height, width = ignored.shape
    seen_borders, closed_borders = [], []
    for mask in both:
        seen, closed = [], []
        for row, column in zip(*np.nonzero(mask), strict=True):
            beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = [(r, c) for r, c in beside if 0 <= r < height and 0 <= c < width]
            if any(not mask[place] and not ignored[place] for place in inside):
                seen.append((row, column))
            if len(inside) < 4 or any(not mask[place] for place in inside):
                closed.append((row, column))
        seen_borders.append(np.array(seen, np.float64))
        closed_borders.append(np.array(closed, np.float64))
    return seen_borders if all(len(border) for border in seen_borders) else closed_borders


def slow_band(mask: np.ndarray, ignored: np.ndarray, depth: int) -> np.ndarray:
    eroded = mask | ignored
    for _ in range(depth):
        padded = np.pad(eroded, 1)
        eroded = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).all(axis=(2, 3))
    band = mask & ~eroded
    return band if band.any() else mask


def slow_figures(truth: np.ndarray, pred: np.ndarray, ignored: np.ndarray | None = None) -> BoundaryFigures:
    ignored = np.zeros_like(truth) if ignored is None else ignored
    truth, pred = truth & ~ignored, pred & ~ignored
    diagonal = math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)
    if not truth.any() and not pred.any():
        return PERFECT
    if not truth.any() or not pred.any():
        return BoundaryFigures(0, diagonal, diagonal, 0, 0, 0)
    depth = max(1, round(BAND_SHARE * diagonal))
    truth_band, pred_band = slow_band(truth, ignored, depth), slow_band(pred, ignored, depth)
    truth_border, pred_border = slow_borders([truth, pred], ignored)
    all_pairs = np.linalg.norm(truth_border[:, None] - pred_border[None], axis=2)
    to_pred, to_truth = all_pairs.min(axis=1), all_pairs.min(axis=0)
    scores = []
    for share in TOLERANCES:
        recall, precision = np.mean(to_pred <= share * diagonal), np.mean(to_truth <= share * diagonal)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return BoundaryFigures(
        (truth_band & pred_band).sum() / (truth_band | pred_band).sum(),
        (to_pred.sum() + to_truth.sum()) / (len(to_pred) + len(to_truth)),
        max(np.percentile(to_pred, 95), np.percentile(to_truth, 95)),
        *scores,
    )


@pytest.mark.parametrize(
    ("truth", "pred", "expected"),
    [
        pytest.param(np.zeros((3, 4)), np.zeros((3, 4)), (1, 0, 0, 1, 1, 1), id="nothing to find, nothing found"),
        pytest.param(np.zeros((3, 4)), np.ones((3, 4)), (0, 5, 5, 0, 0, 0), id="nothing to find, something found"),
        pytest.param(np.ones((3, 4)), np.zeros((3, 4)), (0, 5, 5, 0, 0, 0), id="missed"),
        pytest.param(np.ones((3, 4)), np.ones((3, 4)), (1, 0, 0, 1, 1, 1), id="no background"),
        pytest.param(np.ones((1, 1)), np.ones((1, 1)), (1, 0, 0, 1, 1, 1), id="one pixel is the photograph"),
    ],
)
def test_figures_where_a_mask_is_empty_or_full(
    truth: np.ndarray, pred: np.ndarray, expected: tuple[float, ...]
) -> None:
    assert astuple(boundary_figures(truth.astype(np.bool_), pred.astype(np.bool_))) == expected


def test_distances_of_both_masks_enter_the_mean_and_the_worse_percentile_counts() -> None:
    truth = square((30, 40), 3, 3, 1)
    pred = truth | square((30, 40), 3, 13, 1)
    # The diagonal is 50, so the tolerances are 0.25, 0.5 and 1 pixel. Truth: distance 0; prediction: 0 and 10.
    expected = BoundaryFigures(1 / 2, 10 / 3, 9.5, 2 / 3, 2 / 3, 2 / 3)
    assert astuple(boundary_figures(truth, pred)) == approx(expected)


@pytest.mark.parametrize(("shift", "scores"), [(0, (1, 1, 1)), (1, (None, 1, 1)), (2, (None, None, 1))])
def test_each_tolerance_is_a_share_of_the_diagonal(shift: int, scores: tuple[float | None, ...]) -> None:
    shape = (60, 80)  # diagonal 100: tolerances of 0.5, 1 and 2 pixels
    figures = boundary_figures(square(shape, 20, 20, 9), square(shape, 20, 20 + shift, 9))
    found = (figures.boundary_f_0005, figures.boundary_f_001, figures.boundary_f_002)
    assert all(score < 1 if expected is None else score == expected for score, expected in zip(found, scores))  # noqa: B905


@pytest.mark.parametrize("shift", [0, 1, 4, 9])
def test_a_shifted_square_has_the_distances_of_geometry(shift: int) -> None:
    side = 41
    figures = boundary_figures(square((90, 90), 20, 20, side), square((90, 90), 20, 20 + shift, side))
    front = side * shift + 2 * sum(range(1, shift))  # the side left behind, and the ends of the sides along the way
    back = sum(min(shift, row, side - 1 - row) for row in range(side))  # the other: near corners, the sides are nearer
    assert figures.average_distance == pytest.approx((front + back) / (4 * side - 4), abs=1e-12)
    assert figures.distance_95 == shift


def test_a_smaller_square_inside_has_slanted_distances_at_the_corners() -> None:
    figures = boundary_figures(square((60, 60), 10, 10, 21), square((60, 60), 13, 13, 15))
    # Outer border: 4 x 15 pixels straight across at 3; at each corner one at (3, 3), and two at (3, 2) and (3, 1).
    outer = 60 * 3 + 4 * (math.hypot(3, 3) + 2 * math.hypot(3, 2) + 2 * math.hypot(3, 1))
    assert figures.average_distance == pytest.approx((outer + 56 * 3) / (80 + 56), abs=1e-12)


def test_the_frame_is_no_border_of_a_lesion_that_it_cuts() -> None:
    columns = np.broadcast_to(np.arange(80), (60, 80))
    figures = boundary_figures(columns < 30, columns < 33)
    assert (figures.average_distance, figures.distance_95) == (3, 3)
    assert (figures.boundary_f_001, figures.boundary_f_002) == (0, 0)
    # Boundary IoU follows its authors: its band goes along the frame. Bands are 2 deep, 30 and 33 columns long.
    rim, end = 2 * (60 - 4), 2 * (60 - 4)
    assert figures.boundary_iou == pytest.approx((rim + 4 * 30) / (rim + 4 * 33 + 2 * end), abs=1e-12)


def test_a_lesion_that_fills_the_photograph_has_its_border_at_the_frame() -> None:
    everything = np.ones((60, 80), np.bool_)
    assert boundary_figures(everything, everything) == PERFECT
    inner = np.pad(np.ones((56, 76), np.bool_), 2)
    figures = boundary_figures(everything, inner)
    assert 2 <= figures.average_distance <= math.hypot(2, 2)
    all_but_a_corner = everything.copy()
    all_but_a_corner[:3, :3] = False
    figures = boundary_figures(everything, all_but_a_corner)
    assert figures.average_distance < 0.1
    assert figures.boundary_f_002 > 0.99


def test_where_a_mask_ends_at_an_ignored_region_is_no_border() -> None:
    columns = np.broadcast_to(np.arange(80), (60, 80))
    ignored = (columns >= 30) & (columns < 40)
    assert boundary_figures(columns < 30, columns < 36, ignored=ignored) == PERFECT
    assert boundary_figures(columns < 30, columns < 36) != PERFECT


def test_masks_all_inside_an_ignored_region_are_empty() -> None:
    ignored = square((20, 20), 5, 5, 10)
    lesion = square((20, 20), 7, 7, 3)
    assert boundary_figures(lesion, np.zeros_like(lesion), ignored=ignored) == PERFECT


def test_a_mask_shut_in_by_an_ignored_region_is_its_own_band() -> None:
    lesion, other = square((200, 200), 90, 90, 4), square((200, 200), 90, 110, 4)
    ignored = square((200, 200), 50, 50, 100) & ~lesion & ~other
    assert boundary_figures(lesion, lesion, ignored=ignored) == PERFECT
    assert boundary_figures(lesion, other, ignored=ignored).boundary_iou == 0


@settings(max_examples=100, deadline=None)
@given(TRIPLES, st.booleans())
def test_figures_equal_the_slow_version(triple: tuple[np.ndarray, np.ndarray, np.ndarray], has_ignored: bool) -> None:
    truth, pred, ignored = triple
    expected = slow_figures(truth, pred, ignored if has_ignored else None)
    assert astuple(boundary_figures(truth, pred, ignored=ignored if has_ignored else None)) == approx(expected)


@pytest.mark.parametrize("shape", [(100, 150), (150, 200), (3, 300), (300, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_the_slow_version_where_bands_are_deep(shape: tuple[int, int], seed: int) -> None:
    truth, pred, ignored = (blobs(shape, 10 * seed + part) for part in range(3))
    assert astuple(boundary_figures(truth, pred)) == approx(slow_figures(truth, pred))
    assert astuple(boundary_figures(truth, pred, ignored=ignored)) == approx(slow_figures(truth, pred, ignored))


def test_an_ignored_region_beside_the_lesions_box_erodes_nothing() -> None:
    truth, pred = square((200, 200), 90, 50, 20), square((200, 200), 92, 50, 20)
    ignored = square((200, 200), 20, 70, 100)
    figures = boundary_figures(truth, pred, ignored=ignored)
    assert astuple(figures) == approx(slow_figures(truth, pred, ignored))
    assert figures.boundary_iou != boundary_figures(truth, pred).boundary_iou


def test_far_apart_masks_have_exact_distances() -> None:
    rng = np.random.default_rng(0)
    truth, pred = np.zeros((2, 150, 400), np.bool_)
    truth[:40, :30] = rng.random((40, 30)) < 0.5
    pred[90:, 350:] = rng.random((60, 50)) < 0.5
    assert astuple(boundary_figures(truth, pred)) == approx(slow_figures(truth, pred))


@pytest.mark.parametrize("shape", [(20_000, 2), (2, 20_000)])
def test_distances_across_a_photograph_longer_than_two_bytes_count(shape: tuple[int, int]) -> None:
    truth, pred = np.zeros((2, *shape), np.bool_)
    truth[0, 0] = pred[-1, -1] = True
    figures = boundary_figures(truth, pred)
    assert figures.average_distance == figures.distance_95 == math.hypot(1, 19_999)


@QUICK
@given(PAIRS)
def test_figures_do_not_depend_on_which_is_the_truth_nor_on_how_the_photograph_is_held(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, pred = pair
    figures = approx(boundary_figures(truth, pred))
    assert astuple(boundary_figures(pred, truth)) == figures
    assert astuple(boundary_figures(truth.T, pred.T)) == figures
    assert astuple(boundary_figures(truth[::-1], pred[::-1])) == figures


@QUICK
@given(PAIRS)
def test_figures_stay_in_their_range(pair: tuple[np.ndarray, np.ndarray]) -> None:
    figures = boundary_figures(*pair)
    shares = (figures.boundary_iou, figures.boundary_f_0005, figures.boundary_f_001, figures.boundary_f_002)
    assert all(0 <= share <= 1 for share in shares)
    assert list(shares[1:]) == sorted(shares[1:])
    assert 0 <= figures.average_distance <= math.hypot(*pair[0].shape)
    assert 0 <= figures.distance_95 <= math.hypot(*pair[0].shape)


@QUICK
@given(SHAPES.flatmap(lambda shape: hnp.arrays(np.bool_, shape)))
def test_a_mask_agrees_with_itself(mask: np.ndarray) -> None:
    assert boundary_figures(mask, mask) == PERFECT


@QUICK
@given(PAIRS, st.integers(1, 20), st.integers(1, 20))
def test_figures_stay_when_both_masks_move_away_from_the_frame(
    pair: tuple[np.ndarray, np.ndarray], down: int, right: int
) -> None:
    canvases = np.zeros((4, 40, 40), np.bool_)
    height, width = pair[0].shape
    for index, mask in enumerate(pair):
        canvases[index, 1 : 1 + height, 1 : 1 + width] = mask
        canvases[2 + index, 1 + down : 1 + down + height, 1 + right : 1 + right + width] = mask
    assert astuple(boundary_figures(canvases[0], canvases[1])) == approx(boundary_figures(canvases[2], canvases[3]))


@QUICK
@given(TRIPLES, st.data())
def test_what_lies_in_an_ignored_region_does_not_matter(
    triple: tuple[np.ndarray, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    truth, pred, ignored = triple
    noise = data.draw(hnp.arrays(np.bool_, truth.shape))
    expected = boundary_figures(truth, pred, ignored=ignored)
    assert boundary_figures(truth ^ (noise & ignored), pred | ignored, ignored=ignored) == expected


@QUICK
@given(TRIPLES)
def test_figures_from_run_lengths_equal_those_from_bitmasks(triple: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, pred, ignored = triple
    rles = masks.bitmask_to_rle(truth), masks.bitmask_to_rle(pred)
    assert astuple(boundary_of_rles(*rles)) == approx(boundary_figures(truth, pred))
    assert astuple(boundary_of_rles(*rles, ignored=ignored)) == approx(boundary_figures(truth, pred, ignored=ignored))


def test_a_small_lesion_on_a_large_photograph_takes_little_memory() -> None:
    truth, pred = square((3000, 4000), 900, 3000, 80), square((3000, 4000), 905, 2990, 80)
    tracemalloc.start()
    try:
        boundary_figures(truth, pred)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * truth.nbytes  # the union of both masks; all else is about the part around the lesion


def test_the_mean_is_plain_and_millimetres_are_over_the_photographs_with_a_scale() -> None:
    photos = [PERFECT, BoundaryFigures(0.5, 4, 8, 0, 0.5, 1), BoundaryFigures(0, 20, 40, 0.5, 0, 1)]
    means = mean_boundary(photos, mm_per_pixel=[0.1, 0.05, None])
    assert astuple(means.figures) == pytest.approx((0.5, 8, 16, 0.5, 0.5, 1))
    assert means.average_distance_mm == pytest.approx((0 + 0.2) / 2)
    assert means.distance_95_mm == pytest.approx((0 + 0.4) / 2)
    assert means.num_with_scale == 2


@pytest.mark.parametrize("scales", [None, [None]])
def test_without_a_scale_there_are_no_millimetres(scales: list[float | None] | None) -> None:
    assert mean_boundary([PERFECT], mm_per_pixel=scales) == MeanBoundary(PERFECT, None, None, 0)


def test_a_mean_of_no_photographs_is_refused() -> None:
    with pytest.raises(InputError, match="no photographs to take the mean of"):
        mean_boundary([])


def test_masks_of_different_sizes_are_refused() -> None:
    truth = np.zeros((4, 3), np.bool_)
    with pytest.raises(InputError, match=r"prediction: has shape \(3, 4\), its truth \(4, 3\)"):
        boundary_figures(truth, truth.T)
    with pytest.raises(InputError, match=r"ignored region: has shape \(3, 4\), its truth \(4, 3\)"):
        boundary_figures(truth, truth, ignored=truth.T)
    with pytest.raises(InputError, match=r"prediction: has shape \(3, 4\), its truth \(4, 3\)"):
        boundary_of_rles(masks.bitmask_to_rle(truth), masks.bitmask_to_rle(truth.T))


def test_the_fields_name_the_tolerances() -> None:
    names = [field.name for field in fields(BoundaryFigures)][3:]
    assert names == [f"boundary_f_{str(share).replace('.', '')}" for share in TOLERANCES]
