"""The files of a comparison: comparison.json with every difference, per_photo.csv with all models side by side.

Models go by letters: A is the reference, B, C, ... are compared to it. What is not defined is null in JSON and an empty
cell in CSV.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dermask import __version__, files
from dermask.evaluation.compared_figures import FIGURES, PHOTO_FIGURES, Side, Values
from dermask.evaluation.comparison import ALPHA, Comparison, PairedDifference, SeedSpread
from dermask.evaluation.photo_masks import Rule

SUMMARY_NAME, TABLE_NAME = "comparison.json", "per_photo.csv"
MAX_MODELS = 26
"""As many as there are letters."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonSet:
    """Models compared to one reference on one data set.

    Attributes:
        members: One comparison for each model but the reference; at least one.
        dataset_name: What the data set calls itself.
        dataset_fingerprint: Its hash.
        rule: Which detections made the one mask of each photograph.
    """

    members: tuple[Comparison, ...]
    dataset_name: str
    dataset_fingerprint: str
    rule: Rule

    @property
    def sides(self) -> dict[str, Side]:
        """The models by letter, the reference first."""
        sides = (self.members[0].a, *(member.b for member in self.members))
        return {chr(ord("A") + index): side for index, side in enumerate(sides)}

    def values(self) -> dict[str, Values]:
        """Each model's (N, F) values of the photographs, by letter."""
        found = [self.members[0].photo_values("a"), *(member.photo_values("b") for member in self.members)]
        return dict(zip(self.sides, found, strict=True))


def thresholds(side: Side) -> str:
    """The scores from which a model's detections count, each with who chose it; empty where not known."""
    told: dict[str, None] = {}
    for index, score in enumerate(side.score_thresholds):
        chosen = [one["score_thresh_from"] for one in side.origins[index : index + 1] if "score_thresh_from" in one]
        told["".join([f"{score:.3g}", *(f" ({origin})" for origin in chosen)])] = None
    return ", ".join(told)


def both_thresholds(member: Comparison, letter: str) -> str:
    """`thresholds` of both models by letter; empty where neither is known."""
    known = [(name, thresholds(side)) for name, side in (("A", member.a), (letter, member.b))]
    return "; ".join(f"{name} {text}" for name, text in known if text)


def caveats(member: Comparison, letter: str) -> tuple[str, ...]:
    """What must be said beside the differences, a sentence or two each.

    That runs of other seeds may turn a difference around is said of those that are shown, for of the others nothing is.
    """
    everything = (*member.differences, *member.set_differences)
    shown = {one.name for one in everything if _is_shown(one)}
    found = replace(
        member,
        spreads_a=tuple(spread for spread in member.spreads_a if spread.name in shown),
        spreads_b=tuple(spread for spread in member.spreads_b if spread.name in shown),
    ).caveats()
    if _choosers(member.a) and _choosers(member.b) and _choosers(member.a) != _choosers(member.b):
        found += (
            f"F1 counts from scores that were not chosen alike: {both_thresholds(member, letter)}. Part of its "
            "difference may be theirs; --score-thresh and --threshold-from give all models the same.",
        )
    return found


def _is_shown(one: PairedDifference) -> bool:
    """Whether a figure is shown to differ: by its test, or, of the set, by an interval that leaves out 0."""
    if one.winner is not None:
        return True
    return FIGURES[one.name].of_set and one.interval is not None and (one.interval.low > 0 or one.interval.high < 0)


def _choosers(side: Side) -> set[str]:
    """How a model's thresholds were chosen, whatever the file's name."""
    return {
        origin["score_thresh_from"].partition(" in ")[0] for origin in side.origins if "score_thresh_from" in origin
    }


def to_record(compared: ComparisonSet, *, origin: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything but the photographs' values, as JSON has it.

    Args:
        compared: The comparisons.
        origin: What made them, such as the command.
    """
    first = compared.members[0]
    return {
        "dermask": __version__,
        "origin": dict(origin or {}),
        "dataset": {
            "name": compared.dataset_name,
            "fingerprint": compared.dataset_fingerprint,
            "photographs": len(first.image_ids),
        },
        "rules": {
            "mask_of_a_photograph": compared.rule,
            "alpha": ALPHA,
            "correction": "holm",
        },
        "resampling": {**asdict(first.resampling), "num_flips": first.num_flips},
        "models": {letter: _model(side) for letter, side in compared.sides.items()},
        "comparisons": {
            f"{letter} - A": _comparison(letter, member)
            for letter, member in zip(list(compared.sides)[1:], compared.members, strict=True)
        },
    }


def to_json(compared: ComparisonSet, *, origin: Mapping[str, Any] | None = None) -> str:
    """`to_record` as indented text."""
    return json.dumps(to_record(compared, origin=origin), indent=2, ensure_ascii=False, allow_nan=False)


def to_csv(compared: ComparisonSet) -> str:
    """The values of every photograph as CSV text: `image_id`, `unit`, then each figure for each model, `jaccard_A`."""
    first, values = compared.members[0], compared.values()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [figure.name.split(".")[1] for figure in PHOTO_FIGURES]
    writer.writerow(["image_id", "unit", *(f"{name}_{letter}" for name in names for letter in values)])
    for index, (image_id, unit) in enumerate(zip(first.image_ids, first.units, strict=True)):
        cells = [_cell(model[index, column]) for column in range(len(names)) for model in values.values()]
        writer.writerow([image_id, unit, *cells])
    return text.getvalue()


def save(compared: ComparisonSet, folder: Path, *, origin: Mapping[str, Any] | None = None) -> tuple[Path, Path]:
    """Write comparison.json and per_photo.csv into a folder, replacing what an earlier comparison left there."""
    summary, table = folder / SUMMARY_NAME, folder / TABLE_NAME
    files.write_text(summary, to_json(compared, origin=origin) + "\n")
    files.write_text(table, to_csv(compared))
    return summary, table


def _model(side: Side) -> dict[str, Any]:
    runs: list[dict[str, Any]] = [{"name": name} for name in side.run_names]
    for run, score_thresh, origin in zip(runs, side.score_thresholds, side.origins, strict=False):
        run |= {"score_thresh": score_thresh, **origin}
    return {"name": side.name, "runs": runs}


def _comparison(letter: str, member: Comparison) -> dict[str, Any]:
    return {
        "differences": {one.name: _difference(one, letter) for one in (*member.differences, *member.set_differences)},
        "seeds": {
            name: {spread.name: _spread(spread) for spread in spreads}
            for name, spreads in (("A", member.spreads_a), (letter, member.spreads_b))
        },
        "f1_counts_from": {"A": thresholds(member.a), letter: thresholds(member.b)},
        "caveats": list(caveats(member, letter)),
    }


def _difference(one: PairedDifference, letter: str) -> dict[str, Any]:
    return {
        "A": _null_if_nan(one.a),
        letter: _null_if_nan(one.b),
        "difference": _null_if_nan(one.difference),
        "interval": None if one.interval is None else [one.interval.low, one.interval.high],
        "p_value": one.p_value,
        "p_holm": one.p_adjusted,
        "shown_better": {"a": "A", "b": letter, None: None}[one.winner],
        "higher_is_better": FIGURES[one.name].higher_is_better,
        "photographs": one.num_photographs,
        "units": one.num_units,
        "better_in": {"A": one.better_a, letter: one.better_b, "ties": one.ties},
    }


def _spread(spread: SeedSpread) -> dict[str, Any]:
    return {
        "runs": [_null_if_nan(value) for value in spread.runs],
        "mean": _null_if_nan(spread.mean),
        "deviation": None if spread.deviation is None else _null_if_nan(spread.deviation),
        "min": _null_if_nan(min(spread.runs)),
        "max": _null_if_nan(max(spread.runs)),
    }


def _null_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(value: float) -> object:
    return "" if math.isnan(value) else round(float(value), 6)
