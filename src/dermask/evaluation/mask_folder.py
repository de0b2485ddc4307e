"""A folder of mask images of any program as predictions: one image per photograph, as the ISIC challenges take them.

A mask belongs to the photograph whose id its name holds: `ID_segmentation.png`, `ID_Segmentation.png`, `ID.png`,
`ID_mask.png`, `pred_ID.png` and the like, in any case; of an id such as ISIC_0012345 the seven digits do, as for the
official scorer. Pixels above 128 are lesion, nothing is ever resized, and one image is one detection with score 1; an
image without such a pixel says that nothing was found.

The official scorer takes single-channel files alone. Palettes, and three channels that are equal, are taken here too:
they hold the same grey. Colours are refused, since which of them means lesion cannot be told.

Shapes: H, W height and width of the photograph.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dermask import images, masks
from dermask.data.dataset import Dataset
from dermask.errors import ImageError, InputError
from dermask.evaluation.photo_masks import PredictedMasks
from dermask.records import BoolArray, ByteArray, ImageSize
from dermask.wording import plural

Note = Callable[[str], None]
"""Called with one line that a person should read."""

_SEPARATORS = re.compile(r"[_\-. ]+")
_ISIC_ID = re.compile(r"ISIC_(\d{7})", re.IGNORECASE)
_SEVEN_DIGITS = re.compile(r"(?<!\d)\d{7}(?!\d)")
_ROWS_AT_ONCE = 256  # bounds the temporaries of a large mask


class _Levels(NamedTuple):
    """What grey levels a mask image has."""

    distinct: int
    highest: int


@dataclass(frozen=True, slots=True, eq=False)
class MaskFolder:
    """Mask images that stand for predictions, one per photograph; each is decoded when it is asked for.

    Attributes:
        folder: Where they lie.
        files: One per photograph, in the data set's order.
        dataset: The photographs.
        left_out: How many further images of the folder belong to none of the photographs.
        note: Told at the end of every pass what was taken otherwise than a mask of 0 and 255.
    """

    folder: Path
    files: tuple[Path, ...]
    dataset: Dataset
    left_out: int = 0
    note: Note = lambda line: None

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[PredictedMasks]:
        """The masks in the data set's order.

        Raises:
            ImageError: A file is unreadable, or coloured.
        """
        grey: list[Path] = []
        dark: list[Path] = []
        for index, path in enumerate(self.files):
            bitmask, levels = _read_mask(path)
            if 0 < levels.highest <= images.MASK_THRESH:
                dark.append(path)
            elif levels.distinct > 2:
                grey.append(path)
            yield _as_prediction(bitmask, self.dataset.size(index), self.dataset[index].image_id)
        for line in _describe_levels(self.folder, grey, dark):
            self.note(line)

    def sha256(self) -> str:
        """Hex SHA-256 of the masks in order: names and contents."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
            digest.update(f"{path.name}\0{content.hexdigest()}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_mask_folder(folder: Path, dataset: Dataset, *, note: Note | None = None) -> MaskFolder:
    """Find the mask of every photograph; only names and headers are read.

    Args:
        folder: Holds the masks, or a folder `masks` with them, as `dermask predict` writes it.
        dataset: The photographs that the masks are for. Further masks in the folder are left out.
        note: Gets a line for each thing taken otherwise than by the letter.

    Raises:
        InputError: No masks, none for some photographs, two for one, one of another size, or several classes.
        ImageError: A file is no image.
    """
    if len(dataset.class_names) > 1:
        raise InputError(
            str(folder),
            f"masks do not say a lesion's class, and {dataset.name or 'the data set'} has {len(dataset.class_names)}",
            "save COCO results, which do",
        )
    folder = _with_masks(folder)
    paths = list_masks(folder)
    if not paths:
        raise InputError(str(folder), "holds no mask images", "put ID_segmentation.png there, one for each photograph")
    found = _by_photograph(paths, dataset)
    _check_complete(folder, found, dataset, len(paths))
    files = tuple(found[index][0] for index in range(len(dataset)))
    _check_sizes(files, dataset)
    left_out = len(paths) - len(files)
    if left_out and note is not None:
        name = dataset.name or "the data set"
        verb = "is" if left_out == 1 else "are"
        note(f"{folder}: left out {plural(left_out, 'image')} that {verb} of no photograph of {name}")
    return MaskFolder(folder, files, dataset, left_out, note or (lambda line: None))


def list_masks(folder: Path) -> list[Path]:
    """The files of a folder that are named like images, in order of name; hidden files and superpixels are none.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(str(folder), f"cannot be read: {error.strerror}") from None
    return [
        path
        for path in paths
        if path.suffix.lower() in images.SUFFIXES
        and not path.name.startswith(".")
        and not path.stem.lower().endswith("_superpixels")
        and path.is_file()
    ]


def holds_masks(folder: Path) -> bool:
    """Whether `open_mask_folder` would find images there.

    Raises:
        InputError: The folder cannot be read.
    """
    return bool(list_masks(_with_masks(folder)))


def _with_masks(folder: Path) -> Path:
    below = folder / "masks"
    return below if below.is_dir() and not list_masks(folder) else folder


def _by_photograph(paths: Sequence[Path], dataset: Dataset) -> dict[int, list[Path]]:
    """Index of the photograph to the images whose names hold its id."""
    by_id = {sample.image_id.casefold(): index for index, sample in enumerate(dataset)}
    by_number: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(dataset):
        if match := _ISIC_ID.search(sample.image_id):
            by_number[match[1]].append(index)
    found: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        indices = _named_photographs(path.stem.casefold(), by_id, by_number)
        if len(indices) > 1:
            first, second = (dataset[index].image_id for index in indices[:2])
            raise InputError(str(path), f"is called after two photographs, {first} and {second}", "rename it")
        if indices:
            found[indices[0]].append(path)
    return found


def _named_photographs(stem: str, by_id: dict[str, int], by_number: dict[str, list[int]]) -> list[int]:
    """The photographs that a file's name can mean: by the whole name, its start, any part, then seven digits."""
    starts = [0, *(match.end() for match in _SEPARATORS.finditer(stem))]
    ends = [*(match.start() for match in _SEPARATORS.finditer(stem)), len(stem)]
    for begin in ([0], starts):
        parts = {stem[start:end] for start in begin for end in ends if start < end}
        known = sorted((part for part in parts if part in by_id), key=len, reverse=True)
        # Of ids that lie in one another, such as "a" and "a_1", the longest is meant.
        longest = [part for part in known if not any(part in other for other in known if other != part)]
        if longest:
            return sorted(by_id[part] for part in longest)
    numbers = dict.fromkeys(_SEVEN_DIGITS.findall(stem))
    return [index for number in numbers for index in by_number.get(number, [])]


def _check_complete(folder: Path, found: dict[int, list[Path]], dataset: Dataset, num_files: int) -> None:
    name = dataset.name or "the data set"
    for index, paths in sorted(found.items()):
        if len(paths) > 1:
            image_id = dataset[index].image_id
            raise InputError(
                str(folder), f"has two masks for {image_id}, {paths[0].name} and {paths[1].name}", "remove one"
            )
    missing = [sample.image_id for index, sample in enumerate(dataset) if index not in found]
    if not missing:
        return
    if len(missing) == len(dataset):
        raise InputError(
            str(folder),
            f"none of its {plural(num_files, 'image')} is called after a photograph of {name}",
            f"name them as {missing[0]}_segmentation.png",
        )
    raise InputError(
        str(folder),
        f"has no mask for {len(missing):,} of {plural(len(dataset), 'photograph')} of {name}, the first {missing[0]}",
        "add them, all black where nothing was found",
    )


def _check_sizes(files: Sequence[Path], dataset: Dataset) -> None:
    wrong: list[tuple[Path, ImageSize, int]] = []
    for index, path in enumerate(files):
        size = images.image_size(path)
        if size != dataset.size(index):
            wrong.append((path, size, index))
    if not wrong:
        return
    path, size, index = wrong[0]
    expected = dataset.size(index)
    more = f", and {len(wrong) - 1:,} more {'differs' if len(wrong) == 2 else 'differ'}" if len(wrong) > 1 else ""
    photograph = dataset[index].image
    turned = size == (expected.width, expected.height) and isinstance(photograph, Path)
    raise InputError(
        str(path),
        f"is {size.width} x {size.height} pixels, the photograph {expected.width} x {expected.height}{more}",
        "turn the mask as the photograph's EXIF orientation says"
        if turned and images.orientation(photograph) != 1  # type: ignore[arg-type]
        else "save masks at the photograph's own size; nothing is resized here",
    )


def _read_mask(path: Path) -> tuple[BoolArray, _Levels]:
    """(H, W) bool, and the grey levels that it was cut from."""
    levels = images.decode_levels(path)
    histogram = np.zeros(256, np.int64)
    for rows in _in_parts(levels):
        histogram += np.bincount(rows.ravel(), minlength=256)
    used = np.flatnonzero(histogram)
    if not set(used.tolist()) <= {0, 255}:  # other levels may be the luma of colours
        _check_grey(path)
    return levels > images.MASK_THRESH, _Levels(len(used), int(used[-1]))


def _check_grey(path: Path) -> None:
    for rows in _in_parts(images.read_image(path)):
        if (rows[..., 0] != rows[..., 1]).any() or (rows[..., 0] != rows[..., 2]).any():
            raise ImageError(
                str(path), "is a picture in colours, not a mask", "save one channel, 255 for lesion and 0 elsewhere"
            )


def _in_parts(pixels: ByteArray) -> Iterator[ByteArray]:
    for start in range(0, len(pixels), _ROWS_AT_ONCE):
        yield pixels[start : start + _ROWS_AT_ONCE]


def _as_prediction(bitmask: BoolArray, size: ImageSize, image_id: str) -> PredictedMasks:
    count = int(bitmask.any())
    return PredictedMasks(
        masks=(masks.bitmask_to_rle(bitmask),) * count,
        boxes=masks.mask_boxes(bitmask[None])[:count],
        scores=np.ones(count, np.float32),
        labels=np.ones(count, np.int64),
        size=size,
        image_id=image_id,
    )


def _describe_levels(folder: Path, grey: Sequence[Path], dark: Sequence[Path]) -> Iterator[str]:
    thresh = images.MASK_THRESH
    if grey:
        yield (
            f"{folder}: {plural(len(grey), 'mask')} with more than two grey levels, the first {grey[0].name}: "
            f"taken as a map of probabilities, lesion above {thresh}"
        )
    if dark:
        yield (
            f"{folder}: {plural(len(dark), 'mask')} with no level above {thresh} and yet not black, the first "
            f"{dark[0].name}: nothing found there, as the challenges have it; if that is not meant, save lesion as 255"
        )
