"""The least time that a network can take: its floating-point work, and how fast this machine multiplies matrices."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dermask.models.mask_rcnn import MaskRCNN
from dermask.scaling import padded_size

PARTS = ("trunk", "fpn", "rpn", "box_head", "mask_head")
# Rows, columns and depth of the product that is timed: as large as those of the networks' convolutions.
_SIDE = 768


def count_flops(model: MaskRCNN, *, num_detections: int = 1) -> dict[str, int]:
    """Floating-point operations of one square photograph, by part: two for each multiplication with its addition.

    Counts what convolutions and matrix products need, as published networks are counted; pooling, sorting and
    suppression come to little.

    Args:
        model: In evaluation mode, on the CPU.
        num_detections: How many are outlined.
    """
    side = padded_size((model.settings.image.min_size,) * 2, model.settings.image)
    images = torch.zeros(1, 3, *side)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(images, torch.tensor([side], dtype=torch.float32))
    by_module = counter.get_flop_counts()
    counts = {part: sum(by_module.get(f"MaskRCNN.{part}", {}).values()) for part in PARTS}
    # The forward pass outlines every slot for a detection.
    counts["mask_head"] = counts["mask_head"] * num_detections // model.settings.box_head.max_detections
    return counts


def matrix_rate(precision: torch.dtype, *, seconds: float = 0.5) -> float:
    """Floating-point operations a second of a large matrix product: the best of those made within `seconds`, or one."""
    a, b = (torch.ones(_SIDE, _SIDE, dtype=precision) for _ in range(2))
    a @ b
    end = time.perf_counter() + seconds
    best = _seconds_of_product(a, b)
    while time.perf_counter() < end:
        best = min(best, _seconds_of_product(a, b))
    return 2 * _SIDE**3 / best


def _seconds_of_product(a: Tensor, b: Tensor) -> float:
    started = time.perf_counter()
    a @ b
    return time.perf_counter() - started
