"""Data-parallel training: two gloo processes on one machine.

The quick tests are one of the two themselves and start the other with the variables that torchrun sets; the slow ones
go through torchrun.
"""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dermask.models.build import build_model
from dermask.training.history import read_history
from dermask.training.loop import train
from training_examples import discs, tiny_settings

TESTS = Path(__file__).parents[1]
# One plain gradient step at rate 1 from known weights, so that weights before less weights after is the gradient.
ONE_STEP = {
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "clip_norm": "none",
    "freeze_norm": True,
    "epochs": 1,
    "steps_per_epoch": 1,
    "ema_decay": 0,
}
# Photographs without a lesion and with two: the processes' shares hold different numbers of everything.
DATA = "discs(5, lesions=(1, 0, 2)), discs(3, seed=1)"
SCRIPT = f"""
import json, os, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from training_examples import discs, tiny_settings
from dermask.models.build import build_model
from dermask.training.callbacks import Callback
from dermask.training.loop import train
torch.set_num_threads(1)
settings = tiny_settings(**json.loads(sys.argv[3]))
rank = int(os.environ["RANK"])


class Stop(Callback):
    def on_epoch(self, report):
        raise KeyboardInterrupt


# The first process decides what all begin with, so the seeds may differ.
result = train(build_model(settings.model, seed=rank), settings, {DATA}, Path(sys.argv[2]), device="cpu",
               resume="--resume" in sys.argv, callbacks=[Stop()] if "--stop" in sys.argv else [])
Path(sys.argv[2], f"rank{{rank}}.json").write_text(json.dumps([result.best_epoch, result.best_value]))
"""


def command(folder, settings, *options):
    return [sys.executable, "-c", SCRIPT, str(TESTS), str(folder), json.dumps(settings), *options]


def torchrun(folder, *options, **settings):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        start + command(folder, settings, *options), env=environment, capture_output=True, text=True, timeout=280
    )


def run_two(folder, **settings):
    """Be the first process, with a second beside it; returns what the first got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    second = subprocess.Popen(command(folder, settings), env=os.environ | shared | {"RANK": "1", "LOCAL_RANK": "1"})
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
                patch.setenv(name, value)
            result = run_one(folder, **settings)
        assert second.wait(60) == 0
    finally:
        second.kill()
    return result


def run_one(folder, **settings):
    chosen = tiny_settings(**settings)
    model = build_model(chosen.model, seed=0)
    return train(model, chosen, discs(5, lesions=(1, 0, 2)), discs(3, seed=1), folder, device="cpu")


def last(folder):
    return load_file(folder / "checkpoints" / "last.safetensors")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_one(folder / "one", **ONE_STEP, batch_size=4)
    first = run_two(folder / "two", **ONE_STEP, batch_size=2)
    (folder / "two" / "rank0.json").write_text(json.dumps([first.best_epoch, first.best_value]))
    return folder


def test_gradients_are_those_of_one_process_with_the_whole_batch(one_and_two):
    before = build_model(tiny_settings().model, seed=0).state_dict()
    one, two = last(one_and_two / "one"), last(one_and_two / "two")
    assert one.keys() == two.keys()
    largest = max((one[f"model.{name}"] - value).abs().max().item() for name, value in before.items())
    assert largest > 0.01, "there is a gradient to compare"
    for name, value in one.items():
        # Sums of a few thousand float32 terms in another order.
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_training_losses_are_the_mean_over_all_processes(one_and_two):
    [one], [two] = (read_history(one_and_two / name / "history.csv") for name in ("one", "two"))
    for name in ("loss", "rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-5), name


def test_validation_covers_every_photograph_once(one_and_two):
    [one], [two] = (read_history(one_and_two / name / "history.csv") for name in ("one", "two"))
    assert two["val_jaccard"] == pytest.approx(one["val_jaccard"], abs=1e-4)
    assert math.isfinite(two["val_loss"])


def test_only_the_first_process_writes_and_all_agree_on_the_best(one_and_two):
    two = one_and_two / "two"
    environment = json.loads((two / "environment.json").read_text())
    assert environment["processes"] == 2
    assert len(list((two / "tensorboard").iterdir())) == 1
    results = [(two / f"rank{rank}.json").read_text() for rank in (0, 1)]
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_run_under_torchrun_resumes_to_the_same_numbers(tmp_path):
    settings = {"epochs": 2, "batch_size": 1, "accumulate": 2}
    assert torchrun(tmp_path / "whole", **settings).returncode == 0
    stopped = torchrun(tmp_path / "stopped", "--stop", **settings)
    assert stopped.returncode != 0
    assert [row["epoch"] for row in read_history(tmp_path / "stopped" / "history.csv")] == [1]
    resumed = torchrun(tmp_path / "stopped", "--resume", **settings)
    assert resumed.returncode == 0, resumed.stderr
    one, two = last(tmp_path / "whole"), last(tmp_path / "stopped")
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.slow
def test_an_existing_run_stops_all_processes_of_torchrun(tmp_path):
    (tmp_path / "config.toml").touch()
    finished = torchrun(tmp_path)
    assert finished.returncode != 0
    assert "holds a run already" in finished.stderr
