"""A file that computes in 8 bits: what it costs is measured, and one that is too dear is not written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from dermask.cli.main import run
from dermask.data.formats import open_dataset
from dermask.data.synthetic import draw_scene, write_synthetic
from dermask.errors import InputError, WeightsError
from dermask.export.cost import Cost, Labelled, measure_cost, time_ratio
from dermask.export.quantize import describe, quantize_onnx
from dermask.inference import engines
from dermask.inference.detector import PACKAGED_MODEL
from dermask.inference.model_file import read_model_file
from dermask.inference.onnx_detector import OnnxDetector
from dermask.records import Detections, ImageSize

PHOTOGRAPHS = [draw_scene(seed, ImageSize(200 + 20 * seed, 256)).image for seed in range(5)]


@pytest.fixture(autouse=True)
def _only_onnx_runtime(monkeypatch: pytest.MonkeyPatch):
    # OpenVINO has its tests in a process of their own.
    monkeypatch.setattr(engines, "installed_engines", lambda: ("onnxruntime",))


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return quantize_onnx(PACKAGED_MODEL, calibration=PHOTOGRAPHS)


@pytest.fixture(scope="module")
def int8(graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("scenes") / "five", 5, 3, ImageSize(160, 200))


def test_it_finds_what_the_original_finds(int8: Path):
    original, smaller = OnnxDetector(PACKAGED_MODEL, threads=1), OnnxDetector(int8, threads=1)
    cost = measure_cost(original, smaller, PHOTOGRAPHS)
    assert cost.photographs == len(PHOTOGRAPHS)
    assert cost.mask_iou > 0.9
    assert cost.labelled is None
    assert smaller.settings == original.settings
    assert time_ratio(original, smaller, PHOTOGRAPHS) > 0


def test_it_is_half_the_size_of_float16(int8: Path):
    assert int8.stat().st_size < 0.6 * PACKAGED_MODEL.stat().st_size


def test_weights_of_features_are_bytes_and_those_of_boxes_and_scores_are_not(graph: onnx.ModelProto):
    made_by = {name: node.op_type for node in graph.graph.node for name in node.output}
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "ConvTranspose")]
    in_float = [node for node in layers if made_by.get(node.input[1]) != "DequantizeLinear"]
    assert len(layers) > 70
    names = {name for node in in_float for name in node.input if name.startswith("model.")}
    parts = {name.removeprefix("model.").rsplit(".", 1)[0].removesuffix(".weight") for name in names}
    assert parts == {
        "rpn.objectness",
        "rpn.deltas",
        "box_head.class_logits",
        "box_head.deltas",
        "mask_head.mask_logits",
    }


def test_only_standard_operators_are_asked_for(graph: onnx.ModelProto):
    assert {(one.domain, one.version) for one in graph.opset_import} == {("", 18)}


def test_nothing_is_left_to_guess_about_shapes(graph: onnx.ModelProto):
    assert not graph.graph.value_info


def test_it_says_how_it_was_made_and_what_it_costs(graph: onnx.ModelProto, tmp_path: Path):
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    labelled = Labelled((0.8, 0.79), None, (0.6, 0.61))
    cost = Cost(5, 0.97, 1, labelled)
    describe(copy, calibration=PHOTOGRAPHS, seven_bits=False, cost=cost, licence="CC0-1.0")
    path = tmp_path / "said.onnx"
    path.write_bytes(copy.SerializeToString())
    said = read_model_file(path).metadata
    assert said["licence"] == "CC0-1.0"
    assert said["int8"]["calibration_photographs"] == 5
    assert said["int8"]["cost"]["labelled"]["jaccard"] == [0.8, 0.79]
    assert said["config"] == read_model_file(PACKAGED_MODEL).metadata["config"]
    describe(copy, calibration=PHOTOGRAPHS[::-1], seven_bits=False, cost=cost, licence=None)
    path.write_bytes(copy.SerializeToString())
    assert read_model_file(path).metadata["int8"]["calibration_hash"] == said["int8"]["calibration_hash"]
    assert labelled.jaccard_loss == pytest.approx(0.01)


def test_calibration_is_told_of(tmp_path: Path):
    told = []
    quantize_onnx(PACKAGED_MODEL, calibration=PHOTOGRAPHS[:2], on_progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


def test_nothing_to_calibrate_on():
    with pytest.raises(InputError, match="photographs to calibrate on: there are none; give some dozens"):
        quantize_onnx(PACKAGED_MODEL, calibration=[])


def test_a_quantised_file_is_not_quantised_again(int8: Path):
    with pytest.raises(WeightsError, match="computes in 8 bits already"):
        quantize_onnx(int8, calibration=PHOTOGRAPHS[:1])


def test_nothing_to_compare_on():
    with pytest.raises(InputError, match="photographs to compare on: there are none"):
        measure_cost(OnnxDetector(PACKAGED_MODEL), OnnxDetector(PACKAGED_MODEL), [])


class Fixed:
    """Finds one box, or nothing."""

    class_names = ("lesion",)

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        self.boxes, self.scores = boxes, scores

    def predict(self, images) -> list[Detections]:
        count = len(self.boxes)
        return [
            Detections(
                boxes=np.array(self.boxes, np.float32).reshape(count, 4),
                scores=np.array(self.scores, np.float32),
                labels=np.ones(count, np.int64),
                mask_probs=np.ones((count, 4, 4), np.float32),
                size=ImageSize(160, 200),
                class_names=self.class_names,
            )
            for _ in images
        ]


@pytest.mark.parametrize(
    ("original", "other", "mask_iou", "changed"),
    [
        (([], []), ([], []), 1.0, 0),
        (([[0, 0, 20, 20]], [0.9]), ([[0, 0, 20, 20]], [0.8]), 1.0, 0),
        (([[0, 0, 20, 20]], [0.9]), ([[0, 0, 10, 20]], [0.9]), 0.5, 0),
        (([[0, 0, 20, 20]], [0.9]), ([[0, 0, 20, 20]], [0.4]), 1.0, 2),
        (([[0, 0, 20, 20]], [0.9]), ([], []), 0.0, 2),
    ],
)
def test_what_differs_is_counted(original, other, mask_iou: float, changed: int):
    cost = measure_cost(Fixed(*original), Fixed(*other), PHOTOGRAPHS[:2])
    assert (cost.photographs, cost.count_changed, cost.labelled) == (2, changed, None)
    assert cost.mask_iou == pytest.approx(mask_iou, abs=0.02)  # a box's last pixels are half covered


def test_labels_give_figures_of_both(scenes: Path):
    dataset = open_dataset(scenes)
    cost = measure_cost(Fixed([[0, 0, 200, 160]], [0.9]), Fixed([], []), dataset)
    assert cost.labelled is not None
    without = np.mean([not sample.instances for sample in dataset])
    assert cost.labelled.jaccard[1] == without < 1  # finding nothing is right where nothing is
    assert 0 < cost.labelled.jaccard[0] < 1
    assert cost.labelled.jaccard_interval is None  # five photographs are too few for one


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)

    def test_it_says_what_it_costs_and_writes(self, scenes: Path, capsys: pytest.CaptureFixture[str]):
        photographs = str(scenes.parent / "images")
        arguments = [
            "export",
            "bundled",
            "-o",
            "int8.onnx",
            "--int8",
            "--calibrate",
            photographs,
            "--data",
            str(scenes),
        ]
        assert run([*arguments, "--max-loss", "1"]) == 0
        output = capsys.readouterr()
        assert output.out == "int8.onnx\n"
        for words in ("5 photographs in both: masks overlap by", "Jaccard index: 0.", "mask AP: 0.", "times as fast"):
            assert words in output.err
        made = read_model_file(Path("int8.onnx")).metadata["int8"]
        assert made["cost"]["labelled"]["jaccard"][0] > 0.5
        assert run(["predict", photographs, "--model", "int8.onnx", "-o", "out", "--engine", "onnxruntime"]) == 0
        assert run(["card", "int8.onnx", "-o", "card.md"]) == 0

    def test_too_dear_a_file_is_not_written(
        self, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        dear = Cost(5, 0.5, 3, Labelled((0.9, 0.8), None, (0.6, 0.5)))
        monkeypatch.setattr("dermask.export.cost.measure_cost", lambda *_: dear)
        arguments = ["export", "bundled", "-o", "int8.onnx", "--int8", "--calibrate", str(scenes.parent / "images")]
        assert run(arguments) == 1
        message = "int8.onnx: would lose 0.1000 of the Jaccard index, more than 0.005; calibrate on other or more"
        assert message in capsys.readouterr().err
        assert list(Path.cwd().iterdir()) == []
        assert run([*arguments, "--force"]) == 0
        assert json.dumps(read_model_file(Path("int8.onnx")).metadata["int8"]["cost"])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--int8"], "--int8 needs --calibrate: photographs such as the model will see, about 100"),
            (
                ["--int8", "--half", "--calibrate", "x"],
                "--half and --int8 say different things of the weights; give one",
            ),
            (["--calibrate", "x"], "--calibrate, --data, --images, --part, --seven-bits and --force go with --int8"),
        ],
    )
    def test_options_that_do_not_go_together(self, options: list[str], message: str, capsys):
        assert run(["export", "bundled", "-o", "int8.onnx", *options]) == 2
        assert message in capsys.readouterr().err
