"""What `predict` writes for each photograph, and the record from which the tables of a whole folder are made.

A folder of results holds

    predictions.jsonl      one line about the model, then one per photograph: what a resumed run goes on from
    overlays/ID_overlay.png         the photograph with outlines, to look at
    masks/ID_segmentation.png       0 or 255, the photograph's size, as the ISIC challenges want it
    coco_results.json      COCO results: boxes, scores and run-length masks of everything found
    lesions.csv            one row per lesion

The two tables are made from the record at the end, line by line, so that memory does not grow with the folder.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from dermask import boxes as box_ops
from dermask import files, images, masks
from dermask.inference.overlay import draw_overlay
from dermask.inference.record import FoundLesion, PhotoRecord
from dermask.records import Detections, ImageSize

Kind = Literal["overlay", "mask", "coco", "csv"]
KINDS: tuple[Kind, ...] = ("overlay", "mask", "coco", "csv")

CSV_COLUMNS = (
    "photograph", "file", "lesion", "class", "score", "x1", "y1", "x2", "y2", "area_px", "area_share", "width", "height"
)  # fmt: skip


def describe_lesions(detections: Detections) -> tuple[FoundLesion, ...]:
    """Detections as records, with masks at the photograph's size as run lengths."""
    return tuple(_describe(detections.select(np.array([index]))) for index in range(len(detections)))


def _describe(one: Detections) -> FoundLesion:
    [lesion] = one
    # One at a time: N bitmasks of a 30-megapixel photograph would be half a gigabyte.
    bitmask = masks.paste_masks(one.boxes, one.mask_probs, one.size)[0].astype(np.bool_)
    x, y, width, height = (round(float(value), 2) for value in box_ops.xyxy_to_xywh(one.boxes)[0])
    return FoundLesion(
        label=lesion.label,
        class_name=lesion.class_name,
        score=round(lesion.score, 5),
        bbox_xywh=(x, y, width, height),
        area=int(np.count_nonzero(bitmask)),
        counts=masks.bitmask_to_rle(bitmask).counts.decode("ascii"),
    )


def write_overlay(
    path: Path, photograph: Path | bytes, detections: Detections, *, score_thresh: float, max_side: int
) -> None:
    """Write the photograph with the outlines of what scores at least `score_thresh`.

    Args:
        path: The PNG to write.
        photograph: The file that `detections` is about.
        detections: In pixels of the photograph.
        score_thresh: In [0, 1].
        max_side: Longest side of the picture, pixels; larger photographs are reduced, smaller ones stay.

    Raises:
        ImageError: The photograph cannot be read.
    """
    scale = min(1.0, max_side / max(detections.size))
    size = ImageSize(*(max(1, round(side * scale)) for side in detections.size))
    image = images.read_image(photograph, target_side=min(size))
    if image.shape[:2] != size:
        image = images.resize(image, size)
    drawn = io.BytesIO()
    # A photograph is mostly noise to PNG: level 1 takes a quarter of the time of the usual 6 for a sixth more bytes.
    Image.fromarray(draw_overlay(image, detections.above(score_thresh))).save(drawn, "PNG", compress_level=1)
    files.write_bytes(path, drawn.getbuffer())


def write_mask(path: Path, detections: Detections, *, rule: Literal["primary", "union"], score_thresh: float) -> None:
    """Write the one mask of a photograph, 0 or 255 at its size, as the ISIC challenges want it.

    Args:
        path: The PNG to write.
        detections: In pixels of the photograph.
        rule: `primary`: the best-scoring lesion; `union`: all that score at least `score_thresh`.
        score_thresh: In [0, 1].
    """
    bitmask = masks.detections_bitmask(detections, rule, score_thresh=score_thresh)
    images.write_png(path, bitmask.astype(np.uint8) * 255)


def write_coco_results(path: Path, records: Iterable[PhotoRecord]) -> int:
    """Write COCO results: a JSON list of detections, masks as run lengths.

    `image_id` is the photograph's id in this folder, the file's stem as a rule, since nothing knows the numbers of a
    label file that may exist; `category_id` is the class from 1.

    Returns:
        How many detections were written.
    """
    count = 0
    with _atomic_text(path) as file:
        file.write("[")
        for record in records:
            for lesion in record.lesions:
                row = {
                    "image_id": record.image_id,
                    "category_id": lesion.label,
                    "bbox": list(lesion.bbox_xywh),
                    "score": lesion.score,
                    "segmentation": {"size": list(record.size), "counts": lesion.counts},
                }
                file.write((",\n" if count else "\n") + json.dumps(row, ensure_ascii=False))
                count += 1
        file.write("\n]\n")
    return count


def write_csv(path: Path, records: Iterable[PhotoRecord], *, score_thresh: float) -> int:
    """Write one row per lesion that scores at least `score_thresh`; a photograph without any has no row.

    Returns:
        How many rows were written.
    """
    count = 0
    with _atomic_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for record in records:
            kept = [lesion for lesion in record.lesions if lesion.score >= score_thresh]
            for number, lesion in enumerate(kept, start=1):
                writer.writerow(_csv_row(record, number, lesion))
            count += len(kept)
    return count


def _csv_row(record: PhotoRecord, number: int, lesion: FoundLesion) -> Sequence[object]:
    x, y, width, height = lesion.bbox_xywh
    share = lesion.area / (record.size.height * record.size.width)
    corners = (round(x, 2), round(y, 2), round(x + width, 2), round(y + height, 2))
    size = (record.size.width, record.size.height)
    head = (record.image_id, record.file, number, lesion.class_name, lesion.score)
    return (*head, *corners, lesion.area, round(share, 6), *size)


@contextmanager
def _atomic_text(path: Path) -> Iterator[TextIOWrapper]:
    """A text file that takes its name when it is whole; an error leaves what was there before."""
    with (
        files.replacing(path) as temporary,
        temporary.open(
            "w",
            encoding="utf-8",
            errors="backslashreplace",  # as `files.write_text`
            newline="",
        ) as file,
    ):
        yield file
