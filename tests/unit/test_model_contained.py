from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dermask.config import MODEL_PRESETS
from dermask.models.nms import contained

OUTER, INNER, BESIDE, HALF = [0.0, 0, 100, 100], [10.0, 10, 40, 40], [200.0, 0, 260, 60], [80.0, 0, 120, 100]


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([], [], []),
        ([OUTER], [1], [False]),
        ([OUTER, INNER], [1, 1], [False, True]),  # a part
        ([INNER, OUTER], [1, 1], [False, True]),  # a frame around what was found already
        ([OUTER, BESIDE], [1, 1], [False, False]),
        ([OUTER, HALF], [1, 1], [False, False]),  # half inside is a neighbour
        ([OUTER, INNER], [1, 2], [False, False]),  # another class
        ([INNER, BESIDE, OUTER, [12.0, 12, 20, 20]], [1, 1, 1, 1], [False, False, True, True]),
    ],
    ids=["none", "one", "part", "frame", "beside", "half", "other class", "two in one"],
)
def test_a_box_inside_or_around_a_better_one_is_told(
    boxes: list[list[float]], labels: list[int], expected: list[bool]
) -> None:
    given = torch.tensor(boxes).reshape(1, -1, 4)
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    found = contained(given, torch.tensor([labels], dtype=torch.int64), valid, share_thresh=0.8)
    assert found.tolist() == [expected]


def test_what_is_contained_contains_nothing_itself() -> None:
    chain = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 100, 100], [50, 50, 90, 90]]])
    found = contained(chain, torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool), share_thresh=0.8)
    assert found.tolist() == [[False, True, False]]


def test_fillers_neither_contain_nor_are_contained() -> None:
    boxes = torch.tensor([[OUTER, INNER], [OUTER, INNER]])
    valid = torch.tensor([[False, True], [True, False]])
    found = contained(boxes, torch.ones(2, 2, dtype=torch.int64), valid, share_thresh=0.8)
    assert not found.any()


def reference(boxes: Tensor, share_thresh: float) -> list[bool]:
    inside: list[bool] = []
    for rank, box in enumerate(boxes.tolist()):
        hits = False
        for other, was_inside in zip(boxes[:rank].tolist(), inside, strict=True):
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
            hits |= not was_inside and width > 0 and height > 0 and width * height > share_thresh * smaller
        inside.append(hits)
    return inside


def test_equals_the_plain_loop_on_random_boxes() -> None:
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(40, 16, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 2 + torch.rand(40, 16, 2, generator=generator) * 60], dim=-1)
    found = contained(
        boxes, torch.ones(40, 16, dtype=torch.int64), torch.ones(40, 16, dtype=torch.bool), share_thresh=0.8
    )
    assert found.tolist() == [reference(image, 0.8) for image in boxes]
    assert found.any()


def test_published_networks_are_left_as_they_are() -> None:
    off = {name for name, settings in MODEL_PRESETS.items() if settings.box_head.contained_thresh == 1}
    assert off == {"torchvision_v1", "torchvision_v2"}
