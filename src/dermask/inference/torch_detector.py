"""A `Detector` on torch: decode, resize, run the network, map the result back to the photograph.

A photograph is resized here, by pillow, to the size the network would give it, because decoding at a reduced size and
filtering on the CPU costs a fraction of handing over all pixels. Masks live in the frame of their box, so mapping back
touches the boxes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dermask import boxes as box_ops
from dermask import config
from dermask import images as image_files
from dermask.errors import InputError, SettingError, WeightsError
from dermask.inference.detector import Device, Photograph, checkpoint_settings, read_checkpoint_header
from dermask.models.batching import network_size, padded_size
from dermask.models.build import build_model
from dermask.models.mask_rcnn import MaskRCNN, TensorDetections
from dermask.models.weights import own_weights
from dermask.records import ByteArray, Detections, ImageSize

CPU_BATCH = 4
GPU_BATCH = 16

# A JPEG is decoded at the smallest of its own scales that still has this many times the wanted pixels per side;
# with 2 the resizing filter, not the JPEG's, decides what the network sees.
DECODE_MARGIN = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """One photograph ready for the network."""

    image: ByteArray  # (h, w, 3) at the network's size
    original_size: ImageSize
    image_id: str


class TorchDetector:
    """A Mask R-CNN and the device it runs on.

    Args:
        model: The network, weights loaded; it is moved to `device` and put in evaluation mode.
        device: Where to compute; `auto` takes a GPU if there is one.
        precision: `bf16` computes convolutions in bfloat16.
        score_thresh: Leave out detections below this score, in [0, 1]; None keeps what the network returns.
        batch_size: Photographs computed at once; None lets the device decide.
        name: What messages call the model.
    """

    def __init__(
        self,
        model: MaskRCNN,
        device: Device = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        *,
        score_thresh: float | None = None,
        batch_size: int | None = None,
        name: str = "model",
    ) -> None:
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.precision = precision
        self.score_thresh = score_thresh
        self.batch_size = batch_size or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self.name = name

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        device: Device = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        score_thresh: float | None = None,
        batch_size: int | None = None,
    ) -> TorchDetector:
        """Build the network a checkpoint describes and load its weights, the moving average where there is one.

        Raises:
            WeightsError: Not a checkpoint of dermask, truncated, or its tensors do not fit its settings.
            SettingError: `device` is not there, or `score_thresh` is outside [0, 1].
        """
        path = Path(path)
        metadata = read_checkpoint_header(path)
        settings = checkpoint_settings(metadata, item=str(path))
        if score_thresh is not None:
            settings = config.override(settings, {"box_head.score_thresh": score_thresh})
        model = build_model(settings)
        _load_state(model, path)
        return cls(model, device, precision, score_thresh=score_thresh, batch_size=batch_size, name=str(path))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of label i at index i - 1."""
        return self.model.settings.class_names

    def predict(self, images: Sequence[Photograph]) -> list[Detections]:
        """Find the lesions of each photograph; see `Detector.predict`.

        A photograph given as a file is decoded at a reduced size where its format allows, so its scores may differ
        in the third decimal from those of its full pixels given as an array.
        """
        prepared = [self._prepare(photograph) for photograph in images]
        results: list[Detections | None] = [None] * len(prepared)
        for indices in self._batches(prepared):
            batch = [prepared[index] for index in indices]
            for index, item, found in zip(indices, batch, self._run([item.image for item in batch]), strict=True):
                results[index] = self._to_photograph(found, item)
        return [result for result in results if result is not None]

    def _prepare(self, photograph: Photograph) -> _Prepared:
        settings = self.model.settings.image
        if isinstance(photograph, np.ndarray):
            _check_pixels(photograph)
            original_size = ImageSize(*photograph.shape[:2])
            wanted = ImageSize(*network_size(original_size, settings))
            return _Prepared(image_files.resize(photograph, wanted), original_size, "")
        source = Path(photograph) if isinstance(photograph, str) else photograph
        original_size = image_files.image_size(source)
        wanted = ImageSize(*network_size(original_size, settings))
        pixels = image_files.read_image(source, target_side=DECODE_MARGIN * min(wanted))
        return _Prepared(
            image_files.resize(pixels, wanted), original_size, source.stem if isinstance(source, Path) else ""
        )

    def _batches(self, prepared: Sequence[_Prepared]) -> Iterator[list[int]]:
        """Indices of photographs computed together: only those that are padded to one size, so that padding, and with
        it the result, is the same as for each photograph alone."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, item in enumerate(prepared):
            height, width = item.image.shape[:2]
            groups.setdefault(padded_size((height, width), self.model.settings.image), []).append(index)
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _run(self, batch: Sequence[ByteArray]) -> list[TensorDetections]:
        tensors = [
            torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float().div_(255)
            for image in batch
        ]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model.predict(tensors)

    def _to_photograph(self, found: TensorDetections, item: _Prepared) -> Detections:
        size = item.original_size
        height, width = item.image.shape[:2]
        ratio = np.array([size.width / width, size.height / height] * 2, np.float32)
        detections = Detections(
            boxes=box_ops.clip(_array(found.boxes) * ratio, size),
            scores=_array(found.scores),
            labels=found.labels.cpu().numpy().astype(np.int64),
            mask_probs=_array(found.mask_probs),
            size=size,
            class_names=self.class_names,
            image_id=item.image_id,
        )
        return detections if self.score_thresh is None else detections.above(self.score_thresh)


def choose_device(device: Device) -> torch.device:
    """The torch device for a name.

    Raises:
        SettingError: `cuda` without a GPU that torch can use, or an unknown name.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device cuda", "torch finds no GPU here", "use --device cpu")
    if device not in ("cpu", "cuda"):
        raise SettingError(f"device {device!r}", "is not known", "choose cpu, cuda or auto")
    return torch.device(device)


def _load_state(model: MaskRCNN, path: Path) -> None:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise WeightsError(str(path), f"is truncated or damaged ({error})", "copy it again") from None
    # Packaged weights are float16; the network computes in float32.
    state = {
        name: value.float() if value.is_floating_point() else value for name, value in own_weights(tensors).items()
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        problem = shorten(lines[1 if len(lines) > 1 else 0], 160, placeholder=" ...")
        raise WeightsError(str(path), f"its tensors do not fit its settings: {problem}", "train again") from None


def _check_pixels(photograph: ByteArray) -> None:
    if photograph.dtype != np.uint8 or photograph.ndim != 3 or photograph.shape[2] != 3 or 0 in photograph.shape:
        raise InputError(
            "photograph",
            f"is an array of shape {photograph.shape} and type {photograph.dtype}",
            "give (height, width, 3) uint8 RGB",
        )


def _array(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return tensor.float().cpu().numpy()
