"""`dermask evaluate`: a model, or saved predictions of any program, against labels."""

from __future__ import annotations

import itertools
import json
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
    TidyOption,
    UsageMistake,
    check_metadata,
    note,
    parse_tidy,
    read_table,
    result,
)
from dermask.cli.judging import (
    Asked,
    JudgingEngineOption,
    NoLookOption,
    ResamplesOption,
    ScaleOption,
    ScoreThreshOption,
    SeedOption,
    ThresholdFromOption,
    check_no_validation,
    judge,
    note_same_photographs,
    open_part,
    read_threshold,
)

if TYPE_CHECKING:
    from dermask.cli.judged import Judged
    from dermask.data.dataset import Dataset
    from dermask.evaluation.judge import Verdict
    from dermask.evaluation.record import Evaluation


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="A run's folder, a checkpoint, an .onnx file, `bundled`, COCO results as JSON, or a folder of masks; "
            "several are runs of one recipe."
        ),
    ],
    data: DataOption,
    images: ImagesOption = None,
    part: PartOption = None,
    split: SplitOption = None,
    fold: FoldOption = None,
    skip_bad: SkipBadOption = False,
    rule: RuleOption = "primary",
    tidy: TidyOption = None,
    score_thresh: ScoreThreshOption = None,
    threshold_from: ThresholdFromOption = None,
    metadata: MetadataOption = None,
    no_metadata: NoMetadataOption = False,
    mm_per_pixel: ScaleOption = None,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Also figures over all pixels at once, which compare with nothing.")
    ] = False,
    no_look: NoLookOption = False,
    resamples: ResamplesOption = None,
    seed: SeedOption = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for evaluation.json, per_photo.csv and report.html, replaced there; of several models "
            "those of each lie in FOLDER/NAME, beside spread.json.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    engine: JudgingEngineOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Judge a model, or saved predictions of any program, on labelled photographs.

    \b
      dermask evaluate runs/first --data labels.json --images photos/
      dermask evaluate runs/isic --data isic2017 --part Test_v2 -o runs/isic/test
      dermask evaluate bundled --data labels.json --split split.json --part test
      dermask evaluate their_masks/ --data isic2017 --part Test_v2 -o judged
      dermask evaluate runs/seed0 runs/seed1 runs/seed2 --data labels.json

    Prints the ISIC challenge's figures, borders' distances, COCO's average precision, lesions missed, calibration and
    kinds of photographs, with 95 % intervals, at the photographs' own size. Saved predictions need no torch. Research
    use only.
    """
    from dermask.cli.figures_text import figures_table, spread_table
    from dermask.cli.judged import open_judged
    from dermask.evaluation.evaluate import conclude
    from dermask.evaluation.scale import read_scale
    from dermask.files import make_folder

    if score_thresh is not None and threshold_from is not None:
        raise UsageMistake("--score-thresh and --threshold-from both choose a threshold; give one")
    tidying = parse_tidy(tidy)
    check_metadata(metadata, no_metadata)
    dataset = open_part(data, images, part, split, fold, skip_bad)
    if output is not None:
        make_folder(output)  # a wrong name is told before the work, not after it
    judged = [
        one
        for model in models
        for one in open_judged(
            model,
            dataset,
            device=device,
            batch_size=batch_size,
            threads=threads,
            engine=engine,
            tidying=tidying,
            lazily=len(models) > 1,
        )
    ]
    if tidying and (saved := [one.name for one in judged if one.kind != "model"]):
        raise UsageMistake(f"--tidy is about what a model finds; {saved[0]} was saved before and is judged as it is")
    names = _distinct([one.name for one in judged])
    folders = [output if len(judged) == 1 else output / name for name in names] if output is not None else []
    check_no_validation(folders)
    asked = Asked(
        rule=rule,
        threshold=read_threshold(score_thresh, threshold_from),
        mm_per_pixel={} if mm_per_pixel is None else read_scale(mm_per_pixel, dataset),
        metadata=read_table(dataset, metadata, no_metadata)[1],  # last, for it speaks: a mistake is one line
        pooled=pooled,
        look=not no_look,
        resamples=resamples,
        seed=seed,
    )
    note_same_photographs(threshold_from, dataset)
    evaluations: list[Evaluation] = []
    records: list[dict[str, Any]] = []
    for index, (name, one) in enumerate(zip(names, judged, strict=True)):
        terms = asked.terms(one.path)
        verdicts = judge(one, dataset, terms)
        evaluation = conclude(verdicts, dataset, terms)
        evaluations.append(evaluation)
        records.append(_record(one, evaluation))
        if not as_json:
            result(("" if len(judged) == 1 else f"\n{name}\n") + figures_table(evaluation))
        if folders:
            _write(folders[index], one, evaluation, verdicts, dataset)
    if len(judged) == 1:
        if as_json:
            result(json.dumps(records[0], indent=2, ensure_ascii=False))
        return
    spread = _spread(evaluations)
    if as_json:
        result(json.dumps({"runs": records, "spread": spread}, indent=2, ensure_ascii=False))
    else:
        result("\n" + spread_table(evaluations, names))
    if output is not None:
        _write_spread(output / "spread.json", names, spread)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered until each is one of its own, also where folders know no capital letters."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        chosen = next(candidate for candidate in candidates if candidate.casefold() not in taken)
        taken.add(chosen.casefold())
        found.append(chosen)
    return found


def _spread(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """Each figure of several runs: every run's, mean, sample standard deviation, least and largest.

    A run that does not have a figure has null for it, and then so have all but `runs`.
    """
    from dermask.evaluation.comparison import SeedSpread

    values = [evaluation.by_name() for evaluation in evaluations]
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for one in values for name in one):
        spread = SeedSpread(name, tuple(float(one.get(name, math.nan)) for one in values))
        runs = [value if math.isfinite(value) else None for value in spread.runs]
        numbers = (spread.mean, spread.deviation, min(spread.runs), max(spread.runs))
        told = dict(zip(("mean", "deviation", "least", "largest"), numbers, strict=True))
        found[name] = {"runs": runs, **(dict.fromkeys(told) if None in runs else told)}
    return found


def _write_spread(path: Path, names: Sequence[str], spread: Mapping[str, Any]) -> None:
    from dermask import files
    from dermask.cli.run_report import command_line

    record = {"origin": {"command": command_line()}, "runs": list(names), "spread": spread}
    files.write_text(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    note(f"wrote {path}")


def _record(judged: Judged, evaluation: Evaluation) -> dict[str, Any]:
    from dermask.evaluation.evaluation_file import to_record

    return to_record(evaluation, origin=judged.origin())


def _write(folder: Path, judged: Judged, evaluation: Evaluation, verdicts: Sequence[Verdict], dataset: Dataset) -> None:
    from dermask.cli.run_report import command_line, write_evaluation
    from dermask.evaluation.evaluation_file import save
    from dermask.files import make_folder

    make_folder(folder)
    origin = {"command": command_line(), **judged.origin()}
    written = save(evaluation, folder, origin=origin)
    page = write_evaluation(folder, evaluation, dataset, [verdict.prediction for verdict in verdicts], origin=origin)
    for path in (*written, page):
        note(f"wrote {path}")
