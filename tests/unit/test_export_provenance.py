"""An exported file says what its run was made from, and nothing of the machine it was made on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from card_examples import metadata, write_checkpoint, write_run

from dermask.errors import InputError
from dermask.export.provenance import describe_run
from dermask.report.card_model import read_model
from dermask.report.card_training import training_command
from dermask.report.model_card import write_model_card


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "first")


def taken_along(run_dir: Path) -> dict:
    return describe_run(run_dir / "checkpoints" / "best.safetensors")


def test_a_checkpoint_of_no_run_says_nothing(tmp_path: Path) -> None:
    assert describe_run(write_checkpoint(tmp_path / "best.safetensors")) == {}
    assert describe_run(write_checkpoint(tmp_path / "checkpoints" / "best.safetensors")) == {}


def test_sources_are_told_by_the_last_part_of_their_paths(run_dir: Path) -> None:
    sources = taken_along(run_dir)["sources"]
    assert sources == {
        "data": "isic2017",
        "part": "Training",
        "val": "isic2017",
        "val_part": "Validation",
        "weights": "imagenet",
    }


def test_nothing_of_the_machine_travels(run_dir: Path) -> None:
    told = json.dumps(taken_along(run_dir))
    assert "secret" not in told
    assert "somebody" not in told


def test_commit_versions_and_device_travel(run_dir: Path) -> None:
    whole = json.loads((run_dir / "environment.json").read_text())
    taken = taken_along(run_dir)["environment"]
    assert taken == {name: whole[name] for name in taken}
    assert {"commit", "packages", "photographs", "device", "precision", "threads"} <= taken.keys()


@pytest.mark.parametrize("name", ["environment.json", "data.json"])
def test_one_of_the_two_is_enough(name: str, run_dir: Path) -> None:
    (run_dir / name).unlink()
    assert len(taken_along(run_dir)) == 1


@pytest.mark.parametrize("name", ["environment.json", "data.json"])
@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_a_damaged_file_is_named(name: str, content: bytes, run_dir: Path) -> None:
    (run_dir / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: is not as the run wrote it; restore it, or remove it"):
        taken_along(run_dir)


def test_a_card_of_the_file_alone_names_data_weights_and_commit(run_dir: Path, tmp_path: Path) -> None:
    run = taken_along(run_dir)
    run["sources"] |= {"weights": "former.onnx", "weights_hash": "ab" * 32}
    model = read_model(write_checkpoint(tmp_path / "alone.safetensors", metadata(run=run)))
    assert training_command(model).startswith("dermask train --data isic2017 --part Training --val isic2017")
    card = write_model_card(model)
    assert f"| first weights | `former.onnx`, hash `{'ab' * 32}` |" in card
    assert "| commit | `0123456789abcdef0123456789abcdef01234567` |" in card
    assert "4,321 photographs, `isic2017 Training`" in card


@pytest.mark.parametrize("odd", [None, [], "many", 3, {"sources": 7, "environment": [1]}])
def test_what_a_file_says_oddly_is_passed_over(odd: object, tmp_path: Path) -> None:
    model = read_model(write_checkpoint(tmp_path / "odd.safetensors", metadata(run=odd)))
    assert (model.sources, model.environment) == ({}, {})
    assert "| first weights" not in write_model_card(model)
