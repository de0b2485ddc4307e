import copy
import math

import pytest
import torch
from torch import nn

from dermask.config import TrainSettings
from dermask.training.optim import WeightAverage, build_optimizer, learning_rate, set_learning_rate

SETTINGS = TrainSettings(learning_rate=0.1, warmup_steps=10, final_rate=0.01)


def rates(total, settings=SETTINGS):
    return [learning_rate(step, total, settings) for step in range(total)]


class TestLearningRate:
    @pytest.mark.parametrize(
        ("step", "total", "rate"),
        [
            (0, 200, 0.001),
            (5, 200, 0.0505),
            (10, 200, 0.1),
            (199, 200, 0.001),
            (0, 1, 0.1),
            (0, 5, 0.1),
            (4, 5, 0.001),
            (500, 200, 0.001),
        ],
        ids=["first", "half warm", "peak", "last", "only step", "too short to warm up", "end of five", "beyond"],
    )
    def test_warms_up_then_follows_the_cosine(self, step, total, rate):
        assert learning_rate(step, total, SETTINGS) == pytest.approx(rate)

    def test_rises_once_then_falls(self):
        values = rates(300)
        peak = values.index(max(values))
        assert peak == 10
        assert values[:11] == sorted(values[:11])
        assert values[10:] == sorted(values[10:], reverse=True)

    def test_the_middle_of_the_cosine_is_half_way(self):
        settings = SETTINGS.model_copy(update={"warmup_steps": 0})
        assert learning_rate(50, 101, settings) == pytest.approx((0.1 + 0.001) / 2)

    def test_the_warm_up_takes_at_most_a_tenth_of_the_run(self):
        values = rates(50)
        assert values.index(max(values)) == 5


class TestOptimizer:
    @pytest.mark.parametrize("name", ["adamw", "sgd"])
    def test_only_weights_decay_and_only_what_trains_is_there(self, name):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
        model[3].requires_grad_(False)
        optimizer = build_optimizer(model, TrainSettings(optimizer=name, weight_decay=0.3))
        decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert decays == {
            id(model[0].weight): 0.3,
            id(model[0].bias): 0.0,
            id(model[1].weight): 0.0,
            id(model[1].bias): 0.0,
        }

    def test_sgd_takes_its_momentum(self):
        optimizer = build_optimizer(nn.Linear(2, 2), TrainSettings(optimizer="sgd", momentum=0.7))
        assert {group["momentum"] for group in optimizer.param_groups} == {0.7}

    def test_every_group_gets_the_rate(self):
        optimizer = build_optimizer(nn.Linear(2, 2), TrainSettings())
        set_learning_rate(optimizer, 0.25)
        assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


class TestWeightAverage:
    def test_equals_the_sum_written_out(self):
        model = nn.Linear(1, 1, bias=False)
        values = [3.0, -1.0, 4.0, 2.0, 8.0]
        nn.init.constant_(model.weight, 1.0)
        average, expected = WeightAverage(model, 0.3), 1.0
        for step, value in enumerate(values, start=1):
            nn.init.constant_(model.weight, value)
            average.update(model, step)
            decay = min(0.3, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * value
            assert average.model.weight.item() == pytest.approx(expected, rel=1e-6)

    def test_takes_in_buffers_and_copies_counters(self):
        model = nn.BatchNorm1d(2)
        average = WeightAverage(model, 0.9)
        model.running_mean.fill_(11.0)
        model.num_batches_tracked.fill_(7)
        average.update(model, 1)
        torch.testing.assert_close(average.model.running_mean, torch.full((2,), 11 * (1 - 2 / 11)))
        assert average.model.num_batches_tracked.item() == 7

    def test_the_average_takes_no_gradient_and_leaves_the_model_alone(self):
        model = nn.Linear(2, 2)
        before = copy.deepcopy(model.state_dict())
        average = WeightAverage(model, 0.9)
        average.update(model, 1)
        assert not any(parameter.requires_grad for parameter in average.model.parameters())
        assert all(parameter.requires_grad for parameter in model.parameters())
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])

    def test_a_constant_model_is_its_own_average(self):
        model = nn.Linear(3, 3)
        average = WeightAverage(model, 0.998)
        for step in range(1, 50):
            average.update(model, step)
        assert torch.equal(average.model.weight, model.weight)

    def test_no_decay_is_the_model_itself(self):
        model = nn.Linear(1, 1)
        average = WeightAverage(model, 0.0)
        assert average.model is model
        average.update(model, 1)

    def test_the_ramp_forgets_the_start(self):
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 1000.0)
        average = WeightAverage(model, 0.9999)
        nn.init.constant_(model.weight, 0.0)
        for step in range(1, 101):
            average.update(model, step)
        assert abs(average.model.weight.item()) < 1e-3 < 1000 * math.pow(0.9999, 100)
