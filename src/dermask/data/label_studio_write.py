"""Label Studio JSON, written: labelled tasks, tasks with pre-annotations, and the labelling configuration for both.

Outlines become polygons where one ring says them, else brush strokes (see `brush_rle`), which keep parts and holes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from dermask import files, masks
from dermask.data.brush_rle import encode_brush
from dermask.data.dataset import Dataset
from dermask.data.file_write import photograph_names, photograph_targets, refuse_existing, save_photographs
from dermask.data.tool_regions import lost_classes
from dermask.data.tracing import as_polygons
from dermask.records import ImageSize, Instance, Polygons, Rle, Sample
from dermask.wording import plural

LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio addresses a file below its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""

_IMAGE = "image"  # the names that the results and the configuration share


def write_label_studio(
    dataset: Dataset, path: Path, *, image_url_prefix: str = LOCAL_FILES, overwrite: bool = False
) -> tuple[str, ...]:
    """Write tasks with their outlines as annotations, as Label Studio exports and imports them.

    Photographs are named as `file_write.photograph_names` tells, behind `image_url_prefix`. A photograph without a
    lesion gets an annotation without a region.

    Args:
        dataset: What to write.
        path: The JSON file; appears in one step.
        image_url_prefix: Put before each photograph's name, whose characters are then escaped as addresses want it;
            empty for plain names.
        overwrite: Whether to replace a file that is there.

    Returns:
        One line for each kind of thing the format could not hold.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: A photograph or mask cannot be read.
    """

    def annotated(number: int, sample: Sample, result: list[dict[str, Any]]) -> dict[str, Any]:
        annotation = {"id": number, "result": result, "was_cancelled": False, "ground_truth": False}
        return {"annotations": [annotation], "predictions": []}

    return _write(dataset, path, image_url_prefix, annotated, overwrite=overwrite)


def write_label_studio_tasks(
    dataset: Dataset,
    path: Path,
    *,
    image_url_prefix: str = LOCAL_FILES,
    model_version: str = "dermask",
    scores: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write tasks with their outlines as predictions: pre-annotations that a person accepts or corrects.

    Such a file is for Label Studio; read here, its photographs are not labelled yet.

    Args:
        dataset: What to write.
        path: The JSON file; appears in one step.
        image_url_prefix: As for `write_label_studio`.
        model_version: How Label Studio calls the source of the outlines.
        scores: Score in [0, 1] of a photograph's outlines by its `image_id`, by which Label Studio can order the tasks.
        overwrite: Whether to replace a file that is there.

    Returns:
        One line for each kind of thing the format could not hold.

    Raises:
        OutputExistsError: The JSON, or a photograph to be saved beside it, is there already.
        InputError: A photograph or mask cannot be read.
    """

    def predicted(number: int, sample: Sample, result: list[dict[str, Any]]) -> dict[str, Any]:
        prediction: dict[str, Any] = {"model_version": model_version, "result": result}
        if scores is not None and sample.image_id in scores:
            prediction["score"] = float(scores[sample.image_id])
        return {"predictions": [prediction]}

    return _write(dataset, path, image_url_prefix, predicted, overwrite=overwrite)


def labelling_configuration(class_names: Sequence[str]) -> str:
    """The labelling configuration (XML) of a Label Studio project that takes what is written here.

    Args:
        class_names: As `Dataset.class_names`.
    """
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in class_names)
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="${_IMAGE}" zoom="true"/>\n'
        f'  <PolygonLabels name="polygon" toName="{_IMAGE}">\n{labels}  </PolygonLabels>\n'
        f'  <BrushLabels name="brush" toName="{_IMAGE}">\n{labels}  </BrushLabels>\n</View>\n'
    )


def _write(
    dataset: Dataset,
    path: Path,
    prefix: str,
    outlined: Callable[[int, Sample, list[dict[str, Any]]], dict[str, Any]],
    *,
    overwrite: bool,
) -> tuple[str, ...]:
    names = photograph_names(dataset, path)
    targets = photograph_targets(dataset, names, path)
    refuse_existing((path, *targets.values()), overwrite=overwrite)
    num_crowds = num_empty = num_brushes = 0
    tasks = []
    for index, sample in enumerate(dataset):
        size = dataset.size(index)
        result = []
        for number, instance in enumerate(sample.instances):
            if instance.is_crowd:
                num_crowds += 1
                continue
            region = _region(instance, size, dataset.class_names[instance.label - 1])
            if region is None:
                num_empty += not _is_black_mask(instance)
                continue
            num_brushes += region["type"] == "brushlabels"
            result.append({"id": f"{index + 1}-{number + 1}"} | region)
        address = prefix + quote(names[index], safe="/", errors="surrogateescape") if prefix else names[index]
        tasks.append({"id": index + 1, "data": {_IMAGE: address}} | outlined(index + 1, sample, result))
    save_photographs(dataset, targets)
    files.write_text(path, json.dumps(tasks) + "\n")
    losses = lost_classes(dataset)
    if num_crowds:
        losses.append(f"{plural(num_crowds, 'crowd region')} left out: Label Studio has no mark for them")
    if num_empty:
        losses.append(f"{plural(num_empty, 'outline')} without a pixel left out")
    if num_brushes:
        losses.append(
            f"{plural(num_brushes, 'outline')} of several parts, with holes or of fine detail written as brush "
            "strokes: pixels, whose corners can no longer be moved"
        )
    return tuple(losses)


def _is_black_mask(instance: Instance) -> bool:
    """Whether an empty outline is how mask images say that there is no lesion."""
    return not isinstance(instance.outline, Polygons | Rle)


def _region(instance: Instance, size: ImageSize, class_name: str) -> dict[str, Any] | None:
    """One result of an annotation, without its id; None for an outline without a pixel."""
    bitmask = masks.outline_bitmask(instance.outline, size)
    if not bitmask.any():
        return None
    polygons = as_polygons(instance.outline, bitmask)
    if polygons is not None and len(polygons.parts) == 1:
        points = polygons.parts[0] / np.array([size.width, size.height]) * 100
        tool, value = "polygon", {"points": points.tolist(), "closed": True}
    else:
        tool, value = "brush", {"format": "rle", "rle": encode_brush(bitmask)}
    return {
        "type": f"{tool}labels",
        "from_name": tool,
        "to_name": _IMAGE,
        "original_width": size.width,
        "original_height": size.height,
        "image_rotation": 0,
        "value": value | {f"{tool}labels": [class_name]},
    }
