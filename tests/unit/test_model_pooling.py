import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import MultiScaleRoIAlign, roi_align

from dermask.models.pooling import pool_from_sheet, pool_regions

PADDED = (256, 320)
STRIDES = (4, 8, 16, 32)
# Interpolation in float32 between features of size one, at coordinates that differ by a shift on the sheet.
INTERPOLATION = {"atol": 1e-4, "rtol": 0}


def random_levels(strides=STRIDES, batch=2, channels=3):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, channels, PADDED[0] // stride, PADDED[1] // stride, generator=generator)
        for stride in strides
    ]


def random_boxes(count, least, most, seed=0):
    generator = torch.Generator().manual_seed(seed)
    limits = torch.tensor([PADDED[1], PADDED[0]], dtype=torch.float32)
    wh = least + torch.rand(count, 2, generator=generator) * (torch.minimum(limits, torch.tensor(most)) - least)
    corner = torch.rand(count, 2, generator=generator) * (limits - wh)
    return torch.cat([corner, corner + wh], dim=1), torch.arange(count) % 2


BORDER_BOXES = torch.tensor([[0, 0, 320, 256], [0, 0, 40, 40], [280, 216, 320, 256], [0, 100, 320, 140]]).float()


@pytest.mark.parametrize("pool_size", [1, 7, 14])
@pytest.mark.parametrize("strides", [STRIDES, (8, 16, 32), (4,)])
def test_unaligned_pooling_equals_torchvisions(pool_size, strides):
    levels = random_levels(strides)
    boxes, image_idxs = random_boxes(60, 1.0, 300.0)
    oracle = MultiScaleRoIAlign([str(number) for number in range(len(levels))], pool_size, 2)
    features = {str(number): level for number, level in enumerate(levels)}
    per_image = [boxes[image_idxs == image] for image in range(2)]
    expected = oracle(features, per_image, [PADDED, PADDED])
    order = torch.cat([(image_idxs == image).nonzero()[:, 0] for image in range(2)])
    pooled = pool_regions(levels, boxes, image_idxs, padded_size=PADDED, pool_size=pool_size, aligned=False)
    assert torch.equal(pooled[order], expected)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("strides", [STRIDES, (8, 16, 32), (4,)])
@pytest.mark.parametrize("pool_size", [7, 14])
def test_pooling_from_the_sheet_equals_pooling_of_each_level(strides, pool_size, aligned):
    levels = random_levels(strides)
    boxes, image_idxs = random_boxes(80, 34.0, 300.0)
    boxes = torch.cat([boxes, BORDER_BOXES])
    image_idxs = torch.cat([image_idxs, torch.tensor([0, 1, 0, 1])])
    pooled = pool_from_sheet(levels, boxes, image_idxs, strides=strides, pool_size=pool_size, aligned=aligned)
    for box, image, found in zip(boxes, image_idxs, pooled, strict=True):
        stride = reference_stride(box, strides)
        rois = torch.cat([image[None].float(), box])[None]
        (expected,) = roi_align(levels[strides.index(stride)], rois, pool_size, 1 / stride, 2, aligned=aligned)
        assert_close(found, expected, **INTERPOLATION)


def reference_stride(box, strides):
    """Lin et al. 2017, equation 1: 224 pixels belong to stride 16, half of it to stride 8."""
    side = ((box[2] - box[0]) * (box[3] - box[1])).sqrt()
    return next((stride for stride in strides[:-1] if side < 14 * 2 * stride), strides[-1])


@pytest.mark.parametrize(("side", "stride"), [(20, 4), (111, 4), (112, 8), (223, 8), (224, 16), (255, 16)])
def test_a_box_is_pooled_from_the_level_of_its_size(side, stride):
    levels = [torch.full((1, 1, 256 // each, 256 // each), float(each)) for each in STRIDES]
    box = torch.tensor([[0.0, 0.0, side, side]])
    for aligned in (False, True):
        pooled = pool_regions(
            levels, box, torch.zeros(1, dtype=torch.int64), padded_size=(256, 256), pool_size=2, aligned=aligned
        )
        assert (pooled == stride).all()


def test_aligned_pooling_of_coordinates_gives_the_centres_of_the_cells():
    # Each level holds the x of its cells' centres in pixels: whatever the level, a cell must read its own x.
    levels = []
    for stride in STRIDES:
        x = (torch.arange(PADDED[1] // stride) + 0.5) * stride
        levels.append(x.expand(1, 1, PADDED[0] // stride, -1).contiguous())
    boxes, _ = random_boxes(40, 40.0, 250.0, seed=3)
    boxes = boxes * 0.8 + 0.1 * torch.tensor([PADDED[1], PADDED[0]] * 2)  # away from the border, which repeats
    pooled = pool_regions(
        levels, boxes, torch.zeros(40, dtype=torch.int64), padded_size=PADDED, pool_size=4, aligned=True
    )
    centres = boxes[:, :1] + (torch.arange(4) + 0.5) / 4 * (boxes[:, 2:3] - boxes[:, :1])
    assert_close(pooled[:, 0], centres[:, None].expand(-1, 4, -1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("aligned", [False, True])
def test_no_regions_pool_to_no_features_and_still_give_gradients(aligned):
    levels = [level.requires_grad_() for level in random_levels()]
    pooled = pool_regions(
        levels, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), padded_size=PADDED, pool_size=7, aligned=aligned
    )
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert all((level.grad == 0).all() for level in levels)


@pytest.mark.parametrize("aligned", [False, True])
def test_boxes_without_area_pool_to_finite_features(aligned):
    boxes = torch.tensor([[0.0, 0.0, 0.0, 0.0], [320.0, 256.0, 320.0, 256.0], [50.0, 60.0, 50.0, 60.0]])
    pooled = pool_regions(
        random_levels(), boxes, torch.tensor([0, 1, 0]), padded_size=PADDED, pool_size=7, aligned=aligned
    )
    assert pooled.isfinite().all()


@pytest.mark.parametrize("aligned", [False, True])
def test_gradients_reach_only_the_level_that_was_pooled(aligned):
    levels = [level.requires_grad_() for level in random_levels()]
    box = torch.tensor([[100.0, 100.0, 220.0, 220.0]])  # stride 8
    pool_regions(levels, box, torch.tensor([1]), padded_size=PADDED, pool_size=7, aligned=aligned).sum().backward()
    reached = [level.grad is not None and bool(level.grad.any()) for level in levels]
    assert reached == [False, True, False, False]
    assert not levels[1].grad[0].any(), "the other image is not read"


def test_memory_format_does_not_change_the_sheet():
    levels = random_levels()
    boxes, image_idxs = random_boxes(10, 40.0, 300.0)
    plain, last = (
        pool_regions(
            [level.contiguous(memory_format=memory) for level in levels],
            boxes,
            image_idxs,
            padded_size=PADDED,
            pool_size=7,
            aligned=True,
        )
        for memory in (torch.contiguous_format, torch.channels_last)
    )
    assert_close(last, plain, **INTERPOLATION)
