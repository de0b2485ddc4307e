"""Photographs with another number of lesions than their own: none, or several.

Most labelled dermoscopy shows one lesion in the middle. A network that has seen nothing else outlines something on
every photograph, and overlooks the second lesion. Here lesions of other photographs are put on the free skin of one
(Ghiasi et al. 2021, arXiv:2012.07177), or a part of its skin is all that is shown, or a drawn scene takes its place.
Mosaics are in `dermask.training.transforms`, for they lie on the canvas.

Shapes: image (H, W, 3) uint8 RGB, masks (M, H, W) bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dermask.data.composed import place_lesions
from dermask.data.dataset import LoadedSample
from dermask.data.synthetic import MIN_SIDE, SceneSettings, draw_scene
from dermask.records import BoolArray, ImageSize

MAX_PASTED = 4
_PASTED_AREA = (0.004, 0.12)  # of the photograph, drawn on a log scale
_PASTE_TRIES = 4  # per lesion
# Sides of a part of the skin as shares of the photograph's, from the first try to the last, and its distance from the
# outlined lesion, which is often drawn a little too small.
_SKIN_SIDES = (0.7, 0.2)
_SKIN_MARGIN = 0.03
_SKIN_TRIES = 40
# What photographs lack: none and several come more often than one, and stickers, rulers and bubbles on bare skin.
_SCENES = SceneSettings(lesion_counts=(0.4, 0.2, 0.2, 0.12, 0.08), patch=0.2, ruler=0.25, bubbles=0.3)


def paste_lesions(sample: LoadedSample, donors: Sequence[LoadedSample], rng: np.random.Generator) -> LoadedSample:
    """The photograph with one to `MAX_PASTED` further lesions, as many as find room.

    Args:
        sample: Any photograph with M lesions, possibly none.
        donors: Photographs to take lesions from; those with one lesion give it, others give nothing.
        rng: All randomness.

    Returns:
        The pasted lesions follow the photograph's own, with their own labels; without room, the photograph as it is.
    """
    givers = [donor for donor in donors if len(donor.masks) == 1]
    if not givers:
        return sample
    taken: BoolArray = np.any(sample.masks, axis=0)
    wanted = int(rng.integers(1, MAX_PASTED + 1))
    candidates = (
        (givers[int(rng.integers(len(givers)))], float(np.exp(rng.uniform(*np.log(_PASTED_AREA)))))
        for _ in range(wanted * _PASTE_TRIES)
    )
    image, placed = place_lesions(sample.image, taken, candidates, wanted=wanted, rng=rng)
    if not placed:
        return sample
    masks = np.stack([*sample.masks, *(mask for _, mask in placed)])
    labels = np.concatenate([sample.labels, *(donor.labels for donor, _ in placed)])
    return replace(sample, image=image, masks=masks, labels=labels)


def bare_skin(sample: LoadedSample, rng: np.random.Generator) -> LoadedSample:
    """A rectangle of the photograph that keeps off its lesions, as a photograph without one.

    Large rectangles are tried first. Where the lesions leave no room, the photograph comes back as it is.
    """
    height, width = sample.masks.shape[1:]
    taken: BoolArray = np.any(sample.masks, axis=0)
    margin = round(_SKIN_MARGIN * max(height, width))
    for share in np.linspace(*_SKIN_SIDES, _SKIN_TRIES):
        high, wide = (max(1, round(side * share * rng.uniform(0.7, 1.0))) for side in (height, width))
        top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        bottom, right = top + high, left + wide
        around = taken[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        if not around.any():
            image = np.ascontiguousarray(sample.image[top:bottom, left:right])
            none = np.zeros((0, high, wide), np.bool_)
            return replace(sample, image=image, masks=none, labels=np.zeros(0, np.int64), ignored=None)
    return sample


def drawn_scene(size: ImageSize, rng: np.random.Generator, *, bare: bool) -> LoadedSample:
    """A drawn photograph of skin with no to four lesions, all of label 1.

    Args:
        size: Height and width; a side under `MIN_SIDE` is drawn at that.
        rng: All randomness.
        bare: Draw no lesion, for networks that tell classes apart: a drawn one belongs to none of theirs.
    """
    height, width = (max(side, MIN_SIDE) for side in size)
    seed = int(rng.integers(1 << 62))
    return draw_scene(seed, ImageSize(height, width), num_lesions=0 if bare else None, settings=_SCENES)
