"""VGG Image Annotator JSON: version 1 and 2 exports, saved projects, and makesense.ai's VGG export.

The format: one record per photograph with `filename`, `size` (of the file, in bytes) and `regions`. Version 1 and
makesense.ai write the regions as an object keyed "0", "1", ..., version 2 as a list; a saved project has the records
under `_via_img_metadata`. There are no image sizes, so the photographs' own count. A ring's first point may be
repeated at its end. `via_write` writes all of them.

Rectangles (`rect`) are errors rather than outlines: the tool's default shape, they are boxes drawn around something,
and no lesion is one. Version 3 is another format altogether (`project`, `file`, `view`, `metadata`) and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermask.data.checks import (
    Draft,
    Problems,
    as_numbers,
    as_record,
    as_text,
    check_polygons,
    find_photograph,
    load_json,
    make_dataset,
    photograph_folders,
    photograph_size,
    show,
)
from dermask.data.dataset import Dataset
from dermask.data.one_ring import unbridged
from dermask.data.shapes import ellipse_ring
from dermask.errors import LabelError
from dermask.records import Instance, Outline

_CLASS_ATTRIBUTES = ("label", "class", "name", "type")
"""Region attributes that are taken for the class where there are several; makesense.ai writes "label"."""


def read_via(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """A VGG Image Annotator JSON file: an export of version 1 or 2, a saved project, or makesense.ai's VGG export.

    The class of a region is its one attribute, or the first of label, class, name and type where it has several; a
    checkbox counts as its one ticked option. Labels follow the options of a saved project's one dropdown or radio
    attribute where those name every class, else the sorted names. Where no region of the file has an attribute, as is
    usual with a single class, all are "lesion". Polygons, circles and ellipses are outlines; other shapes are errors.
    A photograph without regions has no lesion.

    Args:
        path: The JSON file.
        images: Folder of the photographs; by default the file's own folder, or `images` in it.
        skip_bad: Go on without photographs that are bad or have a bad region; `Dataset.skipped` lists why.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    return via_dataset(load_json(path), path, images, skip_bad)


def is_via(tree: Any) -> bool:
    """Whether parsed JSON has the shape of a VGG export or project, of whatever version."""
    if not isinstance(tree, dict):
        return False
    if "_via_img_metadata" in tree or _is_version_3(tree):
        return True
    return any(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in tree.values())


def via_dataset(tree: Any, path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """As `read_via`, from the file's parsed content."""
    entries = as_record(tree, str(path))
    if _is_version_3(entries):
        cure = "draw the outlines in VIA 2, or write them as COCO JSON"
        raise LabelError(str(path), "is a project of VGG Image Annotator 3, another format than VIA 2's", cure)
    declared = _declared_classes(entries)
    if "_via_img_metadata" in entries:
        entries = as_record(entries["_via_img_metadata"], f"{path}: _via_img_metadata")
    if not entries:
        raise LabelError(str(path), "has no photographs", "label at least one, then export again")
    folders = photograph_folders(path, images)
    problems = Problems(skip_bad=skip_bad)
    drafts: dict[Path, Draft] = {}
    regions: list[_Region] = []
    for key, entry in entries.items():
        item = f"{path}: {show(key)}"
        try:
            record = as_record(entry, item)
            file_name = as_text(record, "filename", item)
            item = f"{path}: {show(file_name)[1:-1]}"
            photograph = find_photograph(file_name, folders, item)
            draft = Draft(item, file_name, photograph, photograph_size(photograph, item))
            if photograph in drafts:
                drafts[photograph].is_bad = True
                twice = LabelError(item, "the photograph has two records", "merge their regions into one")
                problems.add(twice, left_out="both left out")
                continue
            drafts[photograph] = draft
        except LabelError as error:
            problems.add(error)
            continue
        try:
            for name, region in _list_regions(record, item):
                regions.append(_Region(draft, name, region))
        except LabelError as error:
            problems.add(error, draft)
    class_names = _read_regions(regions, problems, declared)
    return make_dataset(drafts.values(), problems, class_names=class_names, source=path)


def _is_version_3(tree: Mapping[str, Any]) -> bool:
    return {"project", "file", "view", "metadata"} <= tree.keys() and "_via_img_metadata" not in tree


def _declared_classes(project: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of a saved project's one region attribute, in order; none where it has another number, or no options.

    They are what its dropdown offers, so classes that no region has yet are among them.
    """
    attributes = project.get("_via_attributes")
    region = attributes.get("region") if isinstance(attributes, dict) else None
    if not isinstance(region, dict) or len(region) != 1:
        return ()
    attribute = next(iter(region.values()))
    if not isinstance(attribute, dict) or attribute.get("type") not in ("dropdown", "radio"):
        return ()
    options = attribute.get("options")
    return tuple(option.strip() for option in options) if isinstance(options, dict) else ()


class _Region:
    """One region of the file on its way to an `Instance`."""

    def __init__(self, draft: Draft, name: str, record: Any) -> None:
        self.draft = draft
        self.name = name
        self.item = f"{draft.item}: region {name}"
        self.record = record
        self.class_name: str | None = None
        self.outline: Outline | None = None

    def read(self) -> None:
        record = as_record(self.record, self.item)
        self.class_name = _class_name(record.get("region_attributes"), self.item)
        shape = as_record(record.get("shape_attributes"), f"{self.item}: shape_attributes")
        polygons = check_polygons([_shape_ring(shape, self.item)], self.draft.size, self.item)
        self.outline = unbridged(polygons, self.draft.size)


def _list_regions(record: Mapping[str, Any], item: str) -> list[tuple[str, Any]]:
    regions = record.get("regions")
    if regions is None:
        return []  # a photograph without a lesion
    if isinstance(regions, list):
        return [(str(number), region) for number, region in enumerate(regions)]
    if isinstance(regions, dict):
        return [(show(key)[1:-1], region) for key, region in regions.items()]
    raise LabelError(item, f"regions {show(regions)} are neither a list nor an object", "export the labels again")


def _read_regions(regions: list[_Region], problems: Problems, declared: tuple[str, ...]) -> tuple[str, ...]:
    """Put the good regions into their drafts; returns the class names."""
    good = []
    for region in regions:
        try:
            region.read()
            good.append(region)
        except LabelError as error:
            problems.add(error, region.draft)
    used = {region.class_name for region in good if region.class_name is not None}
    is_single_class = bool(good) and not used
    if is_single_class and len(declared) != 1:
        declared = ()  # nobody chose any of them
    names = list(declared) if _is_class_list(declared, used) else sorted(used) or ["lesion"]
    for region in good:
        if region.outline is None or (region.class_name is None and not is_single_class):
            unlabelled = LabelError(region.item, "has no label, and others have", f"choose one of {', '.join(names)}")
            problems.add(unlabelled, region.draft)
            continue
        label = 1 if region.class_name is None else names.index(region.class_name) + 1
        region.draft.instances.append(Instance(label, region.outline, annotation_id=region.name))
    return tuple(names)


def _is_class_list(declared: tuple[str, ...], used: set[str]) -> bool:
    return bool(declared) and all(declared) and len(set(declared)) == len(declared) and used <= set(declared)


def _class_name(attributes: Any, item: str) -> str | None:
    """The class that a region's attributes name; None where there are none, or empty ones."""
    if attributes is None:
        return None
    record = as_record(attributes, f"{item}: region_attributes")
    if not record:
        return None
    keys = [key for key in _CLASS_ATTRIBUTES if key in record] or list(record)
    if len(record) > 1 and keys[0] not in _CLASS_ATTRIBUTES:
        known = ", ".join(show(key)[1:-1] for key in keys[:8])
        raise LabelError(item, f"attributes {known} leave the class open", "call the one that is the class 'label'")
    value = record[keys[0]]
    if isinstance(value, dict):  # checkboxes: option to whether it is ticked
        ticked = [option for option, is_ticked in value.items() if is_ticked is True]
        if len(ticked) > 1:
            raise LabelError(item, f"{show(keys[0])} has {len(ticked)} options ticked", "tick one")
        value = ticked[0] if ticked else None
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise LabelError(item, f"label {show(value)} is not a name", "write a text")
    return value.strip() or None


def _shape_ring(shape: Mapping[str, Any], item: str) -> NDArray[np.float64]:
    """(K, 2) xy of a region's shape."""
    kind = shape.get("name")
    if kind == "polygon":
        xs = as_numbers(shape.get("all_points_x"), "all_points_x", item)
        ys = as_numbers(shape.get("all_points_y"), "all_points_y", item)
        if len(xs) != len(ys):
            raise LabelError(item, f"{len(xs)} x and {len(ys)} y coordinates", "draw the outline again")
        return np.stack([xs, ys], axis=1)
    if kind in ("circle", "ellipse"):
        keys = ("cx", "cy", "r", "r") if kind == "circle" else ("cx", "cy", "rx", "ry")
        numbers = as_numbers([shape.get(key) for key in keys], kind, item)
        theta = as_numbers([shape.get("theta", 0.0)], "theta", item)[0]  # radians; from version 2.0.9 on
        x, y, radius_x, radius_y = numbers.tolist()
        return ellipse_ring(x, y, radius_x, radius_y, math.degrees(theta))
    what = "is a box, not an outline" if kind == "rect" else "is not an outline"
    raise LabelError(item, f"shape {show(kind)} {what}", "draw a polygon")
