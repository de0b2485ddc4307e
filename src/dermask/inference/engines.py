"""Which engine runs an exported model: ONNX Runtime, which is always there, or OpenVINO, an extra.

The rule of `auto` is one of measurement (docs/performance.md): OpenVINO may pay where the processor multiplies tiles of
bfloat16, and once there are photographs enough to win back the time that opening a model takes it.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from dermask.errors import MissingExtraError, SettingError

EngineName = Literal["onnxruntime", "openvino"]
EngineChoice = Literal["auto", "onnxruntime", "openvino"]

ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")

MANY = 64
"""For fewer photographs than this, `auto` stays with the engine that opens a model sooner.

OpenVINO takes 2.0 s of processor time more until the first result, and ONNX Runtime 64 ms for a photograph (both of the
packaged model): it has won that back here if it takes half the time.
"""

_CPU_INFO = Path("/proc/cpuinfo")
_AMX, _AVX512 = "amx_bf16", "avx512_bf16"


def installed_engines() -> tuple[EngineName, ...]:
    """The engines that are installed; looks without importing them."""
    return tuple(name for name in ENGINES if _is_installed(name))


def check_engine(engine: str) -> None:
    """Check a name.

    Raises:
        SettingError: It is none of `auto` and `ENGINES`.
    """
    if engine != "auto" and engine not in ENGINES:
        raise SettingError(f"engine {engine!r}", "is not known", f"choose auto, {' or '.join(ENGINES)}")


def choose_engine(engine: EngineChoice, *, device: str = "auto", num_photographs: int | None = None) -> EngineName:
    """The engine to open an exported model with.

    Args:
        engine: `auto` takes OpenVINO where it is installed, the processor multiplies bfloat16 tiles (AMX, as Linux says
            it), no GPU is to be used, and there are at least `MANY` photographs or nobody knows how many; else ONNX
            Runtime, which is as fast on the packaged model where there is AVX512-BF16 alone, and in float32.
        device: As `detector.load` takes it.
        num_photographs: How many are to be predicted, where that is known.

    Raises:
        SettingError: No such engine.
        MissingExtraError: OpenVINO is asked for and not installed.
    """
    check_engine(engine)
    if engine == "openvino" and "openvino" not in installed_engines():
        raise MissingExtraError("engine openvino", "openvino")
    if engine != "auto":
        return engine
    few = num_photographs is not None and num_photographs < MANY
    if few or device == "cuda" or not has_amx() or "openvino" not in installed_engines():
        return "onnxruntime"
    return "onnxruntime" if device == "auto" and _has_gpu() else "openvino"


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bfloat16, as far as Linux says so; elsewhere no."""
    return _AMX in _flags()


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bfloat16 at all, in tiles or in pairs, as far as Linux says so; elsewhere no."""
    return not _flags().isdisjoint({_AMX, _AVX512})


@cache
def _flags() -> frozenset[str]:
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = [line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")]
    return frozenset(flag for line in lines for flag in line)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):  # the latter of a package that was taken apart
        return False


def _has_gpu() -> bool:
    from dermask.inference.onnx_detector import has_gpu

    return has_gpu()
