"""A data set: photographs with their outlines, class names and where they came from.

Photographs and mask images stay on disk until `Dataset.load` asks for them; outlines of label files are kept as
polygons or run lengths. Readers (`coco`, `via`, `isic`, ...) make data sets, `formats.open_dataset` picks the reader.

Shapes: M objects of one photograph (may be 0), H, W its height and width, EXIF orientation applied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from dermask import images, masks
from dermask.errors import ImageError, InputError, LabelError
from dermask.records import (
    BoolArray,
    ByteArray,
    ImageSize,
    Instance,
    IntArray,
    MaskFile,
    Outline,
    Polygons,
    Rle,
    Sample,
)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedSample:
    """One photograph and its objects as pixels.

    Attributes:
        image: (H, W, 3) uint8 RGB. For a photograph that exists only in memory this is the data set's own array.
        masks: (M, H, W) bool, row by row in memory; each has at least one pixel. A single mask that was in memory is
            the data set's own array too.
        labels: (M,) int64 from 1.
        ignored: (H, W) bool, the crowd regions, which are neither lesion nor background; None where there are none.
        image_id: Which photograph.
    """

    image: ByteArray
    masks: BoolArray
    labels: IntArray
    ignored: BoolArray | None
    image_id: str


@dataclass(frozen=True, slots=True)
class ReadProblem:
    """Something that a reader found wrong and left out.

    Attributes:
        error: Item, problem and cure.
        photograph: Where the photograph lies that it belongs to, as far as that was found.
    """

    error: InputError
    photograph: Path | None = None


class Dataset(Sequence[Sample]):
    """Photographs with labels; immutable, and cheap to select from.

    Args:
        samples: The photographs in order; their `image_id` must be distinct.
        class_names: Name of label i at index i - 1.
        name: What to call it in reports and messages.
        source: The label file or folder it was read from.
        categories: Label to the category id of the label file, with which results are written; by default a label is
            its own category id.
        skipped: One line for each thing the reader left out, with what was wrong and the cure.
        problems: The same, taken apart for the audit.
        notes: One line for each thing the reader took otherwise than the file's format has it by the letter.

    Raises:
        LabelError: An `image_id` is used twice, or a label has no class name.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        class_names: tuple[str, ...] = ("lesion",),
        name: str = "",
        source: Path | None = None,
        categories: Mapping[int, int] | None = None,
        *,
        skipped: Iterable[str] = (),
        problems: Iterable[ReadProblem] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self._samples = tuple(samples)
        self.class_names = tuple(class_names)
        self.name = name
        self.source = source
        labels = range(1, len(self.class_names) + 1)
        self.categories = {label: label for label in labels} if categories is None else dict(categories)
        self.skipped = tuple(skipped)
        self.problems = tuple(problems)
        self.notes = tuple(notes)
        self._check()

    def _check(self) -> None:
        seen: set[str] = set()
        for sample in self._samples:
            if sample.image_id in seen:
                raise LabelError(f"{self.name or 'data set'}: image {sample.image_id!r}", "appears twice", "rename one")
            seen.add(sample.image_id)
            for instance in sample.instances:
                if not 1 <= instance.label <= len(self.class_names):
                    known = ", ".join(self.class_names)
                    raise LabelError(
                        f"{self.name or 'data set'}: image {sample.image_id!r}",
                        f"label {instance.label} has no class name; labels count from 1 and the classes are {known}",
                    )

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} photographs, classes {', '.join(self.class_names)})"

    def select(self, indices: Iterable[int]) -> Dataset:
        """The photographs at these indices, in that order; `skipped`, `problems` and `notes` stay with the whole."""
        chosen = [self._samples[index] for index in indices]
        return Dataset(chosen, self.class_names, self.name, self.source, self.categories)

    def split(self, parts: Sequence[int] | Sequence[float], *, seed: int) -> list[Dataset]:
        """Disjoint parts by counts or fractions; see `splits.split_by_seed`."""
        from dermask.data.splits import split_by_seed  # splits knows this module

        return split_by_seed(self, parts, seed=seed)

    def size(self, index: int) -> ImageSize:
        """Height and width of one photograph, from its header where the label file does not state it.

        Raises:
            ImageError: The photograph cannot be read.
        """
        sample = self._samples[index]
        if sample.size is not None:
            return sample.size
        if isinstance(sample.image, Path):
            return images.image_size(sample.image)
        return ImageSize(*sample.image.shape[:2])

    def load(self, index: int) -> LoadedSample:
        """One photograph with its masks, decoded.

        An outline without a single pixel, such as an all-black ISIC mask, is no object: the photograph then simply
        has fewer, perhaps none. Crowd regions go into `ignored`.

        Raises:
            ImageError: The photograph or a mask image cannot be read.
            InputError: The photograph or a mask does not have the size that the labels state.
        """
        sample = self._samples[index]
        image = images.read_image(sample.image) if isinstance(sample.image, Path) else sample.image
        size = ImageSize(*image.shape[:2])
        if sample.size is not None and sample.size != size:
            raise LabelError(
                f"{self.name or 'data set'}: image {sample.image_id!r}",
                f"the labels were drawn on {sample.size.width}x{sample.size.height} pixels, "
                f"the photograph has {size.width}x{size.height}",
                "restore the photograph that was labelled",
            )
        objects: list[BoolArray] = []
        labels: list[int] = []
        ignored: BoolArray | None = None
        for instance in sample.instances:
            mask = masks.outline_bitmask(instance.outline, size)
            if instance.is_crowd:
                ignored = mask if ignored is None else ignored | mask
            elif mask.any():
                objects.append(mask)
                labels.append(instance.label)
        return LoadedSample(image, _stack(objects, size), np.array(labels, np.int64), ignored, sample.image_id)

    def fingerprint(self) -> str:
        """Hex SHA-256 of classes, photographs and outlines, in order; the same on every machine.

        Files count by their name and byte size, not by folder or content, so that it stays cheap; what is in memory
        counts by content.

        Raises:
            ImageError: A photograph or mask image is missing.
        """
        digest = hashlib.sha256(_encode(["dermask-data-1", self.class_names, sorted(self.categories.items())]))
        for sample in self._samples:
            digest.update(_encode([sample.image_id, sample.size, sample.source_id, len(sample.instances)]))
            if isinstance(sample.image, Path):
                digest.update(_file_key(sample.image))
            else:
                digest.update(_encode(sample.image.shape))
                digest.update(np.ascontiguousarray(sample.image).tobytes())
            for instance in sample.instances:
                digest.update(_instance_key(instance))
        return digest.hexdigest()


def _stack(objects: Sequence[BoolArray], size: ImageSize) -> BoolArray:
    """(M, H, W), row by row in memory, which run lengths when decoded are not."""
    if len(objects) == 1:
        return np.ascontiguousarray(objects[0])[None]  # the usual photograph has one lesion: no copy of a mask file
    stacked = np.zeros((len(objects), *size), np.bool_)
    for row, mask in zip(stacked, objects, strict=True):
        row[:] = mask
    return stacked


def _encode(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _file_key(path: Path) -> bytes:
    try:
        return _encode([path.name, path.stat().st_size])
    except OSError:
        raise ImageError(str(path), "no such file", "restore it, or read the labels again") from None


def _instance_key(instance: Instance) -> bytes:
    head = _encode([instance.label, instance.is_crowd, type(instance.outline).__name__])
    return head + _outline_key(instance.outline)


def _outline_key(outline: Outline) -> bytes:
    match outline:
        case Polygons(parts):
            return b"".join(_encode(len(part)) + part.astype("<f8").tobytes() for part in parts)
        case Rle(counts, size):
            return _encode(size) + counts
        case MaskFile(path):
            return _file_key(path)
        case _:
            return _encode(outline.array.shape) + np.packbits(outline.array).tobytes()
