"""Boxes as tensors: clip them, compare them, and express one relative to another.

All boxes are xyxy in pixels of the network's input. Leading dimensions are free and broadcast.
Names: deltas are (dx, dy, dw, dh); "reference" is the box to reach, "proposal" the box to start from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
# exp(dw) is clamped so that one step never turns the smallest anchor of 16 px into more than 1000 px (Detectron).
MAX_LOG_RATIO = math.log(1000.0 / 16.0)


def encode_boxes(reference_boxes: Tensor, proposals: Tensor, weights: tuple[float, ...] = UNIT_WEIGHTS) -> Tensor:
    """Express each reference box relative to its proposal.

    Inverse of `decode_boxes`, to float precision, unless a size ratio exceeds the clamp there.

    Args:
        reference_boxes: (..., 4) the boxes to reach, wider and taller than 0.
        proposals: (..., 4) where to start from, wider and taller than 0.
        weights: Scale of (dx, dy, dw, dh).

    Returns:
        (..., 4); dx, dy in proposal widths and heights, dw, dh natural logs of size ratios, times the weights.

    Source:
        Girshick et al. 2014, arXiv:1311.2524, appendix C.
    """
    proposal_wh = proposals[..., 2:] - proposals[..., :2]
    reference_wh = reference_boxes[..., 2:] - reference_boxes[..., :2]
    proposal_centre = proposals[..., :2] + 0.5 * proposal_wh
    reference_centre = reference_boxes[..., :2] + 0.5 * reference_wh
    shift = (reference_centre - proposal_centre) / proposal_wh
    scale = torch.log(reference_wh / proposal_wh)
    return torch.cat([shift, scale], dim=-1) * proposals.new_tensor(weights)


def decode_boxes(deltas: Tensor, proposals: Tensor, weights: tuple[float, ...] = UNIT_WEIGHTS) -> Tensor:
    """The boxes that `deltas` describe, seen from `proposals`.

    Args:
        deltas: (..., 4), as `encode_boxes` makes them.
        proposals: (..., 4) xyxy.
        weights: As given to `encode_boxes`.

    Returns:
        (..., 4) xyxy, not clipped; infinite deltas in give non-finite boxes out.
    """
    deltas = deltas / deltas.new_tensor(weights)
    wh = proposals[..., 2:] - proposals[..., :2]
    centre = proposals[..., :2] + 0.5 * wh + deltas[..., :2] * wh
    half = 0.5 * wh * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_RATIO))
    return torch.cat([centre - half, centre + half], dim=-1)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip (B, N, 4) boxes to images of (B, 2) height and width."""
    limits = sizes.flip(-1).repeat(1, 2).unsqueeze(1)  # (B, 1, 4) as w, h, w, h
    return torch.minimum(boxes.clamp(min=0), limits)


def large_enough(boxes: Tensor, min_side: float) -> Tensor:
    """(...,) bool: both sides of (..., 4) boxes are at least `min_side` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= min_side).all(dim=-1)


def pairwise_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Intersection over union of (..., M, 4) with (..., N, 4): (..., M, N); 0 where both boxes are empty."""
    top_left = torch.maximum(boxes_a[..., :, None, :2], boxes_b[..., None, :, :2])
    bottom_right = torch.minimum(boxes_a[..., :, None, 2:], boxes_b[..., None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area_a = (boxes_a[..., 2:] - boxes_a[..., :2]).prod(dim=-1)
    area_b = (boxes_b[..., 2:] - boxes_b[..., :2]).prod(dim=-1)
    union = area_a[..., :, None] + area_b[..., None, :] - intersection
    return intersection / union.clamp(min=torch.finfo(boxes_a.dtype).tiny)


def take_rows(values: Tensor, idxs: Tensor) -> Tensor:
    """Per image, the rows of (B, N, K) at (B, R) indices: (B, R, K)."""
    return values.gather(1, idxs.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
