"""Tables of docs/evaluation_isic2017.md, from the files that `dermask evaluate -o` writes.

    uv run python tools/evaluation_tables.py judged/test judged/native

The first table has a column for each evaluation; the second, kinds of photographs, is of the first evaluation alone. In
brackets 95 % intervals; a kind without one has too few photographs for a claim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dermask.evaluation.traits import TRAITS

_HEADLINES = (
    ("Jaccard index", "isic.jaccard", 3),
    ("thresholded Jaccard", "isic.thresholded_jaccard", 3),
    ("Dice", "isic.dice", 3),
    ("sensitivity", "isic.sensitivity", 3),
    ("specificity", "isic.specificity", 3),
    ("boundary IoU", "boundary.boundary_iou", 3),
    ("average distance of borders, pixels", "boundary.average_distance", 1),
    ("boundary F at 1 % of the diagonal", "boundary.boundary_f_001", 3),
    ("mask AP", "coco.mask.ap", 3),
    ("mask AP50", "coco.mask.ap50", 3),
    ("lesions found at the validation's threshold", "detection.recall", 3),
    ("false alarms per photograph there", "detection.false_alarms_per_photo", 3),
    ("Brier score of scores", "calibration.scores_brier", 3),
)
_OF_KINDS = ("isic.jaccard", "isic.thresholded_jaccard", "boundary.boundary_iou")
_PLACES = {"boundary": ("boundary", "figures"), "detection": ("detection", "chosen")}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="+", help="folders with evaluation.json")
    options = parser.parse_args()
    read = [json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) for folder in options.evaluations]
    print("\n".join(headline_table(read)))
    print()
    print("\n".join(kinds_table(read[0])))


def headline_table(evaluations: list[dict[str, Any]]) -> Iterator[str]:
    """One row for each figure, one column for each evaluation."""
    heads = [f"{one['dataset']['name']}, {one['dataset']['photographs']} photographs" for one in evaluations]
    yield f"| | {' | '.join(heads)} |"
    yield "| --- |" + " --- |" * len(evaluations)
    for title, name, digits in _HEADLINES:
        told = [show(figure(one, name), one["intervals"].get(name), digits) for one in evaluations]
        yield f"| {title} | {' | '.join(told)} |"


def figure(evaluation: Mapping[str, Any], name: str) -> float:
    """The value of a dotted name, as the intervals have it."""
    part, _, rest = name.partition(".")
    found: Any = evaluation
    if part == "calibration":
        kind, _, last = rest.partition("_")
        return float(found[part][kind][f"{last}_score"])
    for step in (*_PLACES.get(part, (part,)), *rest.split(".")):
        found = found[step]
    return float(found)


def kinds_table(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Figures of each kind of photograph, and how likely chance makes such differences."""
    yield "| kind | | photographs | Jaccard | thresholded Jaccard | boundary IoU |"
    yield "| --- | --- | --- | --- | --- | --- |"
    before = None
    for group in evaluation["subgroups"]:
        trait = group["trait"]
        told = [show(group["figures"][name], group["intervals"].get(name), 3) for name in _OF_KINDS]
        title = TRAITS[trait].title.lower() if trait != before else ""
        value = group["value"].replace("_", " ")
        yield f"| {title} | {value} | {group['num_photographs']} | {' | '.join(told)} |"
        before = trait
    chances = [
        f"{TRAITS[spread['trait']].title.lower()} {spread['p_adjusted']:.3g}"
        for spread in evaluation["spreads"]
        if spread["p_adjusted"] is not None
    ]
    yield f"\nChance of such differences in the Jaccard index (permutation, Holm-corrected): {', '.join(chances)}"


def show(value: float, interval: list[float] | None, digits: int) -> str:
    """`0.782 [0.758, 0.804]`."""
    told = f"{value:.{digits}f}"
    return told if interval is None else f"{told} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


if __name__ == "__main__":
    main()
