import json

import pytest
import torch
from scripts import load_script

from dermask.training.distributed import choose_precision


@pytest.fixture(scope="module")
def benchmark():
    return load_script("benchmarks/against_torchvision.py")


@pytest.fixture(autouse=True)
def _keep_threads(benchmark):
    threads = benchmark.torch.get_num_threads()
    yield
    benchmark.torch.set_num_threads(threads)


def run(benchmark, folder, *arguments):
    file = folder / "result.json"
    assert benchmark.main(["--size", "96", "--rounds", "1", "--threads", "1", "--json", str(file), *arguments]) == 0
    return json.loads(file.read_text())


def test_both_networks_are_timed_and_agree(benchmark, tmp_path, capsys):
    result = run(benchmark, tmp_path, "--model", "v1")
    assert result["threads"] == 1
    names = [[row["name"] for row in result["timings"][task]] for task in ("predict", "train")]
    predicting = ["torchvision", "ours", "ours, small masks", "ours, ready", "ours, ready and lean"]
    assert names == [predicting, ["torchvision", "ours", "ours, lean"]]
    for rows in result["timings"].values():
        for row in rows:
            assert row["median"] > 0
            assert len(row["seconds"]) == 1
            assert row["times_faster"]["median"] == pytest.approx(rows[0]["median"] / row["median"])
    figures = result["results"]["plain"]
    assert figures["detections"] == figures["ours"] > 0
    assert figures["in_both"] >= 0.95 * figures["detections"]
    assert figures["box_difference_px"] < 0.05
    assert figures["mask_iou_mean"] > 0.99
    printed = capsys.readouterr().out
    assert "threads      1" in printed
    assert "times as fast as torchvision" in printed


def test_channels_last_is_timed_beside_the_plain_setting(benchmark, tmp_path):
    arguments = ["--model", "v1", "--channels-last", "--tasks", "predict", "--size", "64"]
    result = run(benchmark, tmp_path, *arguments)
    check_the_tuned_setting(result, "channels_last")


@pytest.mark.slow
def test_the_second_version_agrees_too(benchmark):
    options = benchmark.parse(["--model", "v2", "--size", "96"])
    batch = benchmark.read_photographs(options)
    theirs, ours, *_ = benchmark.enter(*benchmark.make_networks(options, batch), batch, "plain", options)
    figures = benchmark.compare(theirs, ours)  # untimed: its box head takes most of a minute a round on a small CPU
    assert figures["in_both"] > 0
    assert figures["box_difference_px"] < 1e-3


@pytest.mark.slow
def test_bfloat16_is_timed_beside_the_plain_setting(benchmark, tmp_path):
    if choose_precision("auto", torch.device("cpu")) != torch.bfloat16:
        pytest.skip("this CPU emulates bfloat16: minutes for every convolution")
    result = run(benchmark, tmp_path, "--model", "v2", "--channels-last", "--bf16", "--batch", "2")
    check_the_tuned_setting(result, "channels_last + bf16")
    assert result["results"]["plain"]["box_difference_px"] < 1e-3


def check_the_tuned_setting(result, name):
    assert list(result["results"]) == ["plain", name]
    for figures in result["results"].values():
        assert figures["detections"] > 0
        assert figures["ours"] > 0
    assert len(result["timings"]["predict"]) == 2 * 5  # contestants in each setting


@pytest.mark.parametrize(
    ("fast", "arguments", "warns"),
    [
        (torch.float32, [], False),
        (torch.float32, ["--bf16"], True),
        (torch.float32, ["--bf16", "--device", "cuda"], False),
        (torch.bfloat16, ["--bf16"], False),
    ],
)
def test_emulated_bfloat16_is_warned_of(benchmark, monkeypatch, tmp_path, capsys, fast, arguments, warns):
    monkeypatch.setattr(benchmark, "choose_precision", lambda setting, device: fast)
    assert benchmark.main([*arguments, "--data", str(tmp_path / "none")]) == 1  # before a network is made
    lines = capsys.readouterr().err.splitlines()
    assert lines[:-1] == (
        ["--bf16: this CPU emulates bfloat16, which takes minutes a round; leave it out, or name another --device"]
        if warns
        else []
    )
    assert "none" in lines[-1]


def test_a_weights_file_that_does_not_exist_is_one_line(benchmark, tmp_path, capsys):
    arguments = ["--model", "v1", "--size", "96", "--weights", str(tmp_path / "none.pth")]
    assert benchmark.main(arguments) == 1
    assert "no such weights file" in capsys.readouterr().err
