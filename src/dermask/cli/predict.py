"""`dermask predict`: photographs in, a folder of results out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import (
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    RuleOption,
    ThreadsOption,
    TidyOption,
    UsageMistake,
    counting,
    given,
    note,
    parse_names,
    parse_tidy,
    result,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.inference.outputs import Kind
    from dermask.inference.predict import PredictSummary


def predict(
    photos: Annotated[
        list[str],
        typer.Argument(help="Photographs, folders, patterns, or - for stdin: a photograph, or a path per line."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of results.", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A run's folder, a checkpoint or an .onnx file; by default the model that comes along.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[str, typer.Option(help="What to write, from overlay,mask,coco,csv.")] = "overlay,mask,coco,csv",
    score_thresh: Annotated[
        float | None,
        typer.Option(
            help="Lesions below this score are left out, except from COCO results. 0.5.",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None,
    rule: RuleOption = "primary",
    tidy: TidyOption = None,
    overlay_side: Annotated[
        int | None, typer.Option(help="Longest side of an overlay, pixels. 2048.", min=1, show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove earlier results in --output first.")] = False,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Outline the lesions in photographs.

    \b
      dermask predict photo.jpg -o outlined
      dermask predict photos/ more/*.png --model runs/first -o outlined
      find . -name '*.jpg' | dermask predict - -o outlined

    The folder gets overlays/ID_overlay.png to look at, masks/ID_segmentation.png (0 or 255, the photograph's size, as
    in the ISIC challenges), coco_results.json and lesions.csv. Run it again and it goes on where it stopped; results of
    another model are never overwritten unasked. Unreadable photographs are listed and skipped, and the exit status is
    then 1. Research use only.
    """
    from dermask.inference.detector import find_model, load, model_fingerprint
    from dermask.inference.photographs import collect_photographs
    from dermask.inference.predict import PredictOptions, predict_photographs

    options = PredictOptions(
        save=parse_kinds(save),
        rule=rule,
        tidy=parse_tidy(tidy),
        **given(score_thresh=score_thresh, overlay_side=overlay_side, batch_size=batch_size),  # type: ignore[arg-type]
    )
    photographs = collect_photographs(photos, output=output, stdin=_read_stdin() if "-" in photos else None)
    checkpoint = find_model(model)
    detector = load(
        checkpoint,
        device=device,
        batch_size=batch_size,
        threads=threads,
        engine=engine,
        num_photographs=len(photographs),
    )
    with counting("predict", "photographs", len(photographs)) as show_progress:
        summary = predict_photographs(
            detector,
            photographs,
            output,
            options,
            model_id=model_fingerprint(checkpoint),
            overwrite=overwrite,
            on_photo=show_progress,
        )
    for line in summary.failures:
        note(f"skipped: {line}")
    note(_describe(summary, output))
    result(str(output))
    if summary.failures:
        raise typer.Exit(1)


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """`overlay,csv` as kinds of results.

    Raises:
        UsageMistake: One is not known, or there is none.
    """
    from dermask.inference.outputs import KINDS

    names = parse_names("--save", text, KINDS)
    return tuple(kind for kind in KINDS if kind in names)


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageMistake("- reads a photograph or a list of paths from stdin, but nothing is piped in")
    data = sys.stdin.buffer.read()
    if not data.strip():
        raise UsageMistake("- reads a photograph or a list of paths from stdin, which was empty")
    return data


def _describe(summary: PredictSummary, output: Path) -> str:
    parts = [f"{plural(summary.done, 'photograph')} outlined, {plural(summary.lesions, 'lesion')} found"]
    if summary.skipped:
        parts.append(f"{summary.skipped:,} had results already and were left as they are")
    if summary.failures:
        parts.append(f"{len(summary.failures):,} could not be read")
    return f"{'; '.join(parts)}: {output}"
