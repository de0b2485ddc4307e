"""Whole training runs of a tiny network on drawn discs."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import dermask
from dermask.config import ModelSettings, RunSettings, from_toml, override
from dermask.data.dataset import Dataset
from dermask.errors import LabelError, NonFiniteLossError, OutputExistsError, SettingError
from dermask.models.build import build_model
from dermask.training import checkpoint, run_folder
from dermask.training.callbacks import LOSS_PARTS, Callback
from dermask.training.history import COLUMNS, read_history
from dermask.training.loop import train
from training_examples import TINY_MODEL, discs, tiny_settings

TRAIN, VAL = discs(6, lesions=(1, 0, 2)), discs(3, seed=1)
TIMES = ("seconds", "photos_per_second")


@pytest.fixture(scope="module", autouse=True)
def _quick_and_comparable():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)  # nobody cuts the power here, and disks are slow
        yield
    torch.set_num_threads(threads)


def run(folder, settings=None, *, train_set=TRAIN, val_set=VAL, **options):
    settings = settings or tiny_settings()
    model = build_model(settings.model, seed=0)
    return model, train(model, settings, train_set, val_set, folder, device="cpu", **options)


def without_times(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def assert_same_run(first: Path, second: Path):
    for name in ("last", "best"):
        one, other = (load_file(folder / "checkpoints" / f"{name}.safetensors") for folder in (first, second))
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    rows = [without_times(read_history(folder / "history.csv")) for folder in (first, second)]
    assert rows[0] == rows[1]


class StopAt(Callback):
    """Raises as Ctrl-C does, after a given step."""

    def __init__(self, epoch, step):
        self.when = (epoch, step)

    def on_step(self, report):
        if (report.epoch, report.step) == self.when:
            raise KeyboardInterrupt


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_start(self, start):
        self.events.append(("start", start))

    def on_step(self, report):
        self.events.append(("step", report))

    def on_validation(self, done, total):
        self.events.append(("validation", (done, total)))

    def on_epoch(self, report):
        self.events.append(("epoch", report))

    def on_end(self, result):
        self.events.append(("end", result))

    def of(self, kind):
        return [detail for name, detail in self.events if name == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    recorder = Recorder()
    model, result = run(folder, callbacks=[recorder])
    return folder, model, result, recorder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder, tiny_settings(epochs=3))
    return folder


class TestRunFolder:
    def test_holds_what_the_design_says(self, finished):
        folder = finished[0]
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        events = {name for name in files if name.startswith("tensorboard/events.out")}
        assert len(events) == 1
        assert files - events == {
            "config.toml",
            "environment.json",
            "history.csv",
            *(f"checkpoints/{name}.{kind}" for name in ("best", "last") for kind in ("safetensors", "json")),
        }

    def test_the_settings_are_resolved(self, finished):
        settings = from_toml(RunSettings, finished[0] / "config.toml")
        assert settings.train.freeze_norm is False, "None, when nothing was trained before, becomes no"
        assert override(settings, {"train.freeze_norm": None}) == tiny_settings()

    def test_the_environment_names_versions_seed_and_data(self, finished):
        environment = json.loads((finished[0] / "environment.json").read_text())
        assert environment["dermask"] == dermask.__version__
        assert environment["packages"]["torch"]
        assert environment["seed"] == 0
        assert environment["data"] == {"train": TRAIN.fingerprint(), "val": VAL.fingerprint()}
        assert environment["photographs"] == {"train": 6, "val": 3}
        assert environment["device"] == "cpu"
        assert environment["threads"] == 1

    def test_the_history_is_complete(self, finished):
        folder, _, result, _ = finished
        rows = read_history(folder / "history.csv")
        assert [list(row) for row in rows] == [list(COLUMNS)] * 2
        assert [(row["epoch"], row["step"]) for row in rows] == [(1, 2), (2, 4)]
        assert [{**row} for row in result.history] == rows
        for row in rows:
            assert row["loss"] == pytest.approx(sum(row[name] for name in LOSS_PARTS), rel=1e-5)
            assert row["val_loss"] == pytest.approx(sum(row[f"val_{name}"] for name in LOSS_PARTS), rel=1e-5)
            assert 0 <= row["val_jaccard"] <= 1

    def test_the_best_checkpoint_is_a_model_one_can_load(self, finished):
        folder, _, result, _ = finished
        assert result.best_checkpoint == folder / "checkpoints" / "best.safetensors"
        detector = dermask.load(folder)
        [found] = detector.predict([VAL[0].image])
        assert found.size == (64, 64)

    def test_last_holds_model_average_and_optimizer(self, finished):
        folder, model, *_ = finished
        tensors = load_file(folder / "checkpoints" / "last.safetensors")
        names = set(model.state_dict())
        assert {name.removeprefix("model.") for name in tensors if name.startswith("model.")} == names
        assert {name.removeprefix("ema.") for name in tensors if name.startswith("ema.")} == names
        for name, parameter in model.named_parameters():
            assert tensors[f"optimizer.{name}.exp_avg"].shape == parameter.shape
        for name, value in model.state_dict().items():
            assert torch.equal(tensors[f"model.{name}"], value)

    def test_callbacks_hear_everything_in_order(self, finished):
        recorder = finished[3]
        epoch = ["step"] * 2 + ["validation"] * 2 + ["epoch"]
        assert [name for name, _ in recorder.events] == ["start", *epoch, *epoch, "end"]
        [start] = recorder.of("start")
        assert (start.first_epoch, start.epochs, start.steps_per_epoch, start.photos_per_step) == (1, 2, 2, 2)
        assert [(report.epoch, report.step) for report in recorder.of("step")] == [(1, 1), (1, 2), (2, 1), (2, 2)]
        assert recorder.of("step")[0].losses.keys() == {"loss", *LOSS_PARTS}
        assert recorder.of("validation")[:2] == [(2, 3), (3, 3)]
        assert recorder.of("epoch")[0].is_best
        assert recorder.of("end") == [finished[2]]

    def test_epoch_losses_are_the_mean_of_its_steps(self, finished):
        _, _, result, recorder = finished
        first = [report.losses["loss"] for report in recorder.of("step")][:2]
        assert result.history[0]["loss"] == pytest.approx(sum(first) / 2)

    def test_nothing_is_printed(self, tmp_path, capfd):
        run(tmp_path / "run", tiny_settings(epochs=1))
        assert capfd.readouterr() == ("", "")


class TestResume:
    @pytest.mark.parametrize("when", [(1, 1), (2, 1), (2, 2), (3, 2)], ids=lambda when: f"epoch{when[0]}step{when[1]}")
    def test_a_stopped_run_ends_as_one_that_never_stopped(self, whole, tmp_path, when):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, tiny_settings(epochs=3), callbacks=[StopAt(*when)])
        recorder = Recorder()
        run(tmp_path, tiny_settings(epochs=3), resume=True, callbacks=[recorder])
        assert recorder.of("start")[0].first_epoch == when[0]
        assert_same_run(whole, tmp_path)

    @pytest.mark.parametrize("after", ["best", "history"])
    def test_dying_between_two_files_of_an_epoch_is_no_harm(self, whole, tmp_path, monkeypatch, after):
        written = checkpoint.save_state

        def die(path, metadata, **parts):
            if metadata.epoch == 2:
                raise KeyboardInterrupt
            written(path, metadata, **parts)

        if after == "history":
            monkeypatch.setattr(checkpoint, "save_state", die)
        else:
            monkeypatch.setattr(
                "dermask.training.history.History.add", lambda *_: die(None, checkpoint.Metadata({}, (), 2, 0))
            )
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, tiny_settings(epochs=3))
        monkeypatch.undo()
        run(tmp_path, tiny_settings(epochs=3), resume=True)
        assert_same_run(whole, tmp_path)

    def test_photographs_kept_in_memory_change_nothing(self, whole, tmp_path):
        run(tmp_path, tiny_settings(epochs=3, cache_images=True))
        assert_same_run(whole, tmp_path)

    def test_a_finished_run_is_left_as_it_is(self, whole):
        before = {path: path.read_bytes() for path in (whole / "checkpoints").iterdir()}
        _, result = run(whole, tiny_settings(epochs=3), resume=True)
        assert result.epochs == 3
        assert len(result.history) == 3
        assert before == {path: path.read_bytes() for path in (whole / "checkpoints").iterdir()}

    def test_a_resumed_run_says_so_in_its_environment(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, callbacks=[StopAt(2, 1)])
        run(tmp_path, resume=True)
        environment = json.loads((tmp_path / "environment.json").read_text())
        assert [entry["after_epoch"] for entry in environment["resumed"]] == [1]

    def test_resuming_nothing_begins(self, tmp_path):
        _, result = run(tmp_path / "new", tiny_settings(epochs=1), resume=True)
        assert result.epochs == 1

    def test_frozen_norm_stays_frozen_whoever_resumes(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, from_weights=True, callbacks=[StopAt(2, 1)])
        run(tmp_path, resume=True)
        tracked = load_file(tmp_path / "checkpoints" / "last.safetensors")
        counters = [value.item() for name, value in tracked.items() if name.endswith("num_batches_tracked")]
        assert set(counters) == {0}

    @pytest.mark.slow
    @pytest.mark.parametrize("delay", [0.0, 0.15, 0.4])
    def test_a_killed_process_ends_as_one_that_never_was(self, whole, tmp_path, delay):
        script = (
            "import sys, torch; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from training_examples import discs, tiny_settings\n"
            "from dermask.models.build import build_model; from dermask.training.loop import train\n"
            "torch.set_num_threads(1); settings = tiny_settings(epochs=3)\n"
            "train(build_model(settings.model, seed=0), settings, discs(6, lesions=(1, 0, 2)), discs(3, seed=1),\n"
            "      Path(sys.argv[2]), device='cpu')\n"
        )
        tests = Path(__file__).parents[1]
        process = subprocess.Popen([sys.executable, "-c", script, str(tests), str(tmp_path / "run")])
        wait_for(run_folder.last_checkpoint(tmp_path / "run"), process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        run(tmp_path / "run", tiny_settings(epochs=3), resume=True)
        assert_same_run(whole, tmp_path / "run")


def wait_for(path, process):
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


class TestRefusals:
    @pytest.mark.parametrize("name", ["config.toml", "history.csv", "checkpoints"])
    def test_a_folder_with_a_run_is_not_written_to(self, tmp_path, name):
        (tmp_path / name).mkdir()
        with pytest.raises(OutputExistsError, match="holds a run already; go on with it by --resume"):
            run(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_other_files_in_the_folder_are_no_obstacle(self, tmp_path):
        (tmp_path / "data.json").write_text("{}")
        run(tmp_path, tiny_settings(epochs=1))
        assert (tmp_path / "data.json").read_text() == "{}"

    def test_a_changed_setting_on_resume(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, callbacks=[StopAt(2, 1)])
        with pytest.raises(SettingError, match=r"train\.learning_rate: is 0\.1, the run began with 0\.0005"):
            run(tmp_path, tiny_settings(learning_rate=0.1), resume=True)

    def test_other_photographs_on_resume(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, callbacks=[StopAt(2, 1)])
        with pytest.raises(SettingError, match="train data: photographs or outlines are not those"):
            run(tmp_path, resume=True, train_set=TRAIN[:4])

    @pytest.mark.parametrize(("name", "words"), [("train_set", "training data"), ("val_set", "validation data")])
    def test_no_photographs(self, tmp_path, name, words):
        with pytest.raises(LabelError, match=f"{words}: holds no photograph"):
            run(tmp_path, **{name: Dataset([])})

    def test_other_classes_than_the_model_has(self, tmp_path):
        with pytest.raises(LabelError, match="validation data: has classes naevus, the model has lesion"):
            run(tmp_path, val_set=Dataset(VAL, ("naevus",)))

    def test_settings_of_another_model(self, tmp_path):
        with pytest.raises(SettingError, match=r"settings\.model: is not what the model was built from"):
            train(build_model(TINY_MODEL), RunSettings(model=ModelSettings()), TRAIN, VAL, tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestNonFiniteLoss:
    def test_stops_and_names_every_part_and_the_photographs(self, tmp_path):
        settings = tiny_settings()
        model = build_model(settings.model, seed=0)
        for parameter in model.mask_head.parameters():
            torch.nn.init.constant_(parameter, math.nan)
        with pytest.raises(NonFiniteLossError) as caught:
            train(model, settings, TRAIN, VAL, tmp_path, device="cpu")
        message = str(caught.value)
        assert re.match(r"epoch 1, step \d: the loss is not finite: loss nan, rpn_class_loss 0\.", message)
        assert "mrcnn_mask_loss nan" in message
        assert all(f"{name} " in message for name in LOSS_PARTS)
        assert message.count("disc") == 2
        assert "\n" not in message
        assert not (tmp_path / "checkpoints").exists()

    @pytest.mark.parametrize("part", ["trunk", "fpn", "rpn.deltas", "rpn.objectness", "box_head.deltas"])
    def test_wherever_it_comes_from(self, tmp_path, part):
        # NaN that travels forward becomes coordinates of proposals, and must reach the loss instead of a kernel.
        settings = tiny_settings()
        model = build_model(settings.model, seed=0)
        for parameter in model.get_submodule(part).parameters():
            torch.nn.init.constant_(parameter, math.nan)
        with pytest.raises(NonFiniteLossError, match=r"epoch 1, step 1: the loss is not finite: loss nan, .*disc\d"):
            train(model, settings, TRAIN, VAL, tmp_path, device="cpu")

    def test_so_does_a_gradient(self, tmp_path):
        settings = tiny_settings()
        model = build_model(settings.model, seed=0)
        model.rpn.deltas.bias.register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(NonFiniteLossError, match="gradient_norm"):
            train(model, settings, TRAIN, VAL, tmp_path, device="cpu")


class TestSettings:
    def test_patience_ends_a_run_that_gets_no_better(self, tmp_path):
        settings = tiny_settings(epochs=20, patience=2, learning_rate=1e-9)
        _, result = run(tmp_path, settings)
        assert result.stopped_early
        assert result.epochs == result.best_epoch + 2
        assert run(tmp_path, settings, resume=True)[1].epochs == result.epochs, "resuming does not go past it"

    def test_validation_every_other_epoch_and_at_the_end(self, tmp_path):
        _, result = run(tmp_path, tiny_settings(epochs=3, validate_every=2))
        assert ["val_loss" in row for row in result.history] == [False, True, True]

    @pytest.mark.parametrize("metric", ["val_loss", "val_mask_ap", "val_jaccard"])
    def test_the_best_epoch_is_best_by_the_metric(self, tmp_path, metric):
        _, result = run(tmp_path, tiny_settings(epochs=3, metric=metric))
        values = [row[metric] for row in result.history]
        assert result.best_value == (min(values) if metric == "val_loss" else max(values))
        assert values[result.best_epoch - 1] == result.best_value
        assert checkpoint.read_metadata(result.best_checkpoint).epoch == result.best_epoch

    def test_best_holds_the_averaged_weights(self, tmp_path):
        run(tmp_path, tiny_settings(epochs=1))
        best, last = (load_file(tmp_path / "checkpoints" / f"{name}.safetensors") for name in ("best", "last"))
        assert all(torch.equal(value, last[f"ema.{name}"]) for name, value in best.items())
        assert any(not torch.equal(value, last[f"model.{name}"]) for name, value in best.items())

    def test_without_an_average_best_holds_the_weights_themselves(self, tmp_path):
        run(tmp_path, tiny_settings(epochs=1, ema_decay=0))
        best, last = (load_file(tmp_path / "checkpoints" / f"{name}.safetensors") for name in ("best", "last"))
        assert all(torch.equal(value, last[f"model.{name}"]) for name, value in best.items())
        assert not [name for name in last if name.startswith("ema.")]

    def test_only_the_chosen_layers_change(self, tmp_path):
        model, _ = run(tmp_path, tiny_settings(epochs=1, layers="heads", freeze_norm=True))
        fresh = build_model(TINY_MODEL, seed=0).state_dict()
        changed = {
            name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, fresh[name])
        }
        assert "trunk" not in changed
        assert {"fpn", "rpn", "box_head", "mask_head"} <= changed

    def test_accumulated_batches_are_one_step(self, tmp_path):
        recorder = Recorder()
        run(tmp_path, tiny_settings(epochs=1, accumulate=3), callbacks=[recorder])
        assert len(recorder.of("step")) == 2
        assert recorder.of("start")[0].photos_per_step == 6

    def test_accumulated_gradients_are_the_mean_of_their_batches(self, tmp_path):
        # Twice the very same batch must be as good as once.
        same = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "freeze_norm": True, "epochs": 1}
        settings = [
            tiny_settings(augmented=False, steps_per_epoch=1, batch_size=1, accumulate=n, **same) for n in (1, 2)
        ]
        models = []
        for number, chosen in enumerate(settings):
            model = build_model(chosen.model, seed=0)
            losses = model.losses
            model.losses = lambda images, targets, *, seeds, losses=losses: losses(images, targets, seeds=seeds * 0)
            train(model, chosen, TRAIN[:1], VAL, tmp_path / str(number), device="cpu")
            models.append(model)
        for one, two in zip(*(model.parameters() for model in models), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"channels_last": False}, {"optimizer": "sgd"}])
    def test_other_ways_to_compute_train_as_well(self, tmp_path, settings):
        _, result = run(tmp_path, tiny_settings(epochs=1, **settings))
        assert math.isfinite(result.history[0]["loss"])

    def test_photographs_without_any_lesion_are_ordinary(self, tmp_path):
        healthy = discs(3, lesions=(0,))
        _, result = run(tmp_path, train_set=healthy, val_set=healthy)
        assert all(math.isfinite(row["loss"]) and math.isfinite(row["val_loss"]) for row in result.history)
        assert math.isnan(result.history[0]["val_mask_ap"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_worker_processes_change_no_number(tmp_path):
    run(tmp_path / "none")
    run(tmp_path / "two", tiny_settings(workers=2))
    assert_same_run(tmp_path / "none", tmp_path / "two")


@pytest.mark.slow
def test_two_photographs_are_learnt_by_heart(tmp_path):
    pair = discs(2)
    settings = tiny_settings(
        augmented=False, epochs=1, steps_per_epoch=200, learning_rate=2e-3, ema_decay=0.9, freeze_norm=True
    )
    _, result = run(tmp_path, settings, train_set=pair, val_set=pair)
    assert result.history[-1]["val_jaccard"] > 0.9
    assert result.history[-1]["loss"] < 1.0
