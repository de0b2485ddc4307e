import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from dermask.models.anchors import cell_anchors, grid_anchors

SIZES, RATIOS = (32.0, 64.0, 128.0), (0.5, 1.0, 2.0)


def ours(grids, padded_size):
    return grid_anchors([cell_anchors(size, RATIOS) for size in SIZES], grids, padded_size)


@pytest.mark.parametrize(
    ("padded_size", "grids"),
    [
        pytest.param((64, 64), [(16, 16), (8, 8), (4, 4)], id="square"),
        pytest.param((96, 160), [(24, 40), (12, 20), (6, 10)], id="wide"),
        pytest.param((800, 1088), [(100, 136), (25, 34), (13, 17)], id="a grid that was rounded up"),
        pytest.param((32, 32), [(8, 8), (1, 1), (1, 1)], id="a grid of one cell"),
    ],
)
def test_anchors_equal_torchvisions(padded_size, grids):
    generator = AnchorGenerator(tuple((int(size),) for size in SIZES), (RATIOS,) * len(SIZES))
    images = ImageList(torch.zeros(1, 3, *padded_size), [padded_size])
    (expected,) = generator(images, [torch.zeros(1, 1, *grid) for grid in grids])
    assert torch.equal(ours(grids, padded_size), expected)


def test_aspect_ratio_is_height_by_width():
    flat, square, tall = cell_anchors(64.0, RATIOS)
    assert flat.tolist() == [-45, -23, 45, 23]
    assert square.tolist() == [-32, -32, 32, 32]
    assert tall.tolist() == [-23, -45, 23, 45]


def test_anchors_go_through_rows_then_columns_then_shapes():
    cell = cell_anchors(8.0, (1.0, 2.0))
    anchors = grid_anchors([cell], [(2, 3)], (32, 48)).view(2, 3, 2, 4)
    assert torch.equal(anchors[0, 0], cell)
    assert torch.equal(anchors[1, 2], cell + torch.tensor([32.0, 16.0, 32.0, 16.0]))


def test_levels_follow_one_another():
    both = ours([(4, 4), (2, 2), (1, 1)], (16, 16))
    assert both.shape == ((16 + 4 + 1) * 3, 4)
    assert torch.equal(both[16 * 3 :][:3], cell_anchors(64.0, RATIOS))
