"""Weights in: torchvision's published ImageNet and COCO files, and dermask's own checkpoints.

Files are safetensors, or read by `torch.load(weights_only=True)`; nothing is unpickled. Names of tensors are translated
into ours here and nowhere else.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor

from dermask.errors import MissingExtraError, WeightsError
from dermask.models.backbones import FrozenBatchNorm2d
from dermask.models.mask_rcnn import MaskRCNN

# The last layers depend on the classes, the mask head's doublings on its resolution: these may differ and start fresh.
_MAY_DIFFER = ("box_head.class_logits.", "box_head.deltas.", "mask_head.mask_logits.", "mask_head.upsample.")
# Published with eps 0 in the frozen batch norm, where everything else has 1e-5 (torchvision `overwrite_eps`).
_EPS_ZERO_FILE = "maskrcnn_resnet50_fpn_coco"
PUBLISHED = ("imagenet", "coco_v1", "coco_v2")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of the tensors of a weights file and of the model.

    Attributes:
        source: Name or path.
        kept: Tensors of the model that now hold the file's values.
        fresh: Tensors of the model that keep their own values: not in the file, or of another shape there.
        unused: Tensors of the file that the model has no place for.
    """

    source: str
    kept: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = f"{len(self.kept)} tensors kept, {len(self.fresh)} fresh, {len(self.unused)} unused"
        heads = sorted({name.rsplit(".", 1)[0] for name in self.fresh})
        return f"weights {self.source}: {parts}" + (f"; fresh: {', '.join(_shorten(heads))}" if heads else "")


def load_weights(model: MaskRCNN, source: str | Path) -> LoadReport:
    """Fill a model from published weights or from a file.

    Args:
        model: Changed in place.
        source: `imagenet` (the trunk), `coco_v1`, `coco_v2` (torchvision's Mask R-CNNs), which torchvision's own
            download fetches once; or a path to a `.safetensors`, `.pth` or `.pt` file of a trunk, of a torchvision
            Mask R-CNN or of dermask, or an exported `.onnx` file of dermask.

    Raises:
        WeightsError: Unknown name, no such file, no network, not a weights file, or one of another architecture.
    """
    name = str(source)
    if name in PUBLISHED:
        state, name = _download(name, model.settings.backbone.name)
    else:
        state = read_state(Path(source))
    translated = translate(state)
    if Path(name).name.startswith(_EPS_ZERO_FILE):
        translated = _absorb_eps(translated)
    return _fill(model, translated, name)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU.

    Raises:
        WeightsError: Missing, or neither safetensors nor ONNX nor a plain state dict.
        MissingExtraError: An `.onnx` file, and onnx is not installed.
    """
    if not path.is_file():
        known = ", ".join(PUBLISHED)
        raise WeightsError(str(path), "no such weights file", f"give a path, or one of {known}")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        if path.suffix.lower() == ".onnx":
            return _read_onnx(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign pickles, which are refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except MissingExtraError:
        raise
    except UnpicklingError:  # torch's own text advises to unpickle it after all
        problem = "cannot be read safely as weights: it is damaged, or holds more than tensors"
        raise WeightsError(str(path), problem, "save model.state_dict() alone") from None
    except Exception as error:  # on foreign bytes the safe unpickler stumbles anywhere: IndexError, struct.error, ...
        raise WeightsError(str(path), f"cannot be read as weights: {_first_line(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(str(path), "holds something else than a plain state dict", "save model.state_dict() alone")
    return state


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """The tensors of an exported model, under the names that the exporter kept; see `dermask.export.onnx_graph`."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise MissingExtraError(f"weights {path}", "train") from None
    stored = onnx.load_model_from_string(path.read_bytes()).graph.initializer
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in stored):
        raise ValueError("its tensors are in other files")
    tensors = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in stored}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under dermask's names; those that have no place keep theirs.

    Args:
        state: State dict of a torchvision trunk (ResNet, MobileNetV2), of its Mask R-CNN (v1 also with the names of the
            published file, older than the code's), or of dermask (a `last` checkpoint gives its averaged weights).
    """
    state = own_weights(state)
    mask_norm = "roi_heads.mask_head.0.1.weight" in state
    return {_translate_name(key, mask_stride=3 if mask_norm else 2): value for key, value in state.items()}


def own_weights(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The network's tensors in a checkpoint of dermask.

    A run's last checkpoint keeps weights, their moving average and the optimiser's state in one file, told apart by a
    prefix: the average counts, or the weights where there is none. Any other state is given back as it is.
    """
    for prefix in ("ema.", "model."):
        chosen = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if any(name.startswith("trunk.") for name in chosen):
            return chosen
    return state


def _translate_name(name: str, *, mask_stride: int) -> str:
    for pattern, replacement in _RULES:
        match = pattern.fullmatch(name)
        if match:
            return replacement(match, mask_stride) if callable(replacement) else match.expand(replacement)
    return name


_Replacement = str | Callable[[re.Match[str], int], str]


def _mobilenet_stage(match: re.Match[str], _: int) -> str:
    block = int(match[1])
    stage = next((number for number, end in ((2, 4), (3, 7), (4, 14), (5, 18)) if block < end), None)
    return f"trunk.stage{stage}.{match[1]}.{match[2]}" if stage else match[0]


def _box_conv(match: re.Match[str], _: int) -> str:
    # Each of torchvision's (convolution, norm) blocks is three of our layers: convolution, norm, ReLU.
    return f"box_head.hidden.{3 * int(match[1]) + int(match[2])}.{match[3]}"


def _mask_conv(match: re.Match[str], stride: int) -> str:
    return f"mask_head.convs.{stride * int(match[1]) + int(match[2])}.{match[3]}"


_RULE_TABLE: list[tuple[str, _Replacement]] = [
    (r"(?:backbone\.body\.)?((?:conv1|bn1|layer1)\..+)", r"trunk.stage2.\1"),
    (r"(?:backbone\.body\.)?layer2\.(.+)", r"trunk.stage3.\1"),
    (r"(?:backbone\.body\.)?layer3\.(.+)", r"trunk.stage4.\1"),
    (r"(?:backbone\.body\.)?layer4\.(.+)", r"trunk.stage5.\1"),
    (r"features\.(\d+)\.(.+)", _mobilenet_stage),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.([01]\..+)", r"fpn.lateral.\1.\2"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(weight|bias)", r"fpn.lateral.\1.0.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.([01]\..+)", r"fpn.output.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(weight|bias)", r"fpn.output.\1.0.\2"),
    (r"rpn\.head\.conv\.(\d)\.0\.(.+)", lambda match, _: f"rpn.convs.{2 * int(match[1])}.{match[2]}"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.convs.0.\1"),
    (r"rpn\.head\.cls_logits\.(.+)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.+)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(.+)", r"box_head.hidden.1.\1"),
    (r"roi_heads\.box_head\.fc7\.(.+)", r"box_head.hidden.3.\1"),
    (r"roi_heads\.box_head\.5\.(.+)", r"box_head.hidden.13.\1"),
    (r"roi_heads\.box_head\.(\d)\.([01])\.(.+)", _box_conv),
    (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"box_head.class_logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"box_head.deltas.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.(.+)", lambda m, _: f"mask_head.convs.{2 * (int(m[1]) - 1)}.{m[2]}"),
    (r"roi_heads\.mask_head\.(\d)\.([01])\.(.+)", _mask_conv),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.+)", r"mask_head.upsample.0.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.+)", r"mask_head.mask_logits.\1"),
]
_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _RULE_TABLE]


def _fill(model: MaskRCNN, state: Mapping[str, Tensor], source: str) -> LoadReport:
    own = model.state_dict()
    fits = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    for name in own:
        if name in state and name not in fits and not name.startswith(_MAY_DIFFER):
            shapes = f"{tuple(state[name].shape)}, the model needs {tuple(own[name].shape)}"
            cure = f"build the model it was made for, or use weights of {model.settings.backbone.name}"
            raise WeightsError(source, f"is of another architecture: {name} is {shapes}", cure)
    if not any(name.startswith("trunk.") for name in fits):
        cure = f"use weights of {model.settings.backbone.name}"
        raise WeightsError(source, "holds no tensor of this model's trunk", cure)
    trunk_missing = [name for name in own if name.startswith("trunk.") and name not in fits and name not in counters]
    if trunk_missing:
        problem = f"lacks {len(trunk_missing)} tensors of the trunk, the first is {trunk_missing[0]}"
        raise WeightsError(source, problem, f"use weights of {model.settings.backbone.name}")
    model.load_state_dict(fits, strict=False)
    return LoadReport(
        source,
        kept=tuple(fits),
        fresh=tuple(name for name in own if name not in fits and name not in counters),
        unused=tuple(name for name in state if name not in fits),
    )


def _absorb_eps(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics that give, with our eps, what the file's give with eps 0: only their sum enters batch norm."""
    eps = FrozenBatchNorm2d(1).eps
    return {name: value - eps if name.endswith("running_var") else value for name, value in state.items()}


def _download(name: str, backbone: str) -> tuple[dict[str, Tensor], str]:
    from torchvision.models import MobileNet_V2_Weights, ResNet50_Weights
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights, MaskRCNN_ResNet50_FPN_Weights

    enums = {
        ("imagenet", "mobilenet_v2"): MobileNet_V2_Weights.IMAGENET1K_V2,
        ("imagenet", "resnet50"): ResNet50_Weights.IMAGENET1K_V2,
        ("coco_v1", "resnet50"): MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
        ("coco_v2", "resnet50"): MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    }
    if (name, backbone) not in enums:
        raise WeightsError(
            f"weights {name}", f"are not published for {backbone}", "use imagenet, or a ResNet-50 preset"
        )
    url = enums[name, backbone].url
    file_name = url.rsplit("/", 1)[-1]
    try:
        with redirect_stdout(sys.stderr):  # it says there what it downloads, and stdout is for results
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
            )
    except (URLError, OSError, RuntimeError) as error:
        problem = f"could not be downloaded from {url} ({_first_line(error)})"
        cure = f"fetch {file_name} on a machine with a network and pass its path with --weights PATH/{file_name}"
        raise WeightsError(f"weights {name}", problem, cure) from None
    return state, file_name


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _shorten(names: list[str], most: int = 8) -> list[str]:
    return names if len(names) <= most else [*names[:most], f"and {len(names) - most} more"]
