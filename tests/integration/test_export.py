"""Export from a checkpoint: checked against the network before it is written, and usable from then on without it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dermask.cli.main import run
from dermask.config import ModelSettings, RunSettings, override
from dermask.errors import OutputExistsError, WeightsError
from dermask.export.export import compare, export_onnx
from dermask.inference.model_file import read_model_file
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.torch_detector import TorchDetector
from dermask.models.build import build_model
from dermask.models.mask_rcnn import MaskRCNN
from dermask.models.weights import load_weights

# Tracing takes most of a minute, however small the network.
pytestmark = pytest.mark.slow

TINY = override(
    ModelSettings(class_names=("lesion", "scar")),
    {
        "image.min_size": 64,
        "image.max_size": 96,
        "backbone.fpn_channels": 16,
        "box_head.channels": 16,
        "box_head.max_detections": 12,  # more than proposals, so that both classes are among them
        "mask_head.conv_channels": (8,),
        "mask_head.pool_size": 7,
        "mask_head.resolution": 14,
        "rpn.post_nms_topk": 8,
    },
)


def tiny(seed: int = 5) -> MaskRCNN:
    return build_model(TINY, seed=seed).eval()


def metadata() -> dict[str, object]:
    return {"config": RunSettings(model=TINY).model_dump(mode="json"), "class_names": list(TINY.class_names)}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


PHOTOGRAPHS = [noise(64, 96), noise(50, 50, 1), noise(200, 30, 2), noise(33, 90, 3), np.zeros((64, 64, 3), np.uint8)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    agreement = export_onnx(tiny(), path, metadata=metadata(), photographs=PHOTOGRAPHS)
    assert (agreement.photographs, agreement.lesions > 0) == (5, True)
    return path


def test_two_classes_and_any_shape_come_out_as_from_the_network(exported: Path):
    detector, network = OnnxDetector(exported), TorchDetector(tiny())
    assert detector.class_names == ("lesion", "scar")
    found, expected = detector.predict(PHOTOGRAPHS), network.predict(PHOTOGRAPHS)
    assert {int(label) for one in expected for label in one.labels} == {1, 2}
    for one, other in zip(found, expected, strict=True):
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(one.mask_probs, other.mask_probs, rtol=0, atol=1e-4)


def test_a_network_of_torchvisions_kind_is_exported_too(tmp_path: Path):
    settings = override(TINY, {"backbone.name": "resnet50", "backbone.frozen_norm": True, "roi_aligned": False})
    agreement = export_onnx(
        build_model(settings, seed=5).eval(),
        tmp_path / "tiny.onnx",
        metadata=metadata() | {"config": RunSettings(model=settings).model_dump(mode="json")},
        photographs=PHOTOGRAPHS,
    )
    assert agreement.lesions > 0


def test_another_network_is_told_apart_and_not_written(exported: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match="exported model on photograph 1: "):
        compare(TorchDetector(tiny(seed=4)), OnnxDetector(exported), PHOTOGRAPHS)
    with pytest.raises(OutputExistsError, match="already exists"):
        export_onnx(tiny(), exported, metadata=metadata(), photographs=PHOTOGRAPHS)


def test_training_can_start_from_it(exported: Path):
    model, source = tiny(seed=9), tiny().state_dict()
    report = load_weights(model, exported)
    assert not report.fresh
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, source[name], rtol=0, atol=0)


def test_the_command_writes_a_file_that_predicts(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    header = {"dermask": json.dumps(metadata())}
    weights = Path("runs/tiny/checkpoints/best.safetensors")
    weights.parent.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in tiny().state_dict().items()}, weights, header)
    Path("runs/tiny/data.json").write_text(json.dumps({"data": str(tmp_path / "labels.json"), "weights": "bundled"}))
    arguments = ["export", "runs/tiny", "-o", "tiny.onnx", "--half", "--licence", "CC0-1.0"]
    status = run(arguments)
    out, err = capsys.readouterr()
    assert (status, out) == (0, "tiny.onnx\n"), err
    assert "equal to the network on 12 photographs" in err
    assert Path("tiny.onnx").stat().st_size < 0.7 * weights.stat().st_size
    assert read_model_file(Path("tiny.onnx")).metadata["run"] == {
        "sources": {"data": "labels.json", "weights": "bundled"}
    }
    assert run(arguments) == 1
    assert "tiny.onnx: already exists" in capsys.readouterr().err
