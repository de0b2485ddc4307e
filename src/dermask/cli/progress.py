"""How a training run looks on a terminal: a bar while an epoch runs, two lines of figures when it is over."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dermask.cli.common import note, progress_bar
from dermask.training.callbacks import LOSS_PARTS, Callback, EpochReport, RunStart, StepReport, TrainResult


class TrainingProgress(Callback):
    """Tells on stderr how a run goes; the bar appears on a terminal only. A context manager."""

    def __init__(self) -> None:
        self._bar = progress_bar("{task.fields[figures]}")
        self._task = self._bar.add_task("", total=None, figures="")
        self._epochs = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_start(self, start: RunStart) -> None:
        """Say what is about to happen."""
        self._epochs = start.epochs
        self._say(
            f"{start.trainable:,} weights on {start.device} in {start.precision}; epochs {start.first_epoch} to "
            f"{start.epochs} of {start.steps_per_epoch:,} steps with {start.photos_per_step:,} photographs each"
        )

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            description=f"epoch {report.epoch}/{self._epochs}",
            completed=report.step,
            total=report.steps,
            figures=f"loss {report.losses['loss']:.4f}  {report.photos_per_second:.1f} photographs/s",
        )

    def on_validation(self, done: int, total: int) -> None:
        """Move the bar through the validation photographs."""
        self._bar.update(self._task, completed=done, total=total, figures="validating")

    def on_epoch(self, report: EpochReport) -> None:
        """Write the epoch's figures."""
        figures = report.figures
        head = f"epoch {report.epoch:>{len(str(report.epochs))}}/{report.epochs}"
        self._say(f"{head}  {figures['seconds']:7.1f} s  {_losses(figures, '')}")
        if "val_loss" in figures:
            best = "  best so far" if report.is_best else ""
            metrics = f"val_jaccard {figures['val_jaccard']:.4f}  val_mask_ap {figures['val_mask_ap']:.4f}"
            self._say(f"{'':{len(head)}}  {'':9}  {_losses(figures, 'val_')}  {metrics}{best}")

    def on_end(self, result: TrainResult) -> None:
        """Say which epoch was the best, and why the run is over."""
        early = ", stopped early" if result.stopped_early else ""
        self._say(f"best epoch {result.best_epoch} of {result.epochs}{early}: {result.metric} {result.best_value:.4f}")

    def _say(self, text: str) -> None:
        if self._bar.disable:
            note(text)
        else:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _losses(figures: dict[str, float], prefix: str) -> str:
    names = ("loss", *LOSS_PARTS)
    return "  ".join(f"{prefix}{name} {figures[prefix + name]:.4f}" for name in names)
