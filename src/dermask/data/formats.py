"""Every label format in one table: what it can hold, how it is told from the path, its reader and its writer.

`open_dataset` reads whatever is there, `write_dataset` writes a format by its key. What a format cannot hold stands in
`Format.holds`; a writer says in words what was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dermask.data.checks import load_json, show
from dermask.data.coco import coco_dataset, write_coco
from dermask.data.colour_masks import colour_mask_parts, is_colour_masks, read_colour_masks
from dermask.data.colour_masks_write import write_colour_masks
from dermask.data.cvat import cvat_dataset, is_cvat, write_cvat
from dermask.data.dataset import Dataset
from dermask.data.isic import has_own_masks, is_data_folder, list_parts, read_folders, read_isic, read_isic_root
from dermask.data.isic_write import write_folders, write_isic
from dermask.data.label_studio import is_label_studio, label_studio_dataset
from dermask.data.label_studio_write import write_label_studio, write_label_studio_tasks
from dermask.data.labelme import is_labelme, is_labelme_folder, labelme_dataset, read_labelme_folder
from dermask.data.labelme_write import write_labelme
from dermask.data.makesense import write_makesense_coco, write_makesense_vgg
from dermask.data.metadata import is_isic_cli_folder, no_outlines
from dermask.data.split_file import Split, read_split
from dermask.data.via import is_via, via_dataset
from dermask.data.via_write import write_via
from dermask.data.yolo import find_yaml, is_yolo, read_yolo, yolo_parts
from dermask.data.yolo_write import write_yolo
from dermask.errors import LabelError, SettingError
from dermask.images import SUFFIXES
from dermask.records import Sample

_LABEL_FILE = "labels.json"  # as `write_coco` and `dermask data synthesize` name it
_YAML_SUFFIXES = (".yaml", ".yml")

Writer = Callable[..., tuple[str, ...]]
"""Data set, path and `overwrite` to one line for each kind of thing that was lost."""


@dataclass(frozen=True, slots=True)
class JsonReader:
    """Reads a kind of label file.

    Attributes:
        name: For messages.
        matches: Whether parsed JSON is of this kind.
        read: Parsed JSON, path, photographs' folder, skip_bad.
    """

    name: str
    matches: Callable[[Any], bool]
    read: Callable[[Any, Path, Path | None, bool], Dataset]


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Reads a kind of folder.

    Attributes:
        name: For messages.
        matches: Whether a folder is of this kind.
        read: Folder, part, skip_bad, photographs' folder.
        parts: The names that `part` can take.
        takes_images: Whether the photographs may lie in another folder.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, str | None, bool, Path | None], Dataset]
    parts: Callable[[Path], tuple[str, ...]] = lambda folder: ()
    takes_images: bool = False


class Holds(NamedTuple):
    """What a format can say; what it cannot, its writer reports as lost.

    Attributes:
        classes: The names of several classes.
        lesions: Several lesions of a photograph, each on its own.
        overlaps: Pixels that belong to two lesions.
        parts: One lesion of several separate parts; else each becomes a lesion.
        holes: A lesion with holes, be it by a line of no width from the outline to the hole.
        negatives: Photographs without a lesion.
        crowds: Regions that are neither lesion nor background.
    """

    classes: bool = True
    lesions: bool = True
    overlaps: bool = True
    parts: bool = True
    holes: bool = True
    negatives: bool = True
    crowds: bool = True


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table.

    Attributes:
        key: As `--to` takes it.
        name: As people know it.
        is_folder: Whether it is written as a folder, not as one file.
        holds: What it can say.
        reader: How it is told and read; None for what is written only. Formats of one family share it.
        write: Its writer.
    """

    key: str
    name: str
    is_folder: bool
    holds: Holds
    reader: JsonReader | FolderReader | None
    write: Writer


def _is_coco(tree: Any) -> bool:
    return isinstance(tree, dict) and bool({"images", "annotations", "categories"} & tree.keys())


COCO = JsonReader("COCO JSON (makesense.ai's too)", _is_coco, coco_dataset)
CVAT = JsonReader("CVAT's COCO JSON", is_cvat, cvat_dataset)
VIA = JsonReader("VGG Image Annotator JSON", is_via, via_dataset)
LABELME = JsonReader("labelme JSON", is_labelme, labelme_dataset)
LABEL_STUDIO = JsonReader("Label Studio JSON", is_label_studio, label_studio_dataset)
LABELME_FOLDER = FolderReader(
    "a folder of labelme JSON",
    is_labelme_folder,
    lambda folder, part, skip_bad, images: read_labelme_folder(folder, images, skip_bad),
    takes_images=True,
)
YOLO = FolderReader(
    "YOLO segmentation text with its data.yaml",
    lambda folder: find_yaml(folder) is not None,
    lambda folder, part, skip_bad, images: read_yolo(folder, part, skip_bad),
    yolo_parts,
)
YOLO_WITHOUT_YAML = FolderReader(
    "YOLO segmentation text in images/ and labels/",
    is_yolo,
    lambda folder, part, skip_bad, images: read_yolo(folder, part, skip_bad),
    yolo_parts,
)
ISIC_ROOT = FolderReader(
    "ISIC challenge folders",
    lambda root: bool(list_parts(root)),
    lambda root, part, skip_bad, images: read_isic_root(root, part, skip_bad),
    lambda root: tuple(list_parts(root)),
)
ISIC_DATA = FolderReader(
    "an ISIC data folder with its ground truth beside it",
    lambda folder: is_data_folder(folder) or has_own_masks(folder),
    lambda folder, part, skip_bad, images: read_isic(folder, skip_bad),
)
COLOUR_MASKS = FolderReader(
    "colour masks in SegmentationClass/",
    is_colour_masks,
    read_colour_masks,
    colour_mask_parts,
    takes_images=True,
)
FOLDERS = FolderReader(
    "a folder with images/ and masks/",
    lambda root: (root / "images").is_dir() and (root / "masks").is_dir(),
    lambda root, part, skip_bad, images: read_folders(root / "images", root / "masks", skip_bad=skip_bad, source=root),
)

JSON_READERS = (VIA, LABELME, LABEL_STUDIO, CVAT, COCO)
"""In the order in which they are tried: the particular before the general."""

FOLDER_READERS = (YOLO, ISIC_ROOT, COLOUR_MASKS, ISIC_DATA, FOLDERS, YOLO_WITHOUT_YAML, LABELME_FOLDER)
"""In the order in which they are tried, after a `labels.json` and before any other JSON file of the folder."""

_ONE_MASK = Holds(classes=False, lesions=False, overlaps=False, crowds=False)
_ONE_RING = Holds(parts=False, crowds=False)
_NO_CROWDS = Holds(crowds=False)

FORMATS: tuple[Format, ...] = (
    Format("coco", "COCO JSON", False, Holds(), COCO, write_coco),
    Format("makesense-coco", "makesense.ai's COCO JSON", False, _ONE_RING, COCO, write_makesense_coco),
    Format("makesense-vgg", "makesense.ai's VGG JSON", False, _ONE_RING, VIA, write_makesense_vgg),
    Format("via1", "VGG Image Annotator 1 JSON", False, _ONE_RING, VIA, partial(write_via, version="1")),
    Format("via2", "VGG Image Annotator 2 JSON", False, _ONE_RING, VIA, partial(write_via, version="2")),
    Format(
        "via-project", "VGG Image Annotator 2 project", False, _ONE_RING, VIA, partial(write_via, version="project")
    ),
    Format("labelme", "labelme JSON", True, Holds(), LABELME_FOLDER, write_labelme),
    Format("cvat", "CVAT's COCO JSON", False, _NO_CROWDS, CVAT, write_cvat),
    Format("label-studio", "Label Studio JSON", False, _NO_CROWDS, LABEL_STUDIO, write_label_studio),
    Format("label-studio-tasks", "Label Studio pre-annotations", False, _NO_CROWDS, None, write_label_studio_tasks),
    Format("yolo", "YOLO segmentation text", True, _NO_CROWDS, YOLO, write_yolo),
    Format("isic", "ISIC challenge folders", True, _ONE_MASK, ISIC_ROOT, write_isic),
    Format("folders", "images/ and masks/", True, _ONE_MASK, FOLDERS, write_folders),
    Format(
        "colour-masks", "Pascal-VOC-like colour masks", True, Holds(overlaps=False), COLOUR_MASKS, write_colour_masks
    ),
)
"""Every format that is written. All are read, but for those without a reader."""


def find_format(key: str) -> Format:
    """The format of a key.

    Raises:
        SettingError: There is none; lists those that there are.
    """
    found = next((one for one in FORMATS if one.key == key), None)
    if found is None:
        raise SettingError(
            f"format {show(key)}", "is unknown", f"choose one of {', '.join(one.key for one in FORMATS)}"
        )
    return found


def write_dataset(
    dataset: Dataset,
    path: Path,
    key: str,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[str, ...]:
    """Write a data set in a format, whole or not at all.

    Args:
        dataset: What to write.
        path: The file or folder to make.
        key: Which format: `coco`, `yolo`, ...; see `FORMATS`.
        overwrite: Whether to replace an older one.
        on_progress: Told how many photographs are done, of how many; a writer may go through them more than once.

    Returns:
        One line for each kind of thing that the format could not hold.

    Raises:
        SettingError: No such format.
        OutputExistsError: Something stands there that may not be replaced.
        InputError: A photograph or mask cannot be read, or nothing can be written there.
    """
    kind = find_format(key)
    path = Path(path)
    if not len(dataset):
        raise LabelError(dataset.name or "data set", "has no photographs", "name one that has")
    return kind.write(dataset if on_progress is None else Watched(dataset, on_progress), path, overwrite=overwrite)


class Watched(Dataset):
    """A data set that tells how far an iteration over it has come.

    Args:
        dataset: What to go through.
        on_progress: Told how many photographs are done, of how many.
        before: Photographs done before this data set.
        total: Photographs in all; by default this data set's.
    """

    def __init__(
        self, dataset: Dataset, on_progress: Callable[[int, int], None], *, before: int = 0, total: int | None = None
    ) -> None:
        super().__init__(dataset, dataset.class_names, dataset.name, dataset.source, dataset.categories)
        self._on_progress = on_progress
        self._before = before
        self._total = len(dataset) if total is None else total

    def __iter__(self) -> Iterator[Sample]:
        for done, sample in enumerate(self._samples, 1):
            yield sample
            self._on_progress(self._before + done, self._total)


def open_dataset(
    path: Path,
    *,
    images: Path | None = None,
    skip_bad: bool = False,
    part: str | None = None,
    split: Path | None = None,
) -> Dataset:
    """Photographs and outlines from a label file or folder of any known format.

    Args:
        path: A JSON file or `data.yaml`, a folder that holds one, or a folder of photographs and masks. A
            `labels.json` in a folder goes before its masks/, which cannot tell two lesions of a photograph apart.
        images: Folder of the photographs of a JSON file, if they are neither beside it nor in `images` there.
        skip_bad: Go on without what is bad; `Dataset.skipped` then has a line for each problem. A photograph with one
            bad annotation goes as a whole, for without it the photograph would show a lesion as bare skin.
        part: Part of an ISIC root, a YOLO data set or colour masks: Training (train), Validation (val), Test or
            Test_v2 (test). With `split`, a part of that, and None stands for all of them.
        split: A file of `dermask data split`.

    Raises:
        LabelError: The format is unknown, or something in it is wrong: one line that names it and the cure.
    """
    path = Path(path)
    if split is not None:
        chosen = read_split(Path(split))
        whole = open_dataset(path, images=images, skip_bad=skip_bad, part=part_of_split(path, chosen))
        return chosen.select(whole, part)
    if path.is_dir():
        return _open_folder(path, images, skip_bad, part)
    if path.suffix.lower() in _YAML_SUFFIXES:
        if images is not None:
            raise LabelError(str(path), f"{YOLO.name}: has its own photographs", "leave --images out")
        return read_yolo(path, part, skip_bad)
    if part is not None:
        raise LabelError(str(path), f"a label file has no parts, and part {show(part)} was asked for", "leave it out")
    tree = load_json(path)
    for reader in JSON_READERS:
        if reader.matches(tree):
            return reader.read(tree, path, images, skip_bad)
    raise _unknown_json(tree, path)


def list_part_names(path: Path) -> tuple[str, ...]:
    """The parts that `open_dataset(path, part=...)` can be asked for; empty where there are none.

    Raises:
        LabelError: What names the parts cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() in _YAML_SUFFIXES:
        return yolo_parts(path)
    if not path.is_dir() or (path / _LABEL_FILE).is_file():
        return ()
    reader = next((reader for reader in FOLDER_READERS if reader.matches(path)), None)
    return () if reader is None else reader.parts(path)


def part_of_split(path: Path, split: Split) -> str | None:
    """The part of a source that a split file divides; None also where that part was since written as a source itself.

    Raises:
        LabelError: What names the parts cannot be read, or the source has several and the file divides none of them.
    """
    names = list_part_names(path)
    if split.part_of is None and len(names) > 1:
        problem = f"has the parts {', '.join(names)}, and {split.item} was made of data without parts"
        raise LabelError(str(path), problem, "name the data that was split, such as the folder of one part")
    return split.part_of if names else None


def _open_folder(folder: Path, images: Path | None, skip_bad: bool, part: str | None) -> Dataset:
    if (folder / _LABEL_FILE).is_file():
        return open_dataset(folder / _LABEL_FILE, images=images, skip_bad=skip_bad, part=part)
    for reader in FOLDER_READERS:
        if reader.matches(folder):
            if images is not None and not reader.takes_images:
                raise LabelError(str(folder), f"{reader.name}: has its own photographs", "leave --images out")
            if part is not None and not reader.parts(folder):
                raise LabelError(str(folder), f"{reader.name}: has no part {show(part)}", "leave --part out")
            return reader.read(folder, part, skip_bad, images)
    label_files = sorted(
        path for path in folder.glob("*.json") if not path.name.startswith(".")
    )  # macOS: ._labels.json
    if len(label_files) == 1:
        return open_dataset(label_files[0], images=images, skip_bad=skip_bad, part=part)
    if label_files:
        names = ", ".join(path.name for path in label_files[:4])
        raise LabelError(str(folder), f"holds {len(label_files)} JSON files: {names}", "name the one to read")
    if is_isic_cli_folder(folder):
        raise no_outlines(folder)
    cure = "name the label file of a tool, or put masks called ID_segmentation.png into masks/ beside images/"
    count = sum(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
    if count:
        raise LabelError(str(folder), f"holds {count} photographs and no labels", cure)
    raise LabelError(str(folder), "holds neither photographs nor labels", cure)


def _unknown_json(tree: Any, path: Path) -> LabelError:
    names = [reader.name for reader in JSON_READERS]
    known = f"{', '.join(names[:-1])} or {names[-1]}"
    if tree in ([], {}):
        return LabelError(str(path), f"is an empty {'list' if tree == [] else 'object'}", "export the labels again")
    if isinstance(tree, list) and all(isinstance(entry, dict) and "score" in entry for entry in tree):
        return LabelError(str(path), "holds detections with scores, not labels", "name the label file")
    if isinstance(tree, dict):
        found = f"has the keys {show(list(tree))}"
    else:
        found = "holds null" if tree is None else f"holds a {'list' if isinstance(tree, list) else 'single value'}"
    return LabelError(str(path), f"{found}; expected {known}", "export the labels in one of these formats")
