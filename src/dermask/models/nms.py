"""Non-maximum suppression of padded batches, in shapes that do not depend on the data."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


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
    if torch.compiler.is_compiling():
        kept: Tensor = suppress_operator(boxes, scores, groups, valid, iou_thresh)
        return kept
    return _suppress_each(boxes, scores, groups, valid, iou_thresh)


def _suppress_each(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_thresh: float) -> Tensor:
    images = zip(boxes, scores, groups, valid, strict=True)
    return torch.stack([_suppress_one(*image, iou_thresh) for image in images])


def _suppress_one(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_thresh: float) -> Tensor:
    candidates = valid.nonzero().squeeze(1)
    kept = batched_nms(boxes[candidates], scores[candidates], groups[candidates], iou_thresh)
    return torch.zeros_like(valid).index_fill(0, candidates[kept], True)


# How many boxes survive depends on the data, the mask that says which does not: as one operator, suppression has a
# static shape for any batch, and an exporter can put its own in its place.
suppress_operator = torch.library.custom_op(
    "dermask::suppress",
    _suppress_each,
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, Tensor groups, Tensor valid, float iou_thresh) -> Tensor",
)


@suppress_operator.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_thresh: float) -> Tensor:
    return torch.empty_like(valid)


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


def contained(boxes: Tensor, labels: Tensor, valid: Tensor, *, share_thresh: float) -> Tensor:
    """Which of a few detections lie inside a better one of their class, or around it.

    Suppression by IoU keeps a box around a part of a lesion, since the two differ in size. Lesions do not lie inside
    lesions, so such a box is a part, or a frame around two that were found already.

    Args:
        boxes: (B, D, 4) xyxy, best first.
        labels: (B, D).
        valid: (B, D) bool.
        share_thresh: Intersection over the smaller of two boxes, above which the one with the lower score counts.

    Returns:
        (B, D) bool, a subset of `valid`.
    """
    top_left = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    bottom_right = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)  # (B, D, D)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    smaller = torch.minimum(area[:, :, None], area[:, None, :])
    clashes = (intersection > share_thresh * smaller) & (labels[:, :, None] == labels[:, None, :])
    later = torch.ones_like(clashes[0]).triu(diagonal=1)
    free = valid
    for rank in range(boxes.shape[1]):  # greedy, hence one after the other: what is contained does not contain
        free = free & ~(clashes[:, rank] & later[rank] & free[:, rank, None])
    return valid & ~free
