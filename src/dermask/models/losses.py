"""The pieces the five losses are made of.

A loss here is a sum over samples divided by their count. With several processes the count is the mean over all of
them, so that gradients averaged by data-parallel training equal those of one process with the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

# Where smooth L1 turns from a parabola into a line, in units of the deltas (torchvision, Detectron).
SMOOTH_L1_BETA = 1.0 / 9.0


def mean_count(valid: Tensor) -> Tensor:
    """How many are valid, averaged over all processes; never 0, so that an empty batch divides well."""
    count = valid.sum().to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        return count.clamp(min=1.0) / dist.get_world_size()
    return count.clamp(min=1.0)


def objectness_loss(objectness_logits: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy of (B, S) logits, mean over the valid samples."""
    losses = F.binary_cross_entropy_with_logits(objectness_logits.float(), positive.float(), reduction="none")
    return losses.masked_fill(~valid, 0.0).sum() / mean_count(valid)


def delta_loss(deltas: Tensor, regression_targets: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Smooth L1 of (..., 4) deltas over the positives, divided by the number of valid samples."""
    # Rows that are not positive may hold targets of fillers: infinite, so they must not even be multiplied by 0.
    targets = torch.where(positive[..., None], regression_targets, deltas.detach().float())
    losses = F.smooth_l1_loss(deltas.float(), targets, beta=SMOOTH_L1_BETA, reduction="none")
    return losses.sum() / mean_count(valid)


def class_loss(class_logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy of (R, C + 1) logits against (R,) labels with 0 the background, mean over the valid rows."""
    losses = F.cross_entropy(class_logits.float(), labels, reduction="none")
    return losses.masked_fill(~valid, 0.0).sum() / mean_count(valid)


def mask_loss(mask_logits: Tensor, mask_targets: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy of (R, S, S) logits against targets in [0, 1], mean over cells and valid rows."""
    losses = F.binary_cross_entropy_with_logits(mask_logits.float(), mask_targets, reduction="none")
    per_region = losses.flatten(1).mean(dim=1) if len(losses) else losses.sum(dim=(1, 2))
    return per_region.masked_fill(~valid, 0.0).sum() / mean_count(valid)
