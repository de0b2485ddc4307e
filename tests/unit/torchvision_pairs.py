"""torchvision's Mask R-CNNs, the oracle, and ours with the same weights and the same settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from model_cases import blob_target, random_images, settle_norm
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from dermask.config import override, preset
from dermask.models.batching import Target
from dermask.models.build import build_model
from dermask.models.mask_rcnn import MaskRCNN
from dermask.models.weights import translate

CONSTRUCTORS = {
    "torchvision_v1": detection.maskrcnn_resnet50_fpn,
    "torchvision_v2": detection.maskrcnn_resnet50_fpn_v2,
}
LOSS_NAMES = {
    "loss_objectness": "rpn_class_loss",
    "loss_rpn_box_reg": "rpn_bbox_loss",
    "loss_classifier": "mrcnn_class_loss",
    "loss_box_reg": "mrcnn_bbox_loss",
    "loss_mask": "mrcnn_mask_loss",
}
# Images of 96 pixels and few proposals, so that a ResNet-50 passes in tests; sampling takes every anchor and proposal.
MIN_SIZE, MAX_SIZE = 96, 160
EVERYTHING = 10**6
ORACLE_SETTINGS = {
    "min_size": MIN_SIZE,
    "max_size": MAX_SIZE,
    "rpn_pre_nms_top_n_train": 80,
    "rpn_pre_nms_top_n_test": 60,
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 30,
    "rpn_batch_size_per_image": EVERYTHING,
    "box_batch_size_per_image": EVERYTHING,
    "box_detections_per_img": 12,
}
OUR_SETTINGS: dict[str, object] = {
    "image.min_size": MIN_SIZE,
    "image.max_size": MAX_SIZE,
    "rpn.train_pre_nms_topk": 80,
    "rpn.pre_nms_topk": 60,
    "rpn.train_post_nms_topk": 40,
    "rpn.post_nms_topk": 30,
    "rpn.sampled_anchors": EVERYTHING,
    "box_head.sampled_rois": EVERYTHING,
    "box_head.max_detections": 12,
}


@dataclass(frozen=True)
class Pair:
    """torchvision's model and ours."""

    oracle: nn.Module
    ours: MaskRCNN


@dataclass(frozen=True)
class OracleDetections:
    """What torchvision finds in one image; `mask_probs` is before pasting."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_probs: Tensor
    pasted: Tensor


def make_pair(
    name: str,
    *,
    num_classes: int = 2,
    published_norm: bool = False,
    oracle_settings: dict[str, object] | None = None,
    our_settings: dict[str, object] | None = None,
) -> Pair:
    """Both models of a preset in evaluation mode, with one random state dict.

    Args:
        name: Preset.
        num_classes: Foreground classes.
        published_norm: Give torchvision's v1 the frozen batch norm that it has with published weights.
        oracle_settings: torchvision's keywords; None takes `ORACLE_SETTINGS`.
        our_settings: The same in our words; None takes `OUR_SETTINGS`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        oracle = CONSTRUCTORS[name](
            weights=None,
            weights_backbone=None,
            num_classes=num_classes + 1,
            **(ORACLE_SETTINGS if oracle_settings is None else oracle_settings),
        )
        _make_scores_differ(oracle)
    names = tuple(f"class {number + 1}" for number in range(num_classes))
    changes = OUR_SETTINGS if our_settings is None else our_settings
    ours = build_model(override(preset(name), {"class_names": names} | changes)).eval()
    ours.load_state_dict(translate(oracle.state_dict()), strict=True)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # as `settle_norm` leaves the oracle's
    if published_norm:
        _freeze_norm_as_published(oracle)
    return Pair(oracle, ours)


def _freeze_norm_as_published(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            _freeze_norm_as_published(child)


def _make_scores_differ(oracle: nn.Module) -> None:
    sizes = [(MIN_SIZE, MIN_SIZE), (MIN_SIZE, MIN_SIZE)]
    targets = [as_dict(blob_target(size, 2)) for size in sizes]
    settle_norm(oracle, lambda: oracle(random_images(sizes, seed=7), targets))
    with torch.no_grad():
        for name, value in oracle.named_parameters():
            if "bn" in name or name.endswith("bias"):
                value.add_(0.1 * torch.randn_like(value))
        heads = oracle.roi_heads
        for layer, factor in (
            (oracle.rpn.head.cls_logits, 10.0),
            (oracle.rpn.head.bbox_pred, 5.0),
            (heads.box_predictor.cls_score, 3.0),
            (heads.mask_predictor.mask_fcn_logits, 0.1),
        ):
            layer.weight.mul_(factor)


def as_dict(target: Target) -> dict[str, Tensor]:
    """The target as torchvision takes it."""
    return {"boxes": target.boxes, "labels": target.labels, "masks": target.masks.to(torch.uint8)}


@torch.no_grad()
def oracle_predict(oracle: nn.Module, images: list[Tensor]) -> list[OracleDetections]:
    """torchvision's results, with the masks before and after pasting."""
    before_pasting: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, outputs: tuple[list[dict[str, Tensor]], object]) -> None:
        before_pasting.extend(found["masks"][:, 0] for found in outputs[0])

    hook = oracle.roi_heads.register_forward_hook(keep)
    try:
        results = oracle.eval()(images)
    finally:
        hook.remove()
    return [
        OracleDetections(found["boxes"], found["scores"], found["labels"], small, found["masks"][:, 0])
        for found, small in zip(results, before_pasting, strict=True)
    ]


@torch.no_grad()
def oracle_losses(oracle: nn.Module, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """torchvision's five losses under our names.

    Its v1 has frozen batch norm when it comes with published weights, but not when it is built without any.
    """
    oracle.train()
    if "roi_heads.mask_head.0.1.weight" not in oracle.state_dict():
        for module in oracle.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    losses = oracle(images, [as_dict(target) for target in targets])
    oracle.eval()
    return {LOSS_NAMES[name]: value for name, value in losses.items()}
