"""Settings to model: the whole composition on one page, and which part of it is trained."""

from __future__ import annotations

import torch
from torch import nn

from dermask.config import Layers, ModelSettings
from dermask.models.backbones import FrozenBatchNorm2d, NormLayer, mobilenet_v2_trunk, resnet50_trunk
from dermask.models.fpn import FeaturePyramid
from dermask.models.heads import BoxHead, MaskHead
from dermask.models.mask_rcnn import MaskRCNN
from dermask.models.rpn import RegionProposalNetwork

_TRUNKS = {"mobilenet_v2": mobilenet_v2_trunk, "resnet50": resnet50_trunk}
# Stages of the trunk that stay as they are, for each choice of layers.
_FROZEN_STAGES: dict[Layers, tuple[str, ...]] = {
    "all": (),
    "3+": ("stage2",),
    "4+": ("stage2", "stage3"),
    "heads": ("stage2", "stage3", "stage4", "stage5"),
}


def build_model(settings: ModelSettings, *, seed: int | None = None) -> MaskRCNN:
    """A network with fresh weights.

    Args:
        settings: Its preset, with what was overridden.
        seed: Fixes the weights without touching the global random state; None draws from that state.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return _compose(settings)


def _compose(settings: ModelSettings) -> MaskRCNN:
    num_classes = len(settings.class_names)
    channels = settings.backbone.fpn_channels
    trunk_norm: NormLayer = FrozenBatchNorm2d if settings.backbone.frozen_norm else nn.BatchNorm2d
    trunk = _TRUNKS[settings.backbone.name](trunk_norm)
    return MaskRCNN(
        settings,
        trunk=trunk,
        fpn=FeaturePyramid(
            trunk.channels,
            channels,
            norm_layer=nn.BatchNorm2d if settings.backbone.fpn_norm else None,
            finest_output_conv=settings.backbone.finest_output_conv,
            context_blocks=settings.backbone.context_blocks,
        ),
        rpn=RegionProposalNetwork(channels, settings.rpn),
        box_head=BoxHead(channels, num_classes, settings.box_head),
        mask_head=MaskHead(channels, num_classes, settings.mask_head),
    )


def set_trainable(model: MaskRCNN, layers: Layers) -> list[str]:
    """Choose what is trained, in Matterport's words; everything else stops taking gradients.

    Args:
        model: Changed in place.
        layers: `heads`: all but the trunk; `4+`, `3+`: also the trunk from that stage; `all`.

    Returns:
        Names of the parameters that are trained. Frozen batch norm never is.
    """
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(not isinstance(module, FrozenBatchNorm2d))
    for stage in _FROZEN_STAGES[layers]:
        model.trunk.get_submodule(stage).requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def freeze_norm(model: nn.Module) -> None:
    """Put every batch norm into evaluation mode, so that its statistics stay; call it after each `train()`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
