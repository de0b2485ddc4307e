"""COCO data set JSON, written; its entries are shared with other tools' dialects of it.

The format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dermask import boxes, files, masks
from dermask.data.dataset import Dataset
from dermask.data.file_write import photograph_names, photograph_targets, refuse_existing, save_photographs
from dermask.data.tracing import as_polygons
from dermask.records import BoolArray, ImageSize, Instance


def write_coco(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a COCO data set JSON that `read_coco` and the labelling tools take.

    Outlines become polygons, one for each part, where those give back at least 0.99 (IoU) of the mask, else run
    lengths, as masks with holes do; outlines that are polygons stay as they are, crowds become run lengths. Outlines
    without a pixel, such as all-black mask images, are left out. Photographs are named as
    `file_write.photograph_names` tells; those that exist only in memory are saved beside the JSON.

    Args:
        dataset: What to write; image ids and category ids of its source are kept where they are COCO's whole numbers.
        path: The JSON file; appears in one step.
        overwrite: Whether to replace a file that is there.

    Returns:
        What the format could not hold: nothing, always.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: A photograph or mask cannot be read, or an image id is no file name.
    """
    names = photograph_names(dataset, path)
    targets = photograph_targets(dataset, names, path)
    refuse_existing([path, *targets.values()], overwrite=overwrite)
    image_ids = whole_ids([sample.source_id for sample in dataset], start=1)
    annotation_ids = iter(whole_ids([one.annotation_id for sample in dataset for one in sample.instances], start=1))
    annotations = []
    for index, sample in enumerate(dataset):
        size = dataset.size(index)
        for instance in sample.instances:
            record = annotation_record(instance, size)
            annotation_id = next(annotation_ids)
            if record is not None:
                head = {"id": annotation_id, "image_id": image_ids[index]}
                annotations.append(head | {"category_id": dataset.categories[instance.label]} | record)
    tree = {
        "info": {"description": dataset.name},
        "images": image_records(dataset, names, image_ids),
        "annotations": annotations,
        "categories": category_records(dataset, dataset.categories),
    }
    save_photographs(dataset, targets)
    files.write_text(path, json.dumps(tree) + "\n")
    return ()


def image_records(dataset: Dataset, names: Sequence[str], image_ids: Sequence[int]) -> list[dict[str, Any]]:
    """COCO's entry for each photograph.

    Raises:
        ImageError: A photograph of unknown size cannot be read.
    """
    sizes = [dataset.size(index) for index in range(len(dataset))]
    return [
        {"id": image_id, "file_name": name, "width": size.width, "height": size.height}
        for image_id, name, size in zip(image_ids, names, sizes, strict=True)
    ]


def category_records(dataset: Dataset, categories: Mapping[int, int]) -> list[dict[str, Any]]:
    """COCO's entry for each class; `categories` gives the id of each label."""
    return [{"id": categories[label], "name": name} for label, name in enumerate(dataset.class_names, start=1)]


def annotation_record(instance: Instance, size: ImageSize) -> dict[str, Any] | None:
    """COCO's entry for an object, all but its ids; None for an outline without a pixel."""
    bitmask = masks.outline_bitmask(instance.outline, size)
    if not bitmask.any():
        return None
    return (
        {"segmentation": _segmentation(instance, bitmask)} | mask_figures(bitmask) | {"iscrowd": int(instance.is_crowd)}
    )


def mask_figures(bitmask: BoolArray) -> dict[str, Any]:
    """COCO's area and box of an (H, W) mask."""
    box = boxes.xyxy_to_xywh(masks.mask_box(bitmask)[None])[0]
    return {"area": int(bitmask.sum()), "bbox": box.tolist()}


def whole_ids(source_ids: Iterable[int | str | None], *, start: int) -> list[int]:
    """The ids themselves if all are distinct whole numbers from 0, else a count from `start`."""
    ids = list(source_ids)
    whole = [value for value in ids if isinstance(value, int) and value >= 0]
    return whole if len(set(whole)) == len(ids) else list(range(start, start + len(ids)))


def _segmentation(instance: Instance, bitmask: BoolArray) -> list[list[float]] | dict[str, Any]:
    polygons = None if instance.is_crowd else as_polygons(instance.outline, bitmask)
    if polygons is not None:
        return [part.ravel().tolist() for part in polygons.parts]
    rle = masks.bitmask_to_rle(bitmask)
    return {"size": list(rle.size), "counts": rle.counts.decode()}
