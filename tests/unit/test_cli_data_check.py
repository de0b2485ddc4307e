"""`dermask data check`, end to end on drawn photographs: summary, JSON, page, repairs, statuses and messages."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from audit_examples import ellipse, save, skin, write_folder

from dermask.cli.data_check import open_parts
from dermask.cli.main import run
from dermask.data.formats import open_dataset


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DERMASK_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def check(capsys: pytest.CaptureFixture[str], *arguments: str, near: bool = False) -> tuple[int, str, str]:
    options = () if near else ("--no-duplicates",)
    status = run(["data", "check", *arguments, "--processes", "1", *options])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def kinds_of(text: str) -> set[str]:
    return {finding["kind"] for finding in json.loads(text)["findings"]}


def spoil(folder: Path) -> Path:
    """A photograph cut short, a mask of zeros and ones, a mask without a photograph."""
    path = folder / "images" / "p0.png"
    path.write_bytes(path.read_bytes()[:2000])
    save(folder / "masks" / "p1_segmentation.png", ellipse().astype(np.uint8))
    save(folder / "masks" / "lonely.png", ellipse().astype(np.uint8) * 255)
    return folder


def test_clean_data(capsys):
    write_folder(Path("good"))
    status, out, err = check(capsys, "good")
    assert (status, err) == (0, "")
    assert out.startswith("3 photographs (good 3) with 3 outlines in ")
    assert out.endswith("nothing found\n")


def test_the_summary_has_a_row_for_each_kind_worst_first_and_the_next_step(capsys):
    spoil(write_folder(Path("bad")))
    status, out, _ = check(capsys, "bad")
    assert status == 0
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith(("error", "warning", "note"))]
    assert rows == [
        ["error", "dark-mask", "1"],
        ["error", "no-photograph", "1"],
        ["error", "truncated-photograph", "1"],
    ]
    assert "bad: p1: mask: has no value above 1 of 255" in out
    assert "3 errors, 0 warnings, 0 notes" in out
    assert "next: dermask data check bad --html audit.html" in out


def test_the_next_step_names_what_was_checked(capsys):
    """The step that is told reads the same labels: with the photographs' folder, and names with spaces quoted."""
    from dermask.data.coco import write_coco
    from dermask.data.formats import open_dataset

    dataset = open_dataset(write_folder(Path("my photos")))
    write_coco(dataset, Path("labels.json"))
    dataset[0].image.unlink()
    _, out, _ = check(capsys, "labels.json", "--images", "my photos")
    assert "next: dermask data check labels.json --images 'my photos' --html audit.html" in out


def test_strict_fails_on_errors_alone(capsys):
    write_folder(Path("good"))
    spoil(write_folder(Path("bad")))
    assert check(capsys, "good", "--strict")[0] == 0
    assert check(capsys, "bad", "--strict")[0] == 1


def test_json_is_all_of_stdout(capsys):
    spoil(write_folder(Path("bad")))
    status, out, err = check(capsys, "bad", "--json")
    tree = json.loads(out)
    assert (status, err) == (0, "")
    assert tree["command"] == "dermask data check bad"
    assert tree["counts"]["error"] == 3
    assert kinds_of(out) == {"dark-mask", "no-photograph", "truncated-photograph"}


def test_several_sources_are_parts_and_leaks_between_them_are_errors(capsys):
    write_folder(Path("train"), seed=1, prefix="a")
    write_folder(Path("test"), seed=2, prefix="b")
    shutil.copy("train/images/a0.png", "test/images/b0.png")
    status, out, _ = check(capsys, "train", "test", "--json", "--strict")
    assert status == 1
    tree = json.loads(out)
    assert tree["parts"] == {"train": 3, "test": 3}
    assert "leak-file" in kinds_of(out)


def test_near_duplicates_are_looked_for_unless_told_not_to(capsys):
    write_folder(Path("train"), 2, seed=1, prefix="a")
    write_folder(Path("test"), 2, seed=2, prefix="b")
    pixels = open_dataset(Path("train")).load(0).image
    save(Path("test/images/b0.png"), np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8))
    assert "leak-near-duplicate" in kinds_of(check(capsys, "train", "test", "--json", near=True)[1])
    assert "leak-near-duplicate" not in kinds_of(check(capsys, "train", "test", "--json")[1])


def test_an_official_root_is_all_its_parts(capsys):
    for index, name in enumerate(("Training", "Validation")):
        write_folder(Path("drawn"), 2, seed=index, prefix=f"ISIC_{index}")
        shutil.move("drawn/images", f"isic/ISIC-2017_{name}_Data")
        shutil.move("drawn/masks", f"isic/ISIC-2017_{name}_Part1_GroundTruth")
    assert json.loads(check(capsys, "isic", "--json")[1])["parts"] == {"Training": 2, "Validation": 2}
    assert json.loads(check(capsys, "isic", "--part", "Validation", "--json")[1])["parts"] == {"Validation": 2}


def test_each_part_of_a_split_file_is_a_part(capsys):
    write_folder(Path("set"), 4)
    parts = {"train": ["p0", "p1", "p2"], "test": ["p3"]}
    tree = {"dermask_split": 1, "seed": 0, "fractions": {"train": 0.75, "test": 0.25}, "parts": parts}
    Path("split.json").write_text(json.dumps(tree))
    shutil.copy("set/images/p0.png", "set/images/p3.png")
    Path("metadata.csv").write_text("isic_id,patient_id\np1,A\np2,A\np3,A\n")
    status, out, err = check(capsys, "set", "--split", "split.json", "--metadata", "metadata.csv", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["parts"] == {"train": 3, "test": 1}
    assert {"leak-file", "leak-patient"} <= kinds_of(out)
    _, out, _ = check(capsys, "set", "--split", "split.json", "--part", "test", "--json")
    assert json.loads(out)["parts"] == {"test": 1}


def test_a_table_beside_the_photographs_is_found_and_told(capsys):
    write_folder(Path("set"), 2)
    Path("set/metadata.csv").write_text("isic_id,patient_id\np0,A\np1,A\n")
    assert "metadata: set/metadata.csv" in check(capsys, "set")[2].replace(str(Path.cwd()) + "/", "")


def test_fix_writes_a_new_file_and_touches_nothing_else(capsys):
    spoil(write_folder(Path("bad")))
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in Path("bad").rglob("*.png")}
    status, out, err = check(capsys, "bad", "--fix", "new/repaired.json", "--json")
    assert status == 0
    repairs = json.loads(out)["repairs"]
    assert any("p0" in line and "left out" in line for line in repairs)
    assert any("values 0 and 1 read as skin and lesion" in line for line in repairs)
    assert all(f"repaired: {line}" in err for line in repairs)
    assert "new/repaired.json: 2 photographs, 3 repairs; read it with --images " in err
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in before} == before
    images = err.rsplit("--images ", 1)[1].strip()
    assert check(capsys, "new/repaired.json", "--images", images, "--strict")[0] == 0


def test_the_page_is_written(capsys):
    spoil(write_folder(Path("bad")))
    status, _, err = check(capsys, "bad", "--html", "audit.html")
    assert status == 0
    assert "page: audit.html" in err
    assert "truncated-photograph" in Path("audit.html").read_text()


def test_a_set_in_which_nothing_can_be_read_is_still_audited(capsys):
    write_folder(Path("bad"), 1)
    Path("bad/images/p0.png").write_bytes(b"")
    status, out, _ = check(capsys, "bad", "--json")
    assert status == 0
    assert kinds_of(out) == {"unreadable-photograph"}
    status, _, err = check(capsys, "bad", "--fix", "new.json")
    assert status == 1
    assert "bad: no photograph is left after the repairs" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["missing"], 1, "missing"),
        (["good", "--html", "page.txt"], 2, "--html page.txt: the name must end in .html"),
        (["good", "--fix", "new.xml"], 2, "--fix new.xml: the name must end in .json"),
        (["good", "--fix", "there.json"], 1, "there.json: already exists"),
        (["good", "other", "--part", "x"], 2, "--part: goes with one data set, and there are 2"),
        (["good", "other", "--split", "s.json"], 2, "--split: goes with one data set, and there are 2"),
        (["good", "other", "--fix", "new.json"], 2, "one data set at a time, and there are the parts good, other"),
        (["good", "--split", "gone.json"], 1, "gone.json: no such file"),
        (["good", "--metadata", "gone.csv"], 1, "gone.csv"),
        (["good", "--processes", "0"], 2, "processes"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes_get_one_line(capsys, arguments, status, message):
    write_folder(Path("good"), 1)
    write_folder(Path("other"), 1)
    Path("there.json").write_text("{}")
    found = run(["data", "check", *arguments])
    err = capsys.readouterr().err.strip()
    assert found == status
    assert message in err
    assert "\n" not in err


def test_sources_of_one_name_are_told_apart():
    for folder in ("a", "b"):
        write_folder(Path(folder) / "set", 1)
    assert [part.name for part in open_parts([Path("a/set"), Path("b/set")])] == ["a/set", "b/set"]
    assert [part.name for part in open_parts([Path("a/set"), Path("a/set")])] == ["1: a/set", "2: a/set"]


def test_names_with_line_ends_do_not_break_the_table(capsys):
    folder = write_folder(Path("odd"), 1)
    save(folder / "images" / "a\nb.png", skin())
    _, out, _ = check(capsys, "odd")
    assert r"a\nb.png" in out
