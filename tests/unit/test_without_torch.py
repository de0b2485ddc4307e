"""The base install has no torch and no OpenVINO: all that does not need them works; what does says so in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dermask.data.synthetic import write_synthetic
from dermask.images import image_size, read_image
from dermask.inference.detector import PACKAGED_MODEL
from dermask.records import ImageSize

# What the extras bring.
EXTRA = {"torch", "torchvision", "safetensors", "tensorboard", "onnx", "onnxscript", "openvino"}

# Python imports `sitecustomize` first of all; this one makes the extras look as if they were not installed.
BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRA}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / "sitecustomize.py").write_text(BLOCKER)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "blocker"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def dermask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "dermask", *arguments)


def write_checkpoint(path: Path) -> None:
    header = json.dumps({"__metadata__": {"dermask": json.dumps({"config": {"model": {}}, "class_names": ["lesion"]})}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())


def write_results(path: Path, labels: Path) -> None:
    """The truth itself as a model's results."""
    tree = json.loads(labels.read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    results = [{**{key: entry[key] for key in keys}, "score": 0.9} for entry in tree["annotations"]]
    path.write_text(json.dumps(results))


def test_the_blocker_blocks(folder: Path):
    found = python(folder, "-c", "import torch")
    assert found.returncode == 1
    assert "No module named 'torch'" in found.stderr


def test_every_public_name_but_the_models_loads(folder: Path):
    code = "import dermask; print([getattr(dermask, name) and name for name in dermask.__all__][-1])"
    found = python(folder, "-c", code)
    assert (found.returncode, found.stderr) == (0, "")


def test_help_and_info_answer(folder: Path):
    assert dermask(folder, "--help").returncode == 0
    found = dermask(folder, "info")
    assert found.returncode == 0
    assert "threads:               none" in found.stdout
    assert "devices:               cpu" in found.stdout
    assert "engines:               onnxruntime\n" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "feature"),
    [
        (("predict", "photo.png", "--model", "m.safetensors", "-o", "out"), "m.safetensors: a torch checkpoint"),
        (("export", "m.safetensors", "-o", "m.onnx"), "dermask export"),
        (("train", "--data", "labels.json", "-o", "run"), "dermask train"),
        (("demo",), "dermask demo"),
    ],
)
def test_what_needs_torch_says_so_in_one_line(arguments: tuple[str, ...], feature: str, folder: Path):
    write_checkpoint(folder / "m.safetensors")
    (folder / "photo.png").write_bytes(b"")
    found = dermask(folder, *arguments)
    expected = f'dermask: {feature}: needs an optional part; install it with: pip install "dermask[train]"\n'
    assert (found.returncode, found.stdout, found.stderr) == (1, "", expected)


@pytest.mark.parametrize(
    "arguments", [("predict", "photo.png", "-o", "out"), ("evaluate", "bundled", "--data", "scenes")]
)
def test_the_other_engine_is_named_where_it_is_asked_for(arguments: tuple[str, ...], folder: Path):
    write_synthetic(folder / "scenes", 1, 0, ImageSize(64, 64))
    (folder / "photo.png").write_bytes(b"")
    found = dermask(folder, *arguments, "--engine", "openvino")
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == (
        'dermask: engine openvino: needs an optional part; install it with: pip install "dermask[openvino]"'
    )
    assert not (folder / "out").exists()


def test_data_sets_can_be_drawn_shown_and_judged(folder: Path):
    labels = write_synthetic(folder / "scenes", 3, 0, ImageSize(96, 96))
    shown = dermask(folder, "data", "show", "scenes/labels.json", "-o", "sheet.png", "--side", "64")
    assert (shown.returncode, shown.stdout) == (0, "sheet.png\n")
    assert (folder / "sheet.png").stat().st_size > 0
    assert dermask(folder, "data", "synthesize", "-o", "more", "--count", "1", "--size", "96").returncode == 0

    write_results(folder / "results.json", labels)
    judged = dermask(folder, "evaluate", "results.json", "--data", "scenes/labels.json", "-o", "judged", "--json")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["coco"]["mask"]["ap"] == pytest.approx(1)
    assert {path.name for path in (folder / "judged").iterdir()} == {"evaluation.json", "per_photo.csv", "report.html"}


def test_the_packaged_model_outlines_and_is_judged(folder: Path):
    write_synthetic(folder / "scenes", 2, 0, ImageSize(128, 160))
    predicted = dermask(folder, "predict", "scenes/images", "-o", "out", "--threads", "1")
    assert (predicted.returncode, predicted.stdout) == (0, "out\n"), predicted.stderr
    assert "2 photographs outlined" in predicted.stderr
    for name in sorted(path.stem for path in (folder / "scenes" / "images").iterdir()):
        assert image_size(folder / "out" / "overlays" / f"{name}_overlay.png") == (128, 160)
        assert image_size(folder / "out" / "masks" / f"{name}_segmentation.png") == (128, 160)
    rows = (folder / "out" / "lesions.csv").read_text().splitlines()
    assert len(rows) > 1
    assert len(json.loads((folder / "out" / "coco_results.json").read_text())) >= len(rows) - 1

    judged = dermask(folder, "evaluate", str(PACKAGED_MODEL), "--data", "scenes", "--threads", "1", "--json")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["isic"]["dice"] > 0.3


def test_results_of_another_program_can_be_drawn(folder: Path):
    code = (
        "import numpy as np, dermask\n"
        "from pathlib import Path\n"
        "size = dermask.ImageSize(40, 60)\n"
        "found = dermask.Detections(np.array([[5, 5, 50, 35]], np.float32), np.array([.9], np.float32), np.array([1]),"
        " np.ones((1, 28, 28), np.float32), size)\n"
        "dermask.write_png(Path('out.png'), dermask.draw_overlay(np.zeros((40, 60, 3), np.uint8), found))\n"
    )
    (folder / "draw.py").write_text(code)
    found = python(folder, "draw.py")
    assert (found.returncode, found.stderr) == (0, "")
    assert np.any(read_image(folder / "out.png"))
