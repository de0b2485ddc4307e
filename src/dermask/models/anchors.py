"""Anchors: reference boxes tiled over the grid of each pyramid level.

Shapes: A anchors per cell, H_l x W_l cells on level l. Anchors are xyxy in pixels of the padded network input and
reach beyond its border. Order: rows, then columns, then the A shapes, as the proposal head's output is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(size: float, aspect_ratios: Sequence[float]) -> Tensor:
    """(A, 4) anchors around the origin with the area size^2, rounded to whole pixels as the published weights expect.

    Args:
        size: Square root of the area, pixels.
        aspect_ratios: Height divided by width of each shape.
    """
    heights = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
    sides = torch.stack([1.0 / heights, heights], dim=1) * size
    return (torch.cat([-sides, sides], dim=1) / 2).round()


def grid_anchors(cells: Sequence[Tensor], grids: Sequence[tuple[int, int]], padded_size: tuple[int, int]) -> Tensor:
    """All anchors of all levels, one level after the other: (sum of H_l * W_l * A, 4).

    The stride is the padded size divided by the grid's, rounded down, so on a level whose grid was rounded up it
    is a little less than 2^l; torchvision does the same and its weights were trained so.

    Args:
        cells: Per level (A, 4), as `cell_anchors` makes them.
        grids: Per level (H_l, W_l).
        padded_size: Height and width of the network's input, padding included.
    """
    levels = []
    for cell, (rows, columns) in zip(cells, grids, strict=True):
        y = torch.arange(rows, device=cell.device, dtype=cell.dtype) * (padded_size[0] // rows)
        x = torch.arange(columns, device=cell.device, dtype=cell.dtype) * (padded_size[1] // columns)
        y, x = (grid.reshape(-1) for grid in torch.meshgrid(y, x, indexing="ij"))
        shifts = torch.stack([x, y, x, y], dim=1)
        levels.append((shifts[:, None] + cell[None]).reshape(-1, 4))
    return torch.cat(levels)
