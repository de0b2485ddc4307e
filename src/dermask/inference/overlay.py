"""Draw what was found onto a photograph, so that a person can judge the outline.

The outline follows the border of the mask between pixels, a bright line in a dark casing that reads on any skin tone;
nothing is filled, so the lesion stays visible. Labels stand where they cover no lesion, if there is such a place.

Shapes: N detections, M labelled masks, H, W the photograph's height and width. Points are xy in its pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import contourpy
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dermask import contours, masks
from dermask.records import BoolArray, ByteArray, Detections, FloatArray, ImageSize

Colour = tuple[int, int, int]
Points = NDArray[np.float64]  # (K, 2) xy

# Hues that skin does not have, told apart with any colour vision; label i takes the colour at (i - 1) modulo the count.
CLASS_COLOURS: tuple[Colour, ...] = ((0, 229, 255), (255, 92, 205), (120, 255, 120), (150, 140, 255))
TRUTH_COLOUR: Colour = (255, 214, 0)
CASING_COLOUR: Colour = (12, 16, 24)
TEXT_COLOUR: Colour = (255, 255, 255)

MASK_THRESH = 0.5
# Sub-steps per mask cell: the border of a bilinearly sampled mask is curved within a cell.
_CONTOUR_STEPS = 4
# Pixels. Pillow draws every corner of a wide line as a disc of its own: with all points of a contour that took twice as
# long as everything else about an overlay.
_DRAWING_TOLERANCE = 0.1
# Side of the map on which places for labels are compared, pixels.
_LAYOUT_SIDE = 192


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes of everything drawn, in pixels of the photograph."""

    line_width: float
    font_size: int

    @classmethod
    def for_size(cls, size: ImageSize) -> Style:
        """Sizes that look alike on a thumbnail and on a 30-megapixel photograph."""
        side = min(size)
        return cls(line_width=max(1.4, side / 260), font_size=max(11, round(side / 32)))


def draw_overlay(
    image: ByteArray,
    detections: Detections,
    truth: BoolArray | None = None,
    *,
    show_labels: bool = True,
    mask_thresh: float = MASK_THRESH,
) -> ByteArray:
    """The photograph with the outline, box, class and score of each detection.

    Args:
        image: (H, W, 3) uint8 RGB. A smaller or larger copy of the photograph that `detections` is about will do:
            boxes are scaled to it.
        detections: What was found; all of it is drawn, so select first (`detections.above(0.5)`).
        truth: (M, H, W) bool at the image's size, labelled lesions to outline in another colour, dashed.
        show_labels: Whether class and score are written.
        mask_thresh: Mask probability at the outline, in (0, 1).

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: `truth` has not the image's height and width.
    """
    size = ImageSize(*image.shape[:2])
    if truth is not None and truth.shape[1:] != size:
        raise ValueError(f"truth has shape {truth.shape} for an image of {size.height} x {size.width} pixels")
    detections = scale_detections(detections, size)
    style = Style.for_size(size)
    canvas = image.copy()
    for lesion in reversed(list(detections)):  # the best last, on top
        colour = _class_colour(lesion.label)
        _draw_dashed_box(canvas, lesion.box, colour, style)
        draw_rings(canvas, mask_rings(lesion.box, lesion.mask_probs, mask_thresh), colour, style.line_width)
    if truth is not None:  # on top and dashed, so that both lines show where they agree
        rings = [ring for mask in truth for ring in masks.bitmask_to_polygons(mask).parts]
        draw_rings(canvas, rings, TRUTH_COLOUR, style.line_width, dash=8 * style.line_width)
    if show_labels and len(detections):
        canvas = _draw_labels(canvas, detections, style)
    return canvas


def scale_detections(detections: Detections, size: ImageSize) -> Detections:
    """The same detections on a copy of the photograph of another size; masks are relative to boxes and stay."""
    if detections.size == size:
        return detections
    ratio = np.array([size.width / detections.size.width, size.height / detections.size.height] * 2, np.float32)
    return replace(detections, boxes=detections.boxes * ratio, size=size)


def mask_rings(box: FloatArray, mask_probs: FloatArray, mask_thresh: float = MASK_THRESH) -> list[Points]:
    """The border of one mask, to a fraction of a pixel: where `masks.paste_masks` crosses the threshold.

    Args:
        box: (4,) xyxy, pixels.
        mask_probs: (S, S) in the frame of the box.
        mask_thresh: Probability at the border.

    Returns:
        Closed rings, outer borders and holes, each (K, 2) xy with the first point repeated at the end.
    """
    resolution = mask_probs.shape[0]
    # Cell centres, and a ring of zeros around them: outside its box a mask is zero.
    padded = np.pad(mask_probs.astype(np.float64), 1)
    steps = np.linspace(0, resolution + 1, (resolution + 1) * _CONTOUR_STEPS + 1)
    low = np.minimum(steps.astype(int), resolution)
    weight = steps - low
    rows = padded[low] * (1 - weight)[:, None] + padded[low + 1] * weight[:, None]
    fine = rows[:, low] * (1 - weight) + rows[:, low + 1] * weight
    centres = (steps - 0.5) / resolution  # padded cell 0 lies half a cell before the box
    x1, y1, x2, y2 = (float(value) for value in box)
    generator = contourpy.contour_generator(
        x=x1 + centres * (x2 - x1), y=y1 + centres * (y2 - y1), z=fine, line_type=contourpy.LineType.Separate
    )
    return [np.asarray(ring) for ring in generator.lines(mask_thresh)]


def _class_colour(label: int) -> Colour:
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def draw_rings(
    canvas: ByteArray, rings: Iterable[Points], colour: Colour, width: float, *, dash: float | None = None
) -> None:
    """Draw closed rings onto an image, in place: a dark casing below a bright line, both with smooth edges.

    Args:
        canvas: (H, W, 3) uint8 RGB, changed.
        rings: Each (K, 2) xy in pixels; the first point may be repeated at the end.
        colour: Of the bright line.
        width: Of the bright line, pixels.
        dash: Length of dashes and of the gaps between them, pixels; None draws the line whole.
    """
    lines = [_line_of(ring) for ring in rings if len(ring) > 1]
    if dash is not None:
        lines = [piece for line in lines for piece in _cut_into_dashes(line, dash)]
    if not lines:
        return
    points = np.concatenate(lines)
    margin = 2 * width + 2
    height, canvas_width = canvas.shape[:2]
    left, top = (max(0, int(value - margin)) for value in points.min(axis=0))
    right, bottom = (int(value + margin) + 1 for value in points.max(axis=0))
    window = canvas[top : min(bottom, height), left : min(right, canvas_width)]
    if window.size == 0:
        return
    shifted = [line - (left, top) for line in lines]
    _blend(window, _coverage(shifted, window.shape[:2], 1.9 * width), CASING_COLOUR, 0.75)
    _blend(window, _coverage(shifted, window.shape[:2], width), colour, 1.0)


def _line_of(ring: Points) -> Points:
    """A ring as a line that is closed, with a clean last corner, without points that nobody would see gone."""
    is_closed = len(ring) > 2 and bool((ring[0] == ring[-1]).all())
    kept = contours.simplify_ring(ring[:-1] if is_closed else ring, _DRAWING_TOLERANCE)
    return np.concatenate([kept, kept[:2]])


def _cut_into_dashes(line: Points, dash: float) -> list[Points]:
    """Every other piece of a line, each about `dash` long."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(1, round(distance[-1] / (2 * dash)))  # a whole number of dashes and gaps, so that the ends meet
    length = distance[-1] / (2 * count)
    pieces = []
    for start in np.arange(count) * 2 * length:
        inside = (distance > start) & (distance < start + length)
        at = np.concatenate([[start], distance[inside], [start + length]])
        pieces.append(np.stack([np.interp(at, distance, line[:, axis]) for axis in (0, 1)], axis=1))
    return pieces


def _coverage(lines: Sequence[Points], shape: Sequence[int], width: float) -> ByteArray:
    """(H, W) uint8: how much of each pixel the lines cover, from a drawing several times as large."""
    height, canvas_width = shape
    # Wide lines on large photographs look smooth as they are; the drawing stays below some 50 million pixels.
    factor = 4 if max(shape) <= 1000 else 3 if max(shape) <= 2400 else 1
    drawing = Image.new("L", (canvas_width * factor, height * factor))
    pen = ImageDraw.Draw(drawing)
    pixels = max(1, round(width * factor))
    for line in lines:
        centres = line * factor - 0.5  # pillow's whole numbers are pixel centres
        pen.line([(x, y) for x, y in centres.tolist()], fill=255, width=pixels, joint="curve")
    return np.asarray(drawing.reduce(factor) if factor > 1 else drawing)


def _blend(window: ByteArray, coverage: ByteArray, colour: Colour, opacity: float) -> None:
    rows = np.flatnonzero(coverage.any(axis=1))
    if not len(rows):
        return
    touched = coverage > 0
    alpha = coverage[touched].astype(np.float32)[:, None] * (opacity / 255)
    window[touched] = np.rint(window[touched] * (1 - alpha) + np.array(colour, np.float32) * alpha).astype(np.uint8)


def _draw_dashed_box(canvas: ByteArray, box: FloatArray, colour: Colour, style: Style) -> None:
    """A thin dashed rectangle, dark between the bright dashes, that stays in the background of the outline."""
    height, width = canvas.shape[:2]
    thickness = max(1, round(style.line_width * 0.4))
    dash = max(3, round(style.line_width * 4))
    x1, y1 = (max(0, int(value)) for value in box[:2])
    x2, y2 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    for y in (y1, max(y1, y2 - thickness)):
        strip = canvas[y : y + thickness, x1:x2]
        _blend_dashes(strip, (np.arange(x2 - x1) // dash % 2 == 0)[None, :], colour)
    for x in (x1, max(x1, x2 - thickness)):
        strip = canvas[y1:y2, x : x + thickness]
        _blend_dashes(strip, (np.arange(y2 - y1) // dash % 2 == 0)[:, None], colour)


def _blend_dashes(strip: ByteArray, bright: BoolArray, colour: Colour) -> None:
    colours = np.where(bright[..., None], np.array(colour, np.float32), np.array(CASING_COLOUR, np.float32))
    opacity = np.where(bright[..., None], np.float32(0.7), np.float32(0.35))
    strip[:] = np.rint(strip * (1 - opacity) + colours * opacity).astype(np.uint8)


def _draw_labels(canvas: ByteArray, detections: Detections, style: Style) -> ByteArray:
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(style.font_size)
    padding = max(2, style.font_size // 4)
    taken = _LayoutMap(detections)
    for lesion in detections:
        text = f"{lesion.class_name} {lesion.score:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        plate = ImageSize(int(bottom - top) + 2 * padding, int(right - left) + 3 * padding + padding)
        x, y = taken.find_place(lesion.box, plate, gap=round(2 * style.line_width))
        stripe = 1.5 * padding
        pen.rectangle((x, y, x + plate.width, y + plate.height), fill=(*CASING_COLOUR, 215))
        pen.rectangle((x, y, x + stripe, y + plate.height), fill=(*_class_colour(lesion.label), 255))
        pen.text((x + stripe + padding - left, y + padding - top), text, font=font, fill=TEXT_COLOUR)
        taken.occupy(x, y, plate)
    return np.array(picture)


class _LayoutMap:
    """A small map of what labels should not cover: lesions, and the labels before."""

    def __init__(self, detections: Detections) -> None:
        self.size = detections.size
        self.scale = min(1.0, _LAYOUT_SIDE / max(detections.size))
        small = ImageSize(*(max(1, round(side * self.scale)) for side in detections.size))
        scaled = scale_detections(detections, small)
        pasted = masks.paste_masks(scaled.boxes, scaled.mask_probs, small)
        self.map = np.asarray(pasted.any(axis=0), np.float32)

    def find_place(self, box: FloatArray, plate: ImageSize, *, gap: int) -> tuple[int, int]:
        """The first place, in order of liking, that covers nothing; else the one that covers least."""
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        above, below = y1 - plate.height - gap, y2 + gap
        right_aligned = x2 - plate.width
        wanted = [
            (x1, above), (right_aligned, above), (x1, below), (right_aligned, below),
            (x2 + gap, y1), (x1 - plate.width - gap, y1),
            (0, 0), (self.size.width, 0), (0, self.size.height), (self.size.width, self.size.height),
        ]  # fmt: skip
        places = [self._inside(x, y, plate) for x, y in wanted]
        costs = [self._cost(x, y, plate) + 1e-3 * rank for rank, (x, y) in enumerate(places)]
        return places[int(np.argmin(costs))]

    def occupy(self, x: int, y: int, plate: ImageSize) -> None:
        """Keep later labels off this one."""
        self._window(x, y, plate)[:] = 1

    def _inside(self, x: int, y: int, plate: ImageSize) -> tuple[int, int]:
        return (
            max(0, min(x, self.size.width - plate.width - 1)),
            max(0, min(y, self.size.height - plate.height - 1)),
        )

    def _cost(self, x: int, y: int, plate: ImageSize) -> float:
        window = self._window(x, y, plate)
        return float(window.mean()) if window.size else 0.0

    def _window(self, x: int, y: int, plate: ImageSize) -> FloatArray:
        top, left = int(y * self.scale), int(x * self.scale)
        bottom = int(np.ceil((y + plate.height) * self.scale))
        right = int(np.ceil((x + plate.width) * self.scale))
        return self.map[top : bottom + 1, left : right + 1]
