"""Label Studio's JSON and JSON-MIN exports: polygons, brush strokes, rectangles and ellipses.

The format: https://labelstud.io/guide/task_format and the pages of the tags there. One task per photograph, with its
address under `data` and what people drew under `annotations`; numbers are percent of the photograph's width or height.
Against those pages, x and y of an ellipse are its centre, and a rectangle turns around its corner (x, y): so Label
Studio draws them (HumanSignal/label-studio, web/libs/editor/src/regions, `bboxCoords`). JSON-MIN has one record per
annotation with all under one roof, and leaves out whether Label Studio showed the photograph turned.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from dermask import masks
from dermask.data.brush_rle import decode_brush
from dermask.data.checks import (
    Draft,
    Problems,
    as_numbers,
    as_record,
    as_whole,
    check_polygons,
    load_json,
    make_dataset,
    photograph_folders,
    photograph_size,
    show,
)
from dermask.data.dataset import Dataset
from dermask.data.shapes import ellipse_ring, rectangle_ring
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
from dermask.records import ImageSize, Outline

_LABEL_KEYS = ("polygonlabels", "brushlabels", "ellipselabels", "rectanglelabels", "bitmasklabels", "labels")
_NO_OUTLINES = {"keypointlabels": "a key point", "vertices": "a vector", "sequence": "a region of a film"}
_DRAWN_KEYS = ("points", "rle", "imageDataURL", "radiusX", "width", *_NO_OUTLINES)
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""Label Studio puts the start of a random id in front of the name of an uploaded file."""
_CURE = "export the labels again"


def read_label_studio(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """A Label Studio export as JSON or JSON-MIN.

    Of several annotations of a task those that were cancelled never count; one marked as ground truth goes before
    others, and then the one changed last. An annotation without a region is a photograph without a lesion; a task
    without an annotation, with or without predictions, is not labelled and stays out. Labels follow the sorted names;
    where no region of the file has one, all are "lesion". Every region is an object of its own.

    A photograph is looked for by its address, decoded: behind ``?d=`` of a local file, without the random start that
    Label Studio gives uploads, and in the end by its bare name, also as Label Studio shortens it, always inside
    `images`.

    Args:
        path: The JSON file.
        images: Folder of the photographs; by default the file's own folder, or `images` in it.
        skip_bad: Go on without photographs that are bad or have a bad region; `Dataset.skipped` lists why.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    return label_studio_dataset(load_json(path), path, images, skip_bad)


def is_label_studio(tree: Any) -> bool:
    """Whether parsed JSON is a list of Label Studio tasks, one task, or a JSON-MIN export."""
    if isinstance(tree, list):
        return any(_is_task(entry) or _is_min_record(entry) for entry in tree)
    return _is_task(tree) and not tree.keys().isdisjoint({"annotations", "completions", "predictions"})


def _is_task(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("data"), dict)


def _is_min_record(entry: Any) -> bool:
    return isinstance(entry, dict) and {"annotation_id", "annotator"} <= entry.keys()


def label_studio_dataset(tree: Any, path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """As `read_label_studio`, from the file's parsed content."""
    folders = photograph_folders(path, images)
    problems = Problems(skip_bad=skip_bad)
    drafts: dict[Path, Draft] = {}
    regions: list[NamedRegion] = []
    unlabelled: list[tuple[str, Path | None]] = []
    uploads: dict[str, list[Path]] = {}
    for item, task in _list_tasks(tree, path):
        draft = None
        try:
            names = _photograph_names(as_record(as_record(task, item).get("data"), f"{item}: data"), item)
            found = find_by_names(names, folders) or _find_upload(names[-1], folders, uploads)
            result = _choose_result(task, item)
            if result is None:
                unlabelled.append((names[0], found[0] if found else None))
                continue
            draft = _open_photograph(task, names, found, folders, item)
            other = drafts.setdefault(draft.path, draft)
            if other is not draft:
                other.is_bad = True
                twice = LabelError(draft.item, "the photograph has two tasks", "delete one of them and export again")
                problems.add(twice, left_out="both left out")
                continue
        except LabelError as error:
            problems.add(error)
            continue
        for number, parts in enumerate(_join_results(result)):
            try:
                region = _read_region(parts, draft, f"{draft.item}: region {_region_id(parts, number)}")
                if region is not None:
                    regions.append(region)
            except LabelError as error:
                problems.add(error, draft)
    note_unlabelled(problems, str(path), unlabelled, "has no annotation")
    class_names = add_instances(regions, problems)
    return make_dataset(drafts.values(), problems, class_names=class_names, source=path)


# Tasks and their photographs


def _list_tasks(tree: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Each task with what messages call it; records of JSON-MIN in the form of tasks."""
    entries = tree if isinstance(tree, list) else [tree]
    by_task: dict[str, Any] = {}
    for index, entry in enumerate(entries):
        number = entry.get("id", f"[{index}]") if isinstance(entry, dict) else f"[{index}]"
        item = f"{path}: task {show(number).strip(chr(39))}"
        if not _is_min_record(entry) or _is_task(entry):
            yield item, entry
        elif item in by_task:
            by_task[item]["annotations"] += _task_of_min(entry)["annotations"]
        else:
            by_task[item] = _task_of_min(entry)
    yield from by_task.items()


def _task_of_min(record: Mapping[str, Any]) -> dict[str, Any]:
    result = [
        {"value": value, "original_width": value.get("original_width"), "original_height": value.get("original_height")}
        for values in record.values()
        if isinstance(values, list)
        for value in values
        if isinstance(value, dict)
    ]
    annotation = {"result": result, "updated_at": record.get("updated_at"), "created_at": record.get("created_at")}
    data = {key: value for key, value in record.items() if isinstance(value, str) and not key.endswith("_at")}
    is_annotated = record["annotation_id"] is not None
    return {"id": record.get("id"), "data": data, "annotations": [annotation] if is_annotated else []}


def _choose_result(task: Mapping[str, Any], item: str) -> list[Any] | None:
    """The regions of the annotation that counts; None where nobody has labelled the photograph."""
    annotations = task.get("annotations", task.get("completions"))  # its name before version 1.0
    if annotations is None:
        return None
    if not isinstance(annotations, list):
        raise LabelError(item, f"annotations {show(annotations)} are not a list", _CURE)
    records = [as_record(one, f"{item}: annotation") for one in annotations]
    records = [one for one in records if not (one.get("was_cancelled") or one.get("skipped"))]
    records = [one for one in records if one.get("ground_truth") is True] or records
    if not records:
        return None
    times = [one.get("updated_at") or one.get("created_at") for one in records]
    texts = [time for time in times if isinstance(time, str)]  # ISO 8601, which sorts as text
    last = max(range(len(records)), key=lambda k: (texts[k], k)) if len(texts) == len(records) else -1
    result = records[last].get("result")
    if not isinstance(result, list):
        raise LabelError(item, f"result {show(result)} of an annotation is not a list", _CURE)
    return result


def _photograph_names(data: Mapping[str, Any], item: str) -> list[str]:
    """What the photograph of a task may be called below its folder, the likeliest first."""
    address = _photograph_address(data, item)
    if address.startswith("data:"):
        raise LabelError(item, "the photograph is kept inside the JSON", "save it as a file and give Label Studio that")
    names = names_below(address)  # a plain name may hold any character, also what means something in an address
    with contextlib.suppress(ValueError):  # no address
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d", []) if "local-files" in parts.path else []
        names += names_below(local[0] if local else unquote(parts.path))
    bare = PurePosixPath(names[-1]).name if names else ""
    if _UPLOAD_PREFIX.match(bare):
        names.append(_UPLOAD_PREFIX.sub("", bare))
    if not names:
        raise LabelError(item, f"photograph {show(address)} has no file name", _CURE)
    return sorted(dict.fromkeys(names), key=lambda name: -name.count("/"))


def _photograph_address(data: Mapping[str, Any], item: str) -> str:
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value.strip()}
    if "image" in texts:
        return texts["image"]
    pictures = [text for text in texts.values() if PurePosixPath(_named_part(text)).suffix.lower() in SUFFIXES]
    chosen = pictures or list(texts.values())
    if len(chosen) != 1:
        known = ", ".join(show(key)[1:-1] for key in list(data)[:6]) or "nothing"
        problem = f"data holds {known}, which leaves open what the photograph is"
        raise LabelError(item, problem, "call its address 'image'")
    return chosen[0]


def _named_part(address: str) -> str:
    """What of an address ends in a file's suffix: behind ``?d=`` if that is there, else before any ``?``."""
    _, _, local = address.partition("?d=")
    return local or address.partition("?")[0]


def _find_upload(name: str, folders: Sequence[Path], uploads: dict[str, list[Path]]) -> tuple[Path, str] | None:
    """The one photograph that Label Studio would have called `name` when it was uploaded.

    It keeps uploads under names that Django's `get_valid_filename` makes: spaces become ``_``, other characters but
    letters, digits, ``-``, ``_`` and ``.`` go.

    Args:
        name: Without the random start.
        folders: Where photographs are.
        uploads: Filled at the first call: photographs by what they would be called.
    """
    if not uploads:
        for folder in folders:
            for path in files_in(folder):
                uploads.setdefault(re.sub(r"[^-\w.]", "", path.name.strip().replace(" ", "_")), []).append(path)
    paths = [path for path in uploads.get(name, []) if path.is_file()]
    return (paths[0], paths[0].name) if len(paths) == 1 else None


def _open_photograph(
    task: Mapping[str, Any], names: Sequence[str], found: tuple[Path, str] | None, folders: Sequence[Path], item: str
) -> Draft:
    shown = show(PurePosixPath(names[-1]).name)
    if found is None:
        searched = " or ".join(str(folder) for folder in folders)
        cure = "name the photographs' folder with --images"
        raise LabelError(item, f"photograph {shown} is not in {searched}", cure)
    item = f"{item} ({show(PurePosixPath(found[1]).name)[1:-1]})"
    task_id = task.get("id")
    source_id = task_id if isinstance(task_id, int | str) and not isinstance(task_id, bool) else None
    return Draft(item, found[1], found[0], photograph_size(found[0], item), source_id)


# Regions


def _join_results(result: Sequence[Any]) -> list[list[Any]]:
    """The results of one region together: with <Labels> beside <Polygon> its shape and its class are two results."""
    regions: dict[Any, list[Any]] = {}
    for number, entry in enumerate(result):
        region_id = entry.get("id") if isinstance(entry, dict) else None
        regions.setdefault(region_id if isinstance(region_id, str) else number, []).append(entry)
    return list(regions.values())


def _region_id(parts: Sequence[Any], number: int) -> str:
    region_id = parts[0].get("id") if isinstance(parts[0], dict) else None
    return show(region_id).strip("'") if isinstance(region_id, str) else str(number)


def _read_region(parts: Sequence[Any], draft: Draft, item: str) -> NamedRegion | None:
    """One region; None for a result that is no region of the photograph, such as a choice or a relation."""
    value: dict[str, Any] = {}
    for part in parts:
        record = as_record(part, item)
        if isinstance(record.get("value"), dict):
            value |= record["value"]
            _check_frame(record, draft, item)
    if not any(key in value for key in _DRAWN_KEYS):
        return None
    names = [name for key in _LABEL_KEYS for name in _as_names(value.get(key), item)]
    if len(set(names)) > 1:
        raise LabelError(item, f"has {len(set(names))} labels, {show(names[0])} and others", "choose one")
    region_id = next((part["id"] for part in parts if isinstance(part.get("id"), str)), None)
    outline = _read_outline(value, draft.size, item)
    return NamedRegion(draft, item, names[0] if names else None, outline, annotation_id=region_id)


def _check_frame(record: Mapping[str, Any], draft: Draft, item: str) -> None:
    """Percents mean something only in the frame they were drawn in."""
    turn = record.get("image_rotation", 0)
    if turn not in (0, None):
        problem = f"was drawn on the photograph turned by {show(turn)} degrees"
        raise LabelError(item, problem, "turn it back in Label Studio and export again")
    sides = [record.get("original_height"), record.get("original_width")]
    if all(side is None for side in sides):
        return  # imported tasks may leave them out
    height, width = (as_whole(side) for side in sides)
    if (height, width) != draft.size:
        found = f"{show(sides[1])}x{show(sides[0])}"
        size = f"{draft.size.width}x{draft.size.height}"
        turned = " (turned by its EXIF orientation?)" if (width, height) == draft.size else ""
        raise LabelError(
            item,
            f"was drawn on {found} pixels, the photograph has {size}{turned}",
            "restore the photograph that was labelled",
        )


def _as_names(value: Any, item: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise LabelError(item, f"label {show(value)} is not a list of names", _CURE)
    return [name.strip() for name in value if name.strip()]


def _read_outline(value: Mapping[str, Any], size: ImageSize, item: str) -> Outline:
    for key, what in _NO_OUTLINES.items():
        if key in value:
            raise LabelError(item, f"is {what}, not an outline", "draw a polygon or use the brush")
    if value.keys().isdisjoint({"points", "rle", "imageDataURL", "radiusX", "height"}):
        raise LabelError(item, "is a key point, not an outline", "draw a polygon or use the brush")
    if "rle" in value or "imageDataURL" in value:
        return _read_pixels(value, size, item)
    if "points" in value:
        if value.get("closed") is False:
            raise LabelError(item, "the polygon was left open", "close it in Label Studio")
        ring = _read_points(value["points"], item)
    else:
        is_ellipse = "radiusX" in value
        keys = ("x", "y", "radiusX", "radiusY") if is_ellipse else ("x", "y", "width", "height")
        what = "ellipse" if is_ellipse else "rectangle"
        shape = as_numbers([value.get(key) for key in keys], what, item) * np.tile(size[::-1], 2) / 100
        turn = float(as_numbers([value.get("rotation") or 0], "rotation", item)[0])
        x, y, across, down = shape.tolist()
        ring = (ellipse_ring if is_ellipse else rectangle_ring)(x, y, across, down, turn)
        return check_polygons([ring], size, item)
    return check_polygons([ring * size[::-1] / 100], size, item)


def _read_points(points: Any, item: str) -> NDArray[np.float64]:
    """(K, 2) percent."""
    if not isinstance(points, list):
        raise LabelError(item, f"points {show(points)} are not a list", _CURE)
    rows = [as_numbers(point, "points", item) for point in points]
    if any(len(row) != 2 for row in rows):
        raise LabelError(item, f"points {show(points)} are not pairs of x and y", _CURE)
    return np.array(rows, np.float64).reshape(-1, 2)


def _read_pixels(value: Mapping[str, Any], size: ImageSize, item: str) -> Outline:
    try:
        if "rle" in value:
            code = value["rle"]
            if not isinstance(code, list):
                raise LabelError(item, f"rle {show(code)} is not a list of numbers", _CURE)
            bitmask = decode_brush(code, size)
        else:
            # Black on transparent, which becomes white here; what is not white was drawn.
            drawn = read_image(_data_url(value["imageDataURL"], item), max_pixels=size.height * size.width, name=item)
            bitmask = (drawn != 255).any(axis=2)
        if bitmask.shape != size:
            raise LabelError(item, "the bitmask has another size than the photograph", _CURE)
    except LabelError:
        raise
    except InputError as error:
        raise LabelError(
            item, f"{error.item}: {error.problem}" if error.item != item else error.problem, error.cure
        ) from None
    if not bitmask.any():
        raise LabelError(item, "outline has area 0: no pixel is drawn", "draw it again, or delete the region")
    return masks.bitmask_to_rle(bitmask)


def _data_url(value: Any, item: str) -> bytes:
    head, _, content = value.partition(",") if isinstance(value, str) else ("", "", "")
    with contextlib.suppress(binascii.Error, ValueError):
        if head.startswith("data:image/png"):
            return base64.b64decode(content, validate=True)
    raise LabelError(item, f"imageDataURL {show(value)} holds no PNG", _CURE)
