"""`dermask compare`: models against a reference, on the same labelled photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dermask.cli.common import (
    BatchSizeOption,
    DataOption,
    DeviceOption,
    FoldOption,
    ImagesOption,
    JsonOption,
    MetadataOption,
    NoMetadataOption,
    PartOption,
    RuleOption,
    SkipBadOption,
    SplitOption,
    ThreadsOption,
    UsageMistake,
    check_metadata,
    note,
    read_table,
    result,
)
from dermask.cli.judging import (
    Asked,
    JudgingEngineOption,
    ResamplesOption,
    ScoreThreshOption,
    SeedOption,
    ThresholdFromOption,
    check_no_validation,
    judge,
    note_same_photographs,
    open_part,
    read_threshold,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.cli.judged import Judged
    from dermask.data.dataset import Dataset
    from dermask.evaluation.compared_figures import JudgedRun
    from dermask.evaluation.comparison import Comparison, PairedDifference
    from dermask.evaluation.comparison_file import ComparisonSet


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="The reference A, then the models to compare to it; each as for `dermask evaluate`, a folder of runs "
            "being one model with several seeds.",
            show_default=False,
        ),
    ],
    data: DataOption,
    images: ImagesOption = None,
    part: PartOption = None,
    split: SplitOption = None,
    fold: FoldOption = None,
    skip_bad: SkipBadOption = False,
    rule: RuleOption = "primary",
    score_thresh: ScoreThreshOption = None,
    threshold_from: ThresholdFromOption = None,
    metadata: MetadataOption = None,
    no_metadata: NoMetadataOption = False,
    resamples: ResamplesOption = None,
    seed: SeedOption = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for comparison.json, per_photo.csv and report.html, replaced there.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    engine: JudgingEngineOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Compare models, or saved predictions, on the same labelled photographs.

    \b
      dermask compare runs/old runs/new --data isic2017 --part Test_v2 -o old_new
      dermask compare their_masks/ runs/new --data labels.json --images photos/
      dermask compare runs/base_seeds runs/small_seeds --data labels.json --split split.json --part test

    The first is the reference. Prints the difference of each figure with its 95 % interval, a p-value and in how many
    photographs either is better; without a claim where there are too few photographs. Research use only.
    """
    from dermask.cli.judged import open_judged
    from dermask.evaluation.comparison_file import to_json
    from dermask.files import make_folder

    check_models(models)
    if score_thresh is not None and threshold_from is not None:
        raise UsageMistake("--score-thresh and --threshold-from both choose a threshold; give one")
    check_metadata(metadata, no_metadata)
    dataset = open_part(data, images, part, split, fold, skip_bad)
    if output is not None:
        make_folder(output)  # a wrong name is told before the work, not after it
        check_no_validation([output])
    # All are looked at before the first is judged, and before anything is said: mistakes show early, in one line.
    opened = [
        open_judged(model, dataset, device=device, batch_size=batch_size, threads=threads, engine=engine, lazily=True)
        for model in models
    ]
    asked = Asked(
        rule=rule,
        threshold=read_threshold(score_thresh, threshold_from),
        mm_per_pixel={},
        metadata=read_table(dataset, metadata, no_metadata)[1],
        look=False,
        resamples=resamples,
        seed=seed,
    )
    note_same_photographs(threshold_from, dataset)
    sides = _judge_sides(models, opened, dataset, asked)
    compared = _compare(sides, dataset, asked)
    origin = _origin()
    result(to_json(compared, origin=origin) if as_json else comparison_text(compared))
    if output is not None:
        _write(output, compared, sides, dataset, origin)


def check_models(models: Sequence[Path]) -> None:
    """Check that there is something to compare, before any work is done.

    Raises:
        UsageMistake: There is one model, or more than there are letters.
    """
    from dermask.evaluation.comparison_file import MAX_MODELS

    if len(models) < 2:
        raise UsageMistake("a comparison needs two models: the reference first, then what is compared to it")
    if len(models) > MAX_MODELS:
        raise UsageMistake(f"{len(models)} models are too many for one comparison; give at most {MAX_MODELS}")


def comparison_text(compared: ComparisonSet) -> str:
    """The differences as aligned text, one block for each model but the reference."""
    sides = compared.sides
    first = compared.members[0]
    lines = [
        f"{compared.dataset_name or 'data set'}: {plural(len(first.image_ids), 'photograph')}",
        *(f"  {letter}  {side.name}{_runs_text(side.run_names)}" for letter, side in sides.items()),
    ]
    for letter, member in zip(list(sides)[1:], compared.members, strict=True):
        lines += ["", *_block(member, letter)]
    return "\n".join(lines)


def _runs_text(run_names: Sequence[str]) -> str:
    return "" if len(run_names) == 1 else f"  ({plural(len(run_names), 'run')}: {', '.join(run_names)})"


def _block(member: Comparison, letter: str) -> list[str]:
    from dermask.evaluation.comparison_file import both_thresholds, caveats

    everything = (*member.differences, *member.set_differences)
    drawn = member.resampling
    lines = [f"{letter} against A", _head(letter)]
    for one in everything:
        lines.append(_row(one, letter))
        if one.name == "detection.f1" and (scores := both_thresholds(member, letter)):
            lines.append(f"    counted from a score of: {scores}")
    if drawn.allows_claims:
        lines.append(
            f"  {drawn.level:.0%} intervals from {drawn.num_resamples:,} resamples of "
            f"{plural(drawn.num_units, drawn.unit)}; * shown at p <= 0.05 after Holm's correction"
        )
    if member.has_seeds:
        lines += ["", *_seed_rows(member, letter)]
    return lines + [f"  {caveat}" for caveat in caveats(member, letter)]


def _head(letter: str) -> str:
    counts = f"better in A, equal, {letter}"
    return f"  {'':<28} {'A':>9} {letter:>9} {letter + ' - A':>9}  {'interval':<19} {'p (Holm)':>9}  {counts}"


def _row(one: PairedDifference, letter: str) -> str:
    from dermask.evaluation.compared_figures import FIGURES

    figure = FIGURES[one.name]
    digits = 2 if figure.in_pixels else 4
    title = figure.title + (", px" if figure.in_pixels else "")
    if math.isnan(one.difference):
        return f"  {title:<28} {'-':>9} {'-':>9} {'-':>9}"
    interval = "" if one.interval is None else f"{one.interval.low:+.{digits}f} to {one.interval.high:+.{digits}f}"
    p_value = "" if one.p_adjusted is None else f"{one.p_adjusted:.4f}"
    counts = "" if figure.of_set else f"{one.better_a:,}, {one.ties:,}, {one.better_b:,}"
    mark = "" if one.winner is None else f"  * {'A' if one.winner == 'a' else letter} better"
    return (
        f"  {title:<28} {one.a:>9.{digits}f} {one.b:>9.{digits}f} {one.difference:>+9.{digits}f}  "
        f"{interval:<19} {p_value:>9}  {counts}{mark}"
    ).rstrip()


def _seed_rows(member: Comparison, letter: str) -> list[str]:
    """How far runs lie apart, for the figure that ranks models and for mask AP."""
    from dermask.evaluation.compared_figures import FIGURES

    lines = ["  each run"]
    for first, second in zip(member.spreads_a, member.spreads_b, strict=True):
        if first.name not in ("isic.jaccard", "isic.thresholded_jaccard", "coco.mask.ap"):
            continue
        for name, spread in (("A", first), (letter, second)):
            deviation = "" if spread.deviation is None else f", deviation {spread.deviation:.4f}"
            lines.append(
                f"    {FIGURES[spread.name].title + ', ' + name:<24} mean {spread.mean:.4f}{deviation}, "
                f"{min(spread.runs):.4f} to {max(spread.runs):.4f}"
            )
    return lines


def _judge_sides(
    models: Sequence[Path], opened: Sequence[Sequence[Judged]], dataset: Dataset, asked: Asked
) -> list[tuple[str, list[JudgedRun]]]:
    """Each model's name and its judged runs."""
    names = [
        runs[0].name if len(runs) == 1 else model.resolve().name for model, runs in zip(models, opened, strict=True)
    ]
    return [(name, [_judge(one, dataset, asked) for one in runs]) for name, runs in zip(names, opened, strict=True)]


def _judge(one: Judged, dataset: Dataset, asked: Asked) -> JudgedRun:
    from dermask.evaluation.compared_figures import JudgedRun

    terms = asked.terms(one.path)
    origin = {**one.origin(), "score_thresh_from": terms.threshold.origin}
    return JudgedRun(one.name, judge(one, dataset, terms), terms.threshold.score_thresh, origin)


def _compare(sides: Sequence[tuple[str, list[JudgedRun]]], dataset: Dataset, asked: Asked) -> ComparisonSet:
    from dermask.evaluation.bootstrap import NUM_RESAMPLES
    from dermask.evaluation.compared_figures import judged_side
    from dermask.evaluation.comparison import compare as compare_two
    from dermask.evaluation.comparison_file import ComparisonSet
    from dermask.evaluation.evaluate import unit_name

    reference, *others = (judged_side(name, runs) for name, runs in sides)
    rows = [verdict.row for verdict in sides[0][1][0].verdicts]
    members = tuple(
        compare_two(
            reference,
            other,
            image_ids=[row.image_id for row in rows],
            units=[row.unit for row in rows],
            unit=unit_name(dataset, asked.metadata),
            num_resamples=asked.resamples or NUM_RESAMPLES,
            seed=asked.seed,
        )
        for other in others
    )
    return ComparisonSet(members, dataset.name, dataset.fingerprint(), asked.rule)


def _origin() -> dict[str, Any]:
    from dermask.cli.run_report import command_line

    return {"command": command_line()}


def _write(
    folder: Path,
    compared: ComparisonSet,
    sides: Sequence[tuple[str, list[JudgedRun]]],
    dataset: Dataset,
    origin: Mapping[str, Any],
) -> None:
    from dermask.evaluation.comparison_file import save
    from dermask.report.comparison_page import write_comparison_page

    predictions = {
        letter: [
            verdict.prediction.merged(compared.rule, score_thresh=runs[0].score_thresh) for verdict in runs[0].verdicts
        ]
        for letter, (_, runs) in zip(compared.sides, sides, strict=True)
    }
    page = write_comparison_page(
        compared, folder / "report.html", command=origin["command"], dataset=dataset, predictions=predictions
    )
    for path in (*save(compared, folder, origin=origin), page):
        note(f"wrote {path}")
