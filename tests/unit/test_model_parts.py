"""Trunks, pyramid, proposal net and heads, each on its own."""

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models import mobilenet_v2, resnet50
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops import FrozenBatchNorm2d as PublishedFrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dermask.config import BoxHeadSettings, MaskHeadSettings, RpnSettings
from dermask.models.backbones import FrozenBatchNorm2d, mobilenet_v2_trunk, resnet50_trunk
from dermask.models.deltas import clip_boxes, decode_boxes, large_enough
from dermask.models.fpn import ContextBlock, FeaturePyramid
from dermask.models.heads import BoxHead, MaskHead
from dermask.models.rpn import RegionProposalNetwork, RpnOutput

# One fused kernel against a multiplication and an addition, on numbers of size one.
FUSED = {"atol": 1e-5, "rtol": 1e-5}


def filled_norm(kind):
    norm = kind(6)
    generator = torch.Generator().manual_seed(0)
    for name in ("weight", "bias", "running_mean"):
        getattr(norm, name).data.normal_(generator=generator)
    norm.running_var.uniform_(0.1, 3, generator=generator)
    return norm


def test_frozen_norm_equals_torchvisions():
    features = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    assert_close(filled_norm(FrozenBatchNorm2d)(features), filled_norm(PublishedFrozenBatchNorm2d)(features), **FUSED)


def test_frozen_norm_never_changes():
    norm = filled_norm(FrozenBatchNorm2d)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    nn.Sequential(norm).train()(torch.randn(4, 6, 8, 8, requires_grad=True)).sum().backward()
    assert not norm.training
    assert norm.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("make", [mobilenet_v2_trunk, resnet50_trunk])
def test_stages_have_strides_4_to_32_and_the_channels_they_name(make):
    trunk = make(nn.BatchNorm2d).eval()
    with torch.no_grad():
        stages = trunk(torch.zeros(1, 3, 64, 96))
    assert [tuple(stage.shape[-2:]) for stage in stages] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(stage.shape[1] for stage in stages) == trunk.channels


@pytest.mark.parametrize(
    ("make", "published", "read"),
    [
        pytest.param(mobilenet_v2_trunk, mobilenet_v2, lambda net, x: net.features[:18](x), id="mobilenet_v2"),
        pytest.param(
            resnet50_trunk,
            resnet50,
            lambda net, x: net.layer4(net.layer3(net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))))),
            id="resnet50",
        ),
    ],
)
def test_a_trunk_is_the_published_network_up_to_its_last_stage(make, published, read):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        trunk = make(nn.BatchNorm2d).eval()
        torch.manual_seed(3)
        assert torch.equal(trunk(images)[-1], read(published(weights=None).eval(), images))


@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d], ids=["bias", "norm"])
@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_the_pyramid_equals_torchvisions(norm_layer, size):
    channels = (4, 6, 8, 10)
    oracle = FeaturePyramidNetwork(list(channels), 5, LastLevelMaxPool(), norm_layer).eval()
    pyramid = FeaturePyramid(channels, 5, norm_layer=norm_layer).eval()
    names = {"inner_blocks": "lateral", "layer_blocks": "output"}
    state = {f"{names[key.split('.')[0]]}.{key.split('.', 1)[1]}": value for key, value in oracle.state_dict().items()}
    pyramid.load_state_dict(state)
    stages = [
        torch.randn(2, width, size[0] >> n, size[1] >> n) for width, n in zip(channels, (2, 3, 4, 5), strict=True)
    ]
    with torch.no_grad():
        expected = oracle(OrderedDict((str(number), stage) for number, stage in enumerate(stages)))
        for level, wanted in zip(pyramid(stages), expected.values(), strict=True):
            assert torch.equal(level, wanted)


def test_the_finest_level_may_do_without_its_convolution():
    pyramid = FeaturePyramid((4, 6, 8, 10), 5, finest_output_conv=False)
    assert not list(pyramid.output[0].parameters())
    assert sum(1 for _ in pyramid.output.parameters()) == 3 * 2
    levels = pyramid([torch.zeros(1, width, 64 >> n, 64 >> n) for width, n in ((4, 2), (6, 3), (8, 4), (10, 5))])
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2, 1]


def test_a_fresh_context_block_adds_nothing():
    level = torch.randn(2, 6, 5, 9)
    assert torch.equal(ContextBlock(6)(level), level)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 16)])
def test_a_context_block_sees_every_place(size):
    block = ContextBlock(4)
    nn.init.normal_(block.narrow.weight)
    level = torch.randn(1, 4, *size, requires_grad=True)
    block(level)[0, :, 0, 0].sum().backward()
    assert level.grad.abs().sum(dim=1).gt(0).all()


def test_context_reaches_every_level():
    stages = [torch.randn(1, width, 64 >> n, 64 >> n) for width, n in ((4, 2), (6, 3), (8, 4), (10, 5))]
    pyramid = FeaturePyramid((4, 6, 8, 10), 5, context_blocks=2)
    fresh = pyramid(stages)
    for block in pyramid.context:
        nn.init.normal_(block.narrow.weight)
    assert all((before != after).all() for before, after in zip(fresh, pyramid(stages), strict=True))


RPN = RpnSettings(levels=(3, 4), anchor_sizes=(16.0, 32.0), pre_nms_topk=5, post_nms_topk=4, train_pre_nms_topk=30,
                  train_post_nms_topk=20, nms_thresh=0.7)  # fmt: skip


def test_every_anchor_is_scored_and_moved():
    rpn = RegionProposalNetwork(6, RPN)
    output = rpn([torch.randn(2, 6, 8, 4), torch.randn(2, 6, 4, 2)], (64, 32))
    assert output.level_counts == [8 * 4 * 3, 4 * 2 * 3]
    assert output.objectness_logits.shape == (2, 120)
    assert output.deltas.shape == (2, 120, 4)
    assert output.anchors.shape == (120, 4)


def test_scores_stand_in_the_order_of_the_anchors():
    # A net that answers where it stands: the score of anchor n is the x of the cell it belongs to, plus its shape.
    rpn = RegionProposalNetwork(1, RPN)
    nn.init.dirac_(rpn.convs[0].weight)
    nn.init.ones_(rpn.objectness.weight)
    rpn.objectness.bias.data = torch.tensor([0.0, 0.25, 0.5])
    x = torch.arange(4.0).expand(1, 1, 4, -1).contiguous()
    output = rpn([x, x[..., :2, :2]], (32, 32))
    centre_x = (output.anchors[:48, 0] + output.anchors[:48, 2]) / 2
    expected = centre_x / 8 + torch.tensor([0.0, 0.25, 0.5]).repeat(16)
    assert_close(output.objectness_logits[0, :48], expected.detach(), atol=1e-5, rtol=0)


def random_output(seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(40, 2, generator=generator) * 40
    anchors = torch.cat([corner, corner + 10 + 20 * torch.rand(40, 2, generator=generator)], dim=1)
    return RpnOutput(
        torch.randn(2, 40, generator=generator), 0.2 * torch.randn(2, 40, 4, generator=generator), anchors, [30, 10]
    )


@pytest.mark.parametrize(("training", "most"), [(False, 4), (True, 20)])
def test_proposals_are_the_best_ones_inside_the_image(training, most):
    output, sizes = random_output(), torch.tensor([[64.0, 64.0], [30.0, 50.0]])
    proposals = RegionProposalNetwork(6, RPN).propose(output, sizes, training=training)
    assert proposals.boxes.shape == (2, most, 4)
    assert proposals.valid[:, 0].all()
    decoded = clip_boxes(decode_boxes(output.deltas, output.anchors), sizes)
    best = output.objectness_logits.masked_fill(~large_enough(decoded, 1e-3), -math.inf).argmax(dim=1)
    for image in range(2):
        assert_close(proposals.boxes[image, 0], decoded[image, best[image]])
        assert (proposals.boxes[image] <= sizes[image].flip(0).repeat(2)).all()
        assert (proposals.boxes[image] >= 0).all()


def test_each_level_enters_with_its_own_best():
    # Level 4 scores far below level 3; its five best still enter, after those of level 3.
    output = random_output()
    logits = torch.cat([output.objectness_logits[:, :30] + 20, output.objectness_logits[:, 30:] - 20], dim=1)
    settings = RPN.model_copy(update={"post_nms_topk": 100, "nms_thresh": 1.0})
    proposals = RegionProposalNetwork(6, settings).propose(
        output._replace(objectness_logits=logits), torch.full((2, 2), 64.0), training=False
    )
    assert proposals.valid.sum(dim=1).tolist() == [10, 10]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("regions", [0, 1, 5])
def test_the_box_head_judges_any_number_of_regions(kind, regions):
    head = BoxHead(8, 3, BoxHeadSettings(kind=kind, channels=16)).train()
    class_logits, deltas = head(torch.randn(regions, 8, 7, 7))
    assert class_logits.shape == (regions, 4)
    assert deltas.shape == (regions, 4, 4)
    (class_logits.sum() + deltas.sum()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("regions", [0, 1, 5])
def test_the_mask_head_outlines_any_number_of_regions(norm, regions):
    settings = MaskHeadSettings(pool_size=7, resolution=28, conv_channels=(6, 6), norm=norm)
    head = MaskHead(8, 3, settings).train()
    logits = head(torch.randn(regions, 8, 7, 7), torch.ones(regions, dtype=torch.int64))
    assert logits.shape == (regions, 28, 28)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(("dilated", "seen"), [(True, 28), (False, 9)])
def test_dilated_convolutions_see_the_whole_region(dilated, seen):
    head = MaskHead(2, 1, MaskHeadSettings(conv_channels=(3, 3, 3, 3), dilated=dilated))
    for layer in head.convs:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    features = torch.ones(1, 2, 28, 28, requires_grad=True)
    assert head.convs(features).shape == (1, 3, 28, 28)
    head.convs(features)[0, :, 14, 14].sum().backward()
    reached = features.grad[0, 0].gt(0)
    assert reached.any(dim=0).sum() == reached.any(dim=1).sum() == seen


def test_the_mask_of_a_region_is_that_of_its_class():
    head = MaskHead(8, 3, MaskHeadSettings(pool_size=7, resolution=14, conv_channels=(6,)))
    nn.init.zeros_(head.mask_logits.weight)
    head.mask_logits.bias.data = torch.arange(4.0)
    masks = head(torch.randn(3, 8, 7, 7), torch.tensor([3, 1, 2]))
    assert masks[:, 0, 0].tolist() == [3, 1, 2]
    assert all(len(mask.unique()) == 1 for mask in masks)


def test_a_fresh_mask_head_is_undecided():
    head = MaskHead(8, 1, MaskHeadSettings())
    probs = head(torch.randn(2, 8, 28, 28), torch.ones(2, dtype=torch.int64)).sigmoid()
    assert_close(probs, torch.full_like(probs, 0.5), atol=0.05, rtol=0)
