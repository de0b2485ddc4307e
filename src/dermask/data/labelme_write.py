"""labelme JSON, written: a folder with one file per photograph, all of them or none."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dermask import files, images, masks
from dermask.data.dataset import Dataset
from dermask.data.file_write import photograph_root, refuse_existing
from dermask.data.labelme import IGNORED
from dermask.data.tool_regions import lost_classes
from dermask.data.tracing import as_polygons
from dermask.errors import InputError
from dermask.records import BoolArray, ImageSize, Polygons, Rle, Sample
from dermask.wording import plural

_VERSION = "6.3.1"
"""Of labelme, whose form is written."""


def write_labelme(dataset: Dataset, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a folder of labelme JSONs.

    Photographs stay where they are and are named relative to their JSON, as labelme does when its output folder is
    another; `imageData` is null. Where all photographs lie below `path`, each JSON comes beside its photograph, else
    the sub-folders that the photographs have below their common folder are made under `path`. Outlines of several parts
    become polygons of one group, those with holes masks. Photographs that exist only in memory are saved as PNG beside
    their JSON.

    Args:
        dataset: What to write.
        path: The folder; other files in it stay.
        overwrite: Whether to replace files that are there.

    Returns:
        One line for each kind of thing the format could not hold.

    Raises:
        OutputExistsError: One of the files is there already; nothing is written then.
        InputError: A photograph or mask cannot be read, or an image id is no file name.
    """
    path = path.absolute()
    places = _json_places(dataset, path)
    pictures = {index: _picture_place(places[index]) for index, one in enumerate(dataset) if not _has_file(one)}
    refuse_existing((path / place for place in (*places, *pictures.values())), overwrite=overwrite)
    losses = _Losses()
    with _all_or_none(path) as temporary:
        for index, sample in enumerate(dataset):
            size = dataset.size(index)
            target = path / places[index]
            if isinstance(sample.image, Path):
                image_path = _relative(sample.image.absolute(), target.parent)
            else:
                image_path = pictures[index].name
                images.write_png(temporary / pictures[index], sample.image)
            tree: dict[str, Any] = {
                "version": _VERSION,
                "flags": {},
                "shapes": _shapes(sample, size, dataset.class_names, losses),
                "imagePath": image_path,
                "imageData": None,
                "imageHeight": size.height,
                "imageWidth": size.width,
            }
            files.write_text(temporary / places[index], json.dumps(tree, indent=2) + "\n")
    losses.num_renamed = sum(
        isinstance(one.image, Path) and place.stem != one.image.stem for one, place in zip(dataset, places, strict=True)
    )
    return losses.lines(dataset)


class _Losses:
    """What labelme cannot hold, counted."""

    def __init__(self) -> None:
        self.num_crowds = self.num_empty = self.num_renamed = 0

    def lines(self, dataset: Dataset) -> tuple[str, ...]:
        lines = []
        if self.num_crowds and len(dataset.class_names) > 1:
            lines.append(f"{plural(self.num_crowds, 'crowd region')} written as {IGNORED!r}, without its class")
        if self.num_empty:
            lines.append(f"{plural(self.num_empty, 'outline')} without a pixel left out")
        if self.num_renamed:
            lines.append(
                f"{plural(self.num_renamed, 'JSON')} named with the photograph's suffix, because another photograph "
                "has the same stem: labelme opens them as files, not by their photograph"
            )
        return (*lines, *lost_classes(dataset))


def _has_file(sample: Sample) -> bool:
    return isinstance(sample.image, Path)


def _json_places(dataset: Dataset, path: Path) -> list[PurePosixPath]:
    """Where the JSON of each photograph goes below `path`; distinct, also where the file system ignores case."""
    root = photograph_root(dataset, path)
    places: list[PurePosixPath] = []
    taken: set[str] = set()
    for sample in dataset:
        if isinstance(sample.image, Path):
            name = PurePosixPath(sample.image.absolute().relative_to(root).as_posix())
        else:
            files.safe_join(path, sample.image_id)
            name = PurePosixPath(sample.image_id.replace("\\", "/") + ".png")
        place, number = name.with_suffix(".json"), 1
        while str(place).casefold() in taken:
            place = name.with_name(f"{name.name}{'' if number == 1 else f'_{number}'}.json")
            number += 1
        taken.add(str(place).casefold())
        places.append(place)
    return places


def _picture_place(place: PurePosixPath) -> PurePosixPath:
    return place.with_suffix(".png")


def _relative(photograph: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(photograph, folder)).as_posix()
    except ValueError:  # Windows, another drive
        cure = "choose a folder on the same drive"
        raise InputError(str(photograph), f"has no path relative to {folder}", cure) from None


@contextlib.contextmanager
def _all_or_none(path: Path) -> Iterator[Path]:
    """A folder whose files go to the same places below `path` once the block has ended without an error.

    What stands in their way is kept until all are there, and comes back if one cannot be placed.
    """
    made = _missing_folders(path)
    files.make_folder(path)
    temporary, old = (path / f".{secrets.token_hex(8)}.{kind}" for kind in ("tmp", "old"))
    placed: list[Path] = []
    try:
        temporary.mkdir()
        yield temporary
        for file in sorted(one for one in temporary.rglob("*") if one.is_file()):
            place = file.relative_to(temporary)
            made += _missing_folders((path / place).parent)
            files.make_folder((path / place).parent)
            if (path / place).exists():
                files.make_folder((old / place).parent)
                (path / place).replace(old / place)
            placed.append(place)
            file.replace(path / place)
    except BaseException as error:
        for place in placed:
            (path / place).unlink(missing_ok=True)
        for file in [one for one in old.rglob("*") if one.is_file()]:
            file.replace(path / file.relative_to(old))
        _remove(temporary, old)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(str(path), f"cannot be written: {reason}", "choose another place or make room") from None
        raise
    _remove(temporary, old)


def _missing_folders(path: Path) -> list[Path]:
    """The folders that would have to be made for `path`, the outermost first."""
    return [folder for folder in reversed((path, *path.parents)) if not folder.exists()]


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


# Shapes


def _shapes(sample: Sample, size: ImageSize, class_names: Sequence[str], losses: _Losses) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = []
    group_id = 0
    for instance in sample.instances:
        bitmask = masks.outline_bitmask(instance.outline, size)
        if not bitmask.any():
            losses.num_empty += isinstance(instance.outline, Polygons | Rle)  # a black mask image says: no lesion
            continue
        label = IGNORED if instance.is_crowd else class_names[instance.label - 1]
        losses.num_crowds += instance.is_crowd
        polygons = as_polygons(instance.outline, bitmask)
        if polygons is None:
            shapes.append(_mask_shape(label, bitmask))
            continue
        several = len(polygons.parts) > 1
        group_id += several
        shapes += [_shape(label, part.tolist(), "polygon", group_id if several else None) for part in polygons.parts]
    return shapes


def _shape(label: str, points: list[list[float]], kind: str, group_id: int | None = None) -> dict[str, Any]:
    head = {"label": label, "points": points, "group_id": group_id, "description": ""}
    return head | {"shape_type": kind, "flags": {}, "mask": None}


def _mask_shape(label: str, bitmask: BoolArray) -> dict[str, Any]:
    x1, y1, x2, y2 = masks.mask_box(bitmask).astype(int).tolist()
    png = images.encode_png(bitmask[y1:y2, x1:x2])
    points = [[float(x1), float(y1)], [float(x2 - 1), float(y2 - 1)]]  # labelme's last column and row are included
    return _shape(label, points, "mask") | {"mask": base64.b64encode(png).decode()}
