"""A run's state in one file, so that one rename replaces one whole state by the next.

`last.safetensors` holds tensors named ``model.*``, ``ema.*`` (the weights' moving average; absent where it is off)
and ``optimizer.<parameter>.<name>``; `best.safetensors` holds the averaged weights under their plain names. Both carry
a JSON text under "dermask" in the header, see `Metadata`; the `.json` beside each is the same for people. Nothing is
pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dermask import __version__
from dermask.config import RunSettings
from dermask.errors import SettingError, WeightsError
from dermask.files import replacing, write_text

FORMAT = 1
"""Version of the layout above; raised when older code could no longer read a checkpoint."""
MODEL, AVERAGE, OPTIMIZER = "model.", "ema.", "optimizer."
_KEY = "dermask"
FREE_SETTINGS = frozenset({"train.workers", "train.cache_images"})
"""Settings that may change on resume, since they change no number."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a checkpoint says about itself.

    Attributes:
        config: The run's settings, nested, as in config.toml.
        class_names: Name of label i at index i - 1.
        epoch: Epochs done.
        step: Optimiser steps done.
        metrics: The epoch's row of history.csv.
        best_epoch: The best epoch so far; 0 before the first validation.
        best_value: Its value of the run's metric; None before the first validation.
        world_size: Processes that train together.
        data: Fingerprints of the data sets, under ``train`` and ``val``.
        version: Of dermask.
        format: `FORMAT` of whoever wrote it.
    """

    config: dict[str, Any]
    class_names: tuple[str, ...]
    epoch: int
    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_value: float | None = None
    world_size: int = 1
    data: dict[str, str] = field(default_factory=dict)
    version: str = __version__
    format: int = FORMAT

    def to_json(self, *, indent: int | None = None) -> str:
        """As JSON text; undefined figures are written as null."""
        values = asdict(self)
        values["metrics"] = {name: value if value == value else None for name, value in self.metrics.items()}
        return json.dumps(values, indent=indent, allow_nan=False)


def save_state(
    path: Path, metadata: Metadata, *, model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> None:
    """Write everything a resumed run needs; `average` is None where no moving average is kept."""
    tensors = _prefixed(MODEL, model.state_dict())
    if average is not None:
        tensors |= _prefixed(AVERAGE, average.state_dict())
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{name}.{key}"] = value
    _save(path, tensors, metadata)


def load_state(
    path: Path, *, model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> Metadata:
    """Restore, in place, what `save_state` wrote; the optimiser must be over this model's parameters.

    Raises:
        WeightsError: The file is missing, damaged, or of another network.
    """
    metadata = read_metadata(path)
    tensors = _read_tensors(path)
    _load_weights(model, MODEL, tensors, path)
    if average is not None:
        _load_weights(average, AVERAGE, tensors, path)
    for name, parameter in model.named_parameters():
        prefix = f"{OPTIMIZER}{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            optimizer.state[parameter] = {key: _like(parameter, value) for key, value in state.items()}
    return metadata


def save_weights(path: Path, metadata: Metadata, model: nn.Module) -> None:
    """Write weights alone, under their plain names."""
    _save(path, model.state_dict(), metadata)


def read_metadata(path: Path) -> Metadata:
    """What a checkpoint says about itself, without reading its tensors.

    Raises:
        WeightsError: The file is missing, damaged, not a checkpoint of dermask, or of a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except FileNotFoundError:
        raise WeightsError(str(path), "no such checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(str(path), f"cannot be read: {error}") from None
    if text is None:
        raise WeightsError(str(path), "is not a checkpoint of a dermask run")
    try:
        values = json.loads(text)
        if values["format"] > FORMAT:
            problem = f"was written by dermask {values['version']}, this is {__version__}"
            raise WeightsError(str(path), problem, "install a newer dermask")
        metrics = {name: float("nan") if value is None else value for name, value in values["metrics"].items()}
        return Metadata(**values | {"class_names": tuple(values["class_names"]), "metrics": metrics})
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise WeightsError(str(path), "has damaged dermask metadata", "restore it, or train again") from None


def check_same_run(saved: Metadata, now: Metadata, *, run_dir: Path) -> None:
    """Make sure that a run goes on as it began.

    Raises:
        SettingError: A setting, the photographs or the number of processes differ; names the first such with both
            values.
    """
    before, after = _flatten(saved.config), _flatten(now.config)
    for name in sorted((before.keys() | after.keys()) - FREE_SETTINGS):
        old, new = before.get(name), after.get(name)
        if old != new:
            raise SettingError(
                f"--resume {run_dir}: {name}",
                f"is {new!r}, the run began with {old!r}",
                "resume with the run's own config.toml, or start a new run",
            )
    for part, fingerprint in now.data.items():
        if saved.data.get(part, fingerprint) != fingerprint:
            raise SettingError(
                f"--resume {run_dir}: {part} data",
                "photographs or outlines are not those the run began with",
                "restore them, or start a new run",
            )
    if saved.world_size != now.world_size:
        raise SettingError(
            f"--resume {run_dir}: processes",
            f"are {now.world_size}, the run began with {saved.world_size}",
            f"resume with torchrun --nproc-per-node {saved.world_size}, or start a new run",
        )


def settings_tree(settings: RunSettings) -> dict[str, Any]:
    """Settings as they look after a way through JSON, so that both sides of a comparison have been there."""
    tree: dict[str, Any] = json.loads(settings.model_dump_json())
    return tree


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: Metadata) -> None:
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}  # channels_last is not kept
    with replacing(path, temporary=path.with_name(f".{path.name}.tmp")) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(plain, temporary, metadata={_KEY: metadata.to_json()})
        except SafetensorError as error:  # how it tells that the disk is full
            raise WeightsError(str(path), f"cannot be written: {error}", "make room, then resume") from None
        temporary.chmod(mode)  # safetensors lets nobody but the owner read; colleagues share runs
    write_text(path.with_suffix(".json"), metadata.to_json(indent=2) + "\n")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(str(path), f"cannot be read: {error}") from None


def _load_weights(model: nn.Module, prefix: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = shorten(str(error).splitlines()[-1], 160, placeholder=" ...")
        raise WeightsError(str(path), f"does not fit the network: {first}") from None


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """On the parameter's device and, for tensors of its shape, in its memory order, which fused optimisers rely on."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
