"""Pascal-VOC-like folders: one image of class colours a photograph, and perhaps one of object colours.

Layout, as the VOC challenges, CVAT ("Segmentation mask 1.1") and labelme2voc write it:

    JPEGImages/ or images/          photographs
    SegmentationClass/ or masks/    ID.png, each pixel the colour or number of its class
    SegmentationObject/             ID.png, each pixel the colour or number of its object; may be missing
    labelmap.txt                    name:red,green,blue:parts:actions, a class a line; may be missing
    ImageSets/Segmentation/*.txt    the photographs of each part, a name without suffix a line; may be missing

What the pixels mean:

- With `labelmap.txt` a colour is the class that it names (https://docs.cvat.ai/docs/dataset_management/formats/format-smask).
- Without it, colours are numbers of VOC's colour map, 0 the background; the classes are called ``class 1`` and so on,
  or as `class_names.txt` names them.
- Grey images hold class numbers; 255 there, VOC's (224, 224, 192) and classes called `ignored` or `void` are borders
  and doubtful pixels: a crowd region, neither lesion nor background.
- Each object is one colour of SegmentationObject, of the class that most of its pixels have. Where that is missing,
  each connected region of a class is an object.

All masks are decoded when the data set is opened, for the objects stand only in the pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dermask import images, masks
from dermask.data.checks import Draft, Problems, make_dataset, photograph_size, show
from dermask.data.dataset import Dataset
from dermask.errors import InputError, LabelError
from dermask.records import BoolArray, ImageSize, Instance, IntArray
from dermask.regions import label_regions

PHOTOGRAPH_FOLDERS = ("JPEGImages", "images")
CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "masks")
OBJECT_FOLDERS = ("SegmentationObject", "SegmentationObjectPNG")
LABEL_MAP = "labelmap.txt"
_CLASS_NAMES = "class_names.txt"  # labelme2voc's list
_BACKGROUND = frozenset({"background", "_background_", "__background__"})
_IGNORED = frozenset({"ignored", "__ignore__", "ignore", "void"})
_MAX_OBJECTS = 5_000
"""Objects of one photograph; more are noise, such as a mask saved as JPEG, and would fill the memory."""
_MAX_MAP_BYTES = 1_000_000


def voc_colour(number: int) -> tuple[int, int, int]:
    """The colour of a number in VOC's colour map (VOCdevkit's `VOClabelcolormap`); distinct for all below 2^24."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (number & 1) << bit
        green |= (number >> 1 & 1) << bit
        blue |= (number >> 2 & 1) << bit
        number >>= 3
    return red, green, blue


VOID = voc_colour(255)


class LabelMap(NamedTuple):
    """What the colours of class masks mean.

    Attributes:
        class_names: Name of label i at index i - 1.
        labels: Label of each colour, as 0xRRGGBB; 0 for background, -1 for what is ignored.
    """

    class_names: tuple[str, ...]
    labels: Mapping[int, int]


def is_special_name(name: str) -> bool:
    """Whether a class of this name means background or what is ignored."""
    return name.casefold() in _BACKGROUND | _IGNORED


def is_colour_masks(folder: Path) -> bool:
    """Whether a folder holds class masks: SegmentationClass/, or masks/ with a `labelmap.txt` beside it."""
    if (folder / LABEL_MAP).is_file() and _one_of(folder, CLASS_FOLDERS) is not None:
        return True
    return _one_of(folder, CLASS_FOLDERS[:2]) is not None


def colour_mask_parts(folder: Path) -> tuple[str, ...]:
    """The parts that ImageSets/Segmentation lists."""
    return tuple(_part_files(folder))


def read_colour_masks(
    folder: Path, part: str | None = None, skip_bad: bool = False, images: Path | None = None
) -> Dataset:
    """A folder of class masks.

    Args:
        folder: The one that holds SegmentationClass.
        part: A list of ImageSets/Segmentation; all photographs by default.
        skip_bad: Go on without photographs that are bad or have a bad or no mask; `Dataset.skipped` lists why.
        images: Folder of the photographs where they do not lie beside the masks.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    class_folder = _one_of(folder, CLASS_FOLDERS)
    if class_folder is None:
        raise LabelError(str(folder), "has no class masks", f"put them into {CLASS_FOLDERS[0]}")
    photographs = images or _one_of(folder, PHOTOGRAPH_FOLDERS)
    if photographs is None or not photographs.is_dir():
        where = str(photographs) if photographs else str(folder)
        raise LabelError(where, "has no photographs", f"put them into {PHOTOGRAPH_FOLDERS[0]}, or name their --images")
    problems = Problems(skip_bad=skip_bad)
    label_map = read_label_map(folder / LABEL_MAP) if (folder / LABEL_MAP).is_file() else None
    voc = _VocNames(_listed_classes(folder)) if label_map is None else None
    files_of = {kind: _files_by_stem(one) for kind, one in _folders(folder, class_folder, photographs).items()}
    drafts = []
    for stem in _wanted_stems(folder, part, files_of["photograph"], files_of["class"], problems):
        item = f"{class_folder}: {show(stem)[1:-1]}"
        try:
            draft = _draft(stem, files_of, item)
            drafts.append(draft)
        except LabelError as error:
            problems.add(error)
            continue
        try:
            draft.instances += _read_objects(
                _decode(files_of["class"][stem][0], draft.size, item),
                _decode(files_of["object"][stem][0], draft.size, item) if stem in files_of["object"] else None,
                label_map or voc,
                item,
            )
        except LabelError as error:
            problems.add(error, draft)
    class_names = label_map.class_names if label_map is not None else voc.class_names() if voc is not None else ()
    return make_dataset(drafts, problems, class_names=class_names, source=folder, name=folder.resolve().name)


# Names and colours


def read_label_map(path: Path) -> LabelMap:
    """The classes of a `labelmap.txt`, in the order of its lines.

    Raises:
        LabelError: It cannot be read, or a line is wrong, or a name or colour appears twice.
    """
    return parse_label_map(_read_text(path), str(path))


def parse_label_map(text: str, item: str) -> LabelMap:
    """As `read_label_map`, from text; `item` names it in messages."""
    names: list[str] = []
    labels: dict[int, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{item}: line {number}"
        fields = [field.strip() for field in line.split(":")]
        if len(fields) < 2 or not fields[0]:
            raise LabelError(where, f"{show(line)} is not 'name:red,green,blue::'", "write it so")
        colour = _parse_colour(fields[1], where)
        if colour in labels:
            raise LabelError(where, f"colour {fields[1]} appears twice", "give every class its own")
        if fields[0].casefold() in _BACKGROUND or fields[0].casefold() in _IGNORED:
            labels[colour] = 0 if fields[0].casefold() in _BACKGROUND else -1
            continue
        if fields[0] in names:
            raise LabelError(where, f"class name {show(fields[0])} appears twice", "rename one")
        names.append(fields[0])
        labels[colour] = len(names)
    if not names:
        raise LabelError(item, "names no class", "add a line such as 'lesion:128,0,0::'")
    labels.setdefault(0, 0)
    labels.setdefault(_packed(VOID), -1)
    return LabelMap(tuple(names), labels)


def _parse_colour(field: str, item: str) -> int:
    values = [int(one) if one.strip().isdecimal() and len(one.strip()) < 4 else 256 for one in field.split(",")]
    if len(values) != 3 or max(values) > 255:
        raise LabelError(item, f"colour {show(field)} is not three numbers from 0 to 255", "write red,green,blue")
    return _packed((values[0], values[1], values[2]))


def _packed(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


class _VocNames:
    """Classes of folders without a label map: numbers of VOC's colour map, named as far as somebody named them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.labels = {_packed(voc_colour(number)): number for number in range(255)} | {_packed(VOID): -1}
        self.largest = 0

    def class_names(self) -> tuple[str, ...]:
        count = max(self.largest, len(self.names), 1)
        return tuple(self.names[i] if i < len(self.names) else f"class {i + 1}" for i in range(count))


def _listed_classes(folder: Path) -> list[str]:
    path = folder / _CLASS_NAMES
    names = [line.strip() for line in _read_text(path).splitlines()] if path.is_file() else []
    named = [name for name in names if name and name.casefold() not in _BACKGROUND | _IGNORED]
    if len(set(named)) != len(named):
        raise LabelError(str(path), "names a class twice", "rename one")
    return named


# Pixels to objects


class _Mask(NamedTuple):
    """A decoded mask: (H, W) int64 of grey values or of colours as 0xRRGGBB."""

    values: IntArray
    is_grey: bool


def _decode(path: Path, size: ImageSize, item: str) -> _Mask:
    try:
        found = images.image_size(path)
        if found != size:
            problem = f"mask {path.name} has {found.width}x{found.height} pixels"
            raise LabelError(item, f"{problem}, the photograph {size.width}x{size.height}", "replace the mask")
        pixels = images.read_image(path).astype(np.int64)
    except LabelError:
        raise
    except InputError as error:
        raise LabelError(item, f"mask {path.name}: {error.problem}", error.cure) from None
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    is_grey = bool(np.array_equal(red, green) and np.array_equal(red, blue))
    return _Mask(red if is_grey else red << 16 | green << 8 | blue, is_grey)


def _read_objects(
    classes: _Mask, objects: _Mask | None, meaning: LabelMap | _VocNames | None, item: str
) -> list[Instance]:
    assert meaning is not None
    labels = _labels(classes, meaning, item)
    if isinstance(meaning, _VocNames):
        meaning.largest = max(meaning.largest, int(labels.max(initial=0)))
    if objects is not None:
        found = _by_object(labels, objects, item)
    else:
        found = [
            (label, labelled == number)
            for label in np.unique(labels[labels > 0]).tolist()
            for labelled, count in [_regions(labels == label, item)]
            for number in range(1, count + 1)
        ]
    instances = [
        Instance(label, masks.bitmask_to_rle(mask), annotation_id=i) for i, (label, mask) in enumerate(found, 1)
    ]
    if (labels < 0).any():
        instances.append(Instance(1, masks.bitmask_to_rle(labels < 0), is_crowd=True))
    return instances


def _labels(classes: _Mask, meaning: LabelMap | _VocNames, item: str) -> IntArray:
    """(H, W) label of each pixel; 0 background, -1 ignored."""
    values, inverse = np.unique(classes.values, return_inverse=True)
    if classes.is_grey and values.tolist() in ([255], [0, 255]) and _packed((255, 255, 255)) not in meaning.labels:
        raise LabelError(
            item, "mask is black and white, without a class", "call the folder masks/ and drop the label map"
        )
    known = [_label(value, classes.is_grey, meaning) for value in values.tolist()]
    for value, label in zip(values.tolist(), known, strict=True):
        if label is None:
            shown = f"value {value}" if classes.is_grey else f"colour {value >> 16},{value >> 8 & 255},{value & 255}"
            raise LabelError(item, f"mask has the {shown}, which no class has", f"add it to {LABEL_MAP}, or save a PNG")
    return np.array(known, np.int64)[inverse].reshape(classes.values.shape)


def _label(value: int, is_grey: bool, meaning: LabelMap | _VocNames) -> int | None:
    if not is_grey:
        return meaning.labels.get(value)
    packed = _packed((value, value, value))
    if packed in meaning.labels:  # black, or a colour that happens to be grey, as that of VOC's class 7
        return meaning.labels[packed]
    if value == 255:
        return -1
    return value if isinstance(meaning, _VocNames) or value <= len(meaning.class_names) else None


def _by_object(labels: IntArray, objects: _Mask, item: str) -> list[tuple[int, BoolArray]]:
    """Label and mask of each object; pixels of a class in no object are objects by region, as without object masks."""
    is_void = objects.values == (255 if objects.is_grey else _packed(VOID))
    is_object = (objects.values != 0) & ~is_void & (labels > 0)
    found = []
    values = np.unique(objects.values[is_object])
    _check_count(len(values), item)
    for value in values.tolist():
        mask = is_object & (objects.values == value)
        votes = Counter(labels[mask].tolist())
        found.append((max(sorted(votes), key=lambda label: votes[label]), mask))
    rest = (labels > 0) & ~is_object & ~is_void
    for label in np.unique(labels[rest]).tolist():
        labelled, count = _regions(rest & (labels == label), item)
        found += [(label, labelled == number) for number in range(1, count + 1)]
    return found


def _regions(mask: BoolArray, item: str) -> tuple[IntArray, int]:
    labelled, count = label_regions(mask)
    _check_count(count, item)
    return labelled, count


def _check_count(count: int, item: str) -> None:
    if count > _MAX_OBJECTS:
        raise LabelError(item, f"mask has {count:,} separate regions", "clean it, and save masks as PNG, not JPEG")


# Files


def _one_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _folders(folder: Path, class_folder: Path, photographs: Path) -> dict[str, Path | None]:
    return {"photograph": photographs, "class": class_folder, "object": _one_of(folder, OBJECT_FOLDERS)}


def _files_by_stem(folder: Path | None) -> dict[str, list[Path]]:
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder is not None else ():
        if path.suffix.lower() in images.SUFFIXES and not path.name.startswith(".") and path.is_file():
            by_stem.setdefault(path.stem, []).append(path)
    return by_stem


def _part_files(folder: Path) -> dict[str, Path]:
    lists = folder / "ImageSets" / "Segmentation"
    return {path.stem: path for path in sorted(lists.glob("*.txt"))} if lists.is_dir() else {}


def _wanted_stems(
    folder: Path,
    part: str | None,
    photographs: Mapping[str, list[Path]],
    class_masks: Mapping[str, list[Path]],
    problems: Problems,
) -> list[str]:
    """The photographs of a part, or all that a list, a mask or, where there are no lists, a photograph names."""
    lists = _part_files(folder)
    if part is not None:
        by_key = {name.casefold(): path for name, path in lists.items()}
        if part.casefold() not in by_key:
            known = f"choose one of {', '.join(lists)}" if lists else "leave --part out"
            raise LabelError(str(folder), f"has no part {show(part)}", known)
        return _read_list(by_key[part.casefold()])
    wanted = dict.fromkeys(stem for path in lists.values() for stem in _read_list(path))
    wanted |= dict.fromkeys(class_masks)
    return sorted(wanted if lists else wanted | dict.fromkeys(photographs))


def _read_list(path: Path) -> list[str]:
    return list(dict.fromkeys(line.split()[0] for line in _read_text(path).splitlines() if line.split()))


def _draft(stem: str, files_of: Mapping[str, Mapping[str, list[Path]]], item: str) -> Draft:
    for kind in ("photograph", "class"):
        paths = files_of[kind].get(stem, [])
        what = "photograph" if kind == "photograph" else "mask"
        if not paths:
            raise LabelError(item, f"has no {what}", f"add the {what}, or remove what is left of it")
        if len(paths) > 1:
            raise LabelError(item, f"has two {what}s, {paths[0].name} and {paths[1].name}", "remove one")
    photograph = files_of["photograph"][stem][0]
    return Draft(item, photograph.name, photograph, photograph_size(photograph, item))


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_MAP_BYTES:
            raise LabelError(
                str(path), f"has {path.stat().st_size:,} bytes, too many for a list", "name the right file"
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(str(path), f"cannot be read as text: {error}", "save it as UTF-8") from None
