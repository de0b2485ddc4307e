"""Tables that stand beside photographs: patient, lesion, diagnosis and licence of each.

Read are CSV files with a header, and the one known without:

    isic-cli              metadata.csv: isic_id, attribution, copyright_license, ..., diagnosis or diagnosis_1 to
                          diagnosis_5 (coarse to fine), lesion_id, patient_id
    HAM10000              HAM10000_metadata(.csv): lesion_id, image_id, dx, ...
    challenge, year 2016  ..._Part3_..._GroundTruth.csv without a header: ISIC_0000000,benign
    challenge, year 2017  ..._Data_metadata.csv: image_id, age_approximate, sex (nothing to split by), and
                          ..._Part3_GroundTruth.csv: image_id, melanoma, seborrheic_keratosis as 0 and 1
    challenge, from 2018  ..._GroundTruth.csv: image, MEL, NV, BCC, ... as 0 and 1; ..._LesionGroupings.csv: image,
                          lesion_id, ...; ..._Metadata.csv of 2019: image, ..., lesion_id
    anyone's              index.csv or metadata.csv: image_id, and any of these columns

A diagnosis is carried through as text, to spread kinds evenly. Nothing here judges it.
Source of the columns: the files themselves, and isic-cli's `image download`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from dermask import images
from dermask.data.checks import show
from dermask.data.dataset import Dataset
from dermask.errors import LabelError
from dermask.records import PhotoInfo

MAX_BYTES = 256 * 2**20
"""The table of the whole ISIC archive, half a million photographs, is smaller than this."""

_ID_COLUMNS = ("isic_id", "image_id", "image_name", "image", "img_id", "file_name", "filename")
_DIAGNOSIS_COLUMNS = ("diagnosis", "dx", "diagnosis_3", "diagnosis_2", "diagnosis_1", "diagnostic", "class")
_LICENCE_COLUMNS = ("copyright_license", "license", "licence")
_KINDS = frozenset(
    ("mel", "nv", "bcc", "ak", "akiec", "bkl", "df", "vasc", "scc", "unk", "melanoma", "seborrheic_keratosis", "nevus")
)
"""Columns that hold 0 or 1 for a diagnosis of their name. 2017 counts everything else as a third kind."""
_NOTHING = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "-", "?"})
_NEITHER = "neither"
_CURE = "correct the table, or name another with --metadata"
_WITHOUT_HEADER = re.compile(r"ISIC_\d{7}")
_NAMES = ("metadata.csv", "index.csv", "HAM10000_metadata.csv", "HAM10000_metadata")
_PATTERNS = ("*_Part3_*GroundTruth.csv", "*_Part3_GroundTruth.csv", "*_LesionGroupings.csv", "*_[Mm]etadata.csv")
_LEVELS_UP = 2


def find_metadata(dataset: Dataset) -> Path | None:
    """The table that stands beside or above a data set's photographs or labels; None if there is none.

    Looked for, in this order, in the folders of the photographs and of the labels and two levels above: metadata.csv,
    index.csv, HAM10000_metadata, the challenges' diagnoses and metadata. The first wins that knows at least one
    of the photographs and says anything about it; a table of something else that happens to lie there is passed over.
    """
    ids = {sample.image_id for sample in dataset}
    if not ids:
        return None
    for folder in _folders(dataset):
        for path in _candidates(folder):
            try:
                known = read_metadata(path)
            except LabelError:
                continue  # some other program's metadata.csv; --metadata names a wrong one
            if any(any(known[image_id]) for image_id in ids & known.keys()):
                return path
    return None


def read_metadata(path: Path) -> dict[str, PhotoInfo]:
    """What a table says of each photograph, by `image_id` (the file's name without its suffix).

    Commas, semicolons and tabs are understood as separators, and a byte order mark is passed over. A value such as
    "unknown" or "NA" says nothing. Where kinds stand in columns of 0 and 1, the largest names the diagnosis.

    Raises:
        LabelError: The table cannot be read, has no column of ids, or names a photograph twice with different values;
            says in which line.
    """
    path = Path(path)
    rows = _rows(path)
    number, header = next(rows, (0, []))
    if not header:
        raise LabelError(str(path), "is empty", _CURE)
    if len(header) == 2 and _WITHOUT_HEADER.fullmatch(header[0].strip()):
        return _collect([(number, header), *rows], ["image_id", "diagnosis"], path)
    columns = [name.strip().casefold() for name in header]
    for name in columns:
        if name and columns.count(name) > 1:
            raise LabelError(f"{path}: line {number}", f"column {show(name)} stands twice", _CURE)
    if not any(name in columns for name in _ID_COLUMNS):
        raise LabelError(
            f"{path}: line {number}",
            f"has no column of ids; the columns are {show(header)}",
            "name the column isic_id or image_id",
        )
    return _collect(rows, columns, path)


def is_isic_cli_folder(folder: Path) -> bool:
    """Whether a folder is what isic-cli downloads: photographs with metadata.csv, and no outlines."""
    table = folder / "metadata.csv"
    if not table.is_file():
        return False
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(10_000).casefold().split(",")
    except OSError:
        return False
    return "isic_id" in header and any(path.suffix.lower() in images.SUFFIXES for path in folder.iterdir())


def no_outlines(folder: Path) -> LabelError:
    """What to tell of an isic-cli folder that is opened as labelled photographs."""
    return LabelError(
        str(folder),
        "is a download of isic-cli: photographs and metadata.csv, and no outlines",
        "outline them first (dermask predict, or a label tool), then name the labels with --images for this folder",
    )


def _folders(dataset: Dataset) -> list[Path]:
    starts: dict[Path, None] = {}
    for sample in dataset:
        if isinstance(sample.image, Path):
            starts.setdefault(sample.image.parent.absolute())
        if len(starts) > 100:  # a folder for each photograph
            break
    if dataset.source is not None:
        source = dataset.source.absolute()
        starts.setdefault(source if source.is_dir() else source.parent)
    by_distance: dict[Path, None] = {}
    for distance in range(_LEVELS_UP + 1):
        for start in starts:
            for folder in (start, *start.parents)[distance : distance + 1]:
                by_distance.setdefault(folder)
    return list(by_distance)


def _candidates(folder: Path) -> list[Path]:
    try:
        paths = [folder / name for name in _NAMES]
        paths += [path for pattern in _PATTERNS for path in sorted(folder.glob(pattern))]
        return [path for path in dict.fromkeys(paths) if path.is_file()]
    except OSError:  # a folder above that may not be listed
        return []


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not blank."""
    text = _read_text(path)
    first = next(iter(text[:100_000].lstrip().splitlines()), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise LabelError(f"{path}: line {reader.line_num}", f"is not CSV: {error}", _CURE) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise LabelError(str(path), f"has {size / 2**20:,.0f} MiB; a table has at most {MAX_BYTES >> 20}", _CURE)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelError(str(path), "no such file", "check the path") from None
    except UnicodeDecodeError as error:
        raise LabelError(str(path), f"is not UTF-8 text: {error.reason}", "save the table as UTF-8") from None
    except OSError as error:
        raise LabelError(str(path), f"cannot be read: {error.strerror or error}", _CURE) from None


def _collect(
    rows: Iterator[tuple[int, list[str]]] | Sequence[tuple[int, list[str]]], columns: Sequence[str], path: Path
) -> dict[str, PhotoInfo]:
    id_column = next(name for name in _ID_COLUMNS if name in columns)
    kinds = [name for name in columns if name in _KINDS]
    found: dict[str, PhotoInfo] = {}
    lines: dict[str, int] = {}
    for number, cells in rows:
        item = f"{path}: line {number}"
        if len(cells) != len(columns):
            raise LabelError(item, f"has {len(cells)} cells where the first line has {len(columns)}", _CURE)
        row = dict(zip(columns, cells, strict=True))
        image_id = _image_id(row[id_column])
        if not image_id:
            raise LabelError(item, f"{id_column} is empty", _CURE)
        info = PhotoInfo(
            patient_id=_said(row, "patient_id"),
            lesion_id=_said(row, "lesion_id"),
            diagnosis=_said(row, *_DIAGNOSIS_COLUMNS) or _kind(row, kinds, item),
            licence=_said(row, *_LICENCE_COLUMNS),
        )
        if found.setdefault(image_id, info) != info:
            problem = f"{show(image_id)} stands in line {lines[image_id]} too, with other values"
            raise LabelError(item, problem, "keep one of the two")
        lines.setdefault(image_id, number)
    if not found:
        raise LabelError(str(path), "has a header and no photograph", _CURE)
    return found


def _image_id(cell: str) -> str:
    """The id in a cell, which may be a file name."""
    name = PurePosixPath(cell.strip().replace("\\", "/"))
    return name.stem if name.suffix.lower() in images.SUFFIXES else name.name


def _said(row: Mapping[str, str], *columns: str) -> str | None:
    """The first of these columns that says something."""
    for column in columns:
        value = row.get(column, "").strip()
        if value.casefold() not in _NOTHING:
            return value
    return None


def _kind(row: Mapping[str, str], kinds: Sequence[str], item: str) -> str | None:
    """The diagnosis of columns with 0 and 1, or with probabilities that sum to 1."""
    if not kinds:
        return None
    values = {}
    for kind in kinds:
        text = row[kind].strip()
        try:
            values[kind] = float(text or 0)
        except ValueError:
            raise LabelError(item, f"{kind} {show(text)} is not a number", _CURE) from None
        if not 0 <= values[kind] <= 1:
            raise LabelError(item, f"{kind} {show(text)} is not between 0 and 1", _CURE)
    best = max(kinds, key=values.__getitem__)
    return best if values[best] > 0 else _NEITHER
