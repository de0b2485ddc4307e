"""Loading a model, and detections in the frame of the photograph whatever form it comes in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from dermask.config import ModelSettings, RunSettings, override
from dermask.errors import ImageError, InputError, SettingError, WeightsError
from dermask.inference import detector as detector_module
from dermask.inference.detector import (
    checkpoint_settings,
    find_model,
    load,
    model_fingerprint,
    read_checkpoint_header,
)
from dermask.inference.torch_detector import TorchDetector, choose_device
from dermask.models.build import build_model
from dermask.models.mask_rcnn import MaskRCNN, TensorDetections
from dermask.records import ByteArray, Detections

TINY = override(
    ModelSettings(class_names=("lesion", "scar")),
    {
        "image.min_size": 64,
        "image.max_size": 64,
        "backbone.fpn_channels": 16,
        "box_head.channels": 16,
        "mask_head.conv_channels": (8,),
        "mask_head.pool_size": 7,
        "mask_head.resolution": 14,
        "rpn.post_nms_topk": 8,
        "box_head.max_detections": 4,
    },
)


@pytest.fixture(scope="module")
def tiny() -> MaskRCNN:
    return build_model(TINY, seed=3).eval()


def metadata(settings: ModelSettings = TINY, **changes: object) -> dict[str, str]:
    values = {
        "config": RunSettings(model=settings).model_dump(mode="json"),
        "class_names": list(settings.class_names),
        **changes,
    }
    return {"dermask": json.dumps(values)}


def save(path: Path, state: dict[str, Tensor], header: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata=header or metadata())
    return path


def photograph(height: int, width: int, seed: int = 0) -> ByteArray:
    low = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return np.array(Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC))


def assert_same(found: Detections, expected: Detections, tolerance: float = 1e-4) -> None:
    assert found.size == expected.size
    assert np.array_equal(found.labels, expected.labels)
    for name in ("boxes", "scores", "mask_probs"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=tolerance)


class WholeFrame(torch.nn.Module):
    """Finds one lesion as large as the image it is given."""

    settings = TINY

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __deepcopy__(self, memo: object) -> WholeFrame:
        return self  # the copy that a detector predicts with, which must remember here

    def predict(self, images: list[Tensor]) -> list[TensorDetections]:
        self.shapes += [tuple(image.shape) for image in images]
        return [
            TensorDetections(
                torch.tensor([[0.0, 0.0, image.shape[2], image.shape[1]]]),
                torch.tensor([0.8]),
                torch.tensor([2]),
                torch.ones(1, 14, 14),
            )
            for image in images
        ]


@pytest.mark.parametrize(
    ("height", "width", "network"),
    [
        pytest.param(100, 200, (3, 32, 64), id="landscape"),
        pytest.param(333, 77, (3, 64, 14), id="tall"),
        pytest.param(64, 64, (3, 64, 64), id="already the network's size"),
        pytest.param(9, 12, (3, 48, 64), id="smaller than the network's"),
        pytest.param(1, 90, (3, 1, 64), id="one pixel high"),
    ],
)
def test_boxes_come_back_to_the_photographs_frame(height: int, width: int, network: tuple[int, ...]):
    model = WholeFrame()
    [found] = TorchDetector(model).predict([photograph(height, width)])  # type: ignore[arg-type]
    assert model.shapes == [network]
    assert found.size == (height, width)
    assert found.boxes.tolist() == [[0, 0, width, height]]
    assert (found.labels.tolist(), found.class_names) == ([2], ("lesion", "scar"))


def test_a_batch_gives_what_single_photographs_give(tiny: MaskRCNN):
    sizes = [(64, 64), (100, 200), (48, 64), (333, 100), (64, 64), (9, 12)]
    photographs = [photograph(*size, seed=index) for index, size in enumerate(sizes)]
    detector = TorchDetector(tiny, batch_size=3)
    together = detector.predict(photographs)
    assert sum(len(found) for found in together) > 0
    for found, single in zip(together, photographs, strict=True):
        assert_same(found, detector.predict([single])[0])


def test_pixels_path_text_and_bytes_are_the_same_photograph(tiny: MaskRCNN, tmp_path: Path):
    path = tmp_path / "photo.png"
    pixels = photograph(90, 120)
    Image.fromarray(pixels).save(path)
    detector = TorchDetector(tiny)
    from_array, from_path, from_text, from_bytes = detector.predict([pixels, path, str(path), path.read_bytes()])
    for found in (from_path, from_text, from_bytes):
        assert_same(found, from_array)
    assert (from_path.image_id, from_text.image_id, from_array.image_id) == ("photo", "photo", "")


def test_a_large_jpeg_decoded_small_gives_nearly_the_same(tiny: MaskRCNN, tmp_path: Path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(photograph(900, 1200)).save(path, quality=95)
    full = np.array(Image.open(path))
    from_path, from_array = TorchDetector(tiny).predict([path, full])
    assert from_path.size == (900, 1200)
    np.testing.assert_allclose(from_path.scores[:1], from_array.scores[:1], atol=0.02)


def test_a_photograph_is_seen_upright(tiny: MaskRCNN, tmp_path: Path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.fromarray(photograph(40, 80)).save(path, exif=exif)
    assert TorchDetector(tiny).predict([path])[0].size == (80, 40)


def test_no_photographs_give_no_detections(tiny: MaskRCNN):
    assert TorchDetector(tiny).predict([]) == []


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (np.zeros((10, 10), np.uint8), r"shape \(10, 10\) and type uint8; give \(height, width, 3\) uint8 RGB"),
        (np.zeros((10, 10, 4), np.uint8), r"shape \(10, 10, 4\)"),
        (np.zeros((10, 10, 3), np.float32), "type float32"),
        (np.zeros((0, 10, 3), np.uint8), r"shape \(0, 10, 3\)"),
    ],
)
def test_arrays_that_are_no_photograph_are_refused(photo: Any, message: str, tiny: MaskRCNN):
    with pytest.raises(InputError, match=message):
        TorchDetector(tiny).predict([photo])


def test_a_missing_photograph_is_named(tiny: MaskRCNN):
    with pytest.raises(ImageError, match=r"nowhere\.jpg: no such file"):
        TorchDetector(tiny).predict(["nowhere.jpg"])


def test_a_checkpoint_gives_the_model_it_was_saved_from(tiny: MaskRCNN, tmp_path: Path):
    detector = load(save(tmp_path / "model.safetensors", tiny.state_dict()), device="cpu")
    assert detector.class_names == ("lesion", "scar")
    pixels = photograph(80, 100)
    assert_same(detector.predict([pixels])[0], TorchDetector(tiny).predict([pixels])[0])


def test_half_precision_weights_compute_in_float32(tiny: MaskRCNN, tmp_path: Path):
    state = {name: value.half() if value.is_floating_point() else value for name, value in tiny.state_dict().items()}
    detector = TorchDetector.from_checkpoint(save(tmp_path / "model.safetensors", state))
    assert {value.dtype for value in detector.model.parameters()} == {torch.float32}
    [found] = detector.predict([photograph(80, 100)])
    assert found.scores.dtype == np.float32


def test_a_low_threshold_keeps_more_and_a_high_one_less(tiny: MaskRCNN, tmp_path: Path):
    path = save(tmp_path / "model.safetensors", tiny.state_dict())
    pixels = photograph(80, 100)
    [everything] = load(path, score_thresh=0.0).predict([pixels])
    [sure] = load(path, score_thresh=float(everything.scores[0])).predict([pixels])
    assert len(everything) > len(sure)
    assert (sure.scores >= everything.scores[0]).all()


def test_a_runs_folder_means_its_best_checkpoint_or_the_averaged_last_one(tiny: MaskRCNN, tmp_path: Path):
    other = build_model(TINY, seed=9).eval()
    state = {f"model.{name}": value for name, value in other.state_dict().items()}
    state |= {f"ema.{name}": value for name, value in tiny.state_dict().items()}
    state["optimizer.trunk.exp_avg"] = torch.zeros(1)
    last = save(tmp_path / "run" / "checkpoints" / "last.safetensors", state)
    assert find_model(tmp_path / "run") == last
    pixels = photograph(80, 100)
    assert_same(load(tmp_path / "run").predict([pixels])[0], TorchDetector(tiny).predict([pixels])[0])
    best = save(tmp_path / "run" / "checkpoints" / "best.safetensors", other.state_dict())
    assert find_model(tmp_path / "run") == best
    assert_same(load(str(tmp_path / "run")).predict([pixels])[0], TorchDetector(other).predict([pixels])[0])


def test_no_model_means_the_packaged_one(tiny: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(detector_module, "PACKAGED_MODEL", tmp_path / "packaged.safetensors")
    with pytest.raises(WeightsError, match="does not come with this version; pass --model RUN, or train one"):
        load()
    save(tmp_path / "packaged.safetensors", tiny.state_dict())
    assert load().class_names == ("lesion", "scar")
    assert find_model("bundled") == find_model(Path("packaged")) == tmp_path / "packaged.safetensors"


def test_a_run_of_ones_own_goes_before_the_packaged_model_of_that_name(
    tiny: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled").mkdir()
    with pytest.raises(WeightsError, match="holds no checkpoints"):
        find_model("bundled")
    save(tmp_path / "bundled" / "checkpoints" / "best.safetensors", tiny.state_dict())
    assert find_model("bundled") == Path("bundled/checkpoints/best.safetensors")


def write_text(path: Path) -> Path:
    path.write_text("hello world, this is not a model")
    return path


def write_empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def write_huge_header(path: Path) -> Path:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    return path


def write_without_metadata(path: Path) -> Path:
    save_file({"weight": torch.zeros(2)}, path)
    return path


def write_cut_off(path: Path) -> Path:
    save(path, build_model(TINY, seed=0).state_dict())
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def write_damaged_metadata(path: Path) -> Path:
    return save(path, {"weight": torch.zeros(2)}, {"dermask": path.stem})


def write_other_tensors(path: Path) -> Path:
    return save(path, {"weight": torch.zeros(2)})


def write_unknown_setting(path: Path) -> Path:
    tree = RunSettings().model_dump(mode="json")
    tree["model"]["wings"] = 2
    return save(path, {"weight": torch.zeros(2)}, metadata(config=tree))


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (
            lambda path: path,
            "m.safetensors",
            "no such model; give a run's folder, a .safetensors checkpoint or an .onnx file",
        ),
        (write_text, "m.pth", ".pth files are not models of dermask; start training from it: dermask train --weights"),
        (write_text, "m.txt", "is not a model; give a run's folder, a .safetensors checkpoint or an .onnx file"),
        (write_text, "m.safetensors", "is not a safetensors file or is truncated"),
        (write_empty, "m.safetensors", "is not a safetensors file or is truncated"),
        (write_huge_header, "m.safetensors", "is not a safetensors file or is truncated"),
        (write_without_metadata, "m.safetensors", "has no dermask metadata, so it is not a whole model"),
        (write_cut_off, "m.safetensors", "is truncated or damaged"),
        (write_damaged_metadata, "{.safetensors", "has damaged dermask metadata; copy it again"),
        (write_damaged_metadata, "[].safetensors", "has damaged dermask metadata; copy it again"),
        (write_damaged_metadata, "{}.safetensors", "has damaged dermask metadata; copy it again"),
        (write_other_tensors, "m.safetensors", "its tensors do not fit its settings"),
    ],
)
def test_what_is_no_model_gets_one_line(write: Callable[[Path], Path], name: str, message: str, tmp_path: Path):
    path = write(tmp_path / name)
    with pytest.raises(WeightsError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(path), "")) < 300


def test_a_folder_without_checkpoints_is_no_model(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"holds no checkpoints/best\.safetensors; give the folder of a training"):
        load(tmp_path)


def test_settings_of_a_newer_version_are_named(tmp_path: Path):
    with pytest.raises(SettingError, match="model settings wings"):
        load(write_unknown_setting(tmp_path / "m.safetensors"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(SettingError, match="device cuda: torch finds no GPU here; use --device cpu"):
        choose_device("cuda")


def test_auto_takes_what_there_is():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_unknown_device_is_named():
    with pytest.raises(SettingError, match="device 'abacus': is not known; choose cpu, cuda or auto"):
        choose_device("abacus")  # type: ignore[arg-type]


def test_fingerprints_tell_models_apart(tiny: MaskRCNN, tmp_path: Path):
    one = save(tmp_path / "one.safetensors", tiny.state_dict())
    two = save(tmp_path / "two.safetensors", build_model(TINY, seed=9).state_dict())
    assert model_fingerprint(one) == model_fingerprint(one)
    assert model_fingerprint(one) != model_fingerprint(two)


def test_the_header_is_read_without_the_tensors(tiny: MaskRCNN, tmp_path: Path):
    path = save(tmp_path / "one.safetensors", tiny.state_dict(), metadata(epoch=7))
    assert read_checkpoint_header(path)["epoch"] == 7


@pytest.mark.parametrize("left_out", [("backbone", "context_blocks"), ("mask_head", "dilated")])
def test_a_file_that_lacks_a_later_setting_has_a_network_without_it(left_out: tuple[str, str]):
    part, name = left_out
    tree = ModelSettings().model_dump(mode="json")
    assert tree[part].pop(name)
    settings = checkpoint_settings({"config": {"model": tree}, "class_names": ["lesion"]}, item="old.onnx")
    assert not getattr(getattr(settings, part), name)


def test_damaged_settings_get_one_line():
    with pytest.raises(SettingError, match=r"old\.onnx: model settings backbone: "):
        checkpoint_settings({"config": {"model": {"backbone": 3}}, "class_names": ["lesion"]}, item="old.onnx")
