"""The figures of a card as Markdown tables: one column for each evaluation, and one table by kinds of photographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dermask.evaluation.bootstrap import MIN_UNITS
from dermask.evaluation.evaluation_file import SUMMARY_NAME
from dermask.evaluation.traits import TRAITS
from dermask.report.card_evaluation import HIGHEST_F1, CardEvaluation, CardGroup, Ends
from dermask.report.evaluation_tables import (
    BOUNDARY_FIGURES,
    COCO_SIZES,
    DETECTION_FIGURES,
    DISTANCES,
    SUBGROUP_FIGURES,
    TOO_FEW,
)
from dermask.report.markdown import code, escape, table
from dermask.report.tables import COCO_FIGURES, ISIC_FIGURES, NOT_DEFINED
from dermask.wording import plain_path, plural

_WHOLE = ("found", "missed", "false_alarms", "photos_with_false_alarm")
TOO_SMALL = "too small for a claim"
"""The mark on a group of fewer than `MIN_UNITS`."""
SMALL_GROUPS = f"*{TOO_SMALL[0].upper()}{TOO_SMALL[1:]}*: fewer than {MIN_UNITS}, so no interval"
"""What the mark means."""


def whole_data_table(evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> str:
    """Every figure over all photographs of each evaluation, with its interval."""
    rows = []
    for name, title in _figures_of(evaluations).items():
        cells = [show(one, name) for one in evaluations]
        if any(cell != NOT_DEFINED for cell in cells):
            rows.append([title, *cells])
    if any(one.failures for one in evaluations):
        rows.append(["Photographs counted as failed", *map(_failed, evaluations)])
    return table(["figure", *_columns(evaluations, names)], rows)


def detection_table(evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> str:
    """Lesions found and missed at the score threshold, and the threshold that these photographs would choose.

    Empty where no evaluation says it.
    """
    if not any("detection.chosen.recall" in one.figures for one in evaluations):
        return ""
    point = "detection.chosen"
    rows = [
        [
            "score from which a lesion counts",
            *(_short(one.figures.get(f"{point}.score_thresh")) for one in evaluations),
        ],
        ["chosen by", *(threshold_origin(one, evaluations, names) for one in evaluations)],
    ]
    for name, (title, _) in DETECTION_FIGURES.items():
        rows.append([title, *(show(one, f"{point}.{name}", f"detection.{name}") for one in evaluations)])
    rows.append(["highest F1 on these very photographs", *(show(one, "detection.best.f1") for one in evaluations)])
    rows.append(["and its score", *(_short(one.figures.get("detection.best.score_thresh")) for one in evaluations)])
    return table(["", *_columns(evaluations, names)], rows)


def calibration_table(evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> str:
    """How far probabilities are from what comes true; empty where no evaluation says it."""
    figures = {
        "expected_calibration_error": "expected calibration error",
        "maximum_calibration_error": "largest gap",
        "brier_score": "Brier score",
    }
    rows = []
    for of, what in (("scores", "scores"), ("masks", "mask probabilities")):
        for name, title in figures.items():
            interval = f"calibration.{of}_brier" if name == "brier_score" else ""
            cells = [show(one, f"calibration.{of}.{name}", interval) for one in evaluations]
            if any(cell != NOT_DEFINED for cell in cells):
                rows.append([f"{what}: {title}", *cells])
    return table(["", *_columns(evaluations, names)], rows) if rows else ""


def subgroup_table(evaluation: CardEvaluation) -> str:
    """Figures by kind of photograph; empty where no group is large enough for a claim."""
    if all(group.is_small for group in evaluation.groups):
        return ""
    shown = [name for name in SUBGROUP_FIGURES if any(name in group.figures for group in evaluation.groups)]
    rows = []
    for group in evaluation.groups:
        cells = [_show(group.figures, group.intervals, name) for name in shown]
        rows.append([*_kind(group), f"{group.num_photographs:,}", *cells, TOO_SMALL if group.is_small else ""])
    columns = ["trait", "kind", "photographs", *(SUBGROUP_FIGURES[name] for name in shown), "remark"]
    return table(columns, rows)


def spread_points(evaluation: CardEvaluation) -> list[str]:
    """Whether kinds differ by more than chance, a sentence for each trait of which that can be asked."""
    return [
        f"**{_trait_title(spread.trait)}**: {escape(spread.describe())}"
        for spread in evaluation.spreads
        if spread.p_adjusted is not None
    ]


def weakest_group(evaluation: CardEvaluation) -> str:
    """The group with the lowest Jaccard index among those large enough for a claim, with it; empty without any."""
    name = "isic.jaccard"
    large = [group for group in evaluation.groups if not group.is_small and name in group.figures]
    if not large:
        return ""
    worst = min(large, key=lambda group: group.figures[name])
    figure = _show(worst.figures, worst.intervals, name)
    title = _trait_title(worst.trait).lower()
    return f"{figure} ({title}: {escape(worst.value)}, {plural(worst.num_photographs, 'photograph')})"


def small_groups(evaluation: CardEvaluation) -> str:
    """The groups too small for a claim, by trait; empty where there are none."""
    found: dict[str, list[str]] = {}
    for group in evaluation.groups:
        if group.is_small:
            found.setdefault(_trait_title(group.trait).lower(), []).append(escape(group.value))
    return "; ".join(f"{title}: {', '.join(values)}" for title, values in found.items())


def definitions(evaluations: Sequence[CardEvaluation]) -> list[tuple[str, str]]:
    """Title and meaning of the figures that occur."""
    known = {name for one in evaluations for name in one.figures}
    parts: tuple[tuple[str, str, Mapping[str, tuple[str, str]]], ...] = (
        ("isic.", "", ISIC_FIGURES),
        ("boundary.", "", BOUNDARY_FIGURES),
        ("coco.mask.", "Mask and box ", COCO_FIGURES),
        (
            "detection.chosen.",
            "",
            {name: DETECTION_FIGURES[name] for name in ("precision", "recall", "f1", "false_alarms")},
        ),
    )
    return [
        (heading + title, meaning)
        for prefix, heading, figures in parts
        for name, (title, meaning) in figures.items()
        if prefix + name in known
    ]


def threshold_origin(evaluation: CardEvaluation, evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> str:
    """Who chose the score threshold, by the name of the photographs where they are in the card."""
    origin = str(evaluation.rules.get("score_thresh_from", ""))
    if not origin.startswith(HIGHEST_F1):
        return {"default": "default", "given": "the command", "": NOT_DEFINED}.get(origin, escape(origin))
    chooser = Path(origin.removeprefix(HIGHEST_F1))
    for other, name in zip(evaluations, names, strict=True):
        if other.path.resolve() in (chooser.resolve(), (chooser / SUMMARY_NAME).resolve()):
            return f"highest F1 on {escape(name)}"
    return f"highest F1 in {code(plain_path(str(chooser)))}"


def show(evaluation: CardEvaluation, name: str, interval: str | None = None) -> str:
    """A figure of all photographs and its interval, ``0.782 [0.752, 0.810]``; a dash where it is not defined.

    Args:
        evaluation: Of which.
        name: The figure's.
        interval: The interval's name where it has another.
    """
    return _show(evaluation.figures, evaluation.intervals, name, interval)


def _show(figures: Mapping[str, float], intervals: Mapping[str, Ends], name: str, interval: str | None = None) -> str:
    value = figures.get(name)
    if value is None:
        return NOT_DEFINED
    last = name.rpartition(".")[2]
    if last in _WHOLE:
        return f"{value:,.0f}"
    digits = 2 if last in DISTANCES else 3
    ends = intervals.get(name if interval is None else interval)
    text = f"{value:.{digits}f}" + _basis(figures, name)
    return text if ends is None else f"{text} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def _basis(figures: Mapping[str, float], name: str) -> str:
    """`` (1: too few for a claim)``, on how many lesions a figure of one size rests; empty for others."""
    before, _, size = name.rpartition("_")
    count = figures.get(f"{before.rpartition('.')[0]}.num_{size}") if size in COCO_SIZES else None
    if count is None:
        return ""
    return f" ({count:,.0f}: {TOO_FEW})" if count < MIN_UNITS else f" ({count:,.0f})"


def _figures_of(evaluations: Sequence[CardEvaluation]) -> dict[str, str]:
    """Title of each figure of a whole data set by its name, in the order they are shown."""
    found = {f"isic.{name}": title for name, (title, _) in ISIC_FIGURES.items()}
    for name, (title, _) in BOUNDARY_FIGURES.items():
        found[f"boundary.{name}"] = f"{title}, pixels" if name in DISTANCES else title
    for kind in ("mask", "box"):
        found |= {f"coco.{kind}.{name}": f"{kind.capitalize()} {title}" for name, (title, _) in COCO_FIGURES.items()}
    found |= {f"coco.mask.ap_{size}": f"Mask AP, {title} (how many)" for size, (title, _) in COCO_SIZES.items()}
    classes = dict.fromkeys(name for one in evaluations for name in one.class_names)
    if len(classes) > 1:
        found |= {f"coco.mask.ap_by_class.{name}": f"Mask AP, {escape(name)}" for name in classes}
    return found


def _columns(evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> Iterator[str]:
    for one, name in zip(evaluations, names, strict=True):
        yield f"{escape(name)}, {plural(one.num_photographs, 'photograph')}"


def _failed(evaluation: CardEvaluation) -> str:
    failures = evaluation.failures
    return NOT_DEFINED if failures is None else f"{failures.photographs:,} of {evaluation.num_photographs:,}"


def _short(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{value:g}"


def _kind(group: CardGroup) -> tuple[str, str]:
    return _trait_title(group.trait), escape(group.value)


def _trait_title(name: str) -> str:
    return TRAITS[name].title if name in TRAITS else escape(name.replace("_", " "))
