"""The exported model on either engine: the same answers as the network it was made from, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from dermask.config import ModelSettings
from dermask.data.synthetic import draw_scene
from dermask.errors import ImageError, InputError, SettingError, WeightsError
from dermask.inference.detector import PACKAGED_MODEL, load
from dermask.inference.engines import installed_engines
from dermask.inference.exported_detector import ExportedDetector
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.openvino_detector import OpenVinoDetector
from dermask.inference.torch_detector import TorchDetector
from dermask.models.build import build_model
from dermask.models.weights import load_weights, read_state
from dermask.records import ByteArray, Detections, ImageSize

SIZES = {
    "square": (96, 96),
    "landscape": (120, 200),
    "portrait": (333, 90),
    "large": (700, 900),
}
EXTREMES = {"one pixel": (1, 1), "one row": (1, 300), "one column": (300, 1), "huge": (2000, 3000)}


def scene(size: tuple[int, int], seed: int = 5) -> ByteArray:
    return draw_scene(seed, ImageSize(*size)).image


Opener = Callable[..., ExportedDetector]
OPENERS: dict[str, Opener] = {
    "onnxruntime": OnnxDetector,
    "openvino": partial(OpenVinoDetector, precision="fp32"),  # tolerances here are those of float32
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.openvino if name == "openvino" else ()) for name in OPENERS],
)
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param not in installed_engines():
        pytest.skip(f"{request.param} is not installed; the dev group brings it")
    return OPENERS[request.param]


@pytest.fixture(scope="module")
def exported(opener: Opener) -> ExportedDetector:
    return opener(PACKAGED_MODEL, threads=1)


@pytest.fixture(scope="module")
def network(exported: ExportedDetector) -> TorchDetector:
    model = build_model(exported.settings)
    report = load_weights(model, PACKAGED_MODEL)
    assert not report.fresh, "an exported file holds every tensor of the network"
    return TorchDetector(model)


def assert_equal(found: Detections, expected: Detections, *, pixel: float = 1) -> None:
    """Equal up to sums in another order; `pixel` is one of the network's in pixels of the photograph."""
    assert found.size == expected.size
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=0.01 * pixel)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.mask_probs, expected.mask_probs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_it_finds_what_the_network_finds(size: tuple[int, int], exported: ExportedDetector, network: TorchDetector):
    [found], [expected] = exported.predict([scene(size)]), network.predict([scene(size)])
    assert len(expected)
    assert_equal(found, expected)


@pytest.mark.parametrize("size", EXTREMES.values(), ids=EXTREMES)
def test_tiny_and_huge_photographs_are_ordinary(
    size: tuple[int, int], exported: ExportedDetector, network: TorchDetector
):
    drawn = Image.fromarray(scene((96, 144)))
    photograph = np.asarray(drawn.resize(size[::-1]))
    [found], [expected] = exported.predict([photograph]), network.predict([photograph])
    assert found.size == size
    assert_equal(found, expected, pixel=max(1, max(size) / 320))


def test_nothing_in_nothing_out(exported: ExportedDetector):
    assert exported.predict([]) == []


def test_a_photograph_without_detection_is_ordinary_alone_and_among_others(
    exported: ExportedDetector, network: TorchDetector
):
    blank = np.full((90, 120, 3), 200, np.uint8)
    assert [len(found) for found in network.predict([blank])] == [0]
    photographs = [blank, scene((90, 120)), blank, scene((90, 120), 6)]
    found, expected = exported.predict(photographs), network.predict(photographs)
    assert [len(one) for one in found][::2] == [0, 0]
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)
    assert len(exported.predict([blank])[0]) == 0


def test_a_batch_gives_what_single_photographs_give(exported: ExportedDetector):
    photographs = [scene(size, seed) for seed, size in enumerate([*SIZES.values(), *SIZES.values()])]
    for together, photograph in zip(exported.predict(photographs), photographs, strict=True):
        [alone] = exported.predict([photograph])
        assert_equal(together, alone)


def test_files_bytes_and_pixels_are_photographs(tmp_path: Path, exported: ExportedDetector):
    path = tmp_path / "spot.png"
    Image.fromarray(scene((120, 200))).save(path)
    results = exported.predict([path, str(path), path.read_bytes(), scene((120, 200))])
    assert [found.image_id for found in results] == ["spot", "spot", "", ""]
    for found in results[1:]:
        assert_equal(found, results[0])
    with pytest.raises(ImageError, match="no such file"):
        exported.predict([tmp_path / "gone.jpg"])
    with pytest.raises(InputError, match=r"array of shape \(4, 4\).*give \(height, width, 3\) uint8"):
        exported.predict([np.zeros((4, 4), np.uint8)])


def test_a_score_threshold_leaves_out_what_is_below(opener: Opener, exported: ExportedDetector):
    [all_found] = exported.predict([scene((700, 900))])
    limit = float(all_found.scores[0])
    [found] = opener(PACKAGED_MODEL, score_thresh=limit, threads=1).predict([scene((700, 900))])
    assert len(found) == int((all_found.scores >= limit).sum()) >= 1


def test_load_opens_the_packaged_model_and_any_exported_file(tmp_path: Path):
    assert isinstance(load(), ExportedDetector)
    copy = tmp_path / "mine.ONNX"
    copy.write_bytes(PACKAGED_MODEL.read_bytes())
    detector = load(copy, threads=1, batch_size=2, engine="onnxruntime")
    assert isinstance(detector, OnnxDetector)
    assert (detector.class_names, detector.batch_size) == (("lesion",), 2)


def test_a_device_that_is_not_there_and_a_threshold_out_of_range_are_refused(opener: Opener):
    no_gpu = {
        "onnxruntime": "ONNX Runtime has no GPU here; install onnxruntime-gpu, or use --device cpu",
        "openvino": "OpenVINO computes on the CPU; use --device cpu or --engine onnxruntime",
    }
    with pytest.raises(SettingError, match=no_gpu["onnxruntime" if opener is OnnxDetector else "openvino"]):
        opener(PACKAGED_MODEL, device="cuda")
    with pytest.raises(SettingError, match=r"score_thresh: 1\.5 is not between 0 and 1"):
        opener(PACKAGED_MODEL, score_thresh=1.5)
    with pytest.raises(SettingError, match="device 'tpu': is not known; choose cpu, cuda or auto"):
        opener(PACKAGED_MODEL, device="tpu")


def _without_metadata(path: Path) -> None:
    graph = onnx.load(path)
    del graph.metadata_props[:]
    onnx.save(graph, path)


def _with_metadata(path: Path, text: str) -> None:
    graph = onnx.load(path)
    graph.metadata_props[0].value = text
    onnx.save(graph, path)


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "is not an ONNX model that can be run, or is damaged"),
    "text": (lambda path: path.write_text("weights"), "is not an ONNX model that can be run, or is damaged"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:100_000]), "is not an ONNX model that can be run"),
    "of another program": (_without_metadata, "is not a model of dermask; write it with: dermask export"),
    "metadata no JSON": (lambda path: _with_metadata(path, "{"), "is not a model of dermask"),
    "metadata of another kind": (lambda path: _with_metadata(path, "[]"), "is not a model of dermask"),
    "an unknown setting": (
        lambda path: _with_metadata(
            path, json.dumps({"config": {"model": {"backbone": {"name": "vgg"}}}, "class_names": ["lesion"]})
        ),
        r"model settings.*backbone\.name",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_model_is_refused_in_one_line(
    damage: Callable[[Path], Any], message: str, opener: Opener, tmp_path: Path
):
    path = tmp_path / "model.onnx"
    path.write_bytes(PACKAGED_MODEL.read_bytes())
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        opener(path)
    assert "\n" not in str(caught.value)


def _foreign(path: Path, *, rows: int = 1, label: int = 1, images_type: int = onnx.TensorProto.UINT8) -> Path:
    """A graph that looks like one of ours from outside, and always gives one and the same."""
    constants = {
        "boxes": np.zeros((1, 2, 4), np.float32),
        "scores": np.array([[0.9, 0.0]], np.float32),
        "labels": np.array([[label, 0]], np.int64),
        "valid": np.array([[True, False]]),
        "mask_probs": np.zeros((rows, 4, 4), np.float32),
    }
    values = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    inputs = [
        onnx.helper.make_tensor_value_info("images", images_type, ["b", "h", "w", 3]),
        onnx.helper.make_tensor_value_info("sizes", onnx.TensorProto.INT64, ["b", 2]),
    ]
    constant, node = partial(onnx.helper.make_node, "Constant", []), onnx.helper.make_node
    nodes = [constant(["drawn" if value.name == "boxes" else value.name], value=value) for value in values]
    nodes += [  # what goes in has to lead somewhere, or an engine may drop it
        *(node("Cast", [name], [f"{name}.real"], to=onnx.TensorProto.FLOAT) for name in ("images", "sizes")),
        *(node("ReduceMin", [f"{name}.real"], [f"{name}.least"], keepdims=0) for name in ("images", "sizes")),
        node("Mul", ["images.least", "sizes.least"], ["least"]),
        node("Add", ["drawn", "least"], ["boxes"]),
    ]
    outputs = [onnx.helper.make_tensor_value_info(v.name, v.data_type, [None] * len(v.dims)) for v in values]
    graph = onnx.helper.make_graph(nodes, "foreign", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    config = {"model": ModelSettings().model_dump(mode="json")}
    onnx.helper.set_model_props(model, {"dermask": json.dumps({"config": config, "class_names": ["lesion"]})})
    onnx.save(model, path)
    return path


def test_a_foreign_graph_cannot_lead_astray(opener: Opener, tmp_path: Path):
    photograph = np.zeros((64, 64, 3), np.uint8)
    assert len(opener(_foreign(tmp_path / "fits.onnx")).predict([photograph])[0]) == 1
    for number, wrong in enumerate(({"rows": 3}, {"label": 2}, {"label": 0})):
        detector = opener(_foreign(tmp_path / f"{number}.onnx", **wrong))
        with pytest.raises(WeightsError, match="gives detections that do not fit together; export it again"):
            detector.predict([photograph])
    with pytest.raises(WeightsError, match="do not fit together"):  # two photographs in, results of one out
        opener(tmp_path / "fits.onnx").predict([photograph, photograph])
    with pytest.raises(WeightsError, match="is not a model of dermask"):
        opener(_foreign(tmp_path / "float.onnx", images_type=onnx.TensorProto.FLOAT))


def test_weights_in_other_files_are_not_read(opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    graph = onnx.load(PACKAGED_MODEL)
    onnx.save(graph, "apart.onnx", save_as_external_data=True, location="tensors.bin")
    with pytest.raises(WeightsError, match="cannot be read as weights: its tensors are in other files"):
        read_state(Path("apart.onnx"))
    with pytest.raises(WeightsError, match="is not an ONNX model that can be run"):
        opener("apart.onnx")


def test_a_missing_file_is_refused(opener: Opener, tmp_path: Path):
    with pytest.raises(WeightsError, match="no such model"):
        load(tmp_path / "gone.onnx")
    with pytest.raises(WeightsError, match="cannot be read"):
        opener(tmp_path / "gone.onnx")


def test_bytes_gone_wrong_are_refused_and_never_a_traceback(opener: Opener, tmp_path: Path):
    content = _foreign(tmp_path / "whole.onnx").read_bytes()
    random = np.random.default_rng(3)
    path = tmp_path / "broken.onnx"
    photograph = np.zeros((64, 64, 3), np.uint8)
    messages: list[str] = []
    for _ in range(60):
        broken = np.frombuffer(content, np.uint8).copy()
        broken[random.integers(len(broken), size=2)] = random.integers(256, size=2)
        path.write_bytes(broken.tobytes())
        try:
            opener(path, threads=1).predict([photograph])
        except InputError as error:
            messages.append(str(error))
    assert messages
    assert all("\n" not in message for message in messages)
