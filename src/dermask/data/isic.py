"""ISIC challenge folders, and plain folders of photographs and masks.

Official layouts (the years differ, and so does the case of "_segmentation"):

    ISBI2016_ISIC_Part1_Training_Data        ISBI2016_ISIC_Part1_Training_GroundTruth    ID_Segmentation.png
    ISIC-2017_Training_Data                  ISIC-2017_Training_Part1_GroundTruth        ID_segmentation.png
    ISIC2018_Task1-2_Training_Input          ISIC2018_Task1_Training_GroundTruth         ID_segmentation.png

and the same for Validation, Test and Test_v2. The data folders of 2017 hold `ID_superpixels.png` beside the
photographs, and all may hold CSV and licence files: none of these is a photograph. A plain layout is a folder with
`images/` and `masks/`, where a mask is called as its photograph, with or without "_segmentation" or "_mask".

Masks stay files until a photograph is loaded; at opening only headers are read. One mask is one lesion, label 1; an
all-black mask is a photograph without a lesion. A pixel above 128 belongs to the lesion.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from dermask import images
from dermask.data.checks import (
    Draft,
    Problems,
    make_dataset,
    photograph_size,
    show,
)
from dermask.data.dataset import Dataset
from dermask.errors import InputError, LabelError
from dermask.records import Instance, MaskFile

_DATA_FOLDER = re.compile(r"is(?:ic|bi).*_(?P<part>Training|Validation|Test(?:_v2)?)_(?:Data|Input)", re.IGNORECASE)
_TRUTH_FOLDER = re.compile(
    r"is(?:ic|bi).*_(?P<part>Training|Validation|Test(?:_v2)?)(?:_Part1)?_GroundTruth", re.IGNORECASE
)
_OTHER_TASK = re.compile(r"(?:Part|Task)[2-9]", re.IGNORECASE)  # dermoscopic features and diagnoses, not outlines
_YEAR = re.compile(r"20\d\d")
_MASK_STEM = re.compile(r"(?P<image_id>.+?)(?:_segmentation|_mask)?", re.IGNORECASE)
_PART_ORDER = ("training", "validation", "test", "test_v2")
_PART_ALIASES = {"train": ("training",), "val": ("validation",), "test": ("test_v2", "test")}


def list_parts(root: Path) -> dict[str, list[Path]]:
    """The data folders of each part in an ISIC root, parts in the order Training, Validation, Test; {} if none."""
    parts: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(root.iterdir()):
        match = _DATA_FOLDER.fullmatch(folder.name)
        if match and folder.is_dir() and not _OTHER_TASK.search(folder.name):
            parts[match["part"]].append(folder)
    return dict(sorted(parts.items(), key=lambda entry: _PART_ORDER.index(entry[0].casefold())))


def is_data_folder(folder: Path) -> bool:
    """Whether a folder is called like the photographs' folder of a challenge."""
    return _DATA_FOLDER.fullmatch(_official(folder).name) is not None


def read_isic_root(root: Path, part: str | None = None, skip_bad: bool = False) -> Dataset:
    """One part of a folder that holds official challenge folders.

    Args:
        root: The folder above the data and ground truth folders.
        part: Training, Validation, Test or Test_v2 in any case, or train, val, test; needed if there are several.
        skip_bad: As in `read_isic`.

    Raises:
        LabelError: No such part, several and none is named, or as in `read_isic`.
    """
    parts = list_parts(root)
    known = ", ".join(parts)
    if part is None:
        if len(parts) != 1:
            raise LabelError(str(root), f"has the parts {known}", "name one with --part")
        part = next(iter(parts))
    by_key = {name.casefold(): name for name in parts}
    wanted = (part.casefold(), *_PART_ALIASES.get(part.casefold(), ()))
    name = next((by_key[key] for key in wanted if key in by_key), None)
    if name is None:
        raise LabelError(str(root), f"has no part {show(part)}", f"choose one of {known}")
    folders = parts[name]
    if len(folders) > 1:
        raise LabelError(str(root), f"part {name} stands in {folders[0].name} and {folders[1].name}", "name the folder")
    return read_isic(folders[0], skip_bad)


def read_isic(folder: Path, skip_bad: bool = False) -> Dataset:
    """The photographs of an official data folder with the masks of the ground truth folder beside it.

    Args:
        folder: Such as ``ISIC-2017_Training_Data``. Masks in the folder itself do as well.
        skip_bad: Go on without photographs that are bad or have a bad or no mask; `Dataset.skipped` lists why.

    Raises:
        LabelError: No masks are found, or one line for the first problem and the number of further ones.
    """
    own = _official(folder)
    truths = _truth_folders(own)
    if len(truths) > 1:
        raise LabelError(str(folder), f"has masks in {truths[0].name} and {truths[1].name}", "move one of them away")
    if not truths and not has_own_masks(folder):
        expected = f"{own.name.removesuffix('_Data').removesuffix('_Input')}_Part1_GroundTruth"
        raise LabelError(str(folder), "has no masks", f"put them beside it, into {expected}")
    return read_folders(folder, truths[0] if truths else folder, skip_bad=skip_bad, source=folder)


def _official(folder: Path) -> Path:
    """The folder under the name a challenge gave it: as written, or what a link or "." stands for."""
    own = folder.absolute()
    return own if _DATA_FOLDER.fullmatch(own.name) else folder.resolve()


def _truth_folders(data_folder: Path) -> list[Path]:
    match = _DATA_FOLDER.fullmatch(data_folder.name)
    if match is None:
        return []
    found = []
    for folder in sorted(data_folder.parent.iterdir()):
        truth = _TRUTH_FOLDER.fullmatch(folder.name)
        if truth is None or _OTHER_TASK.search(folder.name) or not folder.is_dir():
            continue
        is_same_year = _YEAR.findall(folder.name)[:1] == _YEAR.findall(data_folder.name)[:1]
        if is_same_year and truth["part"].casefold() == match["part"].casefold():
            found.append(folder)
    return found


def has_own_masks(folder: Path) -> bool:
    """Whether some file in the folder is called like a mask of another: `ID_segmentation.png` or `ID_mask.png`."""
    return any(_is_mask_name(path) for path in folder.iterdir())


def read_folders(photographs: Path, masks: Path, *, skip_bad: bool = False, source: Path) -> Dataset:
    """Photographs of one folder with the masks of another, or of the same.

    Raises:
        LabelError: One line for the first problem and the number of further ones: a photograph without a mask, a mask
            without a photograph, two of either for one id, files that are no images, sizes that differ.
    """
    problems = Problems(skip_bad=skip_bad)
    mask_files = _by_id(masks, are_masks=True, has_both=photographs == masks)
    drafts = []
    for image_id, paths in _by_id(photographs, are_masks=False, has_both=photographs == masks).items():
        item = str(paths[0])
        candidates = mask_files.pop(image_id, [])
        try:
            if len(paths) > 1:
                raise LabelError(item, f"{paths[1].name} has the same id {show(image_id)}", "rename or remove one")
            if not candidates:
                raise LabelError(
                    item, f"has no mask in {masks}", f"add {image_id}_segmentation.png, all black for none"
                )
            if len(candidates) > 1:
                raise LabelError(item, f"has two masks, {candidates[0].name} and {candidates[1].name}", "remove one")
            drafts.append(_read_pair(paths[0], candidates[0], item))
        except LabelError as error:
            problems.add(error)
    for candidates in mask_files.values():
        problems.add(LabelError(str(candidates[0]), f"has no photograph in {photographs}", "add it or remove the mask"))
    return make_dataset(drafts, problems, class_names=("lesion",), source=source, name=source.resolve().name)


def _read_pair(photograph: Path, mask: Path, item: str) -> Draft:
    size = photograph_size(photograph, item)
    try:
        mask_size = images.image_size(mask)
    except InputError as error:
        raise LabelError(item, f"mask {mask.name}: {error.problem}", error.cure) from None
    if mask_size != size:
        found = f"{mask_size.width}x{mask_size.height}"
        problem = f"mask {mask.name} has {found} pixels, the photograph {size.width}x{size.height}"
        is_drawn_turned = mask_size == (size.width, size.height) and images.orientation(photograph) != 1
        cure = "turn the mask as the photograph's EXIF orientation says" if is_drawn_turned else "replace the mask"
        raise LabelError(item, problem, cure)
    return Draft(item, photograph.name, photograph, size, instances=[Instance(1, MaskFile(mask))])


def _by_id(folder: Path, *, are_masks: bool, has_both: bool) -> dict[str, list[Path]]:
    """Image files of each image id, in order of name; `has_both` when photographs and masks share the folder."""
    by_id: dict[str, list[Path]] = defaultdict(list)
    for path in _image_files(folder):
        if has_both and _is_mask_name(path) != are_masks:
            continue
        match = _MASK_STEM.fullmatch(path.stem) if are_masks else None
        by_id[match["image_id"] if match else path.stem].append(path)
    return dict(by_id)


def _image_files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        is_hidden = path.name.startswith(".")
        if path.suffix.lower() in images.SUFFIXES and not is_hidden and not _is_superpixels(path):
            yield path


def _is_superpixels(path: Path) -> bool:
    return path.stem.lower().endswith("_superpixels")


def _is_mask_name(path: Path) -> bool:
    stem = path.stem.lower()
    return path.suffix.lower() in images.SUFFIXES and stem.endswith(("_segmentation", "_mask"))
