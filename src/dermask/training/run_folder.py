"""A run's folder: what is in it, when it may be written to, and what it was made with.

config.toml              every setting, resolved
environment.json         versions, commit, seed, data, device: see `describe`
history.csv              one row per epoch
tensorboard/             the same as curves
checkpoints/last.*       the whole state after the last epoch
checkpoints/best.*       the weights of the best epoch
"""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dermask import __version__
from dermask.config import RunSettings, to_toml
from dermask.errors import OutputExistsError
from dermask.files import make_folder, read_json_object, write_text
from dermask.training.distributed import Processes

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "faster-coco-eval")
_MADE_BY_A_RUN = ("config.toml", "history.csv", "checkpoints")


def last_checkpoint(run_dir: Path) -> Path:
    """Where the whole state after the last epoch is kept."""
    return run_dir / "checkpoints" / "last.safetensors"


def best_checkpoint(run_dir: Path) -> Path:
    """Where the weights of the best epoch are kept."""
    return run_dir / "checkpoints" / "best.safetensors"


def open_folder(run_dir: Path, *, resume: bool) -> bool:
    """Make the folder, or find the run in it.

    Returns:
        Whether there is a state to go on from. A run killed in its first epoch has none and begins again.

    Raises:
        OutputExistsError: There is a run already and `resume` is False.
    """
    if not resume and any((run_dir / name).exists() for name in _MADE_BY_A_RUN):
        raise OutputExistsError(
            str(run_dir), "holds a run already", "go on with it by --resume, or choose another folder"
        )
    make_folder(run_dir)
    return resume and last_checkpoint(run_dir).is_file()


def write_description(run_dir: Path, settings: RunSettings, environment: dict[str, Any], *, epochs_done: int) -> None:
    """Write config.toml and environment.json; a resumed run keeps its first description and adds to it.

    Raises:
        InputError: The run's environment.json is damaged.
    """
    path = run_dir / "environment.json"
    if epochs_done and (first := read_json_object(path)):
        first.setdefault("resumed", []).append({"after_epoch": epochs_done, **environment})
        environment = first
    write_text(run_dir / "config.toml", to_toml(settings))
    write_text(path, json.dumps(environment, indent=2) + "\n")


def describe(
    settings: RunSettings, data: dict[str, str], counts: dict[str, int], *, processes: Processes, precision: torch.dtype
) -> dict[str, Any]:
    """Everything outside the settings that a run's numbers may depend on, for environment.json."""
    device = processes.device
    return {
        "dermask": __version__,
        "commit": _commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "seed": settings.train.seed,
        "data": data,
        "photographs": counts,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "precision": str(precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "processes": processes.world_size,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that dermask is imported from; None where it is an installed package."""
    root = Path(__file__).resolve().parents[3]  # <checkout>/src/dermask/training/run_folder.py
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
