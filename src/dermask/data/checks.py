"""What every label reader shares: reading JSON, naming what is wrong, and judging outlines and photographs.

A reader turns its file into `Draft`s, one per photograph, hands each `LabelError` to `Problems`, and ends with
`make_dataset`. A broken annotation takes its photograph with it: left in, the photograph would be learnt as skin
without that lesion.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from dermask import files, images, masks
from dermask.data.dataset import Dataset, ReadProblem
from dermask.errors import InputError, LabelError
from dermask.records import ImageSize, Instance, Polygons, Sample
from dermask.wording import plural

BORDER_TOLERANCE = 1.0
"""Pixels an outline may pass the border; what passes it is clipped. Tools that put coordinates on pixel centres, or
round them, overshoot by up to one pixel; more than that is an outline of another photograph or size."""

MAX_ID = 2**53
"""Ids above this lose digits in JSON readers that keep numbers as doubles."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
_repr.maxlong = 30
_repr.maxlist = _repr.maxdict = 4
_repr.maxlevel = 2


def show(value: object) -> str:
    """A value of the label file as it appears in a message: one line, never long."""
    return _repr.repr(value)


class NothingLeft(LabelError):
    """A reader that skips what is bad has no photograph left.

    Attributes:
        found: What it left out, for the audit, which tells it instead of stopping.
    """

    found: tuple[ReadProblem, ...] = ()


class Problems:
    """Collects what is wrong with a label source.

    Args:
        skip_bad: Whether the reader goes on without what is wrong; `lines` then says what was left out.
    """

    def __init__(self, *, skip_bad: bool) -> None:
        self.skip_bad = skip_bad
        self.errors: list[InputError] = []
        self.found: list[ReadProblem] = []
        self._first_takes_photograph = False
        self.lines: list[str] = []

    def add(self, error: InputError, draft: Draft | None = None, *, left_out: str = "left out") -> None:
        """Note a problem; a photograph it belongs to goes too. `left_out` says what is missing from the data set."""
        self.errors.append(error)
        self.found.append(ReadProblem(error, None if draft is None else draft.path))
        if draft is not None:
            draft.is_bad = True
            self._first_takes_photograph |= len(self.errors) == 1
            left_out = "left out with its photograph"
        self.lines.append(f"{error}; {left_out}")

    def raise_first(self) -> None:
        """Raise the first problem, saying how many more there are, unless they are to be skipped.

        Raises:
            LabelError: There was a problem and `skip_bad` is off.
        """
        if self.skip_bad or not self.errors:
            return
        first = self.errors[0]
        more = len(self.errors) - 1
        others = f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""
        what = "its photograph" if self._first_takes_photograph else "it"
        raise LabelError(first.item, first.problem, f"{first.cure}{others}, or leave {what} out with --skip-bad")


@dataclass(slots=True)
class Draft:
    """A photograph while its labels are being read.

    Attributes:
        item: How messages name it: ``train.json: image 7 (ISIC_0000001.jpg)``.
        file_name: As the label file writes it.
        path: Where it was found.
        size: Its size, read from its header.
        source_id: Its id in the label file.
        instances: Its objects so far.
        is_bad: Whether something was wrong with it or with one of its annotations.
    """

    item: str
    file_name: str
    path: Path
    size: ImageSize
    source_id: int | str | None = None
    instances: list[Instance] = field(default_factory=list)
    is_bad: bool = False

    @property
    def shown_name(self) -> str:
        """The file name, safe for a message."""
        return show(self.file_name)[1:-1]


def make_dataset(
    drafts: Iterable[Draft],
    problems: Problems,
    *,
    class_names: tuple[str, ...],
    source: Path,
    categories: Mapping[int, int] | None = None,
    name: str = "",
) -> Dataset:
    """The data set of all good drafts.

    Image ids are the file names' stems, or the whole names where two stems are equal.

    Raises:
        LabelError: There were problems that are not to be skipped, or, as `NothingLeft`, no photograph is left.
    """
    problems.raise_first()
    good = [draft for draft in drafts if not draft.is_bad]
    if not good:
        left_out = f"; {len(problems.lines)} problems, the first: {problems.lines[0]}" if problems.lines else ""
        error = NothingLeft(str(source), f"no usable photograph{left_out}", "give labels for at least one photograph")
        error.found = tuple(problems.found)
        raise error
    names = [draft.file_name.replace("\\", "/") for draft in good]
    stems = [PurePosixPath(name).stem for name in names]
    image_ids = stems if len(set(stems)) == len(stems) else names
    samples = [
        Sample(image_id, draft.path, draft.size, tuple(draft.instances), draft.source_id)
        for image_id, draft in zip(image_ids, good, strict=True)
    ]
    return Dataset(
        samples,
        class_names,
        name or source.stem,
        source,
        categories,
        skipped=problems.lines,
        problems=problems.found,
    )


# Reading JSON


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        LabelError: The file is missing, truncated, not JSON, or an object in it has the same key twice, of which a
            plain reader would silently keep the last.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelError(str(path), "no such file", "check the path") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LabelError(str(path), f"cannot be read as text: {error}", "give a label file in JSON") from None
    if not text.strip():
        raise LabelError(str(path), "is an empty file", "export the labels again")
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _distinct_keys(pairs, path))
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise LabelError(
                str(path),
                f"JSON ends too early, at line {error.lineno} column {error.colno}",
                "the file was cut off; export or copy it again",
            ) from None
        where = f"line {error.lineno} column {error.colno}"
        raise LabelError(str(path), f"is not JSON: {error.msg} at {where}", "export the labels again") from None
    except LabelError:
        raise
    except (RecursionError, ValueError) as error:  # absurd nesting; integers of thousands of digits
        raise LabelError(str(path), f"is not usable JSON: {error}", "export the labels again") from None


def _distinct_keys(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise LabelError(str(path), f"key {show(key)} appears twice in one object", "keep one of the two")
    return record


def as_record(value: Any, item: str) -> dict[str, Any]:
    """`value` if it is a JSON object, else a `LabelError`."""
    if not isinstance(value, dict):
        raise LabelError(item, f"{show(value)} is not an object", "export the labels again")
    return value


def as_list(record: Mapping[str, Any], key: str, item: str) -> list[Any]:
    """The list under `key`, else a `LabelError`."""
    value = _present(record, key, item)
    if not isinstance(value, list):
        raise LabelError(item, f"{key} {show(value)} is not a list", "export the labels again")
    return value


def as_text(record: Mapping[str, Any], key: str, item: str) -> str:
    """The string under `key`, not empty, else a `LabelError`."""
    value = _present(record, key, item)
    if not isinstance(value, str) or not value.strip():
        raise LabelError(item, f"{key} {show(value)} is not a name", "write a text that is not empty")
    return value


def as_id(record: Mapping[str, Any], key: str, item: str) -> int:
    """The id under `key`: a whole number from 0, else a `LabelError`."""
    value = as_whole(_present(record, key, item))
    if value is None:
        raise LabelError(item, f"{key} {show(record[key])} is not a whole number", "number ids from 0 or 1")
    if not 0 <= value < MAX_ID:
        problem = "is negative" if value < 0 else "is larger than 2^53"
        raise LabelError(item, f"{key} {show(value)} {problem}", "number ids from 0 or 1")
    return value


def as_whole(value: Any) -> int | None:
    """`value` as an int if it is a whole number (384 or 384.0, not true), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def as_numbers(value: Any, what: str, item: str) -> NDArray[np.float64]:
    """A list of finite numbers as (K,) float64, else a `LabelError` that names the first wrong one."""
    if not isinstance(value, list):
        raise LabelError(item, f"{what} {show(value)} is not a list of numbers", "draw it again")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise LabelError(item, f"{what} holds {show(number)}, which is not a number", "draw it again")
        if not (isinstance(number, int) or math.isfinite(number)):
            raise LabelError(item, f"{what} holds {number}, which is not finite", "draw it again")
        if abs(number) > MAX_ID:
            raise LabelError(item, f"{what} holds {show(number)}, which no photograph reaches", "draw it again")
    return np.array(value, np.float64)


def _present(record: Mapping[str, Any], key: str, item: str) -> Any:
    if key not in record:
        raise LabelError(item, f"has no {key}", f"add {key}, or export the labels again")
    return record[key]


# Judging photographs and outlines


def photograph_folders(source: Path, images: Path | None) -> list[Path]:
    """Where the photographs of a label file are looked for: `images`, else beside the file and in ``images`` there.

    Raises:
        LabelError: `images` is not a folder.
    """
    if images is None:
        return [source.parent, source.parent / "images"]
    if not images.is_dir():
        raise LabelError(str(images), "is not a folder", "name the folder of the photographs")
    return [images]


def find_photograph(file_name: str, folders: Sequence[Path], item: str) -> Path:
    """Where a photograph named by a label file lies, in the first of `folders` that has it.

    A name may have sub-folders, also written with backslashes, but stays inside the folder.

    Raises:
        LabelError: The name is absolute or leaves the folder, or there is no such file.
    """
    for folder in folders:
        try:
            path = files.safe_join(folder, file_name.replace("\\", "/"))
        except InputError as error:
            problem = f"file_name {show(file_name)} {error.problem}"
            raise LabelError(item, problem, "write it relative to the photographs' folder") from None
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name the file system cannot hold
            continue
    searched = " or ".join(str(folder) for folder in folders)
    raise LabelError(
        item, f"photograph {show(file_name)} is not in {searched}", "name the photographs' folder with --images"
    )


def photograph_size(path: Path, item: str, *, stated: ImageSize | None = None) -> ImageSize:
    """The photograph's size from its header, checked against the size that the labels state.

    Raises:
        LabelError: The photograph cannot be read, has another size, or more pixels than are ever decoded.
    """
    try:
        size = images.image_size(path)
    except InputError as error:
        raise LabelError(item, f"photograph {path.name}: {error.problem}", error.cure) from None
    if stated is not None and stated != size:
        turned = " (turned by its EXIF orientation?)" if stated == (size.width, size.height) else ""
        raise LabelError(
            item,
            f"size {show(stated.width)}x{show(stated.height)} is not the photograph's, "
            f"{size.width}x{size.height}{turned}",
            "label the photograph at its own size, or restore the one that was labelled",
        )
    return size


def check_ring(points: NDArray[np.float64], size: ImageSize, item: str) -> NDArray[np.float64]:
    """One closed ring, usable: inside the photograph, and with an area.

    Args:
        points: (K, 2) xy, pixels, finite. The first point may be repeated at the end, as VGG exports do.
        size: The photograph's.
        item: For messages.

    Returns:
        (K', 2) xy without the repeated point, clipped to the photograph by at most `BORDER_TOLERANCE`.

    Raises:
        LabelError: Fewer than 3 points, all points on one line, or further past the border.
    """
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    if len(points) < 3:
        count = plural(len(points), "point")
        raise LabelError(item, f"outline {show(points.tolist())} has {count}; it needs 3 or more", "draw it again")
    limits = np.array([size.width, size.height], np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    overshoot = {"left": -low[0], "top": -low[1], "right": high[0] - limits[0], "bottom": high[1] - limits[1]}
    side, distance = max(overshoot.items(), key=lambda entry: entry[1])
    if distance > BORDER_TOLERANCE:
        raise LabelError(
            item,
            f"outline reaches {distance:.6g} px past the {side} border of the {size.width}x{size.height} photograph",
            "check that it belongs to this photograph, or draw it again",
        )
    points = np.clip(points, 0.0, limits)
    edges = points[1:] - points[0]
    longest = edges[np.argmax(np.abs(edges).sum(axis=1))]
    if not np.any(np.abs(edges[:, 0] * longest[1] - edges[:, 1] * longest[0]) > 1e-9):
        raise LabelError(item, f"outline has area 0: its {len(points)} points lie on one line", "draw it again")
    return points


def check_polygons(rings: Sequence[NDArray[np.float64]], size: ImageSize, item: str) -> Polygons:
    """An outline of one or more rings, each (K, 2) xy; see `check_ring`.

    Raises:
        LabelError: A ring is wrong, or the outline is so thin that no pixel belongs to it.
    """
    polygons = Polygons(tuple(check_ring(ring, size, item) for ring in rings))
    rle = masks.polygons_to_rle(polygons, size)
    if not coco_mask.area({"counts": rle.counts, "size": rle.size}):
        raise LabelError(item, "outline has area 0: no pixel lies in it", "draw it again")
    return polygons
