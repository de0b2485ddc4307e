"""`dermask compare`: tables, JSON, files and page, of two models and several, with enough photographs and too few."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import check_page

from dermask.cli import judged
from dermask.cli.main import run
from dermask.data.synthetic import write_synthetic
from dermask.records import ImageSize

ENOUGH = 30


def shifted_masks(labels: Path, folder: Path, shift: int) -> Path:
    """The scenes' own masks, moved to the right: another program's results."""
    folder.mkdir()
    for path in sorted((labels.parent / "masks").glob("*.png")):
        moved = np.roll(np.asarray(Image.open(path)), shift, axis=1)
        Image.fromarray(moved).save(folder / path.name.replace("_segmentation", ""))
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("few") / "scenes", 4, 0, ImageSize(64, 64))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("many") / "scenes", ENOUGH, 0, ImageSize(64, 64))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_leads_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    assert "    dermask compare" in text
    assert "Research use only" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["compare", "a.json", "--data", "b"], 2, "a comparison needs two models: the reference first"),
        (["compare", *["a.json"] * 27, "--data", "b"], 2, "27 models are too many for one comparison; give at most 26"),
        (["compare", "a.json", "b.json"], 2, "Missing option '--data'"),
        (["compare", "a", "b", "--data", "nowhere.json"], 1, "nowhere.json: no such file"),
        (["compare", "a", "b", "--data", "c", "--metadata", "x", "--no-metadata"], 2, "contradict each other"),
        (
            ["compare", "a", "b", "--data", "c", "--score-thresh", "0.5", "--threshold-from", "d"],
            2,
            "--score-thresh and --threshold-from both choose a threshold; give one",
        ),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == status
    assert message in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told_before_any_is_judged(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(few), "nothing.json", "--data", str(few), "-o", "out"]) == 1
    assert "nothing.json: no such file" in capsys.readouterr().err
    assert not list(Path("out").iterdir())


def test_too_few_photographs_give_differences_without_a_claim(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exact, masks = shifted_masks(few, Path("exact"), 0), shifted_masks(few, Path("theirs"), 4)
    assert run(["compare", str(exact), str(masks), "--data", str(few)]) == 0
    out = capsys.readouterr().out
    assert "  B  theirs\n" in out
    assert "B against A\n" in out
    assert "  4 photographs: too few for a claim about others, which needs at least 30." in out
    assert "better\n" not in out
    [jaccard] = [line for line in out.splitlines() if line.startswith("  Jaccard index")]
    assert jaccard.split()[2] == "1.0000"  # its masks are those of the labels
    assert jaccard.split()[4].startswith("-0.")
    assert len(jaccard.split()) == 8  # neither interval nor p-value


def test_a_worse_model_is_found_out_and_all_files_are_written(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exact, masks = shifted_masks(many, Path("exact"), 0), shifted_masks(many, Path("theirs"), 3)
    assert run(["compare", str(exact), str(masks), "--data", str(many), "-o", "out", "--resamples", "200"]) == 0
    captured = capsys.readouterr()
    [jaccard] = [line for line in captured.out.splitlines() if line.startswith("  Jaccard index")]
    assert jaccard.endswith("  * A better")
    assert "95% intervals from 200 resamples of 30 photographs; * shown at p <= 0.05" in captured.out
    assert captured.err.count("wrote ") == 3
    page = check_page(Path("out/report.html").read_text(encoding="utf-8"))
    assert "theirs against" in page.text
    assert "A is better" in page.text
    [header, *rows] = list(csv.reader(Path("out/per_photo.csv").read_text().splitlines()))
    assert len(rows) == ENOUGH
    record = json.loads(Path("out/comparison.json").read_text())
    found = record["comparisons"]["B - A"]["differences"]["isic.jaccard"]
    values = np.array([[float(row[header.index(f"jaccard_{letter}")]) for letter in "AB"] for row in rows])
    assert values.mean(axis=0) == pytest.approx([found["A"], found["B"]], abs=1e-6)
    assert found["shown_better"] == "A"
    assert len(record["models"]["B"]["runs"][0]["sha256"]) == 64


def test_json_is_all_of_stdout_and_each_model_meets_the_reference(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = [str(shifted_masks(few, Path(f"shift{shift}"), shift)) for shift in (0, 2, 6)]
    assert run(["compare", *masks, "--data", str(few), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["comparisons"]) == ["B - A", "C - A"]
    near, far = (record["comparisons"][name]["differences"]["isic.dice"] for name in ("B - A", "C - A"))
    assert far["difference"] < near["difference"] < 0
    assert near["interval"] is None


def test_photographs_of_one_patient_are_one_unit(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(path.stem for path in (many.parent / "images").iterdir())
    lines = [f"{name},p{index // 10}" for index, name in enumerate(names)]
    Path("who.csv").write_text("\n".join(["image_id,patient_id", *lines]) + "\n")
    assert run(["compare", str(many), str(many), "--data", str(many), "--metadata", "who.csv", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["resampling"]["unit"] == "patient"
    assert record["resampling"]["num_units"] == 3
    assert record["comparisons"]["B - A"]["caveats"][0].startswith("3 patients: too few for a claim about others")


def test_several_runs_of_a_model_are_one_side(
    few: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = [shifted_masks(few, Path(f"shift{shift}"), shift) for shift in (2, 6)]
    real = judged.open_judged

    def runs_of_a_folder(model: Path, *others: object, **options: object) -> list[judged.Judged]:
        if model.name != "seeds":
            return real(model, *others, **options)  # type: ignore[arg-type]
        return [replace(real(one, *others, **options)[0], name=one.name) for one in masks]  # type: ignore[arg-type]

    monkeypatch.setattr(judged, "open_judged", runs_of_a_folder)
    assert run(["compare", str(few), "seeds", "--data", str(few)]) == 0
    out = capsys.readouterr().out
    assert "  B  seeds  (2 runs: shift2, shift6)\n" in out
    assert "\n  each run\n" in out
    assert "Jaccard index, B" in out
    assert ", deviation 0." in out


def test_figures_are_those_of_evaluate(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = shifted_masks(many, Path("theirs"), 3)
    assert run(["compare", str(many), str(masks), "--data", str(many), "--json", "--resamples", "100"]) == 0
    compared = json.loads(capsys.readouterr().out)["comparisons"]["B - A"]["differences"]
    for letter, model in (("A", many), ("B", masks)):
        arguments = ["evaluate", str(model), "--data", str(many), "--json", "--no-look", "--resamples", "100"]
        assert run(arguments) == 0
        judged_alone = json.loads(capsys.readouterr().out)
        assert compared["isic.jaccard"][letter] == pytest.approx(judged_alone["isic"]["jaccard"])
        assert compared["coco.mask.ap"][letter] == pytest.approx(judged_alone["coco"]["mask"]["ap"])
        assert compared["detection.f1"][letter] == pytest.approx(judged_alone["detection"]["chosen"]["f1"])


def test_the_scores_behind_f1_stand_beside_it(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(few), str(shifted_masks(few, Path("theirs"), 3))]
    assert run(["evaluate", models[0], "--data", str(few), "--no-look", "-o", "chose"]) == 0
    capsys.readouterr()
    for options, told in (
        ([], "A 0.5 (default); B 0.5 (default)"),
        (["--score-thresh", "0.25"], "A 0.25 (given); B 0.25 (given)"),
        (["--threshold-from", "chose"], "A 1 (highest F1 in chose); B 1 (highest F1 in chose)"),
    ):
        assert run(["compare", *models, "--data", str(few), *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        [row] = [index for index, line in enumerate(lines) if line.startswith("  F1 at the score threshold")]
        assert lines[row + 1] == f"    counted from a score of: {told}"


def test_models_of_several_are_opened_one_after_the_other_and_with_the_engine_asked_for(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = judged.open_judged, []

    def remember(model: Path, *others: object, **options: object) -> list[judged.Judged]:
        asked.append((options["lazily"], options["engine"]))
        return real(model, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(judged, "open_judged", remember)
    options = ["--data", str(few), "--engine", "openvino"]
    assert run(["compare", str(few), str(few), *options]) == 0
    assert run(["evaluate", str(few), str(few), "--no-look", *options]) == 0
    assert run(["evaluate", str(few), "--no-look", *options]) == 0
    assert asked == [(True, "openvino")] * 4 + [(False, "openvino")]
