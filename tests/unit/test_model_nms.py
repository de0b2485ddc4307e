import pytest
import torch
from torchvision.ops import box_iou

from dermask.models.nms import best_survivors, suppress


def reference_suppress(boxes, scores, groups, valid, iou_thresh):
    """The plain algorithm: best first, drop what overlaps it too much."""
    survives = torch.zeros_like(valid)
    rivals = (box_iou(boxes, boxes) > iou_thresh) & (groups[:, None] == groups)
    for idx in scores.sort(descending=True, stable=True).indices.tolist():
        survives[idx] = valid[idx] and not (rivals[idx] & survives).any()
    return survives


def random_case(batch, count, seed=0, groups=3):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(batch, count, 2, generator=generator) * 40], dim=2)
    return (
        boxes,
        torch.rand(batch, count, generator=generator),
        torch.randint(groups, (batch, count), generator=generator),
        torch.rand(batch, count, generator=generator) < 0.8,
    )


@pytest.fixture(params=[False, True], ids=["eager", "in a graph"])
def _compiling(request, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: request.param)


@pytest.mark.usefixtures("_compiling")
@pytest.mark.parametrize("iou_thresh", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("count", [1, 40])
def test_suppression_equals_the_plain_algorithm_per_image(count, iou_thresh):
    case = random_case(3, count, seed=count)
    survives = suppress(*case, iou_thresh=iou_thresh)
    for image in range(3):
        assert torch.equal(survives[image], reference_suppress(*(part[image] for part in case), iou_thresh))


@pytest.mark.usefixtures("_compiling")
def test_many_boxes_go_the_other_way_to_the_same_result():
    # torchvision changes its method above 1000 boxes.
    case = random_case(1, 1200, seed=5, groups=2)
    assert torch.equal(suppress(*case, iou_thresh=0.5)[0], reference_suppress(*(part[0] for part in case), 0.5))


@pytest.mark.usefixtures("_compiling")
def test_boxes_that_are_not_valid_neither_survive_nor_suppress():
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 9.0, 9.0]]])
    scores, groups = torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3, dtype=torch.int64)
    survives = suppress(boxes, scores, groups, torch.tensor([[False, True, True]]), iou_thresh=0.5)
    assert survives.tolist() == [[False, True, False]]


@pytest.mark.usefixtures("_compiling")
def test_groups_do_not_suppress_one_another():
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0]] * 3])
    survives = suppress(
        boxes,
        torch.tensor([[0.5, 0.9, 0.7]]),
        torch.tensor([[0, 1, 0]]),
        torch.ones(1, 3, dtype=torch.bool),
        iou_thresh=0.5,
    )
    assert survives.tolist() == [[False, True, True]]


@pytest.mark.usefixtures("_compiling")
def test_nothing_valid_gives_no_survivor():
    boxes, scores, groups, _ = random_case(2, 6)
    assert not suppress(boxes, scores, groups, torch.zeros(2, 6, dtype=torch.bool), iou_thresh=0.5).any()


def test_the_best_survivors_come_best_first_and_are_filled_up():
    scores = torch.tensor([[0.2, 0.9, 0.5, 0.7], [0.1, 0.2, 0.3, 0.4]])
    survives = torch.tensor([[True, False, True, True], [False, False, True, False]])
    idxs, valid = best_survivors(scores, survives, 2)
    assert idxs[0].tolist() == [3, 2]
    assert idxs[1, 0] == 2
    assert valid.tolist() == [[True, True], [True, False]]


def test_survivors_with_a_score_of_zero_count():
    _, valid = best_survivors(torch.zeros(1, 3), torch.tensor([[True, False, True]]), 3)
    assert valid.tolist() == [[True, True, False]]


def test_equal_scores_keep_their_order():
    idxs, _ = best_survivors(torch.full((1, 6), 0.5), torch.ones(1, 6, dtype=torch.bool), 4)
    assert idxs.tolist() == [[0, 1, 2, 3]]


def test_no_more_survivors_than_boxes():
    idxs, valid = best_survivors(torch.rand(2, 3), torch.ones(2, 3, dtype=torch.bool), 10)
    assert idxs.shape == valid.shape == (2, 3)
