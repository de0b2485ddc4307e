"""A `Detector` on torch, for checkpoints and for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dermask import config
from dermask.errors import SettingError, WeightsError
from dermask.inference.detector import Device, Photograph, Prepared, checkpoint_settings, read_checkpoint_header
from dermask.inference.preparing import batches, prepare
from dermask.models.build import build_model
from dermask.models.folding import prepare_to_predict
from dermask.models.mask_rcnn import MaskRCNN, TensorDetections
from dermask.models.weights import own_weights
from dermask.records import ByteArray, Detections

CPU_BATCH = 4
GPU_BATCH = 16


class TorchDetector:
    """A Mask R-CNN and the device it runs on.

    Args:
        model: The network, weights loaded; it is moved to `device` and put in evaluation mode. What predicts is a copy
            with batch norm folded away, made at the first photograph: later changes of the weights are not seen.
        device: Where to compute; `auto` takes a GPU if there is one.
        precision: `bf16` computes convolutions and linear layers in bfloat16: faster on a GPU, and on a CPU with AMX or
            AVX512-BF16.
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
        threads: int | None = None,
    ) -> TorchDetector:
        """Build the network a checkpoint describes and load its weights, the moving average where there is one.

        With `threads`, torch computes with that many CPU threads from here on, everywhere in this program.

        Raises:
            WeightsError: Not a checkpoint of dermask, truncated, or its tensors do not fit its settings.
            SettingError: `device` is not there, or `score_thresh` is outside [0, 1].
        """
        path = Path(path)
        if threads is not None:
            torch.set_num_threads(threads)
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

    @property
    def image_settings(self) -> config.ImageSettings:
        """The network's scale."""
        return self.model.settings.image

    @property
    def num_at_once(self) -> int:
        """How many calls of `predict` at once are the fastest: torch shares one among all cores."""
        return 1

    def predict(self, images: Sequence[Photograph | Prepared]) -> list[Detections]:
        """Find the lesions of each photograph; see `Detector.predict` and `OverlappingDetector`.

        A photograph given as a file is decoded at a reduced size where its format allows, so its scores may differ
        in the third decimal from those of its full pixels given as an array.
        """
        settings = self.model.settings.image
        prepared = [prepare(photograph, settings) for photograph in images]
        results: list[Detections | None] = [None] * len(prepared)
        for indices in batches(prepared, settings, self.batch_size):
            batch = [prepared[index] for index in indices]
            for index, item, found in zip(indices, batch, self._run([item.image for item in batch]), strict=True):
                results[index] = self._to_photograph(found, item)
        return [result for result in results if result is not None]

    @cached_property
    def _ready(self) -> MaskRCNN:
        # Made when it is first needed: who only wants the network, as an exporter does, never pays for it.
        return prepare_to_predict(self.model, precision=torch.bfloat16 if self.precision == "bf16" else torch.float32)

    def _run(self, batch: Sequence[ByteArray]) -> list[TensorDetections]:
        tensors = [
            torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float().div_(255)
            for image in batch
        ]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self._ready.predict(tensors)

    def _to_photograph(self, found: TensorDetections, item: Prepared) -> Detections:
        detections = Detections(
            boxes=item.to_photograph(_array(found.boxes)),
            scores=_array(found.scores),
            labels=found.labels.cpu().numpy().astype(np.int64),
            mask_probs=_array(found.mask_probs),
            size=item.original_size,
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


def _array(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return tensor.float().cpu().numpy()
