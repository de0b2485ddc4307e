"""`dermask data stats`: tables, JSON, page and CSV of one part and of several."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from report_pages import check_page

from dermask.cli.main import run
from dermask.data.synthetic import write_synthetic
from dermask.records import ImageSize


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("scenes") / "five", 5, 0, ImageSize(96, 96))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def test_help_leads_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "stats", "--help"]) == 0
    text = capsys.readouterr().out
    assert "    dermask data stats" in text
    assert "Research use only" in " ".join(text.split())


def test_a_table_goes_to_stdout(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "stats", str(scenes)]) == 0
    out = capsys.readouterr().out
    assert "Photographs " in out
    assert "very light" in out
    assert "not the Fitzpatrick type" in out
    assert list(Path.cwd().iterdir()) == []


def test_json_is_all_of_stdout(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "stats", str(scenes), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["dermask_stats"] == 1
    (part,) = tree["parts"]
    assert part["photographs"] == 5
    assert sum(part["outlines_per_photograph"].values()) == 5
    assert part["skin_tone"]["measured"] + part["skin_tone"]["unknown"] == 5


def test_a_table_takes_no_photographs_place(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph = next(scenes.parent.rglob("*.png"))
    before = photograph.read_bytes()
    assert run(["data", "stats", str(scenes), "--csv", str(photograph), "--overwrite"]) == 2
    assert "the name must end in .csv" in capsys.readouterr().err
    assert photograph.read_bytes() == before
    Path("mine.csv").write_text("mine")
    assert run(["data", "stats", str(scenes), "--csv", "mine.csv"]) == 1
    assert "mine.csv: already exists" in capsys.readouterr().err
    assert Path("mine.csv").read_text() == "mine"


def test_several_sources_are_parts_of_one_page_and_table(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = scenes.parent / "again.json"
    copy.write_text(scenes.read_text())
    options = ["-o", "stats.html", "--csv", "all.csv", "--json"]
    assert run(["data", "stats", str(scenes), str(copy), *options]) == 0
    names = [part["name"] for part in json.loads(capsys.readouterr().out)["parts"]]
    assert names == ["labels", "again"]
    check_page(Path("stats.html").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [row["part"] for row in rows] == ["labels"] * 5 + ["again"] * 5


def test_broken_photographs_are_told_and_not_fatal(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads(scenes.read_text())
    for entry in tree["images"]:
        content = (scenes.parent / entry["file_name"]).read_bytes()
        Path(entry["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        Path(entry["file_name"]).write_bytes(content[: len(content) // 2] if entry is tree["images"][0] else content)
    Path("labels.json").write_text(json.dumps(tree))
    assert run(["data", "stats", "labels.json", "--json"]) == 0
    captured = capsys.readouterr()
    (part,) = json.loads(captured.out)["parts"]
    assert (part["photographs"], len(part["unreadable"])) == (4, 1)
    assert "not measured: labels: " in captured.err


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["{labels}", "-o", "stats.png"], 2, "must end in .html"),
        (["{labels}", "-o", "{folder}"], 2, "must end in .html"),
        (["{labels}", "--csv", "{labels}"], 2, "must end in .csv"),
        (["nowhere.json"], 1, "nowhere.json: no such file"),
        (["{labels}", "--metadata", "nowhere.csv"], 1, "nowhere.csv"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], status: int, message: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [option.format(labels=scenes, folder=scenes.parent) for option in options]
    assert run(["data", "stats", *words]) == status
    assert message in capsys.readouterr().err
