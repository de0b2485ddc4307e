"""Non-maximum suppression of padded batches, in shapes that do not depend on the data."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, *, iou_thresh: float) -> Tensor:
    """Which boxes survive greedy suppression within their group of their image.

    The one loop over images in this network: suppression is sequential, and one call for all images would compare boxes
    across them, which costs the square of the batch.

    Args:
        boxes: (B, N, 4) xyxy, not negative.
        scores: (B, N).
        groups: (B, N) int64; boxes of different groups (pyramid levels, classes) never suppress one another.
        valid: (B, N) bool; the others neither survive nor suppress.
        iou_thresh: IoU above which the box with the lower score goes.

    Returns:
        (B, N) bool.
    """
    return torch.stack(
        [_suppress_one(*image, iou_thresh) for image in zip(boxes, scores, groups, valid, strict=True)],
    )


def _suppress_one(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_thresh: float) -> Tensor:
    if torch.compiler.is_compiling():
        # batched_nms chooses between two ways by the number of boxes, which one graph cannot; this is the first, but
        # in float64, because shifting groups away from each other costs float32 the digits that decide close cases.
        # Nor may a graph pick out the valid boxes: it would hold for at least two of them only. The others shrink to
        # a point, which overlaps nothing.
        span = boxes.amax().double() + 1
        shifted = boxes.double() * valid[:, None] + (groups.double() * span)[:, None]
        kept = nms(shifted, scores.double(), iou_thresh)
        return torch.zeros_like(valid).index_fill(0, kept, True) & valid
    candidates = valid.nonzero().squeeze(1)
    kept = batched_nms(boxes[candidates], scores[candidates], groups[candidates], iou_thresh)
    return torch.zeros_like(valid).index_fill(0, candidates[kept], True)


def best_survivors(scores: Tensor, survives: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Per image the `count` best survivors, best first.

    Args:
        scores: (B, N), at least 0.
        survives: (B, N) bool.
        count: How many; N if that is less.

    Returns:
        idxs: (B, count) int64.
        valid: (B, count) bool; False fills up.
    """
    ordered, idxs = scores.masked_fill(~survives, -1.0).sort(dim=1, descending=True, stable=True)
    return idxs[:, :count], ordered[:, :count] >= 0
