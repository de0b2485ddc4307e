"""An exported model with weights and activations of 8 bits: a quarter of the bytes, and less work per photograph.

Static quantisation by ONNX Runtime's own tool: batch norm is folded, the range of every activation is observed on
calibration photographs, and each convolution, matrix product, addition and activation between them gets a pair of
operators that rounds to 8 bits and back (QDQ), which engines turn into arithmetic on bytes. Everything that deals with
boxes and scores stays as it is.

Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

import dermask
from dermask.errors import InputError, MissingExtraError, WeightsError
from dermask.export.cost import Cost
from dermask.inference.detector import Photograph
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.preparing import prepare
from dermask.scaling import padded_size

if TYPE_CHECKING:
    import onnx

_WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")
QUANTIZED = (*_WEIGHTED, "Add", "Relu", "Clip", "MaxPool", "Resize")
"""Operators that work on bytes afterwards, where what they work on are features."""

# The network's last layers, by the names of their weights: their outputs are scores, box deltas and mask logits, in
# which a step of 1/256 of the range is seen, and they are a hundredth of the work.
_LAST_LAYERS = (
    "rpn.objectness.",
    "rpn.deltas.",
    "box_head.class_logits.",
    "box_head.deltas.",
    "mask_head.mask_logits.",
)
Progress = Callable[[int, int], None]


def quantize_onnx(
    source: Path,
    *,
    calibration: Sequence[Photograph],
    seven_bits: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> onnx.ModelProto:
    """A copy of an exported model that computes in 8 bits.

    Args:
        source: A file that `dermask export` wrote.
        calibration: Photographs such as the model will see, some dozens; they decide the range of every activation.
        seven_bits: Weights take 7 of their 8 bits, for x86 processors without VNNI: these add two products of bytes in
            16 bits, which clips large sums.
        on_progress: Told how many photographs have been seen, and of how many.

    Raises:
        MissingExtraError: onnx is not installed.
        WeightsError: `source` is not a model of dermask, or is quantised already.
        InputError: There is no calibration photograph, or one cannot be read.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "onnx":
            raise MissingExtraError("dermask export --int8", "train") from None
        raise
    if not calibration:
        raise InputError("photographs to calibrate on", "there are none", "give some dozens")
    detector = OnnxDetector(source, device="cpu")
    with tempfile.TemporaryDirectory(prefix="dermask-") as name, _quiet():
        folded, quantized = Path(name) / "folded.onnx", Path(name) / "int8.onnx"
        graph = _fold(source, folded)
        said = json.loads(_metadata_of(graph))
        if "int8" in said:
            raise WeightsError(str(source), "computes in 8 bits already", "start from the model it was made of")
        quantize_static(
            folded,
            quantized,
            _Calibration(detector, calibration, on_progress),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=_nodes_that_stay(graph.graph),
            per_channel=True,
            reduce_range=seven_bits,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(quantized)
    _clean(result, said | {"int8": {}})
    return result


def describe(
    graph: onnx.ModelProto, *, calibration: Sequence[Photograph], seven_bits: bool, cost: Cost, licence: str | None
) -> None:
    """Write into a quantised model how it was made and what it costs, under `int8` of what it says of itself."""
    made = {
        "calibration_photographs": len(calibration),
        "calibration_hash": _hash(calibration),
        "weight_bits": 7 if seven_bits else 8,
        "cost": cost.as_json(),
    }
    said = json.loads(_metadata_of(graph)) | {"int8": made, "exported_by": f"dermask {dermask.__version__}"}
    _clean(graph, said | ({"licence": licence} if licence else {}))


def _hash(photographs: Sequence[Photograph]) -> str:
    """SHA-256 of the photographs' hashes, in whatever order they were given."""
    digests = []
    for photograph in photographs:
        if isinstance(photograph, np.ndarray):
            content = photograph.tobytes()
        else:
            content = photograph if isinstance(photograph, bytes) else Path(photograph).read_bytes()
        digests.append(hashlib.sha256(content).digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


class _Calibration:
    """Photographs as the graph takes them, one by one: a `CalibrationDataReader`."""

    def __init__(self, detector: OnnxDetector, photographs: Sequence[Photograph], on_progress: Progress) -> None:
        self._inputs = self._prepare(detector, photographs, on_progress)

    def get_next(self) -> dict[str, Any] | None:
        """The next one; None after the last."""
        return next(self._inputs, None)

    @staticmethod
    def _prepare(
        detector: OnnxDetector, photographs: Sequence[Photograph], on_progress: Progress
    ) -> Iterator[dict[str, Any]]:
        for number, photograph in enumerate(photographs, start=1):
            image = prepare(photograph, detector.image_settings).image
            height, width = image.shape[:2]
            padded = np.zeros((1, *padded_size((height, width), detector.image_settings), 3), np.uint8)
            padded[0, :height, :width] = image
            yield {"images": padded, "sizes": np.array([[height, width]], np.int64)}
            on_progress(number, len(photographs))


def _fold(source: Path, folded: Path) -> onnx.ModelProto:
    """The graph with float32 weights and batch norm folded into them, also written to a file."""
    import onnx

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(source.read_bytes(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folded)
    # The engine guesses one shape for all levels of the pyramid where they are told apart only when it runs.
    del graph.graph.value_info[:]
    onnx.save(graph, folded)
    return graph


def _nodes_that_stay(graph: onnx.GraphProto) -> list[str]:
    """Names of nodes that are not to be quantised though their operator could be: the last layers, and whatever adds
    and clips boxes and sizes instead of features."""
    features: set[str] = set()
    stays = []
    for node in graph.node:  # sorted, so that inputs come first
        if node.op_type in _WEIGHTED:
            is_feature = not any(layer in name for name in node.input for layer in _LAST_LAYERS)
        elif node.op_type == "Add":
            is_feature = features.issuperset(node.input)
        else:
            is_feature = node.op_type in QUANTIZED and node.input[0] in features
        if is_feature:
            features.update(node.output)
        elif node.op_type in QUANTIZED:
            stays.append(node.name)
    return stays


def _metadata_of(graph: onnx.ModelProto) -> str:
    return next((entry.value for entry in graph.metadata_props if entry.key == "dermask"), "{}")


def _clean(graph: onnx.ModelProto, metadata: Mapping[str, object]) -> None:
    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    used = {node.domain for node in graph.graph.node}
    for domain in [entry for entry in graph.opset_import if entry.domain not in used]:
        graph.opset_import.remove(domain)  # the engine's own, which other engines need not know
    graph.producer_name = "dermask"
    graph.metadata_props.add(key="dermask", value=json.dumps(dict(metadata)))


@contextmanager
def _quiet() -> Iterator[None]:
    """The tool talks in logs, and its sessions too; what matters is measured afterwards."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(4)
    try:
        yield
    finally:
        logger.setLevel(before)
        onnxruntime.set_default_logger_severity(2)
