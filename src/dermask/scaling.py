"""The size at which the network sees a photograph: scaled to its settings, then padded to whole pyramid cells."""

from __future__ import annotations

import math

from dermask.config import ImageSettings


def network_size(size: tuple[int, int], settings: ImageSettings) -> tuple[int, int]:
    """Height and width at which the network sees an image of `size`, before padding; at least 1 pixel each."""
    scale = min(settings.min_size / min(size), settings.max_size / max(size))
    return max(1, math.floor(size[0] * scale)), max(1, math.floor(size[1] * scale))


def padded_size(size: tuple[int, int], settings: ImageSettings) -> tuple[int, int]:
    """Height and width of the batch that an image of network size `size` needs."""
    multiple = settings.pad_multiple
    return math.ceil(size[0] / multiple) * multiple, math.ceil(size[1] / multiple) * multiple
