"""What a training run tells the outside: training prints nothing itself.

A progress bar, a log, or any tracking service is a `Callback` given to `train`. Callbacks are called in the first
process only. An exception raised in one stops the run; what was saved before stays usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOSS_PARTS = ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss")
"""The model's losses; their sum is called ``loss``, and validation puts ``val_`` in front of each."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """Told once, before the first step.

    Attributes:
        run_dir: The run's folder.
        first_epoch: From 1; later than 1 when the run was resumed.
        epochs: The last epoch, if nothing stops the run earlier.
        steps_per_epoch: Optimiser steps.
        photos_per_step: Photographs per optimiser step, of all processes together.
        device: Where the model is, as in ``cuda:0``.
        precision: ``fp32`` or ``bf16``.
        trainable: Number of weights being trained.
    """

    run_dir: Path
    first_epoch: int
    epochs: int
    steps_per_epoch: int
    photos_per_step: int
    device: str
    precision: str
    trainable: int


@dataclass(frozen=True, slots=True)
class StepReport:
    """Told after every optimiser step.

    Attributes:
        epoch: From 1.
        step: Within the epoch, from 1.
        steps: Steps of the epoch.
        losses: ``loss`` and its parts, of this step's photographs in this process.
        learning_rate: Used in this step.
        photos_per_second: Average over the epoch so far, of all processes together.
    """

    epoch: int
    step: int
    steps: int
    losses: dict[str, float]
    learning_rate: float
    photos_per_second: float


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Told after every epoch, once everything about it is saved.

    Attributes:
        epoch: From 1.
        epochs: Of the whole run.
        figures: The epoch's row of history.csv: ``lr``, ``seconds``, ``loss``, ``val_jaccard`` and so on; those of
            validation are missing in epochs without one.
        is_best: Whether this epoch's weights became best.safetensors.
    """

    epoch: int
    epochs: int
    figures: dict[str, float]
    is_best: bool


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What `train` returns.

    Attributes:
        run_dir: The run's folder.
        epochs: Epochs done.
        best_epoch: The epoch of best.safetensors.
        best_value: Its value of `metric`.
        metric: What decided, as in ``val_jaccard``.
        stopped_early: Whether patience ended the run before its last epoch.
        history: One row per epoch, as in history.csv.
    """

    run_dir: Path
    epochs: int
    best_epoch: int
    best_value: float
    metric: str
    stopped_early: bool
    history: tuple[dict[str, float], ...]

    @property
    def best_checkpoint(self) -> Path:
        """Weights of the best epoch."""
        return self.run_dir / "checkpoints" / "best.safetensors"


class Callback(Protocol):
    """Hears how a run goes. Every method does nothing unless a subclass says otherwise."""

    def on_start(self, start: RunStart) -> None:
        """Before the first step."""

    def on_step(self, report: StepReport) -> None:
        """After each optimiser step."""

    def on_validation(self, done: int, total: int) -> None:
        """After each batch of validation: photographs done, of how many."""

    def on_epoch(self, report: EpochReport) -> None:
        """After each epoch, when it is saved."""

    def on_end(self, result: TrainResult) -> None:
        """After the last epoch."""


def tell(callbacks: Sequence[Callback], event: str, *details: object) -> None:
    """Call the method of that name of each callback."""
    for callback in callbacks:
        getattr(callback, event)(*details)
