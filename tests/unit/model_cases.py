"""Small networks, images and targets that the tests of the network share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dermask.config import ModelSettings, override, preset
from dermask.models.batching import Target
from dermask.models.build import build_model
from dermask.models.mask_rcnn import MaskRCNN

# The small preset, every count and width cut down, its anchors fitted to images of 64 pixels.
_TINY: dict[str, object] = {
    "image.min_size": 64,
    "image.max_size": 64,
    "backbone.fpn_channels": 32,
    "rpn.anchor_sizes": (12.0, 20.0, 32.0, 48.0),
    "rpn.pre_nms_topk": 60,
    "rpn.post_nms_topk": 20,
    "rpn.train_pre_nms_topk": 100,
    "rpn.train_post_nms_topk": 40,
    "rpn.sampled_anchors": 64,
    "box_head.channels": 48,
    "box_head.sampled_rois": 16,
    "box_head.max_detections": 6,
    "mask_head.conv_channels": (24, 24),
}


def tiny_settings(changes: dict[str, object] | None = None) -> ModelSettings:
    """The small preset at a size for tests, with single settings changed."""
    return override(preset("small"), _TINY | (changes or {}))


def tiny_model(changes: dict[str, object] | None = None, *, seed: int = 0) -> MaskRCNN:
    """A fresh network of `tiny_settings` in evaluation mode, whose scores and boxes differ from place to place."""
    model = build_model(tiny_settings(changes), seed=seed)
    size = (model.settings.image.min_size,) * 2
    images, targets = random_images([size, size], seed=seed), [blob_target(size, 2), blob_target(size, 1)]
    settle_norm(model, lambda: model.losses(images, targets, seeds=torch.arange(2)))
    with torch.no_grad():
        model.rpn.objectness.weight.mul_(30)
        model.rpn.deltas.weight.mul_(10)
        model.box_head.class_logits.weight.mul_(3)
        model.mask_head.mask_logits.weight.mul_(100)
    return model


def settle_norm(model: nn.Module, run: Callable[[], object]) -> None:
    """Give every batch norm the statistics of one training pass, then hold them, also in training mode.

    Without it the signal of a network with random weights grows or fades from layer to layer, and every place looks
    alike. Leaves the model in evaluation mode.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.train()
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        run()
    for norm in norms:
        norm.momentum = 0.0
    model.eval()


def random_images(sizes: Sequence[tuple[int, int]], *, seed: int = 0) -> list[Tensor]:
    """(3, H, W) images of smooth random colours with some noise, one for each (H, W)."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for size in sizes:
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        smooth = nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0]
        images.append((smooth + 0.1 * torch.rand(3, *size, generator=generator)).clamp(0, 1))
    return images


def blob_target(size: tuple[int, int], count: int, *, num_classes: int = 1) -> Target:
    """`count` ellipses of different places and sizes, the first one cut off by the border."""
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    boxes, masks = [], []
    for number in range(count):
        centre_y, centre_x = height * (0.85 - 0.3 * number), width * (0.75 - 0.25 * number)
        radius_y, radius_x = height * (0.3 - 0.06 * number), width * (0.2 + 0.04 * number)
        mask = ((rows - centre_y) / radius_y) ** 2 + ((columns - centre_x) / radius_x) ** 2 < 1
        y, x = mask.nonzero(as_tuple=True)
        boxes.append(torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float())
        masks.append(mask)
    return Target(
        boxes=torch.stack(boxes) if boxes else torch.zeros(0, 4),
        labels=torch.arange(count) % num_classes + 1,
        masks=torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool),
    )
