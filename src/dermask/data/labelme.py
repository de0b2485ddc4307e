"""labelme JSON: one file per photograph, alone or as a folder of them.

The format: https://github.com/wkentaro/labelme, `_label_file.py` and `utils/shape.py`, of which version 6.3 was read.
Shapes of one label and one `group_id` are parts of one object. A `mask` shape has two points, the first and the last
column and row that its base64 PNG covers, the last included, and every value of it but 0 belongs to the object.
labelme's own converters call regions to be ignored ``__ignore__``.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermask import masks
from dermask.data.checks import (
    Draft,
    Problems,
    as_list,
    as_numbers,
    as_record,
    as_text,
    as_whole,
    check_polygons,
    check_ring,
    load_json,
    make_dataset,
    photograph_folders,
    photograph_size,
    show,
)
from dermask.data.dataset import Dataset, ReadProblem
from dermask.data.shapes import ellipse_ring
from dermask.data.tool_regions import (
    NamedRegion,
    add_instances,
    files_in,
    find_by_names,
    names_below,
    note_unlabelled,
)
from dermask.errors import InputError, LabelError
from dermask.images import SUFFIXES, read_image
from dermask.records import BoolArray, ImageSize, Outline

IGNORED = "__ignore__"
"""The label of regions that are neither lesion nor background."""

_MARKS = re.compile(rb'"(imagePath|imageData|imageHeight)"\s*:|"shapes"\s*:\s*\[')
_HEAD = 1 << 16  # bytes of a file that are looked at to tell what it is
_PROBES = 3  # files of a folder that are looked at
_CURE = "save it with labelme again"


def read_labelme(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """One labelme JSON; see `read_labelme_folder`."""
    return labelme_dataset(load_json(path), path, images, skip_bad)


def is_labelme(tree: Any) -> bool:
    """Whether parsed JSON has the shape of a labelme file."""
    return isinstance(tree, dict) and "imagePath" in tree and "shapes" in tree


def is_labelme_folder(folder: Path) -> bool:
    """Whether a folder holds labelme JSONs: the heads of its first few JSON files are looked at.

    Sub-folders count only where the folder itself has no JSON file.
    """
    here = (path for path in sorted(folder.glob("*.json")) if not path.name.startswith("."))
    probes = list(islice(here, _PROBES)) or list(islice(_json_files(folder, max_folders=100), _PROBES))
    return any(_looks_labelme(path) for path in probes)


def labelme_dataset(tree: Any, path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """As `read_labelme`, from the file's parsed content."""
    reader = _Reader(Problems(skip_bad=skip_bad))
    reader.read(tree, path, path.name, photograph_folders(path, images), PurePosixPath())
    return reader.dataset(path)


def read_labelme_folder(folder: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """A folder of labelme JSONs, with its sub-folders.

    Polygons, rectangles, also turned ones, circles and masks are outlines; other shapes are errors. Labels follow the
    sorted names. A JSON without shapes is a photograph without a lesion. A photograph that lies beside labelled ones
    and has no JSON is not labelled and stays out; so do other JSON files.

    The pixels that a JSON may hold (`imageData`) are not used: photographs are files. Where `imagePath` leads out of
    the folder through ``..`` or a drive, what it says behind that is looked for inside.

    Args:
        folder: The folder of the JSONs.
        images: Folder of the photographs, with the same sub-folders or without; by default each JSON's own folder, or
            `images` in it.
        skip_bad: Go on without photographs that are bad or have a bad shape; `Dataset.skipped` lists why.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    reader = _Reader(Problems(skip_bad=skip_bad))
    for path in _json_files(folder):
        relative = path.relative_to(folder)
        try:
            tree = load_json(path)
            if not is_labelme(tree):
                error = LabelError(str(path), "is JSON, but not labelme's", "move it out of the folder if it is labels")
                reader.problems.found.append(ReadProblem(error))
                reader.problems.lines.append(f"{error}; left out")
                continue
            folders = photograph_folders(path, images)
            if images is not None:
                folders = [images / relative.parent, *folders]
        except LabelError as error:
            reader.problems.add(error)
            continue
        reader.read(tree, path, relative.as_posix(), folders, PurePosixPath(relative.parent.as_posix()))
    reader.note_unlabelled(folder)
    return reader.dataset(folder)


def _json_files(folder: Path, *, max_folders: int | None = None) -> Iterator[Path]:
    """The JSON files of a folder and its sub-folders in order, without hidden ones."""
    for place, folders, names in islice(os.walk(folder), max_folders):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(".json") and not name.startswith("."):
                yield Path(place) / name


def _looks_labelme(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARKS.search(file.read(_HEAD)) is not None
    except OSError:
        return False


class _Reader:
    """The photographs and shapes of one or many labelme files."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.drafts: dict[Path, Draft] = {}
        self.regions: list[NamedRegion] = []
        self.seen: set[Path] = set()

    def read(self, tree: Any, path: Path, name: str, folders: Sequence[Path], below: PurePosixPath) -> None:
        """Add a file; `name` is what distinguishes it, `below` its folder below the data set's."""
        draft = None
        try:
            record = as_record(tree, str(path))
            draft = _open_photograph(record, path, folders, below)
            self.seen.add(draft.path)
            other = self.drafts.setdefault(draft.path, draft)
            if other is not draft:
                other.is_bad = True
                twice = LabelError(draft.item, f"the photograph is also that of {other.source_id}", "delete one")
                self.problems.add(twice, left_out="both left out")
                return
            draft.source_id = name
            shapes = as_list(record, "shapes", draft.item)
        except LabelError as error:
            self.problems.add(error, draft)
            return
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for number, shape in enumerate(shapes):
            try:
                entry = as_record(shape, f"{draft.item}: shape {number}")
                key = _group_key(entry, f"{draft.item}: shape {number}")
                groups.setdefault(number if key is None else key, []).append((number, entry))
            except LabelError as error:
                self.problems.add(error, draft)
        for parts in groups.values():
            try:
                self.regions.append(_read_object(parts, draft))
            except LabelError as error:
                self.problems.add(error, draft)

    def note_unlabelled(self, folder: Path) -> None:
        """Name the photographs that lie beside labelled ones without a JSON."""
        unlabelled = [
            (path.name, path)
            for place in sorted({path.parent for path in self.seen})
            for path in files_in(place)
            if path.suffix.lower() in SUFFIXES and path not in self.seen and not path.name.startswith(".")
        ]
        note_unlabelled(self.problems, str(folder), unlabelled, "has no JSON")

    def dataset(self, source: Path) -> Dataset:
        class_names = add_instances(self.regions, self.problems)
        return make_dataset(self.drafts.values(), self.problems, class_names=class_names, source=source)


def _open_photograph(record: Mapping[str, Any], path: Path, folders: Sequence[Path], below: PurePosixPath) -> Draft:
    image_path = as_text(record, "imagePath", str(path))
    names = names_below(image_path)
    found = find_by_names(names, folders)
    if found is None:
        searched = " or ".join(str(folder) for folder in folders)
        cure = "name the photographs' folder with --images"
        if record.get("imageData") is not None:
            cure += ", or save the photograph that the JSON holds as a file beside it"
        raise LabelError(str(path), f"photograph {show(names[-1] if names else image_path)} is not in {searched}", cure)
    stated = []
    for key in ("imageHeight", "imageWidth"):
        if record.get(key) is not None:
            value = as_whole(record[key])
            if value is None or value < 1:
                raise LabelError(str(path), f"{key} {show(record[key])} is not a whole number above 0", "correct it")
            stated.append(value)
    size = photograph_size(found[0], str(path), stated=ImageSize(*stated) if len(stated) == 2 else None)
    return Draft(str(path), (below / found[1]).as_posix(), found[0], size)


# Shapes


def _group_key(shape: Mapping[str, Any], item: str) -> tuple[str, int] | None:
    """What the parts of one object share; None for a shape that is an object of its own."""
    group_id = shape.get("group_id")
    if group_id is None:
        return None
    number = as_whole(group_id)
    if number is None:
        raise LabelError(item, f"group_id {show(group_id)} is not a whole number", _CURE)
    return _label(shape, item), number


def _label(shape: Mapping[str, Any], item: str) -> str:
    return as_text(shape, "label", item).strip()


def _read_object(parts: Sequence[tuple[int, dict[str, Any]]], draft: Draft) -> NamedRegion:
    """One object of one shape, or of several in a group."""
    number, first = parts[0]
    item = f"{draft.item}: shape {number}"
    label = _label(first, item)
    rings: list[NDArray[np.float64]] = []
    pixels: BoolArray | None = None
    for number, shape in parts:
        item = f"{draft.item}: shape {number}"
        if shape.get("shape_type") == "mask":
            drawn = _read_mask(shape, draft.size, item)
            pixels = drawn if pixels is None else pixels | drawn
        else:
            rings.append(check_ring(_read_ring(shape, item), draft.size, item))
    outline: Outline
    if pixels is None:
        outline = check_polygons(rings, draft.size, item)
    else:
        if rings:
            pixels |= masks.outline_bitmask(check_polygons(rings, draft.size, item), draft.size)
        outline = masks.bitmask_to_rle(pixels)
    is_crowd = label == IGNORED
    return NamedRegion(draft, item, None if is_crowd else label, outline, is_crowd, annotation_id=parts[0][0])


def _read_points(shape: Mapping[str, Any], item: str) -> NDArray[np.float64]:
    """(K, 2) xy."""
    rows = [as_numbers(point, "points", item) for point in as_list(shape, "points", item)]
    if any(len(row) != 2 for row in rows):
        raise LabelError(item, f"points {show(shape['points'])} are not pairs of x and y", "draw it again")
    return np.array(rows, np.float64).reshape(-1, 2)


def _read_ring(shape: Mapping[str, Any], item: str) -> NDArray[np.float64]:
    """(K, 2) xy of a shape that is no mask."""
    kind = shape.get("shape_type") or "polygon"  # old files leave it out, or write null
    counts = {"polygon": None, "rectangle": 2, "circle": 2, "oriented_rectangle": 4}
    if not isinstance(kind, str) or kind not in counts:
        raise LabelError(item, f"shape_type {show(kind)} is not an outline", "draw a polygon")
    points = _read_points(shape, item)
    wanted = counts[kind]
    if wanted is not None and len(points) != wanted:
        raise LabelError(item, f"a {kind.replace('_', ' ')} has {wanted} points, this {len(points)}", "draw it again")
    if kind == "circle":
        radius = math.dist(points[0], points[1])
        x, y = points[0].tolist()
        return ellipse_ring(x, y, radius, radius)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return points


def _read_mask(shape: Mapping[str, Any], size: ImageSize, item: str) -> BoolArray:
    """(H, W) bool of a mask shape."""
    points = _read_points(shape, item)
    if len(points) != 2:
        raise LabelError(item, f"a mask has 2 points, this {len(points)}", _CURE)
    x1, y1, x2, y2 = points.astype(np.int64).ravel().tolist()  # cut off, as labelme does
    if not (0 <= x1 <= x2 < size.width and 0 <= y1 <= y2 < size.height):
        problem = f"its mask covers {x1}, {y1} to {x2}, {y2}, and the photograph has {size.width}x{size.height} pixels"
        raise LabelError(item, problem, "check that it belongs to this photograph, or draw it again")
    height, width = y2 - y1 + 1, x2 - x1 + 1
    try:
        png = base64.b64decode(as_text(shape, "mask", item).encode("ascii"), validate=True)
        drawn = read_image(png, max_pixels=size.height * size.width, name="its mask").any(axis=2)
    except (binascii.Error, UnicodeError):
        raise LabelError(item, "its mask is not base64", _CURE) from None
    except LabelError:
        raise
    except InputError as error:
        raise LabelError(item, f"{error.item} {error.problem}", _CURE) from None
    if drawn.shape != (height, width):
        problem = f"its mask has {drawn.shape[1]}x{drawn.shape[0]} pixels, its two points span {width}x{height}"
        raise LabelError(item, problem, _CURE)
    if not drawn.any():
        raise LabelError(item, "outline has area 0: its mask holds no pixel", "draw it again, or delete the shape")
    bitmask = np.zeros(size, np.bool_)
    bitmask[y1 : y2 + 1, x1 : x2 + 1] = drawn
    return bitmask
