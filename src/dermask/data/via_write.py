"""VGG Image Annotator JSON, written: exports of version 1 and 2, and projects that version 2 opens.

Each record has the key that the tool itself makes, file name and byte size in one. The class of a region is its
attribute `label`. Version 1 closes its rings by a repeated first point and keeps regions in an object, version 2 has
open rings in a list. A project needs `_via_settings`, `_via_img_metadata` and `_via_attributes`, or VIA calls it
corrupt (laclouis5/globox, issue 7, shows the message); the settings here are version 2.0.x's own defaults.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from dermask import files
from dermask.contours import Ring
from dermask.data.dataset import Dataset
from dermask.data.file_write import photograph_names, photograph_targets, refuse_existing, save_photographs
from dermask.data.one_ring import OneRingWriter
from dermask.data.tool_regions import lost_classes
from dermask.errors import ImageError, InputError
from dermask.records import ByteArray

Version = Literal["1", "2", "project"]

_VERSIONS = ("1", "2", "project")

_DATA_FORMAT_VERSION = "2.0.10"
"""What VIA 2.0.10 to 2.0.12 write, the last of version 2."""


def write_via(dataset: Dataset, path: Path, *, version: Version = "2", overwrite: bool = False) -> tuple[str, ...]:
    """Write annotations or a project of VGG Image Annotator that the tool and `via.read_via` take.

    Outlines become single rings as `one_ring` tells. Photographs without a lesion have a record without regions.
    They are named as `file_write.photograph_names` tells; those that exist only in memory are saved as
    ``images/ID.png`` beside the JSON.

    Args:
        dataset: What to write.
        path: The JSON file; appears in one step.
        version: "1" or "2" for annotations to import into that version of VIA, "project" for a project of version 2,
            which alone keeps the list of classes and its order.
        overwrite: Whether to replace a file that is there.

    Returns:
        One line for each kind of thing that the format cannot hold.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: A photograph or mask cannot be read, an image id is no file name, or the version is another.
    """
    if version not in _VERSIONS:
        raise InputError(f"version {version!r}", "is none of VIA's", f"choose one of {', '.join(_VERSIONS)}")
    names = photograph_names(dataset, path)
    targets = photograph_targets(dataset, names, path)
    refuse_existing([path, *targets.values()], overwrite=overwrite)
    writer = OneRingWriter()
    drawn = _draw_regions(dataset, writer, is_closed=version == "1")
    save_photographs(dataset, targets)
    records: dict[str, Any] = {}
    for index, (sample, name) in enumerate(zip(dataset, names, strict=True)):
        regions: Any = drawn[index]
        if version == "1":
            regions = {str(number): region for number, region in enumerate(regions)}
        record = photograph_record(sample.image, targets.get(index), name, regions)
        if version == "1":
            record = {"fileref": "", "base64_img_data": ""} | record
        key = f"{name}{record['size']}"
        if key in records:
            raise InputError(f"photograph {name!r}", "is listed twice", "join its outlines under one image id")
        records[key] = record
    tree = _project(records, dataset, path) if version == "project" else records
    files.write_text(path, json.dumps(tree) + "\n")
    losses = writer.losses("VGG Image Annotator")
    return losses if version == "project" else losses + class_list_losses(dataset)


def ring_region(ring: Ring, class_name: str, *, is_closed: bool) -> dict[str, Any]:
    """One region.

    Args:
        ring: (K, 2) xy in pixels, the first point not repeated.
        class_name: Its class.
        is_closed: Whether to repeat the first point at the end, as version 1 and makesense.ai do.
    """
    points = [*ring.tolist(), *(ring[:1].tolist() if is_closed else [])]
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
    return {"shape_attributes": shape, "region_attributes": {"label": class_name}}


def photograph_record(image: Path | ByteArray, saved: Path | None, name: str, regions: Any) -> dict[str, Any]:
    """The record of one photograph.

    Args:
        image: Its file, or its pixels.
        saved: Where those pixels were saved.
        name: What the record calls it.
        regions: A list or an object of regions.

    Raises:
        ImageError: The file is gone.
    """
    path = image if isinstance(image, Path) else saved
    try:
        size = 0 if path is None else path.stat().st_size
    except OSError:
        raise ImageError(str(path), "no such file", "restore it, or read the labels again") from None
    return {"filename": name, "size": size, "regions": regions, "file_attributes": {}}


def class_list_losses(dataset: Dataset) -> tuple[str, ...]:
    """What is lost where the classes are those of the regions, sorted by name, because the file has no list of them."""
    used = {one.label for sample in dataset for one in sample.instances if not one.is_crowd}
    kept = [name for label, name in enumerate(dataset.class_names, start=1) if label in used]
    lines = lost_classes(dataset)
    if kept != sorted(kept):
        lines.append("order of the classes: the file has no list of them, so they are read by name")
    return tuple(lines)


def _draw_regions(dataset: Dataset, writer: OneRingWriter, *, is_closed: bool) -> list[list[dict[str, Any]]]:
    return [
        [
            ring_region(ring, dataset.class_names[instance.label - 1], is_closed=is_closed)
            for instance in sample.instances
            for ring in writer.rings(instance, dataset.size(index), sample.image_id)
        ]
        for index, sample in enumerate(dataset)
    ]


def _project(records: dict[str, Any], dataset: Dataset, path: Path) -> dict[str, Any]:
    options = dict.fromkeys(dataset.class_names, "")  # option to what the tool shows for it; empty shows the option
    label = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
    return {
        "_via_settings": {
            "ui": {
                "annotation_editor_height": 25,
                "annotation_editor_fontsize": 0.8,
                "leftsidebar_width": 18,
                "image_grid": {
                    "img_height": 80,
                    "rshape_fill": "none",
                    "rshape_fill_opacity": 0.3,
                    "rshape_stroke": "yellow",
                    "rshape_stroke_width": 2,
                    "show_region_shape": True,
                    "show_image_policy": "all",
                },
                "image": {
                    "region_label": "label",
                    "region_color": "label",
                    "region_label_font": "10px Sans",
                    "on_image_annotation_editor_placement": "NEAR_REGION",
                },
            },
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": dataset.name or path.stem},
        },
        "_via_img_metadata": records,
        "_via_attributes": {"region": {"label": label}, "file": {}},
        "_via_data_format_version": _DATA_FORMAT_VERSION,
        "_via_image_id_list": list(records),
    }
