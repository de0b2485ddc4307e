"""makesense.ai's COCO JSON and VGG JSON of outlines, read and written.

What its own files are like, and what becomes of it:

- Image and category ids start at 1 but annotation ids at 0: all are kept as they are.
- The COCO export drops photographs without an outline, so a data set read from it has no lesion-free photograph.
- An outline for which no label was chosen has no `category_id` in the COCO export: an error that says so.
- Each outline is one ring without holes, open in the COCO export, closed by its repeated first point in the VGG one.
- The VGG export has no image sizes; the photographs' own count. Its `regions` are an object keyed "0", "1", ...
- File names are bare, whatever folder the photographs were dropped from: `images` names that folder.

What its import takes (SkalskiP/make-sense, src/logic/import/coco/COCOImporter.ts and src/data/ImportFormatData.ts):

- COCO JSON alone; the VGG JSON that it exports it cannot import.
- All three of `images`, `annotations`, `categories`; a photograph is known by `file_name`, which must be exactly its
  bare name. Of two entries with one name the last counts.
- `segmentation` is taken for a list of rings: run lengths, an object, break the whole import. Each ring becomes an
  outline of its own, holes do not exist, and a `category_id` that is not listed breaks the import.
- `iscrowd` 1 is passed over. Photographs in `images` without an annotation come in with no outline. What was drawn
  before on any photograph is cleared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermask import files
from dermask.contours import Ring, signed_area
from dermask.data.checks import load_json
from dermask.data.coco import coco_dataset
from dermask.data.coco_write import (
    category_records,
    image_records,
)
from dermask.data.dataset import Dataset
from dermask.data.file_write import photograph_names, refuse_existing, save_photographs
from dermask.data.one_ring import OneRingWriter
from dermask.data.via import is_via, via_dataset
from dermask.data.via_write import class_list_losses, photograph_record, ring_region
from dermask.errors import InputError

_TOOL = "makesense.ai"


def read_makesense(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Either of makesense.ai's exports; see `coco.read_coco` and `via.read_via` for what is checked.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    tree = load_json(path)
    read = via_dataset if is_via(tree) else coco_dataset
    return read(tree, path, images, skip_bad)


def write_makesense_coco(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a COCO JSON that makesense.ai imports ("Import annotations", "COCO JSON" of polygons).

    Every photograph is listed, also those without a lesion; ids count from 1, and category ids are the labels.
    Outlines become single rings as `one_ring` tells. Photographs that exist only in memory are saved as
    ``images/ID.png`` beside the JSON.

    Args:
        dataset: What to write.
        path: The JSON file; appears in one step.
        overwrite: Whether to replace a file that is there.

    Returns:
        One line for each kind of thing that the format cannot hold.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: Two photographs have the same bare name, or one or a mask cannot be read.
    """
    names, targets = _names_and_targets(dataset, path, overwrite=overwrite)
    writer = OneRingWriter()
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(dataset):
        size = dataset.size(index)
        for instance in sample.instances:
            for ring in writer.rings(instance, size, sample.image_id):
                head = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": instance.label}
                annotations.append(head | _ring_figures(ring) | {"iscrowd": 0})
    labels = {label: label for label in range(1, len(dataset.class_names) + 1)}
    tree = {
        "info": {"description": dataset.name},
        "images": image_records(dataset, names, range(1, len(dataset) + 1)),
        "annotations": annotations,
        "categories": category_records(dataset, labels),
    }
    save_photographs(dataset, targets)
    files.write_text(path, json.dumps(tree) + "\n")
    renumbered = () if dataset.categories == labels else (f"category ids: numbered from 1, as {_TOOL} does",)
    return writer.losses(_TOOL) + renumbered + _folder_losses(dataset)


def write_makesense_vgg(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a VGG JSON in the form in which makesense.ai exports it, for programs that read those.

    makesense.ai itself cannot import it; `write_makesense_coco` is for that. Photographs without a lesion, which its
    own export leaves out, have a record without regions. For the rest see `write_makesense_coco`.

    Args:
        dataset: What to write.
        path: The JSON file; appears in one step.
        overwrite: Whether to replace a file that is there.

    Returns:
        One line for each kind of thing that the format cannot hold.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: Two photographs have the same bare name, or one or a mask cannot be read.
    """
    names, targets = _names_and_targets(dataset, path, overwrite=overwrite)
    writer = OneRingWriter()
    regions: list[dict[str, Any]] = []
    for index, sample in enumerate(dataset):
        drawn = [
            ring_region(ring, dataset.class_names[instance.label - 1], is_closed=True)
            for instance in sample.instances
            for ring in writer.rings(instance, dataset.size(index), sample.image_id)
        ]
        regions.append({str(number): region for number, region in enumerate(drawn)})
    save_photographs(dataset, targets)
    tree = {
        name: {"fileref": "", "base64_img_data": ""} | photograph_record(sample.image, targets.get(index), name, drawn)
        for index, (sample, name, drawn) in enumerate(zip(dataset, names, regions, strict=True))
    }
    files.write_text(path, json.dumps(tree) + "\n")
    no_import = (f"{_TOOL} exports VGG JSON and cannot import it: give it a COCO file to go on there",)
    return writer.losses(_TOOL) + class_list_losses(dataset) + _folder_losses(dataset) + no_import


def _names_and_targets(dataset: Dataset, path: Path, *, overwrite: bool) -> tuple[list[str], dict[int, Path]]:
    """Bare names, and where the photographs go that exist only in memory."""
    names = _bare_names(photograph_names(dataset, path))
    targets = {
        index: path.parent / "images" / names[index]
        for index, sample in enumerate(dataset)
        if not isinstance(sample.image, Path)
    }
    refuse_existing([path, *targets.values()], overwrite=overwrite)
    return names, targets


def _bare_names(names: Sequence[str]) -> list[str]:
    """The last part of each name, by which alone makesense.ai knows a photograph."""
    seen: dict[str, str] = {}
    for name in names:
        bare = name.rsplit("/", 1)[-1]
        if bare in seen:
            problem = f"{seen[bare]!r} and {name!r} have the same bare name, and {_TOOL} knows no folders"
            raise InputError(f"photograph {bare!r}", problem, "rename one, or write the two in separate files")
        seen[bare] = name
    return list(seen)


def _folder_losses(dataset: Dataset) -> tuple[str, ...]:
    count = len({sample.image.parent for sample in dataset if isinstance(sample.image, Path)})
    if count < 2:
        return ()
    return (f"{count} folders of photographs: {_TOOL} knows bare names only; put the photographs into one folder",)


def _ring_figures(ring: Ring) -> dict[str, Any]:
    """Outline, area and box of a ring, from its points, as makesense.ai works them out."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    box = [*low.tolist(), *(high - low).tolist()]
    return {"segmentation": [ring.ravel().tolist()], "area": abs(signed_area(ring)), "bbox": box}
