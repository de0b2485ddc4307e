"""The laws of the network but for parity, which has its own file: batched, static, nothing wasted, fine, empty."""

import pytest
import torch
from model_cases import blob_target, random_images, tiny_model, tiny_settings
from torch import nn
from torch.testing import assert_close
from torchvision_pairs import OUR_SETTINGS

from dermask.config import override, preset
from dermask.models.batching import Target, make_batch
from dermask.models.build import build_model
from dermask.models.mask_rcnn import LOSS_NAMES

SQUARE = (64, 64)
# A batch runs the same sums as its single images in another order, through some sixty layers of random weights.
REORDERED_SUMS = {"atol": 1e-3, "rtol": 1e-4}
DETECTION_FIELDS = ("boxes", "scores", "labels", "mask_probs")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def assert_same_results(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in DETECTION_FIELDS:
            assert_close(getattr(one, field), getattr(other, field), **REORDERED_SUMS)


# Batched.


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([SQUARE, SQUARE, SQUARE], id="same size"),
        pytest.param([(48, 64), SQUARE, (30, 15), (100, 90), (48, 64)], id="different sizes and paddings"),
        pytest.param([(1, 1), (3, 200), (200, 3)], id="a single pixel and two slivers"),
    ],
)
def test_predictions_of_a_batch_are_those_of_its_images(model, sizes):
    images = random_images(sizes, seed=3)
    single = [model.predict([image])[0] for image in images]
    assert sum(len(found) for found in single) > 0
    assert_same_results(model.predict(images), single)


def test_order_of_the_images_does_not_matter(model):
    images = random_images([SQUARE, (40, 64), SQUARE], seed=4)
    assert_same_results(model.predict(images[::-1])[::-1], model.predict(images))


def test_losses_of_a_batch_are_the_weighted_mean_of_its_images(model, monkeypatch):
    counts = []

    def record(valid):
        counts.append(valid.sum().float())
        return counts[-1].clamp(min=1)

    monkeypatch.setattr("dermask.models.losses.mean_count", record)
    images, seeds = random_images([SQUARE, (50, 64), SQUARE], seed=6), torch.tensor([5, 1 << 40, 7])
    targets = [blob_target(tuple(image.shape[-2:]), count) for image, count in zip(images, (1, 3, 0), strict=True)]
    with torch.no_grad():
        whole = torch.stack(list(model.losses(images, targets, seeds=seeds).values()))
        whole_counts = torch.stack(counts)
        parts, part_counts = [], []
        for number in range(3):
            counts.clear()
            row = slice(number, number + 1)
            parts.append(torch.stack(list(model.losses(images[row], targets[row], seeds=seeds[row]).values())))
            part_counts.append(torch.stack(counts))
    weights = torch.stack(part_counts)
    assert_close(weights.sum(dim=0), whole_counts, msg="a batch samples what its images sample alone")
    assert_close((torch.stack(parts) * weights).sum(dim=0) / whole_counts, whole, **REORDERED_SUMS)


@pytest.mark.parametrize("company", [[SQUARE], [SQUARE, SQUARE, SQUARE]])
def test_regions_sampled_for_an_image_do_not_depend_on_its_company(model, company, monkeypatch):
    sampled = []
    real = model._sample_regions
    monkeypatch.setattr(model, "_sample_regions", lambda *args: sampled.append(real(*args)) or sampled[-1])
    image, target = random_images([SQUARE], seed=8), [blob_target(SQUARE, 2)]
    others, other_targets = random_images(company, seed=9), [blob_target(size, 4) for size in company]
    with torch.no_grad():
        model.losses(image, target, seeds=torch.tensor([12]))
        model.losses(others + image, other_targets + target, seeds=torch.arange(len(company) + 1) - len(company) + 12)
    alone, together = sampled
    positives = alone.samples.positive[0]
    assert positives.any()
    assert torch.equal(together.samples.positive[-1], positives)
    assert torch.equal(together.samples.valid[-1], alone.samples.valid[0])
    # Backgrounds have no rank among themselves: compare them as a set.
    assert_close(together.boxes[-1][positives], alone.boxes[0][positives], **REORDERED_SUMS)
    assert_close(sorted_rows(together.boxes[-1]), sorted_rows(alone.boxes[0]), **REORDERED_SUMS)


def sorted_rows(boxes):
    return torch.stack(sorted(boxes, key=lambda row: row.tolist()))


# Static shapes.


@pytest.fixture(scope="module")
def exported(model):
    # 6 seconds: once for all tests of it.
    batch = make_batch(random_images([SQUARE, SQUARE]), model.settings.image)
    return torch.export.export(model, (batch.images, batch.sizes)).module()


@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated:FutureWarning")
@pytest.mark.parametrize("sizes", [[SQUARE, SQUARE], [(40, 64), (64, 33)]], ids=["full", "padded"])
def test_one_exported_graph_equals_eager_on_any_image(model, exported, sizes):
    for seed in range(3):
        batch = make_batch(random_images(sizes, seed=seed), model.settings.image)
        if batch.images.shape[-2:] != SQUARE:
            pytest.fail("the case must fit the exported size")
        expected = model(batch.images, batch.sizes)
        assert expected[3].any()
        for found, wanted in zip(exported(batch.images, batch.sizes), expected, strict=True):
            assert_close(found, wanted, **REORDERED_SUMS)


@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated:FutureWarning")
def test_shapes_of_the_exported_graph_do_not_depend_on_what_is_found(model, exported):
    batch = make_batch(random_images([SQUARE, SQUARE]), model.settings.image)
    shapes = [(2, 6, 4), (2, 6), (2, 6), (2, 6), (2, 6, 56, 56)]
    # Everything is background; and every box of the proposals' net shrinks to a point, so that there is no proposal.
    emptied = {
        "box_head.class_logits.bias": torch.tensor([50.0, 0.0]),
        "rpn.deltas.bias": torch.tensor([0.0, 0.0, -1e4, -1e4]).repeat(3),
    }
    assert exported(batch.images, batch.sizes)[3].all()
    for name, value in emptied.items():
        parameter = exported.get_parameter(name)
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.copy_(value)
            outputs = exported(batch.images, batch.sizes)
            parameter.copy_(before)
        assert [tuple(output.shape) for output in outputs] == shapes
        assert not outputs[3].any(), name
        assert all(output.isfinite().all() for output in outputs)


def test_forward_and_predict_find_the_same(model):
    images = random_images([SQUARE, (40, 64)], seed=2)
    for image, found in zip(images, model.predict(images), strict=True):
        batch = make_batch([image], model.settings.image)
        boxes, scores, labels, valid, mask_probs = model(batch.images, batch.sizes)
        assert_close(boxes[valid] * batch.ratios, found.boxes, **REORDERED_SUMS)
        assert_close(scores[valid], found.scores, **REORDERED_SUMS)
        assert_close(labels[valid], found.labels)
        assert_close(mask_probs[valid], found.mask_probs, **REORDERED_SUMS)


# Nothing wasted.


def rows_seen(module, run):
    """How many rows `module` is given while `run` runs."""
    rows = []
    hook = module.register_forward_pre_hook(lambda _module, inputs: rows.append(len(inputs[0])))
    try:
        result = run()
    finally:
        hook.remove()
    return rows, result


@pytest.mark.parametrize("proposals", [5, 20])
def test_as_many_proposals_are_judged_as_the_settings_say(proposals):
    model = build_model(tiny_settings({"rpn.post_nms_topk": proposals}), seed=0).eval()
    rows, _ = rows_seen(model.box_head, lambda: model.predict(random_images([SQUARE] * 3)))
    assert rows == [3 * proposals]


@pytest.mark.parametrize("most", [1, 4])
def test_no_more_is_found_than_the_settings_say(most):
    model = tiny_model({"box_head.max_detections": most})
    found = model.predict(random_images([SQUARE] * 2))
    assert [len(one) for one in found] == [most, most]


def test_masks_are_drawn_for_detections_alone(model):
    images = random_images([SQUARE] * 3, seed=1)
    rows, found = rows_seen(model.mask_head, lambda: model.predict(images))
    assert rows == [sum(len(one) for one in found)]


def test_no_mask_is_drawn_when_nothing_is_found():
    model = tiny_model({"box_head.score_thresh": 1.0})
    rows, found = rows_seen(model.mask_head, lambda: model.predict(random_images([SQUARE] * 2)))
    assert rows == [0]
    assert [len(one) for one in found] == [0, 0]


def test_masks_train_on_as_many_regions_as_the_settings_say():
    model = tiny_model({"mask_head.train_rois": 3})
    images, targets = random_images([SQUARE] * 2), [blob_target(SQUARE, 2)] * 2
    rows, _ = rows_seen(model.mask_head, lambda: model.losses(images, targets))
    assert rows == [2 * 3]


# Finer than 28 x 28.


@pytest.mark.parametrize("name", ["small", "base"])
def test_default_presets_draw_masks_of_at_least_56_cells(name):
    assert preset(name).mask_head.resolution >= 56


@pytest.mark.parametrize(("pool_size", "resolution"), [(14, 28), (14, 56), (7, 56), (28, 112)])
def test_masks_have_the_resolution_of_the_settings(pool_size, resolution):
    model = tiny_model({"mask_head.pool_size": pool_size, "mask_head.resolution": resolution})
    (found,) = model.predict(random_images([SQUARE]))
    assert found.mask_probs.shape == (len(found), resolution, resolution)
    losses = model.losses(random_images([SQUARE]), [blob_target(SQUARE, 1)])
    assert losses["mrcnn_mask_loss"] > 0


# Empty is normal.


def assert_losses_train_everything(model, losses):
    """Finite losses that reach every trainable parameter with finite gradients."""
    assert tuple(losses) == LOSS_NAMES
    assert all(value.shape == () and value.isfinite() for value in losses.values()), losses
    model.zero_grad()
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"
    model.zero_grad()


def no_proposals(model):
    """Every box shrinks to a point, so that none is large enough."""
    with torch.no_grad():
        model.rpn.deltas.weight.zero_()
        model.rpn.deltas.bias.copy_(torch.tensor([0.0, 0.0, -100.0, -100.0]).repeat(3))
    return model


@pytest.mark.parametrize("training", [False, True], ids=["evaluation mode", "training mode"])
@pytest.mark.parametrize("counts", [(0,), (0, 0), (2, 0), (0, 3), (0, 1, 0)])
def test_losses_without_objects_are_finite(counts, training):
    model = tiny_model().train(training)
    targets = [blob_target(SQUARE, count) for count in counts]
    losses = model.losses(random_images([SQUARE] * len(counts)), targets)
    if sum(counts) == 0:
        assert [name for name, value in losses.items() if value == 0] == [
            "rpn_bbox_loss",
            "mrcnn_bbox_loss",
            "mrcnn_mask_loss",
        ]
    assert_losses_train_everything(model, losses)


@pytest.mark.parametrize("size", [(40, 64), (10, 10), (300, 200)])
def test_images_without_objects_may_need_resizing(model, size):
    losses = model.losses(random_images([size]), [blob_target(size, 0)])
    assert_losses_train_everything(model, losses)


@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (1, 1)])
def test_losses_without_proposals_are_finite(counts):
    model = no_proposals(tiny_model()).train()
    targets = [blob_target(SQUARE, count) for count in counts]
    losses = model.losses(random_images([SQUARE, SQUARE]), targets)
    assert_losses_train_everything(model, losses)


NORMED_HEADS = {"box_head.kind": "conv", "mask_head.norm": True, "mask_head.train_rois": None}


@pytest.mark.parametrize(("proposals", "count"), [(True, 0), (True, 1), (False, 0), (False, 1)])
def test_heads_with_batch_norm_survive_having_no_regions(proposals, count):
    model = tiny_model(NORMED_HEADS)
    if not proposals:
        no_proposals(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    model.train()
    losses = model.losses(random_images([SQUARE]), [blob_target(SQUARE, count)])
    assert_losses_train_everything(model, losses)
    for name, value in model.state_dict().items():
        assert value.isfinite().all(), f"{name} is not finite after a batch without regions"


@pytest.mark.parametrize("changes", [{}, NORMED_HEADS], ids=["small", "heads with norm"])
def test_predictions_without_proposals_are_empty(changes):
    model = no_proposals(tiny_model(changes))
    assert_empty(model.predict(random_images([SQUARE, (30, 64)])), 2)


def test_predictions_of_no_images_are_no_results(model):
    assert model.predict([]) == []


def test_predictions_without_detections_are_empty_and_well_shaped():
    assert_empty(tiny_model({"box_head.score_thresh": 1.0}).predict(random_images([SQUARE, SQUARE, (10, 64)])), 3)


def assert_empty(results, count):
    assert len(results) == count
    for found in results:
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)
        assert found.scores.shape == (0,)
        assert found.labels.shape == (0,)
        assert found.mask_probs.shape == (0, 56, 56)
        assert found.labels.dtype == torch.int64
        assert {found.boxes.dtype, found.scores.dtype, found.mask_probs.dtype} == {torch.float32}


def test_forward_without_detections_keeps_its_shape_and_says_that_none_is_valid():
    model = tiny_model({"box_head.score_thresh": 1.0})
    batch = make_batch(random_images([SQUARE]), model.settings.image)
    boxes, _, labels, valid, mask_probs = model(batch.images, batch.sizes)
    assert not valid.any()
    assert boxes.shape == (1, 6, 4)
    assert mask_probs.isfinite().all()
    assert (labels >= 1).all()


@pytest.mark.parametrize("name", ["torchvision_v1", "torchvision_v2"])
def test_torchvision_presets_train_without_objects_too(name):
    model = build_model(override(preset(name), OUR_SETTINGS), seed=0).train()
    losses = model.losses(random_images([(96, 96)]), [blob_target((96, 96), 0)])
    assert_losses_train_everything(model, losses)


def test_an_object_of_one_pixel_trains(model):
    masks = torch.zeros(1, *SQUARE, dtype=torch.bool)
    masks[0, 10, 20] = True
    target = Target(torch.tensor([[20.0, 10.0, 21.0, 11.0]]), torch.tensor([1]), masks)
    assert_losses_train_everything(model, model.losses(random_images([SQUARE]), [target]))
