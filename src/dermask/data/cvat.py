"""CVAT's COCO JSON ("COCO 1.0"), read and written: rectangles, masks that look like crowds, attributes.

CVAT writes and reads COCO by Datumaro. What its files are like, and what becomes of it:

- A rectangle has an empty `segmentation`: its outline is the rectangle of `bbox`, turned about its centre by the
  attribute `rotation`, in degrees clockwise as seen on the photograph.
- `iscrowd` 1 means no crowd: Datumaro sets it on whatever it writes as run lengths, which is every brush mask and every
  group of shapes with the attribute `is_crowd` (openvinotoolkit/datumaro, plugins/data_formats/coco/exporter.py,
  `convert_instance`; CVAT's manual, "COCO"; cvat-ai/cvat, issue 7030). Such a mask is an ordinary lesion.
- Shapes of one group are one object of several polygons; run lengths are lists of numbers.
- Category ids count the task's labels from 1; 0 is a shape without a label, an error.
- `attributes` (`occluded`, `rotation`, `track_id`, and what the task defines) say nothing of the outline otherwise.
- `licenses` holds one empty licence and `info` empty texts; file names keep their sub-folders.

What its import takes (cvat-ai/datumaro, plugins/data_formats/coco/base.py; cvat-ai/cvat, dataset_manager/bindings.py):
ids are whole numbers, `iscrowd` must be there, category id 0 loses its label and annotation id 0 its group, so both
count from 1. Photographs are matched by their name without its suffix. Labels must exist in the task by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dermask import files, masks
from dermask.data.checks import as_numbers, load_json
from dermask.data.coco import coco_dataset
from dermask.data.coco_write import (
    annotation_record,
    category_records,
    image_records,
    whole_ids,
)
from dermask.data.dataset import Dataset
from dermask.data.file_write import photograph_names, photograph_targets, refuse_existing, save_photographs
from dermask.data.shapes import turned_ring
from dermask.errors import InputError, LabelError
from dermask.records import BoolArray, ImageSize, Rle
from dermask.wording import plural

_LICENCES = [{"name": "", "id": 0, "url": ""}]
"""What Datumaro writes where a data set states no licence; files of other programs do not have it."""

_INFO = {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""}


def is_cvat(tree: Any) -> bool:
    """Whether parsed JSON is COCO as CVAT writes it: Datumaro's empty licence, or shapes with CVAT's `occluded`."""
    if not isinstance(tree, dict) or not {"images", "annotations", "categories"} <= tree.keys():
        return False
    if tree.get("licenses") == _LICENCES:
        return True
    annotations = tree["annotations"]
    return isinstance(annotations, list) and any("occluded" in _attributes(record) for record in annotations)


def read_cvat(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """A COCO JSON file that CVAT exported.

    As `coco.read_coco`, but a rectangle becomes an outline of four corners, and a mask with `iscrowd` 1 an ordinary
    lesion. `Dataset.notes` says how many there are of either.

    Args:
        path: The JSON file.
        images: Folder of the photographs; by default the file's own folder, or `images` in it.
        skip_bad: Go on without photographs that are bad or have a bad annotation; `Dataset.skipped` lists why.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    return cvat_dataset(load_json(path), path, images, skip_bad)


def cvat_dataset(tree: Any, path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """As `read_cvat`, from the file's parsed content."""
    notes = [f"{path}: {line}" for line in cvat_notes(tree)]
    if isinstance(tree, dict) and isinstance(tree.get("annotations"), list):
        sizes = _stated_sizes(tree.get("images"))
        tree = tree | {"annotations": [_plain_record(record, sizes) for record in tree["annotations"]]}
    read = coco_dataset(tree, path, images, skip_bad)
    return Dataset(
        read,
        read.class_names,
        read.name,
        read.source,
        read.categories,
        skipped=read.skipped,
        problems=read.problems,
        notes=notes,
    )


def cvat_notes(tree: Any) -> tuple[str, ...]:
    """One line for each kind of thing in CVAT's file that `cvat_dataset` reads otherwise than plain COCO.

    Args:
        tree: The file's parsed content.
    """
    annotations = tree.get("annotations") if isinstance(tree, dict) else None
    records = [one for one in annotations if isinstance(one, dict)] if isinstance(annotations, list) else []
    rectangles = sum(_is_rectangle(record) for record in records)
    marked = sum(_is_marked(record) for record in records)
    lines = []
    if rectangles:
        lines.append(f"{plural(rectangles, 'rectangle')}: read as outlines of four corners")
    if marked:
        what = "mask, read as a lesion" if marked == 1 else "masks, read as lesions"
        lines.append(f"{marked} {what}: CVAT's iscrowd 1 says that it is a mask, not that it is a crowd")
    return tuple(lines)


def write_cvat(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a COCO JSON that CVAT imports as "COCO 1.0" into a task with these photographs and labels.

    As `coco_write.write_coco`, but with run lengths as lists marked by `iscrowd` 1, as CVAT itself writes masks, and
    with ids from 1. Crowd regions are left out: CVAT would make lesions of them.

    Args:
        dataset: What to write; category ids are kept unless one is 0.
        path: The JSON file; appears in one step.
        overwrite: Whether to replace a file that is there.

    Returns:
        One line for each kind of thing that the format cannot hold.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: Two photographs differ by their suffix alone, which CVAT does not look at; a photograph or mask
            cannot be read, or an image id is no file name.
    """
    names = photograph_names(dataset, path)
    _check_distinct(names)
    targets = photograph_targets(dataset, names, path)
    refuse_existing([path, *targets.values()], overwrite=overwrite)
    categories = dataset.categories
    if min(categories.values(), default=1) < 1:
        categories = {label: label for label in categories}
    image_ids = whole_ids([sample.source_id for sample in dataset], start=1)
    if 0 in image_ids:
        image_ids = list(range(1, len(dataset) + 1))
    annotations: list[dict[str, Any]] = []
    crowds = 0
    for index, sample in enumerate(dataset):
        for instance in sample.instances:
            crowds += instance.is_crowd
            record = None if instance.is_crowd else annotation_record(instance, dataset.size(index))
            if record is not None:
                head = {"id": len(annotations) + 1, "image_id": image_ids[index]}
                class_ids = {"category_id": categories[instance.label]}
                annotations.append(head | class_ids | _as_cvat(record) | {"attributes": {"occluded": False}})
    tree = {
        "licenses": _LICENCES,
        "info": _INFO | {"description": dataset.name},
        "categories": [one | {"supercategory": ""} for one in category_records(dataset, categories)],
        "images": image_records(dataset, names, image_ids),
        "annotations": annotations,
    }
    save_photographs(dataset, targets)
    files.write_text(path, json.dumps(tree) + "\n")
    lines = []
    if crowds:
        lines.append(f"{plural(crowds, 'crowd region')}: left out, CVAT would make lesions of them")
    if categories != dataset.categories:
        lines.append("category ids: numbered from 1, CVAT takes 0 for a shape without a label")
    return tuple(lines)


def _attributes(record: Any) -> Mapping[str, Any]:
    attributes = record.get("attributes") if isinstance(record, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def _is_rectangle(record: Mapping[str, Any]) -> bool:
    return record.get("segmentation") in ([], [[]]) and "bbox" in record


def _is_marked(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("segmentation"), dict) and record.get("iscrowd") == 1


def _stated_sizes(entries: Any) -> dict[Any, tuple[float, float]]:
    """Width and height by image id, as far as the file states them in a usable way; the rest is COCO's to judge."""
    sizes = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int):
            width, height = entry.get("width"), entry.get("height")
            if isinstance(width, int) and isinstance(height, int) and 0 < width < 2**31 and 0 < height < 2**31:
                sizes[entry["id"]] = (float(width), float(height))
    return sizes


def _plain_record(record: Any, sizes: Mapping[Any, tuple[float, float]]) -> Any:
    """The annotation as plain COCO has it; one that is not usable stays as it is, for the COCO reader to name."""
    if not isinstance(record, dict):
        return record
    if _is_marked(record):
        return record | {"iscrowd": 0}
    if not _is_rectangle(record):
        return record
    try:
        box = as_numbers(record["bbox"], "bbox", "")
        angle = as_numbers([_attributes(record).get("rotation", 0)], "rotation", "")[0]
    except LabelError:
        return record
    if len(box) != 4 or not (box[2:] > 0).all():
        return record
    image_id = record.get("image_id")
    size = sizes.get(image_id) if isinstance(image_id, int) else None
    ring = _rectangle(box, float(angle), size)
    return record | {"segmentation": [ring.ravel().tolist()], "iscrowd": 0} if len(ring) else record


def _rectangle(box: NDArray[np.float64], angle: float, size: tuple[float, float] | None) -> NDArray[np.float64]:
    """(K, 2) xy of a box x, y, width, height turned about its centre, as far as it lies in the photograph.

    Args:
        box: (4,) pixels.
        angle: Degrees, clockwise as seen (y points down).
        size: Width and height of the photograph, where known.
    """
    x, y, width, height = box
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    ring = turned_ring(corners, angle, x + width / 2, y + height / 2)
    if size is None or not angle:
        return ring
    inside = shapely.Polygon(ring).intersection(shapely.box(0.0, 0.0, *size))
    if not isinstance(inside, shapely.Polygon) or inside.is_empty:
        return np.zeros((0, 2), np.float64)
    return np.asarray(shapely.get_coordinates(inside)[:-1], np.float64)


def _as_cvat(record: Mapping[str, Any]) -> dict[str, Any]:
    """COCO's entry with its run lengths as a list of numbers, marked as Datumaro marks masks."""
    segmentation = record["segmentation"]
    if not isinstance(segmentation, dict):
        return dict(record)
    size = ImageSize(*segmentation["size"])
    bitmask = masks.rle_to_bitmask(Rle(segmentation["counts"].encode(), size))
    return dict(record) | {"segmentation": {"counts": _runs(bitmask), "size": list(size)}, "iscrowd": 1}


def _runs(bitmask: BoolArray) -> list[int]:
    """COCO's run lengths of an (H, W) mask: column by column, background first."""
    flat = bitmask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(edges, prepend=0, append=len(flat)).tolist()
    return [0, *runs] if flat[0] else runs


def _check_distinct(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in seen:
            problem = f"{seen[stem]!r} and {name!r} differ by their suffix alone, which CVAT does not look at"
            raise InputError(f"photograph {stem!r}", problem, "rename one, or write the two in separate files")
        seen[stem] = name
