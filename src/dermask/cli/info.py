"""`dermask info`: what is installed, where it computes, and where settings come from."""

from __future__ import annotations

import json
import os
import platform
from typing import Annotated, Any

import typer

import dermask
from dermask.cli.common import JsonOption, result

_BASE = ("numpy", "pillow", "pydantic", "faster-coco-eval", "onnxruntime")
_OPENVINO = ("openvino",)
_TRAIN = ("torch", "torchvision", "safetensors", "tensorboard", "onnx", "onnxscript")
_VARIABLES = ("DERMASK_TRACEBACK", "OMP_NUM_THREADS", "NO_COLOR", "CUDA_VISIBLE_DEVICES", "TORCH_HOME")


def info(
    as_json: JsonOption = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Print every setting with its default, as TOML for --config.")
    ] = False,
    preset: Annotated[str, typer.Option(help="Whose defaults --settings prints.")] = "small",
) -> None:
    """Show versions, devices, models, and where settings come from.

    \b
      dermask info
      dermask info --settings > settings.toml

    Research use only.
    """
    if settings:
        result(_default_settings(preset))
        return
    found = describe_installation()
    result(json.dumps(found, indent=2) if as_json else _as_text(found))


def describe_installation() -> dict[str, Any]:
    """Everything `dermask info` prints, as JSON-ready values."""
    from dermask.config import MODEL_PRESETS
    from dermask.inference.detector import PACKAGED_MODEL
    from dermask.inference.engines import choose_engine, installed_engines

    return {
        "dermask": dermask.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in (*_BASE, *_OPENVINO, *_TRAIN)},
        "cpus": os.cpu_count(),
        **_describe_torch(),
        "engines": list(installed_engines()),
        "engine_for_many": choose_engine("auto"),
        "packaged_model": str(PACKAGED_MODEL) if PACKAGED_MODEL.is_file() else None,
        "presets": {
            name: f"{values.backbone.name}, {values.image.min_size} pixels, masks {values.mask_head.resolution}"
            for name, values in MODEL_PRESETS.items()
        },
        "settings_from": "command line, over --preset, over --config FILE, over the defaults in dermask.config; "
        "a run keeps what it was made with in its config.toml",
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _describe_torch() -> dict[str, Any]:
    try:
        import torch
    except ModuleNotFoundError:
        return {"threads": None, "devices": _onnx_devices()}
    gpus = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "devices": ["cpu", *gpus]}


def _onnx_devices() -> list[str]:
    from onnxruntime import get_available_providers

    return ["cpu", *(["cuda"] if "CUDAExecutionProvider" in get_available_providers() else [])]


def _version(package: str) -> str | None:
    from importlib import metadata  # slow to import, and every --help would pay for it

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _as_text(found: dict[str, Any]) -> str:
    lines = []
    for name, value in found.items():
        label = name.replace("_", " ")
        if isinstance(value, dict):
            lines.append(f"{label}:" + ("" if value else " none"))
            lines += [f"  {key:<20} {part or 'not installed'}" for key, part in value.items()]
        else:
            shown = ", ".join(value) if isinstance(value, list) else value
            lines.append(f"{label + ':':<22} {shown or 'none'}")
    if found["packages"]["torch"] is None:
        lines.append('training and torch checkpoints need: pip install "dermask[train]"')
    return "\n".join(lines)


def _default_settings(preset: str) -> str:
    from dermask.config import RunSettings, to_toml
    from dermask.config import preset as find_preset

    return to_toml(RunSettings(model=find_preset(preset))).rstrip()
