"""The record of a folder of results: one line of JSON per photograph, from which a later run goes on.

A photograph's line is written once its pictures are, so whatever the record holds is whole. The lesions stay in the
file: in memory a photograph costs a few hundred bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from dermask import files
from dermask.errors import ImageError, OutputExistsError
from dermask.inference.photographs import Photo
from dermask.records import ImageSize

RECORD_FILE = "predictions.jsonl"
RECORD_FORMAT = 1
COCO_FILE = "coco_results.json"
CSV_FILE = "lesions.csv"


@dataclass(frozen=True, slots=True)
class FoundLesion:
    """One lesion of a photograph as it stands in the record.

    Attributes:
        label: Class from 1, the category id of results.
        class_name: Its name.
        score: In [0, 1].
        bbox_xywh: x, y, width, height in pixels of the photograph.
        area: Pixels of the mask.
        counts: COCO's compressed run lengths of the mask at the photograph's size.
    """

    label: int
    class_name: str
    score: float
    bbox_xywh: tuple[float, float, float, float]
    area: int
    counts: str


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """What is kept about one photograph.

    Attributes:
        image_id: Unique in the folder; names the photograph's files.
        file: Where the photograph was, see `Photo.file`.
        stamp: What changes when the file changes.
        size: Height and width in pixels.
        saved: Pictures that were written.
        lesions: Everything found, best first, down to the model's own threshold.
    """

    image_id: str
    file: str
    stamp: str
    size: ImageSize
    saved: tuple[str, ...]
    lesions: tuple[FoundLesion, ...]

    def to_line(self) -> str:
        """One line of JSON, without the line's end."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PhotoRecord:
        """The record that `to_line` wrote, decoded from JSON."""
        lesions = tuple(
            FoundLesion(**{**lesion, "bbox_xywh": tuple(lesion["bbox_xywh"])}) for lesion in values["lesions"]
        )
        return cls(
            **{**values, "size": ImageSize(*values["size"]), "saved": tuple(values["saved"]), "lesions": lesions}
        )


def overlay_path(folder: Path, image_id: str) -> Path:
    """Where a photograph's overlay goes."""
    return folder / "overlays" / f"{image_id}_overlay.png"


def mask_path(folder: Path, image_id: str) -> Path:
    """Where a photograph's mask goes."""
    return folder / "masks" / f"{image_id}_segmentation.png"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered about a photograph of the record; its lesions stay in the file."""

    image_id: str
    stamp: str
    saved: tuple[str, ...]
    line_number: int


class Record:
    """The growing record of one folder of results; a context manager that closes the file.

    Args:
        folder: Where the results are; made if it is not there.
        header: What its results are made with: `model`, `class_names`, `options`, and what else is good to know.
        overwrite: Remove the results of earlier runs first, and only these.

    Raises:
        OutputExistsError: The folder holds results made with something else, or files under names that are needed.
    """

    def __init__(self, folder: Path, header: Mapping[str, object], *, overwrite: bool = False) -> None:
        if folder.exists() and not folder.is_dir():
            raise OutputExistsError(str(folder), "is a file", "give -o a folder")
        self.path = folder / RECORD_FILE
        self._known: dict[str, _Known] = {}  # by file
        self._ids: set[str] = set()  # case-folded: some file systems do not tell case apart
        self._lines = 1
        if overwrite:
            self._remove_results()
        if self.path.exists():
            self._resume(header)
        else:
            if not overwrite:
                self._refuse_foreign_files()
            files.write_text(self.path, json.dumps({"format": RECORD_FORMAT, **header}, ensure_ascii=False) + "\n")
        # File names that are not valid UTF-8 are written as JSON escapes them, and read back as they were.
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, photo: Photo, pictures: Sequence[str]) -> bool:
        """Whether this photograph, unchanged, already has these pictures."""
        known = self._known.get(photo.file)
        if known is None or not set(pictures) <= set(known.saved):
            return False
        try:
            return known.stamp == photo.stamp()
        except ImageError:
            return False

    def reserve_id(self, photo: Photo) -> str:
        """The file's stem, with its folder or a number where another photograph has that id already.

        It is taken from then on, whether or not the photograph is added: what the others are called must not depend
        on which of them was through first.
        """
        if photo.file in self._known:
            return self._known[photo.file].image_id
        parent = Path(photo.file).parent.name
        candidates = [photo.stem, f"{parent}_{photo.stem}"] if parent else [photo.stem]
        number = 2
        while candidates[0].casefold() in self._ids:
            candidates = candidates[1:] or [f"{photo.stem}_{number}"]
            number += 1
        self._ids.add(candidates[0].casefold())
        return candidates[0]

    def add(self, record: PhotoRecord) -> None:
        """Append a photograph whose pictures are written."""
        self._file.write(record.to_line() + "\n")
        self._file.flush()
        self._remember(record)

    def read(self) -> Iterator[PhotoRecord]:
        """The newest record of each photograph, one at a time."""
        newest = {known.line_number for known in self._known.values()}
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if number in newest:
                    yield PhotoRecord.from_dict(json.loads(line))

    def _remember(self, record: PhotoRecord) -> None:
        self._known[record.file] = _Known(record.image_id, record.stamp, record.saved, self._lines)
        self._ids.add(record.image_id.casefold())
        self._lines += 1

    def _resume(self, header: Mapping[str, object]) -> None:
        whole = 0
        with self.path.open("rb") as file:
            found = self._read_header(file.readline())
            self._refuse_other_results(found, header)
            whole = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break  # cut off when the run was killed; the photograph is done again
                self._remember(PhotoRecord.from_dict(json.loads(line)))
                whole += len(line)
        with self.path.open("rb+") as file:
            file.truncate(whole)

    def _read_header(self, line: bytes) -> dict[str, object]:
        try:
            found = json.loads(line)
            if found["format"] != RECORD_FORMAT:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise OutputExistsError(
                str(self.path), "is not a record of this version", "choose another -o folder, or pass --overwrite"
            ) from None
        return dict(found)

    def _refuse_other_results(self, found: dict[str, object], wanted: Mapping[str, object]) -> None:
        cure = "choose another -o folder, or pass --overwrite to replace them"
        folder = str(self.path.parent)
        if (found["model"], found["class_names"]) != (wanted["model"], wanted["class_names"]):
            raise OutputExistsError(folder, "holds results of another model", cure)
        if found["options"] != wanted["options"]:
            raise OutputExistsError(
                folder, f"holds results made with {_show(found['options'])}, not {_show(wanted['options'])}", cure
            )

    def _refuse_foreign_files(self) -> None:
        for name in ("overlays", "masks", COCO_FILE, CSV_FILE):
            if (self.path.parent / name).exists():
                raise OutputExistsError(
                    str(self.path.parent / name),
                    f"is in the way, and there is no {RECORD_FILE} that says what it is",
                    "choose another -o folder, or pass --overwrite",
                )

    def _remove_results(self) -> None:
        folder = self.path.parent
        if self.path.exists():
            with self.path.open("rb") as file:
                for line in file:
                    try:
                        image_id = Path(json.loads(line)["image_id"]).name
                    except (ValueError, KeyError, TypeError):
                        continue  # the header, or a line that was cut off
                    overlay_path(folder, image_id).unlink(missing_ok=True)
                    mask_path(folder, image_id).unlink(missing_ok=True)
        for name in (COCO_FILE, CSV_FILE, RECORD_FILE):
            (folder / name).unlink(missing_ok=True)


def _show(options: object) -> str:
    return (
        ", ".join(f"{name} {value}" for name, value in options.items()) if isinstance(options, dict) else str(options)
    )
