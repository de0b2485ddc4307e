"""The records that travel between the parts of dermask: plain, frozen, numpy only.

Shapes: N detections or M labelled objects of one photograph (either may be 0), S the mask head's resolution,
H, W the photograph's height and width as a person sees it (EXIF orientation applied).
Boxes are xyxy in absolute pixels of the photograph; pixel i covers [i, i + 1), so width is x2 - x1.
Labels count from 1; 0 is the background inside a model and appears in no record and no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]


class ImageSize(NamedTuple):
    """Height and width of a photograph in pixels, in that order."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Polygons:
    """An outline as one or more closed rings whose union is the object; holes need an `Rle` or a `Bitmask`.

    Attributes:
        parts: Each (K, 2) float64 xy in absolute pixels, K >= 3, the first point not repeated at the end.
    """

    parts: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True)
class Rle:
    """An outline as COCO's compressed run lengths, column by column.

    Attributes:
        counts: COCO's compressed byte string.
        size: Height and width of the encoded bitmask.
    """

    counts: bytes
    size: ImageSize


@dataclass(frozen=True, slots=True)
class MaskFile:
    """An outline kept in a mask image beside the photograph and read when asked for.

    Attributes:
        path: A single-channel image of the photograph's size; pixels above 128 belong to the object.
    """

    path: Path


@dataclass(frozen=True, slots=True, eq=False)
class Bitmask:
    """An outline as a full-size bitmask.

    Attributes:
        array: (H, W) bool.
    """

    array: BoolArray


Outline = Polygons | Rle | MaskFile | Bitmask


@dataclass(frozen=True, slots=True)
class Instance:
    """One labelled object of one photograph.

    Attributes:
        label: Class from 1, an index into the data set's class names minus one.
        outline: Where the object is.
        is_crowd: A region of many objects that evaluation ignores and training leaves out (COCO ``iscrowd``).
        annotation_id: The id in the label file, for messages; None where the format has none.
    """

    label: int
    outline: Outline
    is_crowd: bool = False
    annotation_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One photograph with its labels.

    Attributes:
        image_id: Unique within a data set; the file's stem for formats that have no ids of their own.
        image: A path, or (H, W, 3) uint8 RGB pixels for photographs that exist only in memory.
        size: The photograph's size where the label file states it; None means "look at the photograph".
        instances: Its objects; empty for a photograph without a lesion.
        source_id: The id in the label file (COCO's image id), kept so that results can refer to it.
    """

    image_id: str
    image: Path | ByteArray
    size: ImageSize | None = None
    instances: tuple[Instance, ...] = ()
    source_id: int | str | None = None


class PhotoInfo(NamedTuple):
    """What a table beside the photographs says of one; None where it says nothing.

    Attributes:
        patient_id: Whose skin it is; photographs of one patient must not stand on both sides of a split.
        lesion_id: Which lesion it shows; one may have been photographed often.
        diagnosis: As the table names it; used to spread kinds evenly and to group figures, never to diagnose.
        licence: The licence of this photograph.
    """

    patient_id: str | None = None
    lesion_id: str | None = None
    diagnosis: str | None = None
    licence: str | None = None


class Lesion(NamedTuple):
    """One found lesion.

    Attributes:
        box: (4,) float32 xyxy in pixels of the photograph.
        score: Confidence in [0, 1].
        label: Class from 1.
        class_name: Its name.
        mask_probs: (S, S) float32 in [0, 1], in the frame of the box.
    """

    box: FloatArray
    score: float
    label: int
    class_name: str
    mask_probs: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a model found in one photograph, best score first.

    Masks stay small: probabilities in the frame of their box, so a 30-megapixel photograph costs no more
    memory than a small one. `dermask.masks.paste_masks` makes full-size ones.

    Attributes:
        boxes: (N, 4) float32 xyxy, pixels of the photograph, inside it.
        scores: (N,) float32 in [0, 1], descending.
        labels: (N,) int64 from 1.
        mask_probs: (N, S, S) float32 in [0, 1].
        size: The photograph's size.
        class_names: Name of label i at index i - 1.
        image_id: Which photograph.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    mask_probs: FloatArray
    size: ImageSize
    class_names: tuple[str, ...] = ("lesion",)
    image_id: str = ""
    source_id: int | str | None = field(default=None)

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes = {
            "boxes": (self.boxes.shape, (count, 4)),
            "scores": (self.scores.shape, (count,)),
            "labels": (self.labels.shape, (count,)),
            "mask_probs": (
                self.mask_probs.shape[:1] + self.mask_probs.shape[2:],
                (count, *self.mask_probs.shape[1:2]),
            ),
        }
        for name, (found, expected) in shapes.items():
            if found != expected or (name == "mask_probs" and self.mask_probs.ndim != 3):
                raise ValueError(f"Detections.{name} has shape {getattr(self, name).shape} for {count} scores")

    @classmethod
    def empty(
        cls,
        size: ImageSize,
        *,
        class_names: tuple[str, ...] = ("lesion",),
        image_id: str = "",
        resolution: int = 28,
    ) -> Detections:
        """Nothing found: N = 0, the normal result for skin without a lesion."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            mask_probs=np.zeros((0, resolution, resolution), np.float32),
            size=size,
            class_names=class_names,
            image_id=image_id,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Lesion]:
        for box, score, label, probs in zip(self.boxes, self.scores, self.labels, self.mask_probs, strict=True):
            yield Lesion(box, float(score), int(label), self.class_names[int(label) - 1], probs)

    def select(self, keep: BoolArray | IntArray) -> Detections:
        """The detections named by `keep`: (N,) bool, or indices in the wanted order."""
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            mask_probs=self.mask_probs[keep],
        )

    def above(self, score_thresh: float) -> Detections:
        """The detections with a score of at least `score_thresh`."""
        return self.select(self.scores >= score_thresh)
