"""Write an exported model, after it has given on photographs what the network itself gives.

Every difference counts: in how many lesions are found, in their boxes, scores, labels and masks. Masks are compared as
probabilities, since an outline of one that is undecided, near 0.5, follows the last bit of a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermask import files
from dermask.errors import InputError, OutputExistsError, WeightsError
from dermask.export.onnx_graph import make_graph, round_weights
from dermask.inference.detector import Detector, Photograph
from dermask.inference.exported_detector import ExportedDetector
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.torch_detector import TorchDetector
from dermask.models.mask_rcnn import MaskRCNN
from dermask.records import FloatArray
from dermask.scaling import network_size

BOX_TOLERANCE = 0.5
"""Largest difference of a box side, pixels of the photograph at the network's scale."""
SCORE_TOLERANCE = 1e-3
"""Largest difference of a score."""
MASK_TOLERANCE = 0.01
"""Largest difference of a mask's probability, in any cell."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an exported model agreed with the network it was made from.

    Attributes:
        photographs: Compared.
        lesions: Found by both.
        empty: Photographs on which both found nothing.
        box: Largest difference of a box side, pixels at the network's scale.
        score: Largest difference of a score.
        mask: Largest difference of a mask's probability, in any cell.
    """

    photographs: int
    lesions: int
    empty: int
    box: float
    score: float
    mask: float

    def __str__(self) -> str:
        return (
            f"{self.photographs} photographs, {self.empty} of them without detection, {self.lesions} detections: boxes "
            f"within {self.box:.1e} px, scores within {self.score:.1e}, mask probabilities within {self.mask:.1e}"
        )


def export_onnx(
    model: MaskRCNN,
    path: Path,
    *,
    metadata: Mapping[str, object],
    photographs: Sequence[Photograph],
    half: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Write `model` as one ONNX file, unless it gives something else than the network.

    Args:
        model: The network, weights loaded.
        path: The file to write, whole or not at all.
        metadata: As `make_graph` takes it.
        photographs: To compare on, at least one; some without a detection, for that path must hold as well.
        half: As `make_graph` takes it. Compared with is then the network with its weights rounded: the check is of the
            export, and what rounding costs is for `dermask evaluate` to say.
        overwrite: Whether to replace a file that is there.
        on_progress: Told how many photographs have been compared, and of how many.

    Raises:
        OutputExistsError: The file is there.
        MissingExtraError: onnx or onnxscript is not installed.
        WeightsError: The exported graph differs; names the photograph and the difference. Nothing is written.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(str(path), "already exists", "choose another -o, or pass --overwrite")
    if half:
        model = deepcopy(model)
        round_weights(model)
    graph = make_graph(model, metadata, half=half)
    with files.replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        return compare(TorchDetector(model), OnnxDetector(temporary, device="cpu"), photographs, on_progress)


def compare(
    reference: Detector,
    exported: ExportedDetector,
    photographs: Sequence[Photograph],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Run both on the same photographs.

    Raises:
        WeightsError: They differ by more than the tolerances of this module.
    """
    if not photographs:
        raise InputError("photographs to compare on", "there are none", "give at least one")
    lesions = empty = 0
    box = score = mask = 0.0
    for number, photograph in enumerate(photographs, start=1):
        [expected], [found] = reference.predict([photograph]), exported.predict([photograph])
        item = f"exported model on photograph {expected.image_id or number}"
        if len(expected) != len(found) or not np.array_equal(expected.labels, found.labels):
            raise WeightsError(item, f"finds {len(found)} lesions where the network finds {len(expected)}", "report it")
        if len(expected):
            scale = max(network_size(expected.size, exported.settings.image)) / max(expected.size)
            box = max(box, scale * _difference(expected.boxes, found.boxes))
            score = max(score, _difference(expected.scores, found.scores))
            mask = max(mask, _difference(expected.mask_probs, found.mask_probs))
        if not (box <= BOX_TOLERANCE and score <= SCORE_TOLERANCE and mask <= MASK_TOLERANCE):  # so that NaN fails too
            problem = f"boxes differ by {box:.3g} px, scores by {score:.3g}, mask probabilities by {mask:.3g}"
            limits = f"the limits are {BOX_TOLERANCE:g}, {SCORE_TOLERANCE:g} and {MASK_TOLERANCE:g}"
            raise WeightsError(item, f"{problem}; {limits}", "report it")
        lesions += len(expected)
        empty += not len(expected)
        on_progress(number, len(photographs))
    return Agreement(len(photographs), lesions, empty, box, score, mask)


def _difference(one: FloatArray, other: FloatArray) -> float:
    return float(np.abs(one - other).max(initial=0))
