"""Many labelled photographs on one picture, to see at a glance what a data set holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dermask import images, masks
from dermask.inference.overlay import TRUTH_COLOUR, draw_rings
from dermask.records import BoolArray, ByteArray, ImageSize

_BACKGROUND = (24, 26, 30)
_GREY = (84, 88, 96)
_TEXT = (225, 228, 232)
_GAP = 8
_CAPTION_HEIGHT = 20


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One photograph of a sheet, already at the sheet's scale.

    Attributes:
        image: (h, w, 3) uint8, at most the sheet's tile side.
        caption: One short line.
    """

    image: ByteArray
    caption: str


def outlined_tile(image: ByteArray, lesions: BoolArray, caption: str, *, side: int) -> Tile:
    """A photograph fitted into a square, with its lesions outlined.

    Args:
        image: (H, W, 3) uint8 RGB.
        lesions: (M, H, W) bool.
        caption: What to write below.
        side: Of the square, pixels.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    small = images.resize(image, ImageSize(max(1, round(height * scale)), max(1, round(width * scale)))).copy()
    rings = [ring * scale for mask in lesions for ring in masks.bitmask_to_polygons(mask).parts]
    draw_rings(small, rings, TRUTH_COLOUR, max(1.2, side / 180))
    return Tile(small, caption)


def unreadable_tile(caption: str, *, side: int) -> Tile:
    """A grey square in place of a photograph that cannot be read; the caption says why."""
    image = Image.new("RGB", (side, side), _GREY)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(10, min(16, side // 14)))
    pen.text((side / 2, side / 2), _fit("cannot be read", pen, font, side), font=font, fill=_TEXT, anchor="mm")
    return Tile(np.array(image), caption)


def contact_sheet(tiles: Iterable[Tile], *, columns: int, side: int) -> ByteArray:
    """Tiles side by side, row after row.

    Args:
        tiles: At least one.
        columns: Tiles per row, at least 1.
        side: Of the square that each tile fits into, pixels.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shown = list(tiles)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    cell_height = side + _CAPTION_HEIGHT + _GAP
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, rows * cell_height + _GAP), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for number, tile in enumerate(shown):
        left = _GAP + number % columns * (side + _GAP)
        top = _GAP + number // columns * cell_height
        height, width = tile.image.shape[:2]
        sheet.paste(Image.fromarray(tile.image), (left + (side - width) // 2, top + (side - height) // 2))
        pen.text((left + 2, top + side + 3), _fit(tile.caption, pen, font, side), font=font, fill=_TEXT)
    return np.array(sheet)


def _fit(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if pen.textlength(text, font=font) <= width:
        return text
    while text and pen.textlength(f"{text}...", font=font) > width:
        text = text[:-1]
    return f"{text}..."


def spread(count: int, wanted: int) -> Sequence[int]:
    """Indices of `wanted` of `count` items, evenly spread from the first to the last."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(wanted, count))})
