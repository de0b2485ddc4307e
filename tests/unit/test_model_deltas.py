import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, clip_boxes_to_image

from dermask.models.deltas import (
    MAX_LOG_RATIO,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    large_enough,
    pairwise_iou,
    take_rows,
)

HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Widths, centres and back in float32: a few units in the last place of a coordinate of a thousand pixels.
ROUNDING = {"atol": 2e-3, "rtol": 1e-5}


def random_boxes(*shape, seed=0, side=500.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * side
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2, generator=generator) * side], dim=-1)


side = st.floats(1, 1000, width=32)
place = st.floats(0, 1000, width=32)


@given(st.tuples(place, place, side, side), st.tuples(place, place, side, side), st.sampled_from([1.0, 5.0, 10.0]))
@settings(deadline=None, max_examples=60)
def test_encode_then_decode_returns_the_box(reference, proposal, weight):
    boxes = torch.tensor([reference, proposal])
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    reference_box, proposal_box = boxes[:1], boxes[1:]
    weights = (weight, weight, weight, weight)
    wh_ratio = (reference_box[:, 2:] - reference_box[:, :2]) / (proposal_box[:, 2:] - proposal_box[:, :2])
    decoded = decode_boxes(encode_boxes(reference_box, proposal_box, weights), proposal_box, weights)
    if wh_ratio.log().max() < MAX_LOG_RATIO:
        # A shift of a thousand pixels is expressed in widths of a pixel: its rounding grows with the ratio.
        assert_close(decoded, reference_box, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize(
    ("reference", "proposal", "expected"),
    [
        pytest.param([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0], id="the same box"),
        pytest.param([10, 0, 20, 10], [0, 0, 10, 10], [1, 0, 0, 0], id="one width to the right"),
        pytest.param([0, 5, 10, 15], [0, 0, 10, 10], [0, 0.5, 0, 0], id="half a height down"),
        pytest.param([-5, -5, 15, 15], [0, 0, 10, 10], [0, 0, math.log(2), math.log(2)], id="twice as large"),
    ],
)
def test_deltas_are_shifts_in_sides_and_logs_of_ratios(reference, proposal, expected):
    deltas = encode_boxes(torch.tensor([reference]).float(), torch.tensor([proposal]).float())
    assert_close(deltas, torch.tensor([expected]).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), HEAD_WEIGHTS])
def test_deltas_equal_torchvisions_coder(weights):
    coder = BoxCoder(weights)
    references, proposals = random_boxes(40, seed=1), random_boxes(40, seed=2)
    deltas = encode_boxes(references, proposals, weights)
    assert_close(deltas, coder.encode([references], [proposals])[0], atol=1e-5, rtol=1e-5)
    decoded = coder.decode(deltas * 1.3, [proposals])[:, 0]
    assert_close(decode_boxes(deltas * 1.3, proposals, weights), decoded, **ROUNDING)


def test_decoding_a_shifted_proposal_shifts_the_box():
    proposals, deltas = random_boxes(30, seed=3), torch.randn(30, 4, generator=torch.Generator().manual_seed(4)) * 0.3
    moved = decode_boxes(deltas, proposals + 37.0)
    assert_close(moved, decode_boxes(deltas, proposals) + 37.0, **ROUNDING)


def test_decoding_never_grows_a_box_beyond_the_clamp():
    box = decode_boxes(torch.tensor([[0.0, 0.0, 80.0, 80.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    assert_close(box[:, 2:] - box[:, :2], torch.full((1, 2), 1000.0), atol=1e-2, rtol=0)


def test_leading_dimensions_are_free():
    references, proposals = random_boxes(2, 3, 5, seed=5), random_boxes(5, seed=6)
    deltas = encode_boxes(references, proposals)
    assert deltas.shape == (2, 3, 5, 4)
    assert_close(decode_boxes(deltas, proposals), references, **ROUNDING)
    assert encode_boxes(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_clipping_equals_torchvisions_per_image():
    boxes = random_boxes(3, 20, seed=7) - 100
    sizes = torch.tensor([[200.0, 300.0], [400.0, 100.0], [50.0, 50.0]])
    for clipped, image_boxes, size in zip(clip_boxes(boxes, sizes), boxes, sizes.tolist(), strict=True):
        assert torch.equal(clipped, clip_boxes_to_image(image_boxes, size))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([5, 5, 5, 5], False, id="a point"),
        pytest.param([5, 5, 25, 5.5], False, id="too flat"),
        pytest.param([5, 5, 5.5, 25], False, id="too narrow"),
        pytest.param([5, 5, 6, 6], True, id="exactly the least side"),
        pytest.param([9, 9, 5, 5], False, id="inside out"),
    ],
)
def test_large_enough_asks_both_sides(box, expected):
    assert large_enough(torch.tensor([box]).float(), 1.0).tolist() == [expected]


def test_large_enough_refuses_what_is_not_a_number():
    assert not large_enough(torch.full((1, 4), math.nan), 1.0)


def test_iou_equals_torchvisions():
    boxes_a, boxes_b = random_boxes(2, 7, seed=8), random_boxes(2, 30, seed=9)
    expected = torch.stack([box_iou(a, b) for a, b in zip(boxes_a, boxes_b, strict=True)])
    assert_close(pairwise_iou(boxes_a, boxes_b), expected, atol=1e-6, rtol=0)


def test_iou_broadcasts_one_set_of_anchors_over_the_batch():
    boxes, anchors = random_boxes(3, 2, seed=10), random_boxes(11, seed=11)
    assert pairwise_iou(boxes, anchors).shape == (3, 2, 11)
    assert torch.equal(pairwise_iou(boxes, anchors)[1], pairwise_iou(boxes[1], anchors))


@pytest.mark.parametrize(
    ("box_a", "box_b", "expected"),
    [
        pytest.param([0, 0, 0, 0], [0, 0, 0, 0], 0.0, id="two padded rows"),
        pytest.param([0, 0, 0, 0], [0, 0, 10, 10], 0.0, id="a padded row and a box"),
        pytest.param([0, 0, 10, 10], [10, 0, 20, 10], 0.0, id="boxes that touch"),
        pytest.param([0, 0, 10, 10], [0, 0, 10, 10], 1.0, id="the same box"),
        pytest.param([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3, id="half over half"),
    ],
)
def test_iou_of_simple_boxes(box_a, box_b, expected):
    iou = pairwise_iou(torch.tensor([box_a]).float(), torch.tensor([box_b]).float())
    assert_close(iou, torch.tensor([[expected]]), atol=1e-6, rtol=0)


def test_take_rows_picks_per_image():
    values = torch.arange(12.0).view(2, 3, 2)
    taken = take_rows(values, torch.tensor([[2, 0], [1, 1]]))
    assert taken.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
