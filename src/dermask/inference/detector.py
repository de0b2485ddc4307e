"""The one way to use a model: a `Detector` turns photographs into detections; `load` makes one from a file.

Nothing here imports torch until a checkpoint is really opened, and a file that cannot be one is refused before.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from dermask.config import ModelSettings, parse
from dermask.errors import MissingExtraError, WeightsError
from dermask.records import ByteArray, Detections

PACKAGED_MODEL = Path(__file__).parent.parent / "assets" / "small.safetensors"

Photograph = ByteArray | Path | str | bytes
"""(H, W, 3) uint8 RGB pixels, a path, or the bytes of an image file."""

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


def load(
    model: str | Path | None = None,
    *,
    device: Device = "auto",
    score_thresh: float | None = None,
    batch_size: int | None = None,
) -> Detector:
    """Open a trained model.

    Args:
        model: A run's folder (its best checkpoint, else its last), a `.safetensors` checkpoint, or None for the
            model that comes with the package.
        device: Where to compute; `auto` takes a GPU if there is one.
        score_thresh: Leave out detections below this score, in [0, 1]; None keeps what the model was built with.
        batch_size: Photographs computed at once; None lets the device decide.

    Raises:
        WeightsError: No such model, or the file is not a checkpoint of dermask.
        MissingExtraError: The model needs torch, which is not installed.
    """
    path = find_model(model)
    read_checkpoint_header(path)
    try:
        from dermask.inference.torch_detector import TorchDetector
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"torch", "torchvision", "safetensors"}:
            raise MissingExtraError(f"{path}: a torch checkpoint", "train") from None
        raise
    return TorchDetector.from_checkpoint(path, device=device, score_thresh=score_thresh, batch_size=batch_size)


def find_model(model: str | Path | None) -> Path:
    """The checkpoint file that `model` stands for, as `load` takes it.

    Raises:
        WeightsError: There is none; says what to give instead.
    """
    if model is None:
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
        raise WeightsError(str(path), "no such model", "give a run's folder or a .safetensors checkpoint")
    if path.suffix.lower() in {".pt", ".pth", ".bin", ".pkl", ".h5"}:
        raise WeightsError(
            str(path),
            f"{path.suffix} files are not models of dermask",
            "start training from it: dermask train --weights",
        )
    if path.suffix.lower() != ".safetensors":
        raise WeightsError(str(path), "is not a model", "give a run's folder or a .safetensors checkpoint")
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
    settings = parse(ModelSettings, metadata["config"].get("model"), item=f"{item}: model settings")
    return settings.model_copy(update={"class_names": tuple(metadata["class_names"])})


def model_fingerprint(path: Path) -> str:
    """SHA-256 of the checkpoint file in hex: results with equal fingerprints come from the same weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
