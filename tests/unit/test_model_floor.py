"""The floating-point work of a network, against counts made by hand."""

import pytest
import torch
from model_cases import tiny_model

from dermask.models.floor import PARTS, count_flops, matrix_rate


def test_every_part_is_counted():
    counts = count_flops(tiny_model())
    assert tuple(counts) == PARTS
    assert all(count > 0 for count in counts.values())


def test_the_mask_head_counts_what_is_outlined():
    model = tiny_model()
    one, three = (count_flops(model, num_detections=number) for number in (1, 3))
    assert three["mask_head"] == pytest.approx(3 * one["mask_head"], abs=3)
    assert three["trunk"] == one["trunk"]


def test_the_box_head_is_what_its_layers_say():
    model = tiny_model()
    settings = model.settings
    proposals, width = settings.rpn.post_nms_topk, settings.box_head.channels
    cells = settings.backbone.fpn_channels * settings.box_head.pool_size**2
    last = (len(settings.class_names) + 1) * 5  # a score and four deltas for each class
    assert count_flops(model)["box_head"] == 2 * proposals * (cells * width + width * width + width * last)


def test_a_wider_pyramid_costs_more():
    narrow, wide = (count_flops(tiny_model({"backbone.fpn_channels": width})) for width in (16, 32))
    assert wide["fpn"] > narrow["fpn"]
    assert wide["trunk"] == narrow["trunk"]


@pytest.mark.parametrize("seconds", [0.02, 0.0], ids=["some time", "no time, as on a machine that is busy"])
def test_the_rate_is_a_plausible_one(seconds):
    assert 1e8 < matrix_rate(torch.float32, seconds=seconds) < 1e15
