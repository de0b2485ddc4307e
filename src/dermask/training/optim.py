"""What moves the weights: the optimiser, its learning rate at each step, and the weights' moving average."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from dermask.config import TrainSettings

Model = TypeVar("Model", bound=nn.Module)

_WARMUP_START = 0.01  # share of the peak rate at the first step
_WARMUP_MAX_SHARE = 0.1  # of all steps, so that a short run still trains at its peak rate


def build_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser over everything that requires a gradient.

    Convolution and linear weights decay; biases and norms (tensors of fewer than two dimensions) do not, since they
    scale and shift features and shrinking them regularises nothing (He et al. 2019, arXiv:1812.01187, section 3.1).
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.learning_rate, momentum=settings.momentum, fused=True)
    return torch.optim.AdamW(groups, settings.learning_rate, fused=True)


def learning_rate(step: int, total_steps: int, settings: TrainSettings) -> float:
    """Rate of optimiser step `step`, counted from 0: a straight warm-up, then half a cosine down to `final_rate`.

    Depends on its arguments alone, so that a resumed run needs no scheduler's state.
    """
    peak = settings.learning_rate
    warmup_steps = min(settings.warmup_steps, math.floor(total_steps * _WARMUP_MAX_SHARE))
    if step < warmup_steps:
        return peak * (_WARMUP_START + (1 - _WARMUP_START) * step / warmup_steps)
    progress = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    return peak * (settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class WeightAverage(Generic[Model]):
    """The exponential moving average of a model's parameters and buffers, kept as a model of its own.

    The decay ramps up, min(decay, (1 + step) / (10 + step)), so that the random start is forgotten within a few steps.

    Args:
        model: Copied as it stands.
        decay: Share of the old average kept at each step, in [0, 1). 0 makes `self.model` the very model that is
            trained: no copy, no work.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step`, counted from 1."""
        if not self.decay:
            return
        keep = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - keep)
            else:
                average.copy_(value)  # counters have no average


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
