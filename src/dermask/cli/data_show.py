"""`dermask data show`: photographs with their outlines on one sheet, a picture or a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dermask.cli.common import (
    ImagesOption,
    PartOption,
    SkipBadOption,
    SplitOption,
    UsageMistake,
    note,
    open_data,
    progress_bar,
    refuse_existing,
    result,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.inference.contact_sheet import Tile
    from dermask.records import BoolArray

_PAGES = (".html", ".htm")


class _Chosen(NamedTuple):
    """A photograph of the sheet: its place in the data set, and what an audit found worst about it."""

    place: int
    note: str = ""


def show(
    data: Annotated[Path, typer.Argument(help="Labels in any format that dermask reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .png or .html to write.", show_default=False)],
    images: ImagesOption = None,
    part: PartOption = None,
    split: SplitOption = None,
    skip_bad: SkipBadOption = False,
    count: Annotated[int, typer.Option(help="Photographs, evenly spread over the data set.", min=1)] = 24,
    seed: Annotated[
        int | None, typer.Option(help="Choose them at random, the same for the same number.", min=0, show_default=False)
    ] = None,
    worst: Annotated[
        bool, typer.Option("--worst", help="Show those that dermask data check finds worst, worst first.")
    ] = False,
    columns: Annotated[int, typer.Option(help="Photographs per row.", min=1)] = 6,
    side: Annotated[int, typer.Option(help="Side of each on a PNG, pixels.", min=32)] = 256,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the sheet if it is there.")] = False,
) -> None:
    """Put photographs with their outlines on one sheet.

    \b
      dermask data show labels.json --images photos/ -o sheet.png
      dermask data show isic2017 --part Training -o sheet.html     click to enlarge, outlines on and off
      dermask data show labels.json --worst -o worst.html          what the audit finds worst, worst first

    A photograph that cannot be read becomes a grey tile that says so.

    Research use only.
    """
    from dermask.errors import InputError

    refuse_existing(output, overwrite)
    suffix = output.suffix.lower()
    if suffix not in (".png", *_PAGES):
        raise UsageMistake(f"-o {output}: the sheet is a picture or a page, so its name must end in .png or .html")
    if worst and seed is not None:
        raise UsageMistake("--seed: chooses at random, and --worst by the audit; give one of them")
    dataset = open_data(data, images=images, part=part, skip_bad=skip_bad or worst, split=split)
    if not len(dataset):
        raise InputError(str(data), "has no photographs to show")
    chosen = _find_worst(dataset, count) if worst else _choose(len(dataset), count, seed)
    if not chosen:
        note("the audit found nothing wrong, so there is no sheet to write")
        return
    if suffix in _PAGES:
        lesions = _write_page(output, dataset, chosen, columns=columns)
    else:
        lesions = _write_picture(output, dataset, chosen, columns=columns, side=side)
    note(
        f"{len(chosen)} of {plural(len(dataset), 'photograph')}, {plural(lesions, 'lesion')} on them; "
        f"classes: {', '.join(dataset.class_names)}"
    )
    result(str(output))


def _choose(total: int, count: int, seed: int | None) -> list[_Chosen]:
    """Photographs evenly spread over the data set, or drawn at random, in the data set's order."""
    import numpy as np

    from dermask.inference.contact_sheet import spread

    if seed is None:
        return [_Chosen(index) for index in spread(total, count)]
    drawn = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return [_Chosen(index) for index in sorted(drawn.tolist())]


def _find_worst(dataset: Dataset, count: int) -> list[_Chosen]:
    """Photographs with findings, worst first, each with its worst finding."""
    from dermask.audit.audit import audit
    from dermask.audit.findings import Part

    part = dataset.name or "data"
    with progress_bar("photographs") as bar:
        tasks = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done, total=total)

        report = audit([Part(part, dataset)], on_progress=on_progress)
    worst: dict[str, str] = {}
    for finding in report.findings:  # errors first
        for place in (finding.place, *finding.others):
            if place is not None:
                worst.setdefault(place.image_id, f"{finding.severity}: {finding.kind}: {finding.problem}")
    index_of = {sample.image_id: index for index, sample in enumerate(dataset)}
    ranked = [place.image_id for place in report.worst_photographs() if place.image_id in index_of]
    note(f"{plural(len(report.findings), 'finding')} on {plural(len(ranked), 'photograph')}")
    return [_Chosen(index_of[image_id], worst[image_id]) for image_id in ranked[:count]]


def _write_picture(output: Path, dataset: Dataset, chosen: Sequence[_Chosen], *, columns: int, side: int) -> int:
    from dermask.images import write_png
    from dermask.inference.contact_sheet import contact_sheet

    tiles: list[Tile] = []
    lesions = 0
    with progress_bar("photographs") as bar:
        for one in bar.track(chosen, description="show"):
            tile, number = _tile(dataset, one, side)
            tiles.append(tile)
            lesions += number
    write_png(output, contact_sheet(tiles, columns=columns, side=side))
    return lesions


def _tile(dataset: Dataset, chosen: _Chosen, side: int) -> tuple[Tile, int]:
    """A photograph with its outlines, or a grey tile that says why there is none; and its lesions."""
    from dermask.errors import InputError
    from dermask.inference.contact_sheet import outlined_tile, unreadable_tile

    image_id = dataset[chosen.place].image_id
    try:
        loaded = dataset.load(chosen.place)
    except InputError as error:
        note(f"not shown: {error}")
        return unreadable_tile(f"{image_id}: {error.problem}", side=side), 0
    caption = f"{image_id}: {chosen.note}" if chosen.note else image_id
    return outlined_tile(loaded.image, _with_holes(loaded.masks), caption, side=side), len(loaded.labels)


def _with_holes(lesions: BoolArray) -> BoolArray:
    """(M, H, W) masks, and the holes of each as masks of their own: a tile outlines masks without their holes."""
    import numpy as np

    from dermask import masks
    from dermask.records import ImageSize

    size = ImageSize(*lesions.shape[1:])
    holes = [masks.outline_bitmask(masks.bitmask_to_polygons(one, tolerance=0), size) & ~one for one in lesions]
    return np.stack([*lesions, *(one for one in holes if one.any())]) if len(lesions) else lesions


def _write_page(output: Path, dataset: Dataset, chosen: Sequence[_Chosen], *, columns: int) -> int:
    import shlex
    import sys

    from dermask.report.sheet_page import SheetPhotograph, read_photograph, write_sheet_page

    shown: list[SheetPhotograph] = []
    with progress_bar("photographs") as bar:
        for one in bar.track(chosen, description="show"):
            shown.append(read_photograph(dataset, one.place, num_photographs=len(chosen), note=one.note))
            if problem := shown[-1].photograph.problem:
                note(f"not shown: {shown[-1].photograph.image_id}: {problem}")
    write_sheet_page(
        shown,
        output,
        class_names=dataset.class_names,
        title=dataset.name or "Photographs",
        lead=f"{len(shown)} of {plural(len(dataset), 'photograph')}" + (", worst first" if chosen[0].note else ""),
        columns=columns,
        command=shlex.join(["dermask", *sys.argv[1:]]),
    )
    return sum(bool(outline.path) for one in shown for outline in one.photograph.outlines)
