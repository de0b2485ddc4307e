"""What a card says of the network and of how it was trained: rows of tables, and the command that trains it again.

Everything comes from the file's metadata and the run's files; rows of which they say nothing are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dermask import config
from dermask.report.card_evaluation import CardEvaluation
from dermask.report.card_model import CardModel
from dermask.report.markdown import code, escape, plain_command
from dermask.report.tables import settings_table
from dermask.wording import plain_path, plural

Row = tuple[str, str]

_TRUNKS = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet-50"}
_CURVE = {
    "loss": "loss",
    "val_loss": "validation loss",
    "val_jaccard": "validation Jaccard",
    "val_mask_ap": "validation mask AP",
}
"""Columns of history.csv that a card shows, with their headings."""
_DRAWN = "drawn scenes"  # what a demo's data.json has in place of a path
_SAID_ELSEWHERE = ("Classes", "Input", "Mask resolution", "Preset")


def network_rows(model: CardModel) -> list[Row]:
    """Architecture, input, output and file."""
    settings, file = model.file.settings, model.file
    image, mask = settings.image, settings.mask_head.resolution
    trunk = _TRUNKS.get(settings.backbone.name, settings.backbone.name)
    if image.min_size == image.max_size:
        scaled = f"its long side is {image.max_size} pixels"
    else:
        scaled = f"its short side is {image.min_size} pixels, its long side at most {image.max_size}"
    stored = ", ".join(f"{count:,} as {kind}" for kind, count in file.floats.items())
    rows = [
        (
            "architecture",
            f"Mask R-CNN, preset {code(settings.preset)}: {trunk} trunk, feature pyramid of "
            f"{settings.backbone.fpn_channels} channels, masks of {mask} x {mask} cells",
        ),
        ("classes", ", ".join(map(escape, settings.class_names))),
        ("input", f"RGB photograph of any size, scaled so that {scaled}"),
        (
            "output",
            f"up to {settings.box_head.max_detections} lesions with a score of at least "
            f"{settings.box_head.score_thresh:g}, each a box, a score and mask probabilities in the frame of the box",
        ),
        ("file", f"{code(file.path.name)}, {file.format}{_operators(model)}, {file.num_bytes / 1e6:.1f} MB"),
        ("numbers stored", stored),
        ("SHA-256", code(file.sha256)),
        ("dermask", _versions(model)),
    ]
    return [row for row in rows if row[1]]


def data_rows(model: CardModel, evaluations: Sequence[CardEvaluation]) -> list[Row]:
    """Which photographs trained and validated, with their number where it is known."""
    rows: list[Row] = []
    for part, title in (("train", "trained on"), ("val", "validated on, which chose the epoch")):
        told = [
            *_counted(model, part, evaluations),
            *_named(model.sources, part),
            *([f"hash {code(model.fingerprint(part))}"] if model.fingerprint(part) else []),
        ]
        if told:
            rows.append((title, ", ".join(told)))
    if split := model.sources.get("split_file"):
        fold = f", fold {model.sources['fold']}" if model.sources.get("fold") else ""
        rows.append(
            ("divided by", f"{code(plain_path(str(split)))}{fold}, hash {code(model.sources.get('split_hash', ''))}")
        )
    elif split := model.sources.get("split"):
        rows.append(("divided", f"{escape(split)} by the seed"))
    rows.append(("classes", ", ".join(map(escape, model.file.settings.class_names))))
    return rows


def procedure_rows(model: CardModel) -> list[Row]:
    """Settings, schedule and machine."""
    rows: list[Row] = []
    if model.settings is not None:
        rows += [
            (cells[0].lower(), escape(cells[1]))
            for cells in settings_table(model.settings).rows
            if cells[0] not in _SAID_ELSEWHERE
        ]
    if weights := model.sources.get("weights"):
        digest = model.sources.get("weights_hash")
        rows.append(("first weights", code(plain_path(str(weights))) + (f", hash {code(digest)}" if digest else "")))
    if parts := list(_mean_of(model.metadata.get("mean_of"))):
        rows.append(("mean of the weights of", ", ".join(parts)))
    if processes := model.number("world_size"):
        rows.append(("processes", str(processes)))
    if step := model.number("step"):
        rows.append(("optimiser steps done", f"{step:,}"))
    if epoch := model.number("epoch"):
        planned = f" of {model.settings.train.epochs}" if model.settings is not None else ""
        rows.append(("weights of epoch", f"{epoch}{planned}"))
    best, value = model.number("best_epoch"), model.metadata.get("best_value")
    if best and isinstance(value, float) and model.settings is not None:
        rows.append(("best epoch", f"{best}, with a {model.settings.train.metric} of {value:.4f}"))
    return rows + list(_machine(model.environment)) + list(_time(model))


def curve_rows(model: CardModel) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the training's curve: its first epoch, the one kept and the last.

    Without a history, the row of the epoch that the weights are of.
    """
    history = model.history or _history_of_one(model)
    epochs = history.get("epoch", [])
    wanted = {model.number("epoch"), model.number("best_epoch")}
    chosen = sorted({0, len(epochs) - 1} | {i for i, epoch in enumerate(epochs) if epoch in wanted}) if epochs else []
    names = [name for name in _CURVE if any(_at(history, name, index) is not None for index in chosen)]
    rows = []
    for index in chosen:
        epoch = epochs[index]
        cells = [_at(history, name, index) for name in names]
        rows.append(
            ["" if epoch is None else f"{epoch:.0f}", *("" if cell is None else f"{cell:.4f}" for cell in cells)]
        )
    return ["epoch", *(_CURVE[name] for name in names)], rows if names else []


def training_command(model: CardModel) -> str:
    """The command that trains it again: sources, preset, and each setting that is not the preset's default.

    Empty where settings are not known, or the photographs were drawn by a demo.
    """
    if model.settings is None or model.sources.get("data") == _DRAWN:
        return ""
    processes = model.number("world_size") or 1
    words = ["torchrun", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    words += ["dermask", "train", *_source_options(model.sources), "--preset", model.settings.model.preset]
    for name, value in changed_settings(model):
        words += ["--set", f"{name}={value}"]
    return plain_command([*words, "-o", f"runs/{_run_name(model)}"])


def export_command(model: CardModel) -> str:
    """The command that wrote an exported file; empty for a checkpoint."""
    if model.file.format != "ONNX":
        return ""
    half = ["--half"] if next(iter(model.file.floats), "") == "float16" else []
    licence = ["--licence", str(model.metadata["licence"])] if model.metadata.get("licence") else []
    return plain_command(["dermask", "export", f"runs/{_run_name(model)}", "-o", model.file.path.name, *half, *licence])


def changed_settings(model: CardModel) -> list[Row]:
    """Settings, as the file holds them, that are not the defaults of their preset, as `--set` takes them."""
    if model.settings is None:
        return []
    defaults = config.RunSettings(model=config.preset(model.settings.model.preset)).model_dump(mode="json")
    found = _flatten(json.loads(json.dumps(model.metadata["config"])))
    usual = dict(_flatten(defaults))
    return [
        (name, "none" if value is None else json.dumps(value).strip('"'))
        for name, value in found
        if name not in ("model.class_names", "model.preset") and usual.get(name) != value
    ]


def _operators(model: CardModel) -> str:
    return f" with operator set {model.file.operator_set}" if model.file.operator_set else ""


def _versions(model: CardModel) -> str:
    trained = f"trained by {escape(model.metadata['version'])}" if model.metadata.get("version") else ""
    exporter = str(model.metadata.get("exported_by", "")).removeprefix("dermask ")
    exported = f"exported by {escape(exporter)}" if exporter else ""
    return ", ".join(part for part in (trained, exported) if part)


def _counted(model: CardModel, part: str, evaluations: Sequence[CardEvaluation]) -> Iterator[str]:
    counts = model.environment.get("photographs")
    count = counts.get(part) if isinstance(counts, Mapping) else None
    if count is None:
        same = [one for one in evaluations if model.fingerprint(part) == one.fingerprint != ""]
        count = same[0].num_photographs if same else None
    if isinstance(count, int):
        yield plural(count, "photograph")


def _named(sources: Mapping[str, Any], part: str) -> Iterator[str]:
    prefix = "" if part == "train" else "val_"
    place = sources.get("data" if part == "train" else "val")
    if part == "val" and place is None and sources.get("val_part"):
        place = sources.get("data")
    if place:
        name = sources.get(f"{prefix}part")
        yield code(plain_path(str(place)) + (f" {name}" if name else ""))


def _mean_of(models: object) -> Iterator[str]:
    """The networks of which a file is the mean, as tools/average_weights.py writes them."""
    for one in models if isinstance(models, list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("share"), float):
            yield f"{code(one.get('model', ''))} ({100 * one['share']:.0f} %, hash {code(one.get('sha256', ''))})"


def _machine(environment: Mapping[str, Any]) -> Iterator[Row]:
    packages = environment.get("packages")
    if isinstance(packages, Mapping):
        known = [f"{name} {version}" for name, version in packages.items() if version]
        yield "packages", escape(", ".join([f"Python {environment.get('python', '')}".strip(), *known]))
    if device := environment.get("device"):
        threads = (
            f", {plural(environment['threads'], 'thread')} a process"
            if isinstance(environment.get("threads"), int)
            else ""
        )
        yield (
            "device",
            escape(f"{device} ({environment.get('device_name', '')}), {environment.get('precision')}{threads}"),
        )
    if commit := environment.get("commit"):
        yield "commit", code(commit)
    if started := environment.get("started"):
        yield "started", escape(str(started)[:10])


def _time(model: CardModel) -> Iterator[Row]:
    seconds = [value for value in model.history.get("seconds", []) if value is not None]
    if seconds:
        yield "time", f"{plural(round(sum(seconds) / 60), 'minute')} for {plural(len(seconds), 'epoch')}"


def _history_of_one(model: CardModel) -> dict[str, list[float | None]]:
    metrics = model.metadata.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        return {}
    return {str(name): [value if isinstance(value, int | float) else None] for name, value in metrics.items()}


def _at(history: Mapping[str, Sequence[float | None]], name: str, index: int) -> float | None:
    values = history.get(name, [])
    value = values[index] if index < len(values) else None
    return None if value is None or math.isnan(value) else value


def _source_options(sources: Mapping[str, Any]) -> Iterator[str]:
    """The options of `dermask train` that a data.json answers to; a place holder where there is none."""
    options = {
        "data": "--data",
        "images": "--images",
        "part": "--part",
        "val": "--val",
        "val_images": "--val-images",
        "val_part": "--val-part",
        "split_file": "--split",
        "split": "--split",
        "fold": "--fold",
        "weights": "--weights",
    }
    if not sources.get("data"):
        yield from ("--data", "LABELS")
    for name, option in options.items():
        if sources.get(name) is not None:
            yield from (option, plain_path(str(sources[name])) if name != "split" else str(sources[name]))


def _run_name(model: CardModel) -> str:
    return model.run_dir.resolve().name if model.run_dir is not None else Path(model.file.path).stem


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
