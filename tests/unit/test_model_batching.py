import pytest
import torch
from model_cases import blob_target, random_images
from torch.testing import assert_close
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from dermask.config import ImageSettings
from dermask.models.batching import Target, make_batch, make_target_batch
from dermask.scaling import network_size, padded_size

SETTINGS = ImageSettings(min_size=96, max_size=160)
SQUARE = ImageSettings(min_size=64, max_size=64)


def oracle(settings):
    return GeneralizedRCNNTransform(settings.min_size, settings.max_size, list(settings.mean), list(settings.std))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((96, 96), (96, 96), id="as it is"),
        pytest.param((48, 48), (96, 96), id="enlarged"),
        pytest.param((192, 240), (96, 120), id="shrunk by its short side"),
        pytest.param((100, 400), (40, 160), id="limited by its long side"),
        pytest.param((400, 100), (160, 40), id="the same on end"),
        pytest.param((1, 1), (96, 96), id="one pixel"),
        pytest.param((1, 1000), (1, 160), id="a sliver keeps a pixel"),
    ],
)
def test_network_size_fits_both_limits(size, expected):
    assert network_size(size, SETTINGS) == expected


@pytest.mark.parametrize(("size", "expected"), [((1, 32), (32, 32)), ((33, 64), (64, 64)), ((96, 160), (96, 160))])
def test_padded_size_is_the_next_multiple(size, expected):
    assert padded_size(size, SETTINGS) == expected


@pytest.mark.parametrize(
    "sizes",
    [[(96, 96)], [(60, 100), (60, 100)], [(290, 150), (77, 91), (96, 160)], [(37, 53)]],
    ids=["as it is", "enlarged", "mixed", "odd"],
)
def test_a_batch_equals_torchvisions(sizes):
    images = random_images(sizes)
    batch = make_batch(images, SETTINGS)
    expected, _ = oracle(SETTINGS)(images)
    assert_close(batch.images, expected.tensors, atol=1e-6, rtol=0)
    assert batch.sizes.tolist() == [list(map(float, size)) for size in expected.image_sizes]
    assert batch.padded_size == tuple(expected.tensors.shape[-2:])


def test_ratios_take_boxes_back_to_the_image_as_it_was_given():
    images = random_images([(200, 100), (30, 60)])
    batch = make_batch(images, SQUARE)
    corners = torch.cat([torch.zeros(2, 2), batch.sizes.flip(-1)], dim=1)
    assert_close(corners * batch.ratios, torch.tensor([[0.0, 0, 100, 200], [0, 0, 60, 30]]), atol=1e-4, rtol=0)


def test_padding_is_zero_and_the_images_are_not():
    batch = make_batch(random_images([(64, 20)]), SQUARE)
    assert (batch.images[:, :, :, 20:] == 0).all()
    assert batch.images[:, :, :, :20].any()


def test_channels_last_changes_the_layout_alone():
    images = random_images([(64, 64), (30, 64)])
    plain, last = make_batch(images, SQUARE), make_batch(images, SQUARE, channels_last=True)
    assert last.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain.images, last.images)


def test_images_given_are_not_changed():
    images = random_images([(64, 64), (40, 60)])
    copies = [image.clone() for image in images]
    make_batch(images, SQUARE)
    assert all(torch.equal(image, copy) for image, copy in zip(images, copies, strict=True))


@pytest.mark.parametrize("sizes", [[(96, 96)], [(60, 100), (77, 91)], [(290, 150)]])
def test_targets_equal_torchvisions(sizes):
    images = random_images(sizes)
    targets = [blob_target(size, number + 1) for number, size in enumerate(sizes)]
    truth = make_target_batch(targets, make_batch(images, SETTINGS))
    dicts = [{"boxes": target.boxes, "labels": target.labels, "masks": target.masks.byte()} for target in targets]
    _, expected = oracle(SETTINGS)(images, dicts)
    for row, wanted in enumerate(expected):
        count = len(wanted["labels"])
        assert truth.valid[row].tolist() == [True] * count + [False] * (truth.valid.shape[1] - count)
        assert_close(truth.boxes[row, :count], wanted["boxes"], atol=1e-4, rtol=0)
        assert torch.equal(truth.labels[row, :count], wanted["labels"])
        height, width = wanted["masks"].shape[-2:]
        masks = truth.masks[truth.mask_idxs[row, :count], 0]
        assert torch.equal(masks[:, :height, :width], wanted["masks"].float())


@pytest.mark.parametrize("counts", [(0,), (0, 0), (0, 3, 1), (2, 0, 0)])
def test_rows_are_padded_to_the_largest_count_and_at_least_one(counts):
    images = random_images([(64, 64)] * len(counts))
    truth = make_target_batch([blob_target((64, 64), count) for count in counts], make_batch(images, SQUARE))
    most = max(1, *counts)
    assert truth.boxes.shape == (len(counts), most, 4)
    assert truth.valid.sum(dim=1).tolist() == list(counts)
    assert truth.masks.shape == (sum(counts), 1, 64, 64)
    assert (truth.labels[~truth.valid] == 0).all()
    assert (truth.boxes[~truth.valid] == 0).all()
    assert truth.mask_idxs[truth.valid].tolist() == list(range(sum(counts)))


def test_mask_padding_repeats_the_border():
    target = Target(torch.tensor([[0.0, 0, 40, 64]]), torch.tensor([1]), torch.ones(1, 64, 40, dtype=torch.bool))
    truth = make_target_batch([target], make_batch(random_images([(64, 40)]), SQUARE))
    assert (truth.masks == 1).all()


@pytest.mark.parametrize(
    ("boxes", "labels", "masks"),
    [
        pytest.param((2, 4), (1,), (1, 8, 8), id="more boxes than labels"),
        pytest.param((1, 4), (1,), (2, 8, 8), id="more masks than labels"),
        pytest.param((1, 4), (1,), (8, 8), id="masks without their own dimension"),
        pytest.param((4,), (1,), (1, 8, 8), id="one box as a vector"),
    ],
)
def test_a_target_whose_parts_do_not_belong_together_is_refused(boxes, labels, masks):
    with pytest.raises(ValueError, match=r"boxes \(.*\), labels \(1,\), masks \(.*\) do not belong together"):
        Target(torch.zeros(boxes), torch.ones(labels, dtype=torch.int64), torch.zeros(masks))


def test_a_target_moves_as_a_whole():
    target = blob_target((8, 8), 2).to("meta")
    assert {part.device.type for part in (target.boxes, target.labels, target.masks)} == {"meta"}
