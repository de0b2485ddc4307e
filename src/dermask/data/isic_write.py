"""Write photographs with one mask image each: as ISIC challenge folders, or as plain images/ and masks/.

Photographs are copied byte for byte. A mask is an 8-bit PNG of 0 and 255, upright and of the photograph's own size; it
holds all lesions of its photograph together, and is all black where there is none.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dermask import images, masks
from dermask.data.dataset import Dataset
from dermask.data.folder_write import (
    copy_photograph,
    file_stems,
    is_turned,
    new_folder,
    photograph_losses,
    turned_loss,
)
from dermask.records import BoolArray, ImageSize, Sample
from dermask.wording import plural

_DATA, _TRUTH = "ISIC_Training_Data", "ISIC_Training_Part1_GroundTruth"
_NOT_A_PHOTOGRAPH = re.compile(r"_superpixels$", re.IGNORECASE)  # which readers of the challenges' folders leave out


def write_isic(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write challenge folders: photographs in `ISIC_Training_Data`, masks in `ISIC_Training_Part1_GroundTruth`.

    Args:
        dataset: What to write.
        path: The folder above the two; appears in one step.
        overwrite: Whether to replace an older data set of this form.

    Returns:
        One line for each kind of thing that is lost.

    Raises:
        OutputExistsError: Something stands there that may not be replaced.
        InputError: A photograph or mask cannot be read, or nothing can be written there.
    """
    return _write(dataset, path, _DATA, _TRUTH, overwrite)


def write_folders(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a folder with `images` and `masks`; all else as `write_isic`."""
    return _write(dataset, path, "images", "masks", overwrite)


def _write(dataset: Dataset, path: Path, data: str, truth: str, overwrite: bool) -> tuple[str, ...]:
    stems = file_stems(dataset, avoid=_NOT_A_PHOTOGRAPH)
    losses = photograph_losses(dataset, stems)
    turned = joined = crowds = 0
    with new_folder(path, own_names=(data, truth), dataset=dataset, overwrite=overwrite) as folder:
        (folder / data).mkdir()
        (folder / truth).mkdir()
        for index, (sample, stem) in enumerate(zip(dataset, stems, strict=True)):
            union, num_lesions = union_mask(sample, dataset.size(index))
            copy_photograph(sample, folder / data, stem)
            images.write_png(folder / truth / f"{stem}_segmentation.png", union)
            turned += is_turned(sample)
            joined += num_lesions > 1
            crowds += sum(instance.is_crowd for instance in sample.instances)
    return (*losses, *mask_losses(dataset, joined=joined, crowds=crowds), *turned_loss(turned))


def union_mask(sample: Sample, size: ImageSize) -> tuple[BoolArray, int]:
    """All lesions of a photograph in one (H, W) bool mask, crowds left out; and how many lesions have a pixel.

    Raises:
        InputError: An outline cannot be decoded or has another size.
    """
    union = np.zeros(size, np.bool_)
    num_lesions = 0
    for instance in sample.instances:
        if not instance.is_crowd:
            mask = masks.outline_bitmask(instance.outline, size)
            num_lesions += bool(mask.any())
            union |= mask
    return union, num_lesions


def mask_losses(dataset: Dataset, *, joined: int, crowds: int) -> list[str]:
    """What one mask a photograph cannot say."""
    losses = []
    if joined:
        losses.append(f"{plural(joined, 'photograph')} with several lesions: joined into one mask")
    if dataset.class_names != ("lesion",):
        losses.append(f"class names {', '.join(dataset.class_names)}: a mask has none, and reads back as lesion")
    if crowds:
        losses.append(f"{plural(crowds, 'crowd region')}: left out, and so shown as bare skin")
    return losses
