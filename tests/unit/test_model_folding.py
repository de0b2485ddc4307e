"""A network made ready to predict gives the same answers, and leaves the original alone."""

import pytest
import torch
from model_cases import random_images, settle_norm, tiny_model
from torch import nn
from torch.testing import assert_close

from dermask.config import MODEL_PRESETS, override
from dermask.models.backbones import FrozenBatchNorm2d
from dermask.models.build import build_model
from dermask.models.folding import prepare_to_predict

SIZES = [(64, 64), (64, 48)]


def shuffle_norms(model: nn.Module) -> None:
    """Give every batch norm statistics, scale and shift of its own."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.weight, 0.5), (module.bias, -0.1), (module.running_mean, -0.2)):
                    tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2 + (low if low < 0 else 0))
                module.running_var.mul_(torch.rand(module.running_var.shape, generator=generator) + 0.5)


def small_preset(name: str):
    changes = {"image.min_size": 64, "image.max_size": 64, "box_head.max_detections": 4, "rpn.post_nms_topk": 8}
    model = build_model(override(MODEL_PRESETS[name], changes), seed=1).eval()
    images = random_images([(64, 64)] * 2, seed=0)
    settle_norm(model, lambda: model.fpn(model.trunk(torch.stack(images))))
    return model


@pytest.mark.parametrize("name", MODEL_PRESETS)
def test_features_are_the_same(name):
    model = small_preset(name)
    shuffle_norms(model)
    ready = prepare_to_predict(model)
    images = torch.stack(random_images([(64, 64)] * 2, seed=0))
    with torch.inference_mode():
        for level, folded in zip(model.fpn(model.trunk(images)), ready.fpn(ready.trunk(images)), strict=True):
            assert_close(folded.contiguous(), level.contiguous(), rtol=1e-4, atol=1e-4 * float(level.abs().max()))


@pytest.mark.parametrize("changes", [{}, {"backbone.fpn_norm": True, "mask_head.norm": True, "box_head.kind": "conv"}])
def test_detections_are_the_same(changes):
    model = tiny_model(changes)
    images = random_images(SIZES, seed=4)
    found = prepare_to_predict(model).predict(images)
    for one, other in zip(found, model.predict(images), strict=True):
        assert len(one) == len(other) > 0
        assert_close(one.boxes, other.boxes, rtol=0, atol=1e-3)
        assert_close(one.scores, other.scores, rtol=0, atol=1e-4)
        assert_close(one.mask_probs, other.mask_probs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", MODEL_PRESETS)
def test_no_norm_is_left_and_the_original_keeps_its_own(name):
    model = small_preset(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ready = prepare_to_predict(model)
    assert not [module for module in ready.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in ready.parameters())


def test_bfloat16_rounds_weights_once_and_boxes_not_at_all():
    ready = prepare_to_predict(tiny_model(), precision=torch.bfloat16)
    kinds = {type(module).__name__: module.weight.dtype for module in ready.modules() if hasattr(module, "weight")}
    assert set(kinds.values()) == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        [found] = ready.predict(random_images([(64, 64)], seed=4))
    assert found.boxes.dtype == found.scores.dtype == found.mask_probs.dtype == torch.float32


def test_no_photograph_and_nothing_found_are_ordinary():
    ready = prepare_to_predict(tiny_model({"box_head.score_thresh": 1.0}))
    assert ready.predict([]) == []
    [found] = ready.predict(random_images([(64, 64)], seed=4))
    assert len(found) == 0
