from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from dermask import images, masks
from dermask.errors import ImageError, InputError
from dermask.records import (
    Bitmask,
    BoolArray,
    Detections,
    FloatArray,
    ImageSize,
    MaskFile,
    Polygons,
    Rle,
)

few = settings(deadline=None, max_examples=25)


def noise(seed: int, height: int, width: int, share: float = 0.5) -> BoolArray:
    return np.random.default_rng(seed).random((height, width)) < share


def blob(seed: int, radius: float, size: ImageSize) -> BoolArray:
    """A wavy disc about the middle, cut off where it leaves the frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size.height, : size.width] + 0.5
    y, x = y - size.height / 2 - rng.uniform(-3, 3), x - size.width / 2 - rng.uniform(-3, 3)
    angle = np.arctan2(y, x)
    waves = sum(rng.uniform(-0.1, 0.1) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 8))
    return np.asarray(np.hypot(x, y) < radius * (1 + waves))


def fill_holes(bitmask: BoolArray) -> BoolArray:
    """The mask and all that the background cannot reach from outside, corners included (slow and obvious)."""
    outside = np.zeros(np.add(bitmask.shape, 2), np.bool_)
    outside[0, 0] = True
    free = ~np.pad(bitmask, 1)
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        across = grown.copy()
        grown[:, 1:] |= across[:, :-1]
        grown[:, :-1] |= across[:, 1:]
        grown &= free
        if (grown == outside).all():
            return ~outside[1:-1, 1:-1]
        outside = grown


def iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float64)


# Run lengths ---------------------------------------------------------------------------------------------------------


@few
@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.03, 0.5, 1.0]))
def test_rle_there_and_back_and_as_pycocotools(seed: int, height: int, width: int, share: float) -> None:
    bitmask = noise(seed, height, width, share)
    rle = masks.bitmask_to_rle(bitmask)
    assert rle.size == (height, width)
    reference = reference_mask.encode(np.asfortranarray(bitmask, np.uint8))
    assert rle.counts == reference["counts"]
    decoded = masks.rle_to_bitmask(rle)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, bitmask)


def test_rle_with_long_runs_decodes_as_pycocotools() -> None:
    bitmask = np.zeros((3000, 2000), np.bool_)
    bitmask[500:2900, 700:701] = True
    bitmask[5:7, 1900:] = True
    np.testing.assert_array_equal(masks.rle_to_bitmask(masks.bitmask_to_rle(bitmask)), bitmask)


def test_rle_of_a_known_mask() -> None:
    # Column by column: 1 background, 2 object, 3 background.
    rle = Rle(b"123", ImageSize(3, 2))
    np.testing.assert_array_equal(masks.rle_to_bitmask(rle), [[False, False], [True, False], [True, False]])


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        (b"", (3, 2), "not COCO's compressed run lengths"),
        (b"12 3", (3, 2), "not COCO's compressed run lengths"),
        (b"\xff\xff", (3, 2), "not COCO's compressed run lengths"),
        (b"12S", (3, 2), "not COCO's compressed run lengths"),  # ends in the middle of a run
        (b"124", (3, 2), "do not add up to the 6 pixels"),
        (b"12", (3, 2), "do not add up to the 6 pixels"),
        (b"1N7", (3, 2), "do not add up"),  # a run of -2
        (b"oooooooooooooooooo0", (3, 2), "beyond any photograph"),
        (b"o" * 100_000 + b"0", (3, 2), "beyond any photograph"),
        (b"oooooo0", (3, 2), "do not add up"),
        (b"6", (0, 2), "0 x 2 .height x width. is not between 1 and 64 million"),
        (b"6", (-3, -2), "is not between 1 and 64 million"),
        (b"6", (10**9, 10**9), "is not between 1 and 64 million"),
    ],
)
def test_hostile_rle_is_refused(counts: bytes, size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        masks.rle_to_bitmask(Rle(counts, ImageSize(*size)))
    assert len(str(caught.value)) < 300


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=30), st.integers(1, 6), st.integers(1, 6))
def test_any_bytes_as_rle_decode_or_are_refused(counts: bytes, height: int, width: int) -> None:
    try:
        bitmask = masks.rle_to_bitmask(Rle(counts, ImageSize(height, width)))
    except InputError:
        return
    assert bitmask.shape == (height, width)


# Polygons ------------------------------------------------------------------------------------------------------------


@few
@given(st.integers(0, 9999), st.integers(1, 3), st.integers(3, 12))
def test_polygons_rasterise_as_in_pycocotools(seed: int, parts: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    rings = tuple(rng.uniform(-10, 60, (points, 2)) for _ in range(parts))
    reference = reference_mask.merge(reference_mask.frPyObjects([ring.ravel().tolist() for ring in rings], 40, 50))
    rle = masks.polygons_to_rle(Polygons(rings), ImageSize(40, 50))
    assert rle.counts == reference["counts"]


def test_polygons_without_parts_are_empty() -> None:
    size = ImageSize(4, 5)
    assert not masks.rle_to_bitmask(masks.polygons_to_rle(Polygons(()), size)).any()


@pytest.mark.parametrize("far", [1e3, 1e6, 1e12, 1e300])
def test_coordinates_far_outside_cost_nothing_and_cut_right(far: float) -> None:
    ring = np.array([[-far, 10], [far, 10], [far, far], [-far, far]])
    bitmask = masks.outline_bitmask(Polygons((ring,)), ImageSize(30, 20))
    np.testing.assert_array_equal(bitmask.sum(axis=1), np.where(np.arange(30) >= 10, 20, 0))


def test_ring_that_passes_by_is_empty() -> None:
    for ring in (square(500, 500, 20), square(-500, 3, 20), square(21, 3, 5)):
        assert not masks.outline_bitmask(Polygons((ring,)), ImageSize(30, 20)).any()


@few
@given(st.integers(0, 9999))
def test_cutting_at_a_distance_moves_edges_by_a_pixel_at_most(seed: int) -> None:
    # A coordinate far outside makes the cut happen; the library without the cut is the reference.
    ring = np.random.default_rng(seed).uniform(-150, 180, (6, 2)).round()
    size = ImageSize(30, 40)
    (reference,) = reference_mask.frPyObjects([ring.ravel().tolist()], *size)
    ours = masks.outline_bitmask(Polygons((ring,)), size)
    # The cut point is rounded to another fifth of a pixel, which moves a slanted edge by a pixel here and there.
    assert (ours != masks.rle_to_bitmask(Rle(reference["counts"], size))).sum() <= 12


@pytest.mark.parametrize(
    ("ring", "message"),
    [
        (np.zeros((0, 2)), "a ring of 0 points has no inside"),
        (np.array([[1.0, 2], [3, 4]]), "a ring of 2 points has no inside; draw at least three"),
        (np.array([[1.0, 2], [3, 4], [np.nan, 5]]), "not a finite number"),
        (np.array([[1.0, 2], [3, 4], [np.inf, 5]]), "not a finite number"),
        (np.zeros((3, 3)), "a ring"),
    ],
)
def test_ring_without_inside_is_refused(ring: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        masks.polygons_to_rle(Polygons((square(1, 1, 3), ring)), ImageSize(10, 10))


def test_polygon_on_an_impossible_size_is_refused() -> None:
    with pytest.raises(InputError, match="is not between 1 and 64 million pixels"):
        masks.polygons_to_rle(Polygons((square(1, 1, 3),)), ImageSize(10**6, 10**6))


# Outlines of bitmasks ------------------------------------------------------------------------------------------------


@few
@given(st.integers(0, 9999), st.floats(4, 60))
def test_polygons_of_a_blob_give_the_blob_back(seed: int, radius: float) -> None:
    size = ImageSize(130, 110)
    bitmask = blob(seed, radius, size)
    again = masks.outline_bitmask(masks.bitmask_to_polygons(bitmask), size)
    assert iou(again, fill_holes(bitmask)) >= 0.99


@few
@given(st.integers(0, 9999), st.sampled_from([0.1, 0.4, 0.6, 0.9]))
def test_polygons_without_tolerance_are_the_mask_with_holes_filled(seed: int, share: float) -> None:
    bitmask = noise(seed, 14, 17, share)
    polygons = masks.bitmask_to_polygons(bitmask, tolerance=0)
    again = masks.outline_bitmask(polygons, ImageSize(14, 17))
    np.testing.assert_array_equal(again, fill_holes(bitmask))


@pytest.mark.parametrize("tolerance", [0, 0.5, 5])
@pytest.mark.parametrize(
    "box", [(0, 0, 9, 7), (0, 0, 1, 1), (3, 2, 8, 5), (2, 2, 4, 4), (8, 0, 9, 7)], ids=lambda box: str(box)
)
def test_rectangle_is_kept_exactly(box: tuple[int, int, int, int], tolerance: float) -> None:
    bitmask = np.zeros((7, 9), np.bool_)
    x1, y1, x2, y2 = box
    bitmask[y1:y2, x1:x2] = True
    polygons = masks.bitmask_to_polygons(bitmask, tolerance=tolerance)
    np.testing.assert_array_equal(masks.outline_bitmask(polygons, ImageSize(7, 9)), bitmask)
    if min(x2 - x1, y2 - y1) > 2:
        corners = {tuple(point) for point in polygons.parts[0].tolist()}
        assert corners == {(x1, y1), (x2, y1), (x2, y2), (x1, y2)}


def test_polygons_of_an_empty_mask_have_no_part() -> None:
    assert masks.bitmask_to_polygons(np.zeros((5, 6), np.bool_)).parts == ()


def test_parts_come_largest_first_and_holes_are_left_out() -> None:
    bitmask = np.zeros((40, 60), np.bool_)
    bitmask[2:8, 2:8] = True
    bitmask[10:35, 20:50] = True
    bitmask[15:20, 25:30] = False
    bitmask[17, 27] = True  # an island in the hole
    parts = masks.bitmask_to_polygons(bitmask).parts
    assert [part.dtype for part in parts] == [np.float64] * 3
    boxes = [(*part.min(axis=0), *part.max(axis=0)) for part in parts]
    assert boxes == [(20, 10, 50, 35), (2, 2, 8, 8), (27, 17, 28, 18)]


def test_more_tolerance_leaves_fewer_points() -> None:
    bitmask = blob(3, 90, ImageSize(260, 260))
    counts = [len(masks.bitmask_to_polygons(bitmask, tolerance=t).parts[0]) for t in (0, 0.1, 0.3, 0.5)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] / 3


# Outlines of every kind ----------------------------------------------------------------------------------------------


def test_every_kind_of_outline_gives_the_same_bitmask(tmp_path: Path) -> None:
    bitmask = blob(1, 20, ImageSize(60, 50))
    images.write_png(tmp_path / "mask.png", bitmask)
    outlines = [
        Bitmask(bitmask),
        masks.bitmask_to_rle(bitmask),
        masks.bitmask_to_polygons(bitmask, tolerance=0),
        MaskFile(tmp_path / "mask.png"),
    ]
    for outline in outlines:
        result = masks.outline_bitmask(outline, ImageSize(60, 50))
        assert result.dtype == np.bool_
        np.testing.assert_array_equal(result, bitmask)


def test_outline_of_another_size_is_refused(tmp_path: Path) -> None:
    bitmask = np.zeros((4, 5), np.bool_)
    images.write_png(tmp_path / "mask.png", bitmask)
    for outline, item in (
        (Bitmask(bitmask), "bitmask outline"),
        (masks.bitmask_to_rle(bitmask), "run-length outline"),
        (MaskFile(tmp_path / "mask.png"), r"mask\.png"),
    ):
        with pytest.raises(InputError, match=f"{item}: is 4 x 5 where the photograph is 5 x 4"):
            masks.outline_bitmask(outline, ImageSize(5, 4))


def test_mask_file_that_is_missing_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        masks.outline_bitmask(MaskFile(tmp_path / "none.png"), ImageSize(5, 4))


# Boxes of masks ------------------------------------------------------------------------------------------------------


def test_box_of_a_mask_is_tight() -> None:
    bitmask = np.zeros((7, 9), np.bool_)
    np.testing.assert_array_equal(masks.mask_box(bitmask), np.zeros(4, np.float32))
    bitmask[2, 3] = True
    np.testing.assert_array_equal(masks.mask_box(bitmask), np.array([3, 2, 4, 3], np.float32))
    bitmask[6, 8] = True
    np.testing.assert_array_equal(masks.mask_box(bitmask), np.array([3, 2, 9, 7], np.float32))
    assert masks.mask_box(bitmask).dtype == np.float32


@few
@given(st.integers(0, 999), st.integers(0, 4), st.integers(1, 20), st.integers(1, 20))
def test_mask_boxes_equal_the_library(seed: int, count: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    stack = rng.random((count, height, width)) < 0.05
    result = masks.mask_boxes(stack)
    assert result.shape == (count, 4)
    for box, bitmask in zip(result, stack, strict=True):
        x, y, w, h = reference_mask.toBbox(reference_mask.encode(np.asfortranarray(bitmask, np.uint8)))
        np.testing.assert_array_equal(box, [x, y, x + w, y + h] if bitmask.any() else [0, 0, 0, 0])


# Pasting -------------------------------------------------------------------------------------------------------------


@st.composite
def masks_to_paste(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, ImageSize]:
    """Boxes of any size, partly past the border, from a fraction of a pixel on."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    count, cells = draw(st.integers(0, 3)), draw(st.sampled_from([1, 2, 7, 28, 56]))
    size = ImageSize(draw(st.integers(1, 70)), draw(st.integers(1, 90)))
    extent = np.array([size.width, size.height])
    centre = rng.uniform(0, 1, (count, 2)) * extent
    half = rng.uniform(0.01, 0.8, (count, 2)) * extent
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    return boxes, rng.random((count, cells, cells)).astype(np.float32), size


def grid_sample_paste(boxes: FloatArray, probs: FloatArray, size: ImageSize) -> FloatArray:
    """detectron2's rule over the whole photograph, in float64."""
    y = torch.arange(size.height, dtype=torch.float64) + 0.5
    x = torch.arange(size.width, dtype=torch.float64) + 0.5
    pasted = torch.zeros(len(boxes), *size, dtype=torch.float64)
    for canvas, box, prob in zip(pasted, torch.from_numpy(boxes).double(), torch.from_numpy(probs), strict=True):
        grid_y = (y - box[1]) / (box[3] - box[1]) * 2 - 1
        grid_x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
        grid = torch.stack(torch.meshgrid(grid_x, grid_y, indexing="xy"), dim=-1)[None]
        canvas[:] = torch.nn.functional.grid_sample(prob[None, None].double(), grid, align_corners=False)[0, 0]
    return pasted.numpy()


@few
@given(masks_to_paste())
def test_exact_paste_equals_grid_sample(case: tuple[FloatArray, FloatArray, ImageSize]) -> None:
    boxes, probs, size = case
    pasted = masks.paste_masks(boxes, probs, size, threshold=None)
    assert pasted.dtype == np.float32
    np.testing.assert_allclose(pasted, grid_sample_paste(boxes, probs, size), atol=1e-5)  # float32 weights
    bits = masks.paste_masks(boxes, probs, size, threshold=0.4)
    assert bits.dtype == np.bool_
    np.testing.assert_array_equal(bits, pasted >= 0.4)


@few
@given(masks_to_paste())
def test_snapped_paste_equals_torchvision(case: tuple[FloatArray, FloatArray, ImageSize]) -> None:
    boxes, probs, size = case
    reference = paste_masks_in_image(torch.from_numpy(probs)[:, None], torch.from_numpy(boxes), tuple(size))[:, 0]
    pasted = masks.paste_masks(boxes, probs, size, threshold=None, snap=True)
    np.testing.assert_allclose(pasted, reference.numpy(), atol=1e-5)  # the same float32 steps in another order


@pytest.mark.parametrize("snap", [False, True])
def test_paste_of_nothing(snap: bool) -> None:
    boxes, probs = np.zeros((0, 4), np.float32), np.zeros((0, 28, 28), np.float32)
    assert masks.paste_masks(boxes, probs, ImageSize(5, 6), snap=snap).shape == (0, 5, 6)
    assert masks.paste_masks(boxes, probs, ImageSize(5, 6), threshold=None, snap=snap).dtype == np.float32


@pytest.mark.parametrize("snap", [False, True])
@pytest.mark.parametrize(
    "box",
    [(3, 3, 3, 5), (4, 4, 2, 6), (np.nan, 0, 3, 3), (0, 0, np.inf, 3), (100, 100, 120, 120), (-50, -50, -20, -20)],
)
def test_box_without_pixels_gives_an_empty_mask(box: tuple[float, ...], snap: bool) -> None:
    pasted = masks.paste_masks(
        np.array([box], np.float32), np.ones((1, 7, 7), np.float32), ImageSize(10, 12), snap=snap
    )
    assert not pasted.any()


def test_full_mask_covers_the_pixels_whose_centre_is_in_the_box() -> None:
    boxes = np.array([[2.4, 1, 7.6, 5], [2.6, 1, 7.4, 5]], np.float32)
    pasted = masks.paste_masks(boxes, np.ones((2, 28, 28), np.float32), ImageSize(8, 10))
    np.testing.assert_array_equal(masks.mask_boxes(pasted), [[2, 1, 8, 5], [3, 1, 7, 5]])


def test_moving_the_box_by_whole_pixels_moves_the_mask() -> None:
    probs = np.random.default_rng(0).random((1, 28, 28)).astype(np.float32)
    box = np.array([[3.25, 4.5, 20.75, 17.5]], np.float32)
    here = masks.paste_masks(box, probs, ImageSize(40, 40), threshold=None)
    there = masks.paste_masks(box + np.float32([8, 5, 8, 5]), probs, ImageSize(40, 40), threshold=None)
    np.testing.assert_allclose(there[:, 5:, 8:], here[:, :-5, :-8], atol=1e-6)


def test_huge_box_is_pasted_within_the_photograph_only() -> None:
    boxes = np.array([[-1e8, -1e8, 1e8, 1e8]], np.float32)
    for snap in (False, True):
        assert masks.paste_masks(boxes, np.ones((1, 28, 28), np.float32), ImageSize(6, 5), snap=snap).all()


# The one mask of a photograph ----------------------------------------------------------------------------------------


def two_detections(scores: tuple[float, float]) -> Detections:
    return Detections(
        boxes=np.array([[0, 0, 4, 4], [6, 6, 9, 9]], np.float32),
        scores=np.array(scores, np.float32),
        labels=np.ones(2, np.int64),
        mask_probs=np.ones((2, 14, 14), np.float32),
        size=ImageSize(10, 12),
    )


@pytest.mark.parametrize(
    ("rule", "scores", "area"),
    [
        ("primary", (0.9, 0.6), 16),
        ("primary", (0.2, 0.1), 16),  # the best whatever its score
        ("union", (0.9, 0.6), 16 + 9),
        ("union", (0.9, 0.5), 16 + 9),
        ("union", (0.9, 0.4), 16),
        ("union", (0.2, 0.1), 0),
    ],
)
def test_bitmask_of_detections(rule: str, scores: tuple[float, float], area: int) -> None:
    bitmask = masks.detections_bitmask(two_detections(scores), rule)  # type: ignore[arg-type]
    assert bitmask.shape == (10, 12)
    assert bitmask.dtype == np.bool_
    assert bitmask.sum() == area


@pytest.mark.parametrize("rule", ["primary", "union"])
def test_bitmask_of_no_detections_is_empty(rule: str) -> None:
    bitmask = masks.detections_bitmask(Detections.empty(ImageSize(5, 6)), rule)  # type: ignore[arg-type]
    assert bitmask.shape == (5, 6)
    assert not bitmask.any()


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match="rule 'best': does not exist; choose primary or union"):
        masks.detections_bitmask(two_detections((0.9, 0.8)), "best")  # type: ignore[arg-type]


# Real masks ----------------------------------------------------------------------------------------------------------


def test_real_masks_survive_every_outline(real_data: Path) -> None:
    paths = sorted((real_data / "isic_native" / "masks").glob("*.png"))[:6]
    assert paths
    for path in paths:
        with Image.open(path) as image:
            bitmask = np.asarray(image.convert("L")) > 128
        size = ImageSize(*bitmask.shape)
        np.testing.assert_array_equal(masks.outline_bitmask(MaskFile(path), size), bitmask)
        np.testing.assert_array_equal(masks.outline_bitmask(masks.bitmask_to_rle(bitmask), size), bitmask)
        polygons = masks.bitmask_to_polygons(bitmask)
        assert iou(masks.outline_bitmask(polygons, size), bitmask) >= 0.99
