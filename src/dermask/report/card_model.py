"""The model of a card: its file, and the run it comes from where that is at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dermask import config
from dermask.errors import InputError
from dermask.files import read_json_object
from dermask.inference.detector import PACKAGED_MODEL, model_fingerprint
from dermask.inference.model_file import ModelFile, read_model_file
from dermask.report.card_evaluation import CardEvaluation
from dermask.report.charts import History, read_history

_SHORT_HASH = 12


@dataclass(frozen=True, slots=True, eq=False)
class CardModel:
    """What is known of a model without opening it.

    Attributes:
        name: What to call it unless people name it.
        file: Its file.
        run_dir: The run that the file lies in; None for a file of its own.
        settings: The run's settings; None where the file holds those of the network alone.
        environment: The run's environment.json, or what an exported file took of it; empty without either.
        sources: Its data.json, likewise.
        history: Its history.csv; empty without one.
    """

    name: str
    file: ModelFile
    run_dir: Path | None = None
    settings: config.RunSettings | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=dict)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What training and export wrote into the file."""
        return self.file.metadata

    def fingerprint(self, part: str) -> str:
        """The hash of the photographs of a part, ``train`` or ``val``; empty if it is not known."""
        data = self.metadata.get("data") or self.environment.get("data")
        return str(data.get(part, "")) if isinstance(data, Mapping) else ""

    def role_of(self, evaluation: CardEvaluation) -> str:
        """What the photographs of an evaluation were to this model: ``train``, ``val``, or nothing, empty."""
        same = [part for part in ("train", "val") if self.fingerprint(part) == evaluation.fingerprint != ""]
        return same[0] if same else ""

    def number(self, name: str) -> int | None:
        """A whole number of the metadata, such as ``best_epoch``; None where it is not said or 0."""
        value = self.metadata.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def read_model(path: Path) -> CardModel:
    """Gather what a model's file and its run say.

    Args:
        path: As `inference.detector.find_model` gives it.

    Raises:
        WeightsError: The file is damaged or not a model of dermask.
        SettingError: It holds settings that this version does not know.
        InputError: A file of the run is damaged; names it.
    """
    file = read_model_file(path)
    network = file.settings
    tree = file.metadata["config"]
    settings = None
    if {"model", "train", "augment"} <= tree.keys():
        settings = config.parse(config.RunSettings, tree, item=f"{path}:").model_copy(update={"model": network})
    run_dir = path.parent.parent if path.parent.name == "checkpoints" else None
    if run_dir is None:
        name = f"dermask {network.preset}, packaged" if _is_packaged(path) else path.stem
        return CardModel(name, file, None, settings, _taken_along(file, "environment"), _taken_along(file, "sources"))
    history = run_dir / "history.csv"
    return CardModel(
        name=run_dir.resolve().name,
        file=file,
        run_dir=run_dir,
        settings=settings,
        environment=read_json_object(run_dir / "environment.json"),
        sources=read_json_object(run_dir / "data.json"),
        history=read_history(history) if history.is_file() else {},
    )


def check_same_model(model: CardModel, evaluation: CardEvaluation) -> str:
    """Make sure that an evaluation is of this model: a card must not mix models.

    Returns:
        What to remark about it; empty where its hash is that of the model's file.

    Raises:
        InputError: It judges another model, or saved predictions.
    """
    judged = evaluation.sha256
    if not judged:
        return "its file does not say which model was judged"
    if judged == model.file.sha256:
        return ""
    for other in _other_files(model):
        if model_fingerprint(other) == judged:
            return f"judged: {other.name} of the same run, not the file described here"
    kind = evaluation.origin.get("kind", "model")
    what = "another model" if kind == "model" else f"saved {kind}, not a model"
    name = evaluation.origin.get("model", "")
    problem = f"judges {what}: {name} ({judged[:_SHORT_HASH]}), where {model.file.path} is {_short(model)}"
    raise InputError(str(evaluation.path), problem, "evaluate this model, or leave that evaluation out")


def _short(model: CardModel) -> str:
    return model.file.sha256[:_SHORT_HASH]


def _other_files(model: CardModel) -> Iterator[Path]:
    if model.run_dir is not None:
        yield from sorted((model.run_dir / "checkpoints").glob("*.safetensors"))
        yield from sorted(model.run_dir.glob("*.onnx"))


def _is_packaged(path: Path) -> bool:
    return path.resolve() == PACKAGED_MODEL.resolve()


def _taken_along(file: ModelFile, part: str) -> Mapping[str, Any]:
    """What an exported file says of its run (`export.provenance`); empty where it does not."""
    run = file.metadata.get("run")
    found = run.get(part) if isinstance(run, Mapping) else None
    return found if isinstance(found, Mapping) else {}
