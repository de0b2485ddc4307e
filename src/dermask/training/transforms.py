"""Augmentation: image and masks change together, and everything geometric is one warp.

Flip, quarter turn, rotation, zoom and shift are composed into one matrix and each pixel is interpolated once, straight
onto the network's canvas. Pillow does it on bytes: on one core, from 384 to 320 pixels, 1.7 ms for the image and 0.1 ms
for a mask, where torch's grid_sample takes 1 to 2 ms for either and torchvision's transforms.v2 one call per change.

Shapes: image (H, W, 3) uint8 RGB, masks (M, H, W) bool, M objects and possibly none. Pixel i covers [i, i + 1).
Matrices map (x, y, 1) of a photograph to (x, y) of the canvas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermask.config import AugmentSettings
from dermask.data.dataset import LoadedSample
from dermask.data.scene_artifacts import draw_hair, draw_ruler
from dermask.data.scene_camera import darken_corners, lay_sticker, through_jpeg
from dermask.records import BoolArray, ByteArray, ImageSize, IntArray

Matrix = NDArray[np.float64]  # (2, 3)

FILL = (124, 116, 104)
"""RGB outside the photograph: ImageNet's mean, which becomes the network's own padding (0) when normalised."""
PREFILTER_SHRINK = 1.5
"""Photographs that shrink by more are smoothed first; up to here bilinear sampling skips hardly a pixel."""
MIN_AREA = 16
"""Objects with fewer pixels left are dropped: nobody could outline them."""
MIN_VISIBLE = 0.1
"""Objects of which a smaller share is left on the canvas are dropped: what is left no longer looks like a lesion."""

# Colour changes, each the largest departure to either side: small where dermoscopes agree (hue), else larger.
_BRIGHTNESS = 0.2
_CONTRAST = 0.2
_SATURATION = 0.3
_HUE_DEGREES = 8.0
_WHITE_BALANCE = 0.08
_BLUR_RADIUS = (0.5, 4.0)  # pixels of the photograph, drawn on a log scale
# Radius of what is light, the width of its edge, how far off the middle it lies: shares of half the diagonal.
_CORNER_SHARES = (0.6, 1.0)
_CORNER_EDGES = (0.01, 0.25)
_CORNER_OFF_CENTRE = 0.04
_NOISE_DEVIATION = (2.0, 24.0)  # grey levels, drawn on a log scale
_JPEG_QUALITY = (20, 80)
_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
_RGB_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_QUARTER_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
_MOSAIC_SPLIT = (0.35, 0.65)  # where the canvas is cut, as a share of its side
_MOSAIC_COVER = 0.5  # between showing each photograph whole (0) and filling its cell (1), on a log scale


def augment(
    sample: LoadedSample,
    settings: AugmentSettings,
    size: ImageSize,
    rng: np.random.Generator,
    *,
    fill: tuple[int, int, int] = FILL,
    cover: float = 0.0,
) -> LoadedSample:
    """One photograph, changed at random and laid on a canvas.

    Without any change the photograph is scaled to fit the canvas and lies in its upper left corner, as the network
    itself would resize and pad it. Mosaic needs several photographs and is not done here; see `mosaic`.

    Args:
        sample: The photograph, of any size, with M objects; M may be 0.
        settings: Probabilities and ranges.
        size: The canvas.
        rng: All randomness; the same state gives the same result to the bit.
        fill: RGB of the canvas where the photograph does not reach.
        cover: 0 fits the photograph into the canvas, 1 makes it cover the canvas, between on a log scale.

    Returns:
        image (*size, 3) uint8; masks (M', *size) and labels (M',) of the objects that are still to be seen, M' <= M;
        ignored None: regions to ignore play no part in training.
    """
    draw = rng.random(4)
    image = Image.fromarray(_lay_on(sample, settings, rng, hair=draw[0], ruler=draw[1]))
    if draw[2] < settings.blur:
        image = image.filter(ImageFilter.GaussianBlur(math.exp(rng.uniform(*np.log(_BLUR_RADIUS)))))
    if draw[3] < settings.colour:  # before the warp, so that the fill keeps its colour
        image = image.convert("RGB", _random_colour_matrix(rng))
    matrix = _random_matrix(settings, ImageSize(*sample.image.shape[:2]), size, rng, cover)
    warped = _degrade(_warp(image, matrix, size, Image.Resampling.BILINEAR, fill), settings, rng)
    masks, labels = _warp_objects(sample.masks, sample.labels, matrix, size)
    return replace(sample, image=warped, masks=masks, labels=labels, ignored=None)


def _lay_on(
    sample: LoadedSample, settings: AugmentSettings, rng: np.random.Generator, *, hair: float, ruler: float
) -> ByteArray:
    """The photograph with what may lie between skin and camera; hair and ruler are numbers drawn for them."""
    image = sample.image
    if _happens(settings.sticker, rng):
        image = lay_sticker(image, np.any(sample.masks, axis=0), rng)
    if hair < settings.hair:
        image = draw_hair(image, rng)
    if ruler < settings.ruler:
        image = draw_ruler(image, rng)
    if _happens(settings.dark_corners, rng):
        edge, off_y, off_x = rng.uniform(*_CORNER_EDGES), *rng.normal(0, _CORNER_OFF_CENTRE, 2)
        image = darken_corners(image, rng.uniform(*_CORNER_SHARES), edge=edge, off_centre=(off_y, off_x))
    return image


def _degrade(image: ByteArray, settings: AugmentSettings, rng: np.random.Generator) -> ByteArray:
    """What a camera and its file do, at the scale at which the network sees it."""
    if _happens(settings.noise, rng):
        deviation = np.float32(np.exp(rng.uniform(*np.log(_NOISE_DEVIATION))))
        grain = rng.standard_normal(image.shape, np.float32) * deviation
        image = np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)
    if _happens(settings.jpeg, rng):
        image = through_jpeg(image, int(rng.integers(*_JPEG_QUALITY, endpoint=True)))
    return image


def _happens(probability: float, rng: np.random.Generator) -> bool:
    # Nothing is drawn for what is off, so that a run without it stays the same run.
    return probability > 0 and rng.random() < probability


def mosaic(
    samples: Sequence[LoadedSample],
    settings: AugmentSettings,
    size: ImageSize,
    rng: np.random.Generator,
    *,
    fill: tuple[int, int, int] = FILL,
) -> LoadedSample:
    """Two to four photographs side by side on one canvas, each augmented on its own, so that it has several lesions.

    The canvas is cut at a random point. Each photograph is scaled half way between fitting into its cell and covering
    it, so that lesions stay large and lose little at the cuts.

    Args:
        samples: 2, 3 or 4 photographs; the first gives the result its image_id.
        settings: As for `augment`.
        size: The canvas.
        rng: All randomness.
        fill: RGB where no photograph reaches.

    Returns:
        As `augment`, with the objects of all photographs in their order.

    Raises:
        ValueError: Fewer than 2 or more than 4 photographs.
    """
    if not 2 <= len(samples) <= 4:
        raise ValueError(f"a mosaic joins 2 to 4 photographs, not {len(samples)}")
    image = np.empty((*size, 3), np.uint8)
    masks: list[BoolArray] = [np.zeros((0, *size), np.bool_)]
    labels: list[IntArray] = [np.zeros(0, np.int64)]
    for sample, (top, left, bottom, right) in zip(samples, _mosaic_cells(len(samples), size, rng), strict=True):
        cell_size = ImageSize(bottom - top, right - left)
        part = augment(sample, settings, cell_size, rng, fill=fill, cover=_MOSAIC_COVER)
        image[top:bottom, left:right] = part.image
        placed = np.zeros((len(part.masks), *size), np.bool_)
        placed[:, top:bottom, left:right] = part.masks
        masks.append(placed)
        labels.append(part.labels)
    return replace(samples[0], image=image, masks=np.concatenate(masks), labels=np.concatenate(labels), ignored=None)


def shrink(sample: LoadedSample, size: ImageSize) -> LoadedSample:
    """The photograph no larger than training on a canvas of this size can use, which bounds memory and time.

    A photograph whose fit to the canvas shrinks it by more than `PREFILTER_SHRINK` comes back at that multiple of its
    fitted size; any other comes back as it is.
    """
    height, width = sample.image.shape[:2]
    scale = _fit_scale(ImageSize(height, width), size, cover=0.0) * PREFILTER_SHRINK
    if scale >= 1:
        return sample
    return resized(sample, ImageSize(max(1, round(height * scale)), max(1, round(width * scale))))


def resized(sample: LoadedSample, size: ImageSize) -> LoadedSample:
    """The photograph and its masks at this size, smoothed when they shrink; objects keep their places and number.

    A mask of a few pixels may come out empty.
    """
    if size == sample.image.shape[:2]:
        return replace(sample, ignored=None)
    image = Image.fromarray(sample.image).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    masks = np.zeros((len(sample.masks), *size), np.bool_)
    for small, mask in zip(masks, sample.masks, strict=True):
        small[:] = np.asarray(_mask_image(mask).resize(size[::-1], Image.Resampling.BILINEAR)) > 127
    return replace(sample, image=np.asarray(image), masks=masks, ignored=None)


def _random_matrix(
    settings: AugmentSettings, size: ImageSize, canvas: ImageSize, rng: np.random.Generator, cover: float
) -> Matrix:
    """(2, 3) from photograph to canvas: about the photograph's centre, then to where the photograph is laid."""
    flip_x, flip_y, turned = rng.random(3) < (settings.flip, settings.flip, settings.quarter_turn)
    quarter_turns = int(rng.integers(1, 4)) if turned else 0
    angle = math.radians(rng.uniform(-settings.rotate_degrees, settings.rotate_degrees))
    zoom = math.exp(rng.uniform(*np.log(settings.scale_range)))
    shift = rng.uniform(-settings.shift, settings.shift, 2) * (canvas.width, canvas.height)
    slack_share = rng.random(2) if settings.shift else np.zeros(2)

    seen = ImageSize(size.width, size.height) if quarter_turns % 2 else size
    scale = _fit_scale(seen, canvas, cover)
    fitted = np.array([seen.width, seen.height]) * scale
    slack = np.array([canvas.width, canvas.height]) - fitted
    # A photograph larger than the canvas (covering it) is centred; a smaller one may lie anywhere.
    centre = np.where(slack > 0, slack * slack_share, slack / 2) + fitted / 2 + shift

    flips = np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0])
    turns = np.linalg.matrix_power(_QUARTER_TURN, quarter_turns)  # exact, so that pixels fall on pixels
    linear = _rotation(angle) @ turns @ flips * (scale * zoom)
    return np.column_stack([linear, centre - linear @ (size.width / 2, size.height / 2)])


def _fit_scale(size: ImageSize, canvas: ImageSize, cover: float) -> float:
    inside, outside = sorted((canvas.height / size.height, canvas.width / size.width))
    return float(inside ** (1 - cover) * outside**cover)


def _rotation(radians: float) -> Matrix:
    cosine, sine = math.cos(radians), math.sin(radians)
    return np.array([[cosine, -sine], [sine, cosine]])


def _warp(
    image: Image.Image,
    matrix: Matrix,
    size: ImageSize,
    resampling: Image.Resampling,
    fill: tuple[int, int, int] | int,
) -> ByteArray:
    shrinkage = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrinkage > PREFILTER_SHRINK:
        smaller = (max(1, round(image.width / shrinkage)), max(1, round(image.height / shrinkage)))
        matrix = matrix @ np.diag([image.width / smaller[0], image.height / smaller[1], 1.0])
        image = image.resize(smaller, Image.Resampling.BILINEAR)
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))  # Pillow asks where each canvas pixel comes from
    coefficients = tuple(inverse[:2].ravel().tolist())
    warped = image.transform(size[::-1], Image.Transform.AFFINE, coefficients, resampling, fillcolor=fill)
    return np.asarray(warped)


def _warp_objects(masks: BoolArray, labels: IntArray, matrix: Matrix, size: ImageSize) -> tuple[BoolArray, IntArray]:
    """Masks on the canvas by nearest pixel, without the objects of which too little is left."""
    warped = np.zeros((len(masks), *size), np.bool_)
    for placed, mask in zip(warped, masks, strict=True):
        placed[:] = _warp(_mask_image(mask), matrix, size, Image.Resampling.NEAREST, 0) > 127
    area = np.count_nonzero(warped, axis=(1, 2))
    whole_area = np.count_nonzero(masks, axis=(1, 2)) * abs(np.linalg.det(matrix[:, :2]))
    keep = (area >= MIN_AREA) & (area >= MIN_VISIBLE * whole_area)
    return warped[keep], labels[keep]


def _mask_image(mask: BoolArray) -> Image.Image:
    return Image.fromarray(mask.view(np.uint8) * np.uint8(255))


def _random_colour_matrix(rng: np.random.Generator) -> tuple[float, ...]:
    """Brightness, contrast, saturation, hue and white balance as one affine map of RGB: 12 numbers, row by row."""
    brightness, contrast, saturation, hue, *balance = rng.uniform(-1, 1, 7)
    rotation = np.eye(3)
    rotation[1:, 1:] = _rotation(math.radians(hue * _HUE_DEGREES))  # hue is an angle in YIQ's colour plane
    turn_hue = np.linalg.inv(_RGB_TO_YIQ) @ rotation @ _RGB_TO_YIQ
    saturate = np.eye(3) + saturation * _SATURATION * (np.eye(3) - _LUMA)  # away from each pixel's own grey
    balance_white = np.diag(1 + np.array(balance) * _WHITE_BALANCE)
    gain = 1 + contrast * _CONTRAST
    linear = gain * balance_white @ saturate @ turn_hue
    offset = 128 * (1 - gain) + 128 * brightness * _BRIGHTNESS
    return tuple(np.column_stack([linear, np.full(3, offset)]).ravel().tolist())


def _mosaic_cells(count: int, size: ImageSize, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of `count` cells that tile the canvas."""
    height, width = size
    row, column = (rng.uniform(*_MOSAIC_SPLIT, 2) * size).round().astype(int).tolist()
    left_right = [(0, 0, height, column), (0, column, height, width)]
    top_bottom = [(0, 0, row, width), (row, 0, height, width)]
    split_top = [(0, 0, row, column), (0, column, row, width)]
    split_bottom = [(row, 0, height, column), (row, column, height, width)]
    if count == 2:
        return left_right if rng.random() < 0.5 else top_bottom
    if count == 3:
        return [*split_top, top_bottom[1]] if rng.random() < 0.5 else [top_bottom[0], *split_bottom]
    return [*split_top, *split_bottom]
