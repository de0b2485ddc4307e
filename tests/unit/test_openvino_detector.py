"""What is OpenVINO's own: nothing told to anybody on import, its precision, several threads of one program."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dermask.cli.main import run
from dermask.data.synthetic import draw_scene, write_synthetic
from dermask.errors import MissingExtraError
from dermask.inference import openvino_detector
from dermask.inference.detector import PACKAGED_MODEL, load
from dermask.inference.engines import has_fast_bf16, installed_engines
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.openvino_detector import OpenVinoDetector
from dermask.masks import detections_bitmask
from dermask.records import ByteArray, ImageSize

pytestmark = pytest.mark.openvino
needs_openvino = pytest.mark.skipif(
    "openvino" not in installed_engines(), reason="openvino is not installed; the dev group brings it"
)


def scene(seed: int) -> ByteArray:
    return draw_scene(seed, ImageSize(192, 256)).image


@needs_openvino
def test_opening_a_model_writes_no_file_and_loads_no_telemetry(tmp_path: Path):
    code = (
        "import sys, numpy as np, dermask\n"
        "detector = dermask.load(engine='openvino', threads=1)\n"
        "detector.predict([np.zeros((32, 32, 3), np.uint8)])\n"
        "print([name for name in sys.modules if 'telemetry' in name or 'ovc' in name])\n"
    )
    # Telemetry that were loaded would run: this says to nobody that it is a test of a pipeline.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert (found.returncode, found.stdout) == (0, "[]\n"), found.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@needs_openvino
def test_the_command_outlines_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_synthetic(tmp_path / "scenes", 2, 0, ImageSize(128, 160))
    arguments = ["predict", str(tmp_path / "scenes" / "images"), "--engine", "openvino", "--threads", "1", "--save"]
    assert run([*arguments, "csv", "-o", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert len((tmp_path / "out" / "lesions.csv").read_text().splitlines()) > 1


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'engine openvino: .* pip install "dermask\[openvino\]"'):
        OpenVinoDetector(PACKAGED_MODEL)


@pytest.mark.parametrize(
    ("listed", "own_choice", "expected"),
    [
        (["FP32", "INT8"], "f32", "fp32"),
        (["FP32", "BF16"], "bf16", "bf16"),
        (["FP32", "BF16"], "f32", "fp32"),  # it can, slowly
        (["FP32", "FP16"], "f16", "fp32"),  # on ARM, where nothing was measured
    ],
)
def test_bfloat16_is_taken_where_the_processor_is_made_for_it(listed: list[str], own_choice: str, expected: str):
    properties = {
        "OPTIMIZATION_CAPABILITIES": listed,
        "INFERENCE_PRECISION_HINT": SimpleNamespace(to_string=lambda: own_choice),
    }
    core = SimpleNamespace(get_property=lambda _, name: properties[name])
    assert openvino_detector._choose_precision(core) == expected


@needs_openvino
def test_threads_of_a_program_may_share_a_detector():
    detector = OpenVinoDetector(PACKAGED_MODEL, threads=1, precision="fp32")
    photographs = [scene(seed) for seed in range(6)]
    alone = [detector.predict([photograph])[0] for photograph in photographs]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda photograph: detector.predict([photograph])[0], photographs))
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.mask_probs, expected.mask_probs)


@needs_openvino
@pytest.mark.skipif(not has_fast_bf16(), reason="the processor has no bfloat16 matrix products")
def test_bfloat16_outlines_the_same_lesion():
    detector = load(PACKAGED_MODEL, engine="openvino")
    assert isinstance(detector, OpenVinoDetector)
    assert detector.precision == "bf16"
    photographs = [draw_scene(seed, ImageSize(192, 256), num_lesions=1).image for seed in range(8)]
    expected = OnnxDetector(PACKAGED_MODEL).predict(photographs)
    for found, reference in zip(detector.predict(photographs), expected, strict=True):
        if len(reference) == 0 or reference.scores[0] < 0.8:
            continue  # what is doubtful may go either way
        mask, best = detections_bitmask(found, "primary"), detections_bitmask(reference, "primary")
        assert (mask & best).sum() / (mask | best).sum() > 0.85  # 8 bits in each layer move an outline a little
