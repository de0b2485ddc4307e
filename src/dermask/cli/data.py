"""`dermask data`: look at a data set, or draw one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dermask.cli.common import (
    ImagesOption,
    PartOption,
    SkipBadOption,
    UsageMistake,
    counting,
    note,
    open_data,
    plural,
    progress_bar,
    result,
)

app = typer.Typer(help="Look at labelled photographs, or draw some.", no_args_is_help=True)


@app.command()
def show(
    data: Annotated[
        Path, typer.Argument(help="Labels: COCO or VGG JSON, ISIC folder, or folder of images/ and masks/.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.", show_default=False)],
    images: ImagesOption = None,
    part: PartOption = None,
    skip_bad: SkipBadOption = False,
    count: Annotated[int, typer.Option(help="Photographs, evenly spread over the data set.", min=1)] = 24,
    columns: Annotated[int, typer.Option(help="Photographs per row.", min=1)] = 6,
    side: Annotated[int, typer.Option(help="Side of each, pixels.", min=32)] = 256,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the PNG if it is there.")] = False,
) -> None:
    """Put photographs with their outlines on one sheet.

    \b
      dermask data show labels.json --images photos/ -o sheet.png
      dermask data show isic2017 --part Training -o sheet.png

    Research use only.
    """
    from dermask.errors import InputError
    from dermask.images import write_png
    from dermask.inference.contact_sheet import contact_sheet, outlined_tile, spread

    _refuse_existing(output, overwrite)
    if output.suffix.lower() != ".png":
        raise UsageMistake(f"-o {output}: the sheet is a PNG, so its name must end in .png")
    dataset = open_data(data, images=images, part=part, skip_bad=skip_bad)
    if not len(dataset):
        raise InputError(str(data), "has no photographs to show")
    tiles, lesions = [], 0
    with progress_bar("photographs") as bar:
        for index in bar.track(spread(len(dataset), count), description="show"):
            loaded = dataset.load(index)
            tiles.append(outlined_tile(loaded.image, loaded.masks, loaded.image_id, side=side))
            lesions += len(loaded.labels)
    write_png(output, contact_sheet(tiles, columns=columns, side=side))
    note(
        f"{len(tiles)} of {plural(len(dataset), 'photograph')}, {plural(lesions, 'lesion')} on them; "
        f"classes: {', '.join(dataset.class_names)}"
    )
    result(str(output))


@app.command()
def synthesize(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.", show_default=False)],
    count: Annotated[int, typer.Option(help="Photographs.", min=1)] = 100,
    size: Annotated[int, typer.Option(help="Height and width, pixels.", min=32)] = 384,
    seed: Annotated[int, typer.Option(help="Another seed, other scenes.", min=0)] = 0,
) -> None:
    """Draw dermoscopy scenes with exact outlines, as COCO labels and as mask images.

    \b
      dermask data synthesize --count 200 -o scenes
      dermask train --data scenes/labels.json -o runs/scenes

    Research use only.
    """
    from dermask.data.synthetic import write_synthetic
    from dermask.records import ImageSize

    with counting("draw", "scenes", count) as show_progress:
        labels = write_synthetic(output, count, seed, ImageSize(size, size), on_scene=show_progress)
    result(str(labels))


def _refuse_existing(path: Path, overwrite: bool) -> None:
    from dermask.errors import OutputExistsError

    if path.exists() and not overwrite:
        raise OutputExistsError(str(path), "already exists", "choose another -o, or pass --overwrite")
