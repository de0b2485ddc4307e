"""Open a data set whatever its format: the table of formats, and `open_dataset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermask.data.checks import load_json, show
from dermask.data.coco import coco_dataset
from dermask.data.dataset import Dataset
from dermask.data.isic import has_own_masks, is_data_folder, list_parts, read_folders, read_isic, read_isic_root
from dermask.data.via import is_via, via_dataset
from dermask.errors import LabelError
from dermask.images import SUFFIXES

_LABEL_FILE = "labels.json"  # as `write_coco` and `dermask data synthesize` name it


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A kind of label file.

    Attributes:
        name: For messages.
        matches: Whether parsed JSON is of this kind.
        read: Its reader: parsed JSON, path, photographs' folder, skip_bad.
    """

    name: str
    matches: Callable[[Any], bool]
    read: Callable[[Any, Path, Path | None, bool], Dataset]


@dataclass(frozen=True, slots=True)
class FolderFormat:
    """A kind of folder.

    Attributes:
        name: For messages.
        matches: Whether a folder is of this kind.
        read: Its reader: folder, part, skip_bad.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, str | None, bool], Dataset]


def _is_coco(tree: Any) -> bool:
    return isinstance(tree, dict) and bool({"images", "annotations", "categories"} & tree.keys())


JSON_FORMATS = (
    JsonFormat("VGG Image Annotator JSON", is_via, via_dataset),
    JsonFormat("COCO JSON (makesense.ai's too)", _is_coco, coco_dataset),
)
FOLDER_FORMATS = (
    FolderFormat("ISIC challenge folders", lambda root: bool(list_parts(root)), read_isic_root),
    FolderFormat(
        "an ISIC data folder with its ground truth beside it",
        lambda folder: is_data_folder(folder) or has_own_masks(folder),
        lambda folder, part, skip_bad: read_isic(folder, skip_bad),
    ),
    FolderFormat(
        "a folder with images/ and masks/",
        lambda root: (root / "images").is_dir() and (root / "masks").is_dir(),
        lambda root, part, skip_bad: read_folders(root / "images", root / "masks", skip_bad=skip_bad, source=root),
    ),
)


def open_dataset(path: Path, *, images: Path | None = None, skip_bad: bool = False, part: str | None = None) -> Dataset:
    """Photographs and outlines from a label file or folder of any known format.

    Args:
        path: A COCO or VGG JSON file, a folder that holds one such file, an ISIC challenge root or data folder, or a
            folder with images/ and masks/. A `labels.json` in the folder goes before its masks/, which cannot tell two
            lesions of a photograph apart.
        images: Folder of the photographs of a JSON file, if they are neither beside it nor in `images` there.
        skip_bad: Go on without what is bad; `Dataset.skipped` then has a line for each problem. A photograph with one
            bad annotation goes as a whole, for without it the photograph would show a lesion as bare skin.
        part: Part of an ISIC root: Training (train), Validation (val), Test or Test_v2 (test).

    Raises:
        LabelError: The format is unknown, or something in it is wrong: one line that names it and the cure.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, images, skip_bad, part)
    if part is not None:
        raise LabelError(str(path), f"a label file has no parts, and part {show(part)} was asked for", "leave it out")
    tree = load_json(path)
    for kind in JSON_FORMATS:
        if kind.matches(tree):
            return kind.read(tree, path, images, skip_bad)
    raise _unknown_json(tree, path)


def _open_folder(folder: Path, images: Path | None, skip_bad: bool, part: str | None) -> Dataset:
    if (folder / _LABEL_FILE).is_file():
        return open_dataset(folder / _LABEL_FILE, images=images, skip_bad=skip_bad, part=part)
    for kind in FOLDER_FORMATS:
        if kind.matches(folder):
            if images is not None:
                raise LabelError(str(folder), f"{kind.name}: has its own photographs", "leave --images out")
            if part is not None and kind.read is not read_isic_root:
                raise LabelError(str(folder), f"{kind.name}: has no part {show(part)}", "leave --part out")
            return kind.read(folder, part, skip_bad)
    label_files = sorted(folder.glob("*.json"))
    if len(label_files) == 1:
        return open_dataset(label_files[0], images=images, skip_bad=skip_bad, part=part)
    if label_files:
        names = ", ".join(path.name for path in label_files[:4])
        raise LabelError(str(folder), f"holds {len(label_files)} JSON files: {names}", "name the one to read")
    cure = "name a COCO or VGG JSON file, or put masks called ID_segmentation.png into masks/ beside images/"
    count = sum(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
    if count:
        raise LabelError(str(folder), f"holds {count} photographs and no labels", cure)
    raise LabelError(str(folder), "holds neither photographs nor labels", cure)


def _unknown_json(tree: Any, path: Path) -> LabelError:
    known = " or ".join(kind.name for kind in JSON_FORMATS)
    if tree in ([], {}):
        return LabelError(str(path), f"is an empty {'list' if tree == [] else 'object'}", "export the labels again")
    if isinstance(tree, list) and all(isinstance(entry, dict) and "score" in entry for entry in tree):
        return LabelError(str(path), "holds detections with scores, not labels", "name the label file")
    if isinstance(tree, dict):
        found = f"has the keys {show(list(tree))}"
    else:
        found = "holds null" if tree is None else f"holds a {'list' if isinstance(tree, list) else 'single value'}"
    return LabelError(str(path), f"{found}; expected {known}", "export the labels in one of these formats")
