"""A `Detector` on ONNX Runtime: one exported file, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from dermask.errors import SettingError
from dermask.inference.detector import Device
from dermask.inference.exported_detector import ExportedDetector, Value, read_content, reason, refusal
from dermask.records import ByteArray, IntArray
from dermask.threads import num_cores

# Its names of types, in numpy's words.
_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(float)": "float32",
    "tensor(bool)": "bool",
}


class OnnxDetector(ExportedDetector):
    """An exported model on ONNX Runtime.

    Args:
        path: A file that `dermask export` wrote.
        device: `cuda` needs onnxruntime-gpu; `auto` takes it where it is installed.
        score_thresh: Leave out detections below this score, in [0, 1]; None keeps what the model returns, and below
            the threshold it was exported with there is nothing.
        batch_size: Photographs computed at once; None for `BATCH`.
        threads: CPU threads; None lets ONNX Runtime choose.

    Raises:
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
    ) -> None:
        super().__init__(path, score_thresh=score_thresh, batch_size=batch_size)
        self._threads = threads
        self._session = _open_session(Path(path), _choose_providers(device), threads)
        self._on_gpu = "CUDAExecutionProvider" in self._session.get_providers()
        if device == "cuda" and not self._on_gpu:
            # It is built in and still could not start, which the engine answers with the CPU.
            raise SettingError("device cuda", "ONNX Runtime cannot start its GPU part here", "use --device cpu")
        self._take(lambda: _describe(self._session))

    @property
    def num_at_once(self) -> int:
        """How many calls of `predict` at once are the fastest: one for each thread, and one that waits for its turn."""
        return 1 if self._on_gpu else (self._threads or num_cores()) + 1

    def _infer(self, images: ByteArray, sizes: IntArray) -> list[Any]:
        outputs: list[Any] = self._session.run(None, {"images": images, "sizes": sizes})
        return outputs


def has_gpu() -> bool:
    """Whether the installed ONNX Runtime is the one for GPUs."""
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _choose_providers(device: Device) -> list[str]:
    if device not in ("cpu", "cuda", "auto"):
        raise SettingError(f"device {device!r}", "is not known", "choose cpu, cuda or auto")
    if device == "cuda" and not has_gpu():
        raise SettingError(
            "device cuda", "ONNX Runtime has no GPU here", "install onnxruntime-gpu, or use --device cpu"
        )
    on_gpu = device != "cpu" and has_gpu()
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]


def _open_session(path: Path, providers: list[str], threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is told by us, in one line
    # A graph may keep tensors in other files; this one has none, and nothing else is read on its behalf.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{path}/nowhere")
    # Threads that wait in a loop for more to do take the core from those that have something: decoding, or another
    # program. Sleeping instead halved the processor time and took a third off the clock's (docs/performance.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    content = read_content(path)
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # the runtime's own exceptions share no base but this
        raise refusal(path, reason(error)) from None


def _describe(session: Any) -> tuple[str | None, list[Value], list[Value]]:
    text: str | None = session.get_modelmeta().custom_metadata_map.get("dermask")
    return text, _values(session.get_inputs()), _values(session.get_outputs())


def _values(described: Sequence[Any]) -> list[Value]:
    return [Value(value.name, _DTYPES.get(value.type, value.type), len(value.shape)) for value in described]
