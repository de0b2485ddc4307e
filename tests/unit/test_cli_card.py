"""`dermask card`: which evaluations it takes, what it says on stderr, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from card_examples import metadata, write_checkpoint, write_evaluation, write_run

from dermask.cli.main import run
from dermask.inference.detector import PACKAGED_MODEL, model_fingerprint
from dermask.report.model_card import HEADINGS


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def card_of(path: str = "MODEL_CARD.md") -> str:
    return Path(path).read_text(encoding="utf-8")


def own_hash(folder: Path) -> str:
    return model_fingerprint(folder / "checkpoints" / "best.safetensors")


def test_a_run_and_the_evaluations_in_it_make_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_run(tmp_path / "first")
    sha256 = own_hash(folder)
    write_evaluation(folder, name="Validation", count=120, sha256=sha256)
    write_evaluation(folder / "test", name="Test_v2", count=264, sha256=sha256)
    write_evaluation(folder / "others" / "clinic", name="clinic", count=77, sha256=sha256)
    write_evaluation(folder / "far" / "too" / "deep", name="deepest", count=55, sha256=sha256)
    assert run(["card", "first"]) == 0
    output = capsys.readouterr()
    assert output.out == "MODEL_CARD.md\n"
    assert output.err == ""
    assert "| figure | Validation, 120 photographs | Test_v2, 264 photographs | clinic, 77 photographs |" in card_of()
    assert "deepest" not in card_of()


def test_named_ones_are_added_and_none_is_taken_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_run(tmp_path / "first")
    write_evaluation(folder / "test", name="Test_v2", sha256=own_hash(folder))
    write_evaluation(tmp_path / "clinic", name="clinic", count=77, sha256=own_hash(folder))
    arguments = ["card", "first/checkpoints/best.safetensors", "-o", "cards/C.md"]
    for path in ("clinic", "clinic/evaluation.json", "first/test"):
        arguments += ["--evaluation", path]
    assert run(arguments) == 0
    assert capsys.readouterr().out == "cards/C.md\n"
    assert "| figure | clinic, 77 photographs | Test_v2, 264 photographs |" in card_of("cards/C.md")


def test_a_run_that_was_not_evaluated_gets_a_card_and_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_run(tmp_path / "first")
    assert run(["card", "first"]) == 0
    assert "no evaluation: the card says that the model was not evaluated" in capsys.readouterr().err
    assert "**Not evaluated**" in card_of()


def test_an_evaluation_of_another_model_in_the_runs_folder_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_run(tmp_path / "first")
    write_evaluation(tmp_path / "first" / "theirs", name="theirs", sha256="e" * 64)
    assert run(["card", "first"]) == 0
    assert "left out: " in capsys.readouterr().err
    assert "theirs" not in card_of()


@pytest.mark.parametrize("name", ["bundled", "packaged", str(PACKAGED_MODEL)])
def test_the_packaged_model_has_one_too(name: str, tmp_path: Path):
    write_evaluation(tmp_path / "test", sha256=model_fingerprint(PACKAGED_MODEL))
    assert run(["card", name, "--evaluation", "test"]) == 0
    assert "# Model card: dermask small, packaged" in card_of()


def test_a_folder_of_that_name_goes_first(tmp_path: Path):
    write_run(tmp_path / "bundled")
    assert run(["card", "bundled"]) == 0
    assert "`best.safetensors`" in card_of()


def test_words_are_taken_and_figures_in_them_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_run(tmp_path / "first")
    (tmp_path / "w.toml").write_text('[model]\nname = "Mine"\n[limits]\nfailures = ["40 of 264 are bad"]\n')
    assert run(["card", "first", "--words", "w.toml"]) == 0
    assert "w.toml, line 4: 40, 264 typed by hand; figures belong to an evaluation" in capsys.readouterr().err
    assert "# Model card: Mine" in card_of()
    assert "- 40 of 264 are bad" in card_of()


def test_two_licences_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_checkpoint(tmp_path / "m.safetensors", metadata(licence="Apache-2.0"))
    (tmp_path / "w.toml").write_text('[model]\nlicence = "MIT"\n')
    assert run(["card", "m.safetensors", "--words", "w.toml"]) == 0
    assert "licence: the model's file says Apache-2.0, the words MIT; the card follows" in capsys.readouterr().err


def test_a_card_is_replaced_only_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_run(tmp_path / "first")
    Path("MODEL_CARD.md").write_text("precious")
    assert run(["card", "first"]) == 1
    assert "MODEL_CARD.md: already exists; choose another -o, or pass --overwrite" in capsys.readouterr().err
    assert card_of() == "precious"
    assert run(["card", "first", "--overwrite"]) == 0
    assert card_of() != "precious"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("card", 2, "Missing argument"),
        ("card nowhere", 1, "nowhere: no such model; give a run's folder"),
        ("card empty", 1, "empty: holds no checkpoints/best.safetensors"),
        ("card w.toml", 1, "w.toml: is not a model"),
        ("card broken.onnx", 1, "broken.onnx: is not a model of dermask, or is damaged"),
        ("card first --words no.toml", 1, "no.toml: no such file"),
        ("card first --words w.toml", 1, "w.toml: colour: is no section of a card's words"),
        ("card first --evaluation nowhere", 1, "nowhere: cannot be read: No such file"),
        ("card first --evaluation empty", 1, "evaluation.json: cannot be read: No such file"),
        ("card first --evaluation w.toml", 1, "w.toml: is not JSON"),
        ("card first --evaluation broken", 1, "is not as dermask evaluate wrote it"),
        ("card first --evaluation theirs", 1, "judges another model"),
        ("card first -o empty --overwrite", 1, "empty: cannot be written"),
    ],
)
def test_a_mistake_gets_one_line_and_no_card(
    arguments: str, status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_run(tmp_path / "first")
    (tmp_path / "empty").mkdir()
    (tmp_path / "w.toml").write_text("colour = 'red'")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08")
    write_evaluation(tmp_path / "broken", {"dataset": {}, "rules": {}, "isic": {}, "coco": {}})
    write_evaluation(tmp_path / "theirs", sha256="e" * 64)
    assert run(arguments.split()) == status
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    assert message in line
    assert not (tmp_path / "MODEL_CARD.md").exists()


def test_it_needs_neither_torch_nor_an_engine(tmp_path: Path):
    write_run(tmp_path / "first")
    code = "import sys; from dermask.cli.main import run; run(['card', 'first']); print(sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert loaded & {"torch", "onnxruntime", "onnx", "plotly"} == set()
    assert [line[3:] for line in card_of().splitlines() if line.startswith("## ")] == list(HEADINGS)
