"""Saved predictions in, so that they can be judged without the model: COCO results, or a whole COCO data set.

A COCO results file is a list with one entry per detection and none for a photograph in which nothing was found, so a
photograph that the file does not mention counts as "nothing found".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as mask_api

from dermask import masks
from dermask.data import checks
from dermask.data.dataset import Dataset
from dermask.errors import InputError, LabelError
from dermask.evaluation.photo_masks import PredictedMasks, as_coco
from dermask.records import FloatArray, ImageSize, Rle
from dermask.wording import plural

_Find = Callable[[Mapping[str, Any], str], int | LabelError]
"""From an entry and its name to the index of its photograph, or to what is to be said where that is another one."""


class _Found(NamedTuple):
    """One detection of the file."""

    rle: Rle
    box: FloatArray  # (4,) xyxy
    score: float
    label: int


def read_coco_results(
    path: Path, dataset: Dataset, *, note: Callable[[str], None] | None = None
) -> list[PredictedMasks]:
    """Read saved predictions for the photographs of a data set.

    Two forms are understood. A *results* list: entries with `image_id` (the data set's own id, or the photograph's
    `image_id` as text), `category_id`, `score` and `segmentation` (run lengths, compressed or not, or polygons), with
    `bbox` optional. A *data set*: `images` matched by file name, `annotations` as above with `score` optional, 1 where
    absent, so that a second person's outlines can be judged like a model's.

    Args:
        path: The file.
        dataset: The truth whose photographs the predictions are for; at its photographs' own size. It may be a part of
            those in the file: entries about other photographs are left out.
        note: Gets a line that says how many were.

    Returns:
        One per photograph in the data set's order, best score first; empty for those that the file does not mention.

    Raises:
        LabelError: The file is missing, not JSON or of another form; or it is about none of the photographs; or an
            entry names an unknown class, or has a wrong size, score, box or outline. Names the entry.
    """
    content = checks.load_json(path)
    item = str(path)
    if isinstance(content, list):
        entries, find_photograph = content, _by_source_id(dataset)
        known = {category: label for label, category in dataset.categories.items()}
    elif isinstance(content, dict) and "images" in content and "annotations" in content:
        entries = checks.as_list(content, "annotations", item)
        find_photograph = _by_file_name(content, dataset, item)
        known = _by_class_name(content, dataset, item)
    else:
        raise LabelError(item, "is neither a list of COCO results nor a COCO data set", "give one of the two")
    labels = _one_class_is_that_class(known, entries, dataset)
    scores_needed = isinstance(content, list)
    found: list[list[_Found]] = [[] for _ in range(len(dataset))]
    unknown: list[LabelError] = []
    for number, entry in enumerate(entries):
        entry_item = f"{item}: result {number}"
        record = checks.as_record(entry, entry_item)
        index = find_photograph(record, entry_item)
        if isinstance(index, LabelError):
            unknown.append(index)
            continue
        entry_item += f" (image {dataset[index].image_id})"
        found[index].append(_read_entry(record, dataset.size(index), labels, entry_item, scores_needed=scores_needed))
    if unknown:
        if not any(found) and not (isinstance(content, dict) and _shows_any(content, dataset)):
            raise unknown[0]
        if note is not None:
            name = dataset.name or "the data set"
            note(f"{item}: left out {plural(len(unknown), 'detection')} in photographs that are not of {name}")
    return [
        _collect(entries_of_photo, dataset.size(index), dataset[index].image_id)
        for index, entries_of_photo in enumerate(found)
    ]


def _read_entry(
    record: Mapping[str, Any], size: ImageSize, labels: Mapping[int, int], item: str, *, scores_needed: bool
) -> _Found:
    category = checks.as_id(record, "category_id", item)
    if category not in labels:
        raise LabelError(
            item,
            f"category_id {category} is not a class of the labels",
            f"use one of {', '.join(str(known) for known in sorted(labels))}",
        )
    rle = _read_outline(record, size, item)
    return _Found(rle, _read_box(record, rle, item), _read_score(record, item, scores_needed), labels[category])


def _read_outline(record: Mapping[str, Any], size: ImageSize, item: str) -> Rle:
    outline = record.get("segmentation")
    if isinstance(outline, dict):
        return _read_run_lengths(outline, size, item)
    if not isinstance(outline, list) or not outline:
        raise LabelError(
            item, f"segmentation {checks.show(outline)} is no outline", "save masks as run lengths or polygons"
        )
    rings = []
    for part in outline:
        numbers = checks.as_numbers(part, "segmentation", item)
        if len(numbers) % 2:
            raise LabelError(item, f"segmentation has {len(numbers)} coordinates in one ring", "give pairs of x and y")
        rings.append(numbers.reshape(-1, 2))
    return masks.polygons_to_rle(checks.check_polygons(rings, size, item), size)


def _read_run_lengths(outline: Mapping[str, Any], size: ImageSize, item: str) -> Rle:
    stated, counts = outline.get("size"), outline.get("counts")
    if stated != list(size):
        raise LabelError(
            item,
            f"segmentation has size {checks.show(stated)}, the photograph [{size.height}, {size.width}]",
            "save masks at the photograph's own size",
        )
    if isinstance(counts, str):
        rle = Rle(counts.encode(errors="surrogatepass"), size)
        try:
            masks.rle_to_bitmask(rle)  # a damaged string would make COCO's C code read and write past the mask's end
        except InputError as error:
            raise LabelError(item, error.problem, "save the mask again") from None
        return rle
    runs = [checks.as_whole(run) for run in checks.as_list(outline, "counts", item)]
    known = [run for run in runs if run is not None and run >= 0]
    if len(known) < len(runs) or sum(known) != size.height * size.width:
        problem = f"counts {checks.show(counts)} do not add up to the photograph's {size.height * size.width} pixels"
        raise LabelError(item, problem, "save the mask again")
    return Rle(mask_api.frPyObjects({"size": list(size), "counts": known}, *size)["counts"], size)


def _read_box(record: Mapping[str, Any], rle: Rle, item: str) -> FloatArray:
    if "bbox" in record:
        x, y, width, height = _four_numbers(record["bbox"], item)
    else:
        x, y, width, height = (float(value) for value in mask_api.toBbox(as_coco(rle)))
    return np.array([x, y, x + width, y + height], np.float32)


def _four_numbers(value: Any, item: str) -> Sequence[float]:
    numbers = checks.as_numbers(value, "bbox", item)
    if len(numbers) != 4 or (numbers[2:] < 0).any():
        raise LabelError(item, f"bbox {checks.show(value)} is not [x, y, width, height]", "save it in that order")
    return [float(number) for number in numbers]


def _read_score(record: Mapping[str, Any], item: str, needed: bool) -> float:
    score = record.get("score", None if needed else 1.0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise LabelError(
            item, f"score {checks.show(score)} is not a number from 0 to 1", "save scores with the results"
        )
    return float(score)


def _by_source_id(dataset: Dataset) -> _Find:
    by_source = {sample.source_id: index for index, sample in enumerate(dataset) if sample.source_id is not None}
    by_name = {sample.image_id: index for index, sample in enumerate(dataset)}

    def find(record: Mapping[str, Any], item: str) -> int | LabelError:
        image_id = record.get("image_id")
        if isinstance(image_id, bool) or not isinstance(image_id, int | str):
            raise _unknown_photograph(f"image_id {checks.show(image_id)}", dataset, item)
        index = by_source.get(image_id, by_name.get(str(image_id)))
        return _unknown_photograph(f"image_id {checks.show(image_id)}", dataset, item) if index is None else index

    return find


def _by_file_name(content: Mapping[str, Any], dataset: Dataset, item: str) -> _Find:
    by_name = {sample.image_id: index for index, sample in enumerate(dataset)}
    file_names: dict[int, str] = {}
    for number, image in enumerate(checks.as_list(content, "images", item)):
        image_item = f"{item}: image {number}"
        record = checks.as_record(image, image_item)
        file_names[checks.as_id(record, "id", image_item)] = checks.as_text(record, "file_name", image_item)

    def find(record: Mapping[str, Any], item: str) -> int | LabelError:
        image_id = checks.as_id(record, "image_id", item)
        if image_id not in file_names:
            raise _unknown_photograph(f"image_id {image_id} (not among its images)", dataset, item)
        index = _named(file_names[image_id], by_name)
        if index is None:
            return _unknown_photograph(f"image_id {image_id} ({file_names[image_id]})", dataset, item)
        return index

    return find


def _named(file_name: str, by_name: Mapping[str, int]) -> int | None:
    return by_name.get(Path(file_name).stem, by_name.get(file_name))


def _shows_any(content: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether a data set has any of the photographs among its images, which `_by_file_name` has checked."""
    by_name = {sample.image_id: index for index, sample in enumerate(dataset)}
    return any(_named(image["file_name"], by_name) is not None for image in content["images"])


def _by_class_name(content: Mapping[str, Any], dataset: Dataset, item: str) -> dict[int, int]:
    known: dict[int, int] = {}
    for number, category in enumerate(content.get("categories", [])):
        category_item = f"{item}: category {number}"
        record = checks.as_record(category, category_item)
        name = checks.as_text(record, "name", category_item)
        if name in dataset.class_names:
            known[checks.as_id(record, "id", category_item)] = dataset.class_names.index(name) + 1
    return known


def _one_class_is_that_class(known: dict[int, int], entries: Sequence[Any], dataset: Dataset) -> dict[int, int]:
    """Where labels and results have a single class each, the results' own number or name for it does not matter."""
    used = {
        category
        for entry in entries
        if isinstance(entry, dict) and isinstance(category := entry.get("category_id"), int)
    }
    return {used.pop(): 1} if len(dataset.class_names) == len(used) == 1 else known


def _unknown_photograph(what: str, dataset: Dataset, item: str) -> LabelError:
    return LabelError(
        item,
        f"{what} is not a photograph of {dataset.name or 'the data set'}",
        "evaluate with the labels that the predictions were made for",
    )


def _collect(found: Sequence[_Found], size: ImageSize, image_id: str) -> PredictedMasks:
    ranked = sorted(found, key=lambda one: -one.score)  # stable: equal scores keep the file's order
    return PredictedMasks(
        masks=tuple(one.rle for one in ranked),
        boxes=np.array([one.box for one in ranked], np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in ranked], np.float32),
        labels=np.array([one.label for one in ranked], np.int64),
        size=size,
        image_id=image_id,
    )
