"""RoIAlign over several pyramid levels.

Published implementations call RoIAlign once per level on the boxes of that level, which makes as many data-dependent
shapes as levels; `pool_per_level` does so too, number for number, for published weights. `pool_from_sheet` lays the
levels out beside each other on one sheet, each in a frame that repeats its border, and moves every box to its level's
place: one call, one static shape, and the same features but for boxes thinner than a cell at the border.

Shapes: B images, R regions, C channels, K cells per side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

# A box of this side (pixels of the network's input) is pooled from this level; Lin et al. 2017, equation 1.
CANONICAL_SIZE = 224.0
CANONICAL_LEVEL = 4
# Sampling points per cell and side; 2 is what every published FPN model was trained with.
SAMPLING_RATIO = 2
# Frame around each level on the sheet, in cells: RoIAlign widens boxes to one cell and reads one cell beyond.
_BEFORE, _AFTER = 1, 2


def pool_regions(
    levels: Sequence[Tensor],
    boxes: Tensor,
    image_idxs: Tensor,
    *,
    padded_size: tuple[int, int],
    pool_size: int,
    aligned: bool,
) -> Tensor:
    """Features of each box, from the level that fits its size.

    Args:
        levels: Per level (B, C, H_l, W_l), fine to coarse, each half the size of the one before it.
        boxes: (R, 4) xyxy in pixels of the network's input, inside it.
        image_idxs: (R,) int64, which image each box belongs to.
        padded_size: Height and width of the network's input, padding included.
        pool_size: K.
        aligned: Pixel centres at half integers, from the sheet; False repeats torchvision's detection models.

    Returns:
        (R, C, K, K) in the levels' dtype.

    Source:
        He et al. 2017, arXiv:1703.06870, section 3; the level rule from Lin et al. 2017, equation 1.
    """
    strides = [2 ** round(math.log2(padded_size[0] / level.shape[-2])) for level in levels]
    # A graph cannot hold as many shapes as there are ways to share boxes among levels.
    if aligned or torch.compiler.is_exporting():
        return pool_from_sheet(levels, boxes, image_idxs, strides=strides, pool_size=pool_size, aligned=aligned)
    return pool_per_level(levels, boxes, image_idxs, strides=strides, pool_size=pool_size)


def pool_from_sheet(
    levels: Sequence[Tensor],
    boxes: Tensor,
    image_idxs: Tensor,
    *,
    strides: Sequence[int],
    pool_size: int,
    aligned: bool = True,
) -> Tensor:
    """As `pool_regions`, in one call whose shapes do not depend on the boxes."""
    sheet, corners = _lay_out(levels)
    chosen = _level_of(boxes, strides)
    scales = boxes.new_tensor([1.0 / stride for stride in strides])[chosen]
    # Not new_tensor(corners): an exporter would take the corners of the size it happens to see for constants.
    origins = torch.stack([boxes.new_full((), place) for corner in corners for place in corner]).view(-1, 2)
    shifts = origins[chosen].repeat(1, 2) - (0.5 if aligned else 0.0)
    placed = boxes * scales[:, None] + shifts
    pooled: Tensor = roi_align(
        sheet, _rois(placed, image_idxs), pool_size, spatial_scale=1.0, sampling_ratio=SAMPLING_RATIO, aligned=False
    )
    return pooled


def pool_per_level(
    levels: Sequence[Tensor], boxes: Tensor, image_idxs: Tensor, *, strides: Sequence[int], pool_size: int
) -> Tensor:
    """As torchvision's `MultiScaleRoIAlign`: one call per level, without the half-pixel shift."""
    chosen = _level_of(boxes, strides)
    rois = _rois(boxes, image_idxs)
    pooled = levels[0].new_zeros((len(boxes), levels[0].shape[1], pool_size, pool_size))
    for number, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        (rows,) = (chosen == number).nonzero(as_tuple=True)
        features = roi_align(level, rois[rows], pool_size, 1.0 / stride, SAMPLING_RATIO, aligned=False)
        pooled.index_copy_(0, rows, features.to(pooled.dtype))
    return pooled


def _rois(boxes: Tensor, image_idxs: Tensor) -> Tensor:
    return torch.cat([image_idxs.to(boxes.dtype)[:, None], boxes], dim=1)


def _level_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """(R,) int64 index into the levels for (R, 4) boxes; box sides double from one level to the next."""
    side = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    finest = int(math.log2(strides[0]))
    # 1e-6 keeps a box of exactly the canonical size on its level in spite of rounding, as torchvision does.
    level = torch.floor(CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIZE) + 1e-6)
    return (level.clamp(finest, finest + len(strides) - 1) - finest).to(torch.int64)


def _lay_out(levels: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Put the levels on one sheet: the finest at the left, the others below one another at its right.

    Returns:
        The sheet (B, C, H, W) and, per level, x and y of its first cell there.
    """
    framed = [F.pad(level, (_BEFORE, _AFTER) * 2, mode="replicate") for level in levels]
    finest, rest = framed[0], framed[1:]
    beside = finest.shape[-1]
    corners = [(_BEFORE, _BEFORE)]
    if not rest:
        return finest, corners
    top = 0
    for level in rest:
        corners.append((beside + _BEFORE, top + _BEFORE))
        top += level.shape[-2]
    # Joined, not copied into a sheet of zeros: what exporters make of the latter walks over all of it for each level.
    column = torch.cat([_extend(level, level.shape[-2], rest[0].shape[-1]) for level in rest], dim=2)
    height = max(finest.shape[-2], top)
    sheet = torch.cat([_extend(finest, height, beside), _extend(column, height, column.shape[-1])], dim=3)
    return sheet, corners


def _extend(level: Tensor, height: int, width: int) -> Tensor:
    """(B, C, height, width) with zeros at the right and at the bottom."""
    return F.pad(level, (0, width - level.shape[-1], 0, height - level.shape[-2]))
