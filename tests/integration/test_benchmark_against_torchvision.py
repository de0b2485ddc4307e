import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "against_torchvision.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("against_torchvision", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look their types up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


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
    assert names == [["torchvision", "ours", "ours, small masks"], ["torchvision", "ours"]]
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


@pytest.mark.slow
def test_the_tuned_setting_is_timed_beside_the_plain_one(benchmark, tmp_path):
    result = run(benchmark, tmp_path, "--model", "v2", "--channels-last", "--bf16", "--batch", "2")
    assert list(result["results"]) == ["plain", "channels_last + bf16"]
    assert result["results"]["plain"]["box_difference_px"] < 1e-3
    assert len(result["timings"]["predict"]) == 6


def test_a_weights_file_that_does_not_exist_is_one_line(benchmark, tmp_path, capsys):
    arguments = ["--model", "v1", "--size", "96", "--weights", str(tmp_path / "none.pth")]
    assert benchmark.main(arguments) == 1
    assert "no such weights file" in capsys.readouterr().err
