"""An evaluation as a model card takes it: read again from evaluation.json, checked, with figures by dotted names.

The file may be of an older version: what it does not say is left out. What it says in another form than
`evaluation_file.to_record` wrote is an error, for a card must not guess.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dermask.errors import InputError
from dermask.evaluation.bootstrap import LEVEL, MIN_UNITS
from dermask.evaluation.evaluation_file import SUMMARY_NAME, TABLE_NAME, read_summary
from dermask.evaluation.subgroups import TraitSpread
from dermask.wording import plural

HIGHEST_F1 = "highest F1 in "
"""How a threshold's origin begins when another evaluation chose it; its path follows."""

Ends = tuple[float, float]


class CardGroup(NamedTuple):
    """The photographs of one value of one trait; `figures` and `intervals` by dotted name."""

    trait: str
    value: str
    num_photographs: int
    is_small: bool
    figures: Mapping[str, float]
    intervals: Mapping[str, Ends]


class Failures(NamedTuple):
    """How many photographs lie below the Jaccard index at which the challenge counts one as failed."""

    photographs: int
    jaccard_thresh: float


@dataclass(frozen=True, slots=True)
class CardEvaluation:
    """What a card tells of one evaluation.

    Attributes:
        path: Its evaluation.json.
        dataset_name: What the photographs are called; unique within a card, see `distinct_names`.
        fingerprint: Their hash.
        class_names: Of the labels.
        counts: By the names of `record.Counts`.
        rules: As evaluation.json has them.
        figures: By dotted name, as in ``isic.jaccard``, ``coco.mask.ap50``, ``detection.chosen.recall``; one that is
            not defined is not there.
        intervals: Their intervals by the names that evaluation.json gives.
        resampling: How the intervals were made; empty if it does not say.
        groups: Figures by kind of photograph.
        spreads: Whether kinds differ by more than chance.
        origin: What made it: the command, and the model's name, kind and hash.
        version: Of dermask.
        failures: From the per_photo.csv beside it, if it is there.
    """

    path: Path
    dataset_name: str
    fingerprint: str
    class_names: tuple[str, ...]
    counts: Mapping[str, int]
    rules: Mapping[str, Any]
    figures: Mapping[str, float]
    intervals: Mapping[str, Ends]
    resampling: Mapping[str, Any]
    groups: tuple[CardGroup, ...]
    spreads: tuple[TraitSpread, ...]
    origin: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    failures: Failures | None = None

    @property
    def num_photographs(self) -> int:
        """How many there are."""
        return self.counts["photographs"]

    @property
    def sha256(self) -> str:
        """Of the model that was judged; empty if it is not known."""
        return self.origin.get("sha256", "")

    @property
    def level(self) -> float:
        """Of the intervals."""
        return float(self.resampling.get("level", LEVEL))

    def why_no_intervals(self) -> str:
        """Empty where there are intervals."""
        if self.intervals:
            return ""
        unit, count = self.resampling.get("unit", "photograph"), self.resampling.get("num_units", self.num_photographs)
        if count < MIN_UNITS:
            return f"no interval: {plural(count, unit)}, fewer than {MIN_UNITS}"
        return "no interval: none was computed"


def read_evaluation(path: Path) -> CardEvaluation:
    """Read an evaluation.json, or that of a folder, and the per_photo.csv beside it.

    Raises:
        InputError: It is missing, or not as `dermask evaluate` wrote it.
    """
    content = read_summary(path)
    if path.is_dir():
        path = path / SUMMARY_NAME
    try:
        found = _parse(path, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"is not as dermask evaluate wrote it ({type(error).__name__}: {error})"
        raise InputError(str(path), problem, "evaluate again") from None
    return found


def distinct_names(evaluations: Sequence[CardEvaluation]) -> list[str]:
    """What to call each evaluation in a card: its data set, with its folder or a number where two would be alike."""
    names = [one.dataset_name for one in evaluations]
    folders = [one.path.parent.name for one in evaluations]
    for more in (folders, [str(number) for number in range(1, len(names) + 1)]):
        names = [name if names.count(name) == 1 else f"{name} ({m})" for name, m in zip(names, more, strict=True)]
    return names


def _parse(path: Path, content: Mapping[str, Any]) -> CardEvaluation:
    dataset = content["dataset"]
    rules = dict(content["rules"])
    counts = {name: value for name, value in dataset.items() if isinstance(value, int)}
    if counts["photographs"] < 1:
        raise ValueError("no photographs")
    calibration = content.get("calibration") or {}
    flat = {
        **_flatten("isic", content["isic"]),
        **_flatten("boundary", (content.get("boundary") or {}).get("figures")),
        **_flatten("coco", content["coco"]),
        **_flatten("detection.chosen", (content.get("detection") or {}).get("chosen")),
        **_flatten("detection.best", (content.get("detection") or {}).get("best")),
        **_flatten("calibration.scores", _single_numbers(calibration.get("scores"))),
        **_flatten("calibration.masks", _single_numbers(calibration.get("masks"))),
    }
    return CardEvaluation(
        path=path,
        dataset_name=str(dataset["name"]) or path.parent.name,
        fingerprint=str(dataset["fingerprint"]),
        class_names=tuple(str(name) for name in dataset["class_names"]),
        counts=counts,
        rules=rules,
        figures=flat,
        intervals=_intervals(content.get("intervals")),
        resampling=dict(content.get("resampling") or {}),
        groups=tuple(_group(group) for group in content.get("subgroups") or ()),
        spreads=tuple(_spread(spread) for spread in content.get("spreads") or ()),
        origin={name: str(value) for name, value in dict(content.get("origin") or {}).items()},
        version=str(content.get("dermask", "")),
        failures=_failures(path.with_name(TABLE_NAME), counts["photographs"], rules.get("jaccard_thresh")),
    )


def _flatten(prefix: str, part: Mapping[str, Any] | None) -> dict[str, float]:
    """Numbers of nested objects by dotted name; null is left out.

    Raises:
        TypeError: Something else than numbers stands there.
    """
    flat: dict[str, float] = {}
    for name, value in (part or {}).items():
        if isinstance(value, Mapping):
            flat |= _flatten(f"{prefix}.{name}", value)
        elif value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{prefix}.{name} is no number")
            flat[f"{prefix}.{name}"] = value
    return flat


def _single_numbers(part: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (part or {}).items() if not isinstance(value, list)}


def _intervals(part: Mapping[str, Any] | None) -> dict[str, Ends]:
    """Ends by name, from ``[low, high]`` or an object with both; null is left out."""
    found = {}
    for name, value in (part or {}).items():
        if value is None:
            continue
        low, high = (value["low"], value["high"]) if isinstance(value, Mapping) else value
        found[name] = (float(low), float(high))
    return found


def _group(group: Mapping[str, Any]) -> CardGroup:
    return CardGroup(
        trait=str(group["trait"]),
        value=str(group["value"]),
        num_photographs=int(group["num_photographs"]),
        is_small=bool(group["is_small"]),
        figures={name: float(value) for name, value in group["figures"].items() if value is not None},
        intervals=_intervals(group["intervals"]),
    )


def _spread(spread: Mapping[str, Any]) -> TraitSpread:
    difference = spread["difference"]
    return TraitSpread(
        trait=str(spread["trait"]),
        figure=str(spread["figure"]),
        compared=tuple(spread["compared"]),
        difference=float("nan") if difference is None else float(difference),
        p_value=spread["p_value"],
        p_adjusted=spread["p_adjusted"],
    )


def _failures(table: Path, num_photographs: int, jaccard_thresh: float | None) -> Failures | None:
    """Counted in the table of photographs; None where it is not there or not that of the same photographs."""
    if jaccard_thresh is None:
        return None
    try:
        with table.open(newline="", encoding="utf-8") as file:
            values = _cells(csv.DictReader(file), "jaccard")
    except (OSError, ValueError, KeyError):
        return None
    if len(values) != num_photographs:
        return None
    return Failures(sum(value < jaccard_thresh for value in values), jaccard_thresh)


def _cells(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row[name] not in ("", None)]
