"""Mask R-CNN: trunk, pyramid, proposals, box head and mask head as one batched network.

He et al. 2017, arXiv:1703.06870. `losses` and `predict` are two methods with two types; neither depends on the mode.

Shapes: B images; M ground-truth boxes per image, padded; P proposals and D detections per image, padded and flagged;
R regions over all images; C foreground classes, labels from 1, 0 the background; S mask cells per side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from dermask.config import ModelSettings
from dermask.models.backbones import Trunk
from dermask.models.batching import (
    ImageBatch,
    Target,
    TargetBatch,
    make_batch,
    make_target_batch,
)
from dermask.models.deltas import clip_boxes, decode_boxes, encode_boxes, large_enough, pairwise_iou, take_rows
from dermask.models.fpn import FeaturePyramid
from dermask.models.heads import BoxHead, MaskHead
from dermask.models.losses import class_loss, delta_loss, mask_loss
from dermask.models.matching import Samples, draw_samples, hash_uniform, match
from dermask.models.nms import best_survivors, contained, suppress
from dermask.models.pooling import pool_regions
from dermask.models.rpn import Proposals, RegionProposalNetwork
from dermask.scaling import network_size, padded_size

LOSS_NAMES = ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss")
# Detections thinner than this, in pixels of the network's input, are dropped (torchvision).
_MIN_SIDE = 1e-2
_FINEST_STAGE = 2
# What a detection inside a better one keeps of its score: so much that it still ranks, so little that it never passes a
# threshold of a half. Dropping it instead cost 4 points of AP50 on validation, where the better-scoring one was wrong.
_CONTAINED_DECAY = 0.5
_SALT = 2


@dataclass(frozen=True, slots=True)
class TensorDetections:
    """Detections of one image, best first, in the frame of the image as it was given.

    Attributes:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 from 1.
        mask_probs: (N, S, S) float32 in [0, 1], in the frame of each box.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_probs: Tensor

    def __len__(self) -> int:
        return len(self.scores)


class PaddedDetections(NamedTuple):
    """Detections of a batch in one static shape, in the frame of the network's input.

    Attributes:
        boxes: (B, D, 4) xyxy.
        scores: (B, D).
        labels: (B, D) int64 from 1, also where not valid.
        valid: (B, D) bool; the valid ones come first, best first.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor


class MaskRCNN(nn.Module):
    """The whole network. `dermask.models.build.build_model` puts it together from settings.

    Args:
        settings: What it was built from.
        trunk: Images to C2..C5.
        fpn: C2..C5 to P2..P6.
        rpn: Proposals.
        box_head: Class and box of a region.
        mask_head: Outline of a region.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        trunk: Trunk,
        fpn: FeaturePyramid,
        rpn: RegionProposalNetwork,
        box_head: BoxHead,
        mask_head: MaskHead,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = trunk
        self.fpn = fpn
        self.rpn = rpn
        self.box_head = box_head
        self.mask_head = mask_head

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The five training losses; their sum is what to minimise.

        Args:
            images: B images, (3, H, W) float32 in [0, 1], any sizes.
            targets: One per image, in its frame; an image without objects is ordinary.
            seeds: (B,) int64 that fix which anchors and proposals are sampled for each image; None draws them.

        Returns:
            Scalars named `LOSS_NAMES`, finite and differentiable for any number of objects.
        """
        batch = make_batch(images, self.settings.image, channels_last=self._channels_last)
        truth = make_target_batch(targets, batch)
        if seeds is None:
            seeds = torch.randint(1 << 62, (len(images),))
        seeds = seeds.to(batch.images.device)

        levels = self.fpn(self.trunk(batch.images))
        rpn_output = self.rpn(self._rpn_levels(levels), batch.padded_size)
        rpn_class_loss, rpn_bbox_loss = self.rpn.losses(rpn_output, truth.boxes, truth.valid, seeds)
        proposals = self.rpn.propose(rpn_output, batch.sizes, training=True)
        regions = self._sample_regions(proposals, truth, seeds)
        values = (
            rpn_class_loss,
            rpn_bbox_loss,
            *self._box_losses(levels, regions, batch),
            self._mask_loss(levels, regions, truth, batch),
        )
        return dict(zip(LOSS_NAMES, values, strict=True))

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[TensorDetections]:
        """What is in each image. Call `eval()` first.

        Images whose padded sizes agree form one batch, so that the result for an image never depends on the images
        that are given with it.

        Args:
            images: (3, H, W) float32 in [0, 1] each, any sizes; may be empty.
        """
        groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            size = network_size((image.shape[-2], image.shape[-1]), self.settings.image)
            groups[padded_size(size, self.settings.image)].append(number)
        results: dict[int, TensorDetections] = {}
        for numbers in groups.values():
            batch = make_batch(
                [images[number] for number in numbers], self.settings.image, channels_last=self._channels_last
            )
            results.update(zip(numbers, self._predict_batch(batch), strict=True))
        return [results[number] for number in range(len(images))]

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Detections of a prepared batch in static shapes, for compilers and exporters.

        Args:
            images: (B, 3, H, W) normalised and padded.
            sizes: (B, 2) float32 height and width without padding.

        Returns:
            boxes (B, D, 4), scores (B, D), labels (B, D), valid (B, D) as in `PaddedDetections`, and mask
            probabilities (B, D, S, S).
        """
        padded = (images.shape[-2], images.shape[-1])
        levels, found = self._detect(images, sizes)
        batch, count = found.scores.shape
        image_idxs = torch.arange(batch, device=images.device)[:, None].expand(-1, count)
        mask_probs = self._outline(
            levels, found.boxes.flatten(0, 1), found.labels.flatten(), image_idxs.flatten(), padded
        )
        return *found, mask_probs.view(batch, count, *mask_probs.shape[1:])

    @property
    def _channels_last(self) -> bool:
        weight = next(parameter for parameter in self.trunk.parameters() if parameter.ndim == 4)
        return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()

    def _rpn_levels(self, levels: Sequence[Tensor]) -> list[Tensor]:
        return [levels[number - _FINEST_STAGE] for number in self.settings.rpn.levels]

    def _box_levels(self, levels: Sequence[Tensor]) -> list[Tensor]:
        # Level 6 only carries large anchors: it is a subsampled level 5, which is better to pool from.
        return [levels[number - _FINEST_STAGE] for number in self.settings.rpn.levels if number < 6]

    def _pool(
        self, levels: Sequence[Tensor], boxes: Tensor, image_idxs: Tensor, padded: tuple[int, int], pool_size: int
    ) -> Tensor:
        return pool_regions(
            levels,
            boxes,
            image_idxs,
            padded_size=padded,
            pool_size=pool_size,
            aligned=self.settings.roi_aligned,
        )

    def _predict_batch(self, batch: ImageBatch) -> list[TensorDetections]:
        levels, found = self._detect(batch.images, batch.sizes)
        image_idxs, _ = found.valid.nonzero(as_tuple=True)
        boxes, scores, labels = found.boxes[found.valid], found.scores[found.valid], found.labels[found.valid]
        mask_probs = self._outline(levels, boxes, labels, image_idxs, batch.padded_size)
        boxes = boxes * batch.ratios[image_idxs]
        counts = found.valid.sum(dim=1).tolist()
        parts = (torch.split(part, counts) for part in (boxes, scores, labels, mask_probs))
        return [TensorDetections(*values) for values in zip(*parts, strict=True)]

    def _detect(self, images: Tensor, sizes: Tensor) -> tuple[list[Tensor], PaddedDetections]:
        """Pyramid and boxes; the masks are left to whoever knows how many are wanted."""
        padded = (images.shape[-2], images.shape[-1])
        levels = self.fpn(self.trunk(images))
        proposals = self.rpn.propose(self.rpn(self._rpn_levels(levels), padded), sizes, training=False)
        batch, count = proposals.valid.shape
        image_idxs = torch.arange(batch, device=images.device).repeat_interleave(count)
        pooled = self._pool(
            self._box_levels(levels),
            proposals.boxes.flatten(0, 1),
            image_idxs,
            padded,
            self.settings.box_head.pool_size,
        )
        class_logits, deltas = self.box_head(pooled)
        return levels, self._choose_detections(class_logits, deltas, proposals, sizes)

    def _choose_detections(
        self, class_logits: Tensor, deltas: Tensor, proposals: Proposals, sizes: Tensor
    ) -> PaddedDetections:
        settings = self.settings.box_head
        batch, count = proposals.valid.shape
        num_classes = class_logits.shape[1] - 1
        probs = class_logits.softmax(dim=-1)[:, 1:].view(batch, count, num_classes)
        scores = probs.masked_fill(~proposals.valid[..., None], 0.0).flatten(1)  # (B, P * C)
        # The classes of a proposal sum to 1, so at most 1 / score_thresh of them can pass: looking no further is exact.
        passing = count * num_classes
        if settings.score_thresh > 0:
            passing = min(passing, int(count / settings.score_thresh))
        scores, candidates = (part[:, :passing] for part in scores.sort(dim=1, descending=True, stable=True))
        rows, classes = candidates // num_classes, candidates % num_classes
        chosen = take_rows(deltas[:, 1:].reshape(batch, count * num_classes, 4), candidates)
        boxes = decode_boxes(chosen, take_rows(proposals.boxes, rows), settings.delta_weights)
        boxes = clip_boxes(boxes.nan_to_num(nan=0.0), sizes)
        passes = (scores > settings.score_thresh) & large_enough(boxes, _MIN_SIDE)
        survives = suppress(boxes, scores, classes, passes, iou_thresh=settings.nms_thresh)
        kept, valid = best_survivors(scores, survives, settings.max_detections)
        found = PaddedDetections(take_rows(boxes, kept), scores.gather(1, kept), classes.gather(1, kept) + 1, valid)
        if settings.contained_thresh >= 1:
            return found
        inside = contained(found.boxes, found.labels, valid, share_thresh=settings.contained_thresh)
        scores = torch.where(inside, found.scores * _CONTAINED_DECAY, found.scores)
        order, valid = best_survivors(scores, valid & (scores > settings.score_thresh), settings.max_detections)
        return PaddedDetections(
            take_rows(found.boxes, order), scores.gather(1, order), found.labels.gather(1, order), valid
        )

    def _mask_logits(
        self, levels: Sequence[Tensor], boxes: Tensor, labels: Tensor, image_idxs: Tensor, padded: tuple[int, int]
    ) -> Tensor:
        settings = self.settings.mask_head
        sources = levels[:1] if settings.finest_level else self._box_levels(levels)
        logits: Tensor = self.mask_head(self._pool(sources, boxes, image_idxs, padded, settings.pool_size), labels)
        return logits

    def _outline(
        self, levels: Sequence[Tensor], boxes: Tensor, labels: Tensor, image_idxs: Tensor, padded: tuple[int, int]
    ) -> Tensor:
        """(R, S, S) float32 mask probabilities of (R, 4) boxes in the network's frame."""
        return self._mask_logits(levels, boxes, labels, image_idxs, padded).float().sigmoid()

    @torch.no_grad()
    def _sample_regions(self, proposals: Proposals, truth: TargetBatch, seeds: Tensor) -> SampledRegions:
        """Proposals and the ground-truth boxes themselves, matched and sampled."""
        settings = self.settings.box_head
        boxes = torch.cat([proposals.boxes, truth.boxes], dim=1)
        usable = torch.cat([proposals.valid, truth.valid], dim=1)
        matched_idxs, match_labels = match(
            pairwise_iou(truth.boxes, boxes),
            truth.valid,
            positive_iou=settings.positive_iou,
            negative_iou=settings.positive_iou,
            every_gt_matches=False,
        )
        samples = draw_samples(
            match_labels.masked_fill(~usable, -1),
            hash_uniform(seeds, boxes.shape[1], salt=_SALT),
            count=settings.sampled_rois,
            positive_fraction=settings.positive_fraction,
        )
        matched = matched_idxs.gather(1, samples.idxs)
        return SampledRegions(
            boxes=take_rows(boxes, samples.idxs),
            samples=samples,
            labels=truth.labels.gather(1, matched).masked_fill(~samples.positive, 0),
            gt_boxes=take_rows(truth.boxes, matched),
            mask_idxs=truth.mask_idxs.gather(1, matched),
        )

    def _box_losses(
        self, levels: Sequence[Tensor], regions: SampledRegions, batch: ImageBatch
    ) -> tuple[Tensor, Tensor]:
        settings = self.settings.box_head
        valid = regions.samples.valid.flatten()
        image_idxs = torch.arange(len(regions.boxes), device=valid.device).repeat_interleave(regions.boxes.shape[1])
        boxes, gt_boxes = regions.boxes.flatten(0, 1), regions.gt_boxes.flatten(0, 1)
        labels, positive = regions.labels.flatten(), regions.samples.positive.flatten()
        if settings.kind == "conv" and self.box_head.training:
            # Batch norm must not see the rows that only fill up.
            boxes, gt_boxes, image_idxs = boxes[valid], gt_boxes[valid], image_idxs[valid]
            labels, positive, valid = labels[valid], positive[valid], valid[valid]
        pooled = self._pool(self._box_levels(levels), boxes, image_idxs, batch.padded_size, settings.pool_size)
        class_logits, deltas = self.box_head(pooled)
        of_label = deltas.gather(1, labels[:, None, None].expand(-1, 1, 4)).squeeze(1)
        targets = encode_boxes(gt_boxes, boxes, settings.delta_weights)
        return class_loss(class_logits, labels, valid), delta_loss(of_label, targets, positive, valid)

    def _mask_loss(
        self, levels: Sequence[Tensor], regions: SampledRegions, truth: TargetBatch, batch: ImageBatch
    ) -> Tensor:
        limit = self.settings.mask_head.train_rois
        positive = regions.samples.positive
        image_idxs = torch.arange(len(positive), device=positive.device)[:, None].expand_as(positive)
        parts = (regions.boxes, regions.labels, image_idxs, regions.mask_idxs, positive)
        if limit is None or not truth.masks.shape[0]:
            boxes, labels, image_idxs, mask_idxs, valid = (part[positive] for part in parts)
        else:
            # A fixed number per image keeps shapes static; positives come first, background fills up with weight 0.
            boxes, labels, image_idxs, mask_idxs, valid = (part[:, :limit].flatten(0, 1) for part in parts)
        labels = labels.clamp(min=1)
        mask_idxs = mask_idxs.clamp(max=max(0, truth.masks.shape[0] - 1))
        logits = self._mask_logits(levels, boxes, labels, image_idxs, batch.padded_size)
        rois = torch.cat([mask_idxs.to(boxes.dtype)[:, None], boxes], dim=1)
        targets = roi_align(truth.masks, rois, logits.shape[-1], aligned=self.settings.roi_aligned)[:, 0]
        return mask_loss(logits, targets, valid)


class SampledRegions(NamedTuple):
    """Regions that the heads are trained on.

    Attributes:
        boxes: (B, S, 4).
        samples: Which slots are valid and positive; positives come first.
        labels: (B, S) int64, 0 for background.
        gt_boxes: (B, S, 4) matched ground truth; meaningless where not positive.
        mask_idxs: (B, S) int64 row in the target masks; meaningless where not positive.
    """

    boxes: Tensor
    samples: Samples
    labels: Tensor
    gt_boxes: Tensor
    mask_idxs: Tensor
