"""The mean of weights is a mean, says of what, and is refused of networks that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from card_examples import metadata
from safetensors.torch import load_file, save_file
from scripts import load_script

from dermask.errors import WeightsError
from dermask.inference.detector import model_fingerprint, read_checkpoint_header
from dermask.report.card_model import read_model
from dermask.report.model_card import write_model_card

average_weights = load_script("tools/average_weights.py")


def checkpoint(folder: Path, value: float, count: int, shape: tuple[int, ...] = (2, 3)) -> Path:
    """A run's best weights: one matrix of equal numbers, and a counter."""
    path = folder / "checkpoints" / "best.safetensors"
    path.parent.mkdir(parents=True)
    save_file(
        {"weight": torch.full(shape, value), "steps": torch.tensor(count)}, path, {"dermask": json.dumps(metadata())}
    )
    (folder / "data.json").write_text(json.dumps({"data": "/home/me/isic2017", "weights": "first.onnx"}))
    return path


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [checkpoint(tmp_path / "first", 1.0, 10), checkpoint(tmp_path / "second", 5.0, 20)]


def test_of_one_it_is_the_same(two: list[Path], tmp_path: Path) -> None:
    average_weights.write_mean(two[:1], [3.0], tmp_path / "mean.safetensors")
    found, expected = load_file(tmp_path / "mean.safetensors"), load_file(two[0])
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("shares", "value"), [([1, 1], 3.0), ([0.25, 0.75], 4.0), ([30, 10], 2.0)])
def test_shares_count_by_their_ratio_and_counters_are_the_last(
    shares: list[float], value: float, two: list[Path], tmp_path: Path
) -> None:
    average_weights.write_mean(two, shares, tmp_path / "mean.safetensors")
    found = load_file(tmp_path / "mean.safetensors")
    assert torch.equal(found["weight"], torch.full((2, 3), value))
    assert found["steps"] == 20


def test_it_says_of_what_it_is_the_mean(two: list[Path], tmp_path: Path) -> None:
    average_weights.write_mean(two, [1, 3], tmp_path / "mean.safetensors")
    header = read_checkpoint_header(tmp_path / "mean.safetensors")
    first, second = (model_fingerprint(path) for path in two)
    assert header["mean_of"] == [
        {"model": "first", "sha256": first, "share": 0.25},
        {"model": "second", "sha256": second, "share": 0.75},
    ]
    assert header["run"] == {"sources": {"data": "isic2017", "weights": "first.onnx"}}
    assert header["config"] == metadata()["config"]
    card = write_model_card(read_model(tmp_path / "mean.safetensors"))
    told = f"`first` (25 %, hash `{first}`), `second` (75 %, hash `{second}`)"
    assert f"| mean of the weights of | {told} |" in card


def test_other_networks_are_refused_and_nothing_is_written(two: list[Path], tmp_path: Path) -> None:
    wide = checkpoint(tmp_path / "wide", 1.0, 1, (4, 3))
    with pytest.raises(WeightsError, match=r"first.*: is of another network than .*wide.*; average runs that go on"):
        average_weights.write_mean([two[0], wide], [1, 1], tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], r"nothing: no such model"),
        (["first", "exported.onnx"], r"exported\.onnx: is not a safetensors file or is truncated"),
        (["first", "wide"], r"first.*best\.safetensors: is of another network than wide"),
        (["first", "--shares", "1", "2"], r"--shares: 1 numbers above 0 are needed, one for each model"),
    ],
)
def test_what_cannot_be_averaged_is_one_line(
    arguments: list[str], message: str, two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "wide", 1.0, 1, (4, 3))
    (tmp_path / "exported.onnx").write_bytes(b"\x08\x0a" * 40)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["average_weights.py", *arguments, "-o", "mean.safetensors"])
    with pytest.raises(SystemExit, match=message) as ended:
        average_weights.main()
    assert "\n" not in str(ended.value.code)
    assert not Path("mean.safetensors").exists()


@pytest.mark.parametrize("odd", [None, "many", [3], [{"share": "half"}], [{"share": 1}]])
def test_what_a_file_says_oddly_is_passed_over(odd: object, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.ones(1)}, path, {"dermask": json.dumps(metadata(mean_of=odd))})
    assert "mean of the weights" not in write_model_card(read_model(path))
