"""Runs, models and evaluations for model cards, with numbers that no two examples share."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from dermask import config

TRAIN_HASH, VAL_HASH, OTHER_HASH = "a" * 64, "b" * 64, "c" * 64


def metadata(**more: Any) -> dict[str, Any]:
    """What a checkpoint of a run of 7 epochs says of itself."""
    settings = config.override(
        config.RunSettings(), {"train.epochs": 7, "train.learning_rate": 0.00037, "model.image.max_size": 448}
    )
    found = {
        "config": json.loads(settings.model_dump_json()),
        "class_names": ["lesion"],
        "epoch": 5,
        "step": 2345,
        "metrics": {"epoch": 5.0, "loss": 0.5432, "val_jaccard": 0.6789, "val_mask_ap": None},
        "best_epoch": 5,
        "best_value": 0.6789,
        "world_size": 1,
        "data": {"train": TRAIN_HASH, "val": VAL_HASH},
        "version": "0.1.0",
        "format": 1,
    }
    return found | more


def write_checkpoint(path: Path, content: dict[str, Any] | None = None, *, tensors: Any = None) -> Path:
    """A safetensors file of one small tensor."""
    shape = [3, 4]
    tensors = {"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 48]}} if tensors is None else tensors
    header = {"__metadata__": {"dermask": json.dumps(metadata() if content is None else content)}, **tensors}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + np.zeros(shape, np.float32).tobytes())
    return path


def write_run(folder: Path) -> Path:
    """The folder of a run, as training leaves it."""
    write_checkpoint(folder / "checkpoints" / "best.safetensors")
    environment = {
        "dermask": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "started": "2031-05-06T07:08:09+00:00",
        "python": "3.11.4",
        "packages": {"torch": "2.77.1", "numpy": "2.66.1", "pillow": None},
        "platform": "Linux-of-secret-machine",
        "seed": 0,
        "data": {"train": TRAIN_HASH, "val": VAL_HASH},
        "photographs": {"train": 4321, "val": 1098},
        "device": "cpu",
        "device_name": "x86_64",
        "precision": "float32",
        "threads": 6,
        "processes": 1,
    }
    sources = {
        "data": "/home/somebody/secret/isic2017",
        "part": "Training",
        "val": "/home/somebody/secret/isic2017",
        "val_part": "Validation",
        "weights": "imagenet",
        "split": None,
        "split_file": None,
        "fold": None,
    }
    rows = ["epoch,seconds,loss,val_loss,val_jaccard,val_mask_ap"]
    rows += [f"{epoch},321,{1 / epoch + 0.0101},0.91{epoch}3,0.61{epoch}7,0.51{epoch}9" for epoch in range(1, 8)]
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "data.json").write_text(json.dumps(sources))
    (folder / "history.csv").write_text("\n".join(rows) + "\n")
    return folder


def record(
    *,
    name: str = "isic2017 Test_v2",
    count: int = 264,
    fingerprint: str = OTHER_HASH,
    sha256: str = "",
    low: float = 0.6,
    seed: int = 0,
) -> dict[str, Any]:
    """An evaluation.json: shares between `low` and `low` + 0.1 at random, counts from `count`."""
    random = np.random.default_rng(seed)

    def share() -> float:
        return float(random.uniform(low, low + 0.1))

    def shares(names: str) -> dict[str, Any]:
        return {part: share() for part in names.split()}

    isic = shares("jaccard thresholded_jaccard dice sensitivity specificity accuracy")
    borders = shares("boundary_iou boundary_f_0005 boundary_f_001 boundary_f_002")
    borders |= {"average_distance": 100 * share(), "distance_95": 200 * share()}
    precision = shares("ap ap50 ap75 ar ap_medium ap_large") | {"ap_small": None}
    point = shares("score_thresh iou_thresh precision recall f1 false_alarms_per_photo")
    point |= {"found": count - 7, "missed": 7, "false_alarms": count + 1, "photos_with_false_alarm": count - 9}
    has_claims = count >= 30
    intervals = {f"isic.{part}": [value - 0.011, value + 0.012] for part, value in isic.items()}
    intervals |= {"coco.mask.ap50": [share(), share()], "detection.recall": [share(), share()]}
    return {
        "dermask": "0.1.0",
        "origin": {
            "command": f"dermask evaluate runs/first --data ../secret/place/isic2017 -o /home/somebody/secret/{count}",
            **({"model": "first", "kind": "model", "file": "/home/secret/x", "sha256": sha256} if sha256 else {}),
        },
        "dataset": {
            "name": name,
            "fingerprint": fingerprint,
            "class_names": ["lesion"],
            "photographs": count,
            "without_lesion": 0,
            "without_detection": 3,
            "lesions": count,
            "crowd_regions": 0,
            "detections": count + 5,
        },
        "rules": {
            "mask_of_a_photograph": "primary",
            "score_thresh": point["score_thresh"],
            "score_thresh_from": "default",
            "mask_thresh": share(),
            "jaccard_thresh": share(),
            "max_detections": 100,
        },
        "isic": isic,
        "pooled_not_comparable": None,
        "boundary": {"figures": borders, "average_distance_mm": None, "num_with_scale": 0},
        "coco": {"box": precision, "mask": precision | {"ap_by_class": {"lesion": share()}}},
        "detection": {"chosen": point, "best": point | shares("score_thresh f1"), "curve": {"x": [0.5]}},
        "calibration": {
            "scores": shares("expected_calibration_error brier_score") | {"edges": [0.1]},
            "masks": None,
        },
        "intervals": intervals if has_claims else {},
        "resampling": {"unit": "photograph", "num_units": count, "num_resamples": 2000, "seed": 0, "level": 0.95},
        "subgroups": [
            _group("hair", "no", count - 20, share, has_claims),
            _group("hair", "yes", 20, share, has_claims=False),
        ],
        "spreads": [
            {
                "trait": "hair",
                "figure": "isic.jaccard",
                "compared": ["no", "yes"],
                "difference": share(),
                "p_value": share(),
                "p_adjusted": share(),
            },
            {
                "trait": "ruler",
                "figure": "isic.jaccard",
                "compared": [],
                "difference": None,
                "p_value": None,
                "p_adjusted": None,
            },
        ],
    }


def _group(trait: str, value: str, count: int, share: Any, has_claims: bool) -> dict[str, Any]:
    return {
        "trait": trait,
        "value": value,
        "num_photographs": count,
        "num_units": count,
        "figures": {"isic.jaccard": share(), "isic.dice": share()},
        "intervals": {
            "isic.jaccard": {"low": share(), "high": share(), "level": 0.95} if has_claims else None,
            "isic.dice": None,
        },
        "is_small": not has_claims,
    }


def write_evaluation(folder: Path, content: dict[str, Any] | None = None, **more: Any) -> Path:
    """An evaluation's folder with its evaluation.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(record(**more) if content is None else content))
    return folder
