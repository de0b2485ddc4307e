"""Images and targets of any size become one padded batch at the network's scale.

Shapes: B images; the batch is (B, 3, H, W) with H and W multiples of the pyramid's coarsest stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dermask.config import ImageSettings
from dermask.scaling import network_size, padded_size


@dataclass(frozen=True, slots=True)
class Target:
    """Ground truth of one image, in the frame of that image.

    Attributes:
        boxes: (M, 4) float32 xyxy, wider and taller than 0; M may be 0.
        labels: (M,) int64 from 1.
        masks: (M, H, W) bool or uint8.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.boxes.shape != (count, 4) or self.masks.ndim != 3 or len(self.masks) != count:
            shapes = (
                f"boxes {tuple(self.boxes.shape)}, labels {tuple(self.labels.shape)}, masks {tuple(self.masks.shape)}"
            )
            raise ValueError(f"Target: {shapes} do not belong together; expected (M, 4), (M,), (M, H, W)")

    def to(self, device: torch.device | str) -> Target:
        """The same target on another device."""
        return Target(self.boxes.to(device), self.labels.to(device), self.masks.to(device))


class ImageBatch(NamedTuple):
    """Normalised images of one batch.

    Attributes:
        images: (B, 3, H, W), zeros where padded.
        sizes: (B, 2) float32 height and width without padding.
        ratios: (B, 4) float32, what takes xyxy boxes back to the images as they were given.
    """

    images: Tensor
    sizes: Tensor
    ratios: Tensor

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width with padding."""
        return self.images.shape[-2], self.images.shape[-1]


class TargetBatch(NamedTuple):
    """Ground truth of one batch, at the network's scale.

    Attributes:
        boxes: (B, M, 4), M >= 1 the largest count, zeros where padded.
        labels: (B, M) int64, 0 where padded.
        valid: (B, M) bool.
        masks: (sum of the counts, 1, H, W) float32, image after image.
        mask_idxs: (B, M) int64, which row of `masks` belongs to which box.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    masks: Tensor
    mask_idxs: Tensor


def make_batch(images: Sequence[Tensor], settings: ImageSettings, *, channels_last: bool = False) -> ImageBatch:
    """Normalise, resize and pad images.

    Args:
        images: (3, H, W) float in [0, 1] each, RGB, any sizes.
        settings: Scale, padding, mean and standard deviation.
        channels_last: Memory format of the batch.
    """
    mean = images[0].new_tensor(settings.mean)[:, None, None]
    std = images[0].new_tensor(settings.std)[:, None, None]
    resized = []
    for image in images:
        size = network_size((image.shape[-2], image.shape[-1]), settings)
        normalised = (image - mean) / std
        if size != tuple(image.shape[-2:]):
            normalised = F.interpolate(normalised[None], size=size, mode="bilinear", align_corners=False)[0]
        resized.append(normalised)
    height = max(image.shape[-2] for image in resized)
    width = max(image.shape[-1] for image in resized)
    height, width = padded_size((height, width), settings)
    batch = images[0].new_zeros((len(images), 3, height, width))
    if channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    for row, image in zip(batch, resized, strict=True):
        row[:, : image.shape[-2], : image.shape[-1]] = image
    sizes = batch.new_tensor([image.shape[-2:] for image in resized], dtype=torch.float32)
    given = batch.new_tensor([image.shape[-2:] for image in images], dtype=torch.float32)
    return ImageBatch(batch, sizes, (given / sizes).flip(-1).repeat(1, 2))


def make_target_batch(targets: Sequence[Target], batch: ImageBatch) -> TargetBatch:
    """Bring targets to the scale of their batch and pad them to one shape.

    Args:
        targets: One per image, in the frame of the image as it was given.
        batch: The images.
    """
    device = batch.images.device
    most = max(1, max(len(target.labels) for target in targets))
    boxes = torch.zeros(len(targets), most, 4, device=device)
    labels = torch.zeros(len(targets), most, dtype=torch.int64, device=device)
    masks = []
    for row, target in enumerate(targets):
        count = len(target.labels)
        boxes[row, :count] = target.boxes.to(boxes.dtype) / batch.ratios[row]
        labels[row, :count] = target.labels
        size = (int(batch.sizes[row, 0]), int(batch.sizes[row, 1]))
        masks.append(_fit_masks(target.masks, size, batch.padded_size))
    counts = torch.tensor([len(target.labels) for target in targets], device=device)
    first = counts.cumsum(0) - counts
    rank = torch.arange(most, device=device)
    return TargetBatch(boxes, labels, rank < counts[:, None], torch.cat(masks), first[:, None] + rank)


def _fit_masks(masks: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """(M, H, W) masks at network size, padded: (M, 1, H', W') float32.

    The padding repeats the border, so that a lesion cut off by the photograph's edge has no false edge there.
    """
    fitted = masks[:, None].to(torch.float32)
    if tuple(fitted.shape[-2:]) != size:
        fitted = F.interpolate(fitted, size=size)
    if size != padded and len(fitted):
        return F.pad(fitted, (0, padded[1] - size[1], 0, padded[0] - size[0]), mode="replicate")
    return fitted if len(fitted) else fitted.new_zeros((0, 1, *padded))
