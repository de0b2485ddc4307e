"""`dermask evaluate`: a model, or saved predictions, against labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import (
    BatchSizeOption,
    DataOption,
    DeviceName,
    DeviceOption,
    ImagesOption,
    JsonOption,
    PartOption,
    RuleOption,
    SkipBadOption,
    ThreadsOption,
    given,
    note,
    open_data,
    plural,
    result,
    set_threads,
)

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.evaluation.evaluate import Evaluation
    from dermask.evaluation.photo_masks import PredictedMasks


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint, or COCO results as JSON.")],
    data: DataOption,
    images: ImagesOption = None,
    part: PartOption = None,
    skip_bad: SkipBadOption = False,
    rule: RuleOption = "primary",
    score_thresh: Annotated[
        float | None,
        typer.Option(help="From which score a lesion enters the union. 0.5.", min=0, max=1, show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for evaluation.json, per_photo.csv and report.html, replaced there.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Judge a model, or saved predictions, on labelled photographs.

    \b
      dermask evaluate runs/first --data labels.json --images photos/
      dermask evaluate runs/isic --data isic2017 --part Test_v2 -o runs/isic/test
      dermask evaluate outlined/coco_results.json --data labels.json

    Prints the ISIC challenge's figures (mean over photographs) and COCO's box and mask average precision, at the
    photographs' own size. Saved predictions need no torch. Research use only.
    """
    from dermask.cli.run_report import write_report
    from dermask.evaluation.evaluate import evaluate as compute
    from dermask.files import make_folder

    dataset = open_data(data, images=images, part=part, skip_bad=skip_bad)
    if output is not None:
        make_folder(output)  # a wrong name is told before the work, not after it
    predictions = _find_predictions(model, dataset, device=device, batch_size=batch_size, threads=threads)
    evaluation = compute(predictions, dataset, rule=rule, **given(score_thresh=score_thresh))  # type: ignore[arg-type]
    result(evaluation.to_json() if as_json else figures_table(evaluation))
    if output is not None:
        for path in (*evaluation.save(output), write_report(output, evaluation, dataset, predictions)):
            if path is not None:
                note(f"wrote {path}")


def figures_table(evaluation: Evaluation) -> str:
    """The figures as aligned text, with the rules they were made by."""
    counts, figures, coco = evaluation.counts, evaluation.figures, evaluation.coco
    lines = [
        f"{evaluation.dataset_name or 'data set'}: {plural(counts.photographs, 'photograph')}, "
        f"{plural(counts.lesions, 'lesion')}; nothing found in {counts.without_detection:,}",
        "",
        f"ISIC challenge figures, mean over photographs; mask of a photograph: {_describe_rule(evaluation)}",
        *(f"  {name.replace('_', ' '):<20} {getattr(figures, name):.4f}" for name in figures.__dataclass_fields__),
        "",
        f"COCO average precision, at most {coco.max_detections} detections per photograph",
        "                           AP    AP50    AP75      AR",
        *(
            f"  {name:<20}  {values.ap:6.4f}  {values.ap50:6.4f}  {values.ap75:6.4f}  {values.ar:6.4f}"
            for name, values in (("box", coco.box), ("mask", coco.mask))
        ),
    ]
    if len(evaluation.class_names) > 1:
        lines += ["", "mask AP by class"]
        by_class = zip(evaluation.class_names, coco.mask.ap_by_label, strict=True)
        lines += [f"  {name:<20}  {value:6.4f}" for name, value in by_class]
    return "\n".join(lines)


def _describe_rule(evaluation: Evaluation) -> str:
    if evaluation.rule == "primary":
        return "its best-scoring lesion (primary)"
    return f"all lesions that score at least {evaluation.score_thresh:g} (union)"


def _find_predictions(
    model: Path, dataset: Dataset, *, device: DeviceName, batch_size: int | None, threads: int | None
) -> list[PredictedMasks]:
    if model.suffix.lower() == ".json":
        from dermask.evaluation.results_file import read_coco_results

        return read_coco_results(model, dataset)
    from dermask.cli.run_report import find_lesions
    from dermask.inference.detector import load

    detector = load(model, device=device, batch_size=batch_size)
    set_threads(threads)
    return find_lesions(detector, dataset)
