"""Region proposal network: where a lesion might be, on every level of the pyramid.

Ren et al. 2015, arXiv:1506.01497.
Shapes: B images, L levels, A anchors per cell, N anchors over all levels, P proposals kept, M ground-truth boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dermask.config import RpnSettings
from dermask.models.anchors import cell_anchors, grid_anchors
from dermask.models.deltas import clip_boxes, decode_boxes, encode_boxes, large_enough, pairwise_iou, take_rows
from dermask.models.losses import delta_loss, objectness_loss
from dermask.models.matching import draw_samples, hash_uniform, match
from dermask.models.nms import best_survivors, suppress

# Proposals thinner than this, in pixels, are dropped before suppression (torchvision).
_MIN_SIDE = 1e-3
_SALT = 1


class RpnOutput(NamedTuple):
    """What the head says of every anchor.

    Attributes:
        objectness_logits: (B, N).
        deltas: (B, N, 4), unit weights.
        anchors: (N, 4) xyxy, pixels of the network's input.
        level_counts: Anchors on each level; their sum is N.
    """

    objectness_logits: Tensor
    deltas: Tensor
    anchors: Tensor
    level_counts: list[int]


class Proposals(NamedTuple):
    """Boxes offered to the heads, best first.

    Attributes:
        boxes: (B, P, 4) xyxy, inside the image.
        valid: (B, P) bool; False fills up.
    """

    boxes: Tensor
    valid: Tensor


class RegionProposalNetwork(nn.Module):
    """Head, anchors, choice of proposals, losses.

    Args:
        channels: Channels of the pyramid.
        settings: Anchors, thresholds and counts.
    """

    def __init__(self, channels: int, settings: RpnSettings) -> None:
        super().__init__()
        self.settings = settings
        shapes = len(settings.aspect_ratios)
        self.convs = nn.Sequential()
        for _ in range(settings.conv_depth):
            self.convs.extend([nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)])
        self.objectness = nn.Conv2d(channels, shapes, 1)
        self.deltas = nn.Conv2d(channels, shapes * 4, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for level, size in zip(settings.levels, settings.anchor_sizes, strict=True):
            cells = cell_anchors(size, settings.aspect_ratios)
            self.register_buffer(f"cell_anchors_{level}", cells, persistent=False)

    def forward(self, levels: Sequence[Tensor], padded_size: tuple[int, int]) -> RpnOutput:
        """Score every anchor and say how to move it.

        Args:
            levels: The levels named in the settings, (B, C, H_l, W_l) each.
            padded_size: Height and width of the network's input.
        """
        logits, deltas = [], []
        for level in levels:
            hidden = self.convs(level)
            logits.append(_anchors_last(self.objectness(hidden), 1).squeeze(-1))
            deltas.append(_anchors_last(self.deltas(hidden), 4))
        cells = [self.get_buffer(f"cell_anchors_{level}") for level in self.settings.levels]
        grids = [(level.shape[-2], level.shape[-1]) for level in levels]
        return RpnOutput(
            torch.cat(logits, dim=1).float(),
            torch.cat(deltas, dim=1).float(),
            grid_anchors(cells, grids, padded_size),
            [part.shape[1] for part in logits],
        )

    @torch.no_grad()
    def propose(self, output: RpnOutput, sizes: Tensor, *, training: bool) -> Proposals:
        """The best proposals of each image, after suppression within each level.

        Args:
            output: Of `forward`.
            sizes: (B, 2) height and width of each image without padding.
            training: Keep as many as training wants rather than as prediction does.
        """
        settings = self.settings
        pre = settings.train_pre_nms_topk if training else settings.pre_nms_topk
        post = settings.train_post_nms_topk if training else settings.post_nms_topk
        idxs, groups, start = [], [], 0
        for number, part in enumerate(torch.split(output.objectness_logits, output.level_counts, dim=1)):
            best = part.topk(min(pre, part.shape[1]), dim=1).indices
            idxs.append(best + start)
            groups.append(torch.full_like(best, number))
            start += part.shape[1]
        idx, group = torch.cat(idxs, dim=1), torch.cat(groups, dim=1)  # (B, K)

        scores = output.objectness_logits.gather(1, idx).sigmoid()
        # A diverged network has NaN here. It must reach the loss, which names it, and not RoIAlign as a place to read.
        boxes = decode_boxes(take_rows(output.deltas, idx), output.anchors[idx]).nan_to_num(nan=0.0)
        boxes = clip_boxes(boxes, sizes)
        survives = suppress(boxes, scores, group, large_enough(boxes, _MIN_SIDE), iou_thresh=settings.nms_thresh)
        kept, valid = best_survivors(scores, survives, post)
        return Proposals(take_rows(boxes, kept), valid)

    def losses(self, output: RpnOutput, gt_boxes: Tensor, gt_valid: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Objectness and box loss over sampled anchors.

        Args:
            output: Of `forward`.
            gt_boxes: (B, M, 4) padded, M >= 1.
            gt_valid: (B, M) bool.
            seeds: (B,) int64, what the sample is drawn by.

        Returns:
            rpn_class_loss and rpn_bbox_loss, scalars.
        """
        settings = self.settings
        quality = pairwise_iou(gt_boxes, output.anchors)
        matched_idxs, match_labels = match(
            quality,
            gt_valid,
            positive_iou=settings.positive_iou,
            negative_iou=settings.negative_iou,
            every_gt_matches=True,
        )
        samples = draw_samples(
            match_labels,
            hash_uniform(seeds, match_labels.shape[1], salt=_SALT),
            count=settings.sampled_anchors,
            positive_fraction=settings.positive_fraction,
        )
        logits = output.objectness_logits.gather(1, samples.idxs)
        matched = take_rows(gt_boxes, matched_idxs.gather(1, samples.idxs))
        targets = encode_boxes(matched, output.anchors[samples.idxs])
        return (
            objectness_loss(logits, samples.positive, samples.valid),
            delta_loss(take_rows(output.deltas, samples.idxs), targets, samples.positive, samples.valid),
        )


def _anchors_last(maps: Tensor, values: int) -> Tensor:
    """(B, A * values, H, W) as (B, H * W * A, values): rows, columns, shapes."""
    # Sizes stay unnamed but for the values', so that an exported graph holds for any grid.
    cells = maps.flatten(2)  # (B, A * values, H * W)
    return cells.view(cells.shape[0], -1, values, cells.shape[2]).permute(0, 3, 1, 2).flatten(1, 2)
