"""Photographs with several lesions, composed of photographs with one: a benchmark with exact masks.

Labelled photographs with several lesions are rare. Here a photograph whose lesion leaves skin free gets further lesions
from others: each is cut out with a margin of its own skin, scaled, turned, given the colour of the skin where it will
lie, and blended into it over that margin (Dwibedi et al. 2017, arXiv:1708.01642). What is labelled is the lesion's own
mask, moved alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageFilter

from dermask.data.dataset import Dataset, LoadedSample
from dermask.errors import LabelError
from dermask.records import Bitmask, BoolArray, ByteArray, ImageSize, Instance, Sample

MAX_LESIONS = 5
# Shares of the frame: what the photograph's own lesion and each further one may cover.
_OWN_AREA = (0.01, 0.2)
_ADDED_AREA = (0.01, 0.08)
_MARGIN = 0.25  # of the lesion's size, over which it is blended
_TRIES = 60


def compose(dataset: Dataset, count: int, *, seed: int = 0, leave_out: Collection[str] = ()) -> Dataset:
    """Photographs with 2 to `MAX_LESIONS` lesions each, in memory.

    Args:
        dataset: Photographs with outlines; those with one small lesion are written on, all with one give lesions.
        count: How many to compose.
        seed: Of everything random.
        leave_out: Image ids not to use, such as of photographs with a further lesion that nobody outlined: composed,
            they would show more lesions than are labelled.

    Raises:
        LabelError: No photograph has a lesion small enough to leave room for others.
    """
    singles = [
        index for index, sample in enumerate(dataset) if len(sample.instances) == 1 and sample.image_id not in leave_out
    ]
    areas = {index: float(dataset.load(index).masks.mean()) for index in singles}
    grounds = [index for index in singles if _OWN_AREA[0] <= areas[index] <= _OWN_AREA[1]]
    if not grounds:
        item = dataset.name or "data set"
        raise LabelError(item, "has no photograph whose only lesion covers 1 to 20 % of it", "give others")
    return Dataset(list(_compose_each(dataset, grounds, singles, count, seed)), ("lesion",), name="composed")


def _compose_each(
    dataset: Dataset, grounds: Sequence[int], singles: Sequence[int], count: int, seed: int
) -> Iterator[Sample]:
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        ground = dataset.load(int(rng.choice(grounds)))
        wanted = int(rng.integers(2, MAX_LESIONS + 1)) - 1
        candidates = ((dataset.load(int(rng.choice(singles))), rng.uniform(*_ADDED_AREA)) for _ in range(_TRIES))
        image, placed = place_lesions(ground.image, ground.masks[0], candidates, wanted=wanted, rng=rng)
        if not placed:
            continue  # no room was found
        masks = [ground.masks[0], *(mask for _, mask in placed)]
        instances = tuple(Instance(1, Bitmask(mask)) for mask in masks)
        yield Sample(f"composed_{number:04}", image, ImageSize(*image.shape[:2]), instances)


def place_lesions(
    image: ByteArray,
    taken: BoolArray,
    candidates: Iterable[tuple[LoadedSample, float]],
    *,
    wanted: int,
    rng: np.random.Generator,
) -> tuple[ByteArray, list[tuple[LoadedSample, BoolArray]]]:
    """The photograph with up to `wanted` lesions of others, none on another.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        taken: (H, W) bool, pixels of lesions that are there.
        candidates: A photograph with one lesion, and what it shall cover, for each try, as for `place_lesion`; no more
            are taken than needed.
        wanted: How many, from 1, if they find room.
        rng: All randomness of places and turns.

    Returns:
        The new photograph, and of each placed lesion the photograph that gave it and its mask (H, W).
    """
    placed: list[tuple[LoadedSample, BoolArray]] = []
    for donor, area in candidates:
        if (found := place_lesion(image, taken, donor, area, rng)) is not None:
            image, mask = found
            taken = taken | mask
            placed.append((donor, mask))
            if len(placed) == wanted:
                break
    return image, placed


def place_lesion(
    image: ByteArray, taken: BoolArray, donor: LoadedSample, area: float, rng: np.random.Generator
) -> tuple[ByteArray, BoolArray] | None:
    """The photograph with another one's lesion blended into a free place.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        taken: (H, W) bool, pixels of lesions that are there.
        donor: A photograph with one lesion, which is taken.
        area: What the lesion shall cover, as a share of the photograph.
        rng: All randomness: one try at one place.

    Returns:
        The new photograph and the placed lesion's mask (H, W); None where the lesion would touch another one's
        surroundings, does not fit, or is cut by its own photograph's frame.
    """
    rows, columns = (np.flatnonzero(donor.masks[0].any(axis=axis)) for axis in (1, 0))
    height, width = (int(places[-1] - places[0] + 1) for places in (rows, columns))
    margin = max(4, round(_MARGIN * max(height, width)))
    top, left = int(rows[0]) - margin, int(columns[0]) - margin
    bottom, right = int(rows[-1]) + 1 + margin, int(columns[-1]) + 1 + margin
    if top < 0 or left < 0 or bottom > donor.image.shape[0] or right > donor.image.shape[1]:
        return None  # cut by the frame, which would show
    patch, mask = donor.image[top:bottom, left:right], donor.masks[0][top:bottom, left:right]
    patch, mask = _turned(patch, mask, (area * taken.size / mask.sum()) ** 0.5, int(rng.integers(4)))
    high, wide = mask.shape
    if high >= taken.shape[0] or wide >= taken.shape[1] or not mask.any():
        return None
    y, x = int(rng.integers(taken.shape[0] - high + 1)), int(rng.integers(taken.shape[1] - wide + 1))
    window = np.s_[y : y + high, x : x + wide]
    if taken[window].any():
        return None
    result, where = image.copy(), np.zeros_like(taken)
    result[window] = _blend(image[window], patch, mask)
    where[window] = mask
    return result, where


def _turned(patch: ByteArray, mask: BoolArray, factor: float, quarters: int) -> tuple[ByteArray, BoolArray]:
    size = tuple(max(8, round(side * factor)) for side in mask.shape[::-1])
    scaled = np.asarray(Image.fromarray(patch).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    return np.rot90(scaled, quarters), np.rot90(np.asarray(grey) > 127, quarters)


def _blend(ground: ByteArray, patch: ByteArray, mask: BoolArray) -> ByteArray:
    """The patch on the ground: whole within the lesion, fading to nothing at the patch's edge."""
    skin = ~mask
    shift = ground.reshape(-1, 3).mean(axis=0) - patch[skin].mean(axis=0)
    border = max(2, min(mask.shape) // 10)
    solid = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).filter(ImageFilter.MaxFilter(2 * (border // 2) + 1))
    alpha = np.asarray(solid.filter(ImageFilter.GaussianBlur(border))).astype(np.float64) / 255
    ramp = np.minimum.outer(*(np.minimum(np.arange(n), np.arange(n)[::-1]) / border for n in mask.shape))
    alpha = np.maximum(alpha, mask)[..., None] * np.clip(ramp, 0, 1)[..., None]
    moved = np.clip(patch + shift, 0, 255)
    blended: ByteArray = np.round(alpha * moved + (1 - alpha) * ground).astype(np.uint8)
    return blended
