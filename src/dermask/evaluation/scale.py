"""The scale of photographs: millimetres per pixel, one for all of them or one for each from a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Container
from pathlib import Path

from dermask.data.dataset import Dataset
from dermask.errors import InputError, LabelError
from dermask.images import SUFFIXES

COLUMN = "mm_per_pixel"
_ID_COLUMNS = ("image_id", "isic_id", "image")
_MAX_BYTES = 64 << 20
_CURE = f"give a number, or a CSV with the columns image_id and {COLUMN}"


def read_scale(scale: str, dataset: Dataset) -> dict[str, float]:
    """The scale of a data set's photographs by id; those that a table leaves out have none.

    Args:
        scale: Millimetres per pixel as a number above 0, or the path of a CSV file with the columns ``image_id`` and
            ``mm_per_pixel``; an empty cell says that the scale is not known.
        dataset: The photographs, at the size that the scale is for.

    Raises:
        InputError: Neither; a scale is not above 0, or a photograph has two rows. Names the line.
        LabelError: The table knows none of the photographs.
    """
    try:
        everywhere = float(scale)
    except ValueError:
        return _read_table(Path(scale), dataset)
    return dict.fromkeys((sample.image_id for sample in dataset), _check(everywhere, f"{COLUMN} {scale}"))


def _read_table(path: Path, dataset: Dataset) -> dict[str, float]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(str(path), "is too large for a table of scales", _CURE)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", _CURE) from None
    except UnicodeDecodeError:
        raise InputError(str(path), "is not a text file", _CURE) from None
    try:
        found = _read_rows(csv.DictReader(io.StringIO(text, newline="")), path, dataset)
    except csv.Error as error:
        raise InputError(str(path), f"is not a CSV file: {error}", _CURE) from None
    if not found:
        raise LabelError(str(path), "knows the scale of none of the photographs", "check its column of ids")
    return found


def _read_rows(reader: csv.DictReader[str], path: Path, dataset: Dataset) -> dict[str, float]:
    id_column = next((name for name in _ID_COLUMNS if name in (reader.fieldnames or ())), None)
    if id_column is None or COLUMN not in (reader.fieldnames or ()):
        raise InputError(str(path), f"has not the columns image_id and {COLUMN}", _CURE)
    ids = {sample.image_id for sample in dataset}
    seen: set[str] = set()
    found: dict[str, float] = {}
    for row in reader:
        image_id, value = _known_id((row[id_column] or "").strip(), ids), (row[COLUMN] or "").strip()
        if image_id is None:
            continue
        item = f"{path}: line {reader.line_num} ({image_id})"
        if image_id in seen:
            raise InputError(item, "is a second row for this photograph", "leave one of them")
        seen.add(image_id)
        if value:
            found[image_id] = _check(_number(value, item), item)
    return found


def _known_id(text: str, ids: Container[str]) -> str | None:
    """The photograph that a cell names, by its id or by its file; an id may hold dots of its own."""
    if text in ids:
        return text
    name = Path(text)
    without = name.stem if name.suffix.lower() in SUFFIXES else name.name
    return without if without in ids else None


def _number(value: str, item: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(item, f"{COLUMN} {value!r} is not a number", _CURE) from None


def _check(value: float, item: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(item, "is not a length above 0", "a dermatoscope's is about 0.01 to 0.05 at full size")
    return value
