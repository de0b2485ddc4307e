"""makesense.ai's exports of outlines: its COCO JSON and its VGG JSON.

What its files are like, and what becomes of it:

- Image and category ids start at 1 but annotation ids at 0: all are kept as they are.
- The COCO export drops photographs without an outline, so a data set read from it has no lesion-free photograph.
- An outline for which no label was chosen has no `category_id` in the COCO export: an error that says so.
- Each outline is one ring without holes, open in the COCO export, closed by its repeated first point in the VGG one.
- The VGG export has no image sizes; the photographs' own count. Its `regions` are an object keyed "0", "1", ...
- File names are bare, whatever folder the photographs were dropped from: `images` names that folder.
"""

from __future__ import annotations

from pathlib import Path

from dermask.data.checks import load_json
from dermask.data.coco import coco_dataset
from dermask.data.dataset import Dataset
from dermask.data.via import is_via, via_dataset


def read_makesense(path: Path, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Either of makesense.ai's exports; see `coco.read_coco` and `via.read_via` for what is checked.

    Raises:
        LabelError: One line for the first problem and the number of further ones.
    """
    tree = load_json(path)
    read = via_dataset if is_via(tree) else coco_dataset
    return read(tree, path, images, skip_bad)
