"""A model card: what a model is, what it was trained and judged on, how well it does, and what it must not be used for.

The headings are those of Mitchell et al. 2019, arXiv:1810.03993, as model hubs use them. No number is typed: figures
come from evaluations, facts from the model's file and its run, and only words from people. Where only people can know
something and have not said it, the card says so. The text is templates/model_card.md.j2.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2

from dermask import __version__
from dermask.evaluation.bootstrap import MIN_UNITS, bond_of
from dermask.evaluation.traits import TRAITS
from dermask.report import card_figures, card_training
from dermask.report.card_evaluation import CardEvaluation, distinct_names
from dermask.report.card_model import CardModel, check_same_model
from dermask.report.card_words import CardWords
from dermask.report.markdown import code, escape, plain_command, table
from dermask.wording import plural

NOT_STATED = "*not stated*"
"""What stands where only people can know, and have not said."""
HEADINGS = (
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Training procedure",
    "Quantitative analyses",
    "Uncertainty",
    "Limits and risks",
    "Ethical considerations",
    "How to reproduce",
    "Citation and licence",
)
"""The sections of every card, in order."""

_ROLES = {"train": "the model was trained on them", "val": "they chose the epoch"}
_ROLE_LIMITS = {
    "train": "was trained on: its figures say how well it is remembered, not how well other photographs are outlined",
    "val": "chose the epoch, so its figures flatter a little",
}


def write_model_card(
    model: CardModel,
    evaluations: Sequence[CardEvaluation] = (),
    *,
    words: CardWords | None = None,
    command: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    Args:
        model: What it is about.
        evaluations: Of this model, in the order they are shown; without any the card says that it was not judged.
        words: What only people know.
        command: The words of the command that writes the card, to be told under How to reproduce.

    Raises:
        InputError: An evaluation is of another model.
    """
    remarks = [check_same_model(model, evaluation) for evaluation in evaluations]
    words = words or CardWords()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dermask.report"),
        autoescape=False,  # Markdown: cells and names are escaped where they are made
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    text = environment.get_template("model_card.md.j2").render(_context(model, evaluations, remarks, words, command))
    return _without_double_blanks(text)


def _context(
    model: CardModel,
    evaluations: Sequence[CardEvaluation],
    remarks: Sequence[str],
    words: CardWords,
    command: Sequence[str],
) -> dict[str, Any]:
    names = distinct_names(evaluations)
    curve = card_training.curve_rows(model)
    return {
        "not_stated": NOT_STATED,
        "words": words,
        "name": words.text("model.name") or escape(model.name),
        "version": __version__,
        "licence": _licence(model, words),
        "own_run": model.run_dir is not None,
        "min_units": MIN_UNITS,
        "details": table(["", ""], _details(model, words)),
        "evaluations": [
            _describe(one, name, remark, model) for one, name, remark in zip(evaluations, names, remarks, strict=True)
        ],
        "evaluation_data": _evaluation_data(evaluations, names, model),
        "training_data": table(["", ""], card_training.data_rows(model, evaluations)),
        "has_training_hash": bool(model.fingerprint("train")),
        "procedure": table(["", ""], card_training.procedure_rows(model)),
        "curve": table(*curve) if curve[1] else "",
        "definitions": card_figures.definitions(evaluations),
        "rules": _rules(evaluations, names),
        "whole_data": card_figures.whole_data_table(evaluations, names) if evaluations else "",
        "detection": card_figures.detection_table(evaluations, names),
        "calibration": card_figures.calibration_table(evaluations, names),
        "traits": _traits(evaluations),
        "unknown_traits": [trait.title for name, trait in TRAITS.items() if name not in _known_traits(evaluations)],
        "small_groups": card_figures.SMALL_GROUPS,
        "limits": [*_limits(model, evaluations, names)],
        "training_sources": bool(model.sources),
        "training_command": card_training.training_command(model),
        "export_command": card_training.export_command(model),
        "own_command": plain_command(command) if command else "",
    }


def _details(model: CardModel, words: CardWords) -> Iterator[tuple[str, str]]:
    yield "developed by", words.text("model.authors") or NOT_STATED
    if made := words.text("model.date") or str(model.environment.get("started", ""))[:10]:
        yield "made", made
    yield from card_training.network_rows(model)
    yield "licence", _licence(model, words)
    yield "contact", words.text("model.contact") or NOT_STATED
    if more := words.text("model.more_information"):
        yield "more", more


def _licence(model: CardModel, words: CardWords) -> str:
    """That of the file where it names one: the words of a card cannot change it."""
    in_file = model.metadata.get("licence")
    return escape(in_file) if in_file else words.text("model.licence") or NOT_STATED


def _describe(evaluation: CardEvaluation, name: str, remark: str, model: CardModel) -> dict[str, Any]:
    groups = [group for group in evaluation.groups if not group.is_small]
    return {
        "name": escape(name),
        "remark": remark,
        "role": _ROLES.get(model.role_of(evaluation), ""),
        "fingerprint": code(evaluation.fingerprint),
        "photographs": plural(evaluation.num_photographs, "photograph"),
        "why_no_intervals": evaluation.why_no_intervals(),
        "intervals": _describe_intervals(evaluation) if evaluation.intervals else "",
        "num_groups": len(evaluation.groups),
        "has_large_groups": bool(groups),
        "subgroups": card_figures.subgroup_table(evaluation) if groups else "",
        "spreads": card_figures.spread_points(evaluation),
        "command": _command_of(evaluation),
        "version": escape(evaluation.version),
    }


def _describe_intervals(evaluation: CardEvaluation) -> str:
    how = evaluation.resampling
    unit = str(how.get("unit", "photograph"))
    together = f", all photographs of one {bond} together" if (bond := bond_of(unit)) else ""
    return (
        f"{evaluation.level * 100:g} % intervals, the middle of {how.get('num_resamples', 0):,} bootstrap samples of "
        f"{plural(int(how.get('num_units', 0)), unit)}{together} (seed {how.get('seed', 0)})"
    )


def _command_of(evaluation: CardEvaluation) -> str:
    """The command that judged, without places of one machine; empty where the file does not tell."""
    try:
        return plain_command(shlex.split(evaluation.origin.get("command", "")))
    except ValueError:  # not a shell's command
        return ""


def _evaluation_data(evaluations: Sequence[CardEvaluation], names: Sequence[str], model: CardModel) -> str:
    rows = []
    for one, name in zip(evaluations, names, strict=True):
        counts = one.counts
        rows.append(
            [
                escape(name),
                f"{one.num_photographs:,}",
                f"{counts.get('lesions', 0):,}",
                f"{counts.get('without_lesion', 0):,}",
                f"{counts.get('crowd_regions', 0):,}",
                _ROLES.get(model.role_of(one), "other photographs" if model.fingerprint("train") else NOT_STATED),
            ]
        )
    columns = ["name", "photographs", "labelled lesions", "photographs without one", "ignored regions", "in training"]
    return table(columns, rows) if rows else ""


def _rules(evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> list[str]:
    """How each evaluation was made, once for those that were made alike."""
    told: dict[str, list[str]] = {}
    for one, name in zip(evaluations, names, strict=True):
        told.setdefault(_rule(one), []).append(escape(name))
    if len(told) == 1:
        return list(told)
    return [f"{', '.join(of)}: {rule}" for rule, of in told.items()]


def _rule(evaluation: CardEvaluation) -> str:
    rules = evaluation.rules
    if rules.get("mask_of_a_photograph") == "union":
        which = f"all its detections with a score of at least {rules.get('score_thresh', 0):g}, joined"
    else:
        which = "its best-scoring detection"
    cut = f", cut at a pixel probability of {rules['mask_thresh']:g}" if "mask_thresh" in rules else ""
    failed = (
        f" A photograph with a Jaccard index below {rules['jaccard_thresh']:g} counts as failed."
        if "jaccard_thresh" in rules
        else ""
    )
    overlap = evaluation.figures.get("detection.chosen.iou_thresh")
    found = "" if overlap is None else f" A lesion counts as found from a mask overlap (IoU) of {overlap:g}."
    return f"The mask of a photograph is {which}{cut}.{failed}{found}"


def _known_traits(evaluations: Sequence[CardEvaluation]) -> set[str]:
    return {group.trait for one in evaluations for group in one.groups}


def _traits(evaluations: Sequence[CardEvaluation]) -> list[tuple[str, str]]:
    known = _known_traits(evaluations)
    return [
        (trait.title, " ".join(part for part in (trait.meaning, trait.note) if part))
        for name, trait in TRAITS.items()
        if name in known
    ]


def _limits(model: CardModel, evaluations: Sequence[CardEvaluation], names: Sequence[str]) -> Iterator[str]:
    """What follows from the files alone."""
    for one, name in zip(evaluations, names, strict=True):
        shown = escape(name)
        if limit := _ROLE_LIMITS.get(model.role_of(one)):
            yield f"{shown} {limit}."
        if one.resampling and one.resampling.get("num_units", MIN_UNITS) < MIN_UNITS:
            yield f"{shown}: {one.why_no_intervals()}. Read its figures as examples."
        if one.failures is not None:
            yield (
                f"{shown}: {one.failures.photographs:,} of {plural(one.num_photographs, 'photograph')} have a Jaccard "
                f"index below {one.failures.jaccard_thresh:g}."
            )
        if weakest := card_figures.weakest_group(one):
            yield f"{shown}: lowest Jaccard index of a kind with enough photographs: {weakest}."
        if (few := card_figures.small_groups(one)) and any(not group.is_small for group in one.groups):
            yield f"{shown} has too few photographs of these kinds for a claim: {few}."
    if evaluations and not any(one.counts.get("without_lesion") for one in evaluations):
        yield "Every photograph has a lesion: false alarms on skin without one were not measured."
    if evaluations and all(_one_lesion_each(one) for one in evaluations):
        yield "At most one lesion is labelled in each photograph: how well several are told apart was not measured."
    unknown = [trait.title.lower() for name, trait in TRAITS.items() if name not in _known_traits(evaluations)]
    if evaluations and unknown:
        yield f"How the figures depend on these is not known: {', '.join(unknown)}."
    if not evaluations:
        yield "It was not evaluated: nothing is known of how well it outlines."


def _one_lesion_each(evaluation: CardEvaluation) -> bool:
    counts = evaluation.counts
    return counts.get("lesions", 0) == evaluation.num_photographs - counts.get("without_lesion", 0)


def _without_double_blanks(text: str) -> str:
    """At most one empty line in a row, none at the ends, no blanks at line ends: what a template's blocks leave."""
    lines: list[str] = []
    for line in (line.rstrip() for line in text.strip().splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines) + "\n"
