"""What stands behind MODEL on the command line of `evaluate` and `compare`: a model, or predictions saved before.

A model's predictions are found while they are asked for, a few photographs at a time, so that the caller can show how
far it is and memory stays flat. Saved ones need neither the model nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from dermask.cli.common import DeviceName, EngineName, note
from dermask.errors import InputError
from dermask.wording import short_path

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.evaluation.photo_masks import PredictedMasks
    from dermask.inference.detector import Detector
    from dermask.records import Detections
    from dermask.tidying import TidyStep

Kind = Literal["model", "results", "masks"]

UNDERSTOOD = (
    "a run's folder or a folder of runs, a .safetensors checkpoint, an .onnx file, COCO results or labels as .json, "
    "a folder of mask images, or bundled"
)
"""What MODEL may be, for messages and help."""

# What `inference.detector.find_model` takes, or refuses with a cure of its own.
_OF_MODELS = {".safetensors", ".onnx", ".pt", ".pth", ".bin", ".pkl", ".h5"}

# Photographs handed to the detector at once; also how often the bar moves.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One thing to judge.

    Attributes:
        name: What to call it, short and fit for a folder; distinct among the runs of one folder.
        kind: Whether a model finds the lesions now, or saved results or masks say what was found.
        path: What was named: a run's folder, a file, a folder of masks.
        predictions: One per photograph in the data set's order, with `image_id`. Each pass over those of a model
            finds them again; saved results are a list.
        file: The model's own file, the results, or the folder that the masks lie in.
        sha256: Hex SHA-256 of the file; for a folder of masks, of the names and contents of those that count.
        class_names: What the model finds; None where saved predictions were matched to the data set's classes.
        tidied: What was done to the masks that the model found.
    """

    name: str
    kind: Kind
    path: Path
    predictions: Iterable[Detections | PredictedMasks]
    file: Path
    sha256: str
    class_names: tuple[str, ...] | None = None
    tidied: tuple[TidyStep, ...] = ()

    def origin(self) -> dict[str, str]:
        """Where the predictions come from, for pages and files."""
        origin = {"model": self.name, "kind": self.kind, "file": short_path(str(self.file)), "sha256": self.sha256}
        return {**origin, "tidied": ",".join(self.tidied)} if self.tidied else origin


@dataclass(frozen=True, slots=True, eq=False)
class _FoundNow:
    """A model's predictions, found as they are asked for."""

    open_detector: Callable[[], Detector]
    dataset: Dataset
    at_once: int
    tidying: tuple[TidyStep, ...]

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Detections]:
        from dermask.tidying import tidy

        detector = self.open_detector()
        for start in range(0, len(self.dataset), self.at_once):
            part = self.dataset[start : start + self.at_once]
            for sample, detections in zip(part, detector.predict([sample.image for sample in part]), strict=True):
                named = replace(detections, image_id=sample.image_id, source_id=sample.source_id)
                yield tidy(named, self.tidying)


def open_judged(
    model: Path,
    dataset: Dataset,
    *,
    device: DeviceName = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    engine: EngineName | None = None,
    tidying: tuple[TidyStep, ...] = (),
    lazily: bool = False,
) -> list[Judged]:
    """Open what MODEL stands for; notes on saved predictions go to stderr.

    Args:
        model: One of `UNDERSTOOD`. A folder with a `coco_results.json`, as `dermask predict` writes it, is read from
            that, which knows scores and single lesions; without it, from its masks.
        dataset: The photographs to judge on.
        device: Where a model computes.
        batch_size: Photographs that a model computes at once; None lets the device decide.
        threads: CPU threads of a model; None lets the engine choose.
        engine: What runs an exported model; None takes ONNX Runtime, so that figures do not follow the processor.
        tidying: What is done to the masks that a model finds; saved ones are judged as they are.
        lazily: Whether a model is opened when its predictions are asked for, because it is one of several.

    Returns:
        One; of a folder whose subfolders are runs, one for each, in order of name. Several models are opened one after
        the other, when their predictions are asked for.

    Raises:
        InputError: Nothing of the kind stands there, or it does not fit the photographs; says what was tried.
        MissingExtraError: A checkpoint needs torch, which is not installed.
    """
    from dermask.images import SUFFIXES
    from dermask.inference.detector import asks_for_packaged

    if model.suffix.lower() == ".json":
        return [_saved_results(model, dataset)]
    paths: list[Path | None]
    if model.is_dir():
        runs = _runs_below(model)
        if not _is_run(model) and not runs:
            return [_saved_folder(model, dataset)]
        paths = [model] if _is_run(model) else [*runs]
    elif asks_for_packaged(model):
        paths = [None]
    elif not model.exists():
        raise InputError(str(model), "no such file or folder", f"give {UNDERSTOOD}")
    elif model.suffix.lower() in SUFFIXES:
        raise InputError(str(model), "is a single image", "give the folder of masks, one for each photograph")
    elif model.suffix.lower() in _OF_MODELS:
        paths = [model]
    else:
        raise InputError(str(model), "is not a model, results or masks", f"give {UNDERSTOOD}")
    lazily = lazily or len(paths) > 1
    options = _ModelOptions(device, batch_size, threads, engine, tidying)
    return [_model(path, dataset, options, lazily=lazily) for path in paths]


class _ModelOptions(NamedTuple):
    """How a model is asked, as `open_judged` takes it."""

    device: DeviceName
    batch_size: int | None
    threads: int | None
    engine: EngineName | None
    tidying: tuple[TidyStep, ...]


def _model(path: Path | None, dataset: Dataset, options: _ModelOptions, *, lazily: bool) -> Judged:
    from dermask.inference.detector import (
        PACKAGED_NAMES,
        find_model,
        load,
        model_fingerprint,
        read_checkpoint_header,
    )

    file = find_model(path)
    device, batch_size, threads, engine, tidying = options
    at_once = max(_AT_ONCE, batch_size or 0)
    chosen = engine or ("onnxruntime" if file.suffix.lower() == ".onnx" else "auto")

    def open_detector() -> Detector:
        return load(file, device=device, batch_size=batch_size, threads=threads, engine=chosen)

    if lazily:  # several models at once might not fit; what their files say is checked before the first one works
        exported = file.suffix.lower() == ".onnx"  # which tells by being opened, and is closed again
        class_names = open_detector().class_names if exported else tuple(read_checkpoint_header(file)["class_names"])
        predictions = _FoundNow(open_detector, dataset, at_once, tidying)
    else:
        detector = open_detector()
        class_names = detector.class_names
        predictions = _FoundNow(lambda: detector, dataset, at_once, tidying)
    name = PACKAGED_NAMES[0] if path is None else _name_of(path)
    return Judged(name, "model", path or file, predictions, file, model_fingerprint(file), class_names, tidying)


def _saved_results(path: Path, dataset: Dataset) -> Judged:
    from dermask.evaluation.results_file import read_coco_results
    from dermask.inference.detector import model_fingerprint

    predictions = read_coco_results(path, dataset, note=note)
    return Judged(_name_of(path), "results", path, predictions, path, model_fingerprint(path))


def _saved_folder(folder: Path, dataset: Dataset) -> Judged:
    """What `dermask predict` or another program left in a folder."""
    from dermask.evaluation.mask_folder import holds_masks, open_mask_folder

    results = folder / "coco_results.json"
    if results.is_file():
        return _saved_results(results, dataset)
    if not holds_masks(folder):
        raise InputError(
            str(folder),
            "holds no checkpoints/best.safetensors, no folders of runs, no coco_results.json and no mask images",
            f"give {UNDERSTOOD}",
        )
    found = open_mask_folder(folder, dataset, note=note)
    return Judged(_name_of(folder), "masks", folder, found, found.folder, found.sha256())


def _runs_below(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path))
    except OSError as error:
        raise InputError(str(folder), f"cannot be read: {error.strerror}") from None


def _is_run(folder: Path) -> bool:
    return any((folder / "checkpoints" / f"{name}.safetensors").is_file() for name in ("best", "last"))


def _name_of(path: Path) -> str:
    """A folder's own name, a file's without suffix; the names that dermask gives itself tell nothing alone."""
    whole = path.resolve()
    if whole.is_dir():
        return whole.name
    if whole.parent.name == "checkpoints":
        return f"{whole.parent.parent.name}-{whole.stem}"
    return whole.parent.name if whole.stem == "coco_results" else whole.stem
