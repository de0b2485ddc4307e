"""A `Detector` on OpenVINO, the extra `openvino`: the same exported file as for ONNX Runtime, no torch.

OpenVINO reads ONNX files itself, and computes in bfloat16 where the processor multiplies matrices of it (AMX or
AVX512-BF16): what is between two convolutions or matrix products then has 8 bits of precision, while it keeps the
arithmetic of boxes and scores that follows the last of them in float32. Elsewhere everything is float32.

The graph is compiled once, for any batch and size: measured on the packaged model, compiling for each size gains a
tenth of the time per photograph, and costs as much as computing a few hundred photographs (docs/performance.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Literal

from dermask.errors import MissingExtraError, SettingError
from dermask.inference.detector import Device
from dermask.inference.exported_detector import ExportedDetector, Value, read_content, reason, refusal
from dermask.inference.model_file import keeps_tensors_elsewhere
from dermask.records import ByteArray, IntArray

Precision = Literal["fp32", "bf16"]

# In OpenVINO's words.
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_DTYPES = {"u8": "uint8", "i64": "int64", "f32": "float32", "boolean": "bool"}

# Of OpenVINO's package: converts models of other frameworks, and is not needed to run one.
_CONVERTER = "openvino.tools.ovc"


class OpenVinoDetector(ExportedDetector):
    """An exported model on OpenVINO. Threads of a program may share one; they then wait for each other.

    Args:
        path: A file that `dermask export` wrote.
        device: `cpu` or `auto`, which here mean the same.
        score_thresh: Leave out detections below this score, in [0, 1]; None keeps what the model returns, and below
            the threshold it was exported with there is nothing.
        batch_size: Photographs computed at once; None for `BATCH`.
        threads: CPU threads; None lets OpenVINO choose.
        precision: Of convolutions and matrix products; None takes `bf16` where the processor is made for it.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        WeightsError: Missing, not an ONNX file, damaged, or not one of dermask's.
        SettingError: No such device, a threshold outside [0, 1], or a setting this version does not know.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: Device = "auto",
        score_thresh: float | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        super().__init__(path, score_thresh=score_thresh, batch_size=batch_size)
        if device == "cuda":
            raise SettingError(
                "device cuda", "OpenVINO computes on the CPU", "use --device cpu or --engine onnxruntime"
            )
        if device not in ("cpu", "auto"):
            raise SettingError(f"device {device!r}", "is not known", "choose cpu, cuda or auto")
        openvino = import_openvino()
        core = openvino.Core()
        self.precision: Precision = precision or _choose_precision(core)
        graph = _read_graph(openvino, core, Path(path))
        self._take(lambda: _describe(graph))
        self._compiled = _compile(core, graph, Path(path), self.precision, threads)
        self._request = self._compiled.create_infer_request()
        self._lock = Lock()

    def _infer(self, images: ByteArray, sizes: IntArray) -> list[Any]:
        with self._lock:  # a request holds one computation's memory
            outputs = self._request.infer({"images": images, "sizes": sizes}, share_inputs=True)
            return [outputs[value] for value in self._compiled.outputs]  # copies, unless asked otherwise


def import_openvino() -> ModuleType:
    """The package, without its converter of models, which on import counts its use in the home folder and reports that
    to the maker; leaving it out also saves most of the time that the import takes. In a program that comes here first,
    `from openvino.tools.ovc import convert_model` still works, `openvino.convert_model` does not.

    Raises:
        MissingExtraError: It is not installed.
    """
    leave_out = "openvino" not in sys.modules and _CONVERTER not in sys.modules
    if leave_out:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # how Python marks what must not be found
    try:
        import openvino
        import openvino.frontend.onnx
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "openvino":
            raise MissingExtraError("engine openvino", "openvino") from None
        raise
    finally:
        if leave_out:
            del sys.modules[_CONVERTER]
    module: ModuleType = openvino
    return module


def _choose_precision(core: Any) -> Precision:
    """What OpenVINO would take itself tells what the processor is made for; listed is also what it only can."""
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    would = core.get_property("CPU", "INFERENCE_PRECISION_HINT")
    return "bf16" if "BF16" in can and would.to_string() == "bf16" else "fp32"


def _read_graph(openvino: Any, core: Any, path: Path) -> Any:
    """The file as OpenVINO's graph.

    Raises:
        WeightsError: It is none that OpenVINO can read.
    """
    content = read_content(path)
    try:
        elsewhere = keeps_tensors_elsewhere(content)
    except ValueError as error:
        raise refusal(path, reason(error)) from None
    if elsewhere:  # OpenVINO would read those files; a model of ours has none
        raise refusal(path, "its tensors are in other files")

    def expand(node: Any) -> list[Any]:
        """A number expanded to no axes stays as it is; OpenVINO's own translation would give it an axis."""
        value, shape = node.get_input(0), node.get_input(1)
        if shape.get_partial_shape() == openvino.PartialShape([]):  # how an empty list of lengths is read
            return [value]
        result: list[Any] = openvino.opset15.broadcast(value, shape, broadcast_spec="BIDIRECTIONAL").outputs()
        return result

    core.add_extension(openvino.frontend.onnx.ConversionExtension("Expand", expand))
    try:
        return core.read_model(content)
    except Exception as error:  # RuntimeError, and others for what is no ONNX file
        raise refusal(path, reason(error)) from None


def _compile(core: Any, graph: Any, path: Path, precision: Precision, threads: int | None) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,  # one batch after the other, all threads on it
        "CACHE_DIR": "",  # no files
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }
    try:
        return core.compile_model(graph, "CPU", settings)
    except Exception as error:
        raise refusal(path, reason(error)) from None


def _describe(graph: Any) -> tuple[str | None, list[Value], list[Value]]:
    place = ["framework", "dermask"]  # where the reader keeps the file's own metadata
    text: str | None = graph.get_rt_info(place).astype(str) if graph.has_rt_info(place) else None
    return text, _values(graph.inputs), _values(graph.outputs)


def _values(described: Sequence[Any]) -> list[Value]:
    return [_value(one) for one in described]


def _value(one: Any) -> Value:
    rank = one.get_partial_shape().rank
    kind = one.get_element_type().get_type_name()
    return Value(one.get_any_name(), _DTYPES.get(kind, kind), -1 if rank.is_dynamic else rank.get_length())
