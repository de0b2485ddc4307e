"""Small label files and photographs that the tests of the readers share."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from dermask.data.coco import read_coco, write_coco
from dermask.data.cvat import read_cvat, write_cvat
from dermask.data.makesense import read_makesense, write_makesense_coco, write_makesense_vgg
from dermask.data.via import read_via
from dermask.data.via_write import write_via

HEIGHT, WIDTH = 24, 32


def write_photograph(path: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), (220, 180, 160), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, mask: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask is None:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[4:12, 6:20] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def write_json(path: Path, tree: Any) -> Path:
    path.write_text(json.dumps(tree))
    return path


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def coco_tree() -> dict[str, Any]:
    """Three photographs: one lesion, two lesions of two classes, none. Ids have gaps and start anywhere."""
    images = [
        {"id": image_id, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
        for image_id, name in [(1, "one"), (7, "two"), (9, "none")]
    ]
    annotations = [
        {"id": 0, "image_id": 1, "category_id": 5, "iscrowd": 0, "segmentation": [square(4, 4, 8)]},
        {"id": 1, "image_id": 7, "category_id": 2, "iscrowd": 0, "segmentation": [square(2, 2, 5)]},
        {"id": 4, "image_id": 7, "category_id": 5, "iscrowd": 0, "segmentation": [square(20, 10, 9)]},
    ]
    for annotation in annotations:
        x, y, x2, _, _, y2, *_ = annotation["segmentation"][0]
        annotation |= {"bbox": [x, y, x2 - x, y2 - y], "area": (x2 - x) * (y2 - y)}
    categories = [{"id": 5, "name": "lesion"}, {"id": 2, "name": "mole"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco_folder(folder: Path, tree: Any = None) -> Path:
    """The photographs of `coco_tree`, and a label file that holds `tree`."""
    for name in ("one", "two", "none"):
        if not (folder / f"{name}.png").exists():
            write_photograph(folder / f"{name}.png")
    return write_json(folder / "labels.json", coco_tree() if tree is None else tree)


def via_region(x: float, y: float, side: float, label: Any = "lesion") -> dict[str, Any]:
    ring = square(x, y, side)
    shape = {"name": "polygon", "all_points_x": [*ring[::2], ring[0]], "all_points_y": [*ring[1::2], ring[1]]}
    return {"shape_attributes": shape, "region_attributes": {} if label is None else {"label": label}}


def via_tree() -> dict[str, Any]:
    """The outlines of `coco_tree` in version 1's form, as makesense.ai writes it."""
    regions = {
        "one.png": {"0": via_region(4, 4, 8)},
        "two.png": {"0": via_region(2, 2, 5, "mole"), "1": via_region(20, 10, 9)},
        "none.png": {},
    }
    return {
        name: {"filename": name, "size": 100, "fileref": "", "file_attributes": {}, "regions": entries}
        for name, entries in regions.items()
    }


def draw_mask(seed: int, kind: str) -> np.ndarray:
    """A blob, two of them, or a blob with a hole, 60 x 80."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:60, :80]

    def disc(x: float, y: float, radius: float) -> np.ndarray:
        return ((columns - x) / rng.uniform(0.8, 1.2)) ** 2 + (rows - y) ** 2 <= radius**2

    mask = disc(rng.uniform(20, 30), rng.uniform(20, 40), rng.uniform(8, 15))
    if kind == "parts":
        mask |= disc(rng.uniform(60, 68), rng.uniform(20, 40), rng.uniform(5, 9))
    if kind == "hole":
        mask &= ~disc(25, 30, rng.uniform(3, 6))
    return mask


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.sampled_from(["", "one.png", "..", "/", "\0", "lesion", "0o00", "\ud800"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def every_place(tree: Any, place: tuple = ()) -> list[tuple]:
    """The keys that lead to each value in parsed JSON, the whole included."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place] + [found for key, value in entries for found in every_place(value, (*place, key))]


def mutate(tree: Any, place: tuple, value: Any, how: str) -> Any:
    """A copy with the value at `place` set, removed, or repeated at the end of its list."""
    tree = deepcopy(tree)
    if not place:
        return value
    node = tree
    for key in place[:-1]:
        node = node[key]
    if how == "remove":
        del node[place[-1]]
    elif how == "repeat" and isinstance(node, list):
        node.append(deepcopy(node[place[-1]]))
    else:
        node[place[-1]] = value
    return tree


FAMILY = {
    "coco": (write_coco, read_coco),
    "cvat": (write_cvat, read_cvat),
    "makesense-coco": (write_makesense_coco, read_makesense),
    "makesense-vgg": (write_makesense_vgg, read_makesense),
    "via1": (lambda dataset, path: write_via(dataset, path, version="1"), read_via),
    "via2": (lambda dataset, path: write_via(dataset, path, version="2"), read_via),
    "via-project": (lambda dataset, path: write_via(dataset, path, version="project"), read_via),
}
"""The formats of single rings and their next of kin: how to write and how to read each."""
