import copy
import json
import math
import stat

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from dermask.config import TrainSettings, override
from dermask.errors import SettingError, WeightsError
from dermask.training import checkpoint
from dermask.training.checkpoint import Metadata, check_same_run, load_state, read_metadata, save_state, save_weights
from dermask.training.optim import WeightAverage, build_optimizer
from training_examples import tiny_settings


def metadata(settings=None, **changes):
    settings = settings or tiny_settings()
    values = {
        "config": checkpoint.settings_tree(settings),
        "class_names": ("lesion",),
        "epoch": 3,
        "step": 12,
        "metrics": {"loss": 0.1 + 0.2, "val_mask_ap": 0.5},
        "best_epoch": 2,
        "best_value": 0.75,
        "data": {"train": "aa", "val": "bb"},
    }
    return Metadata(**(values | changes))


class Training:
    """A small network under training."""

    def __init__(self, *, seed=0, optimizer="adamw", width=4):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 1))
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.model, TrainSettings(optimizer=optimizer, learning_rate=0.01))
        self.average = WeightAverage(self.model, 0.9)

    def step(self, number):
        generator = torch.Generator().manual_seed(number)
        images = torch.rand(2, 3, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
        self.model(images).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.model, number)

    @property
    def parts(self):
        return {"model": self.model, "average": self.average.model, "optimizer": self.optimizer}

    def tensors(self):
        states = [self.model.state_dict(), self.average.model.state_dict()]
        return [tensor for state in states for tensor in state.values()]


class TestState:
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_a_restored_run_takes_the_same_next_steps(self, tmp_path, optimizer):
        path = tmp_path / "last.safetensors"
        run = Training(optimizer=optimizer)
        for number in (1, 2, 3):
            run.step(number)
        save_state(path, metadata(), **run.parts)
        restored = Training(seed=99, optimizer=optimizer)
        load_state(path, **restored.parts)
        for number in (4, 5, 6):
            run.step(number)
            restored.step(number)
        for one, other in zip(run.tensors(), restored.tensors(), strict=True):
            assert torch.equal(one, other)

    def test_the_metadata_comes_back(self, tmp_path):
        run = Training()
        save_state(tmp_path / "last.safetensors", metadata(), **run.parts)
        assert load_state(tmp_path / "last.safetensors", **run.parts) == metadata()

    def test_undefined_figures_survive_json(self, tmp_path):
        saved = metadata(metrics={"val_mask_ap": math.nan}, best_value=None)
        save_weights(tmp_path / "best.safetensors", saved, nn.Linear(1, 1))
        assert math.isnan(read_metadata(tmp_path / "best.safetensors").metrics["val_mask_ap"])
        assert json.loads((tmp_path / "best.json").read_text())["metrics"] == {"val_mask_ap": None}

    def test_without_an_average_none_is_written(self, tmp_path):
        run = Training()
        path = tmp_path / "last.safetensors"
        save_state(path, metadata(), model=run.model, average=None, optimizer=run.optimizer)
        assert not [name for name in checkpoint._read_tensors(path) if name.startswith("ema.")]
        load_state(path, model=run.model, average=None, optimizer=run.optimizer)

    def test_best_holds_plain_names(self, tmp_path):
        run = Training()
        save_weights(tmp_path / "best.safetensors", metadata(), run.model)
        assert checkpoint._read_tensors(tmp_path / "best.safetensors").keys() == run.model.state_dict().keys()

    def test_files_can_be_read_by_whoever_reads_other_new_files(self, tmp_path):
        save_weights(tmp_path / "best.safetensors", metadata(), nn.Linear(1, 1))
        (tmp_path / "other").touch()
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("best.safetensors", "other")]
        assert modes[0] == modes[1]

    @pytest.mark.parametrize("victim", ["save_file", "os"])
    def test_dying_while_writing_leaves_the_state_before(self, tmp_path, monkeypatch, victim):
        path = tmp_path / "last.safetensors"
        run = Training()
        save_state(path, metadata(), **run.parts)
        before = copy.deepcopy(run.tensors())
        run.step(1)

        def die(*args, **kwargs):
            raise KeyboardInterrupt

        if victim == "save_file":
            monkeypatch.setattr(checkpoint, "save_file", die)
        else:
            monkeypatch.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            save_state(path, metadata(epoch=4), **run.parts)
        monkeypatch.undo()
        restored = Training(seed=5)
        assert load_state(path, **restored.parts).epoch == 3
        for one, other in zip(before, restored.tensors(), strict=True):
            assert torch.equal(one, other)
        save_state(path, metadata(epoch=4), **run.parts)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["last.json", "last.safetensors"]


class TestUnusableFiles:
    def test_a_missing_one(self, tmp_path):
        with pytest.raises(WeightsError, match=r"last\.safetensors: no such checkpoint"):
            read_metadata(tmp_path / "last.safetensors")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not safetensors at all"])
    def test_one_that_is_something_else(self, tmp_path, content):
        (tmp_path / "last.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read"):
            read_metadata(tmp_path / "last.safetensors")

    def test_a_truncated_one(self, tmp_path):
        path = tmp_path / "last.safetensors"
        run = Training()
        save_state(path, metadata(), **run.parts)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(WeightsError, match="cannot be read"):
            load_state(path, **run.parts)

    def test_weights_of_somebody_else(self, tmp_path):
        save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match="is not a checkpoint of a dermask run"):
            read_metadata(tmp_path / "other.safetensors")

    @pytest.mark.parametrize("text", ["cut off {", "[]", "{}", '{"format": 1, "class_names": [], "metrics": [1]}'])
    def test_one_with_a_damaged_description(self, tmp_path, text):
        save_file({"weight": torch.zeros(1)}, tmp_path / "last.safetensors", metadata={"dermask": text})
        with pytest.raises(WeightsError, match=r"last\.safetensors: has damaged dermask metadata; restore it"):
            read_metadata(tmp_path / "last.safetensors")

    def test_a_full_disk_leaves_the_state_before(self, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            raise SafetensorError("No space left on device")

        save_weights(tmp_path / "best.safetensors", metadata(), nn.Linear(1, 1))
        monkeypatch.setattr(checkpoint, "save_file", fail)
        with pytest.raises(WeightsError, match=r"best\.safetensors: cannot be written: No space left on device; make"):
            save_weights(tmp_path / "best.safetensors", metadata(epoch=4), nn.Linear(1, 1))
        assert read_metadata(tmp_path / "best.safetensors").epoch == 3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "best.safetensors"]

    def test_one_from_the_future(self, tmp_path):
        save_weights(tmp_path / "best.safetensors", metadata(format=99, version="9.0"), nn.Linear(1, 1))
        with pytest.raises(WeightsError, match=r"written by dermask 9\.0.*install a newer dermask"):
            read_metadata(tmp_path / "best.safetensors")

    def test_one_of_another_network(self, tmp_path):
        save_state(tmp_path / "last.safetensors", metadata(), **Training().parts)
        with pytest.raises(WeightsError, match=r"does not fit the network: size mismatch"):
            load_state(tmp_path / "last.safetensors", **Training(width=5).parts)


class TestSameRun:
    def check(self, saved, now, tmp_path):
        check_same_run(saved, now, run_dir=tmp_path)

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("train.epochs", 9, r"train\.epochs: is 9, the run began with 2"),
            ("train.batch_size", 4, r"train\.batch_size: is 4, the run began with 2"),
            ("train.patience", 4, r"train\.patience: is 4, the run began with None"),
            ("model.backbone.fpn_channels", 32, r"model\.backbone\.fpn_channels: is 32, the run began with 16"),
            ("augment.flip", 0.0, r"augment\.flip: is 0\.0, the run began with 0\.5"),
        ],
    )
    def test_a_changed_setting_is_named_with_both_values(self, tmp_path, name, value, words):
        now = metadata(override(tiny_settings(), {name: value}))
        with pytest.raises(SettingError, match=words):
            self.check(metadata(), now, tmp_path)

    @pytest.mark.parametrize(("name", "value"), [("train.workers", 3), ("train.cache_images", True)])
    def test_what_changes_no_number_may_change(self, tmp_path, name, value):
        self.check(metadata(), metadata(override(tiny_settings(), {name: value})), tmp_path)

    def test_other_photographs_are_refused(self, tmp_path):
        with pytest.raises(SettingError, match="val data: photographs or outlines are not those"):
            self.check(metadata(), metadata(data={"train": "aa", "val": "cc"}), tmp_path)

    def test_another_number_of_processes_is_refused(self, tmp_path):
        with pytest.raises(SettingError, match=r"processes: are 2, the run began with 1; .*--nproc-per-node 1"):
            self.check(metadata(), metadata(world_size=2), tmp_path)

    def test_settings_read_back_from_a_file_are_the_same(self, tmp_path):
        save_weights(tmp_path / "best.safetensors", metadata(), nn.Linear(1, 1))
        self.check(read_metadata(tmp_path / "best.safetensors"), metadata(), tmp_path)
