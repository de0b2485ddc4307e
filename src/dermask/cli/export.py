"""`dermask export`: a trained model as one file that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import (
    ImagesOption,
    PartOption,
    UsageMistake,
    counting,
    note,
    refuse_existing,
    require_training,
    result,
)
from dermask.cli.export_int8 import MAX_LOSS, Int8Request, export_int8, float_model

if TYPE_CHECKING:
    from dermask.inference.detector import Photograph

# Drawn scenes to compare on where no photographs are given, and their sizes: landscape, portrait, square, tiny.
_SCENE_SIZES = ((240, 320), (320, 240), (256, 256), (767, 1022), (48, 64))


def export(
    model: Annotated[
        Path, typer.Argument(help="A run's folder or a checkpoint; with --int8 also an .onnx file, or bundled.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.", show_default=False)],
    check: Annotated[
        list[str] | None,
        typer.Option(help="Photographs or folders to compare on; by default drawn ones.", show_default=False),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights as float16: half the size.")] = False,
    licence: Annotated[
        str | None, typer.Option(help="The weights' licence, kept in the file.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    # 8 bits
    int8: Annotated[bool, typer.Option("--int8", help="Compute in 8 bits; reports what that costs.")] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(help="Photographs or folders that set the ranges of --int8; 100 are enough.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labels to judge --int8 by, not those of a test part.", show_default=False)
    ] = None,
    images: ImagesOption = None,
    part: PartOption = None,
    max_loss: Annotated[
        float, typer.Option(help="Largest loss of Jaccard index (or of mask IoU, without --data) to accept.", min=0)
    ] = MAX_LOSS,
    seven_bits: Annotated[
        bool, typer.Option("--seven-bits", help="Weights of 7 bits, for processors without VNNI.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write the file whatever it costs.")] = False,
) -> None:
    """Write a trained model as one ONNX file.

    \b
      dermask export runs/first -o first.onnx
      dermask export runs/first -o first.onnx --half --check photos/
      dermask predict photos/ --model first.onnx -o outlined
      dermask export bundled -o int8.onnx --int8 --calibrate photos/ --data labels.json

    The file holds weights, class names, preprocessing, thresholds and version, and runs wherever ONNX Runtime does; it
    takes any number of photographs of any shape. Before it is written, it must find on photographs, drawn or given by
    --check, what the model itself finds. Takes minutes. Research use only.

    --int8 rounds weights and activations to 8 bits: about half the size of --half, and faster. It runs both files on
    labelled photographs (--data), or on those of --calibrate, says what the smaller one costs, and writes nothing that
    costs more than --max-loss.
    """
    if output.suffix.lower() != ".onnx":
        raise UsageMistake(f"-o {output}: an exported model's name ends in .onnx")
    if not int8 and any((calibrate, data, images, part, seven_bits, force)):
        raise UsageMistake("--calibrate, --data, --images, --part, --seven-bits and --force go with --int8")
    if int8 and half:
        raise UsageMistake("--half and --int8 say different things of the weights; give one")
    if int8 and not calibrate:
        raise UsageMistake("--int8 needs --calibrate: photographs such as the model will see, about 100")
    refuse_existing(output, overwrite)
    require_training("dermask export")
    if int8:
        request = Int8Request(model, output, calibrate or [], data, images, part, max_loss, seven_bits, force, licence)
        with float_model(model, lambda file: _export_float(model, file, check, False, licence, True)) as source:
            export_int8(source, request, overwrite=overwrite)
    else:
        _export_float(model, output, check, half, licence, overwrite)
    note(f"{output.stat().st_size / 1e6:.1f} MB")
    result(str(output))


def _export_float(
    model: Path, output: Path, check: list[str] | None, half: bool, licence: str | None, overwrite: bool
) -> None:
    import dermask
    from dermask.errors import WeightsError
    from dermask.export.export import export_onnx
    from dermask.export.provenance import describe_run
    from dermask.inference.detector import find_model, read_checkpoint_header
    from dermask.inference.torch_detector import TorchDetector

    checkpoint = find_model(model)
    if checkpoint.suffix.lower() == ".onnx":
        raise WeightsError(str(checkpoint), "is exported already", "give a run's folder or a .safetensors checkpoint")
    photographs = _given(check, output) if check else _drawn()
    header = read_checkpoint_header(checkpoint)
    metadata = {**header, "exported_by": f"dermask {dermask.__version__}"} | ({"licence": licence} if licence else {})
    if run := describe_run(checkpoint):
        metadata["run"] = run
    network = TorchDetector.from_checkpoint(checkpoint).model
    note(f"tracing {checkpoint}: about a minute")
    with counting("compare", "photographs", len(photographs)) as show_progress:
        agreement = export_onnx(
            network,
            output,
            metadata=metadata,
            photographs=photographs,
            half=half,
            overwrite=overwrite,
            on_progress=show_progress,
        )
    note(f"equal to the network on {agreement}")
    if not agreement.lesions:
        note("that compares little, for none of them has a lesion that it finds: name photographs with --check")


def _given(items: list[str], output: Path) -> list[Photograph]:
    from dermask.inference.photographs import collect_photographs

    return [photo.source for photo in collect_photographs(items, output=output.parent / f"{output.stem}_check")]


def _drawn() -> list[Photograph]:
    """Scenes with and without a lesion, and frames on which there is nothing to find."""
    import numpy as np

    from dermask.data.synthetic import draw_scene
    from dermask.records import ImageSize

    scenes: list[Photograph] = [draw_scene(seed, ImageSize(*size)).image for seed, size in enumerate(_SCENE_SIZES * 2)]
    return [*scenes, np.full((200, 300, 3), 200, np.uint8), np.zeros((64, 64, 3), np.uint8)]
