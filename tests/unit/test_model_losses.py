import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.testing import assert_close

from dermask.models.losses import SMOOTH_L1_BETA, class_loss, delta_loss, mask_loss, mean_count, objectness_loss

# The same sums as PyTorch's own loss over the chosen rows, in another order.
SUMS = {"atol": 1e-6, "rtol": 1e-5}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


VALID = torch.tensor([[True, True, False, True], [True, False, False, False]])
POSITIVE = torch.tensor([[True, False, False, True], [False, False, False, False]])


def test_objectness_loss_is_the_mean_over_valid_samples():
    logits = randn(2, 4)
    expected = F.binary_cross_entropy_with_logits(logits[VALID], POSITIVE[VALID].float())
    assert_close(objectness_loss(logits, POSITIVE, VALID), expected, **SUMS)


def test_delta_loss_sums_positives_and_divides_by_all_valid():
    deltas, targets = randn(2, 4, 4), randn(2, 4, 4, seed=1)
    expected = F.smooth_l1_loss(deltas[POSITIVE], targets[POSITIVE], beta=SMOOTH_L1_BETA, reduction="sum") / 4
    assert_close(delta_loss(deltas, targets, POSITIVE, VALID), expected, **SUMS)


@pytest.mark.parametrize("filler", [math.inf, -math.inf, math.nan])
def test_targets_of_fillers_may_be_anything(filler):
    deltas, targets = randn(2, 4, 4).requires_grad_(), randn(2, 4, 4, seed=1)
    expected = delta_loss(deltas, targets, POSITIVE, VALID).detach()
    targets[~POSITIVE] = filler
    loss = delta_loss(deltas, targets, POSITIVE, VALID)
    loss.backward()
    assert_close(loss.detach(), expected)
    assert deltas.grad.isfinite().all()
    assert (deltas.grad[~POSITIVE] == 0).all()
    assert (deltas.grad[POSITIVE] != 0).any()


def test_class_loss_is_the_mean_over_valid_rows():
    logits, labels = randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    valid = torch.tensor([True, True, False, True, False])
    assert_close(class_loss(logits, labels, valid), F.cross_entropy(logits[valid], labels[valid]), **SUMS)


def test_mask_loss_is_the_mean_over_cells_and_valid_rows():
    logits, targets = randn(3, 6, 6), torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([True, False, True])
    expected = F.binary_cross_entropy_with_logits(logits[valid], targets[valid])
    assert_close(mask_loss(logits, targets, valid), expected, **SUMS)


@pytest.mark.parametrize("rows", [0, 3], ids=["no rows", "no valid rows"])
@pytest.mark.parametrize("name", ["objectness", "delta", "class", "mask"])
def test_without_valid_samples_a_loss_is_zero_and_differentiable(name, rows):
    none = torch.zeros(rows, dtype=torch.bool)
    shape = {"objectness": (rows,), "delta": (rows, 4), "class": (rows, 2), "mask": (rows, 6, 6)}[name]
    values = torch.zeros(shape, requires_grad=True)
    losses = {
        "objectness": lambda: objectness_loss(values[None], none[None], none[None]),
        "delta": lambda: delta_loss(values, torch.zeros(rows, 4), none, none),
        "class": lambda: class_loss(values, torch.zeros(rows, dtype=torch.int64), none),
        "mask": lambda: mask_loss(values, torch.zeros(rows, 6, 6), none),
    }
    loss = losses[name]()
    loss.backward()
    assert loss.shape == ()
    assert loss == 0
    assert (values.grad == 0).all()


@pytest.mark.parametrize("name", ["objectness", "delta", "class", "mask"])
def test_losses_of_half_precision_are_summed_in_float32(name):
    half, valid = torch.bfloat16, torch.ones(4, dtype=torch.bool)
    loss = {
        "objectness": lambda: objectness_loss(randn(4).to(half), valid, valid),
        "delta": lambda: delta_loss(randn(4, 4).to(half), randn(4, 4), valid, valid),
        "class": lambda: class_loss(randn(4, 2).to(half), torch.ones(4, dtype=torch.int64), valid),
        "mask": lambda: mask_loss(randn(4, 6, 6).to(half), torch.ones(4, 6, 6), valid),
    }[name]()
    assert loss.dtype == torch.float32


def test_one_process_divides_by_its_own_count():
    assert mean_count(torch.tensor([True, False, True])) == 2
    assert mean_count(torch.zeros(3, dtype=torch.bool)) == 1


@pytest.mark.parametrize(("own", "others", "expected"), [(2, 4, 3.0), (0, 5, 2.5), (0, 0, 0.5)])
def test_several_processes_divide_by_the_mean_count(own, others, expected, monkeypatch):
    # With two processes a loss divided by half of all samples, averaged over both, is the loss of the whole batch.
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda count: count.add_(others))
    assert mean_count(torch.arange(5) < own) == expected
