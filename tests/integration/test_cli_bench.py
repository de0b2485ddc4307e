"""`dermask bench`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dermask.cli.main import run
from dermask.data.synthetic import write_synthetic
from dermask.inference import engines
from dermask.records import ImageSize


@pytest.fixture(autouse=True)
def _only_onnx_runtime(monkeypatch: pytest.MonkeyPatch):
    # OpenVINO has its tests in a process of their own.
    monkeypatch.setattr(engines, "installed_engines", lambda: ("onnxruntime",))


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    return str(write_synthetic(tmp_path / "scenes", 3, 0, ImageSize(96, 128)).parent / "images")


def test_quickly_and_for_machines(photographs: str, capsys: pytest.CaptureFixture[str]):
    assert run(["bench", "--photos", photographs, "--quick", "--rounds", "1", "--count", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["photographs"] == 2
    [(name, found)] = figures["engines"].items()
    assert name == "onnxruntime, fp32"
    median, low, high = found["network_ms"]
    assert 0 < low <= median <= high
    assert found["times_as_fast"] == [1, 1, 1]
    assert "folder_by_network" not in figures


@pytest.mark.slow
def test_all_of_it_for_people(capsys: pytest.CaptureFixture[str]):
    assert run(["bench", "--rounds", "1", "--count", "2", "--threads", "1"]) == 0
    output = capsys.readouterr().out
    for words in (
        "small.onnx: 2 photographs, 1 round in turns, threads: 1",
        "onnxruntime, fp32",
        "by lesions: 0: ",
        "by size of the file: 0.3 megapixels: ",
        "by photographs handed over at once: 1: ",
        "by threads of ONNX Runtime: 1: ",
        "a folder, overlays too: ",
        "from import to the first result, onnxruntime: ",
        "arithmetic of one photograph with one lesion: ",
    ):
        assert words in output


def test_no_such_model(capsys: pytest.CaptureFixture[str]):
    assert run(["bench", "nowhere.onnx"]) == 1
    assert "nowhere.onnx: no such model" in capsys.readouterr().err
