"""The files of an evaluation: evaluation.json with every figure, per_photo.csv with a row per photograph.

What is not defined is null in JSON and an empty cell in CSV. `read_summary` reads the JSON again, for what other
commands take from it: the threshold that validation photographs chose, and the figures of a model card.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermask import __version__, files
from dermask.errors import InputError
from dermask.evaluation.bootstrap import Interval
from dermask.evaluation.calibration import Reliability
from dermask.evaluation.coco_ap import AveragePrecision
from dermask.evaluation.isic_challenge import JACCARD_THRESH
from dermask.evaluation.record import Evaluation, PhotoRow, Threshold
from dermask.wording import short_path

SUMMARY_NAME, TABLE_NAME = "evaluation.json", "per_photo.csv"
VALIDATION = "validation"
"""The `role` in the origin of the evaluation that closes a run: of the photographs that chose its best epoch."""
_MAX_BYTES = 64 << 20  # an evaluation.json has kilobytes


def to_record(evaluation: Evaluation, *, origin: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything but the rows, as JSON has it.

    Args:
        evaluation: The figures.
        origin: What made them, such as the command and the model's hash.
    """
    threshold = evaluation.threshold
    record: dict[str, Any] = _plain(
        {
            "dermask": __version__,
            "origin": dict(origin or {}),
            "dataset": {
                "name": evaluation.dataset_name,
                "fingerprint": evaluation.dataset_fingerprint,
                "class_names": list(evaluation.class_names),
                **asdict(evaluation.counts),
            },
            "rules": {
                "mask_of_a_photograph": evaluation.rule,
                "score_thresh": threshold.score_thresh,
                "score_thresh_from": threshold.origin,
                "mask_thresh": evaluation.mask_thresh,
                "jaccard_thresh": JACCARD_THRESH,
                "max_detections": evaluation.coco.max_detections,
            },
            "isic": evaluation.figures,
            "pooled_not_comparable": evaluation.pooled,
            "boundary": evaluation.boundary,
            "coco": {
                "box": _precision(evaluation.coco.box, evaluation.class_names),
                "mask": _precision(evaluation.coco.mask, evaluation.class_names),
            },
            "detection": evaluation.detection,
            "calibration": {
                "scores": _reliability(evaluation.score_calibration),
                "masks": None if evaluation.mask_calibration is None else _reliability(evaluation.mask_calibration),
            },
            "intervals": evaluation.intervals,
            "resampling": evaluation.resampling,
            "subgroups": list(evaluation.subgroups),
            "spreads": list(evaluation.spreads),
        }
    )
    return record


def to_json(evaluation: Evaluation, *, origin: Mapping[str, Any] | None = None) -> str:
    """`to_record` as indented text."""
    return json.dumps(to_record(evaluation, origin=origin), indent=2, ensure_ascii=False)


def to_csv(evaluation: Evaluation) -> str:
    """The rows as CSV text with a header, one photograph per line."""
    text = io.StringIO(newline="")
    rows = [flat_row(row) for row in evaluation.rows]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def save(evaluation: Evaluation, folder: Path, *, origin: Mapping[str, Any] | None = None) -> tuple[Path, Path]:
    """Write evaluation.json and per_photo.csv into a folder, replacing what an earlier evaluation left there."""
    summary, table = folder / SUMMARY_NAME, folder / TABLE_NAME
    files.write_text(summary, to_json(evaluation, origin=origin) + "\n")
    files.write_text(table, to_csv(evaluation))
    return summary, table


def read_summary(path: Path) -> dict[str, Any]:
    """An evaluation.json, or that of a folder, as `to_record` gave it.

    Raises:
        InputError: It is missing, or not the summary of an evaluation.
    """
    if path.is_dir():
        path = path / SUMMARY_NAME
    cure = f"give an {SUMMARY_NAME} of dermask evaluate -o, or its folder"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(str(path), "is too large for the summary of an evaluation", cure)
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", cure) from None
    except (ValueError, RecursionError):
        raise InputError(str(path), "is not JSON", cure) from None
    if not isinstance(content, dict) or not {"dataset", "rules", "isic", "coco"} <= content.keys():
        raise InputError(str(path), "is not the summary of an evaluation", cure)
    return content


def chosen_threshold(path: Path) -> Threshold:
    """The score threshold with the highest F1 in a saved evaluation, made on validation photographs for use on others.

    Raises:
        InputError: As `read_summary`; or it holds no such threshold, as that of photographs without a lesion.
    """
    content = read_summary(path)
    detection = content.get("detection")
    if detection is None:
        raise InputError(str(path), "is of a version that chose no score threshold", "evaluate again")
    best = detection.get("best") if isinstance(detection, dict) else None
    value = best.get("score_thresh") if isinstance(best, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(str(path), "chose no score threshold", "evaluate again on photographs with lesions")
    return Threshold(float(value), f"highest F1 in {short_path(str(path))}")


def role_of(content: Mapping[str, Any]) -> str | None:
    """What an evaluation that was read is for: `VALIDATION`, another word, or None where it does not say."""
    origin = content.get("origin")
    role = origin.get("role") if isinstance(origin, dict) else None
    return role if isinstance(role, str) else None


def fingerprint_of(content: Mapping[str, Any]) -> str | None:
    """The hash of the photographs and labels that an evaluation that was read is about; None where it does not say."""
    dataset = content.get("dataset")
    fingerprint = dataset.get("fingerprint") if isinstance(dataset, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def flat_row(row: PhotoRow) -> dict[str, object]:
    """A row of per_photo.csv."""
    return {
        "image_id": row.image_id,
        "width": row.size.width,
        "height": row.size.height,
        "lesions": row.num_lesions,
        "detections": row.num_detections,
        "best_score": "" if row.best_score is None else round(row.best_score, 4),
        **{name: _round(value) for name, value in asdict(row.figures).items()},
        **{name: _round(value) for name, value in asdict(row.boundary).items()},
        **{name: "" if value is None else value for name, value in asdict(row.traits).items()},
        "unit": row.unit,
        "mm_per_pixel": "" if row.mm_per_pixel is None else row.mm_per_pixel,
    }


def _round(value: float) -> object:
    return "" if math.isnan(value) else round(value, 6)


def _precision(precision: AveragePrecision, class_names: tuple[str, ...]) -> dict[str, Any]:
    values = precision._asdict() | {"ap_by_class": dict(zip(class_names, precision.ap_by_label, strict=True))}
    del values["ap_by_label"]
    return values


def _reliability(reliability: Reliability) -> dict[str, Any]:
    return {
        "expected_calibration_error": reliability.expected_calibration_error,
        **{field.name: getattr(reliability, field.name) for field in fields(reliability)},
    }


def _plain(value: Any) -> Any:
    """Records, arrays and tuples as JSON has them; NaN and infinities are null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Interval):
        return [_plain(value.low), _plain(value.high)]  # all have one level, which `resampling` says
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
