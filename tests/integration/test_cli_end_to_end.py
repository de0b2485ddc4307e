"""Every command on five drawn photographs with a tiny network: what a person types, from labels to report."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dermask import images
from dermask.cli import demo as demo_module
from dermask.cli.demo import DEMO, DemoSettings
from dermask.cli.main import run
from dermask.cli.progress import TrainingProgress
from dermask.data.formats import open_dataset
from dermask.data.synthetic import write_synthetic
from dermask.inference import detector as detector_module
from dermask.inference.model_file import read_model_file
from dermask.records import ImageSize

TINY = {
    "model.image.min_size": 64,
    "model.image.max_size": 64,
    "model.backbone.fpn_channels": 16,
    "model.box_head.channels": 32,
    "model.mask_head.conv_channels": "[8]",
    "model.mask_head.pool_size": 7,
    "model.mask_head.resolution": 14,
    "model.box_head.max_detections": 3,
    "train.precision": "fp32",
}
TINY_OPTIONS = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module", autouse=True)
def _quick():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)  # nobody cuts the power here, and disks are slow
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("data") / "five", 5, 0, ImageSize(96, 96))


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, made by `dermask train`."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    arguments = ["--data", str(scenes), "--split", "3/2", "--epochs", "1", "--batch-size", "2", "--augment", "none"]
    assert run(["train", *arguments, *TINY_OPTIONS, "-o", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def photographs(scenes: Path) -> Path:
    return scenes.parent / "images"


def test_a_run_leaves_everything_about_it_in_its_folder(trained: Path, scenes: Path):
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert names >= {
        "config.toml",
        "data.json",
        "environment.json",
        "evaluation.json",
        "history.csv",
        "report.html",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
    }
    assert json.loads((trained / "data.json").read_text())["data"] == str(scenes)
    assert json.loads((trained / "evaluation.json").read_text())["origin"]["role"] == "validation"
    assert "min_size = 64" in (trained / "config.toml").read_text()


def test_training_says_how_it_went(scenes: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--data", str(scenes), "--val", str(scenes), "--epochs", "2", "--steps-per-epoch", "1"]
    assert run(["train", *arguments, "--batch-size", "2", *TINY_OPTIONS, "-o", "run"]) == 0
    output = capsys.readouterr()
    assert output.out == "run\n"
    assert "5 photographs to train on, 5 to validate on" in output.err
    assert "weights on cpu in fp32; epochs 1 to 2 of 1 steps with 2 photographs each" in output.err
    for name in ("loss", "rpn_class_loss", "mrcnn_mask_loss", "val_loss", "val_rpn_bbox_loss", "val_jaccard"):
        assert output.err.count(f" {name} ") >= 2
    assert "best epoch " in output.err
    assert "report: run/report.html" in output.err


FEW_STEPS = ["--split", "3/2", "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "1", "--augment", "none"]


def test_training_goes_on_from_the_model_that_comes_along(
    trained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(detector_module, "PACKAGED_MODEL", trained / "checkpoints" / "best.safetensors")
    assert run(["train", "--data", str(scenes), "--weights", "bundled", *FEW_STEPS, "-o", "tuned"]) == 0
    assert "0 fresh" in capsys.readouterr().err
    assert "fpn_channels = 16" in Path("tuned/config.toml").read_text()
    sources = json.loads(Path("tuned/data.json").read_text())
    assert sources["weights"] == "bundled"
    assert sources["weights_hash"] == detector_module.model_fingerprint(detector_module.PACKAGED_MODEL)
    assert run(["train", "-o", "tuned", "--resume"]) == 0
    start = load_file(trained / "checkpoints" / "best.safetensors")
    tuned = load_file(Path("tuned/checkpoints/best.safetensors"))
    assert start.keys() == tuned.keys()
    assert any(not torch.equal(start[name], tuned[name]) for name in start)


def test_the_network_of_other_weights_is_built_unless_another_is_asked_for(
    trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
):
    weights = str(trained / "checkpoints" / "best.safetensors")
    arguments = ["train", "--data", str(scenes), "--weights", weights, *FEW_STEPS]
    assert run([*arguments, "--set", "model.box_head.max_detections=2", "-o", "tuned"]) == 0
    text = Path("tuned/config.toml").read_text()
    assert "fpn_channels = 16" in text
    assert "max_detections = 2" in text
    capsys.readouterr()
    assert run([*arguments, "--preset", "small", "-o", "other"]) == 1
    assert "is of another architecture: fpn.lateral.0.0.weight is (16, " in capsys.readouterr().err


def test_the_packaged_file_is_a_start_for_other_classes(scenes: Path, capsys: pytest.CaptureFixture[str]):
    labels = json.loads(scenes.read_text())
    labels["categories"] += [{"id": 99, "name": "mole"}]
    Path("two.json").write_text(json.dumps(labels))
    arguments = ["train", "--data", "two.json", "--images", str(scenes.parent), "--weights", "bundled"]
    assert run([*arguments, *FEW_STEPS, "-o", "tuned"]) == 0
    assert "fresh: box_head.class_logits, box_head.deltas, mask_head.mask_logits" in capsys.readouterr().err
    packaged = read_model_file(detector_module.PACKAGED_MODEL).settings
    [tuned] = [read_model_file(path).settings for path in Path("tuned/checkpoints").glob("best.safetensors")]
    assert tuned == packaged.model_copy(update={"class_names": ("lesion", "mole")})


def test_a_resumed_run_needs_its_folder_alone(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["train", "-o", str(trained), "--resume"]) == 0
    assert "3 photographs to train on, 2 to validate on" in capsys.readouterr().err


def test_a_resumed_run_takes_no_other_settings(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["train", "-o", str(trained), "--resume", "--lr", "0.5"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "train.learning_rate: is 0.5, the run began with 0.0005" in error
    before = (trained / "data.json").read_text()
    assert run(["train", "-o", str(trained), "--resume", "--split", "2/3"]) == 1
    assert (trained / "data.json").read_text() == before


def test_a_run_stopped_in_its_first_epoch_begins_again_from_its_weights(
    trained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    weights = str(trained / "checkpoints" / "best.safetensors")
    arguments = ["train", "--data", str(scenes), "--weights", weights, "--split", "3/2", "--epochs", "1"]
    arguments += ["--batch-size", "1", *TINY_OPTIONS]
    assert run([*arguments, "-o", "whole"]) == 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_step", interrupt)
        assert run([*arguments, "-o", "stopped"]) == 130
    assert not Path("stopped/checkpoints").exists()
    capsys.readouterr()
    assert run(["train", "-o", "stopped", "--resume"]) == 0
    assert f"weights {weights}: " in capsys.readouterr().err
    whole, stopped = (load_file(f"{name}/checkpoints/last.safetensors") for name in ("whole", "stopped"))
    assert [name for name, value in whole.items() if not torch.equal(value, stopped[name])] == []
    assert "freeze_norm = true" in Path("stopped/config.toml").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"data": "labels.json", "wings": 2}'])
def test_a_run_whose_sources_were_changed_by_hand_is_not_resumed(
    text: str, trained: Path, capsys: pytest.CaptureFixture[str]
):
    Path("run").mkdir()
    Path("run/config.toml").write_bytes((trained / "config.toml").read_bytes())
    Path("run/data.json").write_text(text)
    assert run(["train", "-o", "run", "--resume"]) == 1
    expected = "dermask: run/data.json: is not as the run wrote it; restore it, or start a new run\n"
    assert capsys.readouterr() == ("", expected)


def test_a_demo_on_drawn_scenes_is_not_resumed(trained: Path, capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    Path("run/config.toml").write_bytes((trained / "config.toml").read_bytes())
    Path("run/data.json").write_text('{"data": "drawn scenes"}')
    assert run(["train", "-o", "run", "--resume"]) == 1
    expected = "dermask: run: is a demo on drawn scenes, which are not kept; run dermask demo again\n"
    assert capsys.readouterr() == ("", expected)


def test_a_description_damaged_by_hand_stops_a_resume_in_one_line(trained: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(trained, "damaged")
    Path("damaged/environment.json").write_text("{")
    assert run(["train", "-o", "damaged", "--resume"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "dermask: damaged/environment.json: is not as the run wrote it; restore it, or remove it"


def test_the_trained_run_can_be_judged(trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["evaluate", str(trained), "--data", str(scenes), "-o", "judged"]) == 0
    text = capsys.readouterr().out
    for name in ("jaccard", "thresholded jaccard", "dice", "sensitivity", "specificity", "accuracy", "box", "mask"):
        assert f"  {name} " in text
    assert "its best-scoring lesion (primary)" in text
    names = {path.name for path in Path("judged").iterdir()}
    assert names == {"evaluation.json", "per_photo.csv", "report.html"}
    assert run(["evaluate", str(trained), "--data", str(scenes), "-o", str(trained)]) == 1
    assert "holds a run's own evaluation on validation; choose another -o, as " in capsys.readouterr().err


def test_predictions_judged_from_files_equal_the_model_judged_itself(
    trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
):
    for rule in ("primary", "union"):
        options = ["--data", str(scenes), "--json", "--rule", rule, "--score-thresh", "0.1"]
        assert run(["evaluate", str(trained), *options]) == 0
        direct = json.loads(capsys.readouterr().out)
        if not Path("out").exists():
            assert run(["predict", str(photographs(scenes)), "--model", str(trained), "-o", "out"]) == 0
            capsys.readouterr()
        assert run(["evaluate", "out/coco_results.json", *options]) == 0
        saved = json.loads(capsys.readouterr().out)
        assert saved["rules"]["mask_of_a_photograph"] == rule
        for name, value in direct["isic"].items():
            assert saved["isic"][name] == pytest.approx(value, abs=1e-6)
        # Rounded boxes and scores may move a match at one of the ten thresholds.
        assert saved["coco"]["mask"]["ap"] == pytest.approx(direct["coco"]["mask"]["ap"], abs=1e-3)


def test_photographs_get_their_results_and_a_second_run_leaves_them(
    trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["predict", str(photographs(scenes)), "--model", str(trained), "-o", "out", "--score-thresh", "0"]
    assert run(arguments) == 0
    output = capsys.readouterr()
    assert output.out == "out\n"
    assert "5 photographs outlined, " in output.err
    for image_id in (sample.image_id for sample in open_dataset(scenes)):
        assert images.image_size(Path("out/overlays") / f"{image_id}_overlay.png") == (96, 96)
        assert images.image_size(Path("out/masks") / f"{image_id}_segmentation.png") == (96, 96)
    rows = list(csv.DictReader(io.StringIO(Path("out/lesions.csv").read_text())))
    assert len(rows) == len(json.loads(Path("out/coco_results.json").read_text())) > 0
    assert run(arguments) == 0
    assert "0 photographs outlined, 0 lesions found; 5 had results already" in capsys.readouterr().err


def test_unreadable_photographs_end_with_status_1(trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]):
    Path("broken.jpg").write_bytes(next(photographs(scenes).iterdir()).read_bytes()[:300])
    good = str(next(photographs(scenes).iterdir()))
    assert run(["predict", good, "broken.jpg", "nowhere.png", "--model", str(trained), "-o", "out"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("skipped: broken.jpg: ")
    assert lines[1].startswith("skipped: nowhere.png: no such file")
    assert lines[2].startswith("1 photograph outlined, ")
    assert lines[2].endswith("; 2 could not be read: out")


def test_a_photograph_comes_in_by_stdin(trained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch):
    data = next(photographs(scenes).iterdir()).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run(["predict", "-", "--model", str(trained), "-o", "out"]) == 0
    assert Path("out/masks/stdin_segmentation.png").is_file()


def test_an_empty_stdin_is_wrong_usage(trained: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert run(["predict", "-", "--model", str(trained), "-o", "out"]) == 2
    assert "which was empty" in capsys.readouterr().err


def test_results_of_two_models_are_not_mixed(
    trained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    photo = str(next(photographs(scenes).iterdir()))
    assert run(["predict", photo, "--model", str(trained), "-o", "out"]) == 0
    last = trained / "checkpoints" / "last.safetensors"
    capsys.readouterr()
    assert run(["predict", photo, "--model", str(last), "-o", "out"]) == 1
    assert "holds results of another model; choose another -o folder, or pass --overwrite" in capsys.readouterr().err
    assert run(["predict", photo, "--model", str(last), "-o", "out", "--overwrite"]) == 0


def test_the_packaged_model_serves_where_none_is_named(
    trained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    photo = str(next(photographs(scenes).iterdir()))
    monkeypatch.setattr(detector_module, "PACKAGED_MODEL", Path("none.safetensors"))
    assert run(["predict", photo, "-o", "out"]) == 1
    assert "pass --model RUN, or train one: dermask demo" in capsys.readouterr().err
    monkeypatch.setattr(detector_module, "PACKAGED_MODEL", trained / "checkpoints" / "best.safetensors")
    assert run(["predict", photo, "-o", "out"]) == 0


def test_scenes_are_drawn_and_shown(capsys: pytest.CaptureFixture[str]):
    assert run(["data", "synthesize", "-o", "drawn", "--count", "3", "--size", "96", "--seed", "5"]) == 0
    assert capsys.readouterr().out == "drawn/labels.json\n"
    assert len(open_dataset(Path("drawn/labels.json"))) == 3
    arguments = ["data", "show", "drawn/labels.json", "-o", "sheet.png", "--columns", "2", "--side", "80"]
    assert run(arguments) == 0
    assert images.image_size(Path("sheet.png")).width == 2 * 88 + 8
    assert run(arguments) == 1
    assert run([*arguments, "--overwrite"]) == 0


def test_bad_labels_are_left_out_on_request(scenes: Path, capsys: pytest.CaptureFixture[str]):
    tree = json.loads(scenes.read_text())
    tree["images"][0]["file_name"] = "images/lost.jpg"
    bad = scenes.with_name("bad.json")
    bad.write_text(json.dumps(tree))
    assert run(["data", "show", str(bad), "-o", "sheet.png"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(["data", "show", str(bad), "-o", "sheet.png", "--skip-bad"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("skipped: ")
    assert "lost.jpg" in lines[0]
    assert any("1 label skipped, 4 photographs left" in line for line in lines)


TINY_DEMO = DemoSettings(
    train_scenes=4,
    val_scenes=2,
    test_scenes=3,
    scene_side=96,
    shares=(0.4, 0.2, 0.4),
    most_photographs=5,
    pictures=2,
    overrides={**TINY, "train.epochs": 1, "train.batch_size": 2},
)


def test_the_demo_goes_all_the_way_and_never_over_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(demo_module, "DEMO", TINY_DEMO)
    assert run(["demo"]) == 0
    text = capsys.readouterr().out
    assert "thresholded jaccard" in text
    assert text.splitlines()[-1] == "report: runs/demo/report.html"
    folder = Path("runs/demo")
    assert (folder / "report.html").stat().st_size > 100_000
    assert len(list((folder / "outlined" / "overlays").iterdir())) == 2
    assert json.loads((folder / "evaluation.json").read_text())["origin"]["role"] == "test"  # of unseen scenes
    before = (folder / "history.csv").read_bytes()
    assert run(["demo"]) == 0
    assert (folder / "history.csv").read_bytes() == before
    assert Path("runs/demo-2/report.html").is_file()


def test_the_demo_takes_ones_own_photographs(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(demo_module, "DEMO", replace(TINY_DEMO, most_photographs=4, shares=(0.5, 0.25, 0.25)))
    assert run(["demo", "--data", str(scenes), "-o", "mine"]) == 0
    output = capsys.readouterr()
    assert "taking 4 of 5 photographs; dermask train takes all" in output.err
    assert output.out.splitlines()[-1] == "report: mine/report.html"
    assert len(list(Path("mine/outlined/masks").iterdir())) == 1


def test_the_demo_settings_are_valid():
    settings = demo_module._run_settings(DEMO)
    assert settings.model.preset == "small"
