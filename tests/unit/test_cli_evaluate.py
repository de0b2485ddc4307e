"""`dermask evaluate` with saved predictions: several at once, and what a run's own validation is taken for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dermask.cli.evaluate import _distinct
from dermask.cli.judging import _own_threshold
from dermask.cli.main import run
from dermask.data.synthetic import write_synthetic
from dermask.records import ImageSize


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("few") / "scenes", 4, 0, ImageSize(64, 64))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluate(model: object, scenes: Path, *options: str) -> int:
    return run(["evaluate", str(model), "--data", str(scenes), "--no-look", "--resamples", "100", *options])


def give_role(folder: Path, role: str) -> None:
    content = json.loads((folder / "evaluation.json").read_text())
    content["origin"]["role"] = role
    (folder / "evaluation.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("names", "distinct"),
    [
        ([], []),
        (["a"], ["a"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),
        (["a-2", "a", "a", "a"], ["a-2", "a", "a-3", "a-4"]),
        (["Seed", "seed", "SEED"], ["Seed", "seed-2", "SEED-3"]),
    ],
)
def test_each_model_has_a_name_of_its_own(names: list[str], distinct: list[str]) -> None:
    assert _distinct(names) == distinct


def test_several_models_have_their_spread_in_json_and_in_a_file(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads(scenes.read_text())
    half = {**entries, "annotations": entries["annotations"][::2]}
    Path("half.json").write_text(json.dumps(half))
    assert evaluate("half.json", scenes, str(scenes), str(scenes), "--rule", "union", "--json", "-o", "out") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["origin"]["model"] for one in printed["runs"]] == ["half", "labels", "labels"]
    values = [one["isic"]["jaccard"] for one in printed["runs"]]
    spread = printed["spread"]["isic.jaccard"]
    assert spread["runs"] == values
    assert (spread["least"], spread["largest"]) == (values[0], 1.0)
    assert spread["mean"] == pytest.approx(sum(values) / 3)
    assert spread["deviation"] == pytest.approx((1 - values[0]) / 3**0.5)
    written = json.loads(Path("out/spread.json").read_text())
    assert written["runs"] == ["half", "labels", "labels-2"]
    assert written["spread"] == printed["spread"]
    assert sorted(path.name for path in Path("out").iterdir()) == [*written["runs"], "spread.json"]


def test_one_model_has_no_spread(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, scenes, "--json", "-o", "out") == 0
    assert "spread" not in json.loads(capsys.readouterr().out)
    assert not Path("out/spread.json").exists()


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_runs_own_validation_is_not_written_over(
    command: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(scenes, scenes, "-o", "first") == 0
    assert evaluate(scenes, scenes, "-o", "first") == 0  # an evaluation of another kind is replaced
    give_role(Path("first"), "validation")
    before = Path("first/evaluation.json").read_bytes()
    capsys.readouterr()
    models = [str(scenes)] * (2 if command == "compare" else 1)
    assert run([command, *models, "--data", str(scenes), "-o", "first"]) == 1
    err = capsys.readouterr().err
    assert "first: holds a run's own evaluation on validation; choose another -o, as first/test" in err
    assert Path("first/evaluation.json").read_bytes() == before


def test_of_several_models_none_is_written_over_its_own_run(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, scenes, "-o", "runs/labels") == 0
    give_role(Path("runs/labels"), "validation")
    shutil.copytree(scenes.parent / "masks", "other")
    assert evaluate(scenes, scenes, "other", "-o", "runs") == 1
    assert "runs/labels: holds a run's own evaluation on validation" in capsys.readouterr().err
    assert not Path("runs/other").exists()


def test_a_run_asks_its_validation_and_no_other_evaluation(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, scenes, "-o", "first") == 0
    Path("first/checkpoints").mkdir()
    capsys.readouterr()
    assert _own_threshold(Path("first")).origin == "default"
    assert "first/evaluation.json: does not say that it is about the run's validation" in capsys.readouterr().err
    give_role(Path("first"), "test")
    assert _own_threshold(Path("first")).origin == "default"
    give_role(Path("first"), "validation")
    capsys.readouterr()
    assert _own_threshold(Path("first")).origin == "highest F1 in first/evaluation.json"
    assert capsys.readouterr().err == ""


def test_a_threshold_chosen_on_the_same_photographs_is_told(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, scenes, "-o", "first") == 0
    assert "chosen on these same photographs" not in capsys.readouterr().err
    other = write_synthetic(Path("other"), 3, 1, ImageSize(64, 64))
    for command in (["evaluate", str(scenes)], ["compare", str(scenes), str(scenes)]):
        assert run([*command, "--data", str(scenes), "--threshold-from", "first"]) == 0
        assert "chosen on these same photographs: the score threshold of first;" in capsys.readouterr().err
    assert evaluate(other, other, "--threshold-from", "first") == 0
    assert "chosen on these same photographs" not in capsys.readouterr().err


def test_pages_and_files_have_no_places_of_one_machine(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(scenes, scenes, "-o", "first") == 0
    options = ["--data", str(scenes), f"--threshold-from={tmp_path / 'first'}", "-o", str(tmp_path / "out")]
    for command in (["evaluate", str(scenes)], ["compare", str(scenes), str(scenes)]):
        typed = [*command, *options]
        monkeypatch.setattr("sys.argv", ["dermask", *typed])
        assert run(typed) == 0
        for path in Path("out").iterdir():
            text = path.read_text(encoding="utf-8")
            assert str(tmp_path) not in text, path
            if path.suffix == ".json":
                assert str(scenes.parent) not in text, path
    record = json.loads(Path("out/evaluation.json").read_text())
    assert record["origin"]["file"] == "scenes/labels.json"
    assert record["rules"]["score_thresh_from"] == f"highest F1 in {tmp_path.name}/first"
    assert record["origin"]["command"].startswith("dermask evaluate scenes/labels.json --data scenes/labels.json")


def test_saved_predictions_are_not_tidied(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, scenes, "--tidy", "holes") == 2
    assert "--tidy is about what a model finds; " in capsys.readouterr().err


def test_what_was_tidied_is_on_record(scenes: Path) -> None:
    assert evaluate("bundled", scenes, "--tidy", "holes,largest", "-o", "out") == 0
    assert json.loads(Path("out/evaluation.json").read_text())["origin"]["tidied"] == "largest,holes"
