"""`dermask train`: options in, a run's folder out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dermask.cli.common import (
    DeviceName,
    DeviceOption,
    FoldOption,
    ImagesOption,
    PartOption,
    SkipBadOption,
    ThreadsOption,
    UsageMistake,
    choose_part,
    given,
    is_first_process,
    note,
    open_data,
    open_whole,
    parse_assignments,
    require_training,
    result,
    run_settings,
    set_threads,
)
from dermask.errors import InputError, LabelError, OutputExistsError, WeightsError
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.config import RunSettings
    from dermask.data.dataset import Dataset
    from dermask.training.callbacks import TrainResult

# Of the photographs, when nothing else is said about validation: enough for a stable choice of the best epoch.
DEFAULT_VAL_FRACTION = 0.2

SOURCES_FILE = "data.json"
DRAWN_SCENES = "drawn scenes"  # what stands in place of a path there after a demo


@dataclass(frozen=True)
class Sources:
    """Where a run's photographs and first weights come from; kept in its folder so that `--resume` needs no more."""

    data: str
    images: str | None = None
    part: str | None = None
    val: str | None = None
    val_images: str | None = None
    val_part: str | None = None
    split: str | None = None
    split_file: str | None = None
    split_hash: str | None = None
    fold: int | None = None
    weights: str | None = None
    weights_hash: str | None = None
    skip_bad: bool = False


def train(
    # The data
    data: Annotated[
        Path | None,
        typer.Option(help="Labels in any format that dermask reads.", show_default=False),
    ] = None,
    images: ImagesOption = None,
    part: PartOption = None,
    val: Annotated[Path | None, typer.Option(help="Labels to validate on.", show_default=False)] = None,
    val_images: Annotated[Path | None, typer.Option(help="Their photographs.", show_default=False)] = None,
    val_part: Annotated[
        str | None, typer.Option(help="Part of the ISIC folder to validate on.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Without --val: a file of dermask data split, whose train and val are taken, or counts or shares such "
            f"as 160/40. By default {1 - DEFAULT_VAL_FRACTION:g}/{DEFAULT_VAL_FRACTION:g}.",
            show_default=False,
        ),
    ] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Instead of --split: share of validation photographs.", show_default=False)
    ] = None,
    fold: FoldOption = None,
    skip_bad: SkipBadOption = False,
    # The run
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder, such as runs/first.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    # The settings
    preset: Annotated[
        str | None,
        typer.Option(help="Network: small, base, torchvision_v1 or torchvision_v2.", show_default=False),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from: bundled (the model that comes along), imagenet, coco_v1, coco_v2, or a weights file.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as TOML.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the photographs.", show_default=False)] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(help="Steps per epoch.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photographs per step.", show_default=False)] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default=False)] = None,
    layers: Annotated[str | None, typer.Option(help="Trained part: heads, 4+, 3+ or all.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", show_default=False)] = None,
    augment: Annotated[
        Literal["none", "default"] | None, typer.Option(help="none turns augmentation off.", show_default=False)
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any other setting, such as train.patience=5.", show_default=False
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train a model on your own outlines.

    \b
      dermask train --data labels.json --images photos/ -o runs/first
      dermask train --data isic2017 --part Training --val-part Validation -o runs/isic
      dermask train --data labels.json --images photos/ --weights bundled -o runs/tuned
      dermask train --data labels.json --split split.json -o runs/second
      dermask train -o runs/isic --resume

    The folder gets config.toml, history.csv, TensorBoard events, checkpoints/best.safetensors and report.html. Every
    setting that can be given with --set stands in config.toml; `dermask info --settings` lists them. Without --preset
    and --config the network is built as the one that --weights holds. On several GPUs:
    `torchrun --nproc-per-node 4 -m dermask train ...`. Research use only.
    """
    if output is None:
        raise UsageMistake("train needs -o FOLDER for the run, such as -o runs/first")
    if data is None and not resume:
        raise UsageMistake("train needs --data: a label file or a folder of labelled photographs")
    values = given(
        train__epochs=epochs,
        train__steps_per_epoch=steps_per_epoch,
        train__batch_size=batch_size,
        train__learning_rate=lr,
        train__layers=layers,
        train__seed=seed,
    ) | parse_assignments(assign)
    asked = given(
        data=_text(data),
        images=_text(images),
        part=part,
        val=_text(val),
        val_images=_text(val_images),
        val_part=val_part,
        split=_split_text(None if is_split_file(split) else split, val_fraction),
        split_file=_text(Path(split)) if split is not None and is_split_file(split) else None,
        fold=fold,
        weights=_text(Path(weights)) if weights and Path(weights).exists() else weights,
        skip_bad=skip_bad or None,
    )
    require_training("dermask train")
    if resume:
        sources, base = _find_run(output, asked)
    else:
        _refuse_existing_run(output)
        sources, base = Sources(**asked), None  # type: ignore[arg-type]
        if preset is None and config is None and sources.weights is not None:
            base = _settings_of_weights(sources.weights)
    settings = run_settings(config, preset, values, base=base)
    if augment == "none":
        from dermask.config import NO_AUGMENTATION

        settings = settings.model_copy(update={"augment": NO_AUGMENTATION})
    set_threads(threads)
    run_training(sources, settings, output, resume=resume, device=device)
    result(str(output))


def run_training(
    sources: Sources, settings: RunSettings, run_dir: Path, *, resume: bool = False, device: DeviceName = "auto"
) -> TrainResult:
    """Open the data, train, write the page; what `dermask train` does once its options are understood."""
    from dermask.cli.run_report import report_on_validation

    train_set, val_set = open_sources(sources, seed=settings.train.seed)
    if sources.split_file is not None:
        from dermask.data.splits import read_split

        sources = replace(sources, split_hash=read_split(Path(sources.split_file)).digest())
    outcome = train_on(train_set, val_set, settings, run_dir, sources=sources, resume=resume, device=device)
    if is_first_process():
        report_on_validation(run_dir, val_set, device=device)
    return outcome


def train_on(
    train_set: Dataset,
    val_set: Dataset,
    settings: RunSettings,
    run_dir: Path,
    *,
    sources: Sources,
    resume: bool = False,
    device: DeviceName = "auto",
) -> TrainResult:
    """Train a network for the classes of `train_set`, telling on stderr how it goes."""
    from dermask.cli.progress import TrainingProgress
    from dermask.files import write_text
    from dermask.inference.detector import model_fingerprint
    from dermask.models.build import build_model
    from dermask.models.weights import load_weights
    from dermask.training.loop import train
    from dermask.training.run_folder import last_checkpoint

    model_settings = settings.model.model_copy(update={"class_names": train_set.class_names})
    settings = settings.model_copy(update={"model": model_settings})
    model = build_model(settings.model, seed=settings.train.seed)
    # A run that never finished an epoch has no state of its own yet: it begins again, from the same weights.
    if sources.weights is not None and not last_checkpoint(run_dir).is_file():
        source = _weights_source(sources.weights)
        report = load_weights(model, source)
        note(str(report))
        if Path(source).is_file():
            sources = replace(sources, weights_hash=model_fingerprint(Path(source)))
    note(f"{plural(len(train_set), 'photograph')} to train on, {len(val_set):,} to validate on")
    if is_first_process() and not resume:
        write_text(run_dir / SOURCES_FILE, json.dumps(asdict(sources), indent=2) + "\n")
    with TrainingProgress() as progress:
        return train(
            model,
            settings,
            train_set,
            val_set,
            run_dir,
            resume=resume,
            callbacks=(progress,),
            device=device,
            from_weights=sources.weights is not None,
        )


def open_sources(sources: Sources, *, seed: int) -> tuple[Dataset, Dataset]:
    """The training and the validation photographs.

    Raises:
        LabelError: Labels are wrong, or the two have different classes.
        UsageMistake: The split is not of the form 160/40, or does not go with the other options.
    """
    if sources.split_file is not None:
        return _open_split(sources)
    if sources.fold is not None:
        raise UsageMistake(f"--fold {sources.fold} needs --split, a file of dermask data split")
    whole = _open(sources.data, sources.images, sources.part, sources)
    if sources.val is None and sources.val_part is None:
        text = sources.split or f"{1 - DEFAULT_VAL_FRACTION:g}/{DEFAULT_VAL_FRACTION:g}"
        train_set, val_set = whole.split(parse_split(text), seed=seed)
        return train_set, val_set
    if sources.split is not None:
        raise UsageMistake("--split divides --data, so it does not go with --val or --val-part")
    val_images = sources.val_images or (sources.images if sources.val is None else None)
    val_set = _open(sources.val or sources.data, val_images, sources.val_part, sources)
    if val_set.class_names != whole.class_names:
        raise LabelError(
            str(sources.val or sources.data),
            f"has classes {', '.join(val_set.class_names)}, the training labels have {', '.join(whole.class_names)}",
            "give both the same classes in the same order",
        )
    return whole, val_set


def _open_split(sources: Sources) -> tuple[Dataset, Dataset]:
    """The photographs that a split file trains and validates on."""
    from dermask.data.splits import read_split

    if any((sources.part, sources.val, sources.val_part, sources.split)):
        raise UsageMistake(
            "--split with a file says what to train and validate on; leave --part, --val, --val-part and "
            "--val-fraction out"
        )
    split = read_split(Path(str(sources.split_file)))
    if sources.split_hash not in (None, split.digest()):
        raise LabelError(split.item, "has other parts than when the run began", "restore it, or start a new run")
    if split.folds is not None and sources.fold is None:
        raise UsageMistake(f"{split.item} has {split.folds} folds; name the one to validate on with --fold")
    if split.folds is None and {"train", "val"} - split.parts.keys():
        raise LabelError(
            split.item,
            f"has the parts {', '.join(split.parts)}; training takes train and val",
            "make it with dermask data split --parts train=0.8,val=0.2",
        )
    val_part = "val" if split.folds is None and sources.fold is None else choose_part(split, None, sources.fold)
    images = None if sources.images is None else Path(sources.images)
    whole = open_whole(Path(sources.data), split, images=images, skip_bad=sources.skip_bad)
    train_set = split.without(whole, val_part) if split.folds is not None else split.select(whole, "train")
    learnt = "the other folds" if split.folds is not None else "part train"
    note(f"training on {learnt} of {split.item}, validating on {val_part}")
    return train_set, split.named(split.select(whole, val_part), val_part)


def is_split_file(text: str | None) -> bool:
    """Whether the value of --split is a file, not counts or shares."""
    if text is None or re.fullmatch(r"[\d.]+/[\d.]+", text):
        return False
    return text.lower().endswith(".json") or Path(text).is_file()


def parse_split(text: str) -> list[int] | list[float]:
    """`160/40` as counts, `0.8/0.2` as shares.

    Raises:
        UsageMistake: Anything else.
    """
    parts = text.split("/")
    try:
        if len(parts) != 2:
            raise ValueError
        return [float(part) for part in parts] if "." in text else [int(part) for part in parts]
    except ValueError:
        raise UsageMistake(
            f"--split {text}: give two counts or two shares, such as 160/40 or 0.8/0.2, or a split file"
        ) from None


def _open(data: str, images: str | None, part: str | None, sources: Sources) -> Dataset:
    return open_data(Path(data), images=None if images is None else Path(images), part=part, skip_bad=sources.skip_bad)


def _weights_source(weights: str) -> str:
    """What `load_weights` takes for a value of --weights."""
    from dermask.inference.detector import asks_for_packaged, find_model

    return str(find_model(None)) if asks_for_packaged(weights) else weights


def _settings_of_weights(weights: str) -> RunSettings | None:
    """The defaults, with the network that a file of weights was trained as; None where the file does not say."""
    from dermask.config import RunSettings
    from dermask.inference.model_file import read_model_file

    path = Path(_weights_source(weights))
    if not path.is_file() or path.suffix.lower() not in {".onnx", ".safetensors"}:
        return None
    try:
        found = read_model_file(path)
    except WeightsError:  # a trunk, or no weights at all, which is said when they are loaded
        return None
    return RunSettings(model=found.settings)


def _find_run(run_dir: Path, asked: Mapping[str, object]) -> tuple[Sources, RunSettings]:
    """What a run was started with, so that `--resume` needs no more; what is given again must be the same, which
    training checks against the checkpoint."""
    from dermask.config import RunSettings, from_toml

    path = run_dir / SOURCES_FILE
    if not path.is_file() or not (run_dir / "config.toml").is_file():
        raise WeightsError(str(run_dir), "is not a run that can be resumed", "start it without --resume")
    try:
        sources = Sources(**{**json.loads(path.read_text(encoding="utf-8")), **asked})
    except (ValueError, TypeError):
        raise InputError(str(path), "is not as the run wrote it", "restore it, or start a new run") from None
    if sources.data == DRAWN_SCENES:
        raise WeightsError(str(run_dir), "is a demo on drawn scenes, which are not kept", "run dermask demo again")
    return sources, from_toml(RunSettings, run_dir / "config.toml")


def _split_text(split: str | None, val_fraction: float | None) -> str | None:
    if val_fraction is None:
        return split
    if split is not None:
        raise UsageMistake("--split and --val-fraction say the same thing; give one")
    if not 0 < val_fraction < 1:
        raise UsageMistake(f"--val-fraction {val_fraction:g}: must be between 0 and 1")
    return f"{1 - val_fraction:g}/{val_fraction:g}"


def _refuse_existing_run(run_dir: Path) -> None:
    if is_first_process() and (run_dir / "config.toml").exists():
        raise OutputExistsError(str(run_dir), "holds a run already", "go on with it by --resume, or choose another -o")


def _text(path: Path | None) -> str | None:
    # Absolute, so that a run resumes from any folder.
    return None if path is None else str(path.resolve())
