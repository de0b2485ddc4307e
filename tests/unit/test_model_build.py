"""Settings to model, what is trained of it, its number formats, and that it learns."""

import statistics

import pytest
import torch
from model_cases import blob_target, random_images, settle_norm, tiny_model, tiny_settings
from torch import nn
from torch.testing import assert_close

from dermask.config import MODEL_PRESETS, override, preset
from dermask.masks import paste_masks
from dermask.models.build import build_model, freeze_norm, set_trainable
from dermask.records import ImageSize

SQUARE = (64, 64)


def test_a_seed_gives_the_same_weights_again():
    one, same, other = (build_model(tiny_settings(), seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_seed_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    build_model(tiny_settings(), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_weights_come_from_the_global_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        one = build_model(tiny_settings()).state_dict()
        torch.manual_seed(11)
        same = build_model(tiny_settings()).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("small", 5e6, 8e6),
        ("base", 43e6, 46e6),
        # torchvision states 44401393 and 46359409; ours counts v1's frozen batch norm, 53120 scales and shifts, too.
        ("torchvision_v1", 44401393 + 53120, 44401393 + 53120),
        ("torchvision_v2", 46359409, 46359409),
    ],
)
def test_presets_have_the_size_they_name(name, least, most):
    settings = preset(name)
    if name.startswith("torchvision"):
        settings = override(settings, {"class_names": tuple(f"class {number}" for number in range(90))})
    with torch.device("meta"):
        model = build_model(settings)
    assert least <= sum(parameter.numel() for parameter in model.parameters()) <= most


def test_presets_know_their_name():
    assert all(settings.preset == name for name, settings in MODEL_PRESETS.items())


# What is trained.

STAGES = ("stage2", "stage3", "stage4", "stage5")


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        ("heads", ()),
        ("4+", ("stage4", "stage5")),
        ("3+", ("stage3", "stage4", "stage5")),
        ("all", STAGES),
    ],
)
@pytest.mark.parametrize("name", ["small", "base"])
def test_layers_choose_the_stages_of_the_trunk(name, layers, trained):
    with torch.device("meta"):
        model = build_model(preset(name))
    names = set_trainable(model, layers)
    for parameter_name, parameter in model.named_parameters():
        module = model.get_submodule(parameter_name.rpartition(".")[0])
        frozen_norm = name == "base" and isinstance(module, nn.BatchNorm2d)
        part, stage = parameter_name.split(".")[:2]
        expected = not frozen_norm and (part != "trunk" or stage in trained)
        assert parameter.requires_grad is expected, parameter_name
        assert (parameter_name in names) is expected


def test_choosing_again_undoes_the_first_choice():
    model = build_model(tiny_settings(), seed=0)
    everything = [name for name, _ in model.named_parameters()]
    set_trainable(model, "heads")
    assert set_trainable(model, "all") == everything


def test_frozen_stages_take_no_gradient():
    model = tiny_model()
    names = set_trainable(model, "4+")
    sum(model.losses(random_images([SQUARE]), [blob_target(SQUARE, 1)]).values()).backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == set(names)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norm_keeps_its_statistics_and_still_learns_its_scale(frozen):
    model = build_model(tiny_settings(), seed=0).train()
    if frozen:
        freeze_norm(model)
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    sum(model.losses(random_images([SQUARE] * 2), [blob_target(SQUARE, 1)] * 2).values()).backward()
    unchanged = [torch.equal(value, dict(model.named_buffers())[name]) for name, value in before.items()]
    assert all(unchanged) if frozen else not any(unchanged)
    assert model.training
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.weight.grad.any()


# Number formats.


def test_channels_last_finds_the_same():
    model, images = tiny_model(), random_images([SQUARE, (40, 64)])
    expected = model.predict(images)
    assert sum(len(found) for found in expected) > 4
    assert not model._channels_last
    model.to(memory_format=torch.channels_last)
    assert model._channels_last
    for found, wanted in zip(model.predict(images), expected, strict=True):
        # Other kernels add up in another order, through some sixty layers of random weights.
        assert_close(found.boxes, wanted.boxes, atol=1e-3, rtol=1e-4)
        assert_close(found.scores, wanted.scores, atol=1e-4, rtol=1e-4)
        assert_close(found.mask_probs, wanted.mask_probs, atol=1e-3, rtol=1e-4)


def test_channels_last_has_the_same_losses():
    model, images, targets = tiny_model(), random_images([SQUARE] * 2), [blob_target(SQUARE, 2)] * 2
    expected = model.losses(images, targets, seeds=torch.arange(2))
    model.to(memory_format=torch.channels_last)
    assert_close(model.losses(images, targets, seeds=torch.arange(2)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
def test_bfloat16_losses_are_finite_and_near_float32(counts):
    model, images = tiny_model(), random_images([SQUARE] * 2)
    targets = [blob_target(SQUARE, count) for count in counts]
    expected = model.losses(images, targets, seeds=torch.arange(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(images, targets, seeds=torch.arange(2))
    assert all(value.dtype == torch.float32 for value in losses.values())
    # Eight bits of mantissa through random layers also change which proposals there are, and so what is sampled.
    assert_close(losses, expected, atol=0.1, rtol=0.25)
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_bfloat16_predictions_are_float32_records():
    model = tiny_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = model.predict(random_images([SQUARE]))
    assert len(found) > 0
    assert {found.boxes.dtype, found.scores.dtype, found.mask_probs.dtype} == {torch.float32}
    assert found.mask_probs.isfinite().all()


# It learns.


def drawn_lesions():
    """Two images of dark ellipses on light ground, with two lesions and with one."""
    targets = [blob_target((96, 96), 2), blob_target((96, 96), 1)]
    images = []
    for image, target in zip(random_images([(96, 96)] * 2, seed=1), targets, strict=True):
        ground = 0.75 + 0.1 * image
        images.append(torch.where(target.masks.any(dim=0), 0.35 * ground, ground))
    return images, targets


def test_it_learns_two_images_by_heart():
    images, targets = drawn_lesions()
    settings = tiny_settings({"image.min_size": 96, "image.max_size": 96, "rpn.anchor_sizes": (16.0, 32.0, 48.0, 64.0)})
    model = build_model(settings, seed=0)
    # Statistics of two images differ between steps by more than there is to learn at the end: settle, then hold them.
    settle_norm(model, lambda: model.losses(images, targets, seeds=torch.arange(2)))
    steps = 300  # 200 are short on processors whose products round otherwise
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    history = []
    for step in range(steps):
        losses = model.losses(images, targets, seeds=torch.tensor([2 * step, 2 * step + 1]))
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        history.append(float(loss.detach()))
    assert statistics.mean(history[-10:]) < 0.25 * statistics.mean(history[:10]), (history[:10], history[-10:])

    model.eval()
    for found, target in zip(model.predict(images), targets, strict=True):
        confident = found.scores > 0.5
        assert int(confident.sum()) == len(target.labels), found.scores
        pasted = torch.from_numpy(
            paste_masks(found.boxes[confident].numpy(), found.mask_probs[confident].numpy(), ImageSize(96, 96))
        )
        for mask in target.masks:
            iou = (pasted & mask).sum(dim=(1, 2)) / (pasted | mask).sum(dim=(1, 2))
            assert iou.max() > 0.9, iou
