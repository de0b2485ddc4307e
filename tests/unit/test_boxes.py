from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask import boxes as box_ops
from dermask.records import FloatArray, ImageSize

EMPTY = np.zeros((0, 4), np.float32)


def array(*rows: tuple[float, ...]) -> FloatArray:
    return np.array(rows, np.float32).reshape(-1, 4)


@st.composite
def some_boxes(draw: st.DrawFn) -> FloatArray:
    count = draw(st.integers(0, 5))
    seed = draw(st.integers(0, 10_000))
    corners = np.random.default_rng(seed).uniform(-20, 120, (count, 2, 2)).astype(np.float32)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (EMPTY, []),
        (array((0, 0, 1, 1)), [1]),
        (array((10, 20, 13.5, 24)), [14]),
        (array((5, 5, 5, 9), (5, 5, 3, 2)), [0, 0]),  # no width; swapped corners
    ],
)
def test_area(boxes: FloatArray, expected: list[float]) -> None:
    result = box_ops.area(boxes)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("boxes_a", "boxes_b", "expected"),
    [
        (EMPTY, EMPTY, np.zeros((0, 0))),
        (EMPTY, array((0, 0, 1, 1)), np.zeros((0, 1))),
        (array((0, 0, 2, 2)), EMPTY, np.zeros((1, 0))),
        (array((0, 0, 2, 2)), array((0, 0, 2, 2), (1, 0, 3, 2), (2, 0, 4, 2)), [[1, 1 / 3, 0]]),
        (array((3, 3, 3, 3)), array((3, 3, 3, 3)), [[0]]),
    ],
    ids=["none", "none with some", "some with none", "same, half over, touching", "points"],
)
def test_iou(boxes_a: FloatArray, boxes_b: FloatArray, expected: object) -> None:
    result = box_ops.iou(boxes_a, boxes_b)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.asarray(expected), rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(some_boxes(), some_boxes())
def test_iou_is_symmetric_and_equals_torchvision(boxes_a: FloatArray, boxes_b: FloatArray) -> None:
    result = box_ops.iou(boxes_a, boxes_b)
    np.testing.assert_array_equal(result, box_ops.iou(boxes_b, boxes_a).T)
    reference = torchvision.ops.box_iou(torch.from_numpy(boxes_a), torch.from_numpy(boxes_b))
    np.testing.assert_allclose(result, reference.numpy(), atol=1e-6)  # the last bits of float32


@settings(deadline=None, max_examples=30)
@given(some_boxes())
def test_clip_keeps_boxes_inside_and_is_done_once(boxes: FloatArray) -> None:
    before = boxes.copy()
    size = ImageSize(height=50, width=80)
    clipped = box_ops.clip(boxes, size)
    np.testing.assert_array_equal(boxes, before)
    assert clipped.dtype == np.float32
    assert (clipped >= 0).all()
    assert (clipped <= [80, 50, 80, 50]).all()
    np.testing.assert_array_equal(box_ops.clip(clipped, size), clipped)


def test_clip_cuts_width_at_width_and_height_at_height() -> None:
    clipped = box_ops.clip(array((-5, -5, 500, 500), (10, 10, 20, 20), (90, 60, 95, 70)), ImageSize(50, 80))
    np.testing.assert_array_equal(clipped, array((0, 0, 80, 50), (10, 10, 20, 20), (80, 50, 80, 50)))


@pytest.mark.parametrize("boxes", [EMPTY, array((1, 2, 4, 8))])
def test_xywh_there_and_back(boxes: FloatArray) -> None:
    xywh = box_ops.xyxy_to_xywh(boxes)
    assert xywh.dtype == np.float32
    np.testing.assert_array_equal(xywh, array((1, 2, 3, 6)) if len(boxes) else EMPTY)
    np.testing.assert_array_equal(box_ops.xywh_to_xyxy(xywh), boxes)
