"""Boxes in numpy: measure, compare, clip, convert.

Boxes are (N, 4) float32 xyxy in absolute pixels unless a name says otherwise; pixel i covers [i, i + 1), so width is
x2 - x1 with no + 1. N and M may be 0.
"""

from __future__ import annotations

import numpy as np

from dermask.records import FloatArray, ImageSize


def area(boxes: FloatArray) -> FloatArray:
    """Area of each box: (N,) float32 in square pixels; 0 for a box whose corners are swapped."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def iou(boxes_a: FloatArray, boxes_b: FloatArray) -> FloatArray:
    """Intersection over union of every box of one set with every box of the other.

    Args:
        boxes_a: (N, 4) xyxy.
        boxes_b: (M, 4) xyxy, same frame.

    Returns:
        (N, M) float32 in [0, 1]; symmetric in its arguments. Two boxes without area have IoU 0.
    """
    top_left = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])  # (N, M, 2)
    bottom_right = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(boxes_a)[:, None] + area(boxes_b)[None, :] - intersection
    ratio: FloatArray = np.divide(intersection, union, out=np.zeros(union.shape, np.float32), where=union > 0)
    return ratio


def clip(boxes: FloatArray, size: ImageSize) -> FloatArray:
    """The part of each box inside a photograph of `size`; a box outside it keeps no area. Returns a new array."""
    limits = np.array([size.width, size.height, size.width, size.height], np.float32)
    return np.clip(boxes, 0, limits).astype(np.float32, copy=False)


def xyxy_to_xywh(boxes: FloatArray) -> FloatArray:
    """Corners to left, top, width, height (COCO's order); inverse of `xywh_to_xyxy`."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """Left, top, width, height (COCO's order) to corners; inverse of `xyxy_to_xywh`."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
