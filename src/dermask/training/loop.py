"""The training loop: `train` sets everything up, `_train_epoch` is where the weights move.

Per optimiser step, in `_train_epoch`: move the batch, forward, finite check, backward, clip, step, average, report.
Per epoch, in `train`: train, validate the averaged weights, save, report, stop when nothing gets better.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from dermask.config import RunSettings
from dermask.data.dataset import Dataset
from dermask.errors import LabelError, NonFiniteLossError, SettingError
from dermask.models.batching import Target
from dermask.models.build import freeze_norm, set_trainable
from dermask.models.mask_rcnn import MaskRCNN
from dermask.training import checkpoint, run_folder
from dermask.training.callbacks import Callback, EpochReport, RunStart, StepReport, TrainResult, tell
from dermask.training.distributed import Processes, choose_precision, join_processes
from dermask.training.history import History
from dermask.training.loading import TrainLoader
from dermask.training.optim import WeightAverage, build_optimizer, learning_rate, set_learning_rate
from dermask.training.validation import Validator


def train(
    model: MaskRCNN,
    settings: RunSettings,
    train_set: Dataset,
    val_set: Dataset,
    run_dir: Path,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    device: str = "auto",
    from_weights: bool = False,
) -> TrainResult:
    """Train a model and leave everything about it in a folder.

    A run that is killed at any moment goes on from its last whole epoch when called again with `resume`, and on a CPU
    ends with the same numbers, to the bit, as one that was never killed. Under torchrun all processes call this alike.

    Args:
        model: Trained in place; afterwards it holds the last epoch's weights, not the averaged ones.
        settings: Saved as config.toml.
        train_set: At least one photograph, with the class names of the model.
        val_set: As `train_set`; decides the best epoch.
        run_dir: Made if need be; see `run_folder` for what is in it.
        resume: Go on with the run in `run_dir`, or begin it where it has not finished an epoch.
        callbacks: Told how it goes; training itself prints nothing.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, or a name as torch knows it.
        from_weights: The model starts from trained weights: decides `freeze_norm` where the settings leave it open.

    Raises:
        OutputExistsError: There is a run in `run_dir` and `resume` is False.
        SettingError: Settings do not fit the model or, on resume, differ from those the run began with.
        LabelError: A data set is empty or has other classes.
        NonFiniteLossError: A loss or the gradient became NaN or infinite.
        InputError: A photograph or its labels cannot be read.
    """
    _check_inputs(model, settings, train_set, val_set)
    with join_processes(device) as processes:
        if not processes.is_first:
            callbacks = ()
        can_resume = run_folder.open_folder(run_dir, resume=resume) if processes.is_first else False
        processes.barrier()
        can_resume = can_resume or (resume and run_folder.last_checkpoint(run_dir).is_file())
        run = _Run.begin(model, settings, train_set, val_set, run_dir, processes, from_weights, can_resume)
        history = run.open_history() if processes.is_first else None
        try:
            _run_epochs(run, history, callbacks)
        finally:
            if history:
                history.close()
        rows = tuple(history.rows) if history else ()
        processes.barrier()
        result = TrainResult(
            run_dir=run_dir,
            epochs=run.state.epoch,
            best_epoch=run.state.best_epoch,
            best_value=math.nan if run.state.best_value is None else run.state.best_value,
            metric=settings.train.metric,
            stopped_early=run.state.epoch < settings.train.epochs,
            history=rows,
        )
        tell(callbacks, "on_end", result)
        return result


def _run_epochs(run: _Run, history: History | None, callbacks: Sequence[Callback]) -> None:
    settings = run.settings.train
    tell(callbacks, "on_start", run.describe_start())
    while run.state.epoch < settings.epochs and not run.patience_is_over:
        epoch = run.state.epoch + 1
        started = time.perf_counter()
        figures = _train_epoch(run, epoch, callbacks)
        if epoch % settings.validate_every == 0 or epoch == settings.epochs:
            figures |= run.validator.run(
                run.average.model.eval(), lambda done, total: tell(callbacks, "on_validation", done, total)
            )
        row = {
            "epoch": float(epoch),
            "step": float(run.state.step),
            "seconds": time.perf_counter() - started,
            **figures,
        }
        is_best = run.note_epoch(epoch, row)
        if history:
            # Best first, last last: a run killed in between repeats this epoch and writes the same again.
            if is_best:
                checkpoint.save_weights(run_folder.best_checkpoint(run.run_dir), run.state, run.average.model)
            history.add(row)
            run.save()
        tell(callbacks, "on_epoch", EpochReport(epoch, settings.epochs, row, is_best))


def _train_epoch(run: _Run, epoch: int, callbacks: Sequence[Callback]) -> dict[str, float]:
    """One pass of optimiser steps; returns the epoch's mean losses, its last learning rate and its speed."""
    settings, processes, steps = run.settings.train, run.processes, run.loader.steps_per_epoch
    trainable = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    run.model.train()
    if settings.freeze_norm:
        freeze_norm(run.model)
    batches = run.loader.batches(epoch)
    epoch_losses: dict[str, float] = {}
    started = time.perf_counter()
    for step in range(1, steps + 1):
        rate = learning_rate(run.state.step, steps * settings.epochs, settings)
        set_learning_rate(run.optimizer, rate)
        step_losses: dict[str, float] = {}
        image_ids: list[str] = []
        for part in range(1, settings.accumulate + 1):
            batch = next(batches).to(processes.device)
            image_ids += batch.image_ids
            with run.average_gradients(part == settings.accumulate):
                with run.autocast():
                    losses = run.parallel(batch.images, batch.targets, batch.seeds)
                loss = torch.stack(list(losses.values())).sum()
                values = _as_floats(losses, loss)
                _stop_if_not_finite(values, image_ids, epoch, step)
                (loss / settings.accumulate).backward()  # type: ignore[no-untyped-call]
            _add(step_losses, values, 1 / settings.accumulate)
        norm = clip_grad_norm_(trainable, settings.clip_norm or math.inf)
        _stop_if_not_finite(step_losses | {"gradient_norm": norm.item()}, image_ids, epoch, step)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.state = replace(run.state, step=run.state.step + 1)
        run.average.update(run.model, run.state.step)
        _add(epoch_losses, step_losses, 1 / steps)
        speed = step * run.loader.photos_per_step / (time.perf_counter() - started)
        tell(callbacks, "on_step", StepReport(epoch, step, steps, step_losses, rate, speed))
    return {"lr": rate, "photos_per_second": speed, **processes.mean(epoch_losses)}


class _Losses(nn.Module):
    """The model's `losses` as a forward pass, which is what data-parallel training wraps."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: list[Tensor], targets: list[Target], seeds: Tensor) -> dict[str, Tensor]:
        return self.model.losses(images, targets, seeds=seeds)


@dataclass
class _Run:
    """Everything that a run holds while it goes."""

    model: MaskRCNN
    parallel: nn.Module
    average: WeightAverage[MaskRCNN]
    optimizer: torch.optim.Optimizer
    loader: TrainLoader
    validator: Validator
    settings: RunSettings
    run_dir: Path
    processes: Processes
    precision: torch.dtype
    state: checkpoint.Metadata

    @classmethod
    def begin(
        cls,
        model: MaskRCNN,
        settings: RunSettings,
        train_set: Dataset,
        val_set: Dataset,
        run_dir: Path,
        processes: Processes,
        from_weights: bool,
        can_resume: bool,
    ) -> _Run:
        """Put everything in place and, if there is a state to go on from, restore it."""
        last = run_folder.last_checkpoint(run_dir)
        saved = checkpoint.read_metadata(last) if can_resume else None
        settings = _resolve(settings, saved, from_weights)
        state = checkpoint.Metadata(
            config=checkpoint.settings_tree(settings),
            class_names=settings.model.class_names,
            epoch=0,
            step=0,
            world_size=processes.world_size,
            data={"train": train_set.fingerprint(), "val": val_set.fingerprint()},
        )
        if saved:
            checkpoint.check_same_run(saved, state, run_dir=run_dir)
        precision = choose_precision(settings.train.precision, processes.device)
        if processes.is_first:
            counts = {"train": len(train_set), "val": len(val_set)}
            environment = run_folder.describe(settings, state.data, counts, processes=processes, precision=precision)
            run_folder.write_description(run_dir, settings, environment, epochs_done=saved.epoch if saved else 0)

        memory_format = torch.channels_last if settings.train.channels_last else torch.contiguous_format
        model.to(processes.device, memory_format=memory_format)  # type: ignore[call-overload]
        set_trainable(model, settings.train.layers)
        parallel: nn.Module = _Losses(model)
        if processes.world_size > 1:
            parallel = DistributedDataParallel(parallel)  # also gives every process the first one's weights
        optimizer = build_optimizer(model, settings.train)
        average = WeightAverage(model, settings.train.ema_decay)
        if saved:
            state = checkpoint.load_state(
                last, model=model, average=average.model if average.decay else None, optimizer=optimizer
            )
        return cls(
            model=model,
            parallel=parallel,
            average=average,
            optimizer=optimizer,
            loader=TrainLoader(train_set, settings, rank=processes.rank, world_size=processes.world_size),
            validator=Validator(val_set, settings, processes=processes, precision=precision),
            settings=settings,
            run_dir=run_dir,
            processes=processes,
            precision=precision,
            state=state,
        )

    @property
    def patience_is_over(self) -> bool:
        """Whether the best epoch is too long ago."""
        patience = self.settings.train.patience
        return patience is not None and self.state.epoch - self.state.best_epoch >= patience

    def open_history(self) -> History:
        """The history up to the state that the run goes on from."""
        return History(self.run_dir, epochs=self.state.epoch)

    def autocast(self) -> AbstractContextManager[None]:
        """Computes in bfloat16 where that was chosen."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.processes.device.type, self.precision)

    def average_gradients(self, now: bool) -> AbstractContextManager[None]:
        """Whether this backward pass, the last before an optimiser step, averages gradients over the processes."""
        if now or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()

    def note_epoch(self, epoch: int, row: dict[str, float]) -> bool:
        """Take an epoch into the state; returns whether it is the best so far."""
        value = row.get(self.settings.train.metric)
        sign = -1 if self.settings.train.metric == "val_loss" else 1
        best = self.state.best_value
        # NaN, an AP without a labelled lesion, is better than nothing at all and than nothing else.
        is_best = value is not None and (best is None or math.isnan(best) or sign * value > sign * best)
        self.state = replace(self.state, epoch=epoch, metrics=row)
        if is_best:
            self.state = replace(self.state, best_epoch=epoch, best_value=value)
        return is_best

    def save(self) -> None:
        """Replace last.safetensors by the present state."""
        checkpoint.save_state(
            run_folder.last_checkpoint(self.run_dir),
            self.state,
            model=self.model,
            average=self.average.model if self.average.decay else None,
            optimizer=self.optimizer,
        )

    def describe_start(self) -> RunStart:
        """What callbacks are told first."""
        return RunStart(
            run_dir=self.run_dir,
            first_epoch=self.state.epoch + 1,
            epochs=self.settings.train.epochs,
            steps_per_epoch=self.loader.steps_per_epoch,
            photos_per_step=self.loader.photos_per_step,
            device=str(self.processes.device),
            precision="fp32" if self.precision == torch.float32 else "bf16",
            trainable=sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad),
        )


def _check_inputs(model: MaskRCNN, settings: RunSettings, train_set: Dataset, val_set: Dataset) -> None:
    if model.settings != settings.model:
        raise SettingError(
            "settings.model", "is not what the model was built from", "build it with build_model(settings.model)"
        )
    for name, dataset in (("training", train_set), ("validation", val_set)):
        if not len(dataset):
            raise LabelError(f"{name} data", "holds no photograph", "give at least one, or split the data otherwise")
        if dataset.class_names != settings.model.class_names:
            raise LabelError(
                f"{name} data",
                f"has classes {', '.join(dataset.class_names)}, the model has {', '.join(settings.model.class_names)}",
                "set model.class_names to those of the data, in their order",
            )


def _resolve(settings: RunSettings, saved: checkpoint.Metadata | None, from_weights: bool) -> RunSettings:
    """Settings that depend on how the run began, made definite so that a resumed run keeps them."""
    if settings.train.freeze_norm is not None:
        return settings
    frozen = saved.config["train"]["freeze_norm"] if saved else from_weights
    return settings.model_copy(update={"train": settings.train.model_copy(update={"freeze_norm": frozen})})


def _as_floats(losses: dict[str, Tensor], total: Tensor) -> dict[str, float]:
    """All losses in one transfer from the device."""
    values = torch.stack([total, *losses.values()]).detach().tolist()
    return dict(zip(("loss", *losses), values, strict=True))


def _add(totals: dict[str, float], values: dict[str, float], share: float) -> None:
    for name, value in values.items():
        totals[name] = totals.get(name, 0.0) + value * share


def _stop_if_not_finite(values: dict[str, float], image_ids: Sequence[str], epoch: int, step: int) -> None:
    if all(map(math.isfinite, values.values())):
        return
    parts = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise NonFiniteLossError(
        f"epoch {epoch}, step {step}: the loss is not finite: {parts}; photographs: {', '.join(image_ids)}; "
        "look at these, or train with a lower train.learning_rate or with train.precision=fp32"
    )
