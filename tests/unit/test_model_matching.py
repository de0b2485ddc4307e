import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection._utils import Matcher

from dermask.models.matching import draw_samples, hash_uniform, match

RPN = {"positive_iou": 0.7, "negative_iou": 0.3, "every_gt_matches": True}
HEAD = {"positive_iou": 0.5, "negative_iou": 0.5, "every_gt_matches": False}


def matched(quality, settings, gt_valid=None):
    quality = torch.tensor(quality, dtype=torch.float32)[None]
    if gt_valid is None:
        gt_valid = [True] * quality.shape[1]
    idxs, labels = match(quality, torch.tensor([gt_valid]), **settings)
    return idxs[0], labels[0]


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        pytest.param([[0.0, 0.0, 0.0]], [0, 0, 0], id="nothing overlaps: nothing is forced to match"),
        pytest.param([[0.1, 0.2, 0.05]], [0, 1, 0], id="the best one matches, however little"),
        pytest.param([[0.2, 0.2, 0.05]], [1, 1, 0], id="so do all that are as good"),
        pytest.param([[0.9, 0.5, 0.1]], [1, -1, 0], id="between the thresholds is ignored"),
        pytest.param([[0.9, 0.7, 0.3]], [1, 1, -1], id="thresholds belong to the upper side"),
        pytest.param([[0.9, 0.8, 0.1], [0.2, 0.1, 0.25]], [1, 1, 1], id="each ground truth forces its own"),
    ],
)
def test_anchors_are_labelled(quality, expected):
    assert matched(quality, RPN)[1].tolist() == expected


def test_proposals_below_the_threshold_are_background():
    idxs, labels = matched([[0.6, 0.5, 0.49, 0.0], [0.1, 0.7, 0.2, 0.0]], HEAD)
    assert labels.tolist() == [1, 1, 0, 0]
    assert idxs[:2].tolist() == [0, 1]


def test_padded_ground_truth_is_never_matched():
    quality = [[0.2, 0.1], [0.95, 0.9]]
    assert matched(quality, HEAD, [True, False])[1].tolist() == [0, 0]
    assert matched(quality, RPN, [True, False])[1].tolist() == [1, 0]


def test_without_ground_truth_everything_is_background():
    assert matched([[0.0, 0.0, 0.0]], RPN, [False])[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("settings", [RPN, HEAD], ids=["anchors", "proposals"])
@pytest.mark.parametrize("count", [1, 4])
def test_matching_equals_torchvisions(settings, count):
    oracle = Matcher(settings["positive_iou"], settings["negative_iou"], settings["every_gt_matches"])
    quality = torch.rand(3, count, 200, generator=torch.Generator().manual_seed(count))
    idxs, labels = match(quality, torch.ones(3, count, dtype=torch.bool), **settings)
    for image in range(3):
        expected = oracle(quality[image].clone())
        wanted = torch.where(expected >= 0, 1, torch.where(expected == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
        assert torch.equal(labels[image].long(), wanted)
        positive = labels[image] == 1
        assert torch.equal(idxs[image][positive], expected[positive])


LABELS = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0, -1, -1]], dtype=torch.int8)


def draw(labels, count, fraction, seed=0):
    keys = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed))
    return draw_samples(labels, keys, count=count, positive_fraction=fraction)


@pytest.mark.parametrize(
    ("count", "fraction", "positives", "negatives"),
    [
        pytest.param(4, 0.5, 2, 2, id="half and half"),
        pytest.param(4, 0.25, 1, 3, id="a quarter"),
        pytest.param(4, 0.0, 0, 4, id="backgrounds alone"),
        pytest.param(6, 1.0, 4, 2, id="backgrounds fill the rest"),
        pytest.param(10**6, 0.5, 4, 4, id="everything but the ignored"),
    ],
)
def test_samples_hold_the_wanted_share(count, fraction, positives, negatives):
    samples = draw(LABELS, count, fraction)
    assert samples.idxs.shape == (1, min(count, 10))
    assert int(samples.positive.sum()) == positives
    assert int(samples.valid.sum()) == positives + negatives
    drawn = samples.idxs[samples.valid]
    assert len(set(drawn.tolist())) == len(drawn), "no candidate is drawn twice"
    assert (LABELS[0, samples.idxs[samples.positive]] == 1).all()
    assert (LABELS[0, samples.idxs[samples.valid & ~samples.positive]] == 0).all()


def test_positives_come_first_and_fillers_last():
    labels = torch.tensor([[0, 1, -1, -1, -1, 1], [-1] * 6, [0, 0, 0, 0, 0, 0]], dtype=torch.int8)
    samples = draw(labels, 4, 0.5)
    assert samples.positive.tolist() == [[True, True, False, False], [False] * 4, [False] * 4]
    assert samples.valid.tolist() == [[True, True, True, False], [False] * 4, [True] * 4]


def test_the_largest_keys_are_drawn():
    keys = torch.tensor([[0.1, 0.9, 0.5, 0.3, 0.8, 0.2, 0.7, 0.0]])
    labels = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]], dtype=torch.int8)
    samples = draw_samples(labels, keys, count=4, positive_fraction=0.5)
    assert samples.idxs[0, :2].tolist() == [1, 2]
    assert sorted(samples.idxs[0, 2:].tolist()) == [4, 6]


def test_a_key_of_zero_can_be_drawn():
    samples = draw_samples(torch.tensor([[1, 0]], dtype=torch.int8), torch.zeros(1, 2), count=2, positive_fraction=0.5)
    assert samples.valid.tolist() == [[True, True]]


def test_sampling_is_even():
    # 2000 draws of 2 from 8: each candidate 500 times, with a standard deviation of 20.
    labels = torch.zeros(2000, 8, dtype=torch.int8)
    keys = hash_uniform(torch.arange(2000), 8, salt=1)
    drawn = draw_samples(labels, keys, count=2, positive_fraction=0.5).idxs.flatten().bincount(minlength=8)
    assert ((drawn - 500).abs() < 100).all(), drawn


def splitmix_finaliser(state):
    state &= 2**64 - 1
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & 2**64 - 1
    return state ^ (state >> 31)


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**62, -7])
def test_hash_equals_splitmix_in_whole_numbers(seed):
    expected = []
    for number in range(20):
        state = splitmix_finaliser(seed + 3 * 0x632BE5AB) + number * 0x1E3779B97F4A7C15
        expected.append((splitmix_finaliser(state) >> 40) / 2**24)
    assert hash_uniform(torch.tensor([seed]), 20, salt=3)[0].tolist() == expected


def test_hash_is_uniform():
    values = hash_uniform(torch.arange(50), 2000, salt=1)
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.histc(values, bins=20, min=0, max=1)
    # 5000 per bin with a standard deviation of 69; neighbours and images must not be alike either.
    assert ((counts - 5000).abs() < 350).all()
    centred = values - 0.5
    for shifted in (centred.roll(1, dims=1), centred.roll(1, dims=0)):
        assert abs(float((centred * shifted).mean() * 12)) < 0.02


def test_hash_of_an_image_depends_on_its_seed_and_salt_alone():
    one = hash_uniform(torch.tensor([7]), 30, salt=1)
    assert torch.equal(hash_uniform(torch.tensor([3, 7, 9]), 30, salt=1)[1:2], one)
    assert torch.equal(hash_uniform(torch.tensor([7]), 99, salt=1)[:, :30], one)
    assert not torch.isin(hash_uniform(torch.tensor([7]), 30, salt=2), one).any()
    assert not torch.isin(hash_uniform(torch.tensor([8]), 30, salt=1), one).any()


def test_hash_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    hash_uniform(torch.tensor([1]), 10, salt=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_hash_of_no_images_is_empty():
    assert_close(hash_uniform(torch.zeros(0, dtype=torch.int64), 5, salt=1), torch.zeros(0, 5))
