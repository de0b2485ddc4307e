"""The one way to use a model: a `Detector` turns photographs into detections; `load` makes one from a file.

An exported model runs on ONNX Runtime or OpenVINO, a checkpoint on torch. Nothing here imports any of them until a
model is really opened, and a file that cannot be one is refused before.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from dermask import boxes as box_ops
from dermask.config import ImageSettings, ModelSettings, parse
from dermask.errors import MissingExtraError, SettingError, WeightsError
from dermask.inference.engines import EngineChoice, EngineName, check_engine, choose_engine
from dermask.records import ByteArray, Detections, FloatArray, ImageSize

if TYPE_CHECKING:
    from dermask.inference.onnx_detector import OnnxDetector
    from dermask.inference.openvino_detector import OpenVinoDetector

PACKAGED_MODEL = Path(__file__).parent.parent / "assets" / "small.onnx"
PACKAGED_NAMES = ("bundled", "packaged")
"""What asks for the model that comes with the package; a file or folder of that name goes first."""

Photograph = ByteArray | Path | str | bytes
"""(H, W, 3) uint8 RGB pixels, a path, or the bytes of an image file."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One photograph ready for the network; `preparing.prepare` makes it.

    Attributes:
        image: (h, w, 3) uint8 RGB at the network's size.
        original_size: Of the photograph, upright.
        image_id: The file's stem; empty where there is no file.
    """

    image: ByteArray
    original_size: ImageSize
    image_id: str

    def to_photograph(self, boxes: FloatArray) -> FloatArray:
        """(N, 4) boxes of the network's frame in pixels of the photograph, clipped to it."""
        height, width = self.image.shape[:2]
        ratio = np.array([self.original_size.width / width, self.original_size.height / height] * 2, np.float32)
        return box_ops.clip(boxes * ratio, self.original_size)


Device = Literal["cpu", "cuda", "auto"]

# Far above the header of any real checkpoint; a foreign file's first eight bytes seldom make a smaller number.
_MAX_HEADER_BYTES = 100_000_000


class Detector(Protocol):
    """What everything that uses a model asks of it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of label i at index i - 1."""
        ...

    def predict(self, images: Sequence[Photograph]) -> list[Detections]:
        """Find the lesions of each photograph.

        Args:
            images: (H, W, 3) uint8 RGB arrays, paths, or bytes of image files, in any mixture and of any sizes.

        Returns:
            One `Detections` per photograph, in order, best score first, boxes in pixels of the photograph as a
            person sees it. A result does not depend on what else is in the batch.

        Raises:
            ImageError: A photograph cannot be read; names it.
        """
        ...


@runtime_checkable
class OverlappingDetector(Detector, Protocol):
    """A detector that takes photographs prepared elsewhere, by several threads, so that it need not wait for them.

    `predict` also takes photographs as `preparing.prepare` makes them, and gives for them what it gives for the files.
    """

    @property
    def image_settings(self) -> ImageSettings:
        """The network's scale, for `preparing.prepare`."""
        ...

    @property
    def num_at_once(self) -> int:
        """How many calls of `predict` at once are the fastest: 1 where one uses all that there is."""
        ...


def load(
    model: str | Path | None = None,
    *,
    device: Device = "auto",
    score_thresh: float | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    engine: EngineChoice = "auto",
    num_photographs: int | None = None,
) -> Detector:
    """Open a trained model.

    Args:
        model: An exported `.onnx` file, a run's folder (its best checkpoint, else its last), a `.safetensors`
            checkpoint, or None or `bundled` for the model that comes with the package.
        device: Where to compute; `auto` takes a GPU if there is one.
        score_thresh: Leave out detections below this score, in [0, 1]; None keeps what the model was built with. An
            exported model has nothing below the threshold it was exported with, 0.05 unless set.
        batch_size: Photographs computed at once; None lets the device decide.
        threads: CPU threads; None lets the engine choose. For a checkpoint this holds for all of torch.
        engine: What runs an exported model; `auto` takes the faster one, see `engines.choose_engine`.
        num_photographs: How many are to be predicted, where that is known: for a few, opening a model counts most.

    Raises:
        WeightsError: No such model, or the file is not a model of dermask.
        SettingError: No such device or engine, an engine for a checkpoint, or a threshold outside [0, 1].
        MissingExtraError: The model needs torch, or OpenVINO is asked for, and it is not installed.
    """
    check_engine(engine)
    path = find_model(model)
    if path.suffix.lower() == ".onnx":
        exported = exported_detector(choose_engine(engine, device=device, num_photographs=num_photographs))
        return exported(path, device=device, score_thresh=score_thresh, batch_size=batch_size, threads=threads)
    if engine != "auto":
        raise SettingError(f"engine {engine}", f"does not run {path}, a checkpoint", "write a model: dermask export")
    read_checkpoint_header(path)
    try:
        from dermask.inference.torch_detector import TorchDetector
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"torch", "torchvision", "safetensors"}:
            raise MissingExtraError(f"{path}: a torch checkpoint", "train") from None
        raise
    return TorchDetector.from_checkpoint(
        path, device=device, score_thresh=score_thresh, batch_size=batch_size, threads=threads
    )


def exported_detector(engine: EngineName) -> type[OnnxDetector] | type[OpenVinoDetector]:
    """The class that runs exported models on an engine."""
    if engine == "openvino":
        from dermask.inference.openvino_detector import OpenVinoDetector

        return OpenVinoDetector
    from dermask.inference.onnx_detector import OnnxDetector

    return OnnxDetector


def asks_for_packaged(model: str | Path) -> bool:
    """Whether `model`, as `load` takes it, names the one that comes with the package."""
    return str(model) in PACKAGED_NAMES and not Path(model).exists()


def find_model(model: str | Path | None) -> Path:
    """The file that `model` stands for, as `load` takes it.

    Raises:
        WeightsError: There is none; says what to give instead.
    """
    if model is None or asks_for_packaged(model):
        if PACKAGED_MODEL.is_file():
            return PACKAGED_MODEL
        raise WeightsError(
            "packaged model", "does not come with this version", "pass --model RUN, or train one: dermask demo"
        )
    path = Path(model)
    if path.is_dir():
        for name in ("best", "last"):
            checkpoint = path / "checkpoints" / f"{name}.safetensors"
            if checkpoint.is_file():
                return checkpoint
        raise WeightsError(str(path), "holds no checkpoints/best.safetensors", "give the folder of a training run")
    if not path.exists():
        raise WeightsError(
            str(path), "no such model", "give a run's folder, a .safetensors checkpoint or an .onnx file"
        )
    if path.suffix.lower() in {".pt", ".pth", ".bin", ".pkl", ".h5"}:
        raise WeightsError(
            str(path),
            f"{path.suffix} files are not models of dermask",
            "start training from it: dermask train --weights",
        )
    if path.suffix.lower() not in {".safetensors", ".onnx"}:
        raise WeightsError(
            str(path), "is not a model", "give a run's folder, a .safetensors checkpoint or an .onnx file"
        )
    return path


def read_checkpoint_header(path: Path) -> dict[str, Any]:
    """What a checkpoint says about itself, read from its first bytes without loading a tensor.

    Returns:
        The "dermask" metadata: `config` (nested settings), `class_names`, and what training added.

    Raises:
        WeightsError: Not a safetensors file, or one without the metadata of dermask.
    """
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]  # the safetensors format: header length, header, tensors
            if length > _MAX_HEADER_BYTES:
                raise ValueError
            header = json.loads(file.read(length))
        text = header.get("__metadata__", {}).get("dermask")
    except OSError as error:
        raise WeightsError(str(path), f"cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, AttributeError):
        raise WeightsError(
            str(path), "is not a safetensors file or is truncated", "copy it again, or train the model again"
        ) from None
    if text is None:
        raise WeightsError(
            str(path),
            "has no dermask metadata, so it is not a whole model",
            "start training from it: dermask train --weights",
        )
    try:
        metadata: dict[str, Any] = json.loads(text)
        if not isinstance(metadata["config"], dict) or not isinstance(metadata["class_names"], list):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise WeightsError(
            str(path), "has damaged dermask metadata", "copy it again, or train the model again"
        ) from None
    return metadata


def checkpoint_settings(metadata: dict[str, Any], *, item: str) -> ModelSettings:
    """The settings of the network that a checkpoint's metadata describes; `item` goes in front of a message.

    Raises:
        SettingError: The metadata holds a setting that this version does not know.
    """
    tree = metadata["config"].get("model")
    if isinstance(tree, dict):
        tree = {name: _with_older(name, part) for name, part in tree.items()}
    settings = parse(ModelSettings, tree, item=f"{item}: model settings")
    return settings.model_copy(update={"class_names": tuple(metadata["class_names"])})


# Files hold every setting; one that lacks these was made before networks had what they switch on.
_OLDER: dict[str, dict[str, object]] = {"backbone": {"context_blocks": 0}, "mask_head": {"dilated": False}}


def _with_older(name: str, part: object) -> object:
    return {**_OLDER.get(name, {}), **part} if isinstance(part, dict) else part


def model_fingerprint(path: Path) -> str:
    """SHA-256 of the model's file in hex: results with equal fingerprints come from the same weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
