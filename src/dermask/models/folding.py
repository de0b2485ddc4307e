"""A network made ready to predict: the same answers from fewer and faster operations."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dermask.models.mask_rcnn import MaskRCNN


def prepare_to_predict(model: MaskRCNN, *, precision: torch.dtype = torch.float32) -> MaskRCNN:
    """A copy of a network that predicts faster, and can no longer be trained.

    Batch norm is folded into the convolution before it, weights lie as the fastest kernels read them (channels last),
    and with bfloat16 those of convolutions and linear layers are rounded once, instead of at every call under autocast.

    Args:
        model: Stays as it is.
        precision: `torch.float32`, whose answers differ from the model's by rounding alone, or `torch.bfloat16`, whose
            copy is to be called under `torch.autocast`.

    Returns:
        In evaluation mode, without gradients.
    """
    ready = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_norms(ready)
    if precision == torch.bfloat16:
        for module in ready.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.to(precision)
    # Of four axes, which have channels; others stay.
    return ready.to(memory_format=torch.channels_last)


def _fold_norms(module: nn.Module) -> None:
    """Fold each batch norm that is defined right after a convolution, which is also where it is applied: in sequences,
    and in torchvision's residual blocks."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            _fold_norms(child)
        previous = (name, child)
