"""Write Pascal-VOC-like colour masks, which CVAT imports as "Segmentation mask 1.1".

Photographs go byte for byte into JPEGImages, whatever their format; classes and objects are painted in the colours of
VOC's colour map, and `labelmap.txt` names them. Masks are upright and of the photograph's size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dermask import files, images, masks
from dermask.data.checks import show
from dermask.data.colour_masks import (
    CLASS_FOLDERS,
    LABEL_MAP,
    OBJECT_FOLDERS,
    PHOTOGRAPH_FOLDERS,
    VOID,
    is_special_name,
    voc_colour,
)
from dermask.data.dataset import Dataset
from dermask.data.folder_write import (
    copy_photograph,
    file_stems,
    is_turned,
    new_folder,
    photograph_losses,
    turned_loss,
)
from dermask.errors import LabelError
from dermask.records import BoolArray, ByteArray, ImageSize, Sample
from dermask.wording import plural

_PHOTOGRAPHS, _CLASSES, _OBJECTS = PHOTOGRAPH_FOLDERS[0], CLASS_FOLDERS[0], OBJECT_FOLDERS[0]
_PART = "default"  # as CVAT calls its one list


def write_colour_masks(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a folder of colour masks.

    A pixel has one colour, so where outlines overlap the smaller one keeps it. Crowd regions become void pixels, which
    programs for VOC leave out of training and judging.

    Args:
        dataset: What to write.
        path: The folder; appears in one step.
        overwrite: Whether to replace an older data set of this form.

    Returns:
        One line for each kind of thing that is lost.

    Raises:
        OutputExistsError: Something stands there that may not be replaced.
        LabelError: A class name cannot stand in `labelmap.txt`.
        InputError: A photograph or mask cannot be read, or nothing can be written there.
    """
    for name in dataset.class_names:
        if ":" in name or name != name.strip() or name.startswith("#") or not name.isprintable() or not name:
            raise LabelError(f"class name {show(name)}", f"cannot stand in {LABEL_MAP}", "rename the class")
        if is_special_name(name):
            raise LabelError(f"class name {show(name)}", "means no class in colour masks", "rename the class")
    stems = file_stems(dataset)
    losses = photograph_losses(dataset, stems)
    own_names = (_PHOTOGRAPHS, _CLASSES, _OBJECTS, "ImageSets", LABEL_MAP)
    turned = crowds = overlaps = hidden = 0
    with new_folder(path, own_names=own_names, dataset=dataset, overwrite=overwrite) as folder:
        for name in (_PHOTOGRAPHS, _CLASSES, _OBJECTS):
            (folder / name).mkdir()
        for index, (sample, stem) in enumerate(zip(dataset, stems, strict=True)):
            copy_photograph(sample, folder / _PHOTOGRAPHS, stem)
            painted = _paint(sample, dataset.size(index))
            images.write_png(folder / _CLASSES / f"{stem}.png", painted.classes)
            images.write_png(folder / _OBJECTS / f"{stem}.png", painted.objects)
            turned += is_turned(sample)
            crowds += sum(instance.is_crowd for instance in sample.instances)
            overlaps += painted.overlaps
            hidden += painted.hidden
        files.write_text(folder / "ImageSets" / "Segmentation" / f"{_PART}.txt", "".join(f"{one}\n" for one in stems))
        files.write_text(folder / LABEL_MAP, _label_map_text(dataset.class_names))
    if overlaps:
        losses.append(
            f"{plural(overlaps, 'photograph')} with outlines that overlap: the smaller keeps the shared pixels"
        )
    if hidden:
        losses.append(f"{plural(hidden, 'outline')} covered by others: left out")
    if crowds:
        losses.append(f"{plural(crowds, 'ignored region')}: written as void pixels, which have no label")
    return (*losses, *turned_loss(turned))


class _Painted:
    """The two images of a photograph, (H, W, 3) uint8, and what got lost in painting."""

    def __init__(self, size: ImageSize) -> None:
        self.classes: ByteArray = np.zeros((*size, 3), np.uint8)
        self.objects: ByteArray = np.zeros((*size, 3), np.uint8)
        self.overlaps = False
        self.hidden = 0


def _paint(sample: Sample, size: ImageSize) -> _Painted:
    """Crowds first, then objects from the largest to the smallest."""
    painted = _Painted(size)
    found: list[tuple[int, int, BoolArray]] = []
    for instance in sample.instances:
        mask = masks.outline_bitmask(instance.outline, size)
        if instance.is_crowd:
            painted.classes[mask] = VOID
            painted.objects[mask] = VOID
        elif mask.any():
            found.append((len(found) + 1, instance.label, mask))
    taken = np.zeros(size, np.int64)
    for number, label, mask in sorted(found, key=lambda one: -int(one[2].sum())):
        painted.overlaps |= bool(taken[mask].any())
        taken[mask] = number
        painted.classes[mask] = _colour(label)
        painted.objects[mask] = _colour(number)
    painted.hidden = len(found) - len(np.unique(taken[taken > 0]))
    return painted


def _colour(number: int) -> tuple[int, int, int]:
    """A colour for each number from 1, never that of void pixels."""
    return voc_colour(number if number < 255 else number + 1)


def _label_map_text(class_names: tuple[str, ...]) -> str:
    rows = [("background", (0, 0, 0)), *((name, _colour(label)) for label, name in enumerate(class_names, 1))]
    lines = [f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in rows]
    return "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"
