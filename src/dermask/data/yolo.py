"""YOLO segmentation text as Ultralytics' programs, Roboflow, CVAT and Label Studio write it.

The format: https://docs.ultralytics.com/datasets/segment/. One text file a photograph, one line an object: the number
of its class from 0, then x and y of each point as shares of the photograph's width and height. `data.yaml` names the
classes and where the photographs of each part lie; a photograph's text file has its path with the last ``images``
replaced by ``labels``, or lies beside it. Quirks, with their source (ultralytics/data/utils.py unless said):

- No text file, or an empty one, is a photograph without an object (`verify_image_label`).
- Parts are folders, text files that list photographs (CVAT's export), or lists of either.
- Roboflow writes ``../train/images`` for what lies in the file's own folder (`check_det_dataset` drops the ``../``).
- `path` tells the folder on the computer that wrote the file; here the folder of the file itself counts.
- Objects of several parts or with holes are one ring with bridges of no width (`merge_multi_segment`).
- Lines of four numbers are boxes. A box is no outline, and refused.
- Labels are of the upright photograph: programs that read it apply the EXIF orientation (`exif_size`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dermask import files, images
from dermask.contours import Ring, signed_area
from dermask.data.bridges import rings_outline, split_ring
from dermask.data.checks import Draft, Problems, check_polygons, make_dataset, photograph_size, show
from dermask.data.dataset import Dataset
from dermask.data.yaml_subset import MAX_BYTES, Value, read_yaml
from dermask.errors import InputError, LabelError
from dermask.masks import outline_bitmask
from dermask.records import ImageSize, Instance, Outline, Rle

_PART_KEYS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
_PART_ALIASES = {"training": "train"} | _PART_KEYS
_CLASS_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
_YAML_SUFFIXES = (".yaml", ".yml")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MAX_CLASSES = 10_000
_MAX_TEXT_BYTES = 50_000_000
_SNAP = 1e-6
"""Pixels within which a coordinate counts as a round one, of three decimals: multiplying shares that were cut to ten
decimals gives 3.4999999 for 3.5, which is another pixel where outlines are filled."""


@dataclass(frozen=True, slots=True)
class _Table:
    """What stands in `data.yaml`, or follows from the folders where there is none.

    Attributes:
        root: The folder that no path leaves.
        source: What messages name.
        class_names: By number.
        parts: Where the photographs of each part lie, relative to `root`.
    """

    root: Path
    source: Path
    class_names: tuple[str, ...]
    parts: dict[str, tuple[str, ...]]


def is_yolo(folder: Path) -> bool:
    """Whether a folder holds a YOLO data set: a YAML file that names classes and parts, or labels/ with text files."""
    if find_yaml(folder) is not None:
        return True
    has_classes = any((folder / name).is_file() for name in _CLASS_FILES)
    return has_classes and bool(_folder_parts(folder))


def find_yaml(folder: Path) -> Path | None:
    """The `data.yaml` of a folder, or the one other YAML file that names classes and parts."""
    candidates = sorted(path for path in folder.iterdir() if path.suffix.lower() in _YAML_SUFFIXES)
    found = [path for path in candidates if _names_classes(path)]
    preferred = [path for path in found if path.stem == "data"]
    return preferred[0] if preferred else found[0] if len(found) == 1 else None


def _names_classes(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return False
    keys = set(re.findall(r"^([a-z]+)\s*:", text, re.MULTILINE))
    return bool(keys & {"names", "nc"}) and bool(keys & _PART_KEYS.keys())


def yolo_parts(path: Path) -> tuple[str, ...]:
    """The parts of a YOLO data set, such as train and val.

    Raises:
        LabelError: The YAML file is wrong, or there is no table of classes.
    """
    return tuple(_read_table(Path(path)).parts)


def read_yolo(path: Path, part: str | None = None, skip_bad: bool = False) -> Dataset:
    """A YOLO segmentation data set.

    Args:
        path: Its `data.yaml`, or the folder that holds it; without one, a folder with images/, labels/ and
            classes.txt, as Label Studio exports it.
        part: train, val or test; needed if there are several.
        skip_bad: Go on without photographs that are bad or have a bad line; `Dataset.skipped` lists why.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    table = _read_table(Path(path))
    name = _choose_part(table, part)
    problems = Problems(skip_bad=skip_bad)
    drafts: list[Draft] = []
    seen: set[Path] = set()
    num_texts = 0
    for photograph in _photographs(table, name, problems):
        item = f"{table.source}: {show(photograph)[1:-1]}"
        text = table.root / _label_name(photograph)
        seen.add(text)
        try:
            file = table.root / photograph
            draft = Draft(item, photograph, file, photograph_size(file, item))
        except LabelError as error:
            problems.add(error)
            continue
        drafts.append(draft)
        if text.is_file():
            num_texts += 1
            try:
                draft.instances += yolo_instances(_read_text(text), draft.size, len(table.class_names), str(text))
            except LabelError as error:
                problems.add(error, draft)
    _report_orphans(table, name, seen, problems)
    if drafts and not num_texts:
        expected = _label_name(drafts[0].file_name)
        raise LabelError(
            str(table.source), f"no photograph has a label file; the first would be {expected}", "add them"
        )
    return make_dataset(
        drafts,
        problems,
        class_names=table.class_names,
        source=Path(path),
        categories={label: label - 1 for label in range(1, len(table.class_names) + 1)},
        name=table.root.resolve().name,
    )


def yolo_instances(text: str, size: ImageSize, num_classes: int, item: str) -> list[Instance]:
    """The objects of one label file.

    Args:
        text: Its content; empty for none.
        size: The photograph's.
        num_classes: Numbers from 0 to below this are classes.
        item: For messages.

    Returns:
        One a line, labels from 1, `annotation_id` the line's number from 1.

    Raises:
        LabelError: The first line that is no outline.
    """
    instances = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if fields:
            where = f"{item}: line {number}"
            label = _class_number(fields[0], num_classes, where) + 1
            ring = _read_ring(fields[1:], size, where)
            instances.append(Instance(label, _read_outline(ring, size, where), annotation_id=number))
    return instances


def _class_number(field: str, num_classes: int, item: str) -> int:
    value = float(field) if _NUMBER.fullmatch(field) else -1.0
    if not value.is_integer() or value < 0:
        raise LabelError(item, f"class {show(field)} is not a whole number from 0", "export the labels again")
    if value >= num_classes:
        raise LabelError(
            item, f"class {show(field)} has no name; there are {num_classes}, from 0", "add it to the names"
        )
    return int(value)


def _read_ring(fields: list[str], size: ImageSize, item: str) -> Ring:
    if len(fields) == 4:
        raise LabelError(item, "is a box, not an outline", "export the labels for segmentation")
    if len(fields) % 2:
        problem = f"has {len(fields)} numbers behind the class, an odd count"
        raise LabelError(item, problem, "write x and y of each point, without a score")
    for field in fields:
        if not _NUMBER.fullmatch(field):
            raise LabelError(item, f"{show(field)} is not a number", "export the labels again")
    shares = np.array([float(field) for field in fields], np.float64).reshape(-1, 2)
    if len(shares) and not (shares.min() >= -1 and shares.max() <= 2):
        worst = fields[int(np.abs(shares).argmax())]
        problem = f"coordinate {show(worst)[1:-1]} is not a share of the photograph, 0 to 1"
        raise LabelError(item, problem, "divide x by the width and y by the height")
    points = shares * [size.width, size.height]
    rounded = np.round(points, 3)
    return np.where(np.abs(points - rounded) < _SNAP, rounded, points)


def _read_outline(ring: Ring, size: ImageSize, item: str) -> Outline:
    if len(ring) < 4:
        return check_polygons([ring], size, item)
    rings = split_ring(ring)
    if len(rings) > 1:
        rings = [one for one in rings if _has_area(one)]
    checked = check_polygons(rings or [ring], size, item)
    outline = rings_outline(checked.parts, size)
    if isinstance(outline, Rle) and not outline_bitmask(outline, size).any():
        raise LabelError(item, "outline has area 0: its parts cancel each other", "draw it again")
    return outline


def _has_area(ring: Ring) -> bool:
    return abs(signed_area(ring - ring[0])) > 1e-9 / 2  # near the origin, where less is lost to rounding


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise LabelError(str(path), f"has {path.stat().st_size:,} bytes, too many for labels", "export them again")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(str(path), f"cannot be read as text: {error}", "export the labels again") from None


# Where things lie


def _choose_part(table: _Table, part: str | None) -> str:
    known = ", ".join(table.parts)
    if part is None:
        if len(table.parts) > 1:
            raise LabelError(str(table.source), f"has the parts {known}", "name one with --part")
        return next(iter(table.parts))
    for name in table.parts:
        if part.casefold() == name.casefold() or _PART_ALIASES.get(part.casefold()) == name:
            return name
    raise LabelError(str(table.source), f"has no part {show(part)}", f"choose one of {known}")


def _read_table(path: Path) -> _Table:
    source = find_yaml(path) if path.is_dir() else path
    if source is not None:
        return _yaml_table(read_yaml(source), source)
    parts = _folder_parts(path)
    class_file = next((path / name for name in _CLASS_FILES if (path / name).is_file()), None)
    if class_file is None or not parts:
        raise LabelError(str(path), "has no data.yaml, and no classes.txt beside images/ and labels/", "add one")
    names = tuple(line.strip() for line in _read_text(class_file).splitlines() if line.strip())
    return _Table(path, path, _check_names(names, str(class_file)), parts)


def _folder_parts(folder: Path) -> dict[str, tuple[str, ...]]:
    """Parts by folder names: images/ beside labels/, with or without parts below, or such a pair in each part."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        inner = [path.name for path in _folders(folder / "images")]
        if not inner or any(_is_photograph(path) for path in (folder / "images").iterdir()):
            return {"all": ("images",)}
        return {_PART_KEYS.get(name, name): (f"images/{name}",) for name in inner}
    return {
        _PART_KEYS.get(path.name, path.name): (f"{path.name}/images",)
        for path in _folders(folder)
        if (path / "images").is_dir() and (path / "labels").is_dir()
    }


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))


def _yaml_table(tree: dict[str, Value], source: Path) -> _Table:
    root = source.parent
    own = tree.get("path")
    if isinstance(own, str) and own.strip("./\\"):
        with contextlib.suppress(InputError, OSError, ValueError):  # a folder of another computer
            inner = files.safe_join(root, own.replace("\\", "/"))
            root = inner if inner.is_dir() else root
    parts: dict[str, tuple[str, ...]] = {}
    for key, name in _PART_KEYS.items():
        value = tree.get(key, "")
        places = tuple(value.values()) if isinstance(value, dict) else (value,) if isinstance(value, str) else value
        places = tuple(_place(place, root, source, key) for place in places if place.strip())
        if places:
            parts[name] = places
    if not parts:
        raise LabelError(str(source), "names no photographs", "add 'train: images/train', or where they lie")
    return _Table(root, source, _yaml_names(tree, str(source)), parts)


def _place(value: str, root: Path, source: Path, key: str) -> str:
    """A path of the YAML file as a name below `root`."""
    name = value.strip().replace("\\", "/").removeprefix("../")
    try:
        files.safe_join(root, name).exists()
    except InputError as error:
        raise LabelError(f"{source}: {key}", f"{show(value)} {error.problem}", f"write it relative to {root}") from None
    except (OSError, ValueError):
        raise LabelError(f"{source}: {key}", f"{show(value)} cannot be looked up", "correct the path") from None
    return PurePosixPath(name).as_posix()


def _yaml_names(tree: dict[str, Value], item: str) -> tuple[str, ...]:
    names = tree.get("names", "")
    if isinstance(names, dict):
        numbers = {int(key): name for key, name in names.items() if re.fullmatch(r"\d{1,6}", key, re.ASCII)}
        if sorted(numbers) != list(range(len(names))):
            raise LabelError(item, f"names are numbered {show(list(names))}, not from 0 on", "renumber them")
        names = [numbers[number] for number in range(len(names))]
    elif isinstance(names, str):
        count = tree.get("nc", "")
        if names or not isinstance(count, str) or not re.fullmatch(r"\d{1,6}", count, re.ASCII):
            raise LabelError(item, "has no table of class names", "add 'names: [lesion]'")
        names = [f"class_{number}" for number in range(min(int(count), _MAX_CLASSES + 1))]  # as Ultralytics calls them
    return _check_names(tuple(names), item)


def _check_names(names: tuple[str, ...], item: str) -> tuple[str, ...]:
    if not names or len(names) > _MAX_CLASSES:
        raise LabelError(item, f"names {len(names):,} classes", f"name 1 to {_MAX_CLASSES:,}")
    for index, name in enumerate(names):
        if not name.strip():
            raise LabelError(item, f"class {index} has an empty name", "name it")
        if name in names[:index]:
            raise LabelError(item, f"class name {show(name)} appears twice", "rename one")
    return names


def _photographs(table: _Table, part: str, problems: Problems) -> Iterable[str]:
    """Names below the root of a part's photographs, in order, each once."""
    names: dict[str, None] = {}
    for place in table.parts[part]:
        path = table.root / place
        if path.is_dir():
            found = sorted(path.rglob("*"))
            names |= {one.relative_to(table.root).as_posix(): None for one in found if _is_photograph(one)}
        elif path.is_file() and path.suffix.lower() == ".txt":
            names |= dict.fromkeys(_listed(table, path, problems))
        elif path.is_file() and _is_photograph(path):
            names[place] = None
        else:
            raise LabelError(
                str(table.source), f"part {part}: {show(place)} is not in {table.root}", "correct the path"
            )
    if not names:
        raise LabelError(str(table.source), f"part {part} has no photograph", "check its path")
    return names


def _listed(table: _Table, path: Path, problems: Problems) -> Iterator[str]:
    """The photographs that a text file lists, one a line."""
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        name = line.strip().replace("\\", "/")
        # Datumaro, which makes CVAT's exports, may write "data/images/..." for what lies in images/.
        if name.startswith("data/") and not (table.root / "data").is_dir():
            name = name.removeprefix("data/")
        if name:
            item = f"{path}: line {number}"
            try:
                photograph = files.safe_join(table.root, name)
                if not photograph.is_file():
                    raise LabelError(item, f"photograph {show(name)} is not in {table.root}", "add it")
                yield PurePosixPath(name).as_posix()
            except InputError as error:
                problem = error.problem if error.item == item else f"photograph {show(name)} {error.problem}"
                problems.add(LabelError(item, problem, "correct the list"))
            except (OSError, ValueError):
                problems.add(LabelError(item, f"photograph {show(name)} cannot be looked up", "correct the list"))


def _is_photograph(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and not path.name.startswith(".") and path.is_file()


def _label_name(photograph: str) -> str:
    """The name below the root of a photograph's text file."""
    pure = PurePosixPath(photograph)
    folders = list(pure.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return PurePosixPath(*folders, f"{pure.stem}.txt").as_posix()


def _report_orphans(table: _Table, part: str, seen: set[Path], problems: Problems) -> None:
    """Label files without a photograph, in labels/ folders that belong to the part as a whole."""
    for place in table.parts[part]:
        folder = table.root / PurePosixPath(_label_name(f"{place}/x")).parent
        if not (table.root / place).is_dir() or folder.name == place or "images" not in PurePosixPath(place).parts:
            continue
        for text in sorted(folder.rglob("*.txt")) if folder.is_dir() else ():
            if text not in seen and text.name != "classes.txt":
                problems.add(LabelError(str(text), f"has no photograph in {table.root / place}", "add or remove it"))
