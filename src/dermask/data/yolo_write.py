"""Write YOLO segmentation text that Ultralytics' programs train on, and `dermask.data.yolo` reads.

Layout: `data.yaml`, photographs in ``images/PART``, text in ``labels/PART``. Photographs are copied byte for byte.
Outlines of several parts or with holes become one ring with bridges of no width, as Ultralytics' own converter makes
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dermask import files, masks
from dermask.data.bridges import join_rings, outline_rings
from dermask.data.dataset import Dataset
from dermask.data.folder_write import copy_photograph, file_stems, new_folder, photograph_losses
from dermask.errors import LabelError
from dermask.records import ImageSize, Instance
from dermask.wording import plural

_OWN_NAMES = ("data.yaml", "images", "labels", "labels.cache")
PART_NAMES = {"training": "train", "validation": "val", "valid": "val", "test_v2": "test"}
"""Parts by other names, and what YOLO calls them."""


def write_yolo(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write one part, as `train`; see `write_yolo_parts`."""
    return write_yolo_parts({"train": dataset}, path, overwrite=overwrite)


def write_yolo_parts(parts: Mapping[str, Dataset], path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a YOLO segmentation data set of one or more parts.

    Args:
        parts: What to write by part, all of the same classes.
        path: The folder; appears in one step.
        overwrite: Whether to replace an older data set of this form.

    Returns:
        One line for each kind of thing that is lost.

    Raises:
        OutputExistsError: Something stands there that may not be replaced.
        InputError: A photograph or mask cannot be read, nothing can be written there, the parts' classes differ, or a
            part is none of train, val and test.
    """
    names = {PART_NAMES.get(name.casefold(), name): dataset for name, dataset in parts.items()}
    for name in names:
        if name not in ("train", "val", "test"):
            raise LabelError(f"part {name}", "has no place in YOLO, which knows train, val and test", "name one --part")
    class_names = next(iter(names.values())).class_names
    if any(dataset.class_names != class_names for dataset in names.values()):
        raise LabelError(str(path), "the parts have different classes", "give all the same class names, in one order")
    everything = Dataset(
        [sample for dataset in names.values() for sample in dataset], class_names, name=path.name
    )  # refuses a photograph that stands in two parts
    stems = iter(file_stems(everything))
    losses: list[str] = []
    crowds = 0
    with new_folder(path, own_names=_OWN_NAMES, dataset=everything, overwrite=overwrite) as folder:
        for name, dataset in names.items():
            own = [next(stems) for _ in dataset]
            losses += photograph_losses(dataset, own)
            crowds += _write_part(dataset, own, folder, name)
        files.write_text(folder / "data.yaml", _yaml_text(tuple(names), class_names))
    if crowds:
        losses.append(f"{plural(crowds, 'crowd region')}: left out, and so shown as bare skin")
    missing = [key for key in ("train", "val") if key not in names]
    if missing:
        losses.append(
            f"data.yaml names no {' and no '.join(missing)} part, which YOLO needs: give a --split, or add it"
        )
    return tuple(dict.fromkeys(losses))


def _write_part(dataset: Dataset, stems: list[str], folder: Path, part: str) -> int:
    """Photographs and text of a part; returns the number of crowd regions left out."""
    crowds = 0
    for kind in ("images", "labels"):
        files.make_folder(folder / kind / part)
    for index, (sample, stem) in enumerate(zip(dataset, stems, strict=True)):
        copy_photograph(sample, folder / "images" / part, stem)
        size = dataset.size(index)
        lines = [yolo_line(instance, size) for instance in sample.instances if not instance.is_crowd]
        crowds += sum(instance.is_crowd for instance in sample.instances)
        files.write_text(folder / "labels" / part / f"{stem}.txt", "".join(lines))
    return crowds


def yolo_line(instance: Instance, size: ImageSize) -> str:
    """One object as a line with its end; empty for an outline without a pixel."""
    mask = masks.outline_bitmask(instance.outline, size)
    rings = outline_rings(instance.outline, mask) if mask.any() else []
    if not rings:
        return ""
    shares = np.clip(join_rings(rings) / [size.width, size.height], 0.0, 1.0)
    # Ten decimals are less than a millionth of a pixel of any photograph, which reading takes for rounding.
    numbers = (f"{value:.10f}".rstrip("0").rstrip(".") or "0" for value in shares.ravel())
    return " ".join([str(instance.label - 1), *numbers]) + "\n"


def _yaml_text(parts: tuple[str, ...], class_names: tuple[str, ...]) -> str:
    lines = [f"{part}: {json.dumps(f'images/{part}', ensure_ascii=False)}" for part in parts]
    lines += ["names:", *(f"  {number}: {_quoted(name)}" for number, name in enumerate(class_names))]
    return "\n".join(lines) + "\n"  # without `path`, which Ultralytics looks for in the folder it is run from


def _quoted(name: str) -> str:
    """JSON's text is YAML's double-quoted one too."""
    return json.dumps(name, ensure_ascii=False)
