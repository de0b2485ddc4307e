"""`dermask data synthesize`: draw scenes with exact outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dermask.cli.common import counting, result


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
