"""A network of a tenth of a second per step, and drawn discs to train it on."""

from __future__ import annotations

import numpy as np

from dermask.config import NO_AUGMENTATION, ModelSettings, RunSettings, override
from dermask.data.dataset import Dataset
from dermask.records import Bitmask, Instance, Sample

TINY_MODEL = override(
    ModelSettings(),
    {
        "image.min_size": 64,
        "image.max_size": 64,
        "backbone.fpn_channels": 16,
        "rpn.anchor_sizes": (8.0, 16.0, 32.0, 64.0),
        "rpn.sampled_anchors": 32,
        "box_head.channels": 32,
        "box_head.sampled_rois": 16,
        "mask_head.pool_size": 14,
        "mask_head.resolution": 28,
        "mask_head.conv_channels": (16,),
    },
)


def tiny_settings(*, augmented: bool = True, **train: object) -> RunSettings:
    """Two epochs of two steps of two photographs, in float32 so that runs can be compared."""
    base = RunSettings(model=TINY_MODEL) if augmented else RunSettings(model=TINY_MODEL, augment=NO_AUGMENTATION)
    values = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 2, "precision": "fp32", "workers": 0} | train
    return override(base, {f"train.{name}": value for name, value in values.items()})


def discs(count: int, *, side: int = 64, seed: int = 0, lesions: tuple[int, ...] = (1,)) -> Dataset:
    """Photographs of dark discs on bright noise; `lesions` says how many, over and over."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + 0.5
    samples = []
    for number in range(count):
        image = rng.integers(190, 220, (side, side, 3), np.uint8)
        instances = []
        for _ in range(lesions[number % len(lesions)]):
            centre_y, centre_x = rng.uniform(0.35 * side, 0.65 * side, 2)
            mask = (y - centre_y) ** 2 + (x - centre_x) ** 2 < rng.uniform(0.15 * side, 0.3 * side) ** 2
            image[mask] = (90, 50, 40)
            instances.append(Instance(1, Bitmask(mask)))
        samples.append(Sample(f"disc{number}", image, None, tuple(instances)))
    return Dataset(samples, name="discs")
