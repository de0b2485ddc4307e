"""What every engine does for an exported model alike: the file, what it says of itself, batches, results.

The graph (see `dermask.export.onnx_graph`) takes photographs at the network's size, padded to one batch, and gives
detections in the network's frame; the file says how to scale photographs and what its classes are called.

Shapes: B photographs, D detections per photograph padded and flagged, K outlined ones over all, S mask cells per side.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from dermask.config import ImageSettings
from dermask.errors import SettingError, WeightsError
from dermask.inference.detector import Photograph, Prepared, checkpoint_settings
from dermask.inference.preparing import batches, prepare
from dermask.records import ByteArray, Detections, IntArray
from dermask.scaling import padded_size

BATCH = 4
"""Photographs computed at once; more gain nothing on a CPU."""


class Value(NamedTuple):
    """What goes into a graph or comes out: its name, numpy's name of its type, how many axes."""

    name: str
    dtype: str
    num_axes: int


# In order.
_INPUTS = [Value("images", "uint8", 4), Value("sizes", "int64", 2)]
_OUTPUTS = [
    Value("boxes", "float32", 3),
    Value("scores", "float32", 2),
    Value("labels", "int64", 2),
    Value("valid", "bool", 2),
    Value("mask_probs", "float32", 3),
]

# Models have ten to some hundred megabytes; a file beyond this is something else, and is not read into memory.
_MAX_FILE_BYTES = 2_000_000_000

_CURE = "export it again: dermask export"


class ExportedDetector(ABC):
    """An exported model without the engine that runs it: a subclass opens the file and computes.

    Args:
        path: A file that `dermask export` wrote.
        score_thresh: Leave out detections below this score, in [0, 1]; None keeps what the model returns, and below
            the threshold it was exported with there is nothing.
        batch_size: Photographs computed at once; None for `BATCH`.

    Raises:
        SettingError: A threshold outside [0, 1].
    """

    def __init__(self, path: str | Path, *, score_thresh: float | None, batch_size: int | None) -> None:
        if score_thresh is not None and not 0 <= score_thresh <= 1:
            raise SettingError("score_thresh", f"{score_thresh} is not between 0 and 1")
        self.name = str(path)
        self.score_thresh = score_thresh
        self.batch_size = batch_size or BATCH

    @abstractmethod
    def _infer(self, images: ByteArray, sizes: IntArray) -> list[Any]:
        """Run the graph on (B, H, W, 3) and (B, 2); its outputs in order, or any exception of the engine."""

    def _take(self, describe: Callable[[], tuple[str | None, list[Value], list[Value]]]) -> None:
        """Take what the open file says of itself.

        Args:
            describe: Gives the text under "dermask", what goes into the graph and what comes out; raises ValueError
                where a name or the text is none.

        Raises:
            WeightsError: Not a model of dermask.
            SettingError: It holds a setting this version does not know.
        """
        try:
            text, inputs, outputs = describe()
            found: dict[str, Any] = json.loads(text or "")
            if not isinstance(found["config"], dict) or not isinstance(found["class_names"], list):
                raise TypeError
            if (inputs, outputs) != (_INPUTS, _OUTPUTS):
                raise TypeError
        except (ValueError, KeyError, TypeError):  # an error of JSON or of UTF-8 is a ValueError
            raise WeightsError(
                self.name, "is not a model of dermask", "write it with: dermask export RUN -o model.onnx"
            ) from None
        self.settings = checkpoint_settings(found, item=self.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of label i at index i - 1."""
        return self.settings.class_names

    @property
    def image_settings(self) -> ImageSettings:
        """The network's scale."""
        return self.settings.image

    @property
    def num_at_once(self) -> int:
        """How many calls of `predict` at once are the fastest."""
        return 1

    def predict(self, images: Sequence[Photograph | Prepared]) -> list[Detections]:
        """Find the lesions of each photograph; see `Detector.predict` and `OverlappingDetector`.

        Raises:
            WeightsError: The graph fails or gives what none of dermask's would.
        """
        settings = self.settings.image
        prepared = [prepare(photograph, settings) for photograph in images]
        results: dict[int, Detections] = {}
        for indices in batches(prepared, settings, self.batch_size):
            found = self._run([prepared[index] for index in indices])
            results.update(zip(indices, found, strict=True))
        return [results[index] for index in range(len(prepared))]

    def _run(self, batch: Sequence[Prepared]) -> list[Detections]:
        height, width = padded_size(batch[0].image.shape[:2], self.settings.image)
        images = np.zeros((len(batch), height, width, 3), np.uint8)
        for row, item in zip(images, batch, strict=True):
            row[: item.image.shape[0], : item.image.shape[1]] = item.image
        sizes = np.array([item.image.shape[:2] for item in batch], np.int64)
        boxes, scores, labels, valid, mask_probs = self._compute(images, sizes)
        # The graph outlines what is valid, and the very first one in any case.
        first = 0 if valid.flat[0] else 1
        results = []
        for number, item in enumerate(batch):
            count = int(valid[number].sum())  # the valid ones come first
            found = Detections(
                boxes=item.to_photograph(boxes[number, :count]),
                scores=scores[number, :count],
                labels=labels[number, :count],
                mask_probs=mask_probs[first : first + count],
                size=item.original_size,
                class_names=self.class_names,
                image_id=item.image_id,
            )
            first += count
            results.append(found if self.score_thresh is None else found.above(self.score_thresh))
        return results

    def _compute(self, images: ByteArray, sizes: IntArray) -> list[Any]:
        """Run the graph; its outputs in order, checked just so far that a foreign graph cannot lead astray."""
        try:
            outputs = self._infer(images, sizes)
        except Exception as error:
            raise WeightsError(self.name, f"fails on a photograph ({reason(error)})", _CURE) from None
        boxes, scores, labels, valid, mask_probs = outputs
        count = scores.shape[1]
        fits = (
            scores.shape == labels.shape == valid.shape == (len(images), count)
            and count > 0
            and boxes.shape == (len(images), count, 4)
            and len(mask_probs) == valid.sum() + (not valid.flat[0])
            and mask_probs.shape[1] == mask_probs.shape[2]
            and bool(np.all((labels[valid] >= 1) & (labels[valid] <= len(self.class_names))))
        )
        if not fits:
            raise WeightsError(self.name, "gives detections that do not fit together", _CURE)
        return outputs


def read_content(path: Path) -> bytes:
    """The bytes of a model's file, which an engine is then given, so that it reads no other.

    Raises:
        WeightsError: There are none, or more than any model has.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise WeightsError(str(path), "is far too large for a model of dermask", "name a file of dermask export")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(str(path), f"cannot be read: {error.strerror}", "check the path") from None


def refusal(path: Path, problem: str) -> WeightsError:
    """What is said of a file that an engine does not open."""
    return WeightsError(str(path), f"is not an ONNX model that can be run, or is damaged ({problem})", _CURE)


def reason(error: Exception) -> str:
    """An engine's own words, shortened."""
    return shorten(str(error), 160, placeholder=" ...")
