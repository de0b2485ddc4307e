"""COCO data set JSON: polygons of several parts, run lengths in both forms, crowds.

The format: https://cocodataset.org/#format-data. What is stricter here than in pycocotools: every photograph must be
there, at its stated size, and every annotation must be usable; see `read_coco`. `coco_write` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermask import masks
from dermask.data.checks import (
    Draft,
    Problems,
    as_id,
    as_list,
    as_numbers,
    as_record,
    as_text,
    as_whole,
    check_polygons,
    find_photograph,
    load_json,
    make_dataset,
    photograph_folders,
    photograph_size,
    show,
)
from dermask.data.coco_write import write_coco
from dermask.data.dataset import Dataset
from dermask.data.one_ring import unbridged
from dermask.errors import InputError, LabelError
from dermask.records import ImageSize, Instance, Outline, Rle

__all__ = ["coco_dataset", "read_coco", "write_coco"]


def read_coco(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """A COCO data set JSON file, such as makesense.ai's COCO export.

    Labels follow the category ids in ascending order; `Dataset.categories` keeps those ids and `Sample.source_id` the
    image ids, so that results can be written with them. Boxes in the file are checked but not used: boxes come from
    the outlines. Outlines may pass the border by `checks.BORDER_TOLERANCE`, one pixel, and are clipped. A photograph
    without annotations has no lesion, and all may be such.

    Args:
        path: The JSON file.
        images: Folder of the photographs; by default the file's own folder, or `images` in it.
        skip_bad: Go on without photographs that are bad or have a bad annotation; `Dataset.skipped` lists why. The
            table of categories must be right all the same, for it gives every label its meaning.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    return coco_dataset(load_json(path), path, images, skip_bad)


def coco_dataset(tree: Any, path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """As `read_coco`, from the file's parsed content."""
    source = as_record(tree, str(path))
    labels, class_names = _read_categories(source, path)
    if not as_list(source, "images", str(path)):
        raise LabelError(str(path), "images is an empty list", "label at least one photograph, then export again")
    folders = photograph_folders(path, images)
    problems = Problems(skip_bad=skip_bad)
    drafts = _read_images(source["images"], path, folders, problems)
    _read_annotations(as_list(source, "annotations", str(path)), path, drafts, labels, problems)
    return make_dataset(
        (draft for draft in drafts.values() if draft is not None),
        problems,
        class_names=class_names,
        source=path,
        categories={label: category_id for category_id, label in labels.items()},
    )


def _read_categories(source: Mapping[str, Any], path: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """Label of each category id, and the class names in the order of labels."""
    names: dict[int, str] = {}
    for index, entry in enumerate(as_list(source, "categories", str(path))):
        item = f"{path}: categories[{index}]"
        record = as_record(entry, item)
        category_id = as_id(record, "id", item)
        name = as_text(record, "name", item)
        if category_id in names:
            raise LabelError(item, f"id {category_id} is also that of {show(names[category_id])}", "renumber one")
        if name in names.values():
            raise LabelError(item, f"name {show(name)} appears twice", "merge the two categories")
        names[category_id] = name
    if not names:
        raise LabelError(str(path), "categories is an empty list", "name at least one class, such as lesion")
    ordered = sorted(names)
    return {category_id: label for label, category_id in enumerate(ordered, 1)}, tuple(names[i] for i in ordered)


def _read_images(
    entries: Sequence[Any], path: Path, folders: Sequence[Path], problems: Problems
) -> dict[int, Draft | None]:
    """Photograph of each image id; None where it is bad, so that its annotations go without a further line."""
    drafts: dict[int, Draft | None] = {}
    by_file: dict[Path, int] = {}
    for index, entry in enumerate(entries):
        item = f"{path}: images[{index}]"
        try:
            record = as_record(entry, item)
            image_id = as_id(record, "id", item)
            is_new = image_id not in drafts
            drafts[image_id] = None  # until all is well
            if not is_new:
                name = show(record.get("file_name"))
                error = LabelError(item, f"id {image_id} of {name} is used twice", "give every photograph its own id")
                problems.add(error, left_out="all with this id left out")
                continue
            draft = _read_image(record, image_id, f"{path}: image {image_id}", folders)
            other = by_file.setdefault(draft.path, image_id)
            if other != image_id:
                drafts[other] = None
                error = LabelError(draft.item, f"the same photograph is image {other}", "merge the two under one id")
                problems.add(error, left_out="both left out")
                continue
            drafts[image_id] = draft
        except LabelError as error:
            problems.add(error)
    return drafts


def _read_image(record: Mapping[str, Any], image_id: int, item: str, folders: Sequence[Path]) -> Draft:
    file_name = as_text(record, "file_name", item)
    item = f"{item} ({show(file_name)[1:-1]})"
    stated: list[int] = []
    for key in ("height", "width"):
        if key in record:
            value = as_whole(record[key])
            if value is None or value < 1:
                raise LabelError(item, f"{key} {show(record[key])} is not a whole number above 0", "correct it")
            stated.append(value)
    photograph = find_photograph(file_name, folders, item)
    size = photograph_size(photograph, item, stated=ImageSize(*stated) if len(stated) == 2 else None)
    return Draft(item, file_name, photograph, size, source_id=image_id)


def _read_annotations(
    entries: Sequence[Any],
    path: Path,
    drafts: Mapping[int, Draft | None],
    labels: Mapping[int, int],
    problems: Problems,
) -> None:
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        item = f"{path}: annotations[{index}]"
        draft = None
        try:
            record = as_record(entry, item)
            image_id = as_id(record, "image_id", item)
            if image_id not in drafts:
                raise LabelError(item, f"image_id {image_id} does not exist", "list that photograph under images")
            draft = drafts[image_id]
            if draft is None:
                continue  # its photograph is out already, and said so
            item = f"{path}: annotations[{index}] (image {draft.shown_name})"
            annotation_id = as_id(record, "id", item)
            item = f"{path}: annotation {annotation_id} (image {draft.shown_name})"
            if annotation_id in seen:
                raise LabelError(item, f"id {annotation_id} is used twice", "give every annotation its own id")
            seen.add(annotation_id)
            draft.instances.append(_read_annotation(record, annotation_id, draft.size, labels, item))
        except LabelError as error:
            problems.add(error, draft)


def _read_annotation(
    record: Mapping[str, Any], annotation_id: int, size: ImageSize, labels: Mapping[int, int], item: str
) -> Instance:
    if record.get("category_id") is None:
        # makesense.ai leaves the key out where a person drew an outline and chose no label.
        raise LabelError(item, "has no category_id", "choose a label for this outline and export again")
    category_id = as_id(record, "category_id", item)
    if category_id not in labels:
        known = ", ".join(str(known) for known in sorted(labels))
        raise LabelError(item, f"category_id {category_id} does not exist", f"use one of {known}")
    is_crowd = as_whole(int(flag) if isinstance(flag := record.get("iscrowd", 0), bool) else flag)
    if is_crowd not in (0, 1):
        raise LabelError(item, f"iscrowd {show(flag)} is neither 0 nor 1", "write 0 for a single lesion")
    if "bbox" in record:
        _check_box(record["bbox"], item)
    return Instance(labels[category_id], _read_outline(record, size, item), bool(is_crowd), annotation_id)


def _check_box(value: Any, item: str) -> None:
    box = as_numbers(value, "bbox", item)
    if len(box) != 4:
        raise LabelError(item, f"bbox {show(value)} has {len(box)} numbers", "write x, y, width, height")
    for name, length in zip(("width", "height"), box[2:], strict=True):
        if length <= 0:
            raise LabelError(item, f"bbox {show(value)} has {name} {length:g}; it must be above 0", "draw it again")


def _read_outline(record: Mapping[str, Any], size: ImageSize, item: str) -> Outline:
    outline = record.get("segmentation")
    if outline is None:
        raise LabelError(item, "has no segmentation", "draw an outline; a box alone does not teach one")
    if isinstance(outline, dict):
        return _read_rle(outline, size, item)
    if not isinstance(outline, list):
        raise LabelError(item, f"segmentation {show(outline)} is neither polygons nor RLE", "draw it again")
    if not outline:
        raise LabelError(item, "segmentation is an empty list", "draw the outline, or delete the annotation")
    rings: list[NDArray[np.float64]] = []
    for number, ring in enumerate(outline):
        what = f"segmentation[{number}]"
        coordinates = as_numbers(ring, what, item)
        if len(coordinates) % 2:
            raise LabelError(item, f"{what} has {len(coordinates)} numbers, an odd count", "write x, y, x, y, ...")
        rings.append(coordinates.reshape(-1, 2))
    return unbridged(check_polygons(rings, size, item), size)


def _read_rle(outline: Mapping[str, Any], size: ImageSize, item: str) -> Rle:
    stated = as_numbers(outline.get("size"), "RLE size", item).tolist()
    if stated != list(size):
        raise LabelError(
            item,
            f"RLE size {show(outline['size'])} is not the photograph's height and width {list(size)}",
            "label the photograph at its own size",
        )
    if isinstance(counts := outline.get("counts"), str):
        rle = Rle(counts.encode(errors="surrogatepass"), size)
        try:
            bitmask = masks.rle_to_bitmask(rle)
        except InputError as error:
            raise LabelError(item, f"RLE {error.problem}", "export the labels again") from None
    else:
        runs = [_run_length(value, item) for value in as_list(outline, "counts", item)]
        if sum(runs) != size.height * size.width:
            problem = f"RLE counts sum to {show(sum(runs))} pixels; the photograph has {size.height * size.width}"
            raise LabelError(item, problem, "export the labels again")
        bitmask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size.width, size.height).T
        rle = masks.bitmask_to_rle(bitmask)
    if not bitmask.any():
        raise LabelError(item, "outline has area 0: its RLE holds no pixel", "draw it again")
    return rle


def _run_length(value: Any, item: str) -> int:
    run = as_whole(value)
    if run is None or run < 0:
        raise LabelError(item, f"RLE counts hold {show(value)}, not a whole number from 0", "export the labels again")
    return run
